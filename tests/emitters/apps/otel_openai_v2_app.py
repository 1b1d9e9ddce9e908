"""OpenTelemetry's own instrumentation of openai."""

from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

from tests.emitters.apps.line import call_openai, global_provider

provider = global_provider()
OpenAIInstrumentor().instrument(tracer_provider=provider)
call_openai()
provider.shutdown()

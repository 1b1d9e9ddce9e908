"""OpenTelemetry's own instrumentation of openai."""

from line import call_openai, global_provider
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

provider = global_provider()
OpenAIInstrumentor().instrument(tracer_provider=provider)
call_openai()
provider.shutdown()

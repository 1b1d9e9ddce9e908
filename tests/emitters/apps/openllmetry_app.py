"""openllmetry (Traceloop): its instrumentations of openai and anthropic."""

from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

from tests.emitters.apps.line import call_anthropic, call_openai, global_provider

provider = global_provider()
OpenAIInstrumentor().instrument(tracer_provider=provider)
AnthropicInstrumentor().instrument(tracer_provider=provider)
call_openai()
call_anthropic()
provider.shutdown()

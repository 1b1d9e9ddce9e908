"""OpenTelemetry's own instrumentation of botocore."""

from opentelemetry.instrumentation.botocore import BotocoreInstrumentor

from tests.emitters.apps.line import call_bedrock, global_provider

provider = global_provider()
BotocoreInstrumentor().instrument(tracer_provider=provider)
call_bedrock()
provider.shutdown()

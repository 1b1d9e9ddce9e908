"""OpenTelemetry's own instrumentation of botocore."""

from line import call_bedrock, global_provider
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor

provider = global_provider()
BotocoreInstrumentor().instrument(tracer_provider=provider)
call_bedrock()
provider.shutdown()

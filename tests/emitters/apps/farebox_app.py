"""Our own instrumentation beside the spans that anthropic makes by itself, both sent to one collector."""

from tests.emitters.apps.line import call_anthropic, global_provider

provider = global_provider()
call_anthropic()
provider.shutdown()

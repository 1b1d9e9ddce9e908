"""The spans that anthropic makes by itself where an application has tracing."""

from tests.emitters.apps.line import call_anthropic, global_provider

provider = global_provider()
call_anthropic()
provider.shutdown()

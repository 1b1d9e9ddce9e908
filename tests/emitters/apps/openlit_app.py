"""openlit: one call that instruments what it finds."""

import openlit
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from tests.emitters.apps.line import COLLECTOR, call_anthropic, call_openai

openlit.init(otlp_endpoint=COLLECTOR, disable_metrics=True)
call_openai()
call_anthropic()
provider = trace.get_tracer_provider()
assert isinstance(provider, TracerProvider)
provider.shutdown()

"""openlit: one call that instruments what it finds."""

import openlit
from line import COLLECTOR, call_anthropic, call_openai
from opentelemetry import trace

openlit.init(otlp_endpoint=COLLECTOR, disable_metrics=True)
call_openai()
call_anthropic()
trace.get_tracer_provider().shutdown()

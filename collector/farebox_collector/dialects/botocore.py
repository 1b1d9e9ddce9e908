"""OpenTelemetry's botocore instrumentation for Bedrock: the conventions, except that cached input stands outside.

Bedrock's own `inputTokens` excludes cache reads and writes, and this emitter passes it on as
`gen_ai.usage.input_tokens` (opentelemetry-instrumentation-botocore 0.66b2, extensions/bedrock.py).
"""

from __future__ import annotations

from typing import Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading
from farebox_collector.dialects.counting import Reading, include_cache
from farebox_collector.dialects.dialect import Dialect
from farebox_collector.spans import Span
from farebox_ledger.usage import UsageEvent


def _read(span: Span) -> UsageEvent | None:
    reading = Reading(*semconv.read_usage(span.attributes))
    fields = semconv.names_of(span.attributes)
    model = fields["response_model"] or fields["request_model"]
    kind = semconv.kind_of(span, reading.usage, fields["operation"], model)
    if kind is None:
        return None
    if include_cache(reading.usage):
        reading.changed_by("input_excludes_cache", span.attributes, semconv.USAGE_KEYS)
    return assembled_reading(span, dialect="botocore", kind=kind, reading=reading, fields=fields)


BOTOCORE: Final = Dialect(
    scopes=("opentelemetry.instrumentation.botocore",),
    marks=(b"gen_ai.",),
    keys=semconv.KEYS,
    recognizes=lambda _: False,
    read=_read,
)

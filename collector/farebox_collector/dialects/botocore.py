"""OpenTelemetry's botocore instrumentation for Bedrock: the conventions, except that cached input stands outside.

Bedrock's own `inputTokens` excludes cache reads and writes, and this emitter passes it on as
`gen_ai.usage.input_tokens` (opentelemetry-instrumentation-botocore 0.66b2, extensions/bedrock.py).
"""

from __future__ import annotations

from typing import Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled
from farebox_collector.dialects.dialect import Dialect
from farebox_collector.spans import Span
from farebox_ledger.usage import Usage, UsageEvent


def _read(span: Span) -> UsageEvent | None:
    usage, is_clamped = semconv.read_usage(span.attributes)
    fields = semconv.names_of(span.attributes)
    kind = semconv.kind_of(span, usage, fields["operation"], fields["response_model"] or fields["request_model"])
    if kind is None:
        return None
    _include_cache(usage)
    return assembled(span, dialect="botocore", kind=kind, usage=usage, is_clamped=is_clamped, fields=fields)


def _include_cache(usage: Usage) -> None:
    if usage.input_tokens is not None:
        usage.input_tokens += (usage.cache_read_input_tokens or 0) + (usage.cache_write_total or 0)


BOTOCORE: Final = Dialect(
    scopes=("opentelemetry.instrumentation.botocore",),
    marks=(b"gen_ai.",),
    keys=semconv.KEYS,
    recognizes=lambda _: False,
    read=_read,
)

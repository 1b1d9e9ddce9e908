"""The spans that the anthropic SDK itself emits since version 2, whenever the application has a tracer provider.

The conventions with `cache_write`, and beside them the split by time to live, the tier that served, and the tokens of
compaction, which stand outside of the totals and are billed (instrumentation.md §2b and §3a-bis).
"""

from __future__ import annotations

from typing import Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading, text_of
from farebox_collector.dialects.counting import Reading, number_of
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.spans import Span
from farebox_ledger.usage import CacheTtl, UsageEvent, clamped_count

_TIER: Final = "anthropic.response.service_tier"
_COMPACTION: Final = {
    "anthropic.usage.compaction.input_tokens": "input_tokens",
    "anthropic.usage.compaction.output_tokens": "output_tokens",
}
_WRITE_TOTALS: Final = ("gen_ai.usage.cache_write.input_tokens",)
_WRITE_SPLIT: Final[dict[str, CacheTtl]] = {
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": "5m",
    "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": "1h",
}


def _read(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    reading = Reading(*semconv.read_usage(attributes))
    usage = reading.usage
    usage.cache_write_input_tokens, is_unusable = semconv.read_cache_writes(attributes, _WRITE_TOTALS, _WRITE_SPLIT)
    reading.is_clamped |= is_unusable
    fields = semconv.names_of(attributes)
    fields["service_tier"] = text_of(attributes.get(_TIER))
    kind = semconv.kind_of(span, usage, fields["operation"], fields["response_model"] or fields["request_model"])
    if kind is None:
        return None
    _add_compaction(attributes, reading)
    return assembled_reading(span, dialect="anthropic_native", kind=kind, reading=reading, fields=fields)


def _add_compaction(attributes: Attributes, reading: Reading) -> None:
    for key, name in _COMPACTION.items():
        extra, is_unusable = clamped_count(number_of(attributes.get(key)))
        reading.is_clamped |= is_unusable
        if extra:
            setattr(reading.usage, name, (getattr(reading.usage, name) or 0) + extra)
            reading.changed_by("compaction_added", attributes, (*semconv.USAGE_KEYS, *_COMPACTION, *_WRITE_SPLIT))


ANTHROPIC_NATIVE: Final = Dialect(
    scopes=("com.anthropic.sdk",),
    marks=(b"gen_ai.",),
    keys=semconv.KEYS.union((_TIER, *_COMPACTION, *_WRITE_SPLIT)),
    recognizes=lambda _: False,
    read=_read,
)

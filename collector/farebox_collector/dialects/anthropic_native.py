"""The spans that the anthropic SDK itself emits since version 2, whenever the application has a tracer provider.

The conventions with `cache_write`, and beside them the split by time to live, the tier that served, and the tokens of
compaction, which stand outside of the totals and are billed (instrumentation.md §2b and §3a-bis).
"""

from __future__ import annotations

from typing import Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled, text_of
from farebox_collector.dialects.dialect import Dialect
from farebox_collector.spans import Span
from farebox_ledger.usage import CacheTtl, Usage, UsageEvent, clamped_count

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
    usage, is_clamped = semconv.read_usage(attributes)
    usage.cache_write_input_tokens, is_unusable = semconv.read_cache_writes(attributes, _WRITE_TOTALS, _WRITE_SPLIT)
    fields = semconv.names_of(attributes)
    fields["service_tier"] = text_of(attributes.get(_TIER))
    kind = semconv.kind_of(span, usage, fields["operation"], fields["response_model"] or fields["request_model"])
    if kind is None:
        return None
    is_clamped |= _add_compaction(span, usage) | is_unusable
    return assembled(span, dialect="anthropic_native", kind=kind, usage=usage, is_clamped=is_clamped, fields=fields)


def _add_compaction(span: Span, usage: Usage) -> bool:
    is_clamped = False
    for key, name in _COMPACTION.items():
        extra, is_unusable = clamped_count(span.attributes.get(key))
        is_clamped |= is_unusable
        if extra:
            setattr(usage, name, (getattr(usage, name) or 0) + extra)
    return is_clamped


ANTHROPIC_NATIVE: Final = Dialect(
    scopes=("com.anthropic.sdk.",),
    marks=(b"gen_ai.", b"anthropic."),
    keys=semconv.KEYS.union((_TIER, *_COMPACTION, *_WRITE_SPLIT)),
    recognizes=lambda _: False,
    read=_read,
)

"""Strands Agents: a span for the agent, one for each cycle of its loop, and one for each call of a model.

Agent and cycle repeat the sums of their calls and are containers. The emitter names itself where the provider belongs,
so the provider is told by the shape of the model's id, or found by the price book. Newer versions fold cached tokens
into the input; in older ones the stated total tells whether they are outside (strands-agents 1.62.0,
telemetry/tracer.py and metrics.py; harness-sdk issue 1267).
"""

from __future__ import annotations

from typing import Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading
from farebox_collector.dialects.counting import Reading, counted, include_cache, number_of
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.dialects.providers import provider_of_model_id
from farebox_collector.spans import Span
from farebox_ledger.usage import UsageEvent, clamped_count

_ITSELF: Final = ("strands-agents", "strands_agents")
_TOTAL: Final = "gen_ai.usage.total_tokens"
_OLD_WRITES: Final = "gen_ai.usage.cache_write_input_tokens"


def _read(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    fields = semconv.names_of(attributes)
    if fields["provider"] in _ITSELF:
        fields["provider"] = provider_of_model_id(fields["request_model"])
    is_call = fields["operation"] == "chat"
    if not is_call and fields["operation"] is None:
        return None
    return assembled_reading(
        span,
        dialect="strands",
        kind="call" if is_call else "container",
        reading=_usage(attributes),
        fields=fields,
    )


def _usage(attributes: Attributes) -> Reading:
    reading = Reading(*semconv.read_usage(attributes))
    if reading.usage.cache_write_input_tokens is None:
        writes, is_unusable = counted(attributes, {_OLD_WRITES: "writes"})
        reading.is_clamped |= is_unusable
        if writes:
            reading.usage.cache_write_input_tokens = {"unsplit": writes["writes"]}
    if _excludes_cache(attributes, reading) and include_cache(reading.usage):
        reading.changed_by("input_excludes_cache", attributes, (*semconv.USAGE_KEYS, _TOTAL, _OLD_WRITES))
    return reading


def _excludes_cache(attributes: Attributes, reading: Reading) -> bool:
    """Say whether the stated total counts cached tokens beside the input, or there are more of them than of it."""
    usage = reading.usage
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_write_total or 0)
    total, _ = clamped_count(number_of(attributes.get(_TOTAL)))
    if total is not None and total == (usage.total_tokens or 0) + cached:
        return True
    return cached > (usage.input_tokens or 0)


STRANDS: Final = Dialect(
    scopes=("strands",),
    marks=(b"gen_ai.",),
    keys=semconv.KEYS.union((_TOTAL, _OLD_WRITES)),
    recognizes=lambda attributes: (
        attributes.get("gen_ai.system") in _ITSELF or attributes.get("gen_ai.provider.name") in _ITSELF
    ),
    read=_read,
)

"""Pydantic AI and Logfire: the conventions, with more parts under `gen_ai.usage.details` and an estimated cost.

The sums of an agent's run stand under `gen_ai.aggregated_usage` on purpose: the span that carries them is a container,
and they are its control total. What Logfire has seen of a stream so far stands under `gen_ai.usage.partial` and is no
usage (pydantic-ai-slim 2.68.0, capabilities/instrumentation.py; usage.py).
"""

from __future__ import annotations

from typing import Any, Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading, stated_cost
from farebox_collector.dialects.counting import Reading, counted
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.spans import Span
from farebox_ledger.usage import EventKind, UsageEvent

_DETAILS: Final = {
    "gen_ai.usage.details.cache_read_tokens": "cache_read_input_tokens",
    "gen_ai.usage.details.cached_tokens": "cache_read_input_tokens",
    "gen_ai.usage.details.cache_write_tokens": "cache_write_input_tokens",
    "gen_ai.usage.details.input_audio_tokens": "audio_input_tokens",
    "gen_ai.usage.details.output_audio_tokens": "audio_output_tokens",
    "gen_ai.usage.details.reasoning_tokens": "reasoning_output_tokens",
}
_COST: Final = "operation.cost"
_AGENT: Final = ("agent_name", "gen_ai.agent.name")


def _read(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    fields = semconv.names_of(attributes)
    fields["stated_cost"] = stated_cost(attributes.get(_COST))
    reading = _usage(attributes)
    kind = _kind(span, reading, fields)
    if kind is None:
        return None
    return assembled_reading(span, dialect="pydantic_ai", kind=kind, reading=reading, fields=fields)


def _kind(span: Span, reading: Reading, fields: dict[str, Any]) -> EventKind | None:
    """Agents of versions that name no operation are told by what they lack: the requested model."""
    model = fields["response_model"] or fields["request_model"]
    kind = semconv.kind_of(span, reading.usage, fields["operation"], model)
    if kind is None and any(key in span.attributes for key in _AGENT):
        return "container"
    return kind


def _usage(attributes: Attributes) -> Reading:
    reading = Reading(*semconv.read_usage(attributes))
    details, is_unusable = counted(attributes, _DETAILS)
    reading.is_clamped |= is_unusable
    for name, value in details.items():
        if getattr(reading.usage, name) is None:
            setattr(reading.usage, name, {"unsplit": value} if name == "cache_write_input_tokens" else value)
    return reading


PYDANTIC_AI: Final = Dialect(
    scopes=("pydantic-ai", "pydantic_ai", "logfire"),
    marks=(b"gen_ai.",),
    keys=semconv.KEYS.union((_COST,), _DETAILS, _AGENT),
    recognizes=lambda attributes: _COST in attributes,
    read=_read,
)

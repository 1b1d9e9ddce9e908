"""What is read alike from every emitter's span: identity, times, outcome, and who the call is for.

A dialect reads the models and the quantities and passes them to `assembled`, which lays the rest beside them.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

import msgspec

from farebox_collector.dialects.counting import Reading
from farebox_collector.dialects.dialect import Attributes
from farebox_collector.spans import KIND_CLIENT, AttributeValue, Span
from farebox_ledger.usage import MAX_COUNT, CallStatus, EventKind, Usage, UsageEvent, clamped_count

MAX_TEXT: Final = 256
MAX_REFERENCE: Final = 1024
MAX_TAGS: Final = 32
MAX_TAG: Final = 128
MAX_METADATA: Final = 4096
MAX_STATED_COST: Final = Decimal(1_000_000)

_TEXTS: Final = {
    "error.type": "error_code",
    "farebox.project": "project",
    "farebox.service": "service",
    "farebox.action": "action",
    "farebox.category": "category",
    "farebox.task_type": "task_type",
    "farebox.task_id": "task_id",
    "farebox.content_type": "content_type",
    "farebox.model_config": "model_config",
    "farebox.upstream": "upstream",
    "farebox.region": "region",
    "farebox.service_tier": "service_tier",
    "user.id": "user",
    "user.email": "user_email",
    "session.id": "session",
}
_FALLBACKS: Final = {
    "service.name": "service",
    "enduser.id": "user",
    "gen_ai.conversation.id": "session",
    "openai.response.service_tier": "service_tier",
    "gen_ai.openai.response.service_tier": "service_tier",
}
_OTHERS: Final = (
    "farebox.tags",
    "farebox.metadata",
    "farebox.content_ref",
    "farebox.outcome",
    "farebox.batch",
    "farebox.stated_cost",
    "farebox.estimated_input_tokens",
    "farebox.estimated_output_tokens",
    "gen_ai.request.stream",
    "gen_ai.is_streaming",
    "gen_ai.response.time_to_first_chunk",
)
_OTHER_KEYS: Final = frozenset(_OTHERS)
KEYS: Final = frozenset((*_TEXTS, *_FALLBACKS, *_OTHERS))

_ABORTED: Final = ("closed_early", "dropped", "cancelled")
_metadata_decoder: Final = msgspec.json.Decoder(dict[str, object])


class _Shape(msgspec.Struct, frozen=True):
    """Which of the names that all emitters share a span has, as (attribute, field) or as a group."""

    texts: tuple[tuple[str, str], ...]
    fallbacks: tuple[tuple[str, str], ...]
    has_others: bool


@lru_cache(maxsize=1024)
def _shape(keys: tuple[str, ...]) -> _Shape:
    """Look through a span's keys; an emitter's spans have few different sets of them."""
    return _Shape(
        texts=tuple((key, _TEXTS[key]) for key in keys if key in _TEXTS),
        fallbacks=tuple((key, name) for key, name in _FALLBACKS.items() if key in keys),
        has_others=not _OTHER_KEYS.isdisjoint(keys),
    )


def assembled(
    span: Span,
    *,
    dialect: str,
    kind: EventKind,
    usage: Usage,
    is_clamped: bool,
    fields: dict[str, Any],
) -> UsageEvent:
    """Make the event of a span; `fields` are what the dialect read beside the usage (provider, models, operation).

    What a span says of itself in the names that all emitters share outweighs what the dialect read elsewhere.
    """
    attributes = span.attributes
    shape = _shape(tuple(attributes))
    for key, name in shape.texts:
        if (text := text_of(attributes[key])) is not None:
            fields[name] = text
    for key, name in shape.fallbacks:
        if fields.get(name) is None:
            fields[name] = _meaningful(text_of(attributes[key]))
    if shape.has_others:
        _read_others(attributes, fields)
    event = UsageEvent(
        org_id=0,
        received_at_us=0,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        occurred_at_us=span.end_us,
        started_at_us=span.start_us,
        scope=span.scope,
        is_client=span.kind == KIND_CLIENT,
        kind=kind,
        dialect=dialect,
        usage=usage,
        tokens_source="clamped" if is_clamped else "reported",
        status=_status(span),
        error_message=span.status_message,
    )
    for name, value in fields.items():  # as more arguments they would take longer: each is looked for among all names
        setattr(event, name, value)
    return event


def assembled_reading(
    span: Span, *, dialect: str, kind: EventKind, reading: Reading, fields: dict[str, Any]
) -> UsageEvent:
    """Make the event of a span whose counts were read by a rule."""
    fields["usage_rule"], fields["raw_usage"] = reading.rule, reading.raw
    return assembled(
        span, dialect=dialect, kind=kind, usage=reading.usage, is_clamped=reading.is_clamped, fields=fields
    )


def _status(span: Span) -> CallStatus:
    """A call that failed is an error whatever its outcome says; an aborted one is cancelled."""
    outcome = span.attributes.get("farebox.outcome")
    if outcome is not None and outcome in _ABORTED:
        return "cancelled"
    return "error" if span.is_error or outcome == "error" else "ok"


def _read_others(attributes: Attributes, fields: dict[str, Any]) -> None:
    get = attributes.get
    if get("gen_ai.request.stream") is True or get("gen_ai.is_streaming") is True:
        fields["stream"] = True
    if get("farebox.batch") is True:
        fields["batch"] = True
    if (first_chunk := get("gen_ai.response.time_to_first_chunk")) is not None:
        fields["time_to_first_chunk_ms"] = _milliseconds(first_chunk)
    if (reference := get("farebox.content_ref")) is not None:
        fields["content_ref"] = text_of(reference, MAX_REFERENCE)
    if (tags := get("farebox.tags")) is not None:
        fields["tags"] = tags_of(tags)
    if (metadata := get("farebox.metadata")) is not None:
        fields["metadata"] = metadata_of(metadata)
    if (cost := get("farebox.stated_cost")) is not None:
        fields["stated_cost"] = stated_cost(cost)
    for name in ("estimated_input_tokens", "estimated_output_tokens"):
        if (estimate := get(f"farebox.{name}")) is not None:
            count, is_unusable = clamped_count(estimate)
            fields[name] = None if is_unusable else count


def text_of(value: AttributeValue | None, max_characters: int = MAX_TEXT) -> str | None:
    """Read a name or an id; numbers are written out, empty and whatever is no text is None."""
    if value is None:
        return None
    if isinstance(value, str):
        return (value if len(value) <= max_characters else value[:max_characters]).strip() or None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return str(value)


def first_text(attributes: Attributes, keys: tuple[str, ...]) -> str | None:
    """Read the first of several keys that holds a text."""
    return next((text for key in keys if (text := text_of(attributes.get(key))) is not None), None)


def amount_of(value: AttributeValue) -> tuple[Decimal, bool]:
    """Read a quantity that need not be whole, such as seconds: (amount, was it unusable)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        amount = Decimal(repr(value))
        if amount.is_finite() and 0 <= amount <= MAX_COUNT:
            return amount, False
    return Decimal(0), True


def _meaningful(service: str | None) -> str | None:
    """An SDK that was told no service name writes `unknown_service`, which names nothing."""
    return None if service is not None and service.startswith("unknown_service") else service


def _milliseconds(seconds: AttributeValue) -> int | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e6:
        return None
    return round(seconds * 1000)


def tags_of(value: AttributeValue) -> list[str] | None:
    """Read a list of tags, or one tag."""
    items = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    return [tag[:MAX_TAG] for tag in items[:MAX_TAGS] if tag] or None


def metadata_of(value: AttributeValue) -> dict[str, object] | None:
    """Read a JSON object; what is none, or too long, is left out rather than cut."""
    if not isinstance(value, str) or len(value) >= MAX_METADATA:
        return None
    try:
        # An escaped NUL is valid JSON that PostgreSQL refuses.
        return _metadata_decoder.decode(value.replace("\\u0000", "")) or None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def stated_cost(value: AttributeValue | None) -> Decimal | None:
    """Read what the emitter says a call cost, in USD; None when that is no amount."""
    if value is None or isinstance(value, list | bool):
        return None
    try:
        cost = Decimal(value if isinstance(value, str) else repr(value))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and 0 <= cost <= MAX_STATED_COST else None

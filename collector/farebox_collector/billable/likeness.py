"""How two spans compare: their intervals, models, kinds and counts. Nothing is decided here."""

from __future__ import annotations

import re
from typing import Final

from farebox_ledger.usage import QUANTITIES, UsageEvent

SLACK_US: Final = 1_000_000
"""How far a child may reach out of its parent's interval: clocks and buffers of two libraries differ."""
MIN_RESPONSE_ID: Final = 8
"""Shorter response ids ("0", "chat") are no identities."""
OWN_SCOPE: Final = "farebox."
"""Our instrumentation makes one span for each physical call and none around another, so nested spans of one of its
scopes are two calls: an advisor model inside a reply, say, which has no response id of its own."""
_MODEL_SUFFIX: Final = re.compile(r"(?:[-@](?:20\d\d-\d\d-\d\d|20\d{6}|latest|default))+$")
_TEXT_OPERATIONS: Final = frozenset((None, "chat", "text_completion", "generate_content"))


def have_different_responses(one: UsageEvent, other: UsageEvent) -> bool:
    """Say whether both name their response, and not the same."""
    return one.response_id is not None and other.response_id is not None and one.response_id != other.response_id


def lies_inside(inner: UsageEvent, outer: UsageEvent, slack_us: int = SLACK_US) -> bool:
    """Compare intervals; a start that nobody knows excludes nothing."""
    if inner.occurred_at_us > outer.occurred_at_us + slack_us:
        return False
    if outer.started_at_us is None:
        return True
    start_us = inner.occurred_at_us if inner.started_at_us is None else inner.started_at_us
    return start_us >= outer.started_at_us - slack_us


def distance(one: UsageEvent, other: UsageEvent) -> tuple[int, bytes]:
    """Sum the microseconds between two starts and two ends; the span id breaks ties."""
    ends = abs(one.occurred_at_us - other.occurred_at_us)
    return ends + abs((one.started_at_us or 0) - (other.started_at_us or 0)), other.span_id


def totals(*events: UsageEvent) -> tuple[int, int]:
    """Sum the input and the output of some spans; who says nothing adds nothing."""
    return (
        sum(event.usage.input_tokens or 0 for event in events),
        sum(event.usage.output_tokens or 0 for event in events),
    )


def excess_of(outer: UsageEvent, input_tokens: int, output_tokens: int) -> str | None:
    """Say by how many tokens an outer span exceeds what is told in it; None when it does not."""
    given, written = totals(outer)
    excess = max(0, given - input_tokens), max(0, written - output_tokens)
    return f"{excess[0]} input and {excess[1]} output tokens" if any(excess) else None


def is_own(call: UsageEvent) -> bool:
    """Say whether our own instrumentation made a span."""
    return call.scope.startswith(OWN_SCOPE)


def place(event: UsageEvent) -> tuple[object, ...]:
    """Say where in its trace a span stands: below whom, from when, until when."""
    return event.parent_span_id, event.started_at_us, event.occurred_at_us


def _plain_model(name: str) -> str:
    return _MODEL_SUFFIX.sub("", name.lower().rpartition("/")[2])


def model_of(call: UsageEvent) -> str | None:
    """Name the model that answered, else the one asked for, without dates and prefixes; None without either."""
    name = call.response_model or call.request_model
    return None if name is None else _plain_model(name)


def may_be_same_model(one: UsageEvent, other: UsageEvent) -> bool:
    """Compare what both say of their model, without dates and prefixes; who says nothing contradicts nobody."""
    mine, theirs = _models(one), _models(other)
    return not mine or not theirs or not mine.isdisjoint(theirs)


def _models(call: UsageEvent) -> set[str]:
    return {_plain_model(name) for name in (call.request_model, call.response_model) if name is not None}


def modality(call: UsageEvent) -> str:
    """Name what kind of call it is; all that write text are one kind."""
    return "text" if call.operation in _TEXT_OPERATIONS else str(call.operation)


def detail(event: UsageEvent) -> int:
    """Count what a span says of its usage: cache and reasoning parts, times to live."""
    said = sum(getattr(event.usage, name) is not None for name in QUANTITIES)
    return said + len((event.usage.cache_write_input_tokens or {}).keys() - {"unsplit"})


def span_id_of(event: UsageEvent) -> bytes:
    """Answer the span id, to sort by."""
    return event.span_id

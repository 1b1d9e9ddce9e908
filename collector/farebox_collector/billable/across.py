"""One call that two libraries tell in a trace each: known by its response, and billed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from farebox_collector.billable.likeness import (
    MIN_RESPONSE_ID,
    detail,
    distance,
    lies_inside,
    may_be_same_model,
    modality,
)
from farebox_collector.billable.verdicts import Verdict
from farebox_ledger.store.responses import TOLD_WITHIN_US
from farebox_ledger.usage import UsageEvent

SpanKey: TypeAlias = tuple[bytes, bytes]
"""Trace id and span id."""


def response_of(event: UsageEvent) -> str | None:
    """Name the response by which a call may be known in another trace; None where it cannot be.

    Two libraries that see one call of an application without a span around it begin a trace each, so such calls are
    the first of their traces.
    """
    if event.kind != "call" or event.parent_span_id is not None:
        return None
    return event.response_id if event.response_id is not None and len(event.response_id) >= MIN_RESPONSE_ID else None


def judge_across(calls: Sequence[UsageEvent]) -> dict[SpanKey, Verdict]:
    """Answer who loses among calls of one organization and one response id that are billed by their own traces.

    One call is told at most once by each library, so that a server which gives all its responses one id loses nothing:
    each billed call absorbs at most one call of each other library, the closest in time, which has to lie within its
    interval or around it, and to agree in model and input.
    """
    verdicts: dict[SpanKey, Verdict] = {}
    if len({call.scope for call in calls}) < 2:
        return verdicts
    ranked = sorted(calls, key=_rank_across)
    for position, kept in enumerate(ranked):
        if span_key(kept) in verdicts:
            continue
        closest: dict[str, UsageEvent] = {}
        for other in ranked[position + 1 :]:
            if span_key(other) in verdicts or not _is_same_call_in_other_trace(kept, other):
                continue
            best = closest.get(other.scope)
            if best is None or _distance_across(kept, other) < _distance_across(kept, best):
                closest[other.scope] = other
        for other in closest.values():
            verdicts[span_key(other)] = Verdict(
                "suppressed", "duplicate_response", kept.span_id, covering_trace=kept.trace_id
            )
    return verdicts


def span_key(event: UsageEvent) -> SpanKey:
    """Name a span among those of one organization."""
    return event.trace_id, event.span_id


def _is_same_call_in_other_trace(kept: UsageEvent, other: UsageEvent) -> bool:
    inputs = {usage.input_tokens for usage in (kept.usage, other.usage) if not usage.is_empty()}
    return (
        kept.scope != other.scope
        and kept.trace_id != other.trace_id
        and len(inputs) <= 1
        and abs(kept.occurred_at_us - other.occurred_at_us) <= TOLD_WITHIN_US
        and modality(kept) == modality(other)
        and may_be_same_model(kept, other)
        and (lies_inside(kept, other) or lies_inside(other, kept))
    )


def _rank_across(event: UsageEvent) -> tuple[bool, int, bool, bytes, bytes]:
    """Rank the spans of one physical call in several traces, the smallest first, as `Tree.rank` within one."""
    return event.usage.is_empty(), -detail(event), not event.is_client, event.trace_id, event.span_id


def _distance_across(one: UsageEvent, other: UsageEvent) -> tuple[int, bytes, bytes]:
    apart_us, span_id = distance(one, other)
    return apart_us, other.trace_id, span_id

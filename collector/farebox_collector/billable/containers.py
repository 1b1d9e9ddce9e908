"""The rules for what wraps calls: agents, chains, workflows. They are control totals of the calls below them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from farebox_collector.billable.likeness import SLACK_US, excess_of, may_be_same_model, place, totals
from farebox_collector.billable.tree import Tree
from farebox_collector.billable.verdicts import MISSING_CHILDREN, Verdict, Verdicts, billing_span
from farebox_ledger.usage import UsageEvent


class _Stand(msgspec.Struct, frozen=True):
    """What containers without calls tell in the place of those around them, and the first of them."""

    first: UsageEvent
    input_tokens: int
    output_tokens: int


def judge_containers(tree: Tree, verdicts: Verdicts) -> None:
    """Rule 3 and S3: what wraps calls is never billed.

    Its usage is a control total: where it exceeds the calls below, some of them are missing. With a usage and without
    calls it shows that all of them are; of several around each other the innermost one stands for them.
    """
    containers = [event for event in tree.events if event.kind == "container"]
    calling: set[bytes] = set()
    stands: dict[bytes, _Stand] = {}
    alone: list[UsageEvent] = []
    for event in sorted(containers, key=tree.depth, reverse=True):
        children = tree.children.get(event.span_id, ())
        inside = [stands[child.span_id] for child in children if child.span_id in stands]
        if any(child.kind == "call" or child.span_id in calling for child in children):
            calling.add(event.span_id)
            verdicts[event.span_id] = _covered_by_calls(tree, event, verdicts)
        elif inside:
            stands[event.span_id] = stand = _together(tree, inside)
            missing = _missing(event, stand.input_tokens, stand.output_tokens)
            verdicts[event.span_id] = Verdict("suppressed", "covered_by_child", stand.first.span_id, missing)
        elif event.usage.is_empty():
            verdicts[event.span_id] = Verdict("suppressed", "aggregate_only")
        else:
            stands[event.span_id] = _Stand(event, *totals(event))
            alone.append(event)
    if alone:
        _judge_alone(tree, alone, verdicts)


def _covered_by_calls(tree: Tree, container: UsageEvent, verdicts: Verdicts) -> Verdict:
    """Compare a container with the calls below it, each physical call counted once."""
    first = min(tree.nearest_calls(container), key=tree.rank)
    if container.usage.is_empty():
        return Verdict("suppressed", "covered_by_child", first.span_id)
    billing = {billing_span(call.span_id, verdicts) for call in tree.calls_below(container)}
    missing = _missing(container, *totals(*(tree.by_id[span_id] for span_id in billing)))
    return Verdict("suppressed", "covered_by_child", first.span_id, missing)


def _together(tree: Tree, stands: Sequence[_Stand]) -> _Stand:
    return _Stand(
        min((stand.first for stand in stands), key=tree.rank),
        sum(stand.input_tokens for stand in stands),
        sum(stand.output_tokens for stand in stands),
    )


def _missing(container: UsageEvent, input_tokens: int, output_tokens: int) -> str | None:
    excess = excess_of(container, input_tokens, output_tokens)
    return None if excess is None else f"{MISSING_CHILDREN}: {excess}"


class _Telling(msgspec.Struct, frozen=True):
    """A span with a usage, and what decides whether that may be a part of another's."""

    event: UsageEvent
    started_at_us: int
    ended_at_us: int
    input_tokens: int
    output_tokens: int
    above: bytes | None  # the parent of the span at the upper end of its links, which is not known

    @property
    def size(self) -> tuple[int, int, bytes]:
        """Order containers so that what may be a part of another comes before it."""
        return self.input_tokens + self.output_tokens, self.ended_at_us - self.started_at_us, self.event.span_id


def _judge_alone(tree: Tree, alone: Sequence[UsageEvent], verdicts: Verdicts) -> None:
    """S3: usage that no call below tells. The organization may let it bill, unless another span may tell the same."""
    containers = [_telling(tree, event) for event in alone]
    telling = containers + [_telling(tree, call) for call in tree.calls if not call.usage.is_empty()]
    telling.sort(key=lambda one: (one.ended_at_us, one.event.span_id))
    ends = [one.ended_at_us for one in telling]
    for container in containers:
        first = bisect_left(ends, container.started_at_us)
        last = bisect_right(ends, container.ended_at_us + SLACK_US)
        inside = (other.event for other in telling[first:last] if _may_be_told_inside(container, other))
        other = next(inside, None) or next(_calls_that_tell_it_around(tree, container.event), None)
        verdicts[container.event.span_id] = (
            Verdict("unpriced", "aggregate_only")
            if other is None
            else Verdict("unpriced", "aggregate_only", other.span_id, "another span may tell the same usage")
        )


def _telling(tree: Tree, event: UsageEvent) -> _Telling:
    started_at_us = event.occurred_at_us if event.started_at_us is None else event.started_at_us
    return _Telling(event, started_at_us, event.occurred_at_us, *totals(event), tree.top(event).parent_span_id)


def _may_be_told_inside(container: _Telling, other: _Telling) -> bool:
    """Say whether a span that ends within a container's time may tell a part of its usage without hanging below it.

    Its way up may lead through spans that are not kept, or the whole was told once more beside the container.
    """
    if other.input_tokens > container.input_tokens or other.output_tokens > container.output_tokens:
        return False
    if other.started_at_us < container.started_at_us - SLACK_US or not _overlap(container, other):
        return False
    if other.event.kind == "container" and other.size >= container.size:
        return False
    return _may_hang_below(container, other) or _is_told_again(container, other)


def _may_hang_below(container: _Telling, other: _Telling) -> bool:
    """Say whether nobody knows what is between two spans: the upper end of the one's links is open, and not shared."""
    return other.above is not None and other.above != container.above


def _is_told_again(container: _Telling, other: _Telling) -> bool:
    one, two = container.event, other.event
    return (
        totals(one) == totals(two)
        and (one.scope != two.scope or place(one) == place(two))
        and may_be_same_model(one, two)
    )


def _overlap(one: _Telling, other: _Telling) -> bool:
    """Say whether two spans ran at the same time; what starts when the other ends comes after it."""
    started_at_us = max(one.started_at_us, other.started_at_us)
    return started_at_us < min(one.ended_at_us, other.ended_at_us) or one.started_at_us == other.started_at_us


def _calls_that_tell_it_around(tree: Tree, container: UsageEvent) -> Iterator[UsageEvent]:
    for event in tree.above(container):
        is_as_large = event.kind == "call" and excess_of(container, *totals(event)) is None
        if is_as_large and may_be_same_model(event, container):
            yield event

"""Which spans of a trace are billed: a pure function of the set of its generative-AI spans.

All events of one trace come in, new ones and those in the books, in any order; one verdict each goes out. Nothing
else decides: no clock, no arrival, no price. So any order and any batching of the same spans ends in the same bill.

Links run through generative-AI spans only, since no other span is kept. One call that two libraries tell in a trace
each is judged apart, by its response id (`judge_across`): a pure function of what the traces' verdicts leave.

There is no settle window either: a container whose calls have not come yet says `aggregate_only` at once, and its row
is changed when they come. A window would need a clock, and then the bill would depend on when somebody looked.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from farebox_ledger.store.responses import TOLD_WITHIN_US
from farebox_ledger.usage import QUANTITIES, BillingStatus, Reason, UsageEvent

SLACK_US: Final = 1_000_000
"""How far a child may reach out of its parent's interval: clocks and buffers of two libraries differ."""
MIN_RESPONSE_ID: Final = 8
"""Shorter response ids ("0", "chat") are no identities."""
OWN_SCOPE: Final = "farebox."
"""Our instrumentation makes one span for each physical call and none around another, so nested spans of one of its
scopes are two calls: an advisor model inside a reply, say, which has no response id of its own."""


MISSING_CHILDREN: Final = "missing_children"
"""How the detail of a container begins whose usage exceeds that of the calls below it."""


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of an event. Without a reason it is billed by its own usage.

    `covered_by` is the span of this trace that stands for it and is billed, unless a span of another trace stands for
    that one in turn; with `covering_trace` it is a span of that trace. `detail` says by how much an outer span exceeds
    what is billed below it.
    """

    status: BillingStatus | None = None
    reason: Reason | None = None
    covered_by: bytes | None = None
    detail: str | None = None
    covering_trace: bytes | None = None

    @property
    def is_billed(self) -> bool:
        return self.reason is None

    @property
    def is_left_to_policy(self) -> bool:
        """Say whether the organization decides if this bills: usage of a container that no other span may tell."""
        return self.reason == "aggregate_only" and self.status == "unpriced" and self.covered_by is None


BILLED: Final = Verdict()

Verdicts: TypeAlias = dict[bytes, Verdict]
SpanKey: TypeAlias = tuple[bytes, bytes]
"""Trace id and span id."""

_Rank: TypeAlias = tuple[bool, int, int, bool, bytes]


def winner(events: Sequence[UsageEvent]) -> UsageEvent:
    """Choose among versions of one span, re-sent with different contents: the order of arrival has no say (rule 1)."""
    return events[0] if len(events) == 1 else max(events, key=version_rank)


def version_rank(event: UsageEvent) -> tuple[bool, int, int, bytes]:
    """Rank a version of a span: usage beats none, then the later end, the larger total, and a hash to break ties."""
    return (not event.usage.is_empty(), event.occurred_at_us, event.usage.total_tokens or 0, _content_hash(event))


def judge(events: Sequence[UsageEvent]) -> Verdicts:
    """Answer the verdict on each event of one trace, by span id; each span is there once."""
    if _are_apart(events):
        return {event.span_id: BILLED for event in events}
    tree = _Tree(events)
    verdicts: Verdicts = {}
    for rule in _CALL_RULES:
        rule(tree, verdicts)
    _judge_containers(tree, verdicts)
    for event in events:
        verdicts.setdefault(event.span_id, BILLED)
    return {
        span_id: verdict if verdict.covered_by is None else _resolved(span_id, verdicts)
        for span_id, verdict in verdicts.items()
    }


def _are_apart(events: Sequence[UsageEvent]) -> bool:
    """Say whether no rule concerns any of them, as in most traces, so that none has to be tried.

    That is one call alone, or calls of one library, none below another, each with a response id of its own.
    """
    if len(events) == 1:
        return events[0].kind == "call"
    span_ids = {event.span_id for event in events}
    response_ids: set[str] = set()
    for event in events:
        name = event.response_id
        if event.kind != "call" or name is None or len(name) < MIN_RESPONSE_ID:
            return False
        if event.scope != events[0].scope or event.parent_span_id in span_ids:
            return False
        response_ids.add(name)
    return len(response_ids) == len(events)


def is_missing_children(detail: str | None) -> bool:
    """Say whether the detail of a charge tells of calls that a container knows of and the books do not."""
    return detail is not None and detail.startswith(MISSING_CHILDREN)


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


class _Tree:
    """The events of a trace and how they hang together."""

    def __init__(self, events: Sequence[UsageEvent]) -> None:
        self.events = sorted(events, key=_span_id)
        self.by_id = {event.span_id: event for event in self.events}
        self.calls = [event for event in self.events if event.kind == "call"]
        self.parents = _links(self.events, self.by_id)
        self.children: dict[bytes, list[UsageEvent]] = defaultdict(list)
        for span_id, parent_id in self.parents.items():
            self.children[parent_id].append(self.by_id[span_id])
        self._depths: dict[bytes, int] = {}
        self._tops: dict[bytes, bytes] = {}

    def depth(self, event: UsageEvent) -> int:
        """Count the generative-AI spans above an event."""
        path: list[bytes] = []
        current: bytes | None = event.span_id
        while current is not None and current not in self._depths:
            path.append(current)
            current = self.parents.get(current)
        depth = -1 if current is None else self._depths[current]
        for span_id in reversed(path):
            depth += 1
            self._depths[span_id] = depth
        return self._depths[event.span_id]

    def above(self, event: UsageEvent) -> Iterator[UsageEvent]:
        """Go through the spans above an event, the nearest first."""
        current = self.parents.get(event.span_id)
        while current is not None:
            yield self.by_id[current]
            current = self.parents.get(current)

    def top(self, event: UsageEvent) -> UsageEvent:
        """Find the span at the top of an event's links, which may be the event itself."""
        path: list[bytes] = []
        current = event.span_id
        while current not in self._tops and current in self.parents:
            path.append(current)
            current = self.parents[current]
        top = self._tops.get(current, current)
        self._tops.update(dict.fromkeys(path, top))
        return self.by_id[top]

    def nearest_calls(self, event: UsageEvent) -> Iterator[UsageEvent]:
        """Find the calls below an event that have no other call between, in a fixed order."""
        waiting = list(self.children.get(event.span_id, ()))
        while waiting:
            child = waiting.pop()
            if child.kind == "call":
                yield child
            else:
                waiting += self.children.get(child.span_id, ())

    def calls_below(self, event: UsageEvent) -> Iterator[UsageEvent]:
        """Find all calls below an event, through other calls as well."""
        waiting = list(self.children.get(event.span_id, ()))
        while waiting:
            child = waiting.pop()
            if child.kind == "call":
                yield child
            waiting += self.children.get(child.span_id, ())

    def seen_by(self, outer: UsageEvent) -> Iterator[UsageEvent]:
        """Find the calls that an outer call may be seeing: the nearest, and past those that report no usage."""
        waiting = list(self.nearest_calls(outer))
        while waiting:
            call = waiting.pop()
            yield call
            if call.usage.is_empty():
                waiting += self.nearest_calls(call)

    def rank(self, event: UsageEvent) -> _Rank:
        """Rank the spans of one physical call, the smallest first.

        Whoever reports usage comes before whoever reports none; then the deepest, the most detailed, the client.
        """
        return (
            event.usage.is_empty(),
            -self.depth(event),
            -_detail(event),
            not event.is_client,
            event.span_id,
        )


def _links(events: Sequence[UsageEvent], by_id: dict[bytes, UsageEvent]) -> dict[bytes, bytes]:
    """Answer who hangs on whom. A circle of parents, as a broken emitter sends it, is cut at its smallest span id."""
    parents = {
        event.span_id: event.parent_span_id
        for event in events
        if event.parent_span_id in by_id and event.parent_span_id != event.span_id
    }
    sound: set[bytes] = set()
    for event in events:
        path: dict[bytes, int] = {}
        current: bytes | None = event.span_id
        while current is not None and current not in sound and current not in path:
            path[current] = len(path)
            current = parents.get(current)
        if current is not None and current in path:
            del parents[min(span_id for span_id, position in path.items() if position >= path[current])]
        sound.update(path)
    return parents


def _judge_same_response(tree: _Tree, verdicts: Verdicts) -> None:
    """S1: calls with the same response id are one call."""
    groups: dict[str, list[UsageEvent]] = defaultdict(list)
    for call in tree.calls:
        if call.response_id is not None and len(call.response_id) >= MIN_RESPONSE_ID:
            groups[call.response_id].append(call)
    for group in groups.values():
        if len(group) > 1:
            _keep_first(sorted(group, key=tree.rank), "duplicate_response", verdicts)


def _judge_twins(tree: _Tree, verdicts: Verdicts) -> None:
    """S4: calls that differ in nothing but the span id are one call, emitted twice (LiteLLM issue 10588)."""
    at_once: dict[tuple[object, ...], list[UsageEvent]] = defaultdict(list)
    for call in tree.calls:
        if call.response_id is None and call.started_at_us is not None and not _is_own(call):
            at_once[_place(call)].append(call)
    for candidates in at_once.values():
        groups: dict[tuple[object, ...], list[UsageEvent]] = defaultdict(list)
        for call in candidates if len(candidates) > 1 else ():
            if not call.usage.is_empty():
                groups[_twin_key(call)].append(call)
        for group in groups.values():
            _keep_first(sorted(group, key=_span_id), "twin", verdicts)


def _place(event: UsageEvent) -> tuple[object, ...]:
    return event.parent_span_id, event.started_at_us, event.occurred_at_us


def _twin_key(call: UsageEvent) -> tuple[object, ...]:
    return (
        call.scope,
        call.request_model,
        call.response_model,
        *(str(getattr(call.usage, name)) for name in QUANTITIES),
    )


def _judge_wrappers(tree: _Tree, verdicts: Verdicts) -> None:
    """S2: a call around calls is the same call seen from further out, unless it says more than they do together."""
    for outer in sorted(tree.calls, key=lambda call: (tree.depth(call), call.span_id)):
        if outer.span_id in verdicts or outer.span_id not in tree.children:
            continue
        inner = [call for call in tree.seen_by(outer) if _is_seen_from_outside(outer, call, verdicts)]
        telling = [call for call in inner if not call.usage.is_empty()]
        if not telling and not outer.usage.is_empty():
            _keep_outer(outer, inner, verdicts)
        elif inner:
            first = min(inner, key=tree.rank)
            excess = _excess(outer, *_totals(*telling))
            verdicts[outer.span_id] = (
                Verdict("suppressed", "covered_by_child", first.span_id)
                if excess is None
                else Verdict("unpriced", "needs_review", first.span_id, f"beyond the calls in it: {excess}")
            )


def _keep_outer(outer: UsageEvent, inner: Iterable[UsageEvent], verdicts: Verdicts) -> None:
    """Let the outer call bill where no inner one knows its usage, as of a stream that was not asked for it.

    An inner call that failed is another attempt, and stands beside it.
    """
    for call in inner:
        if call.status != "error" and call.span_id not in verdicts:
            verdicts[call.span_id] = Verdict("suppressed", "twin", outer.span_id)


def _is_seen_from_outside(outer: UsageEvent, inner: UsageEvent, verdicts: Verdicts) -> bool:
    loses = verdicts.get(inner.span_id)
    if loses is not None and loses.reason in ("duplicate_response", "twin"):
        return False
    return (
        not (_is_own(outer) and outer.scope == inner.scope)
        and not _have_different_responses(outer, inner)
        and _lies_inside(inner, outer)
        and _may_be_same_model(outer, inner)
        and _modality(outer) == _modality(inner)
    )


def _totals(*events: UsageEvent) -> tuple[int, int]:
    """Sum the input and the output of some spans; who says nothing adds nothing."""
    return (
        sum(event.usage.input_tokens or 0 for event in events),
        sum(event.usage.output_tokens or 0 for event in events),
    )


def _excess(outer: UsageEvent, input_tokens: int, output_tokens: int) -> str | None:
    """Say by how many tokens an outer span exceeds what is told in it; None when it does not."""
    given, written = _totals(outer)
    excess = max(0, given - input_tokens), max(0, written - output_tokens)
    return f"{excess[0]} input and {excess[1]} output tokens" if any(excess) else None


def _is_own(call: UsageEvent) -> bool:
    return call.scope.startswith(OWN_SCOPE)


def _judge_layers(tree: _Tree, verdicts: Verdicts) -> None:
    """S5: two libraries that saw the same call without being parent and child: one interval lies in the other."""
    if len({call.scope for call in tree.calls}) < 2:
        return
    groups: dict[tuple[str, int, int], list[UsageEvent]] = defaultdict(list)
    for call in tree.calls:
        usage = call.usage
        model = _model(call)
        if call.span_id not in verdicts and model is not None and usage.total_tokens and call.started_at_us is not None:
            groups[model, usage.input_tokens or 0, usage.output_tokens or 0].append(call)
    for group in groups.values():
        if len({call.scope for call in group}) > 1:
            _pair_layers(sorted(group, key=tree.rank), verdicts)


def _pair_layers(group: list[UsageEvent], verdicts: Verdicts) -> None:
    """Let each billed call absorb at most one call of each other library, the one closest in time."""
    for position, kept in enumerate(group):
        if kept.span_id in verdicts:
            continue
        closest: dict[str, UsageEvent] = {}
        for other in group[position + 1 :]:
            if other.span_id in verdicts or not _is_same_call_in_other_scope(kept, other):
                continue
            best = closest.get(other.scope)
            if best is None or _distance(kept, other) < _distance(kept, best):
                closest[other.scope] = other
        for other in closest.values():
            verdicts[other.span_id] = Verdict("suppressed", "twin", kept.span_id)


def _is_same_call_in_other_scope(kept: UsageEvent, other: UsageEvent) -> bool:
    return (
        kept.scope != other.scope
        and not _have_different_responses(kept, other)
        and _modality(kept) == _modality(other)
        and (_lies_inside(kept, other, 0) or _lies_inside(other, kept, 0))
    )


def _is_same_call_in_other_trace(kept: UsageEvent, other: UsageEvent) -> bool:
    inputs = {usage.input_tokens for usage in (kept.usage, other.usage) if not usage.is_empty()}
    return (
        kept.scope != other.scope
        and kept.trace_id != other.trace_id
        and len(inputs) <= 1
        and abs(kept.occurred_at_us - other.occurred_at_us) <= TOLD_WITHIN_US
        and _modality(kept) == _modality(other)
        and _may_be_same_model(kept, other)
        and (_lies_inside(kept, other) or _lies_inside(other, kept))
    )


def _rank_across(event: UsageEvent) -> tuple[bool, int, bool, bytes, bytes]:
    """Rank the spans of one physical call in several traces, the smallest first, as `_Tree.rank` within one."""
    return event.usage.is_empty(), -_detail(event), not event.is_client, event.trace_id, event.span_id


def _distance_across(one: UsageEvent, other: UsageEvent) -> tuple[int, bytes, bytes]:
    distance, span_id = _distance(one, other)
    return distance, other.trace_id, span_id


class _Stand(msgspec.Struct, frozen=True):
    """What containers without calls tell in the place of those around them, and the first of them."""

    first: UsageEvent
    input_tokens: int
    output_tokens: int


def _judge_containers(tree: _Tree, verdicts: Verdicts) -> None:
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
            stands[event.span_id] = _Stand(event, *_totals(event))
            alone.append(event)
    if alone:
        _judge_alone(tree, alone, verdicts)


def _covered_by_calls(tree: _Tree, container: UsageEvent, verdicts: Verdicts) -> Verdict:
    """Compare a container with the calls below it, each physical call counted once."""
    first = min(tree.nearest_calls(container), key=tree.rank)
    if container.usage.is_empty():
        return Verdict("suppressed", "covered_by_child", first.span_id)
    billing = {_billing_span(call.span_id, verdicts) for call in tree.calls_below(container)}
    missing = _missing(container, *_totals(*(tree.by_id[span_id] for span_id in billing)))
    return Verdict("suppressed", "covered_by_child", first.span_id, missing)


def _together(tree: _Tree, stands: Sequence[_Stand]) -> _Stand:
    return _Stand(
        min((stand.first for stand in stands), key=tree.rank),
        sum(stand.input_tokens for stand in stands),
        sum(stand.output_tokens for stand in stands),
    )


def _missing(container: UsageEvent, input_tokens: int, output_tokens: int) -> str | None:
    excess = _excess(container, input_tokens, output_tokens)
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


def _judge_alone(tree: _Tree, alone: Sequence[UsageEvent], verdicts: Verdicts) -> None:
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


def _telling(tree: _Tree, event: UsageEvent) -> _Telling:
    started_at_us = event.occurred_at_us if event.started_at_us is None else event.started_at_us
    return _Telling(event, started_at_us, event.occurred_at_us, *_totals(event), tree.top(event).parent_span_id)


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
        _totals(one) == _totals(two)
        and (one.scope != two.scope or _place(one) == _place(two))
        and _may_be_same_model(one, two)
    )


def _overlap(one: _Telling, other: _Telling) -> bool:
    """Say whether two spans ran at the same time; what starts when the other ends comes after it."""
    started_at_us = max(one.started_at_us, other.started_at_us)
    return started_at_us < min(one.ended_at_us, other.ended_at_us) or one.started_at_us == other.started_at_us


def _calls_that_tell_it_around(tree: _Tree, container: UsageEvent) -> Iterator[UsageEvent]:
    for event in tree.above(container):
        is_as_large = event.kind == "call" and _excess(container, *_totals(event)) is None
        if is_as_large and _may_be_same_model(event, container):
            yield event


_CALL_RULES: Final[tuple[Callable[[_Tree, Verdicts], None], ...]] = (
    _judge_same_response,
    _judge_twins,
    _judge_wrappers,
    _judge_layers,
)
"""In this order: each rule judges only what the ones before it left."""


def _keep_first(group: Sequence[UsageEvent], reason: Reason, verdicts: Verdicts) -> None:
    """Suppress all calls of a group but the first."""
    kept, *others = group
    for other in others:
        verdicts[other.span_id] = Verdict("suppressed", reason, kept.span_id)


def _resolved(span_id: bytes, verdicts: Verdicts) -> Verdict:
    """Point a verdict at the span that really bills, which may lie behind several that do not."""
    verdict = verdicts[span_id]
    target = _billing_span(span_id, verdicts)
    return verdict if target == verdict.covered_by else msgspec.structs.replace(verdict, covered_by=target)


def _billing_span(span_id: bytes, verdicts: Verdicts) -> bytes:
    """Follow who covers whom to the span that bills for a span, which may be the span itself."""
    passed: set[bytes] = set()
    while span_id not in passed:
        passed.add(span_id)
        verdict = verdicts.get(span_id)
        if verdict is None or verdict.covered_by is None:
            break
        span_id = verdict.covered_by
    return span_id


def _have_different_responses(one: UsageEvent, other: UsageEvent) -> bool:
    return one.response_id is not None and other.response_id is not None and one.response_id != other.response_id


def _lies_inside(inner: UsageEvent, outer: UsageEvent, slack_us: int = SLACK_US) -> bool:
    """Compare intervals; a start that nobody knows excludes nothing."""
    if inner.occurred_at_us > outer.occurred_at_us + slack_us:
        return False
    if outer.started_at_us is None:
        return True
    start_us = inner.occurred_at_us if inner.started_at_us is None else inner.started_at_us
    return start_us >= outer.started_at_us - slack_us


def _distance(one: UsageEvent, other: UsageEvent) -> tuple[int, bytes]:
    ends = abs(one.occurred_at_us - other.occurred_at_us)
    return ends + abs((one.started_at_us or 0) - (other.started_at_us or 0)), other.span_id


_MODEL_SUFFIX: Final = re.compile(r"(?:[-@](?:20\d\d-\d\d-\d\d|20\d{6}|latest|default))+$")
_TEXT_OPERATIONS: Final = frozenset((None, "chat", "text_completion", "generate_content"))


def _plain_model(name: str) -> str:
    return _MODEL_SUFFIX.sub("", name.lower().rpartition("/")[2])


def _model(call: UsageEvent) -> str | None:
    name = call.response_model or call.request_model
    return None if name is None else _plain_model(name)


def _may_be_same_model(one: UsageEvent, other: UsageEvent) -> bool:
    """Compare what both say of their model, without dates and prefixes; who says nothing contradicts nobody."""
    mine, theirs = _models(one), _models(other)
    return not mine or not theirs or not mine.isdisjoint(theirs)


def _models(call: UsageEvent) -> set[str]:
    return {_plain_model(name) for name in (call.request_model, call.response_model) if name is not None}


def _modality(call: UsageEvent) -> str:
    return "text" if call.operation in _TEXT_OPERATIONS else str(call.operation)


def _detail(event: UsageEvent) -> int:
    """Count what a span says of its usage: cache and reasoning parts, times to live."""
    said = sum(getattr(event.usage, name) is not None for name in QUANTITIES)
    return said + len((event.usage.cache_write_input_tokens or {}).keys() - {"unsplit"})


def _span_id(event: UsageEvent) -> bytes:
    return event.span_id


def _content_hash(event: UsageEvent) -> bytes:
    """Hash the facts that decide the bill, and nothing that the books may store differently from what was sent."""
    usage = {name: str(value) for name in QUANTITIES if (value := getattr(event.usage, name)) is not None}
    writes = event.usage.cache_write_input_tokens
    if writes is not None:
        usage["cache_write_input_tokens"] = ",".join(f"{ttl}={count}" for ttl, count in sorted(writes.items()))
    facts: Iterable[object] = (
        event.kind,
        event.provider,
        event.request_model,
        event.response_model,
        event.response_id,
        event.operation,
        event.status,
        event.stream,
        event.service_tier,
        event.batch,
        event.region,
        event.tokens_source,
        event.usage_rule,
        sorted(usage.items()),
    )
    return blake2b(repr(tuple(facts)).encode(), digest_size=16).digest()

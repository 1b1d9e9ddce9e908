"""The rules for calls of one trace: which of them are one physical call, and which of those bills."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from farebox_collector.billable.likeness import (
    MIN_RESPONSE_ID,
    distance,
    excess_of,
    have_different_responses,
    is_own,
    lies_inside,
    may_be_same_model,
    modality,
    model_of,
    place,
    span_id_of,
    totals,
)
from farebox_collector.billable.tree import Tree
from farebox_collector.billable.verdicts import Verdict, Verdicts, keep_first
from farebox_ledger.usage import QUANTITIES, UsageEvent


def _judge_same_response(tree: Tree, verdicts: Verdicts) -> None:
    """S1: calls with the same response id are one call."""
    groups: dict[str, list[UsageEvent]] = defaultdict(list)
    for call in tree.calls:
        if call.response_id is not None and len(call.response_id) >= MIN_RESPONSE_ID:
            groups[call.response_id].append(call)
    for group in groups.values():
        if len(group) > 1:
            keep_first(sorted(group, key=tree.rank), "duplicate_response", verdicts)


def _judge_twins(tree: Tree, verdicts: Verdicts) -> None:
    """S4: calls that differ in nothing but the span id are one call, emitted twice (LiteLLM issue 10588)."""
    at_once: dict[tuple[object, ...], list[UsageEvent]] = defaultdict(list)
    for call in tree.calls:
        if call.response_id is None and call.started_at_us is not None and not is_own(call):
            at_once[place(call)].append(call)
    for candidates in at_once.values():
        groups: dict[tuple[object, ...], list[UsageEvent]] = defaultdict(list)
        for call in candidates if len(candidates) > 1 else ():
            if not call.usage.is_empty():
                groups[_twin_key(call)].append(call)
        for group in groups.values():
            keep_first(sorted(group, key=span_id_of), "twin", verdicts)


def _twin_key(call: UsageEvent) -> tuple[object, ...]:
    return (
        call.scope,
        call.request_model,
        call.response_model,
        *(str(getattr(call.usage, name)) for name in QUANTITIES),
    )


def _judge_wrappers(tree: Tree, verdicts: Verdicts) -> None:
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
            excess = excess_of(outer, *totals(*telling))
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
        not (is_own(outer) and outer.scope == inner.scope)
        and not have_different_responses(outer, inner)
        and lies_inside(inner, outer)
        and may_be_same_model(outer, inner)
        and modality(outer) == modality(inner)
    )


def _judge_layers(tree: Tree, verdicts: Verdicts) -> None:
    """S5: two libraries that saw the same call without being parent and child: one interval lies in the other."""
    if len({call.scope for call in tree.calls}) < 2:
        return
    groups: dict[tuple[str, int, int], list[UsageEvent]] = defaultdict(list)
    for call in tree.calls:
        usage = call.usage
        model = model_of(call)
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
            if best is None or distance(kept, other) < distance(kept, best):
                closest[other.scope] = other
        for other in closest.values():
            verdicts[other.span_id] = Verdict("suppressed", "twin", kept.span_id)


def _is_same_call_in_other_scope(kept: UsageEvent, other: UsageEvent) -> bool:
    return (
        kept.scope != other.scope
        and not have_different_responses(kept, other)
        and modality(kept) == modality(other)
        and (lies_inside(kept, other, 0) or lies_inside(other, kept, 0))
    )


CALL_RULES: Final[tuple[Callable[[Tree, Verdicts], None], ...]] = (
    _judge_same_response,
    _judge_twins,
    _judge_wrappers,
    _judge_layers,
)
"""In this order: each rule judges only what the ones before it left."""

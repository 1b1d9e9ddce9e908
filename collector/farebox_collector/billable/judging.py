"""The verdicts on one trace: calls first, then what wraps them."""

from __future__ import annotations

from collections.abc import Sequence

from farebox_collector.billable.calls import CALL_RULES
from farebox_collector.billable.containers import judge_containers
from farebox_collector.billable.likeness import MIN_RESPONSE_ID
from farebox_collector.billable.tree import Tree
from farebox_collector.billable.verdicts import BILLED, Verdicts, resolved
from farebox_ledger.usage import UsageEvent


def judge(events: Sequence[UsageEvent]) -> Verdicts:
    """Answer the verdict on each event of one trace, by span id; each span is there once."""
    if _are_apart(events):
        return {event.span_id: BILLED for event in events}
    tree = Tree(events)
    verdicts: Verdicts = {}
    for rule in CALL_RULES:
        rule(tree, verdicts)
    judge_containers(tree, verdicts)
    for event in events:
        verdicts.setdefault(event.span_id, BILLED)
    return {
        span_id: verdict if verdict.covered_by is None else resolved(span_id, verdicts)
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

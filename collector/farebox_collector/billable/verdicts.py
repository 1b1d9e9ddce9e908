"""What becomes of the events of a trace, while the rules decide it and afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from farebox_ledger.usage import BillingStatus, Reason, UsageEvent

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


def is_missing_children(detail: str | None) -> bool:
    """Say whether the detail of a charge tells of calls that a container knows of and the books do not."""
    return detail is not None and detail.startswith(MISSING_CHILDREN)


def keep_first(group: Sequence[UsageEvent], reason: Reason, verdicts: Verdicts) -> None:
    """Suppress all calls of a group but the first."""
    kept, *others = group
    for other in others:
        verdicts[other.span_id] = Verdict("suppressed", reason, kept.span_id)


def resolved(span_id: bytes, verdicts: Verdicts) -> Verdict:
    """Point a verdict at the span that really bills, which may lie behind several that do not."""
    verdict = verdicts[span_id]
    target = billing_span(span_id, verdicts)
    return verdict if target == verdict.covered_by else msgspec.structs.replace(verdict, covered_by=target)


def billing_span(span_id: bytes, verdicts: Verdicts) -> bytes:
    """Follow who covers whom to the span that bills for a span, which may be the span itself."""
    passed: set[bytes] = set()
    while span_id not in passed:
        passed.add(span_id)
        verdict = verdicts.get(span_id)
        if verdict is None or verdict.covered_by is None:
            break
        span_id = verdict.covered_by
    return span_id

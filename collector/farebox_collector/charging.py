"""From a verdict to a charge: prices what is billed, and gives everything else its reason. Pure."""

from __future__ import annotations

from farebox_collector.billable import Verdict
from farebox_ledger.pricing import Charge, PriceBook
from farebox_ledger.pricing.events import charge_event
from farebox_ledger.usage import UsageEvent, usage_id


def charge_of(event: UsageEvent, verdict: Verdict, prices: PriceBook) -> Charge:
    """Answer what an event costs by its verdict, at the prices that held when it ended and the policy of today."""
    if verdict.status is not None and not verdict.is_left_to_policy:
        return Charge(
            status=verdict.status,
            reason=verdict.reason,
            detail=verdict.detail,
            covered_by=covering_row(event, verdict),
        )
    return charge_event(prices, event)


def covering_row(event: UsageEvent, verdict: Verdict) -> bytes | None:
    """The usage id of the row that bills instead."""
    if verdict.covered_by is None:
        return None
    return usage_id(event.org_id, verdict.covering_trace or event.trace_id, verdict.covered_by)

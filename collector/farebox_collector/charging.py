"""From a verdict to a charge: prices what is billed, and gives everything else its reason. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from farebox_collector.billable import Verdict
from farebox_ledger.pricing import Charge, PriceBook, PricingRequest
from farebox_ledger.usage import Reason, UsageEvent, usage_id

_PRICED: Final = ("billed", "assumed")


def charge_of(event: UsageEvent, verdict: Verdict, prices: PriceBook) -> Charge:
    """Answer what an event costs by its verdict, at the prices that held when it ended."""
    if verdict.status is not None:
        return Charge(status=verdict.status, reason=verdict.reason, covered_by=covering_row(event, verdict))
    if event.usage.is_empty():
        return Charge(status="not_billable" if event.status == "error" else "unpriced", reason=_why_empty(event))
    charge = prices.charge(_request(event))
    if _is_cut_off(event) and charge.status in _PRICED:
        # The provider bills the output that it had produced, and nobody was told how much that was.
        charge = msgspec.structs.replace(charge, status="partial", reason="stream_without_usage")
    return charge


def covering_row(event: UsageEvent, verdict: Verdict) -> bytes | None:
    """The usage id of the row that bills instead."""
    if verdict.covered_by is None:
        return None
    return usage_id(event.org_id, event.trace_id, verdict.covered_by)


def _why_empty(event: UsageEvent) -> Reason:
    if event.status == "error":
        return "error_no_usage"
    return "stream_without_usage" if event.stream else "missing_usage"


def _is_cut_off(event: UsageEvent) -> bool:
    """Say whether a stream ended before the provider counted its output."""
    usage = event.usage
    return usage.output_tokens is None and usage.input_tokens is not None and (event.stream or _is_aborted(event))


def _is_aborted(event: UsageEvent) -> bool:
    return event.status == "cancelled" and event.operation != "embeddings"


def _request(event: UsageEvent) -> PricingRequest:
    return PricingRequest(
        provider=event.provider,
        request_model=event.request_model,
        response_model=event.response_model,
        at_us=event.occurred_at_us,
        usage=event.usage,
        org_id=event.org_id,
        service_tier=event.service_tier,
        batch=event.batch,
        region=event.region,
        upstream=event.upstream,
        is_invalid=event.tokens_source == "clamped",
    )

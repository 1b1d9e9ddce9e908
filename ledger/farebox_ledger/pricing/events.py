"""From a usage event to its charge: what the pipeline books, and what re-pricing computes anew, the same way.

Comes in: an event that is billed by its own usage, and a price book. Goes out: its charge. Everything that decides the
charge stands on the event, so that a row read back is charged as its span was. Whether an event is billed at all is
decided before (`farebox_collector.billable`): a container comes here only where no other span tells its usage.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from farebox_ledger.errors import AmountTooLarge
from farebox_ledger.money import pico_text, to_pico
from farebox_ledger.pricing.book import PriceBook
from farebox_ledger.pricing.charge import Charge, CostLine, PricingRequest
from farebox_ledger.usage import Reason, UsageEvent

JUDGED_REASONS: Final[frozenset[Reason]] = frozenset({"needs_review"})
"""Why a row is unpriced although it may have a price: the collector judged its trace, and nothing here changes that."""

STATED_CURRENCY: Final = "USD"
"""What the costs are in that providers state of calls (`UsageEvent.stated_cost`)."""

_PRICED: Final = ("billed", "assumed")


def charge_event(book: PriceBook, event: UsageEvent) -> Charge:
    """Answer what an event costs at the prices that held when it ended.

    A call without any usage is unpriced, or not billable when it failed. A stream that ended before the provider
    counted its output is at most partial: the provider bills what it had produced, and nobody was told how much.
    Where the organization's policy says so, a cost that the provider stated is the charge.
    What a gateway answered from its own cache called no provider and is not billable. What only a container tells is
    unpriced, or second best where the policy lets it bill.
    """
    if event.usage_rule == "cache_hit":
        return Charge(status="not_billable")
    if event.kind == "call":
        return _charge_call(book, event)
    if not book.policy(event.org_id).aggregate_only_bills:
        return Charge(status="unpriced", reason="aggregate_only")
    return aggregate_charge(_charge_call(book, event))


def aggregate_charge(charge: Charge) -> Charge:
    """Mark what was charged for the sum of calls that nobody knows: second best, whatever its price is.

    The detail keeps why the price itself is second best. What has no price, or only a part of one, says that instead.
    """
    if charge.status not in _PRICED:
        return charge
    said = [text for text in (charge.reason, charge.detail) if text is not None]
    return msgspec.structs.replace(
        charge, status="assumed", reason="aggregate_only", detail=": ".join(said) if said else None
    )


def _charge_call(book: PriceBook, event: UsageEvent) -> Charge:
    charge = _by_our_prices(book, event)
    if event.stated_cost is None or charge.status == "not_billable":
        return charge
    return stated_charge(event.stated_cost, charge) if book.policy(event.org_id).stated_cost_bills else charge


def stated_charge(stated: Decimal, ours: Charge) -> Charge:
    """Charge a call with what its provider states, in USD; the list amount is what our prices say, where they know.

    What we could not price in full is `assumed`, with our reason: a better price still has something to settle. A
    statement that is no amount leaves our charge as it is.
    """
    if not stated.is_finite() or stated < 0:
        return ours
    try:
        amount_pico = to_pico(stated)
    except AmountTooLarge:
        return ours
    is_known = ours.status in ("billed", "assumed", "free") and ours.currency == STATED_CURRENCY
    listed_pico = ours.list_cost_pico if is_known and ours.list_cost_pico is not None else amount_pico
    line = CostLine("stated_cost", Decimal(1), pico_text(amount_pico), "1", listed_pico, amount_pico)
    return Charge(
        status="billed" if is_known else "assumed",
        reason=None if is_known else ours.reason,
        detail=f"as the provider states; by our prices {_said(ours)}",
        currency=STATED_CURRENCY,
        cost_pico=amount_pico,
        list_cost_pico=listed_pico,
        provider=ours.provider,
        model=ours.model,
        lines=(line,),
        rejected=ours.rejected,
    )


def _by_our_prices(book: PriceBook, event: UsageEvent) -> Charge:
    if event.usage.is_empty():
        return Charge(status="not_billable" if event.status == "error" else "unpriced", reason=_why_empty(event))
    charge = book.charge(pricing_request(event))
    if charge.status in _PRICED and is_cut_off(event):
        charge = msgspec.structs.replace(charge, status="partial", reason="stream_without_usage")
    return charge


def pricing_request(event: UsageEvent) -> PricingRequest:
    """Answer the facts of an event that decide its price."""
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
        is_sum=event.kind == "container",
    )


def is_cut_off(event: UsageEvent) -> bool:
    """Say whether a call ended before the provider counted its output."""
    usage = event.usage
    return usage.output_tokens is None and usage.input_tokens is not None and (event.stream or _is_aborted(event))


def _said(charge: Charge) -> str:
    price = "" if charge.price is None else f" ({charge.price.id})"
    if charge.cost_pico is None or charge.currency is None:
        return f"{charge.status}, {charge.reason}{price}"
    return f"{charge.currency} {pico_text(charge.cost_pico)}{price}"


def _is_aborted(event: UsageEvent) -> bool:
    return event.status == "cancelled" and event.operation != "embeddings"


def _why_empty(event: UsageEvent) -> Reason:
    if event.status == "error":
        return "error_no_usage"
    return "stream_without_usage" if event.stream else "missing_usage"

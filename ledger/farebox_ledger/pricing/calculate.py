"""From a price and a usage to a charge: disjoint quantities, one line each, one rounding per line.

Comes in: a `Match` and the `PricingRequest` that led to it. Goes out: a `Charge` whose lines sum to its cost. Never
looks up a price, never raises for odd usage: what cannot be billed is said in status, reason and detail.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from farebox_ledger.errors import AmountTooLarge
from farebox_ledger.money import MAX_AMOUNT_PICO, decimal_text, line_amount
from farebox_ledger.pricing.charge import Charge, CostLine, PricingRequest
from farebox_ledger.pricing.match import Match, NoMatch
from farebox_ledger.pricing.plan import Rate, RatePlan
from farebox_ledger.pricing.quantities import TokenSplit, is_count, split_input, split_output
from farebox_ledger.pricing.tiers import canonical_tier
from farebox_ledger.usage import BillingStatus, Reason, Usage

_ONE: Final = Decimal(1)

_INPUT_UNITS: Final = ("input_seconds", "input_characters", "input_images", "pages", "search_units")
_OUTPUT_UNITS: Final = ("output_seconds", "output_characters", "output_images")
# Embedding models count media beside the tokens of the text; everywhere else the tokens contain them.
_UNITS_BESIDE_TOKENS: Final = {"embedding": ("input_seconds", "input_images")}


def unpriced(no_match: NoMatch, request: PricingRequest) -> Charge:
    """Charge a call for which no price was found: cost None, with the reason."""
    return Charge(
        status="unpriced",
        reason=no_match.reason,
        detail=no_match.detail,
        provider=no_match.provider,
        model=no_match.model or request.response_model or request.request_model,
        rejected=no_match.tried,
    )


def calculate(match: Match, request: PricingRequest) -> Charge:
    """Charge a call at the price that was found for it.

    Token counts overlap as in OTel and are split here. The tier is the served one; long-context bands go by the total
    input, cached tokens included, and hold for the whole request (docs/pricing.md); a sum of calls is in none.
    """
    compiled = match.compiled
    if compiled.rates.free:
        return _answer(match, "free", None, None, cost_pico=0, list_cost_pico=0)
    usage = request.usage
    total = 0 if request.is_sum else usage.input_tokens
    tier = canonical_tier(request.service_tier, batch=request.batch)
    plan = compiled.plan(tier, total if total and is_count(total) else 0, request.at_us, request.region)
    if not plan.is_listed:
        return _answer(match, "unpriced", "no_rate_for_tier", tier)
    sheet = _Sheet(plan, match.multiplier, match.multiplier_text or "1")
    try:
        _add_input(sheet, usage, match.price.mode)
        _add_output(sheet, usage)
        _add_fees(sheet, usage, compiled.search_is_always)
        sheet.check_totals()
    except AmountTooLarge as error:
        return _answer(match, "unpriced", "invalid_usage", error.detail)
    return _conclude(sheet, match, request, tier)


class _Sheet:
    """The lines of a charge while they are written, and what stood in the way of others."""

    __slots__ = (
        "assumed", "cost", "factor", "factor_text", "folded", "gap", "invalid", "lines", "list_cost", "plan",
        "tier_gap", "whole_missing",
    )  # fmt: skip

    def __init__(self, plan: RatePlan, factor: Decimal | None, factor_text: str) -> None:
        self.plan = plan
        self.factor = factor
        self.factor_text = factor_text
        self.lines: list[CostLine] = []
        self.cost = 0
        self.list_cost = 0
        self.invalid: str | None = None
        self.tier_gap: str | None = None  # the first dimension that this tier does not price
        self.gap: str | None = None  # the first dimension that nothing prices
        self.whole_missing: str | None = None
        self.assumed: str | None = None
        self.folded: tuple[str, ...] = ()

    def add(self, dimension: str, quantity: int | Decimal, key: str) -> None:
        """Write one line at the rate of the dimension `key`, or note that there is none."""
        rate = self.plan.rates.get(key)
        if rate is None:
            if key in self.plan.missing_in_tier:
                self.tier_gap = self.tier_gap or dimension
            else:
                self.gap = self.gap or dimension
            return
        if self.plan.assumed and self.assumed is None:
            self.assumed = self.plan.assumed.get(key)
        self.add_at(dimension, quantity, rate)

    def add_at(self, dimension: str, quantity: int | Decimal, rate: Rate) -> None:
        exact = Decimal(quantity) if type(quantity) is int else _canonical(quantity)
        if type(quantity) is int and rate.pico is not None:
            listed = quantity * rate.pico  # a whole number of pico-units: nothing to round
        else:
            listed = line_amount(exact, rate.price, _ONE)
        billed = listed if self.factor is None else line_amount(exact, rate.price, self.factor)
        self.lines.append(CostLine(dimension, exact, rate.text, self.factor_text, listed, billed))
        self.cost += billed
        self.list_cost += listed

    def add_split(self, split: TokenSplit, whole: str) -> None:
        for dimension, quantity, key in split.parts:
            if quantity:
                self.add(dimension, quantity, key)
        if split.is_whole_missing:
            self.whole_missing = self.whole_missing or whole
        if split.assumed:
            self.assumed = self.assumed or split.assumed
        if split.folded:
            self.folded += split.folded

    def check_totals(self) -> None:
        """Refuse what one row cannot hold; every line is part of a total and no larger."""
        if self.cost > MAX_AMOUNT_PICO or self.list_cost > MAX_AMOUNT_PICO:
            raise AmountTooLarge("usage", "the cost is beyond 9000000 units, the most that one row holds")


def _canonical(quantity: int | Decimal) -> Decimal:
    """Write a quantity without an exponent and trailing zeros, as a line is kept."""
    return Decimal(decimal_text(Decimal(quantity)))


def _add_input(sheet: _Sheet, usage: Usage, mode: str | None) -> None:
    split = split_input(usage, sheet.plan)
    sheet.invalid = sheet.invalid or split.invalid
    if _is_billed_by_tokens(sheet, usage, split, _INPUT_UNITS):
        sheet.add_split(split, "input_tokens")
        beside = _UNITS_BESIDE_TOKENS.get(mode) if mode else None
        if beside:
            _add_units(sheet, usage, beside)
    elif not _add_units(sheet, usage, _INPUT_UNITS) and split.whole:
        sheet.gap = sheet.gap or "input_tokens"


def _add_output(sheet: _Sheet, usage: Usage) -> None:
    split = split_output(usage, sheet.plan)
    sheet.invalid = sheet.invalid or split.invalid
    if usage.output_images and not usage.image_output_tokens and "output_images" in sheet.plan.apart:
        # The output tokens of such a call are the tokens of its images, which the price per image contains.
        _add_units(sheet, usage, _OUTPUT_UNITS)
    elif _is_billed_by_tokens(sheet, usage, split, _OUTPUT_UNITS):
        sheet.add_split(split, "output_tokens")
    elif not _add_units(sheet, usage, _OUTPUT_UNITS) and split.whole:
        sheet.gap = sheet.gap or "output_tokens"


def _is_billed_by_tokens(sheet: _Sheet, usage: Usage, split: TokenSplit, units: tuple[str, ...]) -> bool:
    """Say whether one side of the call is billed by its tokens rather than by units that measure the same thing.

    A token rate of 0 beside a unit that has a price is no price: LiteLLM lists rerankers so.
    """
    if not split.whole:
        return False
    plan = sheet.plan
    is_apart = False
    for _, quantity, key in split.parts:
        if quantity and key in plan.apart:
            rate = plan.rates.get(key)
            if rate is None or not rate.is_zero:
                return True
            is_apart = True
    return is_apart and not any(unit in plan.apart and getattr(usage, unit) for unit in units)


def _add_units(sheet: _Sheet, usage: Usage, dimensions: tuple[str, ...]) -> bool:
    """Write the units that have a rate; where none has, the first that was used is a gap. Says whether any was used.

    Units of one side measure the same thing in several ways, so one of them without a rate is no gap beside another.
    """
    is_used = is_priced = False
    first_gap: str | None = None
    for dimension in dimensions:
        quantity = getattr(usage, dimension)
        if not quantity:
            continue
        if not is_count(quantity):
            sheet.invalid = sheet.invalid or f"{dimension} is no usable count"
            continue
        is_used = True
        if dimension in sheet.plan.apart:
            is_priced = True
            sheet.add(dimension, quantity, dimension)
        else:
            first_gap = first_gap or dimension
    if not is_priced:
        sheet.gap = sheet.gap or first_gap
    return is_used


def _add_fees(sheet: _Sheet, usage: Usage, search_is_always: bool) -> None:
    if "requests" in sheet.plan.rates and not usage.is_empty():
        _add_requests(sheet, 1 if usage.requests is None else usage.requests)
    searches = usage.web_searches
    if searches is None and search_is_always and not usage.is_empty():
        searches = 1
    if searches:
        _add_searches(sheet, usage, searches)


def _add_requests(sheet: _Sheet, requests: int) -> None:
    if not is_count(requests):
        sheet.invalid = sheet.invalid or "requests is no usable count"
    elif requests:
        sheet.add("requests", requests, "requests")


def _add_searches(sheet: _Sheet, usage: Usage, searches: int) -> None:
    plan = sheet.plan
    if not is_count(searches):
        sheet.invalid = sheet.invalid or "web_searches is no usable count"
    elif not plan.searches:
        sheet.add("web_searches", searches, "web_searches")
    else:
        size = usage.search_context_size
        if size is None and plan.searches["low"] == plan.searches["medium"] == plan.searches["high"]:
            size = "medium"
        if size is None:
            sheet.gap = sheet.gap or "web_searches (search_context_size is not known)"
        else:
            sheet.add_at("web_searches", 1 if plan.searches_per_request else searches, plan.searches[size])


def _conclude(sheet: _Sheet, match: Match, request: PricingRequest, tier: str) -> Charge:
    status, reason, detail = _status(sheet, match, request, tier)
    if status == "unpriced":
        return _answer(match, status, reason, detail)
    return _answer(
        match, status, reason, detail, cost_pico=sheet.cost, list_cost_pico=sheet.list_cost, lines=tuple(sheet.lines)
    )


def _status(
    sheet: _Sheet, match: Match, request: PricingRequest, tier: str
) -> tuple[BillingStatus, Reason | None, str | None]:
    """Judge the sheet: what is missing outweighs what is assumed, what is wrong outweighs both."""
    if not sheet.lines and not request.is_invalid and request.usage.is_empty():
        return "unpriced", "stream_without_usage" if request.is_incomplete else "missing_usage", None
    if sheet.invalid or request.is_invalid:
        return "partial", "invalid_usage", sheet.invalid or "a count was not usable and was read as 0"
    incomplete: BillingStatus = "partial" if sheet.lines else "unpriced"
    if sheet.tier_gap:
        return incomplete, "no_rate_for_tier", f"{tier}: {sheet.tier_gap}"
    if sheet.gap:
        return incomplete, "no_rate_for_dimension", sheet.gap
    if request.is_incomplete:
        return "partial", "stream_without_usage", None
    if sheet.whole_missing:
        return "partial", "missing_usage", sheet.whole_missing
    if sheet.assumed:
        return "assumed", "no_rate_for_dimension" if tier == "standard" else "no_rate_for_tier", sheet.assumed
    if match.assumed:
        return "assumed", "archived", match.assumed
    return "billed", None, f"inside their whole for want of a rate: {', '.join(sheet.folded)}" if sheet.folded else None


def _answer(
    match: Match,
    status: BillingStatus,
    reason: Reason | None,
    detail: str | None,
    *,
    cost_pico: int | None = None,
    list_cost_pico: int | None = None,
    lines: tuple[CostLine, ...] = (),
) -> Charge:
    price = match.price
    return Charge(
        status=status,
        reason=reason,
        detail=detail,
        currency=price.currency,
        cost_pico=cost_pico,
        list_cost_pico=list_cost_pico,
        price=match.reference,
        provider=price.provider,
        model=price.model,
        multiplier=match.multiplier_text,
        lines=lines,
        rejected=match.rejected,
    )

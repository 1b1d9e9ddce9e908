"""A price made ready for arithmetic: the rates that hold for one tier, length of input, hour and region.

Comes in: a `Price`. Goes out: a `RatePlan`, compiled once and kept. `calculate` multiplies; nothing here sees a usage.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from decimal import Context, Decimal
from typing import Final

import msgspec

from farebox_ledger.money import PICO, decimal_text
from farebox_ledger.pricing.price import Price
from farebox_ledger.pricing.rates import FLAT_FEES, PARENT_OF, STANDARD, OffPeak, Rates, RateTable, Tier
from farebox_ledger.pricing.tiers import DOCUMENTED_RATIOS, listed_as
from farebox_ledger.usage import SearchContextSize

_EXACT: Final = Context(prec=60)
_HOUR_LONG_WRITE: Final = "cache writes of one hour: 2 x input (Anthropic pricing, prompt caching)"
_US_PER_MINUTE: Final = 60_000_000
_MINUTES_PER_DAY: Final = 1440


class Rate(msgspec.Struct, frozen=True, gc=False):
    """The price of a single unit. `pico` is the same in pico-units where that is a whole number, else None."""

    price: Decimal
    text: str
    pico: int | None
    is_zero: bool


class RatePlan(msgspec.Struct):
    """The rates that hold for one request.

    `apart` holds the parts that leave their parent's count: those with a rate, and those whose rate is missing in
    this tier alone. `assumed` says for each derived rate how it was derived. `is_listed` is False for a tier that
    neither the price nor its provider's documents know.
    """

    rates: dict[str, Rate]
    apart: frozenset[str]
    missing_in_tier: frozenset[str]
    assumed: dict[str, str]
    searches: dict[SearchContextSize, Rate]
    searches_per_request: bool = False
    is_listed: bool = True


class CompiledPrice:
    """A price with its plans; a plan is made when a request first needs it and kept for the life of the book."""

    __slots__ = (
        "_off_peak", "_plans", "_region_factors", "_search", "_thresholds", "price", "rates", "search_is_always",
    )  # fmt: skip

    def __init__(self, price: Price, rates: Rates | None = None) -> None:
        """Prepare a price; `rates` replaces the price's own, for an override that inherits."""
        self.price = price
        self.rates = price.rates if rates is None else rates
        self._search = self.rates.web_search
        self.search_is_always = self._search is not None and self._search.always
        self._thresholds = _first_counts(self.rates)
        self._region_factors = self.rates.region_factors
        self._off_peak = self.rates.off_peak
        self._plans: dict[tuple[str, int, bool, str | None], RatePlan] = {}

    def plan(self, tier: str, total_input_tokens: int, at_us: int, region: str | None) -> RatePlan:
        """Answer the plan of a request with that total input, cached tokens included, at that moment in that region."""
        band = bisect_right(self._thresholds, total_input_tokens) if self._thresholds else 0
        off_peak = self._off_peak is not None and tier == STANDARD and is_off_peak(self._off_peak, at_us)
        factor = self._region_factor(region) if region and self._region_factors else None
        key = (tier, band, off_peak, factor)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._compile(*key)
        return plan

    def _region_factor(self, region: str) -> str | None:
        named = self._region_factors.get(region.lower())
        if named is None and region.lower() != "global":
            named = self._region_factors.get("*")
        return named

    def _compile(self, tier: str, band: int, off_peak: bool, region_factor: str | None) -> RatePlan:
        reached = self._thresholds[band - 1] if band else 0
        standard = _listed(self.rates.tiers.get(STANDARD), reached, self.rates.threshold_inclusive)
        if off_peak and self._off_peak is not None:
            standard = {**standard, **{name: (rate, 0) for name, rate in self._off_peak.rates.items()}}
        hour = _hour_long_write(standard)
        standard = {**standard, **hour}
        table = _Table(standard) if tier == STANDARD else self._tier_table(tier, standard, reached)
        for dimension in hour:
            table.assumed.setdefault(dimension, _HOUR_LONG_WRITE)
        table.assumed |= self._unselected(table.rates)
        rates = {name: _rate(text, None if name in FLAT_FEES else region_factor) for name, text in table.rates.items()}
        return RatePlan(
            rates=rates,
            apart=frozenset(rates) | frozenset(table.missing),
            missing_in_tier=frozenset(table.missing),
            assumed=table.assumed,
            searches=self._searches(),
            searches_per_request=self._search is not None and self._search.per == "request",
            is_listed=table.is_listed,
        )

    def _tier_table(self, tier: str, standard: _Listing, reached: int) -> _Table:
        name = next((name for name in listed_as(tier) if name in self.rates.tiers), None)
        own = _listed(self.rates.tiers[name], reached, self.rates.threshold_inclusive) if name else {}
        factor = self.rates.tier_factors.get(tier)
        ratio = DOCUMENTED_RATIOS.get((self.price.provider, tier))
        table = _Table({**standard, **own}, is_listed=bool(own or factor or ratio))
        for dimension, (rate, above) in standard.items():
            if dimension in FLAT_FEES or (dimension in own and own[dimension][1] >= above):
                continue
            del table.rates[dimension]
            parent = PARENT_OF.get(dimension)
            if parent in standard and standard[parent][0] == rate:
                continue
            if factor:
                table.rates[dimension] = _product(rate, factor)
            elif ratio:
                table.rates[dimension] = _product(rate, ratio.factor)
                table.assumed[dimension] = f"{tier}: {ratio.factor} x standard ({ratio.source})"
            else:
                table.missing.append(dimension)
        return table

    def _unselected(self, rates: RateTable) -> dict[str, str]:
        """Say which rates stand for several that go by resolution, which no usage member tells."""
        return {
            dimension: f"the price of {dimension} goes by resolution; the default one applies"
            for dimension, variants in self.rates.variants.items()
            if any(rate != rates.get(dimension, rate) for rate in variants.values())
        }

    def _searches(self) -> dict[SearchContextSize, Rate]:
        search = self._search
        if search is None:
            return {}
        return {"low": _rate(search.low), "medium": _rate(search.medium), "high": _rate(search.high)}


_Listing = dict[str, tuple[str, int]]  # dimension → (rate, the threshold at which it was listed; 0 = base)


class _Table:
    """The rates of a tier while it is put together."""

    def __init__(self, listing: _Listing, *, is_listed: bool = True) -> None:
        self.rates: RateTable = {dimension: rate for dimension, (rate, _) in listing.items()}
        self.missing: list[str] = []
        self.assumed: dict[str, str] = {}
        self.is_listed = is_listed


def is_off_peak(off_peak: OffPeak, at_us: int) -> bool:
    """Say whether a moment lies inside the windows; a window holds its first minute and not its last."""
    minute = at_us // _US_PER_MINUTE
    minute_of_day = minute % _MINUTES_PER_DAY
    local_day = (minute + off_peak.weekday_offset_minutes) // _MINUTES_PER_DAY
    weekday = (local_day + 3) % 7 + 1  # 1970-01-01 was a Thursday
    return any(
        weekday in window.weekdays and any(start <= minute_of_day < end for start, end in window.minutes)
        for window in off_peak.windows
    )


def _first_counts(rates: Rates) -> list[int]:
    """List the smallest total inputs at which some band begins, rising."""
    offset = 0 if rates.threshold_inclusive else 1
    return sorted({band.above_tokens + offset for tier in rates.tiers.values() for band in tier.bands})


def _listed(tier: Tier | None, reached: int, inclusive: bool) -> _Listing:
    if tier is None:
        return {}
    listing = {dimension: (rate, 0) for dimension, rate in tier.rates.items()}
    thresholds = [band.above_tokens + (0 if inclusive else 1) for band in tier.bands]
    for band in tier.bands[: bisect_left(thresholds, reached + 1)]:
        listing.update({dimension: (rate, band.above_tokens) for dimension, rate in band.rates.items()})
    return listing


def _hour_long_write(standard: _Listing) -> _Listing:
    """Derive the rate of one-hour cache writes where a catalog forgets it (LiteLLM #27781).

    Anthropic bills them at twice the input, and every price that lists both says exactly that; a base write rate of
    1.25 x input and no twelve-hour rate, which is OpenAI's, is the mark of its price list.
    """
    if "cache_write_1h_input_tokens" in standard or "cache_write_12h_input_tokens" in standard:
        return {}
    if "input_tokens" not in standard or "cache_write_input_tokens" not in standard:
        return {}
    (input_rate, input_above), (write_rate, write_above) = (
        standard["input_tokens"],
        standard["cache_write_input_tokens"],
    )
    if input_rate == "0" or write_rate != _product(input_rate, "1.25"):
        return {}
    return {"cache_write_1h_input_tokens": (_product(input_rate, "2"), max(input_above, write_above))}


def _product(rate: str, factor: str) -> str:
    return decimal_text(_EXACT.multiply(Decimal(rate), Decimal(factor)))


def _rate(text: str, factor: str | None = None) -> Rate:
    text = _product(text, factor) if factor else text
    price = Decimal(text)
    pico = _EXACT.multiply(price, PICO)
    return Rate(price, text, int(pico) if pico == pico.to_integral_value() else None, not price)

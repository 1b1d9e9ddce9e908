"""Where two catalogs disagree about the price of the same model.

Comes in: prices of both and a moment. Goes out: each pair of rates that differ, and how many models were compared. Says
nothing about which is right (docs/pricing.md), and changes no price.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from farebox_ledger.money import decimal_text
from farebox_ledger.pricing import Band, Price, Rates, RateTable, Tier
from farebox_ledger.pricing.names import comparable
from farebox_ledger.pricing.rates import PARENT_OF, STANDARD
from farebox_ledger.pricing.tiers import listed_as

_Name: TypeAlias = tuple[str, str]

COMPARED: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
)
"""The dimensions that are compared: those of nearly every call."""

OFF_PEAK: Final = "off_peak"

_ROUNDING: Final = Decimal("0.001")
"""Rates that differ by less than a thousandth of the larger one are the same, rounded (a price per hour, a DBU)."""


class Disagreement(msgspec.Struct, frozen=True):
    """One rate on which the catalogs differ, in USD per token, for requests beyond `above_tokens` of input.

    None: the catalog lists no rate there. A part that is not listed is billed like its whole, so a missing cache rate
    is a disagreement only if the other catalog's differs from the rate of the whole. A tier that only one of them lists
    is one for each of its rates.
    """

    provider: str
    model: str
    tier: str
    above_tokens: int
    dimension: str
    catalog: str | None
    archive: str | None


class Comparison(msgspec.Struct, frozen=True):
    """How many models both catalogs price at the moment, and all on which they differ, by provider and model."""

    compared: int
    disagreements: list[Disagreement]

    @property
    def disagreeing(self) -> int:
        """Count the models with at least one difference."""
        return len({(one.provider, one.model) for one in self.disagreements})


def compare(catalog: Iterable[Price], archive: Iterable[Price], at_us: int) -> Comparison:
    """Compare the prices that both catalogs hold for the same provider and name at a moment."""
    mine, theirs = _by_name(catalog, at_us), _by_name(archive, at_us)
    common = sorted(mine.keys() & theirs.keys())
    return Comparison(
        len(common),
        [
            Disagreement(*name, tier, above, dimension, rate, other)
            for name in common
            for tier, above, dimension, rate, other in _differences(mine[name].rates, theirs[name].rates)
        ],
    )


def _by_name(prices: Iterable[Price], at_us: int) -> dict[_Name, Price]:
    return {(price.provider, comparable(price.model)): price for price in prices if price.is_valid_at(at_us)}


def _differences(mine: Rates, theirs: Rates) -> Iterator[tuple[str, int, str, str | None, str | None]]:
    tiers = dict.fromkeys((STANDARD, *sorted({*mine.tiers, *theirs.tiers})))
    for name in tiers:
        tier, other_tier = _tier(mine, name), _tier(theirs, name)
        starts = sorted({*_starts(mine, tier), *_starts(theirs, other_tier)})
        seen: set[tuple[str, str | None, str | None]] = set()
        for start in starts:
            for difference in _table_differences(_table(mine, tier, start), _table(theirs, other_tier, start)):
                if difference not in seen:  # the same difference is not told again for every threshold
                    seen.add(difference)
                    yield name, max(start - 1, 0), *difference
    if mine.off_peak or theirs.off_peak:
        tables = [rates.off_peak.rates if rates.off_peak else {} for rates in (mine, theirs)]
        for difference in _table_differences(*tables):
            yield OFF_PEAK, 0, *difference


def _tier(rates: Rates, name: str) -> Tier:
    """Answer the rates that a tier is billed at: listed under its name or another, or a multiple of the standard."""
    listed = next((rates.tiers[other] for other in listed_as(name) if other in rates.tiers), None)
    factor = rates.tier_factors.get(name)
    if listed is None and factor and STANDARD in rates.tiers:
        standard = rates.tiers[STANDARD]
        bands = tuple(Band(band.above_tokens, _scaled(band.rates, factor)) for band in standard.bands)
        listed = Tier(_scaled(standard.rates, factor), bands)
    return listed or Tier({})


def _scaled(table: RateTable, factor: str) -> RateTable:
    return {name: decimal_text(Decimal(rate) * Decimal(factor)) for name, rate in table.items()}


def _starts(rates: Rates, tier: Tier) -> list[int]:
    """List the counts of input tokens at which other rates begin."""
    return [0, *(band.above_tokens + (not rates.threshold_inclusive) for band in tier.bands)]


def _table(rates: Rates, tier: Tier, start: int) -> RateTable:
    table = dict(tier.rates)
    for band in tier.bands:
        if band.above_tokens + (not rates.threshold_inclusive) <= start:
            table.update(band.rates)
    return table


def _table_differences(mine: RateTable, theirs: RateTable) -> Iterator[tuple[str, str | None, str | None]]:
    for dimension in COMPARED:
        if dimension not in mine and dimension not in theirs:
            continue
        # One catalog writes 0 where the other writes nothing: the output of an embedding.
        rate, other = _effective(mine, dimension) or "0", _effective(theirs, dimension) or "0"
        if _differ(rate, other):
            yield dimension, mine.get(dimension), theirs.get(dimension)


def _effective(table: RateTable, dimension: str | None) -> str | None:
    """Answer the rate at which a part is billed: its own, else that of its whole."""
    while dimension is not None:
        if dimension in table:
            return table[dimension]
        dimension = PARENT_OF.get(dimension)
    return None


def _differ(rate: str, other: str) -> bool:
    one, two = Decimal(rate), Decimal(other)
    return abs(one - two) > max(one, two) * _ROUNDING

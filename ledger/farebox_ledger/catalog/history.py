"""When today's prices began: the dates that the archive knows for prices of a catalog that states none.

Comes in: prices of LiteLLM, valid always for want of a date, and prices of the archive. Goes out: the same prices, some
of them with a beginning, before which the archive's older price holds. No rate is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from farebox_ledger.pricing import Price, Rates, price_id
from farebox_ledger.pricing.names import comparable

_Name: TypeAlias = tuple[str, str]
_MainRates: TypeAlias = dict[tuple[int, str], str]  # (above how many tokens, dimension) → rate

_MAIN: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens")


def with_beginnings(prices: Iterable[Price], archive: Iterable[Price]) -> list[Price]:
    """Date the prices with which the archive's newest price of the same name agrees: they began when that one did.

    Where the two disagree, nothing is known about the beginning and the price stays valid always.
    """
    chains: dict[_Name, list[Price]] = {}
    for price in archive:
        chains.setdefault((price.provider, comparable(price.model)), []).append(price)
    return [_begun(price, chains.get((price.provider, comparable(price.model)), ())) for price in prices]


def _begun(price: Price, chain: Iterable[Price]) -> Price:
    youngest_first = sorted(chain, key=lambda one: one.effective_from_us or 0, reverse=True)
    if price.effective_from_us is not None or not youngest_first or not _agree(price.rates, youngest_first[0].rates):
        return price
    newest = _main_rates(youngest_first[0].rates)
    begin_us: int | None = None
    for one in youngest_first:
        if _main_rates(one.rates) != newest:
            return _from(price, begin_us)
        begin_us = one.effective_from_us
    return price


def _from(price: Price, begin_us: int | None) -> Price:
    identity = price_id(
        price.source, price.provider, price.model, price.rates, currency=price.currency, effective_from_us=begin_us
    )
    return msgspec.structs.replace(price, id=identity, effective_from_us=begin_us)


def _agree(rates: Rates, archived: Rates) -> bool:
    """Compare what both list; the long-context thresholds must be the same."""
    mine, theirs = _main_rates(rates), _main_rates(archived)
    common = mine.keys() & theirs.keys()
    same_thresholds = {above for above, _ in mine} == {above for above, _ in theirs}
    return (0, "input_tokens") in common and same_thresholds and all(mine[key] == theirs[key] for key in common)


def _main_rates(rates: Rates) -> _MainRates:
    tier = rates.tiers.get("standard")
    if tier is None:
        return {}
    tables = [(0, tier.rates), *((band.above_tokens, band.rates) for band in tier.bands)]
    return {(above, name): table[name] for above, table in tables for name in _MAIN if name in table}

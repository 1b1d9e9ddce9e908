"""What a new revision of a catalog would change, and whether that needs a second look. Pure.

Comes in: the prices that stand and the file as it was read. Goes out: prices added, changed, removed, refused, with the
figures that move. Decides nothing about dates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from farebox_ledger.catalog.litellm import LitellmCatalog, Refused
from farebox_ledger.pricing import Price, Rates, RateTable
from farebox_ledger.pricing.names import canonical_provider, comparable

Figures: TypeAlias = dict[str, str]
"""Prices by where they stand, such as `standard.input_tokens` or `batch>200000.output_tokens`."""

_Name: TypeAlias = tuple[str, str]

MAX_REMOVED: Final = Decimal("0.10")
"""A revision that removes a larger share of the prices waits for approval (docs/price-administration.md)."""

MAX_MOVE: Final = Decimal(5)
"""A revision that moves a price by a larger factor, up or down, waits for approval (docs/price-administration.md)."""

_MAX_NAMED: Final = 5


class Listed(msgspec.Struct, frozen=True):
    """A price that is added or removed, by its figures."""

    provider: str
    model: str
    figures: Figures


class Moved(msgspec.Struct, frozen=True):
    """A price that changes: each figure that moves, before and after; None where there is none."""

    provider: str
    model: str
    figures: dict[str, tuple[str | None, str | None]]


class Diff(msgspec.Struct, frozen=True):
    """What changes, in words that can be kept and shown."""

    added: list[Listed]
    changed: list[Moved]
    removed: list[Listed]
    refused: list[Refused]


class Difference(msgspec.Struct, frozen=True):
    """What changes, in prices. A price whose entry is refused stays as it is: a damaged entry changes nothing."""

    added: list[Price]
    changed: list[tuple[Price, Price]]
    removed: list[Price]
    refused: list[Refused]
    standing: int  # how many prices stood before

    @property
    def is_empty(self) -> bool:
        """Say whether no price changes."""
        return not (self.added or self.changed or self.removed)

    def diff(self) -> Diff:
        """Write the difference down."""
        return Diff(
            added=[_listed(price) for price in self.added],
            changed=[Moved(old.provider, old.model, _moves(old, new)) for old, new in self.changed],
            removed=[_listed(price) for price in self.removed],
            refused=self.refused,
        )

    def suspicions(self) -> list[str]:
        """Say what needs approval, in sentences; nothing where all is as usual."""
        found = []
        if len(self.removed) > MAX_REMOVED * self.standing:
            share = Decimal(100 * len(self.removed)) / self.standing
            found.append(f"removes {len(self.removed)} of {self.standing} prices ({share:.1f} %, more than 10 %)")
        jumps = [jump for old, new in self.changed for jump in _jumps(old, new)]
        if jumps:
            more = f" and {len(jumps) - _MAX_NAMED} more" if len(jumps) > _MAX_NAMED else ""
            found.append(f"moves prices by more than 5 ×: {', '.join(jumps[:_MAX_NAMED])}{more}")
        return found


def compare(standing: Iterable[Price], catalog: LitellmCatalog) -> Difference:
    """Compare the prices that stand with a new revision. Only what is charged counts, not a source's address."""
    before = {_name(price): price for price in standing}
    after = {_name(price): price for price in catalog.prices}
    kept = _refused_names(catalog.refused)
    changed = [
        (before[name], price)
        for name, price in after.items()
        if name in before and (before[name].rates, before[name].currency) != (price.rates, price.currency)
    ]
    return Difference(
        added=[price for name, price in after.items() if name not in before],
        changed=changed,
        removed=[price for name, price in before.items() if name not in after and not {name, ("", name[1])} & kept],
        refused=catalog.refused,
        standing=len(before),
    )


def _name(price: Price) -> _Name:
    return price.provider, comparable(price.model)


def _refused_names(refused: Iterable[Refused]) -> set[_Name]:
    """Answer the names that refused entries may stand for: as a whole, and behind their provider's prefix."""
    names = set()
    for entry in refused:
        names.add(("", comparable(entry.key)))
        head, slash, tail = entry.key.partition("/")
        provider = canonical_provider(head)
        if slash and provider:
            names.add((provider, comparable(tail)))
    return names


def _listed(price: Price) -> Listed:
    return Listed(price.provider, price.model, _figures(price))


def _moves(old: Price, new: Price) -> dict[str, tuple[str | None, str | None]]:
    before, after = _figures(old), _figures(new)
    return {
        place: (before.get(place), after.get(place))
        for place in sorted(before.keys() | after.keys())
        if before.get(place) != after.get(place)
    }


def _jumps(old: Price, new: Price) -> Iterator[str]:
    for place, (before, after) in _moves(old, new).items():
        if place in ("free", "currency") or (
            before is not None and after is not None and _is_jump(Decimal(before), Decimal(after))
        ):
            yield f"{old.provider}/{old.model} {place} from {before or 'none'} to {after or 'none'}"


def _is_jump(before: Decimal, after: Decimal) -> bool:
    smaller, larger = sorted((before, after))
    return larger > smaller * MAX_MOVE


def _figures(price: Price) -> Figures:
    return dict(_each_figure(price.rates)) | ({} if price.currency == "USD" else {"currency": price.currency})


def _each_figure(rates: Rates) -> Iterator[tuple[str, str]]:
    for name, tier in rates.tiers.items():
        yield from _table(name, tier.rates)
        for band in tier.bands:
            yield from _table(f"{name}>{band.above_tokens}", band.rates)
    yield from _table("tier_factor", rates.tier_factors)
    yield from _table("region_factor", rates.region_factors)
    for name, variants in rates.variants.items():
        yield from _table(f"variant.{name}", variants)
    yield from _table("unmeasured", rates.unmeasured)
    if rates.off_peak:
        yield from _table("off_peak", rates.off_peak.rates)
    if rates.web_search:
        search = rates.web_search
        yield from _table("web_search", {"low": search.low, "medium": search.medium, "high": search.high})
    if rates.free:
        yield "free", "yes"


def _table(place: str, table: RateTable | Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, rate in table.items():
        yield f"{place}.{name}", rate

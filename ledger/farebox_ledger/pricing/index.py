"""The prices of one catalog version by provider and name, and all that changes how they are found.

Comes in: prices, aliases, multipliers, policy. `resolver` asks it; nothing here chooses between prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from farebox_ledger.pricing.names import FIRST_PARTIES, canonical_provider, comparable, without_date
from farebox_ledger.pricing.plan import CompiledPrice
from farebox_ledger.pricing.price import ModelAlias, Multiplier, Policy, Price, PriceSource
from farebox_ledger.pricing.rates import overlay

NameKey: TypeAlias = tuple[str, str]  # (canonical provider, comparable model name)
PricesByName: TypeAlias = dict[NameKey, list[Price]]

_SOURCE_RANK: Final[dict[PriceSource, int]] = {"override": 0, "litellm": 1, "genai-prices": 2}


class PriceIndex:
    """Dictionaries from exact names to prices, each list in its order of precedence. Not changed once it is made."""

    def __init__(
        self,
        prices: Iterable[Price],
        aliases: Iterable[ModelAlias],
        multipliers: Iterable[Multiplier],
        policy: Policy,
        policies: Mapping[int, Policy],
    ) -> None:
        """Sort the prices in: overrides by organization (None for everybody), all others into the catalog."""
        self.catalog: PricesByName = {}
        self.overrides: dict[int | None, PricesByName] = {}
        self.providers: set[str] = set()
        self.makers: dict[str, set[str]] = {}  # name → the first parties that list it
        self.dated: dict[NameKey, list[NameKey]] = {}  # undated name → its dated siblings
        self.aliases: dict[str, list[ModelAlias]] = {}
        for alias in aliases:
            self.aliases.setdefault(comparable(alias.alias), []).append(alias)
        self.multipliers = tuple(multipliers)
        self._policy = policy
        self._policies = dict(policies)
        self._compiled: dict[tuple[str, ...], CompiledPrice] = {}
        for price in prices:
            self._add(price)
        for listed in self._lists():
            listed.sort(key=_precedence)
        self.organizations = {
            *self.overrides, *self._policies, *(one.org_id for one in self.multipliers),
            *(alias.org_id for named in self.aliases.values() for alias in named),
        }  # fmt: skip
        self.upstreams = {multiplier.upstream for multiplier in self.multipliers}

    def __iter__(self) -> Iterator[Price]:
        """Go through all prices, in no promised order."""
        for listed in self._lists():
            yield from listed

    def policy(self, org_id: int | None) -> Policy:
        """Answer the policy of an organization, the common one where it has set none."""
        return self._policy if org_id is None else self._policies.get(org_id, self._policy)

    def compiled(self, price: Price, below: Price | None) -> CompiledPrice:
        """Answer a price ready for arithmetic, laid over the one below it where it inherits."""
        key = (price.id, below.id) if below else (price.id,)
        compiled = self._compiled.get(key)
        if compiled is None:
            rates = overlay(below.rates, price.rates) if below else None
            compiled = self._compiled[key] = CompiledPrice(price, rates)
        return compiled

    def _lists(self) -> Iterator[list[Price]]:
        for by_name in (self.catalog, *self.overrides.values()):
            yield from by_name.values()

    def _add(self, price: Price) -> None:
        name = comparable(price.model)
        provider = canonical_provider(price.provider) or ""
        key = (provider, name)
        self.providers.add(provider)
        if provider in FIRST_PARTIES:
            self.makers.setdefault(name, set()).add(provider)
        if price.source == "override":
            self.overrides.setdefault(price.org_id, {}).setdefault(key, []).append(price)
            return
        listed = self.catalog.setdefault(key, [])
        listed.append(price)
        undated = without_date(name) if len(listed) == 1 else None
        if undated:
            self.dated.setdefault((provider, undated), []).append(key)


def _precedence(price: Price) -> tuple[int, bool, int]:
    """Order the prices of one name: by source, and inside a source the youngest first."""
    begin = price.effective_from_us
    return _SOURCE_RANK[price.source], begin is None, -(begin or 0)

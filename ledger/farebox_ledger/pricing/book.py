"""The price book: which price holds for a call, and what the call costs by it.

Comes in: all prices, aliases and multipliers of one catalog version. Immutable apart from what it remembers; never
reads a database, never guesses a name.

Precedence (docs/pricing.md): an override of the organization, a global override, then the catalogs candidate by
candidate (LiteLLM before the genai-prices archive), then prices that their source has retired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from farebox_ledger.pricing.calculate import calculate, unpriced
from farebox_ledger.pricing.charge import Charge, PricingRequest
from farebox_ledger.pricing.configurations import Configurations, ModelConfiguration
from farebox_ledger.pricing.index import PriceIndex
from farebox_ledger.pricing.match import Match, NoMatch
from farebox_ledger.pricing.price import ModelAlias, Multiplier, Policy, Price
from farebox_ledger.pricing.resolver import PriceSearch, Resolution

_MAX_REMEMBERED: Final = 100_000
"""Calls whose resolution is remembered; beyond it the memory starts anew. Senders choose model names freely."""

_MAX_NAME: Final = 256
"""A longer model name is looked up each time, so that names cannot fill the memory."""


class PriceBook:
    """All prices of one catalog version, ready to resolve and to charge."""

    def __init__(
        self,
        prices: Iterable[Price],
        version: int,
        *,
        aliases: Iterable[ModelAlias] = (),
        multipliers: Iterable[Multiplier] = (),
        policy: Policy | None = None,
        policies: Mapping[int, Policy] | None = None,
        configurations: Iterable[ModelConfiguration] = (),
    ) -> None:
        """Index the prices by provider and name. `version` is the catalog version that they were read at.

        `policies` are those of organizations that have their own instead of `policy`. `configurations` has nothing to
        do with prices; it is kept here because it changes with the catalog's version too.
        """
        self.version = version
        aliases = tuple(aliases)
        self.configurations = Configurations(configurations, aliases)
        self._index = PriceIndex(prices, aliases, multipliers, policy or Policy(), policies or {})
        self._remembered: dict[tuple[object, ...], list[Resolution]] = {}

    def __len__(self) -> int:
        """Count the prices, dated ones each."""
        return sum(1 for _ in self._index)

    def prices(self) -> Iterator[Price]:
        """Go through all prices, in no promised order."""
        return iter(self._index)

    def policy(self, org_id: int | None) -> Policy:
        """Answer the policy of an organization, the common one where it has set none."""
        return self._index.policy(org_id)

    def charge(self, request: PricingRequest) -> Charge:
        """Price one call. Never raises for an unknown model or odd usage: status, reason and detail say what is so."""
        answer = self.resolve(request)
        if isinstance(answer, NoMatch):
            return unpriced(answer, request)
        return calculate(answer, request)

    def resolve(self, request: PricingRequest) -> Match | NoMatch:
        """Find the price that holds at the request's time, by exact names only."""
        index = self._index
        org_id = request.org_id if request.org_id in index.organizations else None
        upstream = request.upstream if request.upstream in index.upstreams else None
        call = (request.provider, request.response_model, request.request_model, request.region, org_id, upstream)
        at_us = request.at_us
        remembered = self._remembered.get(call)
        if remembered is not None:
            for entry in remembered:
                if entry.from_us <= at_us < entry.to_us:
                    return entry.answer
        resolution = PriceSearch(index, request, org_id, upstream).run()
        if all(len(part) <= _MAX_NAME for part in call[:4] if part is not None):
            self._remember(call, resolution)
        return resolution.answer

    def _remember(self, call: tuple[object, ...], resolution: Resolution) -> None:
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered.setdefault(call, []).append(resolution)

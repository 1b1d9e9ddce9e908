"""Which names of the catalog look like one that has no price: suggestions for people, never applied by themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final, TypeAlias

import msgspec

from farebox_ledger.pricing.names import FIRST_PARTIES, canonical_provider, comparable
from farebox_ledger.pricing.price import Price

MAX_SUGGESTIONS: Final = 3
LEAST_LIKENESS: Final = 0.6
"""The share of characters in common below which a name is another name (`difflib`'s own default)."""

_MAX_NAME: Final = 256  # senders choose how long a model name is; comparing two names takes their product
_COMPARED: Final = 30

_Pairs: TypeAlias = frozenset[str]


class Suggestion(msgspec.Struct, frozen=True):
    """A name of the catalog; `likeness` is 1 for the very name at another provider."""

    provider: str
    model: str
    likeness: float


class Suggestions:
    """The names of one catalog version, ready to be compared with others."""

    def __init__(self, prices: Iterable[Price]) -> None:
        """Sort the names in by provider; the same name counts once."""
        self._names: dict[str, dict[str, str]] = defaultdict(dict)
        for price in prices:
            self._names[price.provider].setdefault(comparable(price.model), price.model)
        self._pairs: dict[str, list[tuple[_Pairs, str]]] = {}

    def nearest(self, provider: str | None, model: str | None) -> list[Suggestion]:
        """Name the likest models of the provider, best first.

        Of a provider that the catalog does not know, or none, the makers that have the very name are suggested.
        """
        if not model or len(model) > _MAX_NAME:
            return []
        name = comparable(model)
        known = canonical_provider(provider)
        if known is None or known not in self._names:
            makers = sorted(maker for maker in FIRST_PARTIES & self._names.keys() if name in self._names[maker])
            return [Suggestion(maker, self._names[maker][name], 1.0) for maker in makers[:MAX_SUGGESTIONS]]
        scored = [
            (round(SequenceMatcher(None, other, name).ratio(), 3), other) for other in self._compared(known, name)
        ]
        best = sorted((-likeness, other) for likeness, other in scored if likeness >= LEAST_LIKENESS)
        return [Suggestion(known, self._names[known][other], -likeness) for likeness, other in best[:MAX_SUGGESTIONS]]

    def _compared(self, provider: str, name: str) -> list[str]:
        """Choose the names worth a comparison in full: those with the most pairs of characters in common."""
        pairs = self._pairs.get(provider)
        if pairs is None:
            pairs = self._pairs[provider] = [(_pairs(other), other) for other in self._names[provider]]
        wanted = _pairs(name)
        shares = sorted((-2 * len(wanted & have) / (len(wanted) + len(have) or 1), other) for have, other in pairs)
        return [other for _, other in shares[:_COMPARED]]


def _pairs(name: str) -> _Pairs:
    return frozenset(name[at : at + 2] for at in range(len(name) - 1))

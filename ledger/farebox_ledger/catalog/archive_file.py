"""The shape of `genai-prices.json`, the data of genai-prices as farebox ships it.

`genai_wheel` writes it when a maintainer renews the snapshot, `genai_prices` reads it. Figures and unit names are those
of genai-prices; what farebox makes of them is decided by the reader.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TypeAlias

import msgspec


class ArchivedUnit(msgspec.Struct, frozen=True):
    """What a price key such as `input_mtok` prices: how many (`per`) of which usage (`input_tokens`)."""

    usage: str
    per: int


class TieredRate(msgspec.Struct, frozen=True, array_like=True):
    """A rate that changes for the whole request when its total input exceeds a start: `(start, rate)`, rising."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...]


ListedRate: TypeAlias = Decimal | TieredRate


class DatedRates(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rates by price key, in USD per unit of the key.

    They hold from the UTC day `since` (None: always), or between two minutes of every UTC day, the end excluded. Of
    several that hold the last one counts.
    """

    rates: dict[str, ListedRate]
    since: date | None = None
    minutes: tuple[int, int] | None = None


class ContextRates(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rates of a special kind of request, such as `{"processing": "batch"}`. A missing price key keeps its rate."""

    when: dict[str, str]
    rates: dict[str, ListedRate]
    since: date | None = None


class ArchivedModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model under genai-prices' id. `names` are the exact names by which it is called, the id only if it is one.

    `is_borrowed` marks a price that genai-prices took from another seller of the model, for want of the provider's own.
    """

    id: str
    names: tuple[str, ...]
    prices: tuple[DatedRates, ...]
    variants: tuple[ContextRates, ...] = ()
    is_borrowed: bool = False


class ArchivedProvider(msgspec.Struct, frozen=True, omit_defaults=True):
    """One provider under genai-prices' id, with its price page."""

    id: str
    models: tuple[ArchivedModel, ...]
    url: str | None = None


class Archive(msgspec.Struct, frozen=True):
    """The whole file. `inexact_clauses` counts, by kind, the name patterns of genai-prices that were left out."""

    revision: str
    units: dict[str, ArchivedUnit]
    providers: tuple[ArchivedProvider, ...]
    inexact_clauses: dict[str, int]

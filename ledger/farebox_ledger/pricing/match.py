"""The answer of the resolver: a price and how it was found, or why there is none."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from farebox_ledger.pricing.charge import PriceReference
from farebox_ledger.pricing.plan import CompiledPrice
from farebox_ledger.pricing.price import Price
from farebox_ledger.usage import Reason


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """The price that holds for a call. `rejected` says what else was considered and why it lost.

    `assumed` says why the price is second best (archived, retired), None where it is plainly the price.
    `multiplier` None means 1.
    """

    compiled: CompiledPrice
    reference: PriceReference
    rejected: tuple[str, ...] = ()
    assumed: str | None = None
    multiplier: Decimal | None = None
    multiplier_text: str | None = None
    multiplier_id: str | None = None

    @property
    def price(self) -> Price:
        """The price row that was found."""
        return self.compiled.price


class NoMatch(msgspec.Struct, frozen=True, kw_only=True):
    """No price holds for a call: the reason, what it is about, and the candidates that were tried in their order."""

    reason: Reason
    detail: str
    provider: str | None
    model: str | None
    tried: tuple[str, ...] = ()

"""What usage without a price might have cost: a guess by average rates, for people who decide what to repair first.

Comes in: the prices of a book and the tokens of a group of rows. Goes out: a labelled amount. It is never a charge: no
row, sum, balance or budget knows of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from farebox_ledger.pricing.names import canonical_provider
from farebox_ledger.pricing.price import ARCHIVE, Price

CURRENCY: Final = "USD"
"""The catalog's; prices in other currencies are in no average."""
_PRECISION: Final = Decimal("0.000001")  # more digits would look like knowledge


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens at average rates. `provider` is whose models were averaged, None all of the catalog; `models` how many."""

    amount: Decimal
    provider: str | None
    models: int


class _Sum(msgspec.Struct):
    input_rate: Decimal = Decimal(0)
    output_rate: Decimal = Decimal(0)
    models: int = 0


class AverageRates:
    """The mean standard rates of the models that are sold by token at one moment, by provider and overall."""

    def __init__(self, prices: Iterable[Price], at_us: int) -> None:
        """Average what holds at `at_us`; the archive, retired models and other currencies are left out."""
        self._sums: dict[str | None, _Sum] = defaultdict(_Sum)  # None is everybody's
        for price in prices:
            rates = price.rates.standard
            is_sold = price.source != ARCHIVE and not price.retired and price.is_valid_at(at_us)
            if is_sold and price.currency == CURRENCY and {"input_tokens", "output_tokens"} <= rates.keys():
                self._add(price.provider, Decimal(rates["input_tokens"]), Decimal(rates["output_tokens"]))

    def _add(self, provider: str, input_rate: Decimal, output_rate: Decimal) -> None:
        for total in (self._sums[provider], self._sums[None]):
            total.input_rate += input_rate
            total.output_rate += output_rate
            total.models += 1

    def estimate(self, provider: str | None, input_tokens: int, output_tokens: int) -> Estimate | None:
        """Price tokens, cached ones like others, at the provider's average, or at everybody's where it sells nothing.

        None where there are no tokens, or no rates at all.
        """
        known = canonical_provider(provider)
        known = known if known in self._sums else None
        total = self._sums[known]
        if not total.models or not (input_tokens or output_tokens):
            return None
        amount = (input_tokens * total.input_rate + output_tokens * total.output_rate) / total.models
        return Estimate(amount=amount.quantize(_PRECISION), provider=known, models=total.models)

"""Prices by the unit in which people state them: per token, per thousand or per million tokens.

Comes in: a decimal as an administrator wrote it. Goes out: the exact text of the price of a single token, and back.
Only tokens have units; a price per image, second, character, page, search or request is always that of a single one.
"""

from __future__ import annotations

from decimal import Context, Decimal
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

import msgspec

from farebox_ledger.errors import InvalidInput
from farebox_ledger.money import decimal_text
from farebox_ledger.pricing.rates import DIMENSIONS, Band, OffPeak, Rates, RateTable, Tier

Unit: TypeAlias = Literal["token", "1k", "1m"]

_ZEROS: Final[dict[Unit, int]] = {"token": 0, "1k": 3, "1m": 6}
_EXACT: Final = Context(prec=60)

MAX_PRICE: Final = Decimal(1_000_000)
"""No single unit of anything costs more; a larger number is a slip."""

MAX_DECIMALS: Final = 12
"""Decimal places that a stated number may have; money ends there too."""


def checked_decimal(field: str, value: Decimal, *, most: Decimal) -> Decimal:
    """Refuse what is no plain amount: not finite, negative, beyond `most`, or finer than 12 decimal places.

    Raises:
        InvalidInput: names the field.
    """
    if not value.is_finite():
        raise InvalidInput(field, f"expected a finite number, got {value}")
    if value < 0:
        raise InvalidInput(field, f"expected a number from 0, got {value:.12g}")
    if value > most:
        raise InvalidInput(field, f"expected at most {most:f}, got {value:.12g}")
    if _decimals(value) > MAX_DECIMALS:
        raise InvalidInput(field, f"expected at most {MAX_DECIMALS} decimal places, got {_decimals(value)}")
    return value


def single_price(field: str, dimension: str, stated: Decimal, unit: Unit | None) -> str:
    """Read a stated price as the canonical text of the price of a single unit of the dimension.

    Raises:
        InvalidInput: no such dimension, no usable number, or a price of tokens without its unit.
    """
    if dimension not in DIMENSIONS:
        close = get_close_matches(dimension, DIMENSIONS, n=1)
        cure = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(sorted(DIMENSIONS))}"
        raise InvalidInput(field, f"{dimension[:64]!r} is nothing that has a price; {cure}")
    zeros = 0
    if is_token(dimension):
        if unit is None:
            raise InvalidInput("unit", "say whether prices of tokens are per token, 1k or 1m")
        zeros = _ZEROS[unit]
    checked_decimal(field, stated, most=MAX_PRICE.scaleb(zeros))
    return decimal_text(stated.scaleb(-zeros, _EXACT))


def stated_price(dimension: str, single: str, unit: Unit) -> str:
    """Write the price of a single unit in the unit that people asked for."""
    return decimal_text(Decimal(single).scaleb(_ZEROS[unit], _EXACT)) if is_token(dimension) else single


def is_token(dimension: str) -> bool:
    """Say whether a dimension counts tokens, so that its price has a unit."""
    return dimension.endswith("_tokens")


def rates_in_unit(rates: Rates, unit: Unit) -> Rates:
    """Write all prices of tokens in a unit, for people to read; what comes out must not be charged with."""
    if unit == "token":
        return rates
    return msgspec.structs.replace(
        rates,
        tiers={name: _tier_in_unit(tier, unit) for name, tier in rates.tiers.items()},
        off_peak=_off_peak_in_unit(rates.off_peak, unit),
        variants={
            dimension: {name: stated_price(dimension, rate, unit) for name, rate in variants.items()}
            for dimension, variants in rates.variants.items()
        },
    )


def table_in_unit(table: RateTable, unit: Unit) -> RateTable:
    """Write one table of prices in a unit."""
    return {dimension: stated_price(dimension, rate, unit) for dimension, rate in table.items()}


def _tier_in_unit(tier: Tier, unit: Unit) -> Tier:
    bands = tuple(Band(band.above_tokens, table_in_unit(band.rates, unit)) for band in tier.bands)
    return Tier(table_in_unit(tier.rates, unit), bands)


def _off_peak_in_unit(off_peak: OffPeak | None, unit: Unit) -> OffPeak | None:
    if off_peak is None:
        return None
    return msgspec.structs.replace(off_peak, rates=table_in_unit(off_peak.rates, unit))


def _decimals(value: Decimal) -> int:
    """Count decimal places without trailing zeros, whatever the exponent."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    trailing = 0
    while trailing < len(digits) and digits[-1 - trailing] == 0:
        trailing += 1
    return 0 if trailing == len(digits) else max(0, -exponent - trailing)

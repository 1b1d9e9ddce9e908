"""Exact money: integer pico-units (1e-12) of a currency, and the one place where anything is rounded.

An amount on a row or an entry is one integer; sums that may outgrow 64 bits are two, whole units and pico. Decimal
stands in Python, decimal strings in JSON. No float comes near.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from farebox_ledger.errors import AmountTooLarge

PICO: Final = 10**12
"""Pico-units in one unit of currency."""

MAX_AMOUNT_PICO: Final = 9_000_000 * PICO
"""The largest amount of one row: 2**63 pico is 9.22 million units, and a sum of a row's parts must still fit."""

_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_PICO_DECIMAL: Final = Decimal(PICO)


def line_amount(quantity: Decimal | int, unit_price: Decimal, multiplier: Decimal) -> int:
    """Quantity × unit price × multiplier in pico-units, rounded half-even: the only rounding in the books.

    Raises:
        AmountTooLarge: the amount is beyond 9,000,000 units.
    """
    exact = _EXACT.multiply(_EXACT.multiply(_EXACT.multiply(Decimal(quantity), unit_price), multiplier), _PICO_DECIMAL)
    pico = int(exact.to_integral_value(ROUND_HALF_EVEN, _EXACT))
    if not -MAX_AMOUNT_PICO <= pico <= MAX_AMOUNT_PICO:
        raise AmountTooLarge(
            "amount", f"{exact / _PICO_DECIMAL:f} is beyond 9000000 units, the most that one row holds"
        )
    return pico


def converted(pico: int, rate: Decimal) -> int:
    """Pico-units × rate in pico-units of what the rate leads to, rounded half-even; as large as it comes."""
    return int(_EXACT.multiply(Decimal(pico), rate).to_integral_value(ROUND_HALF_EVEN, _EXACT))


def to_pico(amount: Decimal) -> int:
    """Turn an amount in whole units into pico-units, rounding half-even below 1e-12.

    Raises:
        AmountTooLarge: the amount is beyond 9,000,000 units.
    """
    return line_amount(1, amount, Decimal(1))


def from_pico(pico: int) -> Decimal:
    """Turn pico-units into an exact amount in whole units."""
    return Decimal(pico).scaleb(-12, _EXACT)


def pico_text(pico: int) -> str:
    """Write pico-units as a plain decimal string without trailing zeros: 10500000000 → "0.0105"."""
    return decimal_text(from_pico(pico))


def decimal_text(value: Decimal) -> str:
    """Write a finite decimal in its one canonical form: no exponent, no trailing zeros, no minus zero."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def split(pico: int) -> tuple[int, int]:
    """Split pico-units into (whole units, remaining pico); the remainder is never negative."""
    return divmod(pico, PICO)


def join(units: int, pico: int) -> int:
    """Undo `split`, also for sums of parts whose pico have outgrown one unit."""
    return units * PICO + pico

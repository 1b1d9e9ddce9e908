"""Exact decimals in bodies, read digit by digit: money as text or whole numbers, ratios as any number too.

A fraction as a JSON number was most likely a float of the sender, and has lost digits before it came; what is paid must
not rest on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from farebox_api.errors import Fault, InvalidRequest

DecimalInput: TypeAlias = Annotated[
    str | int, Meta(description="Exact decimal, as a string; a whole number may be one.", examples=["2.5"])
]
RatioInput: TypeAlias = Annotated[
    str | int | float,
    Meta(description="Exact decimal, as a string or as a number; both are read digit by digit.", examples=["2.5"]),
]

_DECIMAL: Final = re.compile(r"[+-]?\d{1,100}(\.\d{1,100})?([eE][+-]?\d{1,6})?|[+-]?(NaN|Infinity)", re.ASCII)
_FRACTION: Final = re.compile(rb"-?\d+[.eE].*", re.DOTALL)
_EXPECTED: Final = 'expected a decimal such as "2.5"'


def decimal_of(pointer: str, raw: msgspec.Raw) -> Decimal:
    """Read an amount or a price; whether its value can be used is the ledger's to say.

    Raises:
        InvalidRequest: it is no decimal, or a JSON number with a fraction; points at it.
    """
    if _FRACTION.fullmatch(bytes(raw)):
        raise InvalidRequest(Fault(f"{_EXPECTED} as text: a number with a fraction may be a float", pointer=pointer))
    return ratio_of(pointer, raw)


def ratio_of(pointer: str, raw: msgspec.Raw) -> Decimal:
    """Read a factor or a percentage, as `decimal_of`, also from a number with a fraction.

    Raises:
        InvalidRequest: it is no decimal; points at it.
    """
    value = msgspec.json.decode(raw, type=object) if bytes(raw).startswith(b'"') else bytes(raw).decode()
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise InvalidRequest(Fault(f"{_EXPECTED}, got {str(value)[:64]!r}", pointer=pointer))
    return Decimal(value)


def decimals_of(pointer: str, raws: Mapping[str, msgspec.Raw]) -> dict[str, Decimal]:
    """Read decimals by name.

    Raises:
        InvalidRequest: one is no decimal; points at it.
    """
    return {name: decimal_of(_below(pointer, name), raw) for name, raw in raws.items()}


def changes_of(pointer: str, raws: Mapping[str, msgspec.Raw]) -> dict[str, Decimal | None]:
    """Read decimals by name, where null takes one away.

    Raises:
        InvalidRequest: one is no decimal and not null; points at it.
    """
    return {
        name: None if bytes(raw) == b"null" else decimal_of(_below(pointer, name), raw) for name, raw in raws.items()
    }


def _below(pointer: str, name: str) -> str:
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"

"""How single values are written: money, times, months, ids. Each has one form in the whole API."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, TypeAlias

from msgspec import Meta

from farebox_ledger.money import decimal_text, pico_text

Money: TypeAlias = Annotated[
    str, Meta(pattern=r"^-?\d+(\.\d{1,12})?$", description="Exact decimal amount in units of `currency`.")
]
DecimalText: TypeAlias = Annotated[str, Meta(pattern=r"^-?\d+(\.\d+)?$", description="Exact decimal number.")]
Timestamp: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$",
        description="RFC 3339 in UTC, with microseconds.",
        extra_json_schema={"format": "date-time"},
    ),
]
Month: TypeAlias = Annotated[str, Meta(pattern=r"^\d{4}-\d\d$", description="A calendar month in UTC.")]
Count: TypeAlias = Annotated[int, Meta(ge=0)]


def money(pico: int | None) -> str | None:
    """Write pico-units as an exact amount; None, not known, stays null."""
    return None if pico is None else pico_text(pico)


def decimal(value: Decimal | None) -> str | None:
    """Write an exact decimal; None stays null."""
    return None if value is None else decimal_text(value)


def timestamp(time_us: int) -> str:
    """Write microseconds since 1970 in UTC."""
    seconds, microseconds = divmod(time_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{microseconds:06d}Z"


def optional_timestamp(time_us: int | None) -> str | None:
    """Write microseconds since 1970 in UTC; None stays null."""
    return None if time_us is None else timestamp(time_us)


def month_text(month: int) -> str:
    """Write 202611 as `2026-11`."""
    return f"{month // 100:04d}-{month % 100:02d}"


def usage_id_text(day: int, usage_id: bytes) -> str:
    """Write a row's outward id, `YYYYMMDD-<32 hex>`."""
    return f"{day:08d}-{usage_id.hex()}"

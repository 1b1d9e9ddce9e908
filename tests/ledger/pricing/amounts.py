"""How tests write times and amounts, without the code under test."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

TUESDAY_NOON_US = 1_793_707_200_000_000  # 2026-11-03T12:00:00Z


def pico(dollars: str) -> int:
    """Write an expected amount of dollars as pico-units: "0.0105" is 10500000000."""
    return int(Decimal(dollars) * 10**12)


def at(moment: str) -> int:
    """Write a moment such as 2026-11-03T12:00:00+00:00 in microseconds."""
    return int(datetime.fromisoformat(moment).astimezone(UTC).timestamp()) * 1_000_000

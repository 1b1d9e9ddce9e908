"""Times and days as the commands take and print them."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def moment(value: str) -> int:
    """Read an RFC 3339 time with an offset as microseconds since 1970 in UTC, for argparse."""
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{value!r}: expected RFC 3339 with an offset, such as 2026-11-01T00:00:00Z")
    return (read - _EPOCH) // _MICROSECOND


def day(value: str) -> int:
    """Read a UTC day as the number YYYYMMDD, for argparse."""
    try:
        read = date.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r}: expected a UTC day such as 2026-11-01") from None
    return read.year * 10_000 + read.month * 100 + read.day


def time_text(time_us: int) -> str:
    """Write microseconds since 1970 in UTC as RFC 3339."""
    return (_EPOCH + time_us * _MICROSECOND).isoformat().replace("+00:00", "Z")


def day_text(number: int) -> str:
    """Write the day YYYYMMDD as YYYY-MM-DD."""
    return f"{number // 10_000:04d}-{number // 100 % 100:02d}-{number % 100:02d}"

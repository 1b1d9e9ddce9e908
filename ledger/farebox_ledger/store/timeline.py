"""Days as numbers, and the bounds of hours, days, weeks and months in any time zone.

Microseconds since 1970 in UTC and numbers YYYYMMDD come in and go out. Pure: no clock, no database.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from farebox_ledger.errors import InvalidInput

Bucket: TypeAlias = Literal["none", "hour", "day", "week", "month"]

DAY_US: Final = 86_400_000_000
HOUR_US: Final = 3_600_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()


def day_start_us(day: int) -> int:
    """Say when a UTC day begins."""
    return (_date(day).toordinal() - _EPOCH) * DAY_US


def next_day(day: int) -> int:
    """Name the day after."""
    return _number(_date(day) + timedelta(days=1))


def days_from(first: int, before: int) -> Iterator[int]:
    """Count days YYYYMMDD from one up to, but not including, another."""
    while first < before:
        yield first
        first = next_day(first)


@cache
def nearby_days(day: int) -> tuple[int, int, int]:
    """Name the day before, the day and the day after: where a span may stand that was sent with another end."""
    return _number(_date(day) - timedelta(days=1)), day, next_day(day)


def month_days(month: int) -> tuple[int, int]:
    """Name the first day of a month YYYYMM and the first day of the next one."""
    first = date(month // 100, month % 100, 1)
    return _number(first), _number(_next_month(first))


def zone(name: str) -> tzinfo:
    """Find a time zone of the IANA database, which small images lack; UTC needs none.

    Raises:
        InvalidInput: there is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidInput("tz", f"{name!r} is no time zone; expected an IANA name such as Europe/Istanbul") from None


def bucket_bounds(start_us: int, end_us: int, bucket: Bucket, tz: tzinfo) -> list[int]:
    """List the bounds of the zone's buckets that cover a range, from one at or before its start to one at or after it.

    A bucket is the time from one bound to the next. On the days on which clocks change, an hour may come twice, be
    shorter, or be missing, and a day has 23 or 25 hours. Bucket `none` is the range itself.
    """
    if bucket == "none" or end_us <= start_us:
        return [start_us, end_us]
    if bucket == "hour":
        return _hour_bounds(start_us, end_us, tz)
    return _date_bounds(start_us, end_us, bucket, tz)


def _date_bounds(start_us: int, end_us: int, bucket: Bucket, tz: tzinfo) -> list[int]:
    first = datetime.fromtimestamp(start_us // 1_000_000, tz).date()
    if bucket == "week":
        first -= timedelta(days=first.weekday())
    elif bucket == "month":
        first = first.replace(day=1)
    bounds: list[int] = []
    for day in _dates(first, bucket):
        bound = _midnight_us(day, tz)
        if not bounds or bound > bounds[-1]:  # a date that a zone skipped has no time in it
            bounds.append(bound)
        if bound >= end_us:
            return bounds
    raise AssertionError("dates never end")


def _dates(first: date, bucket: Bucket) -> Iterator[date]:
    while True:
        yield first
        if bucket == "month":
            first = _next_month(first)
        else:
            first += timedelta(days=7 if bucket == "week" else 1)


def _hour_bounds(start_us: int, end_us: int, tz: tzinfo) -> list[int]:
    bound = _midnight_us(datetime.fromtimestamp(start_us // 1_000_000, tz).date(), tz)
    bounds = [bound]
    while bound < end_us:
        # Full hours by the wall clock: after a change by half an hour the next full hour is half an hour away.
        local = datetime.fromtimestamp(bound // 1_000_000, tz)
        bound += HOUR_US - (local.minute * 60 + local.second) * 1_000_000
        bounds.append(bound)
    begin = max((at for at, bound in enumerate(bounds) if bound <= start_us), default=0)
    return bounds[begin:]


def _midnight_us(day: date, tz: tzinfo) -> int:
    """Say when a date begins in a zone. Where clocks skip midnight, that is the moment at which they do."""
    return int(datetime(day.year, day.month, day.day, tzinfo=tz).timestamp()) * 1_000_000


def _next_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def _date(day: int) -> date:
    return date(day // 10_000, day // 100 % 100, day % 100)


def utc(time_us: int) -> datetime:
    """Turn microseconds into an aware time, exact to the microsecond."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC) + timedelta(microseconds=time_us % 1_000_000)

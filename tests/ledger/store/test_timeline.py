from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox_ledger.errors import InvalidInput
from farebox_ledger.store.timeline import (
    Bucket,
    bucket_bounds,
    day_start_us,
    month_days,
    nearby_days,
    next_day,
    utc,
    zone,
)
from tests.ledger.store.bookings import at


def bounds(start: str, end: str, bucket: Bucket, tz: str) -> list[str]:
    found = bucket_bounds(at(start), at(end), bucket, ZoneInfo(tz))
    return [utc(bound).strftime("%m-%dT%H:%M") for bound in found]


def test_days_know_their_neighbors_and_their_begin() -> None:
    assert nearby_days(20260301) == (20260228, 20260301, 20260302)
    assert next_day(20271231) == 20280101
    assert month_days(202612) == (20261201, 20270101)
    assert day_start_us(20260310) == at("2026-03-10T00:00:00Z")


def test_an_unknown_zone_is_named() -> None:
    for name in ("Mars/Olympus", "", "/etc/passwd", "../x"):
        with pytest.raises(InvalidInput, match="no time zone"):
            zone(name)


@pytest.mark.parametrize(
    ("bucket", "tz", "expected"),
    [
        ("hour", "UTC", ["03-10T10:00", "03-10T11:00", "03-10T12:00"]),
        ("hour", "Asia/Kathmandu", ["03-10T10:15", "03-10T11:15", "03-10T12:15"]),
        ("day", "UTC", ["03-10T00:00", "03-11T00:00"]),
        ("day", "Europe/Istanbul", ["03-09T21:00", "03-10T21:00"]),
        ("week", "UTC", ["03-09T00:00", "03-16T00:00"]),
        ("month", "Asia/Kolkata", ["02-28T18:30", "03-31T18:30"]),
        ("none", "UTC", ["03-10T10:20", "03-10T11:40"]),
    ],
)
def test_buckets_cover_the_range(bucket: Bucket, tz: str, expected: list[str]) -> None:
    assert bounds("2026-03-10T10:20:00Z", "2026-03-10T11:40:00Z", bucket, tz) == expected


def test_the_day_on_which_clocks_go_forward_has_23_hours() -> None:
    assert bounds("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "day", "Europe/Berlin") == [
        "03-28T23:00",
        "03-29T22:00",
    ]
    assert len(bounds("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "hour", "Europe/Berlin")) == 24


def test_the_day_on_which_clocks_go_back_has_25_hours() -> None:
    assert len(bounds("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", "hour", "Europe/Berlin")) == 26


def test_where_clocks_change_by_half_an_hour_one_hour_is_short() -> None:
    # Lord Howe, 5 April 2026: at 02:00 (+11:00) clocks go back to 01:30 (+10:30).
    assert bounds("2026-04-05T01:00:00+11:00", "2026-04-05T03:00:00+10:30", "hour", "Australia/Lord_Howe") == [
        "04-04T14:00",
        "04-04T15:00",
        "04-04T15:30",
        "04-04T16:30",
    ]


def test_a_midnight_that_clocks_skip_is_the_moment_at_which_they_do() -> None:
    # Cairo, 24 April 2026: at 00:00 (+02:00) clocks go forward to 01:00.
    assert bounds("2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00", "day", "Africa/Cairo") == [
        "04-23T22:00",
        "04-24T21:00",
    ]


@given(
    start=st.integers(at("2020-01-01T00:00:00Z"), at("2037-01-01T00:00:00Z")),
    length=st.integers(1, 20 * 86_400_000_000),
    bucket=st.sampled_from(["hour", "day", "week", "month"]),
    tz=st.sampled_from(
        ["UTC", "Europe/Istanbul", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Cairo",
         "America/St_Johns", "Pacific/Chatham", "Africa/Casablanca", "America/Santiago"]
    ),
)  # fmt: skip
def test_buckets_are_those_of_the_wall_clock(start: int, length: int, bucket: Bucket, tz: str) -> None:
    found = bucket_bounds(start, start + length, bucket, ZoneInfo(tz))

    assert found == sorted(set(found))
    assert found[0] <= start < found[1]
    assert found[-2] < start + length <= found[-1]
    for lower, upper in pairwise(found):
        assert _label(lower, bucket, tz) == _label(upper - 1, bucket, tz)
        assert lower % 900_000_000 == 0


def _label(time_us: int, bucket: Bucket, tz: str) -> tuple[object, ...]:
    local = datetime.fromtimestamp(time_us // 1_000_000, UTC).astimezone(ZoneInfo(tz))
    labels: dict[str, tuple[object, ...]] = {
        "hour": (local.date(), local.hour),
        "day": (local.date(),),
        "week": local.isocalendar()[:2],
        "month": (local.year, local.month),
    }
    return labels[bucket]

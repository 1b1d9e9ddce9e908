from __future__ import annotations

from decimal import Decimal

import pytest

from farebox_api.errors import InvalidRequest
from farebox_api.parameters import Rule, amount, check, month_number, names, time_range_us, time_us, usage_id

NOVEMBER_US = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T00:00:00Z", NOVEMBER_US),
        ("2026-11-01t00:00:00z", NOVEMBER_US),
        ("2026-11-01T00:00:00+00:00", NOVEMBER_US),
        ("2026-11-01T03:00:00+03:00", NOVEMBER_US),
        ("2026-11-01T03:00:00 03:00", NOVEMBER_US),  # the + of an address that was not encoded
        ("2026-10-31T19:30:00-04:30", NOVEMBER_US),
        ("2026-11-01T00:00:00.5Z", NOVEMBER_US + 500_000),
        ("2026-11-01T00:00:00.000001Z", NOVEMBER_US + 1),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_a_time_with_offset_is_read_as_microseconds_in_utc(text: str, expected: int) -> None:
    assert time_us("start", text) == expected


@pytest.mark.parametrize("text", ["2026-11-01", "2026-11-01T00:00:00", "2026-11-01 00:00:00", "2026-11-01T00:00:00.5"])
def test_a_naive_time_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(InvalidRequest, match="has no offset from UTC; write 2026-11-01T00:00:00Z") as caught:
        time_us("start", text)

    assert [fault.parameter for fault in caught.value.faults] == ["start"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1793491200",
        "2026-11-01T00:00Z",
        "2026-11-01T00:00:00.1234567Z",
        "2026-11-01T24:00:00Z",
        "2026-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "2026-11-01T00:00:00+24:00",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:59",
        "2026-11-01T00:00:00Z ",
        "２０２６-11-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        time_us("start", text)


@pytest.mark.parametrize("end", ["2026-11-01T00:00:00Z", "2026-10-01T00:00:00Z"])
def test_an_empty_or_reversed_range_is_refused(end: str) -> None:
    with pytest.raises(InvalidRequest, match="half-open"):
        time_range_us("2026-11-01T00:00:00Z", end)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", Decimal(0)), ("0.000000000001", Decimal("1E-12")), ("9000000", Decimal(9000000)), ("-1.5", Decimal("-1.5"))],
)
def test_an_amount_is_read_exactly(text: str, expected: Decimal) -> None:
    assert amount("min_cost", text) == expected


@pytest.mark.parametrize(
    "text", ["", "NaN", "Infinity", "1e3", "1E400", "1,5", ".5", "0.0000000000001", "9000001", "٣"]
)
def test_what_is_no_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="plain decimal"):
        amount("min_cost", text)


def test_a_month_is_read_as_a_number() -> None:
    assert month_number("month", "2026-11") == 202611


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "202611", "0000-01", "2026-11-01"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a month"):
        month_number("month", text)


def test_a_usage_id_is_its_day_and_its_bytes() -> None:
    assert usage_id("20261101-000102030405060708090a0b0c0d0e0f") == (20261101, bytes(range(16)))


@pytest.mark.parametrize("text", ["", "20261101", "20261101-00", "20261101-000102030405060708090A0B0C0D0E0F"])
def test_a_usage_id_of_another_form_is_none(text: str) -> None:
    assert usage_id(text) is None


def test_a_list_may_be_repeated_and_comma_separated() -> None:
    assert names("group_by", ["provider,model", "user"], {"provider", "model", "user"}) == ("provider", "model", "user")


@pytest.mark.parametrize(
    ("given", "message"),
    [(["modle"], "did you mean model"), (["model", "model"], "twice"), ([""], "none of"), (["model,"], "none of")],
)
def test_a_wrong_name_in_a_list_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        names("group_by", given, {"provider", "model"})


def test_every_wrong_parameter_is_named_at_once() -> None:
    rules = {
        "model": Rule(),
        "start": Rule(),
        "user": Rule(),
        "tag": Rule(is_list=True),
        "limit": Rule(is_integer=True),
        "status": Rule(choices=("ok", "error")),
    }
    given = [
        ("modle", "x"),
        ("start", "a"),
        ("start", "b"),
        ("user", "a\0b"),
        ("tag", "a"),
        ("tag", "b"),
        ("limit", "1e2"),
        ("status", "failed"),
    ]

    with pytest.raises(InvalidRequest) as caught:
        check(given, rules)

    assert [(fault.parameter, fault.detail) for fault in caught.value.faults] == [
        ("modle", "is no parameter of this route; did you mean model?"),
        ("start", "stands more than once; it takes one value"),
        ("user", "holds a NUL character"),
        ("limit", "expected a whole number, got '1e2'"),
        ("status", "'failed' is none of ok, error"),
    ]


def test_an_unknown_parameter_like_no_other_comes_with_the_list_of_all() -> None:
    with pytest.raises(InvalidRequest, match="it takes limit, model"):
        check([("xyzzy", "1")], {"model": Rule(), "limit": Rule()})
    with pytest.raises(InvalidRequest, match="it takes none"):
        check([("xyzzy", "1")], {})

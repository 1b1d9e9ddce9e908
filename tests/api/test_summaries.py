"""Sums, over rows booked by the store: the list and the sums agree by equality."""

from __future__ import annotations

import time
from collections import defaultdict
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from farebox_ledger.pricing import Charge
from farebox_ledger.usage import Usage
from tests.api.conftest import Api
from tests.api.test_organizations import walk
from tests.api.test_usage import MINUTE_US, booked
from tests.ledger.store.bookings import NOON, ZENITH, at, booking, priced, random_booking, suppressed, unpriced

MARCH = {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"}


def failed() -> Charge:
    return Charge(status="not_billable", reason="error_no_usage")


def test_a_summary_shows_every_member_of_the_contract(api: Api) -> None:
    usage = Usage(input_tokens=1000, cache_write_input_tokens={"5m": 6, "1h": 4}, output_tokens=200)
    booked(
        api,
        booking(1, usage=usage, service="chatbot"),
        booking(2, usage=Usage(input_seconds=Decimal("1.5")), service="chatbot"),
        booking(3, failed(), usage=Usage(), status="error", service="chatbot"),
    )

    summary = api.json("/v1/usage/summary", group_by="service", **MARCH)

    assert summary == {
        "groups": [
            {
                "service": "chatbot",
                "requests": 3,
                "errors": 1,
                "success_rate": 66.7,
                "input_tokens": 1000,
                "cache_read_input_tokens": 0,
                "cache_write_input_tokens": 10,
                "audio_input_tokens": 0,
                "image_input_tokens": 0,
                "video_input_tokens": 0,
                "output_tokens": 200,
                "reasoning_output_tokens": 0,
                "audio_output_tokens": 0,
                "image_output_tokens": 0,
                "input_images": 0,
                "output_images": 0,
                "input_seconds": "1.5",
                "output_seconds": "0",
                "input_characters": 0,
                "output_characters": 0,
                "pages": 0,
                "search_units": 0,
                "web_searches": 0,
                "total_tokens": 1200,
                "currency": "USD",
                "cost": "0.009",
                "list_cost": "0.009",
                "unpriced_rows": 0,
                "assumed_rows": 0,
                "partial_rows": 0,
            }
        ],
        "start": "2026-03-01T00:00:00.000000Z",
        "end": "2026-04-01T00:00:00.000000Z",
        "is_complete": True,
        "is_truncated": False,
        "data_through": "2026-03-10T12:00:00.000000Z",
    }


def test_an_unpriced_row_makes_a_sum_incomplete_and_is_not_zero(api: Api) -> None:
    booked(api, booking(1, unpriced()))

    summary = api.json("/v1/usage/summary")

    assert summary["is_complete"] is False
    (group,) = summary["groups"]
    assert (group["requests"], group["unpriced_rows"], group["cost"], group["currency"]) == (1, 1, None, None)


def test_suppressed_rows_count_nowhere(api: Api) -> None:
    booked(api, booking(1), booking(2, suppressed()))

    assert api.json("/v1/usage/summary")["groups"][0]["requests"] == 1


def test_groups_may_be_repeated_or_comma_separated(api: Api) -> None:
    booked(api, booking(1, service="a", project="x"), booking(2, priced(10**10), service="a"))

    separated = api.json("/v1/usage/summary", group_by="service,project")
    repeated = api.json("/v1/usage/summary", group_by=["service", "project"])

    assert separated == repeated
    assert [(group["service"], group["project"], group["cost"]) for group in separated["groups"]] == [
        ("a", None, "0.012"),
        ("a", "x", "0.0045"),
    ]


def test_each_model_has_its_calls_tokens_and_cost(api: Api) -> None:
    booked(api, booking(1), booking(2), booking(3, priced(10**10, 0, model="claude", provider="anthropic")))

    groups = api.json("/v1/usage/summary", group_by="model")["groups"]

    assert [(group["model"], group["requests"], group["total_tokens"], group["cost"]) for group in groups] == [
        ("claude", 1, 1200, "0.01"),
        ("gpt-4o", 2, 2400, "0.009"),
    ]


def test_currencies_are_never_added(api: Api) -> None:
    booked(api, booking(1), booking(2, priced(currency="EUR")), booking(3, unpriced()))

    groups = api.json("/v1/usage/summary")["groups"]
    totals = api.json("/v1/organizations/acme/summary")["total"]

    assert sorted((str(group["currency"]), group["cost"]) for group in groups) == [
        ("EUR", "0.0045"),
        ("None", None),
        ("USD", "0.0045"),
    ]
    assert (totals["requests"], totals["currency"], totals["cost"]) == (3, None, None)
    assert {group["currency"]: group["cost"] for group in totals["by_currency"]} == {
        "EUR": "0.0045",
        "USD": "0.0045",
        None: None,
    }


@pytest.mark.parametrize(
    ("tz", "buckets"),
    [
        ("UTC", {"2026-03-10T00:00:00.000000Z": 1, "2026-03-11T00:00:00.000000Z": 1}),
        ("Asia/Kathmandu", {"2026-03-10T18:15:00.000000Z": 2}),  # UTC+05:45
        ("America/New_York", {"2026-03-10T04:00:00.000000Z": 2}),  # two days after the clocks went forward
    ],
)
def test_days_are_cut_in_the_asked_zone(api: Api, tz: str, buckets: dict[str, int]) -> None:
    midnight = at("2026-03-11T00:00:00Z")
    booked(api, booking(1, occurred_at_us=midnight - MINUTE_US), booking(2, occurred_at_us=midnight))

    summary = api.json(
        "/v1/usage/summary", bucket="day", tz=tz, start="2026-03-09T00:00:00Z", end="2026-03-13T00:00:00Z"
    )

    assert {group["bucket_start"]: group["requests"] for group in summary["groups"]} == buckets


def test_a_range_open_on_one_side_is_exact_on_the_other(api: Api) -> None:
    booked(api, *(booking(number, occurred_at_us=NOON + number) for number in range(4)))

    after = api.json("/v1/usage/summary", start="2026-03-10T12:00:00.000002Z")
    before = api.json("/v1/usage/summary", end="2026-03-10T12:00:00.000003Z")
    long_ago = api.json("/v1/usage/summary", end="2019-01-01T00:00:00Z")

    assert (after["groups"][0]["requests"], before["groups"][0]["requests"]) == (2, 3)
    assert (after["end"], before["start"]) == (None, None)
    assert long_ago["groups"] == []


def test_a_summary_that_was_cut_says_so(api: Api) -> None:
    booked(api, *(booking(number, service=f"service-{number}") for number in range(5)))

    summary = api.json("/v1/usage/summary", group_by="service", limit=2)

    assert (len(summary["groups"]), summary["is_truncated"]) == (2, True)


def test_the_sum_of_the_list_is_the_summary_for_any_filter(api: Api) -> None:
    random = Random(4)
    booked(api, *(random_booking(random, number) for number in range(1, 301)))
    filters: list[dict[str, Any]] = [
        {},
        {"organization": "zenith"},
        {"provider": "openai", "start": "2026-03-30T21:07:00Z", "end": "2026-04-01T05:31:00Z"},
        {"user": "ann", "start": "2026-03-31T00:00:00Z", "end": "2026-04-02T00:00:00Z"},
        {"user_email": "ann@example.com", "start": "2026-03-30T00:00:00Z", "end": "2026-04-03T00:00:00Z"},
        {"tag": "b", "start": "2026-03-30T00:00:00Z", "end": "2026-04-03T00:00:00Z"},
        {"status": "error", "start": "2026-03-30T00:00:00Z", "end": "2026-04-03T00:00:00Z"},
        {"min_cost": "0.001", "start": "2026-03-30T00:00:00Z", "end": "2026-04-03T00:00:00Z"},
    ]

    for chosen in filters:
        pages = walk(api, "/v1/usage", 100, api.system_key, **chosen)
        rows = [row for page in pages for row in page if row["billing_status"] != "suppressed"]
        groups = api.json("/v1/usage/summary", api.system_key, group_by="currency", **chosen)["groups"]

        assert summed(rows) == summed_groups(groups), chosen


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    sums: dict[str, Any] = defaultdict(Decimal)
    for row in rows:
        sums["requests"] += 1
        sums["errors"] += row["status"] == "error"
        sums["input_tokens"] += row["input_tokens"] or 0
        sums["input_images"] += row["input_images"] or 0
        sums["total_tokens"] += row["total_tokens"] or 0
        sums["unpriced_rows"] += row["billing_status"] == "unpriced"
        if row["cost"] is not None:
            sums[f"cost {row['currency']}"] += Decimal(row["cost"])
            sums[f"list_cost {row['currency']}"] += Decimal(row["list_cost"])
    return dict(sums)


def summed_groups(groups: list[dict[str, Any]]) -> dict[str, Any]:
    sums: dict[str, Any] = defaultdict(Decimal)
    for group in groups:
        for name in ("requests", "errors", "input_tokens", "input_images", "total_tokens", "unpriced_rows"):
            sums[name] += group[name]
        if group["cost"] is not None:
            sums[f"cost {group['currency']}"] += Decimal(group["cost"])
            sums[f"list_cost {group['currency']}"] += Decimal(group["list_cost"])
    return dict(sums)


def test_the_sum_of_the_buckets_is_the_range_also_when_clocks_change(api: Api) -> None:
    random = Random(5)
    begin = at("2026-03-28T00:00:00Z")  # clocks go forward in Europe on 29 March
    booked(
        api,
        *(
            booking(
                number, priced(random.randrange(10**12), 0), occurred_at_us=begin + random.randrange(3 * 86400 * 10**6)
            )
            for number in range(150)
        ),
    )
    range_ = {"start": "2026-03-28T01:30:00+01:00", "end": "2026-03-30T18:20:00+02:00"}

    total = api.json("/v1/usage/summary", **range_)["groups"][0]

    for bucket in ("hour", "day", "week", "month"):
        groups = api.json("/v1/usage/summary", bucket=bucket, tz="Europe/Berlin", **range_)["groups"]
        assert sum(group["requests"] for group in groups) == total["requests"]
        assert sum(Decimal(group["cost"]) for group in groups) == Decimal(total["cost"])


def test_a_month_is_summed_in_all_and_by_its_parts(api: Api) -> None:
    booked(
        api,
        booking(1, service="chatbot", category="rag", user="ann"),
        booking(2, priced(10**10, model="gpt-5"), user="bob"),
        booking(3, occurred_at_us=at("2026-04-01T00:00:00Z")),
        booking(4, occurred_at_us=at("2026-02-28T23:59:59.999999Z")),
        booking(5, org_id=ZENITH),
    )

    month = api.json("/v1/organizations/acme/months/2026-03")

    assert (month["organization"], month["month"]) == ("acme", "2026-03")
    assert (month["start"], month["end"]) == ("2026-03-01T00:00:00.000000Z", "2026-04-01T00:00:00.000000Z")
    assert (month["requests"], month["cost"], month["currency"], month["is_complete"]) == (2, "0.0165", "USD", True)
    assert [(part["provider"], part["model"], part["cost"]) for part in month["by_model"]] == [
        ("openai", "gpt-5", "0.012"),
        ("openai", "gpt-4o", "0.0045"),
    ]
    assert [(part["service"], part["cost"]) for part in month["by_service"]] == [(None, "0.012"), ("chatbot", "0.0045")]
    assert [(part["category"], part["cost"]) for part in month["by_category"]] == [(None, "0.012"), ("rag", "0.0045")]
    assert [(part["user"], part["cost"]) for part in month["by_user"]] == [("bob", "0.012"), ("ann", "0.0045")]
    assert month["is_truncated"] is False


def test_a_month_tells_500_users_apart_and_sums_up_the_rest(api: Api) -> None:
    booked(api, *(booking(n, priced(n + 1), user=f"u{n:03}") for n in range(503)))

    month = api.json("/v1/organizations/acme/months/2026-03")

    assert [part["user"] for part in month["by_user"]] == [f"u{n:03}" for n in range(502, 2, -1)]
    rest = month["rest"]["by_user"]
    assert (month["is_truncated"], rest["left_out"]) == (True, 3)
    assert [(one["currency"], one["requests"], one["cost"]) for one in rest["by_currency"]] == [
        ("USD", 3, "0.006000000006")
    ]
    shown = sum(Decimal(part["cost"]) for part in month["by_user"])
    assert shown + Decimal(rest["by_currency"][0]["cost"]) == Decimal(month["cost"])
    assert {part: month["rest"][part] for part in ("by_model", "by_service", "by_category")} == {
        "by_model": None,
        "by_service": None,
        "by_category": None,
    }


def test_an_organization_knows_its_month_and_all_time(api: Api) -> None:
    now_us = time.time_ns() // 1000
    booked(api, booking(1, occurred_at_us=now_us), booking(2))

    summary = api.json("/v1/organizations/acme/summary")

    assert summary["organization"] == "acme"
    assert summary["month"]["month"] == time.strftime("%Y-%m", time.gmtime(now_us / 1_000_000))
    assert (summary["month"]["requests"], summary["month"]["cost"]) == (1, "0.0045")
    assert (summary["total"]["requests"], summary["total"]["cost"], summary["total"]["currency"]) == (2, "0.009", "USD")
    assert (summary["total"]["start"], summary["total"]["end"]) == (None, None)
    assert [(summary[part]["input_tokens"], summary[part]["output_tokens"], summary[part]["total_tokens"])
            for part in ("month", "total")] == [(1000, 200, 1200), (2000, 400, 2400)]  # fmt: skip


def test_an_organization_without_usage_spent_nothing(api: Api) -> None:
    total = api.json("/v1/organizations/acme/summary")["total"]

    assert (total["requests"], total["success_rate"], total["cost"], total["currency"]) == (0, 0.0, "0", None)
    assert (total["is_complete"], total["data_through"], total["by_currency"]) == (True, None, [])


def test_another_tenants_sums_are_not_found(api: Api) -> None:
    booked(api, booking(1, org_id=ZENITH))

    assert api.get("/v1/organizations/zenith/summary").status_code == 404
    assert api.get("/v1/organizations/zenith/months/2026-03").status_code == 404
    assert api.get("/v1/usage/summary", organization="zenith").status_code == 404
    assert api.json("/v1/usage/summary")["groups"] == []


def test_a_system_key_sums_all_organizations_or_one(api: Api) -> None:
    booked(api, booking(1), booking(2, org_id=ZENITH), booking(3, org_id=ZENITH))

    every = api.json("/v1/usage/summary", api.system_key, group_by="organization")["groups"]
    one = api.json("/v1/usage/summary", api.system_key, organization="zenith")["groups"]

    assert [(group["organization"], group["requests"]) for group in every] == [("zenith", 2), ("acme", 1)]
    assert one[0]["requests"] == 2


def test_the_overview_shows_today_the_months_a_window_and_what_waits_for_a_price(api: Api) -> None:
    now_us = time.time_ns() // 1000
    month_us = at(time.strftime("%Y-%m-01T00:00:00Z", time.gmtime(now_us / 1_000_000)))
    booked(
        api,
        booking(1, occurred_at_us=now_us, service="chatbot"),
        booking(2, occurred_at_us=month_us - 1),
        booking(3, unpriced(), occurred_at_us=now_us, provider=None, request_model="mystery"),
        booking(4, unpriced(), occurred_at_us=month_us - 1, provider=None, request_model="mystery"),
        booking(5, unpriced(), occurred_at_us=month_us - 1, provider="openai", request_model="mystery"),
        booking(6, org_id=ZENITH, occurred_at_us=now_us),
    )

    mine = api.json("/v1/overview", days=366)
    every = api.json("/v1/overview", api.system_key, days=1)

    assert (mine["organization"], every["organization"]) == ("acme", None)
    assert (mine["today"]["requests"], mine["today"]["cost"], mine["today"]["is_complete"]) == (2, "0.0045", False)
    assert (mine["this_month"]["requests"], mine["this_month"]["cost"]) == (2, "0.0045")
    assert (mine["last_month"]["requests"], mine["last_month"]["cost"]) == (3, "0.0045")
    assert (mine["window"]["days"], mine["window"]["requests"], mine["window"]["cost"]) == (366, 5, "0.009")
    assert mine["window"]["total_tokens"] == 6000

    def parts(name: str) -> list[tuple[Any, ...]]:
        listed = mine["window"][f"by_{name}"]
        return [(part[name], part["requests"], part["total_tokens"], part["cost"]) for part in listed]

    assert parts("provider") == [("openai", 3, 3600, "0.009"), ("unknown", 2, 2400, None)]
    assert parts("service") == [("unknown", 4, 4800, "0.0045"), ("chatbot", 1, 1200, "0.0045")]
    assert api.json("/v1/overview")["window"]["days"] == 30
    assert (mine["unpriced_rows"], mine["unpriced_models"]) == (3, 2)
    assert every["window"]["requests"] == every["today"]["requests"] == 3
    assert mine["last_sync"] is every["last_sync"] is None


def test_the_overview_is_for_administrators(api: Api) -> None:
    assert api.get("/v1/overview", api.make_key("acme", "usage:read")).status_code == 403
    assert api.get("/v1/overview", organization="zenith").status_code == 404

"""After any work on the books every way of asking gives the same figures: list, sums, statement, export, pages."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from farebox_ledger.charges import change_charges
from farebox_ledger.pricing import Charge
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.writing import Booking
from tests.api.conftest import Api
from tests.api.test_organizations import walk
from tests.api.test_summaries import summed, summed_groups
from tests.api.test_usage import booked
from tests.ledger.store.bookings import EVERYBODY, at, booking, priced, random_booking, random_charge

RANGE = {"start": "2026-03-30T13:07:00+05:45", "end": "2026-04-01T07:31:00+05:45"}


def changed(api: Api, *bookings: Booking) -> None:
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        change_charges(connection, EVERYBODY, bookings, cause="reprice:1", writer_slot=2)


@pytest.fixture
def worked(api: Api) -> Api:
    """Books with calls that were priced anew, reversed and re-sent, and calls that came late."""
    random = Random(8)
    bookings = [random_booking(random, number) for number in range(1, 241)]
    booked(api, *bookings[:180])
    for _ in range(3):
        chosen = random.sample(bookings[:180], 60)
        changed(api, *(Booking(msgspec.structs.replace(one.event), random_charge(random)) for one in chosen))
    reversed_ones = random.sample(bookings[:180], 20)
    nothing = Charge(status="suppressed", reason="twin")
    changed(api, *(Booking(msgspec.structs.replace(one.event), nothing) for one in reversed_ones))
    booked(api, *bookings[150:])
    return api


def rows_of(api: Api, **asked: Any) -> list[dict[str, Any]]:
    found = [row for page in walk(api, "/v1/usage", 100, api.system_key, **asked) for row in page]
    return [row for row in found if row["billing_status"] != "suppressed"]


@pytest.mark.parametrize("tz", ["UTC", "Asia/Kathmandu", "Pacific/Chatham", "America/St_Johns"])
def test_buckets_of_any_zone_sum_to_the_rows(worked: Api, tz: str) -> None:
    rows = rows_of(worked, **RANGE)
    assert len(rows) > 50

    for bucket, dimensions in (("hour", "currency"), ("day", "model,service"), ("day", "user"), ("month", "task_id")):
        groups = worked.json(
            "/v1/usage/summary", worked.system_key, bucket=bucket, tz=tz, group_by=dimensions, limit=10_000, **RANGE
        )["groups"]
        assert summed_groups(groups) == summed(rows), (bucket, dimensions)


def test_exports_hold_the_rows_of_the_list(worked: Api) -> None:
    rows = {row["id"]: row for page in walk(worked, "/v1/usage", 100, worked.system_key, **RANGE) for row in page}

    text = worked.get("/v1/exports/usage.ndjson", worked.system_key, **RANGE).text
    lines = {row["id"]: row for row in map(json.loads, text.splitlines())}
    table = csv.DictReader(io.StringIO(worked.get("/v1/exports/usage.csv", worked.system_key, **RANGE).text))
    costs = {row["id"]: row["cost"] for row in table}

    assert {name: row["cost"] for name, row in lines.items()} == {name: row["cost"] for name, row in rows.items()}
    assert costs == {name: row["cost"] or "" for name, row in rows.items()}


def test_a_month_its_statement_and_its_lines_come_to_the_same(worked: Api) -> None:
    month = worked.json("/v1/organizations/acme/months/2026-03")
    statement = worked.json("/v1/organizations/acme/months/2026-03/statement")
    rows = [
        row
        for row in rows_of(worked, organization="acme", start="2026-03-01T00:00:00Z", end="2026-04-01T00:00:00Z")
        if row["cost"] is not None
    ]

    of_rows = {
        currency: sum((Decimal(row["cost"]) for row in rows if row["currency"] == currency), Decimal())
        for currency in ("EUR", "USD")
    }
    assert {one["currency"]: Decimal(one["cost"]) for one in month["by_currency"] if one["cost"]} == of_rows
    assert {one["currency"]: Decimal(one["cost"]) for one in statement["totals"]} == of_rows
    assert statement["requests"] == month["requests"]
    assert statement["unpriced_rows"] == month["unpriced_rows"]


def test_every_charge_sums_from_its_lines_through_all_its_versions(worked: Api) -> None:
    for row in rows_of(worked, **RANGE)[:60]:
        explained = worked.json(f"/v1/usage/{row['id']}/charge", worked.system_key)
        assert [one["version"] for one in explained["versions"]] == list(range(explained["version"] - 1, 0, -1))
        for charge in (explained, *explained["versions"]):
            if charge["cost"] is not None and charge["lines"]:
                assert sum(Decimal(line["amount"]) for line in charge["lines"]) == Decimal(charge["cost"])


def test_a_walk_meets_every_row_of_its_begin_once_while_others_come(api: Api) -> None:
    begun_us = at("2026-03-10T12:00:00Z")
    booked(api, *(booking(number, occurred_at_us=begun_us + number // 7) for number in range(100)))
    met: list[str] = []
    page = api.json("/v1/usage", limit=9)
    first = {row["id"] for row in rows_of(api)}
    number = 1000
    while True:
        met += [row["id"] for row in page["items"]]
        if not page["has_more"]:
            break
        booked(  # before, at, and behind the place
            api,
            *(booking(number + offset, occurred_at_us=begun_us + at_us) for offset, at_us in enumerate((99, 7, -5))),
        )
        number += 3
        page = api.json("/v1/usage", limit=9, cursor=page["next_cursor"])

    assert len(met) == len(set(met))
    assert first <= set(met)


def test_names_of_any_script_and_length_are_kept_apart(api: Api) -> None:
    names = [
        "Ünïcödé ☃",
        "日本語" * 200,
        "日本語" * 200 + "!",
        "a/b?c#d%2F",
        "' OR 1=1 --",
        "\u202eright",
        "👩‍👩‍👧‍👦" * 40,
        "e\u0301",
        "\u00e9",
    ]
    booked(api, *(booking(number, priced(number + 1, 0), user=name) for number, name in enumerate(names)))

    groups = api.json("/v1/usage/summary", group_by="user", start="2026-03-01T00:00:00Z", end="2026-04-01T00:00:00Z")
    users = {row["user"] for row in rows_of(api)}

    assert len(users) == len(names)
    assert {group["user"]: group["requests"] for group in groups["groups"]} == dict.fromkeys(users, 1)
    for user in users:
        assert [row["user"] for row in api.json("/v1/usage", user=user)["items"]] == [user]
    assert {item["user"] for item in api.json("/v1/users", limit=4)["items"]} <= users
    assert {item["user"] for page in walk(api, "/v1/users", 4) for item in page} == users

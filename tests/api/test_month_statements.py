"""A month's statement over the API."""

from __future__ import annotations

import time

import pytest

from farebox_ledger.charges import change_charges
from farebox_ledger.store.engine import transaction
from tests.api.conftest import Api
from tests.api.test_usage import booked
from tests.ledger.store.bookings import EVERYBODY, at, booking, priced, unpriced

PATH = "/v1/organizations/acme/months/2026-03/statement"


def test_a_statement_stays_as_it_was_after_new_prices_and_late_rows(api: Api) -> None:
    booked(api, booking(1), booking(2, unpriced()), booking(3, priced(currency="EUR")))
    first = api.json(PATH)
    time.sleep(0.002)

    with transaction(api.engine, EVERYBODY, write=True) as connection:
        change_charges(connection, EVERYBODY, [booking(1, priced(1, 1))], cause="reprice:1", writer_slot=2)
    booked(api, booking(4, received_at_us=time.time_ns() // 1000))

    assert api.json(PATH, as_of=first["as_of"]) == first
    assert first["totals"] == [
        {"currency": "EUR", "requests": 1, "cost": "0.0045", "list_cost": "0.0045"},
        {"currency": "USD", "requests": 1, "cost": "0.0045", "list_cost": "0.0045"},
    ]
    assert (first["is_over"], first["is_complete"], first["requests"], first["unpriced_rows"]) == (True, False, 3, 1)
    assert [(line["model"], line["requests"], line["cost"]) for line in api.json(PATH)["lines"]] == [
        ("gpt-4o", 2, "0.004500000002"),
        ("gpt-4o", 1, "0.0045"),
        ("gpt-4o", 1, None),
    ]


def test_the_month_is_that_of_usage_and_the_moment_that_of_reception(api: Api) -> None:
    last_us, next_us = at("2026-03-31T23:59:59.999999Z"), at("2026-04-01T00:00:00Z")
    late_us = at("2026-05-01T09:00:00Z")
    booked(
        api,
        booking(1, occurred_at_us=last_us, received_at_us=next_us),
        booking(2, occurred_at_us=last_us, received_at_us=late_us),
        booking(3, occurred_at_us=next_us, received_at_us=next_us),
    )

    counts = {
        moment: api.json(PATH, as_of=moment)["requests"]
        for moment in ("2026-03-31T23:59:59.999999Z", "2026-04-01T00:00:00Z", "2026-05-01T09:00:00Z")
    }

    assert list(counts.values()) == [0, 1, 2]
    assert api.json("/v1/organizations/acme/months/2026-03")["requests"] == 2


@pytest.mark.parametrize(
    ("parameters", "named"),
    [({"as_of": "2026-03-31T00:00:00"}, "as_of"), ({"as_of": "2999-01-01T00:00:00Z"}, "as_of"), ({"day": "1"}, "day")],
)
def test_what_cannot_be_stated_is_refused_by_name(api: Api, parameters: dict[str, str], named: str) -> None:
    response = api.get(PATH, **parameters)

    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == named


def test_another_tenants_statement_is_not_found(api: Api) -> None:
    assert api.get(PATH, api.zenith_key).status_code == 404
    assert api.get("/v1/organizations/acme/months/2026-13/statement").status_code == 400

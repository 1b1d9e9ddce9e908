"""`GET /v1/me/usage`: the rows that came in with the caller's own key."""

from __future__ import annotations

from typing import Any

import pytest

from farebox_ledger.store.engine import transaction
from farebox_ledger.store.keys import create_key
from tests.api.conftest import Api
from tests.api.test_organizations import walk
from tests.api.test_usage import booked, spans
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, ZENITH, booking


def made_key(api: Api, org_id: int, *scopes: str) -> tuple[str, str]:
    """Make a key: (its public id, its text)."""
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        record, text = create_key(connection, org_id=org_id, scopes=scopes)
    return record.id, text


def test_a_key_sees_the_rows_that_were_sent_with_it_and_no_others(api: Api) -> None:
    own_id, own = made_key(api, ACME, "ingest", "usage:read:own")
    other_id, other = made_key(api, ACME, "usage:read:own")
    booked(
        api,
        booking(1, key=own_id),
        booking(2, key=other_id),
        booking(3),
        booking(4, key=own_id, org_id=ZENITH),
    )

    assert spans(api.json("/v1/me/usage", own)) == [1]
    assert spans(api.json("/v1/me/usage", other)) == [2]
    assert spans(api.json("/v1/me/usage", api.zenith_key)) == []
    assert api.get("/v1/usage", own).status_code == 403


def test_own_rows_are_filtered_and_read_page_by_page(api: Api) -> None:
    own_id, own = made_key(api, ACME, "usage:read:own")
    booked(
        api,
        *(
            booking(number, key=own_id, occurred_at_us=NOON + number, project="alpha" if number % 2 else "beta")
            for number in range(1, 8)
        ),
    )

    pages = walk(api, "/v1/me/usage", 2, own, project="alpha", end="2026-03-10T12:00:00.000007Z")

    assert [[int(row["span_id"], 16) for row in page] for page in pages] == [[5, 3], [1]]


def test_what_a_key_told_is_its_own(api: Api) -> None:
    _, own = made_key(api, ACME, "usage:write", "usage:read:own")
    call: dict[str, Any] = {"external_id": "1", "occurred_at": "2026-03-10T12:00:00Z", "model": "gpt-4o"}

    told = api.post("/v1/usage", call, own).json()["items"]

    assert [row["id"] for row in api.json("/v1/me/usage", own)["items"]] == [told[0]["id"]]
    assert api.json("/v1/me/usage")["items"] == []


def test_reading_all_usage_includes_reading_ones_own(api: Api) -> None:
    assert api.get("/v1/me/usage", made_key(api, ACME, "usage:read")[1]).status_code == 200
    assert api.get("/v1/me/usage", made_key(api, ACME, "export", "usage:write")[1]).status_code == 403


@pytest.mark.parametrize("parameter", [{"key": "key_1"}, {"organization": "zenith"}, {"start": "2026-03-10"}])
def test_nobody_asks_for_the_rows_of_another_key(api: Api, parameter: dict[str, str]) -> None:
    response = api.get("/v1/me/usage", **parameter)

    assert response.status_code == 400
    assert [error["parameter"] for error in response.json()["errors"]] == list(parameter)

"""Reads of what the caller holds already."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.conftest import Api, bearer
from tests.api.test_usage import booked
from tests.ledger.store.bookings import at, booking

STATEMENT = "/v1/organizations/acme/months/2026-03/statement"


def read(api: Api, path: str, held: str | None = None, key: str | None = None, **parameters: Any) -> Any:
    headers = bearer(key or api.acme_key) | ({} if held is None else {"If-None-Match": held})
    return api.client.get(path, params=parameters, headers=headers)


@pytest.mark.parametrize(
    ("path", "body", "change"),
    [
        ("/v1/budgets", {"name": "all", "amount": "5"}, {"amount": "6"}),
        ("/v1/upstreams", {"name": "edge"}, {"notes": "moved"}),
        ("/v1/webhooks", {"url": "https://example.com/", "events": ["budget.alert"]}, {"notes": "moved"}),
    ],
    ids=["budget", "upstream", "webhook"],
)
def test_a_thing_is_sent_again_only_when_it_has_changed(api: Api, path: str, body: Any, change: Any) -> None:
    made = api.post(path, body)
    assert made.status_code == 201, made.text
    own = made.headers["location"]

    again = read(api, own, '"7", W/"1"')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"1"')
    assert read(api, own, "*").status_code == 304
    assert read(api, own, '"11"').status_code == 200

    assert api.client.patch(own, json=change, headers=bearer(api.acme_key)).status_code == 200
    changed = read(api, own, '"1"')
    assert (changed.status_code, changed.headers["etag"], changed.json()["row_version"]) == (200, '"2"', 2)


def test_whoever_may_not_read_a_thing_learns_nothing_of_its_etag(api: Api) -> None:
    own = api.post("/v1/budgets", {"name": "all", "amount": "5"}).headers["location"]

    assert read(api, own, '"1"', api.zenith_key).status_code == 404
    assert read(api, own, '"1"', "fbx_none").status_code == 401


def test_a_statement_tells_by_its_etag_whether_a_call_has_joined_it(api: Api) -> None:
    received_us = at("2026-03-31T23:59:59Z")
    booked(api, booking(1, received_at_us=received_us))
    first = read(api, STATEMENT, as_of="2026-04-02T00:00:00Z")
    etag = first.headers["etag"]

    booked(api, booking(2, received_at_us=time.time_ns() // 1000))
    assert read(api, STATEMENT, etag, as_of="2026-04-02T00:00:00Z").status_code == 304

    booked(api, booking(3, occurred_at_us=received_us - 5, received_at_us=received_us))  # it stood in a spool
    later = read(api, STATEMENT, etag, as_of="2026-04-02T00:00:00Z")

    assert (later.status_code, first.json()["requests"], later.json()["requests"]) == (200, 1, 2)
    assert later.headers["etag"] != etag
    assert first.json()["data_through"] == "2026-03-10T12:00:00.000000Z"
    assert later.json()["data_through"] == "2026-03-31T23:59:58.999995Z"


def test_a_statement_of_nothing_has_no_newest_call(api: Api) -> None:
    assert api.json(STATEMENT)["data_through"] is None

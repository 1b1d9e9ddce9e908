"""The drift report: rows that came with a stated cost, ours beside it, model by model."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest

from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.writing import Booking, book
from tests.api.conftest import Api, bearer
from tests.ledger.store.bookings import EVERYBODY, ZENITH, event, priced, suppressed, unpriced

MARCH = {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"}


@pytest.fixture
def stated(api: Api) -> Api:
    """Rows of 0.0045 USD by our prices, with and without a stated cost."""

    def said(cost: str | None) -> Any:
        return {"stated_cost": None if cost is None else Decimal(cost)}

    half_price = priced(cost_pico=2_250_000_000, list_cost_pico=4_500_000_000, lines=(), multiplier="0.5")
    bookings = [
        Booking(event(1, **said("0.005")), priced()),
        Booking(event(2, **said("0.005")), half_price),
        Booking(event(3, **said(None)), priced()),
        Booking(event(4, **said("1")), unpriced(provider="openai", model="gpt-4o")),
        Booking(event(5, **said("0.001")), priced(status="partial", reason="stream_without_usage")),
        Booking(event(6, **said("0.005")), priced(currency="EUR")),
        Booking(event(7, **said("9")), suppressed()),
        Booking(event(8, **said("0.0045")), priced(model="gpt-4o-mini")),
        Booking(event(9, **said("0")), priced(status="free", cost_pico=0, list_cost_pico=0, lines=(), model="llama")),
        Booking(event(10, org_id=ZENITH, **said("0.0009")), priced()),
    ]
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)
    return api


def test_each_model_shows_ours_beside_the_stated(stated: Api) -> None:
    report = stated.json("/v1/prices/drift", **MARCH)

    assert (report["currency"], report["start"], report["is_truncated"]) == (
        "USD",
        "2026-03-01T00:00:00.000000Z",
        False,
    )
    assert report["items"] == [
        {
            "provider": "openai",
            "model": "gpt-4o",
            "rows": 2,
            "uncompared_rows": 3,
            "ours": "0.009",
            "stated": "0.01",
            "difference": "-0.001",
            "percent": "-10",
        },
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "rows": 1,
            "uncompared_rows": 0,
            "ours": "0.0045",
            "stated": "0.0045",
            "difference": "0",
            "percent": "0",
        },
        {
            "provider": "openai",
            "model": "llama",
            "rows": 1,
            "uncompared_rows": 0,
            "ours": "0",
            "stated": "0",
            "difference": "0",
            "percent": None,
        },
    ]


def test_an_organization_sees_its_own_and_the_system_all(stated: Api) -> None:
    (theirs,) = stated.json("/v1/prices/drift", stated.zenith_key, **MARCH)["items"]
    everybody = stated.json("/v1/prices/drift", stated.system_key, **MARCH)["items"]

    assert (theirs["rows"], theirs["ours"], theirs["percent"]) == (1, "0.0045", "400")
    assert (everybody[0]["rows"], everybody[0]["stated"]) == (3, "0.0109")
    assert stated.get("/v1/prices/drift", stated.zenith_key, organization="acme", **MARCH).status_code == 404
    assert stated.get("/v1/prices/drift", stated.make_key("acme", "prices:read"), **MARCH).status_code == 403


def test_filters_limits_and_the_longest_range(stated: Api) -> None:
    def models(**asked: Any) -> list[str]:
        return [item["model"] for item in stated.json("/v1/prices/drift", **(MARCH | asked))["items"]]

    assert models(model="llama") == ["llama"]
    assert models(provider="anthropic") == []
    assert models(end="2026-03-10T00:00:00Z") == []
    first = stated.json("/v1/prices/drift", limit=1, **MARCH)
    assert ([item["model"] for item in first["items"]], first["is_truncated"]) == (["gpt-4o"], True)
    assert stated.json("/v1/prices/drift")["items"] == []
    too_long = stated.get("/v1/prices/drift", start="2026-03-01T00:00:00Z", end="2026-04-02T00:00:00Z")
    assert (too_long.status_code, too_long.json()["errors"][0]["parameter"]) == (400, "start")


def test_the_policy_says_whose_word_bills(stated: Api) -> None:
    path = "/v1/organizations/acme/price-policy"
    ours = {
        "use_archive": True,
        "carry_retired": True,
        "stated_cost_bills": False,
        "aggregate_only_bills": False,
    }

    def put(key: str, **policy: Any) -> Any:
        return stated.client.put(path, json=policy, headers=bearer(key))

    assert stated.json(path) == ours
    assert put(stated.acme_key, stated_cost_bills=True).json() == ours | {"stated_cost_bills": True}
    assert put(stated.acme_key, stated_cost_bills=True, aggregate_only_bills=True).json() == ours | {
        "stated_cost_bills": True,
        "aggregate_only_bills": True,
    }
    assert stated.json(path, stated.system_key)["stated_cost_bills"] is True
    assert stated.json("/v1/organizations/zenith/price-policy", stated.zenith_key) == ours

    order = {"include_priced": True, "model": "gpt-4o", "billing_status": "unpriced"}
    job = stated.post("/v1/reprice-jobs", order).json()["id"]
    assert run_jobs(stated.engine, threading.Event(), KINDS, until_idle=True) == 0
    outcome = stated.json(f"/v1/reprice-jobs/{job}")["outcome"]
    assert outcome["transitions"] == [{"before": "unpriced", "after": "assumed", "rows": 1}]
    assert outcome["amounts"] == [{"currency": "USD", "before": "0", "after": "1", "difference": "1"}]
    assert stated.json("/v1/prices/drift", **MARCH)["items"][0]["uncompared_rows"] == 3

    assert put(stated.zenith_key, use_archive=False).status_code == 404
    assert put(stated.make_key("acme", "prices:read")).status_code == 403
    assert put(stated.acme_key, whim=True).json()["errors"] == [
        {"pointer": "/whim", "detail": "Object contains unknown field `whim`"}
    ]
    assert put(stated.acme_key).json() == ours

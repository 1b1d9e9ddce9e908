"""Unpriced groups and their repair through the API: one chain for each way, who may, and who sees what."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.pricing import Price
from farebox_ledger.usage import Usage
from tests.api.conftest import Api
from tests.api.test_organizations import walk
from tests.ledger.repricing_cases import add_prices, assert_sums_are_exact, book_events, calls, price, statuses
from tests.ledger.store.bookings import ZENITH, event

COST = 4_500_000_000
GROUP = {"provider": "azure.ai.openai", "model": "my-gpt4o", "reason": "unknown_model"}
FIRST, LAST = "2026-03-10T12:00:01.000000Z", "2026-03-10T12:00:03.000000Z"


def azure(model: str, **fields: Any) -> Price:
    return price(model, provider="azure.ai.openai", **fields)


@pytest.fixture
def waiting(api: Api) -> Api:
    """Three calls of acme and two of zenith to a deployment that no price knows."""
    add_prices(api.engine, azure("gpt-4o"), azure("gpt-4o-mini"))
    deployed = {"provider": "azure", "request_model": "my-gpt4o"}
    book_events(api.engine, *calls(3, **deployed), *calls(2, org_id=ZENITH, **deployed))
    return api


def resolve(api: Api, key: str | None = None, **body: Any) -> Any:
    response = api.post("/v1/unpriced/resolve", GROUP | body, key)
    assert response.status_code == 200, response.text
    return response.json()


def refused(api: Api, key: str | None = None, **body: Any) -> Any:
    response = api.post("/v1/unpriced/resolve", GROUP | body, key)
    return response.status_code, [error["pointer"] for error in response.json()["errors"]]


def run_all(api: Api) -> None:
    assert run_jobs(api.engine, threading.Event(), KINDS, until_idle=True) == 0


def test_the_list_groups_rows_and_suggests_names(waiting: Api) -> None:
    (group,) = waiting.json("/v1/unpriced")["items"]
    (everybodys,) = waiting.json("/v1/unpriced", waiting.system_key)["items"]

    assert group == GROUP | {
        "billing_status": "unpriced",
        "rows": 3,
        "input_tokens": 3000,
        "output_tokens": 600,
        "total_tokens": 3600,
        "organizations": 1,
        "first_seen": FIRST,
        "last_seen": LAST,
        "ignored": False,
        "suggestions": [{"provider": "azure.ai.openai", "model": "gpt-4o", "likeness": 0.714}],
        "estimate": None,
    }
    assert (everybodys["rows"], everybodys["organizations"]) == (5, 2)
    assert waiting.json("/v1/unpriced", billing_status="assumed")["items"] == []
    assert waiting.json("/v1/unpriced", waiting.system_key, organization="zenith")["items"][0]["rows"] == 2


def test_P25_an_average_price_is_a_guess_beside_the_group_and_in_no_sum(api: Api) -> None:
    add_prices(api.engine, azure("gpt-4o"), azure("gpt-4o-mini"))
    book_events(api.engine, *calls(3, provider="azure", request_model="my-gpt4o"))
    book_events(api.engine, event(9, provider="azure", request_model="my-gpt4o", usage=Usage()))

    groups = api.json("/v1/unpriced", estimate="average")["items"]

    assert [(group["reason"], group["rows"], group["estimate"]) for group in groups] == [
        (
            "unknown_model",
            3,
            {"estimated_cost": "0.0135", "currency": "USD", "provider": "azure.ai.openai", "models": 2},
        ),
        ("missing_usage", 1, None),
    ]
    assert [row["cost"] for row in api.json("/v1/usage")["items"]] == [None] * 4
    month = api.json("/v1/usage/summary", start="2026-03-01T00:00:00Z", end="2026-04-01T00:00:00Z")
    assert [(group["cost"], group["unpriced_rows"]) for group in month["groups"]] == [(None, 4)]
    assert api.json("/v1/unpriced", estimate="average", billing_status="assumed")["items"] == []


def test_the_list_is_walked_page_by_page(api: Api) -> None:
    add_prices(api.engine, price("other"))
    named = [event(number, trace_id=bytes([number]) * 16, request_model=f"m{number % 4}") for number in range(1, 10)]
    book_events(api.engine, *named)

    pages = [[item["model"] for item in page] for page in walk(api, "/v1/unpriced", 2)]

    assert pages == [["m1", "m0"], ["m2", "m3"]]


def test_an_alias_bills_what_waited_of_its_organization_alone(waiting: Api) -> None:
    tried = resolve(waiting, action="alias", target_model="gpt-4o", dry_run=True)

    assert (tried["job"], tried["alias"]["target_model"]) == (None, "gpt-4o")
    assert tried["preview"]["is_complete"]
    assert tried["preview"]["transitions"] == [{"before": "unpriced", "after": "billed", "rows": 3}]
    assert tried["preview"]["amounts"] == [
        {"currency": "USD", "before": "0", "after": "0.0135", "difference": "0.0135"}
    ]
    assert waiting.json("/v1/model-aliases")["items"] == []
    assert [row[0] for row in statuses(waiting.engine)] == ["unpriced"] * 5

    made = resolve(waiting, action="alias", target_model="gpt-4o")
    assert (made["alias"]["organization"], made["alias"]["alias"], made["job"]["status"]) == (
        "acme",
        "my-gpt4o",
        "queued",
    )
    run_all(waiting)

    job = waiting.json(f"/v1/reprice-jobs/{made['job']['id']}")
    assert (job["status"], job["outcome"]["rows_changed"], job["outcome"]["is_complete"]) == ("done", 3, True)
    assert job["outcome"]["amounts"] == tried["preview"]["amounts"]
    example = job["outcome"]["examples"][0]
    assert (example["organization"], example["price_id"]) == ("acme", "ltl_gpt-4o")
    assert example["before"] == {
        "billing_status": "unpriced",
        "reason": "unknown_model",
        "currency": None,
        "cost": None,
    }
    assert example["after"] == {"billing_status": "billed", "reason": None, "currency": "USD", "cost": "0.0045"}
    charge = waiting.json(f"/v1/usage/{example['id']}/charge")
    assert charge["versions"][0]["cause"] == f"reprice:{job['id']}"
    assert waiting.json("/v1/unpriced")["items"] == []
    assert waiting.json("/v1/unpriced", waiting.zenith_key)["items"][0]["rows"] == 2
    assert_sums_are_exact(waiting.engine)


def test_a_price_holds_from_the_first_call_unless_told_otherwise(waiting: Api) -> None:
    made = resolve(
        waiting, action="price", prices={"input_tokens": "2.5", "output_tokens": 10}, unit="1m", notes="contract 7"
    )

    override = made["override"]
    assert (override["organization"], override["effective_from"], override["notes"]) == ("acme", FIRST, "contract 7")
    run_all(waiting)
    assert sorted(row[:3] for row in statuses(waiting.engine)) == [
        ("billed", None, COST),
        ("billed", None, COST),
        ("billed", None, COST),
        ("unpriced", "unknown_model", None),
        ("unpriced", "unknown_model", None),
    ]
    later = resolve(
        waiting,
        waiting.zenith_key,
        action="price",
        prices={"input_tokens": "1", "output_tokens": "1"},
        unit="1m",
        effective_from="2026-03-10T12:00:02Z",
        dry_run=True,
    )
    assert (later["preview"]["rows_seen"], later["preview"]["rows_changed"]) == (2, 2)
    assert {(one["before"], one["after"], one["rows"]) for one in later["preview"]["transitions"]} == {
        ("unpriced", "billed", 1),
        ("unpriced", "unpriced", 1),
    }


def test_a_system_key_declares_a_model_free_for_everybody(waiting: Api) -> None:
    made = resolve(waiting, waiting.system_key, action="free")

    assert (made["override"]["organization"], made["override"]["free"]) == (None, True)
    assert made["job"]["organization"] is None
    run_all(waiting)
    assert [row[:3] for row in statuses(waiting.engine)] == [("free", None, 0)] * 5
    assert waiting.get(f"/v1/reprice-jobs/{made['job']['id']}").status_code == 404
    assert waiting.json(f"/v1/reprice-jobs/{made['job']['id']}", waiting.system_key)["outcome"]["rows_changed"] == 5


def test_an_ignored_group_is_hidden_and_can_be_restored(waiting: Api) -> None:
    assert resolve(waiting, action="ignore") == {
        "action": "ignore",
        "dry_run": False,
        "override": None,
        "alias": None,
        "job": None,
        "preview": None,
    }

    assert waiting.json("/v1/unpriced")["items"] == []
    assert [one["ignored"] for one in waiting.json("/v1/unpriced", ignored="show")["items"]] == [True]
    assert len(waiting.json("/v1/unpriced", waiting.zenith_key)["items"]) == 1
    resolve(waiting, action="restore")
    assert [one["ignored"] for one in waiting.json("/v1/unpriced")["items"]] == [False]
    assert waiting.post("/v1/unpriced/resolve", GROUP | {"action": "restore"}).status_code == 404


def test_what_is_missing_or_cures_nothing_is_named(waiting: Api) -> None:
    assert refused(waiting, action="alias") == (400, ["/target_model"])
    assert refused(waiting, action="alias", target_model="my-gpt4o") == (400, ["/target_model"])
    assert refused(waiting, action="price") == (400, ["/prices"])
    assert refused(waiting, action="price", prices={"input_tokens": "2.5"}) == (400, ["/unit"])
    assert refused(waiting, action="free", reason="missing_usage") == (400, ["/reason"])
    assert refused(waiting, action="free", reason="aggregate_only") == (400, ["/reason"])
    assert refused(waiting, action="free", model=None) == (400, ["/model"])
    assert refused(waiting, action="free", provider=None) == (400, ["/target_provider"])
    assert refused(waiting, action="alias", provider=None, target_model="gpt-4o") == (400, ["/provider"])
    assert refused(waiting, action="guess") == (400, ["/action"])
    assert waiting.json("/v1/price-overrides")["items"] == []


def test_a_second_price_for_the_same_time_is_a_conflict_that_names_the_first(waiting: Api) -> None:
    first = resolve(waiting, action="free")["override"]["id"]

    again = waiting.post("/v1/unpriced/resolve", GROUP | {"action": "free"})

    assert (again.status_code, again.json()["conflicting_id"]) == (409, first)


def test_a_job_is_ordered_with_filters_and_seen_by_its_organization(waiting: Api) -> None:
    add_prices(waiting.engine, azure("my-gpt4o"))
    order = {"dry_run": True, "model": "my-gpt4o", "start": "2026-03-10T12:00:02Z", "end": "2026-03-11T00:00:00Z"}

    response = waiting.post("/v1/reprice-jobs", order)
    run_all(waiting)

    assert response.status_code == 202
    ordered = response.json()
    assert (ordered["status"], ordered["outcome"], ordered["organization"]) == ("queued", None, "acme")
    job = waiting.json(f"/v1/reprice-jobs/{ordered['id']}")
    assert (job["status"], job["dry_run"], job["model"], job["start"]) == (
        "done",
        True,
        "my-gpt4o",
        "2026-03-10T12:00:02.000000Z",
    )
    assert (job["outcome"]["rows_seen"], job["outcome"]["rows_changed"]) == (2, 2)
    assert [row[0] for row in statuses(waiting.engine)] == ["unpriced"] * 5
    assert waiting.get(f"/v1/reprice-jobs/{ordered['id']}", waiting.zenith_key).status_code == 404
    assert waiting.json(f"/v1/reprice-jobs/{ordered['id']}", waiting.system_key)["id"] == ordered["id"]


def test_a_filter_that_can_choose_nothing_is_refused(waiting: Api) -> None:
    for body, pointer in (
        ({"billing_status": "billed"}, "/billing_status"),
        ({"billing_status": "suppressed"}, "/billing_status"),
        ({"reason": "needs_review"}, "/reason"),
        ({"start": "2026-03-10"}, "/start"),
        ({"start": "2026-03-11T00:00:00Z", "end": "2026-03-10T00:00:00Z"}, "/end"),
        ({"dryrun": True}, "/dryrun"),
    ):
        response = waiting.post("/v1/reprice-jobs", body)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, pointer)


def test_nobody_repairs_for_another_organization(waiting: Api) -> None:
    foreign = GROUP | {"action": "free", "organization": "acme"}

    assert waiting.post("/v1/unpriced/resolve", foreign, waiting.zenith_key).status_code == 404
    assert waiting.post("/v1/reprice-jobs", {"organization": "acme"}, waiting.zenith_key).status_code == 404
    assert waiting.get("/v1/unpriced", waiting.zenith_key, organization="acme").status_code == 404


def test_each_route_needs_its_scope(waiting: Api) -> None:
    reader = waiting.make_key("acme", "usage:read", "prices:read")
    writer = waiting.make_key("acme", "prices:write")
    body = GROUP | {"action": "ignore"}

    assert waiting.get("/v1/unpriced", reader).status_code == 200
    assert waiting.get("/v1/unpriced", writer).status_code == 403
    assert waiting.post("/v1/unpriced/resolve", body, reader).status_code == 403
    assert waiting.post("/v1/unpriced/resolve", body, writer).status_code == 200
    assert waiting.post("/v1/reprice-jobs", {}, reader).status_code == 403
    job = waiting.post("/v1/reprice-jobs", {}, writer).json()["id"]
    assert waiting.get(f"/v1/reprice-jobs/{job}", writer).status_code == 403
    assert waiting.get(f"/v1/reprice-jobs/{job}", reader).status_code == 200


def test_calls_without_a_provider_are_priced_at_their_maker(api: Api) -> None:
    add_prices(api.engine, price("other"))
    book_events(api.engine, *calls(2, provider=None, request_model="gpt-next"))
    (group,) = api.json("/v1/unpriced")["items"]
    assert (group["provider"], group["reason"]) == (None, "unknown_provider")

    body = {
        "model": "gpt-next",
        "reason": "unknown_provider",
        "action": "price",
        "target_provider": "openai",
        "prices": {"input_tokens": "2.5", "output_tokens": "10"},
        "unit": "1m",
    }
    response = api.post("/v1/unpriced/resolve", body)
    run_all(api)

    assert response.status_code == 200, response.text
    assert statuses(api.engine) == [("billed", None, COST, 2)] * 2


def test_what_no_model_names_can_only_be_ignored(api: Api) -> None:
    add_prices(api.engine, price("other"))
    book_events(api.engine, *calls(1, provider=None, request_model=None), *calls(1, org_id=ZENITH, usage=Usage()))
    (group,) = api.json("/v1/unpriced")["items"]
    assert (group["provider"], group["model"], group["reason"], group["suggestions"]) == (
        None,
        None,
        "model_missing",
        [],
    )

    assert api.post("/v1/unpriced/resolve", {"reason": "model_missing", "action": "ignore"}).status_code == 200

    assert api.json("/v1/unpriced")["items"] == []

"""Budgets, checks, alerts and webhooks over the API, as two organizations and the system."""

from __future__ import annotations

from typing import Any

import pytest

from farebox_ledger.budgets import evaluate_budget
from farebox_ledger.store.budgets import get_budget
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.prices import insert_prices, raise_catalog_version
from farebox_ledger.webhooks import deliver_due
from tests.api.conftest import Api, bearer
from tests.ledger.budgets.making import book_all, cost
from tests.ledger.budgets.receiving import receiving
from tests.ledger.repricing_cases import price
from tests.ledger.store.bookings import EVERYBODY, booking, unpriced

NOW = "2026-03-10T13:00:00Z"
BUDGET = {"name": "March", "amount": "10", "starts_at": "2026-03-01T00:00:00Z", "period": "total"}
HOOK = {"url": "https://example.com/hook", "events": ["budget.alert"]}


def make(api: Api, path: str, body: dict[str, Any], key: str | None = None) -> Any:
    response = api.post(path, body, key)
    assert response.status_code == 201, response.text
    return response.json()


def patch(api: Api, path: str, body: Any, key: str | None = None, **headers: str) -> Any:
    return api.client.patch(path, json=body, headers={**bearer(key or api.acme_key), **headers})


def delete(api: Api, path: str, key: str | None = None, **headers: str) -> Any:
    return api.client.delete(path, headers={**bearer(key or api.acme_key), **headers})


def check(api: Api, as_key: str | None = None, /, **call: Any) -> Any:
    response = api.post("/v1/budgets/check", call, as_key)
    assert response.status_code == 200, response.text
    return response.json()


def evaluate(api: Api, budget: str) -> None:
    with transaction(api.engine, EVERYBODY) as connection:
        found = get_budget(connection, EVERYBODY, budget)
    evaluate_budget(api.engine, found)


@pytest.mark.parametrize(
    ("path", "body", "change"),
    [("/v1/budgets", BUDGET, {"amount": "12.50"}), ("/v1/webhooks", HOOK, {"events": ["usage.unpriced_found"]})],
)
def test_a_thing_is_made_read_changed_and_deleted(api: Api, path: str, body: Any, change: Any) -> None:
    response = api.post(path, body)
    made = response.json()
    own = f"{path}/{made['id']}"
    assert (response.status_code, response.headers["location"], response.headers["etag"]) == (201, own, '"1"')
    assert (made["organization"], made["row_version"], made["is_active"]) == ("acme", 1, True)
    secret = made.pop("secret", None)
    assert (secret is not None) == (path == "/v1/webhooks")
    assert api.json(own) == made
    assert api.json(path)["items"] == [made]

    changed = patch(api, own, change, **{"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert changed.json() != made
    assert patch(api, own, change, **{"If-Match": '"1"'}).status_code == 412
    assert delete(api, own, **{"If-Match": '"1"'}).status_code == 412
    assert delete(api, own, **{"If-Match": '"2"'}).status_code == 204
    assert api.get(own).status_code == 404
    assert api.json(path)["items"] == []


def test_another_organizations_budgets_alerts_and_webhooks_do_not_exist(api: Api) -> None:
    book_all(api.engine, cost(1, "20"))
    budget, hook = make(api, "/v1/budgets", BUDGET)["id"], make(api, "/v1/webhooks", HOOK)["id"]
    evaluate(api, budget)
    alert = api.json("/v1/alerts")["items"][0]["id"]
    other = api.zenith_key

    answers = [
        api.get(f"/v1/budgets/{budget}", other),
        api.get(f"/v1/budgets/{budget}/spending", other),
        patch(api, f"/v1/budgets/{budget}", {"name": "mine"}, other),
        delete(api, f"/v1/budgets/{budget}", other),
        api.get(f"/v1/alerts/{alert}", other),
        api.post(f"/v1/alerts/{alert}/acknowledge", {}, other),
        api.get(f"/v1/webhooks/{hook}", other),
        api.get(f"/v1/webhooks/{hook}/deliveries", other),
        api.post(f"/v1/webhooks/{hook}/ping", {}, other),
        patch(api, f"/v1/webhooks/{hook}", {"notes": "mine"}, other),
        delete(api, f"/v1/webhooks/{hook}", other),
        api.post("/v1/budgets", {**BUDGET, "organization": "acme"}, other),
        api.post("/v1/webhooks", {**HOOK, "organization": "acme"}, other),
        api.post("/v1/budgets/check", {"organization": "acme"}, other),
        api.get("/v1/alerts", other, organization="acme"),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert [api.json(path, other)["items"] for path in ("/v1/budgets", "/v1/alerts", "/v1/webhooks")] == [[], [], []]
    assert check(api, other)["budgets"] == []


def test_scopes_open_reading_and_writing_apart(api: Api) -> None:
    reader, writer = api.make_key("acme", "budgets:read"), api.make_key("acme", "budgets:write")

    assert api.get("/v1/budgets", reader).status_code == 200
    assert api.post("/v1/budgets/check", {}, reader).status_code == 200
    assert api.post("/v1/budgets", BUDGET, reader).status_code == 403
    assert api.post("/v1/budgets", BUDGET, writer).status_code == 201
    assert api.get("/v1/alerts", writer).status_code == 403


def test_what_was_spent_is_what_the_summary_of_the_same_filter_says(api: Api) -> None:
    book_all(
        api.engine,
        cost(1, "1.25", user="ann"),
        cost(2, "2", user="bob"),
        cost(3, "3", user="ann", currency="EUR"),
        booking(4, unpriced(), user="ann", trace_id=bytes(15) + b"\x04"),
    )
    budget = make(api, "/v1/budgets", {"name": "ann", "amount": "1", "scope": {"user": "ann"}})

    spent = api.json(f"/v1/budgets/{budget['id']}/spending", None, at=NOW)
    groups = api.json("/v1/usage/summary", None, start="2026-03-01T00:00:00Z", end="2026-04-01T00:00:00Z", user="ann")[
        "groups"
    ]

    costs = {group["currency"]: group["cost"] for group in groups if group["currency"]}
    assert (spent["spent"], spent["remaining"]) == (costs["USD"], "-0.25")
    assert spent["other_currencies"] == [{"currency": "EUR", "cost": costs["EUR"]}]
    assert (spent["unpriced_rows"], spent["requests"], spent["is_complete"]) == (1, 3, False)
    assert spent["reached"] == ["80%", "100%"]
    assert spent["data_through"] == "2026-03-10T12:00:00.000000Z"


def test_L15_a_hard_threshold_denies_and_a_soft_one_warns(api: Api) -> None:
    book_all(api.engine, cost(1, "7", project="alpha"))
    budget = make(api, "/v1/budgets", {**BUDGET, "scope": {"project": "alpha"}})["id"]

    free = check(api, project="beta")
    fine = check(api, project="alpha", estimated_cost="1")
    warned = check(api, project="alpha", estimated_cost="1.000000000001")
    full = check(api, project="alpha", estimated_cost=3)
    denied = check(api, project="alpha", estimated_cost="3.01")
    other = check(api, project="alpha", estimated_cost="99", currency="EUR")

    assert [one["decision"] for one in (free, fine, warned, full, denied, other)] == [
        "allow", "allow", "warn", "warn", "deny", "allow",
    ]  # fmt: skip
    assert [one["allowed"] for one in (warned, denied)] == [True, False]
    assert free["budgets"] == []
    (binding,) = denied["budgets"]
    assert (binding["budget"], binding["spent"], binding["remaining"], binding["currency"]) == (budget, "7", "3", "USD")
    assert binding["reached"] == ["80%", "100%"]
    assert denied["data_through"] == "2026-03-10T12:00:00.000000Z"


def test_a_usage_is_priced_by_the_catalog_and_an_unknown_model_says_so(api: Api) -> None:
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        insert_prices(connection, [price("gpt-4o")], None)
        raise_catalog_version(connection)
    make(api, "/v1/budgets", {"name": "small", "amount": "0.004", "scope": {"model": "gpt-4o"}})
    usage = {"input_tokens": 1000, "output_tokens": 200}

    priced = check(api, provider="openai", model="gpt-4o", usage=usage)
    unknown = check(api, provider="openai", model="gpt-99", usage=usage)

    assert priced["estimate"] == {"cost": "0.0045", "currency": "USD", "status": "billed", "reason": None}
    assert priced["allowed"] is False
    assert (unknown["estimate"]["cost"], unknown["estimate"]["reason"]) == (None, "unknown_model")
    assert unknown["allowed"] is True


def test_thresholds_are_percents_or_amounts(api: Api) -> None:
    wanted = [{"kind": "soft", "percent": 33.33}, {"kind": "hard", "amount": "4.50"}]

    budget = make(api, "/v1/budgets", {"name": "b", "amount": "10", "thresholds": wanted})

    assert budget["thresholds"] == [
        {"name": "33.33%", "kind": "soft", "percent": "33.33", "amount": None, "limit": "3.333"},
        {"name": "4.5", "kind": "hard", "percent": None, "amount": "4.5", "limit": "4.5"},
    ]
    changed = patch(api, f"/v1/budgets/{budget['id']}", {"thresholds": [], "amount": 7}).json()
    assert (changed["thresholds"], changed["amount"]) == ([], "7")


def test_every_kind_of_scope_binds_the_calls_that_it_is_for(api: Api) -> None:
    scopes = [{}, {"user": "ann"}, {"key": "k"}, {"tag": "b"}, {"service": "s", "category": "c"}, {"model": "m"}]
    for number, scope in enumerate(scopes):
        make(api, "/v1/budgets", {"name": str(number), "amount": "1", "scope": scope})

    def bound(**call: Any) -> list[str]:
        return [one["name"] for one in check(api, **call)["budgets"]]

    assert bound() == ["0"]
    assert bound(user="ann", key="k", tags=["a", "b"]) == ["0", "1", "2", "3"]
    assert bound(service="s") == ["0"]
    assert bound(service="s", category="c", model="m") == ["0", "4", "5"]


def test_alerts_are_listed_by_pages_filtered_and_acknowledged_once(api: Api) -> None:
    book_all(api.engine, cost(1, "20"))
    budgets = [make(api, "/v1/budgets", BUDGET)["id"] for _ in range(2)]
    for budget in budgets:
        evaluate(api, budget)

    seen: list[Any] = []
    page = api.json("/v1/alerts", None, limit=3)
    while True:
        seen += page["items"]
        if not page["has_more"]:
            break
        page = api.json("/v1/alerts", None, limit=3, cursor=page["next_cursor"])
    assert len({one["id"] for one in seen}) == len(seen) == 4
    assert seen == sorted(seen, key=lambda one: (one["fired_at"], one["id"]), reverse=True)
    assert {one["budget"] for one in api.json("/v1/alerts", None, budget=budgets[0])["items"]} == {budgets[0]}
    assert {one["threshold"] for one in api.json("/v1/alerts", None, kind="hard")["items"]} == {"100%"}

    first = api.post(f"/v1/alerts/{seen[0]['id']}/acknowledge", {}).json()
    again = api.post(f"/v1/alerts/{seen[0]['id']}/acknowledge", {}, api.system_key).json()
    assert first == again
    assert first["acknowledged_by"]
    assert api.json("/v1/alerts", None, acknowledged=True)["items"] == [first]
    assert len(api.json("/v1/alerts", None, acknowledged=False, resolved=False)["items"]) == 3


def test_a_ping_arrives_and_the_log_says_so(api: Api) -> None:
    with receiving() as receiver:
        body = {"url": receiver.url, "events": ["budget.alert"], "allow_private": True, "organization": "acme"}
        hook = make(api, "/v1/webhooks", body, api.system_key)
        sent = api.post(f"/v1/webhooks/{hook['id']}/ping", {})
        assert (sent.status_code, sent.json()["status"]) == (202, "pending")
        deliver_due(api.engine, 2**52)

    ((headers, _),) = receiver.came
    (delivery,) = api.json(f"/v1/webhooks/{hook['id']}/deliveries")["items"]
    assert (delivery["status"], delivery["message_id"]) == ("delivered", headers["webhook-id"])
    assert api.json(f"/v1/webhooks/{hook['id']}/deliveries", None, status="dead")["items"] == []


def test_only_the_system_lets_messages_into_private_networks(api: Api) -> None:
    private = {**HOOK, "url": "http://127.0.0.1:9/"}

    assert api.post("/v1/webhooks", private).status_code == 400
    assert api.post("/v1/webhooks", {**private, "allow_private": True}).status_code == 403
    made = make(api, "/v1/webhooks", {**private, "allow_private": True, "organization": "acme"}, api.system_key)
    assert patch(api, f"/v1/webhooks/{made['id']}", {"url": "http://127.0.0.1:22/"}).status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/budgets", {**BUDGET, "amount": "0"}, "/amount"),
        ("/v1/budgets", {**BUDGET, "amount": "ten"}, "/amount"),
        ("/v1/budgets", {**BUDGET, "amount": "NaN"}, "/amount"),
        ("/v1/budgets", {**BUDGET, "period": "hour"}, "/period"),
        ("/v1/budgets", {**BUDGET, "tz": "Mars/Olympus"}, "/tz"),
        ("/v1/budgets", {**BUDGET, "starts_at": "2026-03-01T00:00:00"}, "/starts_at"),
        ("/v1/budgets", {**BUDGET, "scope": {"user": "a", "tag": "b"}}, "/scope/tag"),
        ("/v1/budgets", {**BUDGET, "scope": {"team": "a"}}, "/scope/team"),
        ("/v1/budgets", {**BUDGET, "thresholds": [{"kind": "soft"}]}, "/thresholds/0"),
        ("/v1/budgets", {**BUDGET, "thresholds": [{"kind": "soft", "percent": "x"}]}, "/thresholds/0/percent"),
        ("/v1/budgets", {**BUDGET, "limit": 1}, "/limit"),
        ("/v1/budgets/check", {"estimated_cost": "-1"}, "/estimated_cost"),
        ("/v1/budgets/check", {"estimated_cost": "1e30"}, "/estimated_cost"),
        ("/v1/budgets/check", {"usage": {"input_tokens": 1}}, "/usage"),
        ("/v1/budgets/check", {"cost": 1}, "/cost"),
        ("/v1/webhooks", {**HOOK, "url": "http://example.com"}, "/url"),
        ("/v1/webhooks", {**HOOK, "events": []}, "/events"),
        ("/v1/webhooks", {**HOOK, "events": ["webhook.ping"]}, "/events/0"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_pointed_at(api: Api, path: str, body: Any, pointer: str) -> None:
    response = api.post(path, body)

    assert response.status_code == 400
    assert [error["pointer"].replace("...", "0") for error in response.json()["errors"]] == [pointer]


def test_a_system_key_names_the_organization(api: Api) -> None:
    for path, body in (("/v1/budgets", BUDGET), ("/v1/budgets/check", {})):
        assert api.post(path, body, api.system_key).json()["errors"][0]["pointer"] == "/organization"
        assert api.post(path, {**body, "organization": "nobody"}, api.system_key).status_code == 404
    assert make(api, "/v1/webhooks", HOOK, api.system_key)["organization"] is None

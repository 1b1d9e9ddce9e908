"""One tenant against another's things, over every route that the document names; and who changed what, for each.

A new route fails here until it is told how it is reached: its path's ids in `made`, its body in `BODIES`.
"""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from litestar.testing import TestClient

from farebox_ledger.budgets import evaluate_budget
from farebox_ledger.price_sync import sync_prices
from farebox_ledger.store.budgets import get_budget
from farebox_ledger.store.engine import transaction
from tests.api.conftest import Api, bearer
from tests.api.test_quarantine import EVERYBODY, set_aside
from tests.fakes.catalog_server import catalog_server
from tests.ledger.budgets.making import book_all, cost
from tests.ledger.store.quarantined import span
from tests.ledger.test_price_sync import MODELS, entry

MARK: Final = "only-of-acme"
SHARED: Final = {"sync_id"}
"""Ids of what belongs to nobody: the catalog's syncs, which everybody reads and the system alone changes."""
SYSTEMS: Final = {"POST /v1/organizations", "POST /v1/price-syncs", "POST /v1/price-syncs/{sync_id}/approve"}
"""What a system key alone may do."""
CHANGES_NOTHING: Final = {"quote_prices", "check_budgets"}

CALL: Final = {
    "external_id": MARK,
    "occurred_at": "2026-03-30T12:00:00Z",
    "provider": "openai",
    "model": f"{MARK}-model",
    "project": f"{MARK}-project",
    "user": f"{MARK}-user",
    "service": f"{MARK}-service",
    "input_tokens": 10,
}
BODIES: Final[dict[str, Any]] = {
    "POST /v1/usage": CALL,
    "POST /v1/organizations": {"slug": "newcomer"},
    "POST /v1/price-syncs": {},
    "POST /v1/quarantine/{quarantine_id}/replay": {},
    "POST /v1/price-overrides": {
        "provider": "openai",
        "model": f"{MARK}-priced",
        "unit": "1m",
        "prices": {"input_tokens": "1"},
    },
    "POST /v1/multipliers": {"factor": "1.2", "upstream": f"{MARK}-upstream"},
    "POST /v1/model-aliases": {"alias": f"{MARK}-alias", "target_model": "gpt-4o"},
    "POST /v1/model-configs": {"name": f"{MARK}-config", "provider": "openai", "model": "gpt-4o"},
    "POST /v1/upstreams": {"name": f"{MARK}-other-upstream"},
    "POST /v1/api-keys": {"scopes": ["usage:read"], "name": MARK},
    "POST /v1/reprice-jobs": {"dry_run": True},
    "POST /v1/unpriced/resolve": {
        "action": "ignore",
        "provider": "openai",
        "model": f"{MARK}-model",
        "reason": "unknown_model",
    },
    "POST /v1/budgets": {"name": MARK, "amount": "10"},
    "POST /v1/budgets/check": {},
    "POST /v1/webhooks": {"url": "https://example.com/hook", "events": ["budget.alert"]},
    "POST /v1/credits/accounts": {"name": MARK},
    "POST /v1/credits/grants": {"amount": "1", "description": MARK},
    "POST /v1/credits/grants/{grant_id}/void": {"reason": "a mistake"},
    "POST /v1/credits/purchases": {"amount": "1", "external_id": MARK},
    "POST /v1/credits/adjustments": {"amount": "1", "description": MARK},
    "POST /v1/prices/quote": {"items": [{"provider": "openai", "model": "gpt-4o", "usage": {"input_tokens": 1}}]},
    "PATCH /v1/projects/{project}": {"name": "Mine"},
    "PATCH /v1/price-overrides/{override_id}": {"notes": "mine"},
    "PATCH /v1/multipliers/{multiplier_id}": {"notes": "mine"},
    "PATCH /v1/model-aliases/{alias_id}": {"notes": "mine"},
    "PATCH /v1/model-configs/{config_id}": {"notes": "mine"},
    "PATCH /v1/upstreams/{upstream_id}": {"notes": "mine"},
    "PATCH /v1/budgets/{budget_id}": {"notes": "mine"},
    "PATCH /v1/credits/accounts/{account_id}": {"low_balance": "10"},
    "PATCH /v1/webhooks/{webhook_id}": {"events": ["budget.alert"]},
    "PUT /v1/organizations/{organization}/price-policy": {
        "use_archive": True,
        "carry_retired": True,
        "stated_cost_bills": False,
        "aggregate_only_bills": False,
    },
}
MAKERS: Final = {
    "override_id": "/v1/price-overrides",
    "multiplier_id": "/v1/multipliers",
    "alias_id": "/v1/model-aliases",
    "config_id": "/v1/model-configs",
    "upstream_id": "/v1/upstreams",
    "key_id": "/v1/api-keys",
    "job_id": "/v1/reprice-jobs",
    "budget_id": "/v1/budgets",
    "webhook_id": "/v1/webhooks",
    "grant_id": "/v1/credits/grants",
}


def routes(client: TestClient[Any]) -> list[tuple[str, str, Any]]:
    paths = client.get("/schema/openapi.json").json()["paths"]
    return [
        (method.upper(), path, operation)
        for path, item in paths.items()
        for method, operation in item.items()
        if path.startswith("/v1/")
    ]


def made(api: Api) -> dict[str, str]:
    """Make one thing of each kind as acme and answer the ids, by the names that paths give them."""
    answer = api.post("/v1/usage", CALL)
    assert answer.status_code == 200, answer.text
    ids = {
        "organization": "acme",
        "month": "2026-03",
        "user": CALL["user"],
        "project": CALL["project"],
        "usage_id": api.json("/v1/usage")["items"][0]["id"],
    }
    ids["account_id"] = api.post("/v1/credits/accounts", BODIES["POST /v1/credits/accounts"]).json()["id"]
    for name, path in MAKERS.items():
        answer = api.post(path, BODIES[f"POST {path}"])
        assert answer.status_code in (201, 202), (path, answer.text)
        ids[name] = answer.json()["id"]
    return ids | {"alert_id": alert(api), "quarantine_id": quarantined(api), "sync_id": awaiting_sync(api)}


def alert(api: Api) -> str:
    """Spend acme's budget, and answer the id of the alert."""
    answer = api.post("/v1/budgets", {"name": MARK, "amount": "10", "period": "total"})
    with transaction(api.engine, EVERYBODY) as connection:
        budget = get_budget(connection, EVERYBODY, answer.json()["id"])
    book_all(api.engine, cost(1, "20"))
    return evaluate_budget(api.engine, budget)[0].id


def quarantined(api: Api) -> str:
    set_aside(api, span(1, detail=MARK))
    return f"{1:032x}"


def awaiting_sync(api: Api) -> str:
    """Sync twice, and answer the id of the second sync, which moves a price too far."""
    for price in (2e-06, 2e-05):
        with catalog_server() as server:
            server.put({**MODELS, "model-3": entry(price)})
            sync = sync_prices(api.engine, server.url)
    assert sync.status == "awaiting_approval"
    return sync.id


def caller(api: Api, method: str, path: str) -> str:
    return api.system_key if f"{method} {path}" in SYSTEMS else api.acme_key


def send(api: Api, method: str, route: str, path: str, key: str, **parameters: str) -> Any:
    body = BODIES.get(f"{method} {route}")
    sent = {} if body is None else {"json": body}
    return api.client.request(method, path, headers=bearer(key), params=parameters, **sent)


def with_ids(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda name: ids[name[1]], path)


def test_no_route_shows_or_changes_what_another_tenant_has(api: Api) -> None:
    ids = made(api)
    wrong = {}
    for method, path, _ in routes(api.client):
        named = set(re.findall(r"{(\w+)}", path))
        if not named or (named & SHARED and method == "GET"):
            continue
        answer = send(api, method, path, with_ids(path, ids), api.zenith_key)
        if answer.status_code != (403 if named & SHARED else 404):
            wrong[f"{method} {path}"] = (answer.status_code, answer.text[:200])

    assert wrong == {}
    for name in ("price-overrides", "budgets", "alerts", "webhooks", "quarantine", "users", "projects", "usage"):
        assert api.json(f"/v1/{name}")["items"], name
    assert api.json("/v1/alerts")["items"][0]["acknowledged_at"] is None
    assert api.json("/v1/quarantine")["items"][0]["state"] == "held"
    assert api.json(f"/v1/price-syncs/{ids['sync_id']}")["status"] == "awaiting_approval"


def test_no_list_or_sum_holds_what_another_tenant_has(api: Api) -> None:
    ids = made(api)
    hidden = [MARK, *(ids[name] for name in (*MAKERS, "usage_id", "account_id", "alert_id", "quarantine_id"))]
    for method, path, operation in routes(api.client):
        if method != "GET" or "{" in path:
            continue
        required = {item["name"] for item in operation.get("parameters", ()) if item.get("required")}
        parameters = dict.fromkeys(required, "openai")
        answer = send(api, method, path, path, api.zenith_key, **parameters)
        assert answer.status_code in (200, 404, 501), (path, answer.text)
        assert [one for one in hidden if one in answer.text] == [], path


def test_no_tenant_names_another_organization(api: Api) -> None:
    made(api)
    wrong = {}
    for method, path, operation in routes(api.client):
        names = {item["name"] for item in operation.get("parameters", ())}
        if "organization" not in names or "{organization}" in path or "{" in path:
            continue
        required = {item["name"] for item in operation["parameters"] if item.get("required")}
        answer = send(api, method, path, path, api.zenith_key, **dict.fromkeys(required, "openai"), organization="acme")
        if answer.status_code != 404:
            wrong[f"{method} {path}"] = (answer.status_code, answer.text[:200])
    schemas = api.client.get("/schema/openapi.json").json()["components"]["schemas"]
    for method, path, operation in routes(api.client):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        shape = schemas.get(content.get("$ref", "").rpartition("/")[2], {})
        if "{" in path or "organization" not in shape.get("properties", {}):
            continue
        body = BODIES[f"{method} {path}"] | {"organization": "acme"}
        answer = api.client.request(method, path, json=body, headers=bearer(api.zenith_key))
        if answer.status_code != 404:
            wrong[f"{method} {path} body"] = (answer.status_code, answer.text[:200])

    assert wrong == {}


def test_every_path_and_body_is_known_to_these_tests(api: Api) -> None:
    ids = {"organization", "month", "user", "project", "usage_id", *MAKERS, *SHARED}
    ids |= {"account_id", "alert_id", "quarantine_id"}
    for method, path, operation in routes(api.client):
        assert set(re.findall(r"{(\w+)}", path)) <= ids, path
        if "requestBody" in operation:
            assert f"{method} {path}" in BODIES, (method, path)


@pytest.mark.timeout(300)
def test_every_change_by_the_api_leaves_an_entry(api: Api) -> None:
    ids = made(api)
    refused = {}
    found = [route for route in routes(api.client) if route[0] != "GET"]
    in_order = sorted(found, key=lambda route: (route[0] == "DELETE", route[0] == "POST", "{" not in route[1]))
    walked = set()
    for method, path, operation in in_order:
        name = operation["operationId"]
        if name in CHANGES_NOTHING:
            continue
        answer = send(api, method, path, with_ids(path, ids), caller(api, method, path))
        walked.add(name)
        if answer.status_code >= 400 and answer.status_code != 409:
            refused[f"{method} {path}"] = answer.text[:300]

    assert refused == {}
    noted, nameless = set(), set()
    cursor: dict[str, str] = {}
    while True:
        page = api.json("/v1/audit-log", api.system_key, limit=500, **cursor)
        noted |= {entry["via"] for entry in page["items"]}
        nameless |= {entry["via"] for entry in page["items"] if entry["object_kind"] == "request"}
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert walked - noted == set()
    assert nameless == {"record_usage"}  # what it made are the rows themselves

"""Every change leaves an entry: who, what, before and after; and no secret."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from farebox_ledger.budgets import evaluate_budget
from farebox_ledger.commands.organizations import keys, orgs
from farebox_ledger.store.budgets import get_budget
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.scope import AllOrganizations
from tests.api.conftest import Api, bearer
from tests.api.test_quarantine import set_aside
from tests.ledger.budgets.making import book_all, cost
from tests.ledger.store.quarantined import MIDNIGHT_US, span

EVERYBODY = AllOrganizations()


def override(model: str = "gpt-test", price: str = "1") -> dict[str, Any]:
    return {"provider": "openai", "model": model, "unit": "1m", "prices": {"input_tokens": price}}


def test_a_change_is_noted_with_its_state_before_and_after(api: Api) -> None:
    made = api.post("/v1/price-overrides", override())
    assert made.status_code == 201, made.text
    path = f"/v1/price-overrides/{made.json()['id']}"
    api.client.patch(path, json={"notes": "agreed"}, headers=bearer(api.acme_key) | {"X-Request-Id": "request-0001"})
    api.client.delete(path, headers=bearer(api.acme_key))

    entries = api.json("/v1/audit-log", object_id=made.json()["id"])["items"]

    assert [entry["action"] for entry in entries] == [
        "price_override.delete",
        "price_override.change",
        "price_override.create",
    ]
    deleted, changed, created = entries
    assert (created["before"], created["after"]["model"]) == (None, "gpt-test")
    assert (changed["before"]["notes"], changed["after"]["notes"]) == (None, "agreed")
    assert changed["request_id"] == "request-0001"
    assert changed["via"] == "change_price_override"
    assert (deleted["before"]["notes"], deleted["after"]) == ("agreed", None)
    assert {(entry["organization"], entry["actor_kind"]) for entry in entries} == {("acme", "key")}


def test_a_refused_change_leaves_no_entry(api: Api) -> None:
    before = api.json("/v1/audit-log")["items"]

    assert api.post("/v1/price-overrides", override(price="-1")).status_code == 400
    assert api.client.delete("/v1/api-keys/key_none", headers=bearer(api.acme_key)).status_code == 404

    assert api.json("/v1/audit-log")["items"] == before


def test_no_key_is_in_the_log(api: Api) -> None:
    made = api.post("/v1/api-keys", {"scopes": ["usage:read"], "name": "reader"}).json()

    with transaction(api.engine, EVERYBODY) as connection:
        kept = str(connection.execute(text("SELECT * FROM audit_log")).all())

    assert made["id"] in kept
    assert made["key"] not in kept
    assert '"hash"' not in kept


def states(api: Api, identity: str, *members: str) -> list[tuple[str, list[Any], list[Any]]]:
    """Answer the entries of a thing, oldest first: (action, members before, members after)."""
    entries = api.json("/v1/audit-log", object_id=identity)["items"][::-1]
    return [
        (entry["action"], *([(entry[when] or {}).get(name) for name in members] for when in ("before", "after")))
        for entry in entries
    ]


def test_what_is_decided_about_credits_is_noted_with_its_states(api: Api) -> None:
    account = api.post("/v1/credits/accounts", {"user": "ann", "rate": "100"}).json()["id"]
    grant = api.post("/v1/credits/grants", {"account": account, "amount": "25.5", "external_id": "gift"}).json()["id"]
    api.post("/v1/credits/grants", {"account": account, "amount": "25.5", "external_id": "gift"})
    api.post(f"/v1/credits/grants/{grant}/void", {"reason": "a mistake"})
    bought = api.post("/v1/credits/purchases", {"account": account, "amount": "5", "external_id": "pay_7"}).json()["id"]
    taken = api.post("/v1/credits/adjustments", {"account": account, "amount": "-2.5", "description": "typo"}).json()

    assert states(api, account, "owner", "rate") == [("credit_account.create", [None, None], ["ann", "100"])]
    assert states(api, grant, "amount", "external_id", "void_reason", "row_version") == [
        ("credit_grant.create", [None] * 4, ["25.5", "gift", None, 1]),
        ("credit_grant.void", ["25.5", "gift", None, 1], ["25.5", "gift", "a mistake", 2]),
    ]
    assert states(api, bought, "kind", "amount") == [("credit_grant.create", [None, None], ["purchase", "5"])]
    assert states(api, taken["id"], "amount", "description") == [
        ("credit_adjustment.create", [None, None], ["-2.5", "typo"])
    ]


def test_what_is_decided_about_budgets_is_noted_with_its_states(api: Api) -> None:
    body = {"name": "by key", "amount": "10", "scope": {"key": "key_of_the_app"}}
    path = f"/v1/budgets/{api.post('/v1/budgets', body).json()['id']}"
    api.client.patch(path, json={"amount": "12.5"}, headers=bearer(api.acme_key))
    api.client.delete(path, headers=bearer(api.acme_key))

    scope, ten, more = {"key": "key_of_the_app"}, 10 * 10**12, 12_500_000_000_000
    assert states(api, path.rpartition("/")[2], "scope", "amount_pico", "row_version") == [
        ("budget.create", [None] * 3, [scope, ten, 1]),
        ("budget.change", [scope, ten, 1], [scope, more, 2]),
        ("budget.delete", [scope, more, 2], [None] * 3),
    ]


def test_webhooks_are_noted_with_their_states_and_without_their_secrets(api: Api) -> None:
    made = api.post("/v1/webhooks", {"url": "https://example.com/hook", "events": ["budget.alert"]}).json()
    path = f"/v1/webhooks/{made['id']}"
    api.client.patch(path, json={"url": "https://example.com/other"}, headers=bearer(api.acme_key))
    ping = api.post(f"{path}/ping", None).json()
    api.client.delete(path, headers=bearer(api.acme_key))

    assert states(api, made["id"], "url", "events", "delivery") == [
        ("webhook.create", [None] * 3, ["https://example.com/hook", ["budget.alert"], None]),
        (
            "webhook.change",
            ["https://example.com/hook", ["budget.alert"], None],
            ["https://example.com/other", ["budget.alert"], None],
        ),
        ("webhook.ping", [None] * 3, [None, None, ping["id"]]),
        ("webhook.delete", ["https://example.com/other", ["budget.alert"], None], [None] * 3),
    ]
    with transaction(api.engine, EVERYBODY) as connection:
        kept = str(connection.execute(text("SELECT * FROM audit_log")).all())
    assert made["secret"].startswith("whsec_")
    assert made["secret"] not in kept
    assert "whsec_" not in kept
    assert "signing" not in kept


def test_an_alert_is_acknowledged_once_and_a_second_time_changes_nothing(api: Api) -> None:
    budget = api.post("/v1/budgets", {"name": "March", "amount": "10", "period": "total"}).json()["id"]
    book_all(api.engine, cost(1, "9"))
    with transaction(api.engine, EVERYBODY) as connection:
        found = get_budget(connection, EVERYBODY, budget)
    (alert,) = evaluate_budget(api.engine, found)
    for _ in range(2):
        assert api.post(f"/v1/alerts/{alert.id}/acknowledge", None).status_code == 200

    ((action, before, after),) = states(api, alert.id, "acknowledged_by", "threshold")

    assert (action, before[0], before[1], after[1]) == ("alert.acknowledge", None, "80%", "80%")
    assert after[0].startswith("key_")
    assert len([one for one in api.json("/v1/audit-log")["items"] if one["via"] == "acknowledge_alert"]) == 1


def test_what_is_decided_about_a_quarantined_span_is_noted_without_what_it_holds(api: Api) -> None:
    set_aside(api, span(1))
    identity = f"{1:032x}"
    api.post(f"/v1/quarantine/{identity}/replay", {"occurred_at": "2026-10-01T00:00:00Z"})
    api.client.delete(f"/v1/quarantine/{identity}", headers=bearer(api.acme_key))

    assert states(api, identity, "state", "stated_end_us", "attributes", "span") == [
        ("quarantine.replay", ["held", None, None, None], ["requested", MIDNIGHT_US, None, None]),
        ("quarantine.delete", ["requested", MIDNIGHT_US, None, None], [None] * 4),
    ]


def test_a_tenant_sees_its_own_entries_and_the_system_all(api: Api) -> None:
    api.post("/v1/price-overrides", override(), api.zenith_key)

    assert {entry["organization"] for entry in api.json("/v1/audit-log")["items"]} == {"acme"}
    seen = api.json("/v1/audit-log", api.system_key)["items"]
    assert {"acme", "zenith", None} == {entry["organization"] for entry in seen}
    assert api.get("/v1/audit-log", api.make_key("acme", "usage:read")).status_code == 403


def test_pages_of_the_log_join_without_a_gap(api: Api) -> None:
    for number in range(5):
        api.post("/v1/price-overrides", override(f"model-{number}"))
    whole = [entry["id"] for entry in api.json("/v1/audit-log", api.system_key)["items"]]

    paged: list[str] = []
    cursor = None
    while True:
        page = api.json("/v1/audit-log", api.system_key, limit=2, **({"cursor": cursor} if cursor else {}))
        paged += [entry["id"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert paged == whole


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'eve'", "DELETE FROM audit_log"])
def test_entries_are_never_changed_or_deleted(api: Api, statement: str) -> None:
    with (
        pytest.raises(IntegrityError, match="append-only"),
        owner_transaction(api.engine, write=True) as connection,
    ):
        connection.execute(text(statement))


def test_commands_are_noted_with_their_user(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LOGNAME", "ada")

    assert orgs(["create", "acme"]) == 0
    assert keys(["create", "--org", "acme", "--scope", "ingest"]) == 0

    assert "fbx_" in capsys.readouterr().out
    with transaction(engine, EVERYBODY) as connection:
        found = connection.execute(text("SELECT actor_kind, actor, via, action FROM audit_log ORDER BY at_us")).all()
    assert [tuple(row) for row in found] == [
        ("command", "ada", "farebox orgs", "organization.create"),
        ("command", "ada", "farebox keys", "api_key.create"),
    ]

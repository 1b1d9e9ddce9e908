"""Every change leaves an entry: who, what, before and after; and no secret."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from farebox_ledger.commands.organizations import keys, orgs
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.scope import AllOrganizations
from tests.api.conftest import Api, bearer

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

"""Users and projects: made by the calls that name them, deleted with their rows kept, erased with nothing left."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text

from farebox_ledger.store.engine import transaction
from farebox_ledger.store.scope import AllOrganizations
from tests.api.conftest import Api, bearer

CALL = {
    "external_id": "call-1",
    "occurred_at": "2026-03-30T12:00:00Z",
    "provider": "openai",
    "model": "gpt-4o",
    "project": "atlas",
    "user": "ada",
    "user_email": "ada@example.com",
    "input_tokens": 10,
    "output_tokens": 5,
}


def told(api: Api, **facts: Any) -> None:
    answer = api.post("/v1/usage", CALL | facts)
    assert answer.status_code == 200, answer.text


def remove(api: Api, path: str, key: str | None = None) -> int:
    return int(api.client.delete(path, headers=bearer(key or api.acme_key)).status_code)


def test_D30_a_project_is_made_by_the_first_call_that_names_it_and_can_be_named(api: Api) -> None:
    told(api)
    headers = bearer(api.acme_key)

    assert [project["project"] for project in api.json("/v1/projects")["items"]] == ["atlas"]
    named = api.client.patch("/v1/projects/atlas", json={"name": "Atlas maps"}, headers=headers)
    told(api, external_id="call-2")

    assert named.status_code == 200
    assert api.json("/v1/projects/atlas")["name"] == "Atlas maps"
    assert remove(api, "/v1/projects/atlas") == 204
    assert api.get("/v1/projects/atlas").status_code == 404
    assert len(api.json("/v1/usage", project="atlas")["items"]) == 2


def test_D32_D33_a_deleted_user_leaves_rows_with_the_address(api: Api) -> None:
    told(api)
    assert [user["user"] for user in api.json("/v1/users", email="ada@example.com")["items"]] == ["ada"]

    assert remove(api, "/v1/users/ada") == 204

    assert api.json("/v1/users")["items"] == []
    assert api.get("/v1/users/ada").status_code == 404
    assert remove(api, "/v1/users/ada") == 404
    assert [row["user_email"] for row in api.json("/v1/usage")["items"]] == ["ada@example.com"]


def test_an_erased_address_is_nowhere_and_never_learned_again(api: Api) -> None:
    told(api)

    erased = api.client.post("/v1/users/ada/erase", headers=bearer(api.acme_key))
    told(api, external_id="call-2")

    assert (erased.status_code, erased.json()["email"]) == (200, None)
    assert [row["user_email"] for row in api.json("/v1/usage")["items"]] == [None, None]
    assert "ada@example.com" not in api.get("/v1/exports/usage.csv", start="2026-03-01T00:00:00Z").text
    with transaction(api.engine, AllOrganizations()) as connection:
        for table in ("users", "usage_rows", "charge_versions", "audit_log", "rollup_day_by", "idempotency_keys"):
            assert "ada@example.com" not in str(connection.execute(text(f"SELECT * FROM {table}")).all()), table


@pytest.mark.parametrize("user", ["team/ada", "auth0|62", "a b?c#d", "é/ü/", "//", "erase"])
def test_a_user_is_found_and_erased_by_any_name(api: Api, user: str) -> None:
    told(api, user=user, project=user)
    path = quote(user, safe="")

    assert api.json(f"/v1/users/{path}")["user"] == user
    assert api.json(f"/v1/projects/{path}")["project"] == user
    erased = api.client.post(f"/v1/users/{path}/erase", headers=bearer(api.acme_key))

    assert (erased.status_code, erased.json()["user"], erased.json()["email"]) == (200, user, None)
    assert remove(api, f"/v1/users/{path}") == 204


def test_a_slash_between_names_is_none_inside_of_one(api: Api) -> None:
    told(api, user="erase")

    assert api.get("/v1/users%2Ferase").status_code == 404
    assert api.get("/v1/users/ada%00").status_code == 404


def test_a_system_key_says_whose_user_is_meant(api: Api) -> None:
    told(api)

    assert api.get("/v1/users/ada", api.system_key).status_code == 400
    assert api.json("/v1/users/ada", api.system_key, organization="acme")["organization"] == "acme"
    assert api.get("/v1/users/ada", api.zenith_key).status_code == 404
    assert remove(api, "/v1/users/ada", api.zenith_key) == 404

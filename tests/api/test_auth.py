from __future__ import annotations

import time

import pytest

from farebox_ledger.store.engine import transaction
from farebox_ledger.store.keys import all_keys, revoke_key
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.usage import org_id_of
from tests.api.conftest import BOOTSTRAP_KEY, Api

PATH = "/v1/organizations"


def test_a_key_opens_in_either_header(api: Api) -> None:
    as_bearer = api.client.get(PATH, headers={"Authorization": f"bearer {api.acme_key}"})
    as_api_key = api.client.get(PATH, headers={"x-api-key": api.acme_key})

    assert (as_bearer.status_code, as_api_key.status_code) == (200, 200)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer fbx_unknown1_0000000000000000000000000000000000000000000"},
        {"x-api-key": "x" * 10_000},
        {"x-api-key": "\u00e9\u00df"},
    ],
)
def test_what_is_no_valid_key_is_unauthenticated(api: Api, headers: dict[str, str]) -> None:
    response = api.client.get(
        PATH, headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    )

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="farebox"'
    assert response.json()["type"] == "urn:farebox:problem:unauthenticated"


def test_two_different_keys_in_one_request_are_refused(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.acme_key}", "x-api-key": api.zenith_key}

    assert api.client.get(PATH, headers=headers).status_code == 401


def test_a_revoked_key_opens_nothing(api: Api) -> None:
    with transaction(api.engine, AllOrganizations(), write=True) as connection:
        mine = next(key for key in all_keys(connection, AllOrganizations()) if key.org_id == org_id_of("acme"))
        revoke_key(connection, AllOrganizations(), mine.id)

    assert api.get(PATH).status_code == 401


def test_an_expired_key_opens_nothing(api: Api) -> None:
    soon_us = time.time_ns() // 1000 + 300_000
    key = api.make_key("acme", "admin", expires_at_us=soon_us)
    assert api.get(PATH, key).status_code == 200

    time.sleep(0.35)

    assert api.get(PATH, key).status_code == 401


@pytest.mark.parametrize("scope", ["ingest", "usage:read", "export"])
def test_a_good_key_without_the_scope_is_forbidden_and_told_which_one_is_missing(api: Api, scope: str) -> None:
    response = api.get(PATH, api.make_key("acme", scope))

    assert response.status_code == 403
    assert response.json()["detail"] == "This needs a key with the scope admin."


def test_the_bootstrap_key_sees_all_organizations_and_is_stored_nowhere(api: Api) -> None:
    slugs = [item["slug"] for item in api.json(PATH, BOOTSTRAP_KEY)["items"]]

    assert slugs == ["acme", "zenith"]
    assert len(api.json("/v1/api-keys", BOOTSTRAP_KEY)["items"]) == 3


@pytest.mark.parametrize("wrong", [BOOTSTRAP_KEY[:-1], BOOTSTRAP_KEY + "x", BOOTSTRAP_KEY.upper()])
def test_almost_the_bootstrap_key_opens_nothing(api: Api, wrong: str) -> None:
    assert api.get(PATH, wrong).status_code == 401


def test_an_administrator_of_an_organization_sees_it_alone(api: Api) -> None:
    assert [item["slug"] for item in api.json(PATH)["items"]] == ["acme"]
    assert api.get("/v1/organizations/zenith").status_code == 404
    assert api.get("/v1/organizations/zenith", api.system_key).status_code == 200


def test_what_another_tenant_owns_looks_as_if_it_did_not_exist(api: Api) -> None:
    foreign = api.get("/v1/organizations/zenith").json()
    missing = api.get("/v1/organizations/nobody").json()

    assert foreign["detail"] == "The organization 'zenith' does not exist, or not for this key."
    assert foreign["detail"].replace("zenith", "nobody") == missing["detail"]


def test_the_key_is_checked_before_the_parameters(api: Api) -> None:
    assert api.client.get(PATH, params={"nonsense": "1"}).status_code == 401

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.api.conftest import Api


def test_a_system_key_makes_an_organization_that_is_then_listed(api: Api) -> None:
    made = api.post("/v1/organizations", {"slug": "globex", "name": "Globex Inc."}, api.system_key)

    assert made.status_code == 201
    assert made.headers["location"] == "/v1/organizations/globex"
    assert (made.json()["slug"], made.json()["name"]) == ("globex", "Globex Inc.")
    assert api.json("/v1/organizations/globex", api.system_key) == made.json()
    assert [item["slug"] for item in api.json("/v1/organizations", api.system_key)["items"]] == [
        "acme",
        "globex",
        "zenith",
    ]


def test_the_key_of_an_organization_makes_no_other(api: Api) -> None:
    response = api.post("/v1/organizations", {"slug": "globex"})

    assert response.status_code == 403
    assert api.get("/v1/organizations/globex", api.system_key).status_code == 404


def test_a_walk_through_the_pages_meets_every_organization_once(api: Api) -> None:
    for number in range(5):
        api.post("/v1/organizations", {"slug": f"org-{number}"}, api.system_key)

    pages = walk(api, "/v1/organizations", 2, api.system_key)

    assert [[item["slug"] for item in page] for page in pages] == [
        ["acme", "org-0"],
        ["org-1", "org-2"],
        ["org-3", "org-4"],
        ["zenith"],
    ]


def test_a_cursor_of_another_key_is_refused(api: Api) -> None:
    cursor = api.json("/v1/organizations", api.system_key, limit=1)["next_cursor"]

    response = api.get("/v1/organizations", limit=1, cursor=cursor)

    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == "cursor"


def test_a_key_is_shown_once_and_opens_what_its_scopes_say(api: Api) -> None:
    made = api.post("/v1/api-keys", {"scopes": ["admin"], "name": "ops", "expires_at": "2999-01-01T00:00:00Z"})

    assert made.status_code == 201
    body = made.json()
    assert body["key"].startswith(body["prefix"])
    assert (body["organization"], body["name"], body["scopes"]) == ("acme", "ops", ["admin"])
    assert body["expires_at"] == "2999-01-01T00:00:00.000000Z"
    listed = api.json("/v1/api-keys", body["key"])
    assert [item["id"] for item in listed["items"]][-1] == body["id"]
    assert body["key"] not in str(listed)


def test_a_key_says_when_it_was_last_used(api: Api) -> None:
    unused = api.post("/v1/api-keys", {"scopes": ["usage:read"]}).json()["id"]
    began = datetime.now(UTC)
    used = api.post("/v1/api-keys", {"scopes": ["usage:read"]}).json()
    assert api.get("/v1/usage", used["key"]).status_code == 200

    said = {item["id"]: item["last_used_at"] for item in api.json("/v1/api-keys")["items"]}

    assert said[unused] is None
    assert began <= datetime.fromisoformat(said[used["id"]]) <= datetime.now(UTC)


def test_a_walk_through_the_pages_meets_every_key_once_with_its_limit(api: Api) -> None:
    limits = [None, 7, None, 8, 9]
    made = [
        api.post("/v1/api-keys", {"scopes": ["ingest"]} | ({} if limit is None else {"requests_per_minute": limit}))
        for limit in limits
    ]
    assert [answer.json()["requests_per_minute"] for answer in made] == limits

    pages = walk(api, "/v1/api-keys", 2)

    assert [len(page) for page in pages] == [2, 2, 2]
    mine = [(item["id"], item["requests_per_minute"]) for page in pages for item in page]
    assert mine[1:] == [(answer.json()["id"], limit) for answer, limit in zip(made, limits, strict=True)]
    assert walk(api, "/v1/api-keys", 500, api.system_key, organization="acme") == [[*pages[0], *pages[1], *pages[2]]]
    assert api.get("/v1/api-keys", organization="zenith").status_code == 404


def test_a_system_key_has_to_say_whose_key_it_makes(api: Api) -> None:
    for body in ({"scopes": ["ingest"]}, {"scopes": ["ingest"], "organization": "acme", "system": True}):
        response = api.post("/v1/api-keys", body, api.system_key)
        assert response.status_code == 400
        assert response.json()["errors"][0]["pointer"] == "/organization"
    assert api.post("/v1/api-keys", {"scopes": ["ingest"], "system": True}, api.system_key).status_code == 201
    made = api.post("/v1/api-keys", {"scopes": ["ingest"], "organization": "acme"}, api.system_key)
    assert made.json()["organization"] == "acme"


def test_the_key_of_an_organization_makes_no_key_for_others(api: Api) -> None:
    assert api.post("/v1/api-keys", {"scopes": ["admin"], "organization": "zenith"}).status_code == 404
    assert api.post("/v1/api-keys", {"scopes": ["admin"], "system": True}).status_code == 403


def test_a_revoked_key_stays_listed_and_opens_nothing(api: Api) -> None:
    made = api.post("/v1/api-keys", {"scopes": ["admin"]}).json()

    revoked = api.client.delete(f"/v1/api-keys/{made['id']}", headers={"x-api-key": api.acme_key})

    assert revoked.status_code == 204
    assert api.get("/v1/organizations", made["key"]).status_code == 401
    entry = next(item for item in api.json("/v1/api-keys")["items"] if item["id"] == made["id"])
    assert entry["is_active"] is False
    assert entry["revoked_at"] is not None


def test_the_keys_of_another_tenant_are_neither_seen_nor_revoked(api: Api) -> None:
    theirs = api.json("/v1/api-keys", api.zenith_key)["items"][0]

    response = api.client.delete(f"/v1/api-keys/{theirs['id']}", headers={"x-api-key": api.acme_key})

    assert response.status_code == 404
    assert theirs["id"] not in {item["id"] for item in api.json("/v1/api-keys")["items"]}
    assert api.get("/v1/organizations", api.zenith_key).status_code == 200


def walk(api: Api, path: str, limit: int, key: str | None = None, **parameters: Any) -> list[list[Any]]:
    """Read all pages of a list."""
    page = api.json(path, key, limit=limit, **parameters)
    pages = [page["items"]]
    while page["has_more"]:
        page = api.json(path, key, limit=limit, cursor=page["next_cursor"], **parameters)
        pages.append(page["items"])
    assert page["next_cursor"] is None
    return pages

"""Every fault has one shape, wherever it arises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import Engine

from farebox_api.app import create_app
from farebox_api.config import ApiConfig
from farebox_ledger.store.engine import open_engine, owner_transaction
from tests.api.conftest import BOOTSTRAP_KEY, Api, bearer, running_api

MEMBERS = {"type", "title", "status", "detail", "errors", "request_id"}


@pytest.fixture
def api(sqlite_engine: Engine) -> Iterator[Api]:
    """An API on SQLite; nothing here depends on the database."""
    yield from running_api(sqlite_engine)


def problem(response: Any, status: int) -> Any:
    """Check what all problems have in common and answer the body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == (MEMBERS | {"conflicting_id"} if status == 409 else MEMBERS)
    assert body["status"] == status
    assert body["type"].startswith("urn:farebox:problem:")
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def test_an_unknown_address_is_a_problem(api: Api) -> None:
    for path in ("/nowhere", "/v1/nowhere", "/schema/nowhere", "/v1/organizations/acme/nowhere"):
        body = problem(api.client.get(path), 404)
        assert body["type"] == "urn:farebox:problem:not-found"


def test_a_wrong_method_is_a_problem_that_lists_the_right_ones(api: Api) -> None:
    response = api.client.delete("/v1/organizations")

    problem(response, 405)
    assert response.headers["allow"] == "GET, HEAD, POST, OPTIONS"


def test_an_unknown_parameter_is_named_with_the_nearest_known_one(api: Api) -> None:
    body = problem(api.get("/v1/organizations", limits="5"), 400)

    assert body["errors"] == [{"detail": "is no parameter of this route; did you mean limit?", "parameter": "limits"}]
    assert body["detail"] == "limits: is no parameter of this route; did you mean limit?"


def test_an_address_says_which_methods_all_of_its_routes_take(api: Api) -> None:
    response = api.client.options("/v1/organizations", headers=bearer(api.acme_key))

    assert (response.status_code, response.headers["allow"]) == (204, "GET, HEAD, POST, OPTIONS")


@pytest.mark.parametrize("limit", ["0", "501", "-1", "007", "ten", "1.5", "1e2", "", "null", "99999999999999999999"])
def test_a_limit_outside_1_to_500_is_refused_by_name(api: Api, limit: str) -> None:
    body = problem(api.get("/v1/organizations", limit=limit), 400)

    assert [error["parameter"] for error in body["errors"]] == ["limit"]


def test_a_repeated_parameter_is_refused(api: Api) -> None:
    response = api.client.get("/v1/organizations?limit=1&limit=2", headers=bearer(api.acme_key))

    assert problem(response, 400)["errors"][0]["parameter"] == "limit"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"slug": "new", "nmae": "New"}, "/nmae"),
        ({"name": "New"}, "/slug"),
        ({"slug": 5}, "/slug"),
        ({"slug": "Not A Slug"}, "/slug"),
        ({"slug": "new", "name": ""}, "/name"),
        ([], ""),
        ("slug", ""),
        (None, ""),
    ],
)
def test_a_wrong_body_is_pointed_into(api: Api, body: Any, pointer: str) -> None:
    answer = problem(api.post("/v1/organizations", body, api.system_key), 400)

    assert [error["pointer"] for error in answer["errors"]] == [pointer]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"slug": NaN}'])
def test_what_is_no_json_is_refused(api: Api, content: bytes) -> None:
    headers = {**bearer(api.system_key), "Content-Type": "application/json"}

    problem(api.client.post("/v1/organizations", content=content, headers=headers), 400)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "is required: expected JSON, and nothing came"),
        (b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested too deeply"),
    ],
    ids=["nothing", "deep"],
)
def test_a_body_that_cannot_be_read_at_all_says_why(api: Api, content: bytes, detail: str) -> None:
    answer = problem(api.client.post("/v1/usage", content=content, headers=bearer(api.system_key)), 400)

    assert answer["errors"] == [{"pointer": "", "detail": detail}]


def test_a_body_beyond_the_limit_is_refused(sqlite_engine: Engine) -> None:
    config = ApiConfig(admin_key=BOOTSTRAP_KEY, max_body_bytes=100)
    with TestClient(create_app(config, sqlite_engine)) as client:
        response = client.post("/v1/organizations", json={"slug": "x" * 200}, headers=bearer(BOOTSTRAP_KEY))

    assert "FAREBOX_MAX_BODY_BYTES" in problem(response, 413)["detail"]


def test_a_conflict_is_a_problem(api: Api) -> None:
    assert "acme" in problem(api.post("/v1/organizations", {"slug": "acme"}, api.system_key), 409)["detail"]


@pytest.fixture
def broken(sqlite_engine: Engine) -> Iterator[TestClient[Any]]:
    """An API whose books have lost a table."""
    with owner_transaction(sqlite_engine, write=True) as connection:
        connection.exec_driver_sql("ALTER TABLE organizations RENAME COLUMN name TO lost")
    with TestClient(
        create_app(ApiConfig(admin_key=BOOTSTRAP_KEY), sqlite_engine), raise_server_exceptions=False
    ) as client:
        yield client


def test_a_database_that_fails_is_unavailable_and_says_nothing_of_its_insides(broken: TestClient[Any]) -> None:
    response = broken.get("/v1/organizations", headers=bearer(BOOTSTRAP_KEY))

    body = problem(response, 503)
    assert response.headers["retry-after"] == "1"
    assert "organizations" not in body["detail"]
    assert "SELECT" not in response.text


def test_a_fault_of_our_own_is_logged_under_the_request_id_and_not_told(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with owner_transaction(sqlite_engine, write=True) as connection:
        connection.exec_driver_sql(
            "INSERT INTO api_keys (id, prefix, hash, scopes, created_at_us) VALUES ('key_1', 'fbx_1', x'00', '{', 1)"
        )
    app = create_app(ApiConfig(admin_key=BOOTSTRAP_KEY), sqlite_engine)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/v1/api-keys", headers=bearer(BOOTSTRAP_KEY))

    body = problem(response, 500)
    assert body["detail"] == "The fault is logged under this request_id."
    assert [record.__dict__["request_id"] for record in caplog.records if record.exc_info] == [body["request_id"]]


def test_a_callers_request_id_is_kept_when_it_is_harmless(api: Api) -> None:
    kept = api.client.get("/healthz", headers={"X-Request-Id": "proxy-12345678"})
    replaced = api.client.get("/healthz", headers={"X-Request-Id": "<script>alert(1)</script>"})

    assert kept.headers["x-request-id"] == "proxy-12345678"
    assert len(replaced.headers["x-request-id"]) == 32


def test_every_answer_has_the_security_headers(api: Api) -> None:
    for path in ("/healthz", "/nowhere", "/v1/organizations", "/schema/openapi.json"):
        headers = api.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["cache-control"] == "no-store"


def test_an_unreachable_database_is_unavailable(tmp_path: Any) -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")
    with TestClient(create_app(ApiConfig(admin_key=BOOTSTRAP_KEY), engine)) as client:
        problem(client.get("/v1/organizations", headers=bearer(BOOTSTRAP_KEY)), 503)
        problem(client.get("/readyz"), 503)
        assert client.get("/healthz").json() == {"status": "ok"}
    engine.dispose()

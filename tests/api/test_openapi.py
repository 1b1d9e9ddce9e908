"""The document says what the routes do: checked route by route against the running application."""

from __future__ import annotations

import re
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import Engine

from farebox_api.app import create_app
from farebox_api.config import ApiConfig
from tests.api.conftest import BOOTSTRAP_KEY, bearer

PUBLIC = {"/healthz", "/readyz", "/metrics"}


@pytest.fixture
def client(sqlite_engine: Engine) -> Any:
    with TestClient(create_app(ApiConfig(admin_key=BOOTSTRAP_KEY), sqlite_engine)) as client:
        yield client


@pytest.fixture
def document(client: TestClient[Any]) -> Any:
    response = client.get("/schema/openapi.json")
    assert response.headers["content-type"] == "application/json"
    return response.json()


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [(path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def test_every_route_has_an_operation_id_a_summary_and_a_description(document: Any) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]

    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and operation["description"] for _, _, operation in operations(document))


def test_every_error_is_documented_as_a_problem(document: Any) -> None:
    for path, method, operation in operations(document):
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"400", "500", "503"} <= set(errors), (method, path)
        for answer in errors.values():
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }, (method, path)


def test_every_route_that_reads_a_body_says_that_it_may_be_too_large(document: Any) -> None:
    assert all(
        "413" in operation["responses"] for _, _, operation in operations(document) if "requestBody" in operation
    )


def test_every_route_but_the_probes_needs_a_key_and_says_so(document: Any, client: TestClient[Any]) -> None:
    for path, method, operation in operations(document):
        if path in PUBLIC:
            assert "security" not in operation, path
            continue
        assert operation["security"] == [{"bearer": []}, {"api_key": []}], path
        assert {"401", "403"} <= set(operation["responses"]), path
        assert client.request(method.upper(), concrete(path)).status_code == 401, path


def test_every_route_refuses_an_unknown_parameter(document: Any, client: TestClient[Any]) -> None:
    for path, method, _ in operations(document):
        response = client.request(
            method.upper(), concrete(path), params={"no_such_parameter": "1"}, headers=bearer(BOOTSTRAP_KEY)
        )
        assert response.status_code == 400, (method, path)
        assert response.json()["errors"][0]["parameter"] == "no_such_parameter"


def test_every_route_refuses_a_key_without_any_useful_scope(document: Any, sqlite_engine: Engine) -> None:
    from farebox_ledger.store.engine import transaction
    from farebox_ledger.store.keys import create_key
    from farebox_ledger.store.scope import AllOrganizations

    with transaction(sqlite_engine, AllOrganizations(), write=True) as connection:
        _, key = create_key(connection, org_id=None, scopes=["ingest"])
    with TestClient(create_app(ApiConfig(), sqlite_engine)) as client:
        for path, method, _ in operations(document):
            if path not in PUBLIC:
                response = client.request(method.upper(), concrete(path), headers=bearer(key))
                assert response.status_code == 403, (method, path)


def test_no_parameter_may_be_null(document: Any) -> None:
    for path, _, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert "null" not in str(parameter["schema"]), (path, parameter["name"])
            assert parameter.get("description"), (path, parameter["name"])


def test_a_constraint_of_an_optional_parameter_is_documented(document: Any) -> None:
    parameters = document["paths"]["/v1/organizations"]["get"]["parameters"]

    cursor = next(parameter["schema"] for parameter in parameters if parameter["name"] == "cursor")

    assert (cursor["type"], cursor["minLength"], cursor["maxLength"]) == ("string", 1, 1024)


def test_bodies_refuse_unknown_members_and_say_so(document: Any) -> None:
    assert document["components"]["schemas"]["OrganizationInput"]["additionalProperties"] is False


def test_every_schema_is_typed_to_its_leaves(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert "." not in name
        for member, described in schema.get("properties", {}).items():
            assert described.get("items") != {"type": "object"}, (name, member)


def test_every_name_is_in_snake_case(document: Any) -> None:
    members = {name for schema in document["components"]["schemas"].values() for name in schema.get("properties", {})}
    parameters = {
        parameter["name"]
        for _, _, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "header"
    }

    assert len(members) > 200
    assert [name for name in members | parameters if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)] == []


def test_the_document_names_no_other_host(client: TestClient[Any]) -> None:
    assert "http://" not in client.get("/schema/openapi.json").text
    assert "https://" not in client.get("/schema/openapi.json").text


def concrete(path: str) -> str:
    values = {"{organization}": "acme", "{key_id}": "key_0", "{usage_id}": "20261101-" + "0" * 32, "{month}": "2026-11"}
    for name, value in values.items():
        path = path.replace(name, value)
    return path

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest
from litestar.testing import TestClient
from sqlalchemy import Engine

from farebox_api.app import create_app
from farebox_api.config import ApiConfig
from farebox_api.logs import JsonLines, TextLines
from tests.api.conftest import Api, bearer, running_api


@pytest.fixture
def api(sqlite_engine: Engine) -> Iterator[Api]:
    """An API on SQLite; nothing here depends on the database."""
    yield from running_api(sqlite_engine)


def test_a_migrated_database_is_ready(api: Api) -> None:
    assert api.client.get("/readyz").json() == {"status": "ready", "database": "ok", "schema": "current"}


def test_an_empty_database_is_not_ready_and_names_the_command(empty_engine: Engine) -> None:
    with TestClient(create_app(ApiConfig(), empty_engine)) as client:
        response = client.get("/readyz")

    assert response.status_code == 503
    assert "farebox migrate" in response.json()["detail"]


def test_the_figures_count_answers_by_route_template(api: Api) -> None:
    api.get("/v1/organizations/acme")
    api.get("/v1/organizations/zenith")
    api.client.get("/somewhere/else")

    text = api.client.get("/metrics").text

    name = "http_server_request_duration_seconds_count"
    labels = 'http_request_method="GET",http_response_status_code="{}",http_route="{}"'
    assert f"{name}{{{labels.format(200, '/v1/organizations/{organization}')}}} 1.0" in text
    assert f"{name}{{{labels.format(404, '/v1/organizations/{organization}')}}} 1.0" in text
    assert f"{name}{{{labels.format(404, 'unmatched')}}} 1.0" in text
    assert "acme" not in text


def test_the_access_log_has_one_line_a_request_without_key_or_query(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "farebox.access"):
        api.get("/v1/organizations", limit="7")

    lines = [record for record in caplog.records if record.name == "farebox.access"]
    assert len(lines) == 1
    fields = vars(lines[0])
    assert (fields["method"], fields["route"], fields["status"]) == ("GET", "/v1/organizations", 200)
    assert (fields["organization"], fields["key"][:4]) == ("acme", "key_")
    assert api.acme_key not in str(fields)
    assert "limit" not in str(fields)


def test_an_unauthenticated_request_is_logged_without_the_key(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        api.client.get("/v1/organizations", headers=bearer("fbx_abcdefgh_wrong-but-secret"))

    assert "wrong-but-secret" not in "".join(str(vars(record)) for record in caplog.records)


def test_log_lines_come_as_json_or_text() -> None:
    record = logging.LogRecord("farebox.access", logging.INFO, __file__, 1, "request", (), None)
    record.created = 1_793_491_200.5
    record.status = 200

    assert TextLines().format(record) == "2026-11-01T00:00:00.500Z info farebox.access request status=200"
    assert json.loads(JsonLines().format(record)) == {
        "time": "2026-11-01T00:00:00.500Z",
        "level": "info",
        "logger": "farebox.access",
        "message": "request",
        "status": 200,
    }


def test_a_logged_exception_keeps_its_traceback() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("farebox", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())

    assert json.loads(JsonLines().format(record))["exception"].endswith("ValueError: broken")
    assert TextLines().format(record).endswith("ValueError: broken")


def test_a_large_answer_is_compressed_when_the_client_reads_gzip(api: Api) -> None:
    response = api.client.get("/schema/openapi.json", headers={"Accept-Encoding": "gzip"})

    assert response.headers["content-encoding"] == "gzip"

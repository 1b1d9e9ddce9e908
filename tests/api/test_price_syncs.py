"""Price syncs over the API, from a server on the loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import Engine

from farebox_api.app import create_app
from farebox_api.config import ApiConfig
from farebox_api.errors import ConfigError
from farebox_ledger.price_sync import request_sync
from tests.api.conftest import Api, running_api
from tests.api.test_organizations import walk
from tests.fakes.catalog_server import CatalogServer, catalog_server
from tests.ledger.test_price_sync import MODELS, entry


@pytest.fixture
def server() -> Iterator[CatalogServer]:
    with catalog_server() as running:
        running.put(MODELS)
        yield running


@pytest.fixture
def api(engine: Engine, server: CatalogServer) -> Iterator[Api]:
    """An API that syncs from the server."""
    for api in running_api(engine):
        with TestClient(create_app(ApiConfig(price_sync_url=server.url), engine), raise_server_exceptions=False) as own:
            api.client = own
            yield api


def sync(api: Api) -> Any:
    """Start a sync and wait until it is done."""
    response = api.post("/v1/price-syncs", {"source": "litellm"}, api.system_key)
    assert response.status_code == 202, response.text
    assert response.json()["status"] == "running"
    path = response.headers["location"]
    assert path == f"/v1/price-syncs/{response.json()['id']}"
    deadline = time.monotonic() + 60
    while (found := api.json(path))["status"] == "running":
        assert time.monotonic() < deadline, "the sync does not end"
        time.sleep(0.02)
    return found


def test_a_sync_runs_beside_the_request_and_tells_how_it_went(api: Api, server: CatalogServer) -> None:
    first = sync(api)

    assert (first["status"], first["added"], first["url"], first["source"]) == ("applied", 20, server.url, "litellm")
    assert (first["etag"], first["size_bytes"], first["detail"]) == (server.etag, len(server.content), None)
    assert first["diff"]["added"][0]["prices"] == {
        "standard.input_tokens": "0.000002",
        "standard.output_tokens": "0.00001",
    }
    assert api.json("/v1/prices", search="model-3")["items"][0]["status"] == "synced"


def test_a_diff_says_what_moved(api: Api, server: CatalogServer) -> None:
    sync(api)
    server.put({**{name: MODELS[name] for name in MODELS if name != "model-4"}, "model-3": entry(3e-06)})

    second = sync(api)

    assert (second["added"], second["changed"], second["removed"]) == (0, 1, 1)
    assert second["diff"]["changed"] == [
        {
            "provider": "openai",
            "model": "model-3",
            "prices": {"standard.input_tokens": {"before": "0.000002", "after": "0.000003"}},
        }
    ]
    assert [one["model"] for one in second["diff"]["removed"]] == ["model-4"]
    assert api.json("/v1/prices", search="model-4")["items"][0]["status"] == "retired"


def test_a_suspicious_sync_waits_until_a_system_key_approves(api: Api, server: CatalogServer) -> None:
    sync(api)
    server.put({**MODELS, "model-3": entry(2e-05)})
    waiting = sync(api)
    path = f"/v1/price-syncs/{waiting['id']}/approve"
    assert waiting["status"] == "awaiting_approval"

    assert api.post(path, None).status_code == 403
    approved = api.post(path, None, api.system_key)

    assert (approved.status_code, approved.json()["status"], approved.json()["changed"]) == (200, "applied", 1)
    assert api.json("/v1/prices/resolve", provider="openai", model="model-3")["rates"]["tiers"]["standard"]["rates"][
        "input_tokens"
    ] == ("0.00002")
    assert api.post(path, None, api.system_key).status_code == 409
    assert api.post("/v1/price-syncs/syn_none/approve", None, api.system_key).status_code == 404


def test_a_failed_sync_says_why(api: Api, server: CatalogServer) -> None:
    server.status = 503

    failed = sync(api)

    assert (failed["status"], failed["diff"]) == ("failed", None)
    assert "answers 503" in failed["detail"]
    seen = api.json("/v1/overview")["last_sync"]
    assert seen == {name: value for name, value in failed.items() if name != "diff"}


def test_another_source_is_refused(api: Api) -> None:
    for source in ("openrouter", "genai-prices"):
        response = api.post("/v1/price-syncs", {"source": source}, api.system_key)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, "/source")
    assert api.json("/v1/price-syncs")["items"] == []


def test_a_caller_chooses_no_address(api: Api) -> None:
    response = api.post("/v1/price-syncs", {"url": "https://example.com"}, api.system_key)

    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, "/url")


def test_the_catalog_is_synced_by_system_keys_alone(api: Api) -> None:
    assert api.post("/v1/price-syncs", {}).status_code == 403
    assert api.post("/v1/price-syncs", {}, api.make_key(None, "prices:read")).status_code == 403


def test_a_sync_can_be_started_without_a_body(api: Api) -> None:
    response = api.client.post("/v1/price-syncs", headers={"x-api-key": api.system_key})

    assert response.status_code == 202
    while api.json(response.headers["location"])["status"] == "running":
        time.sleep(0.02)


def test_a_second_sync_beside_a_running_one_is_409(api: Api, server: CatalogServer) -> None:
    running = request_sync(api.engine, server.url)

    response = api.post("/v1/price-syncs", {}, api.system_key)

    assert (response.status_code, response.json()["conflicting_id"]) == (409, running.id)


def test_syncs_are_listed_newest_first_without_diffs(api: Api) -> None:
    ids = [sync(api)["id"] for _ in range(3)]

    pages = walk(api, "/v1/price-syncs", 2)

    assert [one["id"] for page in pages for one in page] == ids[::-1]
    assert "diff" not in pages[0][0]


def test_the_catalog_is_shown_in_a_unit(api: Api) -> None:
    sync(api)

    (shown,) = api.json("/v1/prices", search="model-3", unit="1m")["items"]

    assert (shown["unit"], shown["rates"]["tiers"]["standard"]["rates"]) == (
        "1m",
        {"input_tokens": "2", "output_tokens": "10"},
    )
    assert api.json("/v1/prices", search="model-3")["items"][0]["unit"] == "token"


def test_the_address_comes_from_the_settings() -> None:
    assert ApiConfig.from_environ({"FAREBOX_PRICE_SYNC_URL": "file:///x"}).price_sync_url == "file:///x"
    assert ApiConfig.from_environ({}).price_sync_url.endswith("/litellm/main/model_prices_and_context_window.json")
    with pytest.raises(ConfigError, match="FAREBOX_PRICE_SYNC_URL: expected https"):
        ApiConfig.from_environ({"FAREBOX_PRICE_SYNC_URL": "http://example.com/prices.json"})

"""A key's requests are counted by the minute, over all processes that work on one database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from farebox_api.app import create_app
from farebox_api.config import ApiConfig
from farebox_api.errors import ConfigError
from farebox_ledger.store.engine import open_engine, transaction
from farebox_ledger.store.keys import create_key
from farebox_ledger.store.rate_limits import RateLimits
from farebox_ledger.store.scope import AllOrganizations
from tests.api.conftest import Api, bearer


@pytest.fixture
def second(api: Api) -> Iterator[TestClient[Any]]:
    """A second application over the same database, with its own connections."""
    engine = open_engine(api.engine.url.render_as_string(hide_password=False))
    with TestClient(create_app(ApiConfig(), engine)) as client:
        yield client
    engine.dispose()


def limited_key(api: Api, limit: int) -> str:
    made = api.post("/v1/api-keys", {"scopes": ["admin"], "requests_per_minute": limit})
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


def test_two_processes_share_the_count_of_a_key(api: Api, second: TestClient[Any]) -> None:
    key = limited_key(api, 6)

    answers = [
        client.get("/v1/organizations", headers=bearer(key)) for _ in range(6) for client in (api.client, second)
    ]

    # The minute may turn once meanwhile, and the count with it.
    allowed = sum(answer.status_code == 200 for answer in answers)
    assert 6 <= allowed <= 11
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].json()["type"] == "urn:farebox:problem:too-many-requests"
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert refused[0].headers["ratelimit-policy"] == '"key";q=6;w=60'
    assert refused[0].headers["ratelimit"].startswith('"key";r=0;t=')


def test_headers_say_what_is_left(api: Api) -> None:
    answer = api.get("/v1/organizations", limited_key(api, 5))

    assert answer.headers["ratelimit"].startswith('"key";r=4;t=')


def test_a_key_without_a_limit_has_no_headers(api: Api) -> None:
    assert "ratelimit" not in api.get("/v1/organizations").headers


def test_counts_begin_anew_with_the_minute(api: Api) -> None:
    clock = [59_000_000]
    limits = RateLimits(api.engine, now_us=lambda: clock[0])

    used = [limits.use("key_a", 2) for _ in range(3)]
    clock[0] = 60_000_000
    fresh = limits.use("key_a", 2)

    assert [(one.used, one.remaining, one.is_exceeded) for one in used] == [(1, 1, False), (2, 0, False), (3, 0, True)]
    assert (used[0].reset_s, fresh.used, fresh.reset_s) == (1, 1, 60)


def test_the_settings_limit_keys_that_have_no_limit(api: Api) -> None:
    with transaction(api.engine, AllOrganizations(), write=True) as connection:
        _, key = create_key(connection, org_id=None, scopes=["admin"])
    config = ApiConfig.from_environ({"FAREBOX_RATE_LIMIT": "100"})

    with TestClient(create_app(config, api.engine)) as client:
        assert client.get("/v1/organizations", headers=bearer(key)).headers["ratelimit-policy"] == '"key";q=100;w=60'


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_limit_that_is_none_stops_the_start(value: str) -> None:
    with pytest.raises(ConfigError, match="FAREBOX_RATE_LIMIT"):
        ApiConfig.from_environ({"FAREBOX_RATE_LIMIT": value})

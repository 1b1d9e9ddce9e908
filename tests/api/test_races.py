"""Administrators who do the same thing at the same moment: one wins, the others are told, nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.api.conftest import Api, bearer

MANY: Final = 6

THINGS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "override": (
        "/v1/price-overrides",
        {"provider": "openai", "model": "m", "unit": "1m", "prices": {"input_tokens": "1"}},
    ),
    "multiplier": ("/v1/multipliers", {"provider": "openai", "factor": "1.5"}),
    "alias": ("/v1/model-aliases", {"alias": "fast", "target_model": "gpt-4o"}),
    "configuration": ("/v1/model-configs", {"name": "chat", "provider": "openai", "model": "gpt-4o"}),
    "upstream": ("/v1/upstreams", {"name": "edge"}),
    "budget": ("/v1/budgets", {"name": "all", "amount": "5"}),
    "webhook": ("/v1/webhooks", {"url": "https://example.com/", "events": ["budget.alert"]}),
}
NAMED: Final = ("override", "multiplier", "alias", "configuration", "upstream", "account")
"""What there can be one of; the others may be made as often as somebody likes."""


def at_once(act: Callable[[int], Any]) -> Counter[int]:
    """Let many do something and count how they were answered."""
    with ThreadPoolExecutor(MANY) as threads:
        return Counter(answer.status_code for answer in threads.map(act, range(MANY), timeout=60))


def patch(api: Api, path: str, number: int, **headers: str) -> Any:
    return api.client.patch(path, json={"notes": f"by {number}"}, headers=bearer(api.acme_key) | headers)


@pytest.mark.parametrize("thing", THINGS)
def test_of_many_who_know_one_version_one_changes_it(api: Api, thing: str) -> None:
    path, body = THINGS[thing]
    made = api.post(path, body)
    assert made.status_code == 201, made.text
    own = made.headers["location"]

    assert at_once(lambda number: patch(api, own, number, **{"If-Match": '"1"'})) == {200: 1, 412: MANY - 1}
    assert api.json(own)["row_version"] == 2


@pytest.mark.parametrize("thing", THINGS)
def test_many_who_name_no_version_change_it_one_after_the_other(api: Api, thing: str) -> None:
    path, body = THINGS[thing]
    own = api.post(path, body).headers["location"]

    assert at_once(lambda number: patch(api, own, number)) == {200: MANY}
    thing_now = api.json(own)
    assert thing_now["row_version"] == 1 + MANY
    changes = [entry for entry in entries(api, thing_now["id"]) if entry["action"].endswith(".change")]
    assert [(entry["before"]["row_version"], entry["after"]["row_version"]) for entry in changes] == [
        (version, version + 1) for version in range(MANY, 0, -1)
    ]


def entries(api: Api, thing: str) -> Any:
    return api.json("/v1/audit-log", object_id=thing)["items"]


@pytest.mark.parametrize("thing", NAMED)
def test_of_many_who_make_the_same_thing_one_makes_it(api: Api, thing: str) -> None:
    path, body = THINGS.get(thing, ("/v1/credits/accounts", {"user": "ann"}))

    assert at_once(lambda _: api.post(path, body)) == {201: 1, 409: MANY - 1}
    assert len(api.json(path)["items"]) == 1


def test_of_many_who_void_a_grant_one_does(api: Api) -> None:
    api.post("/v1/credits/accounts", {})
    grant = api.post("/v1/credits/grants", {"amount": "10"}).json()["id"]

    told = at_once(lambda _: api.post(f"/v1/credits/grants/{grant}/void", {"reason": "wrong"}))

    assert told == {200: 1, 409: MANY - 1}
    assert api.json("/v1/credits/balance")["items"][0]["balance"] == "0"


def test_one_idempotency_key_grants_once_whoever_is_first(api: Api) -> None:
    api.post("/v1/credits/accounts", {})
    headers = bearer(api.acme_key) | {"Idempotency-Key": "one"}

    def grant(_: int) -> Any:
        return api.client.post("/v1/credits/grants", json={"amount": "10"}, headers=headers)

    with ThreadPoolExecutor(20) as threads:
        told = list(threads.map(grant, range(20), timeout=60))

    assert {answer.status_code for answer in told} <= {201, 409}
    assert len({answer.json()["id"] for answer in told if answer.status_code == 201}) == 1
    assert api.json("/v1/credits/balance")["items"][0]["balance"] == "10"

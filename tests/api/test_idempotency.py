"""A request with an Idempotency-Key acts once, whatever happens to its answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import text

from farebox_ledger.errors import Conflict
from farebox_ledger.store import idempotency
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.idempotency import KEPT_US, Caller, claim, prune_idempotency_keys
from farebox_ledger.store.scope import AllOrganizations
from tests.api.conftest import Api, bearer

EVERYBODY = AllOrganizations()
OVERRIDE = {"provider": "openai", "model": "gpt-test", "unit": "1m", "prices": {"input_tokens": "1"}}


def send(api: Api, body: Any = OVERRIDE, key: str = "first", caller: str | None = None, **headers: str) -> Any:
    sent = bearer(caller or api.acme_key) | {"Idempotency-Key": key} | headers
    return api.client.post("/v1/price-overrides", json=body, headers=sent)


def overrides(api: Api) -> int:
    return len(api.json("/v1/price-overrides")["items"])


def test_a_repeated_request_gets_the_first_answer_and_changes_nothing(api: Api) -> None:
    first, again = send(api), send(api)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert [again.headers[name] for name in ("etag", "location", "content-type")] == [
        first.headers[name] for name in ("etag", "location", "content-type")
    ]
    assert again.headers["idempotency-replayed"] == "true"
    assert overrides(api) == 1
    assert len(api.json("/v1/audit-log", action="price_override.create")["items"]) == 1


def test_a_compressed_answer_is_repeated_to_who_cannot_read_it_compressed(api: Api) -> None:
    body = OVERRIDE | {"notes": "n" * 2000}
    first = send(api, body)
    again = send(api, body, **{"Accept-Encoding": "identity"})

    assert again.json() == first.json()


def test_another_body_under_the_same_key_is_refused(api: Api) -> None:
    send(api)

    refused = send(api, OVERRIDE | {"model": "gpt-other"})

    assert (refused.status_code, refused.json()["type"]) == (422, "urn:farebox:problem:idempotency-key-reused")
    assert overrides(api) == 1


def test_keys_belong_to_their_caller(api: Api) -> None:
    assert send(api).status_code == 201
    assert send(api, caller=api.zenith_key).status_code == 201


def test_the_same_request_from_many_at_once_acts_once(api: Api) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(send(api))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len(answers) == 8
    assert overrides(api) == 1


def test_a_claim_that_is_held_is_a_conflict_until_it_ends(api: Api) -> None:
    caller = Caller(0, "key_x")
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        claim(connection, caller, "k", b"hash")
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        with pytest.raises(Conflict, match="being worked on"):
            claim(connection, caller, "k", b"hash")
        connection.execute(text("UPDATE idempotency_keys SET claimed_at_us = claimed_at_us - 120000000"))
        assert isinstance(claim(connection, caller, "k", b"hash"), idempotency.Claim)


def test_a_refused_request_frees_its_key(api: Api) -> None:
    assert send(api, OVERRIDE | {"prices": {"input_tokens": "-1"}}).status_code == 400

    assert send(api).status_code == 201


def test_a_change_whose_answer_cannot_be_kept_is_taken_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(idempotency, "answer", fail)
        assert send(api).status_code == 500
    assert overrides(api) == 0

    assert send(api).status_code == 201


def test_a_key_that_is_shown_once_is_not_kept_and_not_made_twice(api: Api) -> None:
    def make() -> Any:
        headers = bearer(api.acme_key) | {"Idempotency-Key": "make"}
        return api.client.post("/v1/api-keys", json={"scopes": ["usage:read"]}, headers=headers)

    made, again = make(), make()

    assert (made.status_code, again.status_code) == (201, 409)
    with transaction(api.engine, EVERYBODY) as connection:
        assert made.json()["key"] not in str(connection.execute(text("SELECT * FROM idempotency_keys")).all())
        assert connection.scalar(text("SELECT count(*) FROM api_keys")) == 4


def test_a_webhook_s_secret_is_not_kept_either(api: Api) -> None:
    hook = {"url": "https://example.com/hook", "events": ["budget.alert"]}
    headers = bearer(api.acme_key) | {"Idempotency-Key": "hook"}

    made, again = (api.client.post("/v1/webhooks", json=hook, headers=headers) for _ in range(2))

    assert (made.status_code, again.status_code) == (201, 409)
    with transaction(api.engine, EVERYBODY) as connection:
        kept = str(connection.execute(text("SELECT * FROM idempotency_keys")).all())
        assert made.json()["secret"] not in kept
        assert made.json()["secret"] not in str(connection.execute(text("SELECT * FROM audit_log")).all())


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    refused = send(api, key=key)

    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "Idempotency-Key")


def test_old_keys_are_pruned(api: Api) -> None:
    send(api)
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        connection.execute(text("UPDATE idempotency_keys SET claimed_at_us = claimed_at_us - :kept"), {"kept": KEPT_US})
        now_us = connection.scalar(text("SELECT max(claimed_at_us) FROM idempotency_keys"))
        assert prune_idempotency_keys(connection, int(now_us or 0) + 1) == 1
        assert connection.scalar(text("SELECT count(*) FROM idempotency_keys")) == 0

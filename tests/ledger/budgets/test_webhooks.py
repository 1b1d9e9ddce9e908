"""Webhooks against a real receiver: signed, tried again, given up, and only where they may go."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from ipaddress import ip_address
from typing import Any

import pytest
from sqlalchemy import Engine

from farebox_ledger.errors import InvalidInput
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.store import jobs
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.store.webhook_deliveries import (
    LEASE_US,
    MAX_ATTEMPTS,
    PAUSES_S,
    Delivery,
    claim,
    due,
    emit,
    list_deliveries,
)
from farebox_ledger.store.webhooks import Signed, Webhook, WebhookDraft, create_webhook, delete_webhook
from farebox_ledger.webhook_addresses import checked_url, is_public
from farebox_ledger.webhooks import DELIVER, deliver_due
from farebox_ledger.webhooks.delivering import Delivered
from farebox_ledger.webhooks.sending import NotSent, post
from tests.ledger.budgets.making import book_all, cost, fired, make_budget, make_organizations
from tests.ledger.budgets.receiving import Receiver, receiving
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, ZENITH

SECOND_US = 1_000_000


def listen(engine: Engine, receiver: Receiver, scope: Scope | None = None, **members: Any) -> Signed:
    draft = WebhookDraft(**{"url": receiver.url, "events": ("budget.alert",), "allow_private": True, **members})
    with transaction(engine, EVERYBODY, write=True) as connection:
        return create_webhook(connection, scope or OrgScope(ACME), draft)


def tell(engine: Engine, identity: str = "one", org_id: int = ACME) -> int:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return emit(connection, OrgScope(org_id), "budget.alert", identity, {"id": identity}, now_us=NOON)


def log(engine: Engine, webhook: Webhook) -> list[Delivery]:
    with transaction(engine, EVERYBODY) as connection:
        return list_deliveries(connection, EVERYBODY, webhook)


def verified(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Verify a message as the Standard Webhooks specification says, with nothing of ours."""
    key = base64.b64decode(secret.split("_", 1)[1])
    content = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return f"v1,{expected}" in headers["webhook-signature"].split(" ")


def test_an_alert_arrives_once_signed_and_without_content(engine: Engine) -> None:
    make_organizations(engine)
    budget = make_budget(engine, "10", scope={"user": "ann"})
    book_all(engine, cost(1, "8.5", user="ann", error_message="a prompt that leaked"))
    with receiving() as receiver:
        made = listen(engine, receiver)
        assert fired(engine, budget) == ["80%"]
        assert fired(engine, budget) == []

        assert deliver_due(engine, NOON) == Delivered(1, 0)
        assert deliver_due(engine, NOON + 3600 * SECOND_US) == Delivered(0, 0)

    ((headers, body),) = receiver.came
    assert verified(made.secret, headers, body)
    assert not verified(made.secret, headers, body + b" ")
    assert headers["webhook-timestamp"] == str(NOON // SECOND_US)
    assert headers["webhook-id"].startswith("msg_")
    told = json.loads(body)
    assert (told["type"], told["timestamp"]) == ("budget.alert", "2026-03-10T12:00:00.000000Z")
    assert {
        name: told["data"][name] for name in ("organization", "threshold", "kind", "spent", "limit", "currency")
    } == {
        "organization": "acme",
        "threshold": "80%",
        "kind": "soft",
        "spent": "8.5",
        "limit": "8",
        "currency": "USD",
    }
    assert told["data"]["scope"] == {"user": "ann"}
    assert told["data"]["period_start"] == "2026-03-01T00:00:00.000000Z"
    assert b"prompt" not in body
    (delivery,) = log(engine, made.webhook)
    assert (delivery.status, delivery.attempts, delivery.answer_status, delivery.error) == ("delivered", 1, 200, None)


def test_a_refused_message_is_tried_again_under_the_same_id_later_each_time(engine: Engine) -> None:
    with receiving() as receiver:
        made = listen(engine, receiver)
        receiver.answers = [500, 503]
        assert tell(engine) == 1
        assert deliver_due(engine, NOON) == Delivered(0, 1)
        assert deliver_due(engine, NOON + PAUSES_S[0] * SECOND_US - 1) == Delivered(0, 0)
        second_us = NOON + PAUSES_S[0] * SECOND_US
        assert deliver_due(engine, second_us) == Delivered(0, 1)
        (waiting,) = log(engine, made.webhook)
        assert (waiting.status, waiting.attempts, waiting.answer_status) == ("pending", 2, 503)
        assert waiting.next_attempt_us == second_us + PAUSES_S[1] * SECOND_US
        assert deliver_due(engine, waiting.next_attempt_us) == Delivered(1, 0)

    assert len({headers["webhook-id"] for headers, _ in receiver.came}) == 1
    assert len(receiver.came) == 3
    assert all(verified(made.secret, headers, body) for headers, body in receiver.came)


def test_a_message_that_nobody_takes_is_dead_in_the_end(engine: Engine) -> None:
    with receiving() as receiver:
        made = listen(engine, receiver)
        receiver.answers = [500] * 20
        tell(engine)
        at_us = NOON
        for _ in range(MAX_ATTEMPTS):
            assert deliver_due(engine, at_us) == Delivered(0, 1)
            at_us += PAUSES_S[-1] * SECOND_US
        assert deliver_due(engine, at_us) == Delivered(0, 0)

    (dead,) = log(engine, made.webhook)
    assert (dead.status, dead.attempts, dead.next_attempt_us, dead.error) == ("dead", 9, None, "answered 500")


def test_a_receiver_that_is_gone_and_a_deleted_webhook_are_tried_no_more(engine: Engine) -> None:
    with receiving() as receiver:
        gone, deleted = listen(engine, receiver), listen(engine, receiver)
        receiver.answers = [410]
        tell(engine)
        with transaction(engine, EVERYBODY, write=True) as connection:
            delete_webhook(connection, EVERYBODY, deleted.webhook.id)
        assert deliver_due(engine, NOON) == Delivered(0, 2)

    assert [one.status for made in (gone, deleted) for one in log(engine, made.webhook)] == ["dead", "dead"]
    assert log(engine, deleted.webhook)[0].error == "the webhook was deleted or switched off"


def test_a_redirect_is_not_followed(engine: Engine) -> None:
    with receiving() as receiver:
        made = listen(engine, receiver)
        receiver.answers = [302]
        tell(engine)
        assert deliver_due(engine, NOON) == Delivered(0, 1)
        assert len(receiver.came) == 1

    assert log(engine, made.webhook)[0].error == "answered 302: redirects are not followed"


def test_the_same_event_makes_one_message_to_each_who_listens(engine: Engine) -> None:
    with receiving() as receiver:
        acme, system = listen(engine, receiver), listen(engine, receiver, AllOrganizations())
        listen(engine, receiver, OrgScope(ZENITH))
        listen(engine, receiver, is_active=False)
        listen(engine, receiver, events=("usage.unpriced_found",))

        assert tell(engine) == 2
        assert tell(engine) == 0
        assert tell(engine, org_id=ZENITH) == 1
        with transaction(engine, EVERYBODY, write=True) as connection:
            assert emit(connection, EVERYBODY, "price_sync.awaiting_approval", "syn_1", {}) == 0

    assert (len(log(engine, acme.webhook)), len(log(engine, system.webhook))) == (1, 1)


def test_a_message_is_sent_by_one_worker_and_comes_up_again_when_that_one_died(engine: Engine) -> None:
    with receiving() as receiver:
        listen(engine, receiver)
        tell(engine)
        with transaction(engine, EVERYBODY, write=True) as connection:
            (waiting,) = due(connection, NOON, limit=10)
            assert claim(connection, waiting, NOON) is not None
        with transaction(engine, EVERYBODY, write=True) as connection:
            assert claim(connection, waiting, NOON) is None
        assert deliver_due(engine, NOON + LEASE_US - 1) == Delivered(0, 0)
        assert deliver_due(engine, NOON + LEASE_US) == Delivered(1, 0)


def test_the_job_sends_what_is_due(engine: Engine) -> None:
    with receiving() as receiver:
        listen(engine, receiver)
        for number in range(3):
            tell(engine, str(number))
        with transaction(engine, EVERYBODY, write=True) as connection:
            jobs.enqueue(connection, EVERYBODY, DELIVER, {})
        assert run_jobs(engine, threading.Event(), {DELIVER: KINDS[DELIVER]}, until_idle=True) == 0
        assert len(receiver.came) == 3


def test_a_receiver_that_is_slow_or_away_ends_in_time() -> None:
    with receiving() as receiver:
        receiver.waits = threading.Event()
        with pytest.raises(NotSent, match=r"no answer within 0\.3 seconds"):
            post(receiver.url, {}, b"{}", allow_private=True, timeout_s=0.3)
    with pytest.raises(NotSent, match="the connection failed: ConnectionRefusedError"):
        post(receiver.url, {}, b"{}", allow_private=True)


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_resolved() -> None:
    with receiving() as receiver:
        with pytest.raises(NotSent, match="not public"):
            post(receiver.url.replace("127.0.0.1", "localhost"), {}, b"{}", allow_private=False)
        assert receiver.came == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x",
        "http://example.com/x",
        "https://user:secret@example.com/x",
        "https://example.com/x#y",
        "https:///x",
        "https://example.com:99999/",
        "https://exa mple.com/",
        "https://example.com/\n",
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "http://127.0.0.1:9/",
        "http://localhost/",
    ],
)
def test_an_address_that_may_not_be_told_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_url(url, allow_private=False)
    assert refused.value.field == "url"


def test_public_addresses_pass_and_an_operator_allows_private_ones() -> None:
    for url in ("https://example.com/hook?x=1", "https://8.8.8.8:8443/", "https://[2606:4700::1111]/"):
        assert checked_url(url, allow_private=False) == url
    for url in ("http://127.0.0.1:9/", "http://localhost/", "https://10.0.0.1/"):
        assert checked_url(url, allow_private=True) == url
    with pytest.raises(InvalidInput):
        checked_url("http://10.0.0.1/", allow_private=True)  # not encrypted, and not on this machine
    assert not is_public(ip_address("2002:a00:1::"))
    assert not is_public(ip_address("224.0.0.1"))

"""Every declared event reaches a receiver, signed, once for each thing that happened."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, get_args

import pytest
from sqlalchemy import Engine, text

from farebox_ledger.credits import WATCH
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.price_sync import request_sync, sync_prices
from farebox_ledger.store import jobs
from farebox_ledger.store.credit_accounts import Owner, create_account
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.unpriced import GroupName, ignore_group
from farebox_ledger.store.webhook_deliveries import ping
from farebox_ledger.store.webhooks import SUBSCRIBABLE, Signed, WebhookDraft, WebhookEvent, create_webhook
from farebox_ledger.unpriced_news import ANNOUNCE
from farebox_ledger.webhooks import DELIVER
from tests.fakes.catalog_server import catalog_server
from tests.ledger.budgets.making import book_all, change_all, cost, fired, make_budget, make_organizations
from tests.ledger.budgets.receiving import Receiver, receiving
from tests.ledger.budgets.test_webhooks import verified
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, ZENITH, booking, unpriced
from tests.ledger.test_price_sync import MODELS, entry

Told = dict[str, Any]


def listen(engine: Engine, receiver: Receiver) -> Signed:
    """Let the system hear of everything."""
    draft = WebhookDraft(url=receiver.url, events=SUBSCRIBABLE, allow_private=True)
    with transaction(engine, EVERYBODY, write=True) as connection:
        return create_webhook(connection, AllOrganizations(), draft)


def run(engine: Engine, kind: str) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        jobs.enqueue(connection, EVERYBODY, kind, {})
    assert run_jobs(engine, threading.Event(), {kind: KINDS[kind]}, until_idle=True) == 0


def came(engine: Engine, receiver: Receiver, listener: Signed) -> list[tuple[str, Told]]:
    """Deliver what waits, and answer all that came: (event, data)."""
    run(engine, DELIVER)
    assert all(verified(listener.secret, headers, body) for headers, body in receiver.came)
    return [(told["type"], told["data"]) for told in (json.loads(body) for _, body in receiver.came)]


def unpriced_call(number: int, model: str = "gpt-5-nano", **facts: Any) -> Any:
    return booking(number, unpriced(model=model), trace_id=number.to_bytes(16, "big"), **facts)


def spend_a_budget(engine: Engine, listener: Signed) -> None:
    book_all(engine, cost(1, "8.5"))
    assert fired(engine, make_budget(engine, "10")) == ["80%"]


def sync_what_moves_far(engine: Engine, listener: Signed) -> None:
    with catalog_server() as server:
        server.put(MODELS)
        assert sync_prices(engine, server.url).status == "applied"
        server.put({**MODELS, "model-3": entry(2e-05)})
        assert sync_prices(engine, server.url).status == "awaiting_approval"


def sync_what_is_away(engine: Engine, listener: Signed) -> None:
    with catalog_server() as server:
        server.status = 503
        assert sync_prices(engine, server.url).status == "failed"


def book_what_has_no_price(engine: Engine, listener: Signed) -> None:
    book_all(engine, unpriced_call(1))
    run(engine, ANNOUNCE)


def ping_it(engine: Engine, listener: Signed) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        ping(connection, listener.webhook, now_us=NOON)


def use_up_credits(engine: Engine, listener: Signed) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_account(connection, EVERYBODY, ACME, Owner(), low_balance=Decimal(-5))
    book_all(engine, cost(1, "6"))
    run(engine, WATCH)


CAUSES: Final[dict[WebhookEvent, Callable[[Engine, Signed], None]]] = {
    "budget.alert": spend_a_budget,
    "credits.low_balance": use_up_credits,
    "price_sync.awaiting_approval": sync_what_moves_far,
    "price_sync.failed": sync_what_is_away,
    "usage.unpriced_found": book_what_has_no_price,
    "webhook.ping": ping_it,
}


@pytest.mark.parametrize("event", get_args(WebhookEvent))
def test_every_declared_event_is_told_signed_and_once(engine: Engine, event: WebhookEvent) -> None:
    make_organizations(engine)
    with receiving() as receiver:
        listener = listen(engine, receiver)
        CAUSES[event](engine, listener)

        assert [one for one, _ in came(engine, receiver, listener)] == [event]
        for kind in (ANNOUNCE, WATCH, "evaluate_budgets"):
            run(engine, kind)
        assert len(came(engine, receiver, listener)) == 1


def test_a_sync_that_waits_or_failed_is_told_with_its_counts_and_reason(engine: Engine) -> None:
    with receiving() as receiver:
        listener = listen(engine, receiver)
        sync_what_moves_far(engine, listener)
        sync_what_is_away(engine, listener)

        (_, waits), (_, failed) = came(engine, receiver, listener)

    assert (waits["added"], waits["changed"], waits["removed"], waits["source"]) == (0, 1, 0, "litellm")
    assert waits["id"].startswith("syn_")
    assert "5" in waits["detail"]
    assert "answers 503" in failed["detail"]


def test_a_sync_whose_process_died_is_told_as_failed_by_the_next(engine: Engine) -> None:
    with receiving() as receiver, catalog_server() as server:
        server.put(MODELS)
        listener = listen(engine, receiver)
        lost = request_sync(engine, server.url)
        with owner_transaction(engine, write=True) as connection:
            connection.execute(text("UPDATE price_syncs SET requested_at_us = requested_at_us - 3600000000"))
        sync_prices(engine, server.url)

        ((event, told),) = came(engine, receiver, listener)

    assert (event, told["id"]) == ("price_sync.failed", lost.id)
    assert told["detail"] == "the process that ran it ended before it was done"


def test_unpriced_calls_are_told_once_for_each_organization_and_group(engine: Engine) -> None:
    make_organizations(engine)
    with receiving() as receiver:
        listener = listen(engine, receiver)
        book_all(engine, unpriced_call(1), unpriced_call(2), unpriced_call(3, "gpt-6"))
        run(engine, ANNOUNCE)
        book_all(engine, unpriced_call(4), unpriced_call(5, org_id=ZENITH))
        run(engine, ANNOUNCE)
        run(engine, ANNOUNCE)

        found = [told for _, told in came(engine, receiver, listener)]

    told = sorted((one["organization"], one["model"], one["reason"], one["rows"]) for one in found)
    assert told == [
        ("acme", "gpt-5-nano", "unknown_model", 2),
        ("acme", "gpt-6", "unknown_model", 1),
        ("zenith", "gpt-5-nano", "unknown_model", 1),
    ]
    assert {name for one in found for name in one} == {
        "organization", "provider", "model", "reason", "rows", "found_at",
    }  # fmt: skip


def test_a_group_that_was_set_aside_is_no_news(engine: Engine) -> None:
    make_organizations(engine)
    with receiving() as receiver:
        listener = listen(engine, receiver)
        book_all(engine, unpriced_call(1), unpriced_call(2, "gpt-6"))
        for scope, model in ((OrgScope(ACME), "gpt-5-nano"), (EVERYBODY, "gpt-6")):
            with transaction(engine, scope, write=True) as connection:
                ignore_group(connection, scope, GroupName(provider="openai", model=model, reason="unknown_model"))
        run(engine, ANNOUNCE)

        assert came(engine, receiver, listener) == []


def test_a_group_that_was_priced_and_comes_back_is_news_again(engine: Engine) -> None:
    make_organizations(engine)
    with receiving() as receiver:
        listener = listen(engine, receiver)
        book_all(engine, unpriced_call(1))
        run(engine, ANNOUNCE)
        change_all(engine, cost(1, "1", model="gpt-5-nano"))
        run(engine, ANNOUNCE)
        assert len(came(engine, receiver, listener)) == 1
        book_all(engine, unpriced_call(2))
        run(engine, ANNOUNCE)

        assert [told["rows"] for _, told in came(engine, receiver, listener)] == [1, 1]


def test_who_begins_to_listen_later_is_not_told_of_known_groups(engine: Engine) -> None:
    make_organizations(engine)
    book_all(engine, unpriced_call(1))
    run(engine, ANNOUNCE)
    with receiving() as receiver:
        listener = listen(engine, receiver)
        run(engine, ANNOUNCE)

        assert came(engine, receiver, listener) == []

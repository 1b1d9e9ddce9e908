"""Messages to webhooks: written in the transaction of what they tell, sent by a job, kept as a log.

A message to one webhook is one row, whose id names the webhook and the event: telling the same again writes nothing.
A worker takes a row by moving its next attempt into the future; when it dies, the row comes up again by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from secrets import token_hex
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from farebox_ledger.store import subjects
from farebox_ledger.store.audit import note
from farebox_ledger.store.budget_tables import SYSTEM, DeliveryStatus, webhook_deliveries, webhooks
from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.scope import Scope, within
from farebox_ledger.store.subjects import Position
from farebox_ledger.store.webhooks import Webhook, WebhookEvent, listeners, webhook_of

LEASE_US: Final = 120_000_000
"""How long a message is a worker's without a word from it; longer than any attempt takes."""

PAUSES_S: Final = (10, 60, 300, 1800, 7200, 21_600, 43_200, 86_400)
"""How long a message waits after its first, second, … failed attempt; the attempt after the last one is its last."""

MAX_ATTEMPTS: Final = len(PAUSES_S) + 1

_MAX_ERROR: Final = 300
_PENDING: Final = text("webhook_deliveries.status = 'pending'")


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one webhook. `message_id` is what the receiver sees and may recognize a repetition by."""

    id: str
    org_id: int
    webhook_id: str
    message_id: str
    event: WebhookEvent
    payload: str
    status: DeliveryStatus
    attempts: int
    next_attempt_us: int | None
    created_at_us: int
    attempted_at_us: int | None
    ended_at_us: int | None
    answer_status: int | None
    error: str | None


class Claimed(msgspec.Struct, frozen=True):
    """A message that this worker sends now. `webhook` None: there is nobody to send it to any more."""

    delivery: Delivery
    webhook: Webhook | None
    secret: str


def emit(
    connection: Connection,
    scope: Scope,
    event: WebhookEvent,
    identity: str,
    data: Mapping[str, Any],
    *,
    now_us: int | None = None,
) -> int:
    """Tell all who listen what happened, as part of the caller's transaction; answers how many messages that made.

    Args:
        connection: a write transaction; one of all organizations, or the system's webhooks hear nothing (they cannot
            be seen from inside an organization).
        scope: whose event it is: an organization's, or the system's.
        event: what happened.
        identity: what names this event like no other; the same one makes no second message.
        data: what is told, as JSON can say it; never content of calls.
        now_us: when it happened; None is now.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    made = 0
    for webhook in listeners(connection, scope, event):
        made += send(connection, webhook, event, identity, data, now_us=at_us) is not None
    return made


def send(
    connection: Connection,
    webhook: Webhook,
    event: WebhookEvent,
    identity: str,
    data: Mapping[str, Any],
    *,
    now_us: int,
) -> Delivery | None:
    """Write one message to one webhook; None when it is there already."""
    body = {"type": event, "timestamp": utc_text(now_us), "data": data}
    message_id = _digest("msg", (event, identity))
    values = {
        "org_id": webhook.org_id or SYSTEM,
        "id": _digest("dlv", (webhook.id, message_id)),
        "webhook_id": webhook.id,
        "message_id": message_id,
        "event": event,
        "payload": msgspec.json.encode(body).decode(),
        "status": "pending",
        "next_attempt_us": now_us,
        "created_at_us": now_us,
    }
    insert = sqlite.insert if is_sqlite(connection) else postgresql.insert
    write = insert(webhook_deliveries).values(values).on_conflict_do_nothing().returning(*webhook_deliveries.columns)
    row = connection.execute(write).one_or_none()
    return None if row is None else _delivery(row)


def ping(connection: Connection, webhook: Webhook, *, now_us: int) -> Delivery:
    """Put a message on its way that tells nothing, to try a webhook."""
    sent = send(connection, webhook, "webhook.ping", token_hex(16), {"webhook": webhook.id}, now_us=now_us)
    assert sent is not None, "no other ping has this name"
    after = {"delivery": sent.id, "message": sent.message_id}
    note(connection, "webhook.ping", "webhook", webhook.id, org_id=webhook.org_id, after=after)
    return sent


def utc_text(time_us: int) -> str:
    """Write a moment as messages have it: RFC 3339 in UTC, with microseconds."""
    seconds, rest = divmod(time_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"


def due(connection: Connection, now_us: int, *, limit: int) -> list[Delivery]:
    """List the messages whose next attempt has come, in that order."""
    table = webhook_deliveries
    listed = select(table).where(_PENDING, table.c.next_attempt_us <= now_us)
    return [_delivery(row) for row in connection.execute(listed.order_by(table.c.next_attempt_us).limit(limit))]


def claim(connection: Connection, delivery: Delivery, now_us: int) -> Claimed | None:
    """Take a message that `due` listed; None when another worker has it.

    `connection` is a write transaction, which should end before the message is sent.
    """
    table = webhook_deliveries
    taken = connection.execute(
        update(table)
        .where(
            *_mine(delivery),
            table.c.status == "pending",
            table.c.attempts == delivery.attempts,
            table.c.next_attempt_us == delivery.next_attempt_us,
        )
        .values(attempts=delivery.attempts + 1, attempted_at_us=now_us, next_attempt_us=now_us + LEASE_US)
    )
    if not taken.rowcount:
        return None
    mine = _delivery(connection.execute(_of(delivery.org_id, delivery.id)).one())
    row = connection.execute(
        select(webhooks).where(
            webhooks.c.org_id == delivery.org_id, webhooks.c.id == delivery.webhook_id, webhooks.c.is_active == 1
        )
    ).one_or_none()
    return Claimed(mine, None, "") if row is None else Claimed(mine, webhook_of(row), row.secret)


def note_delivered(connection: Connection, delivery: Delivery, answer_status: int, now_us: int) -> None:
    """Note that a message has arrived."""
    _note(connection, delivery, status="delivered", answer_status=answer_status, ended_at_us=now_us)


def note_failed(
    connection: Connection, delivery: Delivery, answer_status: int | None, error: str, now_us: int, *, is_final: bool
) -> None:
    """Note that an attempt failed: the message waits, longer after each attempt, or is dead."""
    values: dict[str, Any] = {"answer_status": answer_status, "error": error[:_MAX_ERROR]}
    if is_final or delivery.attempts >= MAX_ATTEMPTS:
        _note(connection, delivery, status="dead", ended_at_us=now_us, **values)
    else:
        pause_us = PAUSES_S[delivery.attempts - 1] * 1_000_000
        _note(connection, delivery, next_attempt_us=now_us + pause_us, **values)


def list_deliveries(
    connection: Connection,
    scope: Scope,
    webhook: Webhook,
    *,
    status: DeliveryStatus | None = None,
    limit: int = 100,
    after: Position | None = None,
) -> list[Delivery]:
    """List the messages to a webhook, newest first; `after` is (created_at_us, id) of the last that the caller has."""
    table = webhook_deliveries
    conditions = [
        within(scope, table.c.org_id),
        table.c.org_id == (webhook.org_id or SYSTEM),
        table.c.webhook_id == webhook.id,
    ]
    if status is not None:
        conditions.append(table.c.status == status)
    if after is not None:
        conditions.append(tuple_(table.c.created_at_us, table.c.id) < after)
    listed = select(table).where(*conditions).order_by(table.c.created_at_us.desc(), table.c.id.desc())
    return [_delivery(row) for row in connection.execute(listed.limit(limit))]


def prune_deliveries(connection: Connection, before_us: int, *, limit: int) -> int:
    """Forget at most `limit` messages that ended before a moment; answers how many."""
    table = webhook_deliveries
    ended = select(table.c.org_id, table.c.id).where(table.c.status != "pending", table.c.ended_at_us < before_us)
    found = [tuple(row) for row in connection.execute(ended.limit(limit))]
    if found:
        connection.execute(delete(table).where(tuple_(table.c.org_id, table.c.id).in_(found)))
    return len(found)


def _note(connection: Connection, delivery: Delivery, **values: Any) -> None:
    """Change a message that this worker has claimed; one whose lease went to another stays as that one leaves it."""
    if "status" in values:
        values["next_attempt_us"] = None
    table = webhook_deliveries
    connection.execute(
        update(table)
        .where(*_mine(delivery), table.c.status == "pending", table.c.attempts == delivery.attempts)
        .values(**{"error": None, **values})
    )


def _mine(delivery: Delivery) -> tuple[Any, ...]:
    return webhook_deliveries.c.org_id == delivery.org_id, webhook_deliveries.c.id == delivery.id


def _of(org_id: int, identity: str) -> Any:
    return select(webhook_deliveries).where(webhook_deliveries.c.org_id == org_id, webhook_deliveries.c.id == identity)


def _digest(prefix: str, what: tuple[str, ...]) -> str:
    return f"{prefix}_{blake2b(msgspec.json.encode(what), digest_size=12).hexdigest()}"


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**{name: row._mapping[name] for name in Delivery.__struct_fields__})

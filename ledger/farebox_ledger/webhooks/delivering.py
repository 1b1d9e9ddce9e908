"""The job that sends what waits: each message until its receiver has taken it, or until it is given up.

Messages are taken one by one, each in a short transaction of its own; nothing is locked while one is under way. A
message may arrive twice (a worker can die between sending and noting it), always under the same `webhook-id`.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import msgspec
from sqlalchemy import Engine

from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Interrupted, Job, heartbeat
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.webhook_deliveries import (
    Claimed,
    Delivery,
    claim,
    due,
    note_delivered,
    note_failed,
    prune_deliveries,
)
from farebox_ledger.webhooks.sending import NotSent, post
from farebox_ledger.webhooks.signing import signed_headers

DELIVER: Final = "deliver_webhooks"

RUN_S: Final = 30.0
"""How long one run sends; what is left goes with the next, so that slow receivers keep no other job waiting."""

KEPT_DAYS: Final = 30
"""How long the log of messages goes back."""

_BATCH: Final = 50
_PRUNED: Final = 500
_GONE: Final = 410
_DAY_US: Final = 86_400_000_000
_EVERYBODY: Final = AllOrganizations()


class Delivered(msgspec.Struct, frozen=True):
    """How many messages arrived, how many attempts failed, and how many old messages were forgotten."""

    delivered: int
    failed: int
    pruned: int = 0


def deliver_webhooks(engine: Engine, job: Job, stop: threading.Event) -> Delivered:
    """Send what is due, for as long as one run may take."""
    until_s, delivered, failed = time.monotonic() + RUN_S, 0, 0
    while time.monotonic() < until_s:
        batch = _due(engine, _now_us())
        if not batch:
            break
        for delivery in batch:
            if stop.is_set():
                raise Interrupted
            arrived = _deliver(engine, delivery, _now_us())
            delivered += arrived is True
            failed += arrived is False
            with transaction(engine, _EVERYBODY, write=True) as connection:
                heartbeat(connection, job)
            if time.monotonic() >= until_s:
                break
    with transaction(engine, _EVERYBODY, write=True) as connection:
        pruned = prune_deliveries(connection, _now_us() - KEPT_DAYS * _DAY_US, limit=_PRUNED)
    return Delivered(delivered, failed, pruned)


def deliver_due(engine: Engine, now_us: int) -> Delivered:
    """Send once what is due at a moment, outside of any job."""
    outcomes = [_deliver(engine, delivery, now_us) for delivery in _due(engine, now_us)]
    return Delivered(outcomes.count(True), outcomes.count(False))


def _due(engine: Engine, now_us: int) -> list[Delivery]:
    with transaction(engine, _EVERYBODY) as connection:
        return due(connection, now_us, limit=_BATCH)


def _deliver(engine: Engine, delivery: Delivery, now_us: int) -> bool | None:
    """Send one message and note what came of it; None when another worker has it."""
    with transaction(engine, _EVERYBODY, write=True) as connection:
        claimed = claim(connection, delivery, now_us)
    if claimed is None:
        return None
    answer_status, error = _sent(claimed, now_us)
    with transaction(engine, _EVERYBODY, write=True) as connection:
        if answer_status is not None and error is None:
            note_delivered(connection, claimed.delivery, answer_status, now_us)
            return True
        is_final = claimed.webhook is None or answer_status == _GONE
        note_failed(connection, claimed.delivery, answer_status, error or "", now_us, is_final=is_final)
    return False


def _sent(claimed: Claimed, now_us: int) -> tuple[int | None, str | None]:
    """Send a message: (status of the answer if there was one, what is wrong if something is)."""
    if claimed.webhook is None:
        return None, "the webhook was deleted or switched off"
    body = claimed.delivery.payload.encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "farebox",
        **signed_headers(claimed.secret, claimed.delivery.message_id, now_us // 1_000_000, body),
    }
    try:
        status = post(claimed.webhook.url, headers, body, allow_private=claimed.webhook.allow_private)
    except NotSent as error:
        return None, str(error)
    if 200 <= status < 300:
        return status, None
    return status, f"answered {status}" + (": redirects are not followed" if 300 <= status < 400 else "")


def _now_us() -> int:
    return time.time_ns() // 1000

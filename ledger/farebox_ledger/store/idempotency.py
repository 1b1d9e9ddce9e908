"""Requests that act once: what an Idempotency-Key of a caller was used for, and how that request was answered.

A key is claimed before the request is worked on and answered in the transaction of the change itself, so that a change
without its answer, or an answer without its change, is never in the books. A claim whose holder is gone ends by itself.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from farebox_ledger.errors import Conflict
from farebox_ledger.store.administration_tables import idempotency_keys
from farebox_ledger.store.engine import as_writer
from farebox_ledger.store.statements import organizations_in

KEPT_US: Final = 24 * 3_600_000_000
"""How long an answer is repeated; afterwards the key is new again."""

CLAIM_US: Final = 120_000_000
"""How long a request may take before another one with its key gets a turn."""


class Caller(msgspec.Struct, frozen=True):
    """Whose keys they are: an organization (0: the system's) and one of its API keys."""

    org_id: int
    name: str


class Answered(msgspec.Struct, frozen=True):
    """How a request was answered; `body` None: it held what is shown once, and is not kept."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


class Claim(msgspec.Struct, frozen=True):
    """The right to work on a request."""

    caller: Caller
    key: str
    token: str


class KeyReused(Conflict):
    """The key stands for another request."""


def claim(connection: Connection, caller: Caller, key: str, request_hash: bytes) -> Claim | Answered:
    """Claim a key for a request, or answer how the same request was answered before.

    Raises:
        KeyReused: the key was used for another request.
        Conflict: the same request is being worked on.
    """
    now_us = time.time_ns() // 1000
    made = Claim(caller, key, secrets.token_hex(16))
    connection.execute(delete(idempotency_keys).where(*_is(caller, key), _is_over(now_us)))
    try:
        with connection.begin_nested():
            connection.execute(
                insert(idempotency_keys).values(
                    org_id=caller.org_id,
                    caller=caller.name,
                    idempotency_key=key,
                    request_hash=request_hash,
                    claim=made.token,
                    claimed_at_us=now_us,
                )
            )
    except IntegrityError:
        return _standing(connection, caller, key, request_hash)
    return made


def answer(connection: Connection, claimed: Claim, answered: Answered) -> None:
    """Keep how a request was answered, in the transaction of what it changed.

    Raises:
        Conflict: the claim has ended meanwhile and is another's; what was changed must not be committed.
    """
    with as_writer(connection):  # the change may be of another organization than the caller, who is then the system
        changed = connection.execute(
            update(idempotency_keys)
            .where(*_is(claimed.caller, claimed.key), idempotency_keys.c.claim == claimed.token)
            .values(status=answered.status, headers=msgspec.json.encode(answered.headers).decode(), body=answered.body)
        )
    if not changed.rowcount:
        raise Conflict("the request took so long that its Idempotency-Key went to another; nothing was changed")


def give_back(connection: Connection, claimed: Claim) -> None:
    """Free the key of a request that changed nothing, so that it can be sent again."""
    connection.execute(
        delete(idempotency_keys).where(
            *_is(claimed.caller, claimed.key),
            idempotency_keys.c.claim == claimed.token,
            idempotency_keys.c.status.is_(None),
        )
    )


def prune_idempotency_keys(connection: Connection, before_us: int, limit: int = 500) -> int:
    """Delete keys that were claimed before a moment; answers how many, at most `limit`."""
    keys = idempotency_keys.c
    old = select(keys.org_id, keys.caller, keys.idempotency_key).where(
        keys.org_id.in_(organizations_in(idempotency_keys)), keys.claimed_at_us < before_us
    )
    found = connection.execute(old.limit(limit)).all()
    for org_id, caller, key in found:
        connection.execute(delete(idempotency_keys).where(*_is(Caller(org_id, caller), key)))
    return len(found)


def _standing(connection: Connection, caller: Caller, key: str, request_hash: bytes) -> Answered:
    row = connection.execute(select(idempotency_keys).where(*_is(caller, key))).one_or_none()
    if row is not None and bytes(row.request_hash) != request_hash:
        raise KeyReused("this Idempotency-Key was used for another request; make a new key for each request")
    if row is None or row.status is None:
        raise Conflict("the same request is being worked on; send it again in a moment")
    headers = msgspec.json.decode(row.headers, type=list[tuple[str, str]])
    return Answered(row.status, headers, None if row.body is None else bytes(row.body))


def _is(caller: Caller, key: str) -> tuple[Any, ...]:
    columns = idempotency_keys.c
    return columns.org_id == caller.org_id, columns.caller == caller.name, columns.idempotency_key == key


def _is_over(now_us: int) -> Any:
    columns = idempotency_keys.c
    claim_ended = columns.status.is_(None) & (columns.claimed_at_us <= now_us - CLAIM_US)
    return claim_ended | (columns.claimed_at_us <= now_us - KEPT_US)

"""The queue of jobs: what is to be done beside booking and answering, by whichever process has time.

A job is claimed with a lease by one UPDATE; while it runs its holder extends the lease, in the same transactions that
carry the job's work and its progress. So a job whose process died goes on where its last committed step ended, and a
holder that lost its lease cannot commit another step. What a job does is the business of whoever runs it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    and_,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from farebox_ledger.errors import LeaseLost, NotFound
from farebox_ledger.store.audit import note
from farebox_ledger.store.schema import JobStatus, jobs
from farebox_ledger.store.scope import OrgScope, Scope, within

LEASE_US: Final = 120_000_000
"""How long a job is its holder's without a word from it: far longer than any step, short enough to wait for."""

MAX_ATTEMPTS: Final = 5
"""A job that was begun this often without an end is given up: it may be what ends its processes."""

_MAX_ERROR: Final = 1000


class Interrupted(Exception):
    """A job stopped between two of its steps because its process ends; it goes on elsewhere."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `org_id` None is the system's; `progress` and `result` are JSON that its kind understands."""

    id: str
    kind: str
    org_id: int | None
    arguments: msgspec.Raw
    status: JobStatus
    attempts: int
    holder: str | None
    progress: msgspec.Raw | None
    result: msgspec.Raw | None
    error: str | None
    created_at_us: int
    started_at_us: int | None
    finished_at_us: int | None


def enqueue(
    connection: Connection,
    scope: Scope,
    kind: str,
    arguments: object,
    *,
    run_after_us: int | None = None,
    holder: str | None = None,
) -> Job:
    """Put a job into the queue, as part of the caller's transaction: what it is about is then there when it runs.

    Args:
        connection: a write transaction.
        scope: whose job it is: an organization's, or the system's.
        kind: the name under which the workers know what to do.
        arguments: what is to be done, as JSON can say it.
        run_after_us: not before this moment; None means now.
        holder: who runs it at once, so that no worker takes it; None leaves it to the workers.
    """
    now_us = time.time_ns() // 1000
    values: dict[str, Any] = {
        "id": f"job_{secrets.token_hex(12)}",
        "kind": kind,
        "org_id": scope.org_id if isinstance(scope, OrgScope) else None,
        "arguments": msgspec.json.encode(arguments).decode(),
        "status": "queued",
        "run_after_us": now_us if run_after_us is None else run_after_us,
        "created_at_us": now_us,
    }
    if holder is not None:
        values |= {
            "status": "running",
            "attempts": 1,
            "holder": holder,
            "leased_until_us": now_us + LEASE_US,
            "started_at_us": now_us,
        }
    connection.execute(insert(jobs).values(values))
    note(connection, f"job.{kind}", "job", values["id"], after=arguments)
    return get_job(connection, scope, values["id"])


def enqueue_once(connection: Connection, kind: str, identity: str) -> bool:
    """Put a job of the system into the queue, unless one of that name was there or one of its kind waits or runs."""
    now_us = time.time_ns() // 1000
    open_ones = select(jobs.c.id).where(
        jobs.c.kind == kind, jobs.c.org_id.is_(None), literal_column("status IN ('queued', 'running')")
    )
    known = select(jobs.c.id).where(jobs.c.id == identity)
    if connection.execute(select(open_ones.exists() | known.exists())).scalar_one():
        return False
    made = connection.execute(
        text(
            "INSERT INTO jobs (id, kind, arguments, status, run_after_us, created_at_us) "
            "VALUES (:id, :kind, '{}', 'queued', :now, :now) ON CONFLICT DO NOTHING"
        ),
        {"id": identity, "kind": kind, "now": now_us},
    )
    return made.rowcount > 0


def claim(connection: Connection, holder: str, kinds: Collection[str], *, now_us: int | None = None) -> Job | None:
    """Take the job that waits longest, or one whose holder fell silent; None when there is nothing to do.

    `connection` is a write transaction, which should end at once.
    """
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    # PostgreSQL lets two workers pass each other by skipping what is locked; on SQLite a writer is alone.
    waiting = jobs.alias("waiting")
    first = (
        select(waiting.c.id)
        .where(waiting.c.kind.in_(kinds), _is_free(waiting, now_us))
        .order_by(waiting.c.run_after_us, waiting.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    row = connection.execute(
        update(jobs)
        .where(jobs.c.id == first, _is_free(jobs, now_us))
        .values(
            status="running",
            attempts=jobs.c.attempts + 1,
            holder=holder,
            leased_until_us=now_us + LEASE_US,
            started_at_us=now_us,
        )
        .returning(*jobs.columns)
    ).one_or_none()
    return None if row is None else _job(row)


def has_work(connection: Connection, kinds: Collection[str], *, now_us: int | None = None) -> bool:
    """Say whether `claim` would find a job."""
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    found = select(jobs.c.id).where(jobs.c.kind.in_(kinds), _is_free(jobs, now_us)).limit(1)
    return connection.execute(found).one_or_none() is not None


def heartbeat(connection: Connection, job: Job, *, progress: object = None) -> None:
    """Extend a running job's lease, and keep how far it is, in the transaction of the step that this is about.

    Raises:
        LeaseLost: another holder has the job, or it has ended; the transaction must not commit.
    """
    values: dict[str, Any] = {"leased_until_us": time.time_ns() // 1000 + LEASE_US}
    if progress is not None:
        values["progress"] = msgspec.json.encode(progress).decode()
    _change(connection, job, **values)


def finish(connection: Connection, job: Job, result: object) -> None:
    """End a job that did what it had to; `result` is kept as JSON.

    Raises:
        LeaseLost: as `heartbeat`.
    """
    _end(connection, job, "done", result=msgspec.json.encode(result).decode())


def fail(connection: Connection, job: Job, error: str) -> None:
    """End a job that cannot be done; `error` says why, to whoever ordered it.

    Raises:
        LeaseLost: as `heartbeat`.
    """
    _end(connection, job, "failed", error=error[:_MAX_ERROR])


def put_back(connection: Connection, job: Job, *, run_after_us: int, error: str | None = None) -> None:
    """Let a job wait for its next attempt, at that moment or later.

    Without an error it was interrupted rather than tried, and this attempt does not count.

    Raises:
        LeaseLost: as `heartbeat`.
    """
    _change(
        connection,
        job,
        status="queued",
        holder=None,
        leased_until_us=None,
        run_after_us=run_after_us,
        attempts=job.attempts if error else job.attempts - 1,
        error=error[:_MAX_ERROR] if error else None,
    )


def get_job(connection: Connection, scope: Scope, identity: str, *, kind: str | None = None) -> Job:
    """Find a job of the scope.

    Raises:
        NotFound: there is none of that kind, or not for this scope.
    """
    wanted = select(jobs).where(jobs.c.id == identity, within(scope, jobs.c.org_id))
    if kind is not None:
        wanted = wanted.where(jobs.c.kind == kind)
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise NotFound("job", identity)
    return _job(row)


def _is_free(table: FromClause, now_us: int) -> ColumnElement[bool]:
    """Choose the jobs that may be claimed; the first words are those of the partial index."""
    queued = and_(table.c.status == "queued", table.c.run_after_us <= now_us)
    silent = and_(table.c.status == "running", table.c.leased_until_us < now_us)
    return and_(literal_column("status IN ('queued', 'running')"), or_(queued, silent))


def _end(connection: Connection, job: Job, status: JobStatus, **values: str) -> None:
    now_us = time.time_ns() // 1000
    ended = {"status": status, "holder": None, "leased_until_us": None, "finished_at_us": now_us, "error": None}
    _change(connection, job, **(ended | values))


def _change(connection: Connection, job: Job, **values: Any) -> None:
    """Change a job that this holder runs in this attempt."""
    mine = (jobs.c.status == "running", jobs.c.holder == job.holder, jobs.c.attempts == job.attempts)
    changed = connection.execute(update(jobs).where(jobs.c.id == job.id, *mine).values(values))
    if not changed.rowcount:
        raise LeaseLost(job.id)


def _job(row: Row[Any]) -> Job:
    fields = {name: getattr(row, name) for name in Job.__struct_fields__}
    for name in ("arguments", "progress", "result"):
        fields[name] = None if fields[name] is None else msgspec.Raw(fields[name].encode())
    return Job(**fields)

"""Runs the jobs of the queue: claims one after the other, gives each to its kind, and notes how it ended.

Some kinds recur: the workers themselves put one such job into the queue for each period. A worker is a thread in
`farebox api`, `farebox up` and `farebox maintain`; any number of them share the queue. A job that fails by a fault of
the outside is tried again, later each time; one that cannot be done ends with the reason.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from farebox_ledger import repricing, upkeep
from farebox_ledger.budgets import EVALUATE, evaluate_budgets
from farebox_ledger.credits import (
    ALLOCATE,
    CHECK_BALANCES,
    EXPIRE,
    WATCH,
    allocate_credits,
    check_balances,
    expire_credits,
    watch_balances,
)
from farebox_ledger.errors import DatabaseNotReady, LeaseLost, LedgerError
from farebox_ledger.price_schedule import SYNC, PriceSchedule
from farebox_ledger.price_sync import ORDERED, run_ordered_sync
from farebox_ledger.store.engine import first_line, transaction
from farebox_ledger.store.jobs import (
    MAX_ATTEMPTS,
    Interrupted,
    Job,
    claim,
    enqueue_once,
    fail,
    finish,
    has_work,
    put_back,
)
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.unpriced_news import ANNOUNCE, announce_unpriced
from farebox_ledger.webhooks import DELIVER, deliver_webhooks

logger = logging.getLogger(__name__)

Work: TypeAlias = Callable[[Engine, Job, threading.Event], object]
"""Does a job and answers its result, as JSON can say it; extends the lease, and raises `Interrupted` on the event."""

RECURRING: Final[Mapping[str, int]] = {
    upkeep.FOLD: 3600,
    upkeep.CHECK: 86_400,
    upkeep.PRUNE: 86_400,
    ALLOCATE: 60,
    EXPIRE: 300,
    WATCH: 60,
    CHECK_BALANCES: 86_400,
    EVALUATE: 60,
    DELIVER: 20,
    SYNC: 60,
    ANNOUNCE: 60,
}
"""The kinds that recur, each with the length of its period in seconds; they run for the whole system, one at a time."""

KINDS: Final[Mapping[str, Work]] = {
    repricing.KIND: repricing.reprice,
    upkeep.FOLD: upkeep.fold_rollups,
    upkeep.CHECK: upkeep.check_recent_rollups,
    ALLOCATE: allocate_credits,
    EXPIRE: expire_credits,
    WATCH: watch_balances,
    CHECK_BALANCES: check_balances,
    EVALUATE: evaluate_budgets,
    DELIVER: deliver_webhooks,
    ANNOUNCE: announce_unpriced,
    ORDERED: run_ordered_sync,
    upkeep.PRUNE: upkeep.prune(frozenset(RECURRING)),
}
"""What this version of farebox knows to do whatever its settings are."""

POLL_S: Final = 1.0
FIRST_PAUSE_S: Final = 2.0

_EVERYBODY: Final = AllOrganizations()


def kinds_with(schedule: PriceSchedule | None) -> Mapping[str, Work]:
    """Answer what a process does that is told to sync prices on a schedule; None: it is not."""
    return KINDS if schedule is None else {**KINDS, SYNC: schedule.sync}


def holder_name() -> str:
    """Name this holder of leases like no other, whatever host or process it is."""
    return f"jobs-{secrets.token_hex(8)}"


def run_jobs(
    engine: Engine, stop: threading.Event, kinds: Mapping[str, Work] = KINDS, *, until_idle: bool = False
) -> int:
    """Run jobs until `stop` is set, or with `until_idle` until none waits; answer how many of them failed.

    A database that is away is waited for, except with `until_idle`, where it raises.
    """
    holder, failed = holder_name(), 0
    recurring = Recurrence({kind: every_s for kind, every_s in RECURRING.items() if kind in kinds})
    while not stop.is_set():
        try:
            recurring.enqueue_due(engine)
            job = _next(engine, holder, kinds)
        except (DBAPIError, DatabaseNotReady) as error:
            if until_idle:
                raise
            logger.warning("no jobs are run for now: %s", _said(error))
            job = None
        if job is not None:
            failed += not run_job(engine, job, kinds[job.kind], stop)
        elif until_idle:
            return failed
        else:
            stop.wait(POLL_S)
    return failed


def run_job(engine: Engine, job: Job, work: Work, stop: threading.Event) -> bool:
    """Give one claimed job to its work and note how it ended; False when it failed for good."""
    try:
        if job.attempts > MAX_ATTEMPTS:
            return _failed(engine, job, f"given up: it was begun {MAX_ATTEMPTS} times and never ended")
        result = work(engine, job, stop)
        _note(engine, lambda connection: finish(connection, job, result))
    except Interrupted:
        _note(engine, lambda connection: put_back(connection, job, run_after_us=_in_us(0)))
    except LeaseLost:
        logger.warning("job %s (%s) went to another process", job.id, job.kind)
    except (DBAPIError, DatabaseNotReady) as error:
        return _again(engine, job, _said(error))
    except LedgerError as error:
        return _failed(engine, job, str(error))
    except Exception as error:
        logger.exception("job %s (%s) crashed", job.id, job.kind)
        return _again(engine, job, _said(error))
    return True


class Recurrence:
    """Puts each recurring job into the queue once a period, whichever of the workers is first.

    Periods are counted from 1970, and the job is named after its period: so a restart repeats none, and two workers
    cannot both enqueue it. A period that nobody saw is left out; while the last one waits or runs there is no next.
    """

    def __init__(self, every_s: Mapping[str, int]) -> None:
        """Remember nothing yet; `every_s` names the length of each kind's period in seconds."""
        self._every_s = every_s
        self._seen: dict[str, int] = {}

    def enqueue_due(self, engine: Engine, *, now_s: float | None = None) -> None:
        """Enqueue what is due and not yet seen; writes nothing in a period whose jobs are known to be there."""
        now_s = time.time() if now_s is None else now_s
        periods = {kind: int(now_s // every_s) for kind, every_s in self._every_s.items()}
        due = {kind: period for kind, period in periods.items() if self._seen.get(kind) != period}
        if not due:
            return
        with transaction(engine, _EVERYBODY, write=True) as connection:
            for kind, period in due.items():
                enqueue_once(connection, kind, f"job_{kind}_{period}")
        self._seen.update(due)


class Worker:
    """A thread that runs jobs from `start` to `stop`."""

    def __init__(self, engine: Engine, kinds: Mapping[str, Work] = KINDS) -> None:
        """Start nothing yet."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=run_jobs, args=(engine, self._stopping, kinds), name="farebox-jobs", daemon=True
        )

    def start(self) -> None:
        """Begin with the first job that waits."""
        self._thread.start()

    def stop(self, limit_s: float = 10.0) -> None:
        """Let the job under way end its step, and go; what does not end in time is found again when its lease ends."""
        self._stopping.set()
        self._thread.join(limit_s)


def _next(engine: Engine, holder: str, kinds: Mapping[str, Work]) -> Job | None:
    """Claim a job; without one nothing is written, so that an idle worker keeps no other writer waiting."""
    with transaction(engine, _EVERYBODY) as connection:
        if not has_work(connection, kinds):
            return None
    with transaction(engine, _EVERYBODY, write=True) as connection:
        return claim(connection, holder, kinds)


def _again(engine: Engine, job: Job, error: str) -> bool:
    """Let a job wait, twice as long after each attempt; the last attempt's fault is its end."""
    if job.attempts >= MAX_ATTEMPTS:
        return _failed(engine, job, error)
    run_after_us = _in_us(FIRST_PAUSE_S * 2**job.attempts)
    _note(engine, lambda connection: put_back(connection, job, run_after_us=run_after_us, error=error))
    return True


def _failed(engine: Engine, job: Job, error: str) -> bool:
    logger.error("job %s (%s) failed: %s", job.id, job.kind, error)
    _note(engine, lambda connection: fail(connection, job, error))
    return False


def _note(engine: Engine, change: Callable[[Connection], None]) -> None:
    """Write how an attempt ended. Where that cannot be written, the lease ends by itself and the job is tried again."""
    try:
        with transaction(engine, _EVERYBODY, write=True) as connection:
            change(connection)
    except (DBAPIError, LeaseLost) as error:
        logger.warning("the end of a job could not be noted: %s", _said(error))


def _said(error: Exception) -> str:
    if isinstance(error, DBAPIError):
        return first_line(error)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _in_us(pause_s: float) -> int:
    return time.time_ns() // 1000 + int(pause_s * 1_000_000)

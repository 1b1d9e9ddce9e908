"""Recurring jobs that keep the books light and true: folding, pruning, and the nightly check of sums against rows.

Each works in short steps, one transaction each, and says at its end what it did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, Engine

from farebox_ledger.errors import LedgerError
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.folding import fold, split_days
from farebox_ledger.store.idempotency import prune_idempotency_keys
from farebox_ledger.store.jobs import Interrupted, Job, heartbeat
from farebox_ledger.store.pruning import prune_batches, prune_jobs
from farebox_ledger.store.rollups import Difference, check_rollups
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.timeline import days_from
from farebox_ledger.usage import day_of

FOLD: Final = "fold_rollups"
CHECK: Final = "check_rollups"
PRUNE: Final = "prune"

FOLDED_DAYS: Final = 35
"""How far back closed days are looked at for folding; late rows of older days wait for a rebuild."""
CHECKED_DAYS: Final = 8
"""How many closed days the nightly comparison reads; `farebox rollups check` reads all."""
BATCHES_KEPT_DAYS: Final = 90
JOBS_KEPT_DAYS: Final = 7

_DAY_US: Final = 86_400_000_000
_EVERYBODY: Final = AllOrganizations()


class Folded(msgspec.Struct, frozen=True):
    """How many rows of the rollups were folded."""

    rows: int


class Pruned(msgspec.Struct, frozen=True):
    """How many rows were deleted."""

    batches: int
    jobs: int
    idempotency_keys: int = 0


class Compared(msgspec.Struct, frozen=True):
    """How many days' sums were compared with their rows and found equal."""

    days: int


class SumsDiffer(LedgerError):
    """Sums and rows disagree; the rows are right."""


def fold_rollups(engine: Engine, job: Job, stop: threading.Event) -> Folded:
    """Fold the days that ended before yesterday."""
    first, closed = _day(-FOLDED_DAYS), _day(-1)
    with transaction(engine, _EVERYBODY) as connection:
        found = split_days(connection, first, closed)
    return Folded(sum(_in_steps(engine, job, stop, partial(fold, split=split)) for split in found))


def check_recent_rollups(engine: Engine, job: Job, stop: threading.Event) -> Compared:
    """Compare the sums of the last closed days with their rows.

    Raises:
        SumsDiffer: they disagree, also when looked at again: a booking may have come between two readings.
    """
    days = list(days_from(_day(-1 - CHECKED_DAYS), _day(-1)))
    differences: list[Difference] = []
    for day in days:
        if stop.is_set():
            raise Interrupted
        if _differences(engine, day):
            differences += _differences(engine, day)
        with transaction(engine, _EVERYBODY, write=True) as connection:
            heartbeat(connection, job)
    if differences:
        one = differences[0]
        raise SumsDiffer(
            f"{len(differences)} sums differ from their rows, the first: {one.rollup} {one.key}, {one.measure} is "
            f"{one.is_sum} and should be {one.should_be}; run `farebox rollups rebuild`"
        )
    return Compared(len(days))


def prune(kinds: frozenset[str]) -> Callable[[Engine, Job, threading.Event], Pruned]:
    """Make the job that deletes old batch numbers, ended jobs of these kinds and idempotency keys of yesterday."""

    def work(engine: Engine, job: Job, stop: threading.Event) -> Pruned:
        batches_before_us, jobs_before_us = (_ago_us(days) for days in (BATCHES_KEPT_DAYS, JOBS_KEPT_DAYS))
        return Pruned(
            _in_steps(engine, job, stop, lambda connection: prune_batches(connection, batches_before_us)),
            _in_steps(engine, job, stop, lambda connection: prune_jobs(connection, kinds, jobs_before_us)),
            _in_steps(engine, job, stop, lambda connection: prune_idempotency_keys(connection, _ago_us(1))),
        )

    return work


def _in_steps(engine: Engine, job: Job, stop: threading.Event, step: Callable[[Connection], int]) -> int:
    """Repeat a step, one transaction each, until it finds nothing more; answers the sum of what it said."""
    total = 0
    while True:
        if stop.is_set():
            raise Interrupted
        with transaction(engine, _EVERYBODY, write=True) as connection:
            count = step(connection)
            heartbeat(connection, job)
        if not count:
            return total
        total += count


def _differences(engine: Engine, day: int) -> list[Difference]:
    with transaction(engine, _EVERYBODY) as connection:
        return check_rollups(connection, _EVERYBODY, first_day=day, last_day=day)


def _ago_us(days: int) -> int:
    return time.time_ns() // 1000 - days * _DAY_US


def _day(offset: int) -> int:
    return day_of(_ago_us(-offset))

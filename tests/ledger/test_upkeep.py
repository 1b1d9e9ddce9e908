"""The recurring jobs: folding, pruning and the nightly comparison, on both databases."""

from __future__ import annotations

import threading
import time
from random import Random

from sqlalchemy import Engine, func, insert, select, text

from farebox_ledger import upkeep
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.folding import fold, split_days
from farebox_ledger.store.jobs import enqueue
from farebox_ledger.store.rollups import ROLLUPS, check_rollups
from farebox_ledger.store.schema import booked_batches, jobs, rollup_day
from farebox_ledger.store.summaries import SummaryQuery, summarize
from farebox_ledger.store.writing import Booking, book
from tests.ledger.store.bookings import EVERYBODY, booking, random_charge, random_event

DAY_US = 86_400_000_000


def book_under(engine: Engine, slot: int, bookings: list[Booking]) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=(), writer_slot=slot)


def fold_all(engine: Engine, first_day: int = 20260101, before_day: int = 20270101, limit: int = 500) -> int:
    with transaction(engine, EVERYBODY) as connection:
        found = split_days(connection, first_day, before_day)
    folded = 0
    for split in found:
        while True:
            with transaction(engine, EVERYBODY, write=True) as connection:
                rows = fold(connection, split, limit)
            if not rows:
                break
            folded += rows
    return folded


def slots(engine: Engine) -> set[int]:
    with transaction(engine, EVERYBODY) as connection:
        return {slot for table in ROLLUPS for slot in connection.scalars(select(table.c.writer_slot).distinct())}


def run_now(engine: Engine, kind: str) -> tuple[str, str | None, str | None]:
    with transaction(engine, EVERYBODY, write=True) as connection:
        job = enqueue(connection, EVERYBODY, kind, {})
    run_jobs(engine, threading.Event(), {kind: KINDS[kind]}, until_idle=True)
    with transaction(engine, EVERYBODY) as connection:
        row = connection.execute(select(jobs.c.status, jobs.c.result, jobs.c.error).where(jobs.c.id == job.id)).one()
        return tuple(row)


def test_folding_changes_no_sum(engine: Engine) -> None:
    random = Random(7)
    made = [Booking(random_event(random, number), random_charge(random)) for number in range(1, 121)]
    for slot in range(1, 4):
        book_under(engine, slot, made[slot - 1 :: 3])
    query = SummaryQuery(group_by=("organization", "model", "service", "currency"))
    with transaction(engine, EVERYBODY) as connection:
        before = summarize(connection, EVERYBODY, query)

    assert fold_all(engine, limit=7) > 0

    with transaction(engine, EVERYBODY) as connection:
        assert set(connection.scalars(select(rollup_day.c.writer_slot))) == {0}
        assert summarize(connection, EVERYBODY, query) == before
        assert check_rollups(connection, EVERYBODY) == []
    assert fold_all(engine) == 0


def test_a_late_row_of_a_folded_day_is_folded_into_it(engine: Engine) -> None:
    for number, slot in ((1, 1), (2, 2)):
        book_under(engine, slot, [booking(number)])
    fold_all(engine)

    book_under(engine, 5, [booking(3)])
    assert slots(engine) == {0, 5}
    fold_all(engine)

    with transaction(engine, EVERYBODY) as connection:
        assert connection.execute(select(rollup_day.c.writer_slot, rollup_day.c.requests)).all() == [(0, 3)]
        assert check_rollups(connection, EVERYBODY) == []


def test_days_that_stand_under_one_slot_are_left_as_they_are(engine: Engine) -> None:
    book_under(engine, 3, [booking(1)])

    assert fold_all(engine) == 0


def test_today_and_yesterday_are_not_folded(engine: Engine) -> None:
    now_us = time.time_ns() // 1000
    for slot in (1, 2):
        for days in range(5):
            moment = now_us - days * DAY_US
            book_under(engine, slot, [booking(slot * 10 + days, occurred_at_us=moment, received_at_us=moment)])

    assert run_now(engine, upkeep.FOLD) == (
        "done",
        '{"rows":30}',
        None,
    )  # 3 days x 2 slots x 5 sums

    with transaction(engine, EVERYBODY) as connection:
        standing = connection.execute(
            select(rollup_day.c.day, func.count()).group_by(rollup_day.c.day).order_by(rollup_day.c.day.desc())
        ).all()
        assert [count for _, count in standing] == [2, 2, 1, 1, 1]


def test_the_nightly_comparison_names_a_sum_that_differs(engine: Engine) -> None:
    moment = time.time_ns() // 1000 - 3 * DAY_US
    book_under(engine, 1, [booking(1, occurred_at_us=moment, received_at_us=moment)])
    assert run_now(engine, upkeep.CHECK) == ("done", '{"days":8}', None)
    with transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(text("UPDATE rollup_day SET requests = 2"))

    status, _, error = run_now(engine, upkeep.CHECK)

    assert status == "failed"
    assert error is not None
    assert error.startswith("1 sums differ from their rows, the first: rollup_day (")
    assert error.endswith("requests is 2 and should be 1; run `farebox rollups rebuild`")


def test_old_batches_and_ended_recurring_jobs_are_forgotten(engine: Engine) -> None:
    now_us = time.time_ns() // 1000
    with transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(
            insert(booked_batches),
            [
                {"collector_id": "one", "batch_id": days, "booked_at_us": now_us - days * DAY_US}
                for days in (1, 89, 91, 200)
            ],
        )
        made = {"org_id": None, "arguments": "{}", "run_after_us": 0, "created_at_us": 0}
        connection.execute(
            insert(jobs),
            [
                made | {"id": "old", "kind": upkeep.FOLD, "status": "done", "finished_at_us": now_us - 8 * DAY_US},
                made | {"id": "new", "kind": upkeep.FOLD, "status": "done", "finished_at_us": now_us - 6 * DAY_US},
                made | {"id": "bad", "kind": upkeep.FOLD, "status": "failed", "finished_at_us": now_us - 8 * DAY_US},
                made | {"id": "ordered", "kind": "reprice", "status": "done", "finished_at_us": now_us - 8 * DAY_US},
            ],
        )

    assert run_now(engine, upkeep.PRUNE)[:2] == ("done", '{"batches":2,"jobs":1,"idempotency_keys":0}')

    with transaction(engine, EVERYBODY) as connection:
        assert sorted(connection.scalars(select(booked_batches.c.batch_id))) == [1, 89]
        assert {"new", "bad", "ordered"} < set(connection.scalars(select(jobs.c.id)))

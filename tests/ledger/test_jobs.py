"""The queue of jobs and its workers, on both databases."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text

from farebox_ledger.errors import InvalidInput, LeaseLost, NotFound
from farebox_ledger.jobs import Recurrence, Worker, run_jobs
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import (
    LEASE_US,
    MAX_ATTEMPTS,
    Interrupted,
    Job,
    claim,
    enqueue,
    finish,
    get_job,
    heartbeat,
)
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.scope import OrgScope
from tests.ledger.store.bookings import ACME, EVERYBODY, ZENITH

KINDS = ("count",)


def order(engine: Engine, arguments: Any = None, **how: Any) -> Job:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return enqueue(connection, EVERYBODY, "count", arguments, **how)


def take(engine: Engine, holder: str, **how: Any) -> Job | None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return claim(connection, holder, KINDS, **how)


def found(engine: Engine, job: Job) -> Job:
    with transaction(engine, EVERYBODY) as connection:
        return get_job(connection, EVERYBODY, job.id)


def later_us() -> int:
    return time.time_ns() // 1000 + LEASE_US + 1_000_000


def test_a_job_is_claimed_once_in_the_order_of_arrival(engine: Engine) -> None:
    first, second = order(engine, {"number": 1}), order(engine, {"number": 2})

    claimed = [take(engine, "one"), take(engine, "two"), take(engine, "one")]

    assert [job and job.id for job in claimed] == [first.id, second.id, None]
    assert claimed[0] is not None
    assert (claimed[0].status, claimed[0].holder, claimed[0].attempts) == ("running", "one", 1)
    assert msgspec.json.decode(claimed[0].arguments) == {"number": 1}


def test_a_job_of_another_kind_or_of_later_is_not_claimed(engine: Engine) -> None:
    order(engine, run_after_us=time.time_ns() // 1000 + 60_000_000)
    with transaction(engine, EVERYBODY, write=True) as connection:
        enqueue(connection, EVERYBODY, "unknown", None)

    assert take(engine, "one") is None
    assert take(engine, "one", now_us=time.time_ns() // 1000 + 61_000_000) is not None


def test_a_job_whose_holder_fell_silent_goes_to_another_with_its_progress(engine: Engine) -> None:
    order(engine)
    dead = take(engine, "dead")
    assert dead is not None
    with transaction(engine, EVERYBODY, write=True) as connection:
        heartbeat(connection, dead, progress={"done": 7})

    assert take(engine, "alive") is None
    heir = take(engine, "alive", now_us=later_us())

    assert heir is not None
    assert (heir.id, heir.holder, heir.attempts) == (dead.id, "alive", 2)
    assert heir.progress is not None
    assert msgspec.json.decode(heir.progress) == {"done": 7}


def test_a_holder_that_lost_its_lease_commits_nothing_more(engine: Engine) -> None:
    order(engine)
    slow = take(engine, "slow")
    heir = take(engine, "heir", now_us=later_us())
    assert slow is not None
    assert heir is not None

    with pytest.raises(LeaseLost, match=slow.id), transaction(engine, EVERYBODY, write=True) as connection:
        heartbeat(connection, slow, progress=1)
    with pytest.raises(LeaseLost, match=slow.id), transaction(engine, EVERYBODY, write=True) as connection:
        finish(connection, slow, None)

    with transaction(engine, EVERYBODY, write=True) as connection:
        finish(connection, heir, {"answer": 42})
    ended = found(engine, heir)
    assert (ended.status, ended.holder, ended.error) == ("done", None, None)
    assert ended.result is not None
    assert msgspec.json.decode(ended.result) == {"answer": 42}


def test_a_job_is_seen_by_its_organization_and_the_system_alone(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        job = enqueue(connection, OrgScope(ACME), "count", None)
        systems = enqueue(connection, EVERYBODY, "count", None)

        assert get_job(connection, OrgScope(ACME), job.id).org_id == ACME
        assert get_job(connection, EVERYBODY, job.id, kind="count").id == job.id
        for scope, identity, kind in (
            (OrgScope(ZENITH), job.id, None),
            (OrgScope(ACME), systems.id, None),
            (EVERYBODY, job.id, "other"),
        ):
            with pytest.raises(NotFound):
                get_job(connection, scope, identity, kind=kind)


def test_many_workers_never_run_one_job_twice_at_a_time(engine: Engine) -> None:
    orders = [order(engine, number) for number in range(20)]
    runs: Counter[str] = Counter()
    lock = threading.Lock()

    def work(engine: Engine, job: Job, stop: threading.Event) -> str:
        with lock:
            runs[job.id] += 1
        time.sleep(0.005)
        return "done"

    threads = [
        threading.Thread(
            target=run_jobs, args=(engine, threading.Event(), {"count": work}), kwargs={"until_idle": True}
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert runs == Counter({job.id: 1 for job in orders})
    assert {found(engine, job).status for job in orders} == {"done"}


def test_what_cannot_be_done_ends_with_its_reason(engine: Engine) -> None:
    job = order(engine)

    def work(engine: Engine, job: Job, stop: threading.Event) -> None:
        raise InvalidInput("rows", "there are none")

    assert run_jobs(engine, threading.Event(), {"count": work}, until_idle=True) == 1

    ended = found(engine, job)
    assert (ended.status, ended.error, ended.attempts) == ("failed", "rows: there are none", 1)


def test_a_crash_is_tried_again_later_and_ends_after_its_attempts(engine: Engine) -> None:
    job = order(engine)
    attempts = []

    def work(engine: Engine, job: Job, stop: threading.Event) -> None:
        attempts.append(job.attempts)
        raise ZeroDivisionError("by zero")

    for _ in range(MAX_ATTEMPTS + 1):
        run_jobs(engine, threading.Event(), {"count": work}, until_idle=True)
        waiting = found(engine, job)
        if waiting.status == "queued":
            assert take(engine, "too early") is None
            with transaction(engine, EVERYBODY, write=True) as connection:
                connection.execute(text("UPDATE jobs SET run_after_us = 0"))

    assert attempts == [1, 2, 3, 4, 5]
    ended = found(engine, job)
    assert (ended.status, ended.error) == ("failed", "ZeroDivisionError: by zero")


def test_a_job_that_ends_its_processes_is_given_up(engine: Engine) -> None:
    job = order(engine)
    for number in range(MAX_ATTEMPTS):
        assert take(engine, f"killed {number}", now_us=later_us() + number * 2 * LEASE_US) is not None
    with transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(text("UPDATE jobs SET leased_until_us = 0"))

    assert run_jobs(engine, threading.Event(), {"count": lambda *_: None}, until_idle=True) == 1

    assert found(engine, job).error == "given up: it was begun 5 times and never ended"


def test_a_worker_that_stops_puts_its_job_back_uncounted(engine: Engine) -> None:
    job = order(engine)
    running = threading.Event()

    def work(engine: Engine, job: Job, stop: threading.Event) -> None:
        running.set()
        assert stop.wait(30)
        raise Interrupted

    worker = Worker(engine, {"count": work})
    worker.start()
    assert running.wait(30)
    worker.stop()

    waiting = found(engine, job)
    assert (waiting.status, waiting.attempts, waiting.holder, waiting.error) == ("queued", 0, None, None)


def test_a_recurring_job_is_enqueued_once_a_period_by_whichever_worker_is_first(engine: Engine) -> None:
    hour = 1_800_000_000.0
    one, two = Recurrence({"count": 3600}), Recurrence({"count": 3600})

    for worker in (one, two, one):
        worker.enqueue_due(engine, now_s=hour)

    assert identities(engine) == ["job_count_500000"]


def test_a_recurring_job_waits_for_the_one_before_it(engine: Engine) -> None:
    recurring = Recurrence({"count": 3600})
    recurring.enqueue_due(engine, now_s=0)

    recurring.enqueue_due(engine, now_s=3600)
    assert identities(engine) == ["job_count_0"]

    assert run_jobs(engine, threading.Event(), {"count": lambda *_: None}, until_idle=True) == 0
    Recurrence({"count": 3600}).enqueue_due(engine, now_s=3600)
    assert identities(engine) == ["job_count_0", "job_count_1"]


def test_a_restart_repeats_no_recurring_job(engine: Engine) -> None:
    for _ in range(2):
        Recurrence({"count": 3600}).enqueue_due(engine, now_s=0)
        run_jobs(engine, threading.Event(), {"count": lambda *_: None}, until_idle=True)

    assert identities(engine) == ["job_count_0"]


def identities(engine: Engine) -> list[str]:
    with transaction(engine, EVERYBODY) as connection:
        return list(connection.scalars(text("SELECT id FROM jobs ORDER BY id")))

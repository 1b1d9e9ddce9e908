"""A process that is killed in the middle of a re-pricing: what it committed stands, the next one does the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from sqlalchemy import Engine, func, select, text

from farebox_ledger.repricing import outcome_of
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import get_job
from farebox_ledger.store.schema import usage_rows
from tests.ledger.repricing_cases import (
    add_prices,
    assert_sums_are_exact,
    book_events,
    calls,
    old_versions,
    order,
    price,
)
from tests.ledger.store.bookings import EVERYBODY

ROWS = 4000
MAINTAIN = "import sys; from farebox_ledger.commands.maintain import maintain; sys.exit(maintain(['--once']))"


def test_a_killed_process_leaves_a_job_that_the_next_one_ends(engine: Engine, database_url: str) -> None:
    add_prices(engine, price("other"))
    everything = calls(ROWS)
    for start in range(0, ROWS, 500):
        book_events(engine, *everything[start : start + 500])
    add_prices(engine, price("gpt-4o"))
    job = order(engine)

    killed = started(database_url)
    wait_until_some_are_billed(engine)
    killed.kill()
    killed.wait(timeout=30)
    done = billed(engine)
    with transaction(engine, EVERYBODY) as connection:
        progress = outcome_of(get_job(connection, EVERYBODY, job.id))
    assert progress is not None
    assert 0 < done < ROWS
    assert (progress.rows_changed, progress.rows_seen) == (done, done)
    assert_sums_are_exact(engine)

    with transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(text("UPDATE jobs SET leased_until_us = 0 WHERE status = 'running'"))  # as time does
    assert started(database_url).wait(timeout=90) == 0

    with transaction(engine, EVERYBODY) as connection:
        ended = get_job(connection, EVERYBODY, job.id)
    outcome = outcome_of(ended)
    assert outcome is not None
    assert (ended.status, ended.attempts, outcome.rows_changed) == ("done", 2, ROWS)
    assert billed(engine) == ROWS
    assert {version for version, *_ in old_versions(engine)} == {1}
    assert len(old_versions(engine)) == ROWS
    assert_sums_are_exact(engine)


def started(database_url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MAINTAIN], env=os.environ | {"FAREBOX_DATABASE_URL": database_url})


def billed(engine: Engine) -> int:
    with transaction(engine, EVERYBODY) as connection:
        counted = select(func.count()).select_from(usage_rows).where(usage_rows.c.billing_status == "billed")
        return connection.scalar(counted) or 0


def wait_until_some_are_billed(engine: Engine) -> None:
    deadline = time.monotonic() + 60
    while not billed(engine):
        assert time.monotonic() < deadline, "the job does not begin"
        time.sleep(0.005)

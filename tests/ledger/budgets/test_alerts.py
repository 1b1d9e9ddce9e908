"""Alerts fire once a period: after restarts, with two workers, after re-pricing, for late rows."""

from __future__ import annotations

import threading
import time
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from farebox_ledger.budgets import EVALUATE
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.store import jobs
from farebox_ledger.store.budgets import BudgetChange, Threshold, change_budget, delete_budget
from farebox_ledger.store.engine import transaction
from tests.ledger.budgets.making import UNIT, alerts, book_all, change_all, cost, fired, make_budget
from tests.ledger.store.bookings import EVERYBODY, NOON, ZENITH, at

DAY_US = 86_400_000_000


def test_each_threshold_fires_once_a_period(engine: Engine) -> None:
    budget = make_budget(engine, "10", period="day")
    book_all(engine, cost(1, "7.99"))
    assert fired(engine, budget) == []

    book_all(engine, cost(2, "0.01"))
    assert fired(engine, budget) == ["80%"]
    assert fired(engine, budget) == []

    book_all(engine, cost(3, "5"))
    assert fired(engine, budget) == ["100%"]
    assert fired(engine, budget) == []

    book_all(engine, cost(4, "50", occurred_at_us=NOON + DAY_US))
    assert fired(engine, budget, NOON + DAY_US) == ["80%", "100%"]
    first_day = sorted(
        (one.limit_pico, one.threshold, one.kind, one.spent_pico) for one in alerts(engine) if one.fired_at_us == NOON
    )
    assert first_day == [(8 * UNIT, "80%", "soft", 8 * UNIT), (10 * UNIT, "100%", "hard", 13 * UNIT)]
    assert len(alerts(engine)) == 4


def test_two_workers_at_once_fire_once(engine: Engine) -> None:
    budget = make_budget(engine, "1")
    book_all(engine, cost(1, "5"))
    start, found = threading.Barrier(4), []

    def work() -> None:
        start.wait(10)
        found.extend(fired(engine, budget))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)

    assert sorted(found) == ["100%", "80%"]
    assert len(alerts(engine)) == 2


def test_re_pricing_down_resolves_and_up_again_fires_no_second_time(engine: Engine) -> None:
    budget = make_budget(engine, "10", thresholds=(Threshold(kind="hard", percent=Decimal(100)),))
    book_all(engine, cost(1, "12"))
    assert fired(engine, budget) == ["100%"]

    change_all(engine, cost(1, "3"))
    assert fired(engine, budget, NOON + 1) == []
    assert [one.resolved_at_us for one in alerts(engine)] == [NOON + 1]

    change_all(engine, cost(1, "20"))
    assert fired(engine, budget, NOON + 2) == []
    (alert,) = alerts(engine)
    assert (alert.resolved_at_us, alert.fired_at_us, alert.spent_pico) == (None, NOON, 12 * UNIT)


def test_late_rows_fire_for_the_period_before_and_no_older_one(engine: Engine) -> None:
    budget = make_budget(engine, "1", period="month", thresholds=(Threshold(kind="soft", amount=Decimal("0.5")),))
    book_all(engine, cost(1, "1", occurred_at_us=at("2026-02-20T00:00:00Z")))
    book_all(engine, cost(2, "1", occurred_at_us=at("2026-01-31T00:00:00Z")))

    assert fired(engine, budget, at("2026-03-31T00:00:00Z")) == ["0.5"]
    assert [one.period_start_us for one in alerts(engine)] == [at("2026-02-01T00:00:00Z")]


def test_a_period_that_ended_before_the_budget_was_made_fires_nothing(engine: Engine) -> None:
    budget = make_budget(engine, "1", period="day")
    before_us = budget.created_at_us // DAY_US * DAY_US - DAY_US
    book_all(engine, cost(1, "9", occurred_at_us=before_us))

    assert fired(engine, budget, budget.created_at_us + 1) == []


def test_a_higher_amount_resolves_and_the_same_threshold_fires_no_second_time(engine: Engine) -> None:
    budget = make_budget(engine, "10", thresholds=(Threshold(kind="soft", percent=Decimal(50)),))
    book_all(engine, cost(1, "6"))
    assert fired(engine, budget) == ["50%"]

    with transaction(engine, EVERYBODY, write=True) as connection:
        raised = change_budget(connection, EVERYBODY, budget.id, BudgetChange(amount=Decimal(100)))
    assert fired(engine, budget) == []  # what another worker still knows is not what stands
    assert fired(engine, raised) == []
    assert alerts(engine)[0].resolved_at_us == NOON

    book_all(engine, cost(2, "90"))
    assert fired(engine, raised) == []
    assert alerts(engine)[0].resolved_at_us is None


def test_the_job_looks_at_every_budget_and_a_second_run_fires_nothing(engine: Engine) -> None:
    now_us = time.time_ns() // 1000
    total = make_budget(engine, "1", period="total")
    make_budget(engine, "1", period="total", org_id=ZENITH)
    make_budget(engine, "1", period="total", is_active=False)
    gone = make_budget(engine, "1", period="total")
    book_all(engine, cost(1, "2", occurred_at_us=now_us))
    with transaction(engine, EVERYBODY, write=True) as connection:
        delete_budget(connection, EVERYBODY, gone.id)

    for _ in range(2):
        with transaction(engine, EVERYBODY, write=True) as connection:
            jobs.enqueue(connection, EVERYBODY, EVALUATE, {})
        assert run_jobs(engine, threading.Event(), {EVALUATE: KINDS[EVALUATE]}, until_idle=True) == 0
    assert [(one.budget_id, one.period_start_us, one.period_end_us) for one in alerts(engine)] == [
        (total.id, 0, None)
    ] * 2


def test_what_fired_is_kept_by_the_database(engine: Engine) -> None:
    budget = make_budget(engine, "1")
    book_all(engine, cost(1, "2"))
    fired(engine, budget)

    for statement in ("UPDATE budget_alerts SET spent_units = 9", "DELETE FROM budget_alerts"):
        with (
            pytest.raises(DBAPIError, match="keeps what fired"),
            transaction(engine, EVERYBODY, write=True) as connection,
        ):
            connection.execute(text(statement))

"""Books with unpriced rows for the tests of repair: prices to add, rows that wait for them, and the law that holds."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import Engine, select

from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.pricing import Price, PriceBook, Rates, Tier
from farebox_ledger.pricing.events import charge_event
from farebox_ledger.repricing import RepriceOutcome, enqueue_reprice, outcome_of
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Job, get_job
from farebox_ledger.store.prices import insert_prices, load_book, raise_catalog_version
from farebox_ledger.store.repricing_rows import RowsToPrice
from farebox_ledger.store.rollups import check_rollups
from farebox_ledger.store.schema import charge_versions, usage_rows
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.writing import Booking, book
from farebox_ledger.usage import UsageEvent
from tests.ledger.store.bookings import EVERYBODY, event


def price(model: str, input_rate: str = "0.0000025", **fields: Any) -> Price:
    rates = Rates(tiers={"standard": Tier({"input_tokens": input_rate, "output_tokens": "0.00001"})})
    plain: dict[str, Any] = {"id": f"ltl_{model}", "source": "litellm", "provider": "openai"}
    return Price(model=model, rates=rates, **(plain | fields))


def add_prices(engine: Engine, *prices: Price) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        insert_prices(connection, prices, None)
        raise_catalog_version(connection)


def current_book(engine: Engine) -> PriceBook:
    with transaction(engine, EVERYBODY) as connection:
        return load_book(connection)


def book_events(engine: Engine, *events: UsageEvent) -> None:
    """Book events at the prices of now, as the pipeline does."""
    prices = current_book(engine)
    bookings = [Booking(one, charge_event(prices, one)) for one in events]
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def calls(count: int, **facts: Any) -> list[UsageEvent]:
    """Make calls in traces of their own, a second apart."""
    first = event().occurred_at_us
    return [
        event(number, trace_id=number.to_bytes(16, "big"), occurred_at_us=first + number * 1_000_000, **facts)
        for number in range(1, count + 1)
    ]


def order(engine: Engine, scope: Scope = EVERYBODY, *, dry_run: bool = False, **asked: Any) -> Job:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return enqueue_reprice(connection, scope, RowsToPrice(**asked), dry_run=dry_run)


def ran(engine: Engine, scope: Scope = EVERYBODY, *, dry_run: bool = False, **asked: Any) -> RepriceOutcome:
    """Run a re-pricing to its end."""
    job = order(engine, scope, dry_run=dry_run, **asked)
    assert run_jobs(engine, threading.Event(), KINDS, until_idle=True) == 0
    return ended(engine, job)


def ended(engine: Engine, job: Job) -> RepriceOutcome:
    with transaction(engine, EVERYBODY) as connection:
        done = get_job(connection, EVERYBODY, job.id)
    outcome = outcome_of(done)
    assert (done.status, done.error) == ("done", None)
    assert outcome is not None
    return outcome


def statuses(engine: Engine) -> list[tuple[Any, ...]]:
    """Read status, reason, cost and version of all rows, in the order of their spans."""
    columns = (usage_rows.c.billing_status, usage_rows.c.reason, usage_rows.c.cost_pico, usage_rows.c.charge_version)
    with transaction(engine, EVERYBODY) as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(usage_rows.c.span_id))]


def old_versions(engine: Engine) -> list[tuple[Any, ...]]:
    """Read version, status and cause of all old charges."""
    kept = charge_versions.c
    with transaction(engine, EVERYBODY) as connection:
        rows = connection.execute(select(kept.version, kept.billing_status, kept.cost_pico, kept.cause))
        return sorted(tuple(row) for row in rows)


def assert_sums_are_exact(engine: Engine) -> None:
    with transaction(engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []

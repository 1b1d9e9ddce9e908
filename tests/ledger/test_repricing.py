"""Re-pricing on both databases: what changes, what does not, and that a crash anywhere costs nothing."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from farebox_ledger import repricing
from farebox_ledger.charges import change_charges
from farebox_ledger.errors import InvalidInput, LeaseLost
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.pricing import Charge
from farebox_ledger.pricing.events import charge_event
from farebox_ledger.repricing import AmountChange, RepriceOutcome, Transition, preview, reprice
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import LEASE_US, Interrupted, Job, claim
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.repricing_rows import RowsToPrice, checked
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.writing import Booking, book, lock_traces
from farebox_ledger.usage import Usage
from tests.ledger.repricing_cases import (
    add_prices,
    assert_sums_are_exact,
    book_events,
    calls,
    current_book,
    ended,
    old_versions,
    order,
    price,
    ran,
    statuses,
)
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, ZENITH, event, suppressed, unpriced

COST = 4_500_000_000  # 1,000 tokens at 2.5 and 200 at 10 dollars per million


def test_a_new_price_bills_what_waited_and_keeps_what_was(engine: Engine) -> None:
    add_prices(engine, price("other"))
    book_events(engine, *calls(3))
    assert statuses(engine) == [("unpriced", "unknown_model", None, 1)] * 3

    add_prices(engine, price("gpt-4o"))
    job = order(engine)
    run_jobs(engine, threading.Event(), KINDS, until_idle=True)

    outcome = ended(engine, job)
    assert statuses(engine) == [("billed", None, COST, 2)] * 3
    assert old_versions(engine) == [(1, "unpriced", None, f"reprice:{job.id}")] * 3
    assert (outcome.rows_seen, outcome.rows_changed, outcome.rows_expected) == (3, 3, 3)
    assert outcome.transitions == [Transition("unpriced", "billed", 3)]
    assert outcome.amounts == [AmountChange("USD", Decimal(0), Decimal("0.0135"))]
    assert (outcome.is_complete, outcome.catalog_version) == (True, 2)
    assert_sums_are_exact(engine)


def test_a_second_run_changes_nothing(engine: Engine) -> None:
    add_prices(engine, price("other"))
    book_events(engine, *calls(3), *calls(2, org_id=ZENITH, request_model="unheard"))
    add_prices(engine, price("gpt-4o"))
    ran(engine)
    before = statuses(engine)

    again = ran(engine)
    with_priced = ran(engine, include_priced=True)

    assert (again.rows_seen, again.rows_changed) == (2, 0)
    assert (with_priced.rows_seen, with_priced.rows_changed) == (5, 0)
    assert statuses(engine) == before
    assert len(old_versions(engine)) == 3


def test_a_dry_run_says_what_the_run_will_do_and_changes_nothing(engine: Engine) -> None:
    add_prices(engine, price("other"))
    book_events(engine, *calls(3))
    add_prices(engine, price("gpt-4o"))

    dry = ran(engine, dry_run=True)

    assert statuses(engine) == [("unpriced", "unknown_model", None, 1)] * 3
    assert (dry.dry_run, dry.rows_changed) == (True, 3)
    example = dry.examples[0]
    assert (example.status_before, example.reason_before, example.cost_before_pico) == (
        "unpriced",
        "unknown_model",
        None,
    )
    assert (example.status_after, example.cost_after_pico, example.price_id_after) == ("billed", COST, "ltl_gpt-4o")
    real = ran(engine)
    assert (real.transitions, real.amounts) == (dry.transitions, dry.amounts)


def test_priced_rows_change_only_when_that_is_asked_for(engine: Engine) -> None:
    add_prices(engine, price("gpt-4o", effective_to_us=NOON + 3_600_000_000))
    book_events(engine, *calls(2))
    override = price("gpt-4o", "0.000005", id="ovr_1", source="override")
    add_prices(engine, override)

    left_alone = ran(engine)
    changed = ran(engine, include_priced=True)

    assert (left_alone.rows_seen, left_alone.rows_changed) == (0, 0)
    assert changed.transitions == [Transition("billed", "billed", 2)]
    assert changed.amounts == [AmountChange("USD", Decimal("0.009"), Decimal("0.014"))]
    assert statuses(engine) == [("billed", None, 7_000_000_000, 2)] * 2
    assert_sums_are_exact(engine)


def test_what_the_collector_decided_is_left_alone(engine: Engine) -> None:
    decided = [
        Booking(event(1), suppressed()),
        Booking(event(2), unpriced("needs_review")),
        Booking(event(3, kind="container"), unpriced("aggregate_only")),
        Booking(event(4, status="error", usage=Usage()), Charge(status="not_billable", reason="error_no_usage")),
    ]
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, decided, collector_id=None, batch_ids=[], writer_slot=1)
    before = statuses(engine)
    add_prices(engine, price("gpt-4o"))

    outcome = ran(engine, include_priced=True)

    assert (outcome.rows_seen, outcome.rows_changed) == (1, 0), "the policy may have come to bill the container"
    assert statuses(engine) == before


def test_a_stream_that_broke_off_stays_partial(engine: Engine) -> None:
    add_prices(engine, price("other"))
    book_events(engine, *calls(1, stream=True, status="cancelled", usage=Usage(input_tokens=1000)))
    add_prices(engine, price("gpt-4o"))

    outcome = ran(engine)

    assert outcome.transitions == [Transition("unpriced", "partial", 1)]
    assert statuses(engine) == [("partial", "stream_without_usage", 2_500_000_000, 2)]
    assert ran(engine).rows_changed == 0


def test_filters_choose_the_rows(engine: Engine) -> None:
    add_prices(engine, price("other"))
    book_events(
        engine,
        *calls(2),
        *calls(2, org_id=ZENITH),
        event(9, trace_id=b"9" * 16, request_model="gpt-5"),
        event(10, trace_id=b"8" * 16, usage=Usage(), request_model="gpt-5"),
    )
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "zenith")

    def seen(scope: Any = EVERYBODY, **asked: Any) -> tuple[int, int]:
        outcome = ran(engine, scope, dry_run=True, **asked)
        return outcome.rows_seen, outcome.rows_expected

    assert seen() == (6, 6)
    assert seen(OrgScope(ZENITH)) == (2, 2)
    assert seen(model="gpt-5") == (2, 2)
    assert seen(model="gpt-5", reason="unknown_model") == (1, 1)
    assert seen(provider="openai", billing_status="unpriced") == (6, 6)
    assert seen(billing_status="assumed") == (0, 0)
    assert seen(provider="anthropic") == (0, 0)
    assert seen(start_us=NOON + 2_000_000) == (2, 6)
    assert seen(end_us=NOON + 1) == (2, 6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"billing_status": "billed"}, "billed rows are priced; they change only with include_priced"),
        ({"billing_status": "suppressed", "include_priced": True}, "decided by the collector"),
        ({"reason": "needs_review"}, "no price changes that"),
        ({"start_us": 2, "end_us": 2}, "end: must lie after start"),
    ],
)
def test_a_filter_that_can_choose_nothing_is_refused(asked: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        checked(RowsToPrice(**asked))


class _Killed(BaseException):
    """Ends a job as a kill would: nothing is noted."""


@pytest.mark.parametrize("dies_at", range(1, 11))
def test_a_crash_at_any_step_is_made_good_by_the_next_holder(
    engine: Engine, dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repricing, "CHUNK", 3)
    add_prices(engine, price("other"))
    book_events(engine, *calls(7), *calls(4, org_id=ZENITH))
    add_prices(engine, price("gpt-4o"))
    order(engine)
    writes = 0

    def dying(connection: Any, *given: Any, **more: Any) -> int:
        nonlocal writes
        writes += 1
        if writes * 2 - 1 == dies_at:  # before the step's rows
            raise _Killed
        changed = change_charges(connection, *given, **more)
        if writes * 2 == dies_at:  # behind them, before the commit
            raise _Killed
        return changed

    monkeypatch.setattr(repricing, "change_charges", dying)
    first = claimed(engine, "killed")
    with pytest.raises(_Killed):
        reprice(engine, first, threading.Event())
    assert_sums_are_exact(engine)
    monkeypatch.setattr(repricing, "change_charges", change_charges)

    heir = claimed(engine, "heir", silent=True)
    outcome = reprice(engine, heir, threading.Event())

    assert statuses(engine) == [("billed", None, COST, 2)] * 11
    assert (outcome.rows_seen, outcome.rows_changed) == (11, 11)
    assert outcome.transitions == [Transition("unpriced", "billed", 11)]
    assert outcome.amounts == [AmountChange("USD", Decimal(0), Decimal("0.0495"))]
    assert len(outcome.examples) == 10
    assert_sums_are_exact(engine)


def claimed(engine: Engine, holder: str, *, silent: bool = False) -> Job:
    with transaction(engine, EVERYBODY, write=True) as connection:
        if silent:
            connection.execute(
                text("UPDATE jobs SET leased_until_us = leased_until_us - :lease"), {"lease": 2 * LEASE_US}
            )
        job = claim(connection, holder, [repricing.KIND])
    assert job is not None
    return job


def test_a_stopped_run_goes_on_where_it_ended(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "CHUNK", 2)
    add_prices(engine, price("other"))
    book_events(engine, *calls(5))
    add_prices(engine, price("gpt-4o"))
    job = order(engine)
    stop, seen = threading.Event(), []

    def work(engine: Engine, job: Job, event: threading.Event) -> RepriceOutcome:
        def stopping(outcome: RepriceOutcome) -> None:
            seen.append(outcome.rows_seen)
            stop.set()

        return reprice(engine, job, event, stopping)

    run_jobs(engine, stop, {repricing.KIND: work})
    assert [row[0] for row in statuses(engine)].count("billed") == 2
    run_jobs(engine, threading.Event(), KINDS, until_idle=True)

    assert seen == [2]
    assert (ended(engine, job).rows_seen, ended(engine, job).rows_changed) == (5, 5)


def test_a_holder_that_lost_its_lease_writes_no_further_step(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "CHUNK", 2)
    add_prices(engine, price("other"))
    book_events(engine, *calls(4))
    add_prices(engine, price("gpt-4o"))
    order(engine)
    slow = claimed(engine, "slow")
    claimed(engine, "heir", silent=True)

    with pytest.raises(LeaseLost):
        reprice(engine, slow, threading.Event())

    assert statuses(engine) == [("unpriced", "unknown_model", None, 1)] * 4


def test_a_row_that_changed_since_it_was_read_is_priced_as_it_is_now(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_prices(engine, price("other"))
    first, second, third = calls(3)
    book_events(engine, first, second, third)
    add_prices(engine, price("gpt-4o"))
    order(engine)
    larger = calls(1, usage=Usage(input_tokens=2000, output_tokens=200))[0]
    write = [Booking(larger, unpriced()), Booking(second, suppressed())]

    def meanwhile(*given: Any) -> None:
        monkeypatch.setattr(repricing, "lock_traces", lock_traces)
        lock_traces(*given)
        change_charges(given[0], EVERYBODY, write, cause="later_span", writer_slot=1)

    monkeypatch.setattr(repricing, "lock_traces", meanwhile)
    run_jobs(engine, threading.Event(), KINDS, until_idle=True)

    assert statuses(engine) == [
        ("billed", None, 7_000_000_000, 3),
        ("suppressed", "covered_by_child", None, 2),
        ("billed", None, COST, 2),
    ]
    assert_sums_are_exact(engine)


def test_bookings_beside_a_running_job_keep_every_sum_exact(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "CHUNK", 5)
    add_prices(engine, price("other"))
    everything = calls(120)
    book_events(engine, *everything[:60])
    old = current_book(engine)
    add_prices(engine, price("gpt-4o"))
    order(engine)
    errors: list[BaseException] = []

    def booking() -> None:
        try:
            for start in range(0, 120, 6):  # known spans again and new ones, some at the prices of before
                part = [Booking(one, charge_event(old, one)) for one in everything[start : start + 6]]
                with transaction(engine, EVERYBODY, write=True) as connection:
                    book(connection, EVERYBODY, part, collector_id=None, batch_ids=[], writer_slot=1)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=booking)
    thread.start()
    run_jobs(engine, threading.Event(), KINDS, until_idle=True)
    thread.join(timeout=60)
    assert errors == []
    ran(engine)

    assert statuses(engine) == [("billed", None, COST, 2)] * 120
    assert_sums_are_exact(engine)


def test_two_jobs_over_the_same_rows_change_each_row_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "CHUNK", 4)
    add_prices(engine, price("other"))
    book_events(engine, *calls(30))
    add_prices(engine, price("gpt-4o"))
    jobs = [order(engine), order(engine)]

    threads = [
        threading.Thread(target=run_jobs, args=(engine, threading.Event(), KINDS), kwargs={"until_idle": True})
        for _ in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert sum(ended(engine, job).rows_changed for job in jobs) == 30
    assert statuses(engine) == [("billed", None, COST, 2)] * 30
    assert_sums_are_exact(engine)


def test_a_preview_is_bounded_and_says_so(engine: Engine) -> None:
    add_prices(engine, price("other"))
    book_events(engine, *calls(5))
    add_prices(engine, price("gpt-4o"))
    prices = current_book(engine)

    with transaction(engine, EVERYBODY) as connection:
        whole = preview(connection, OrgScope(ACME), RowsToPrice(), prices)
        part = preview(connection, OrgScope(ACME), RowsToPrice(), prices, limit=2)

    assert (whole.rows_seen, whole.rows_changed, whole.is_complete) == (5, 5, True)
    assert (part.rows_seen, part.rows_changed, part.rows_expected, part.is_complete) == (2, 2, 5, False)


def test_an_interrupted_step_keeps_its_progress(engine: Engine) -> None:
    add_prices(engine, price("gpt-4o"))
    book_events(engine, *calls(1, request_model="unheard"))
    order(engine)
    stop = threading.Event()
    stop.set()

    with pytest.raises(Interrupted):
        reprice(engine, claimed(engine, "stopping"), stop)

    assert ended_progress(engine) == 1


def ended_progress(engine: Engine) -> int:
    outcome = repricing.outcome_of(claimed(engine, "next", silent=True))
    assert outcome is not None
    return outcome.rows_seen

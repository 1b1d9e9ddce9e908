import threading
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import IntegrityError

from farebox_ledger.charges import change_charges
from farebox_ledger.errors import InvalidInput, NotFound
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.querying import UsageRow, charge_versions, usage_row
from farebox_ledger.store.rollups import check_rollups
from farebox_ledger.store.schema import charge_versions as versions_table
from farebox_ledger.store.schema import rollup_day, usage_rows
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.writing import Booking, book
from farebox_ledger.usage import Usage
from tests.ledger.store.bookings import (
    ACME,
    EVERYBODY,
    NOON,
    ZENITH,
    at,
    booking,
    event,
    priced,
    random_booking,
    random_charge,
    random_event,
    suppressed,
    unpriced,
)


def write(engine: Engine, *bookings: Booking) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def change(engine: Engine, *changes: Booking, slot: int = 2, cause: str = "reprice:1") -> int:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return change_charges(connection, EVERYBODY, changes, cause=cause, writer_slot=slot)


def run(engine: Engine, *statements: str) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        for statement in statements:
            connection.execute(text(statement))


def row(engine: Engine, number: int = 1, day: int = 20260310) -> UsageRow:
    with transaction(engine, EVERYBODY) as connection:
        found = usage_row(connection, EVERYBODY, day, event(number).usage_id)
    assert found is not None
    return found


def assert_sums_are_exact(engine: Engine) -> None:
    with transaction(engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []


def test_a_repriced_row_has_the_new_charge_and_keeps_the_old_one(engine: Engine) -> None:
    write(engine, booking(1, unpriced("unknown_model")))

    assert change(engine, booking(1, priced())) == 1

    changed = row(engine)
    with transaction(engine, EVERYBODY) as connection:
        (old,) = charge_versions(connection, EVERYBODY, ACME, 20260310, event(1).usage_id)
    assert (changed.charge, changed.charge_version) == (priced(), 2)
    assert (old.version, old.charge.status, old.charge.reason, old.cause) == (
        1,
        "unpriced",
        "unknown_model",
        "reprice:1",
    )
    assert old.facts is None
    assert_sums_are_exact(engine)


def test_what_is_as_it_was_gets_no_new_version(engine: Engine) -> None:
    write(engine, booking(1, user_email="ann@example.com", tags=["b", "b"], metadata={"a": "\0"}))
    stands = row(engine)

    same_again = booking(1, user_email="ann@example.com", tags=["b", "b"], metadata={"a": "\0"})
    as_read = Booking(stands.event, stands.charge)

    assert change(engine, same_again) == change(engine, as_read) == 0
    assert change(engine, booking(1, received_at_us=NOON + 10**9, user_email="ann@example.com", tags=["b"],
                                  metadata={"a": ""})) == 0  # fmt: skip
    assert row(engine) == stands


def test_a_change_applied_twice_counts_once(engine: Engine) -> None:
    write(engine, booking(1))

    assert [change(engine, booking(1, priced(1, 2))) for _ in range(3)] == [1, 0, 0]
    assert row(engine).charge_version == 2
    assert_sums_are_exact(engine)


def test_changed_facts_move_between_the_sums_and_are_kept_with_the_old_charge(engine: Engine) -> None:
    write(engine, booking(1, usage=Usage(input_tokens=10), status="error", service="a", parent_span_id=b"p" * 8))

    change(engine, booking(1, priced(model="m"), usage=Usage(input_tokens=1000, output_tokens=200), service="b"))

    with transaction(engine, EVERYBODY) as connection:
        (old,) = charge_versions(connection, EVERYBODY, ACME, 20260310, event(1).usage_id)
        sums = rollup_day.c
        found = connection.execute(
            select(
                sums.service, sums.model, func.sum(sums.requests), func.sum(sums.errors), func.sum(sums.input_tokens)
            )
            .group_by(sums.service, sums.model)
            .order_by(sums.service)
        ).all()
    assert old.facts == {
        "parent_span_id": "70" * 8, "status": "error", "input_tokens": 10, "output_tokens": None, "service": "a"
    }  # fmt: skip
    assert [tuple(map(str, values)) for values in found] == [
        ("a", "gpt-4o", "0", "0", "0"),
        ("b", "m", "1", "0", "1000"),
    ]
    assert_sums_are_exact(engine)


def test_a_suppressed_row_leaves_the_sums_and_a_reversal_brings_it_back(engine: Engine) -> None:
    write(engine, booking(1), booking(2))

    change(engine, booking(1, suppressed(covered_by=event(2).usage_id)), cause="covered_by_child")
    with transaction(engine, EVERYBODY) as connection:
        assert connection.scalar(select(func.sum(rollup_day.c.requests))) == 1
    assert row(engine).charge.covered_by == event(2).usage_id
    assert_sums_are_exact(engine)

    change(engine, booking(1))
    with transaction(engine, EVERYBODY) as connection:
        assert connection.scalar(select(func.sum(rollup_day.c.requests))) == 2
    assert_sums_are_exact(engine)


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        ("2026-03-31T00:00:10Z", "2026-03-30T23:59:00Z"),
        ("2026-03-29T23:59:59Z", "2026-03-30T23:59:00Z"),
        ("2026-03-30T12:00:00Z", "2026-03-30T12:00:00Z"),
    ],
)
def test_a_row_stays_in_its_day_and_month(engine: Engine, end: str, kept: str) -> None:
    write(engine, booking(1, occurred_at_us=at("2026-03-30T23:59:00Z")))

    change(engine, booking(1, priced(5, 5), occurred_at_us=at(end), received_at_us=NOON * 2))

    changed = row(engine, day=20260330)
    assert changed.event.occurred_at_us == at(kept)
    assert changed.event.received_at_us == NOON + 5_000_000
    assert_sums_are_exact(engine)


def test_a_row_that_is_not_there_cannot_change(engine: Engine) -> None:
    write(engine, booking(1))

    with pytest.raises(NotFound, match="usage row"):
        change(engine, booking(1, priced(5, 5)), booking(2))

    assert row(engine).charge == priced()


def test_a_span_that_is_sent_again_days_later_changes_the_row_that_stands(engine: Engine) -> None:
    write(engine, booking(1))

    assert change(engine, booking(1, priced(5, 5), occurred_at_us=at("2026-04-20T00:00:00Z"))) == 1

    assert row(engine).event.occurred_at_us == NOON
    assert row(engine).charge == priced(5, 5)
    assert_sums_are_exact(engine)


def test_a_row_of_another_organization_cannot_change(engine: Engine) -> None:
    write(engine, booking(1))

    with (
        transaction(engine, OrgScope(ZENITH), write=True) as connection,
        pytest.raises(InvalidInput, match="outside the scope"),
    ):
        change_charges(connection, OrgScope(ZENITH), [booking(1)], cause="x", writer_slot=1)


def test_a_change_that_no_row_can_hold_is_refused_whole(engine: Engine) -> None:
    write(engine, booking(1), booking(2))

    with pytest.raises(InvalidInput, match="parts_sum_to_cost"):
        change(engine, booking(1, priced(5, 5)), booking(2, priced(cost_pico=7)))

    assert row(engine).charge_version == 1
    assert_sums_are_exact(engine)


def test_old_charges_are_never_changed_or_deleted(engine: Engine) -> None:
    write(engine, booking(1))
    change(engine, booking(1, priced(5, 5)))

    for statement in ("UPDATE charge_versions SET cause = 'x'", "DELETE FROM charge_versions"):
        with (
            pytest.raises(IntegrityError, match="append-only"),
            transaction(engine, EVERYBODY, write=True) as connection,
        ):
            connection.execute(text(statement))


def test_a_kept_version_must_be_the_charge_that_the_row_had(engine: Engine) -> None:
    write(engine, booking(1))
    change(engine, booking(1, priced(5, 5)))
    # Keeping some other charge under the right number does not open the way to a new one.
    keep = (
        "INSERT INTO charge_versions (org_id, day, usage_id, version, billing_status, cause, replaced_at_us) "
        "SELECT org_id, day, usage_id, charge_version, 'unpriced', 'x', 1 FROM usage_rows"
    )

    with pytest.raises(IntegrityError, match="law 6"):
        run(engine, keep, "UPDATE usage_rows SET list_cost_pico = 1, charge_version = charge_version + 1")


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_rows_and_sums_agree_after_any_bookings_and_changes(engine: Engine, seed: int) -> None:
    random = Random(seed)
    bookings = [random_booking(random, number) for number in range(40)]
    write(engine, *bookings)

    for slot in (1, 2, 3):
        chosen = random.sample(bookings, k=15)
        change(engine, *(_changed(random, one, number) for number, one in enumerate(chosen)), slot=slot)
    assert_sums_are_exact(engine)

    with transaction(engine, EVERYBODY) as connection:
        changed = connection.scalar(select(func.sum(usage_rows.c.charge_version - 1)))
        assert changed == connection.scalar(select(func.count()).select_from(versions_table))


def test_two_repricing_jobs_and_a_collector_race_without_losing_a_cent(engine: Engine) -> None:
    random = Random(3)
    bookings = [random_booking(random, number) for number in range(120)]
    write(engine, *bookings[:60])
    errors: list[BaseException] = []

    def work(slot: int) -> None:
        mine = Random(slot)
        try:
            for start in range(0, 60, 15):
                if slot == 1:
                    write(engine, *mine.sample(bookings[start : start + 75], k=75))
                chosen = mine.sample(bookings[start : start + 15], k=15)
                change(engine, *(Booking(one.event, random_charge(mine)) for one in chosen), slot=slot)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()

    assert errors == []
    assert_sums_are_exact(engine)
    with transaction(engine, EVERYBODY) as connection:
        assert connection.scalar(select(func.count()).select_from(usage_rows)) == 120


def _changed(random: Random, one: Booking, number: int) -> Booking:
    """Draw new facts and a new charge for the same span, its end within two days of where it was."""
    keys: dict[str, Any] = {name: getattr(one.event, name) for name in ("org_id", "trace_id", "span_id")}
    end_us = one.event.occurred_at_us + random.choice((0, 0, 60_000_000, 43_200_000_000, -43_200_000_000))
    changed = msgspec.structs.replace(random_event(random, number), occurred_at_us=end_us, **keys)
    return Booking(changed, random_charge(random))

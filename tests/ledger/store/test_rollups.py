import threading
from random import Random

import pytest
from sqlalchemy import Engine, func, select, text

from farebox_ledger.store.engine import transaction
from farebox_ledger.store.rollups import ROLLUPS, Difference, check_rollups, rebuild_rollups
from farebox_ledger.store.schema import rollup_day
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.writing import Booking, book
from tests.ledger.store.bookings import ACME, EVERYBODY, ZENITH, booking, priced, random_booking


def write(engine: Engine, *bookings: Booking, slot: int = 1) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=slot)


def run(engine: Engine, statement: str) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(text(statement))


def test_a_cent_too_much_is_found_and_named(engine: Engine) -> None:
    write(engine, booking(1))
    run(engine, "UPDATE rollup_day SET cost_pico = cost_pico + 1")

    with transaction(engine, EVERYBODY) as connection:
        found = check_rollups(connection, EVERYBODY)

    key = (ACME, 20260310, "", "openai", "gpt-4o", "", "", "billed", "USD")
    assert found == [Difference("rollup_day", key, "cost", is_sum=4_500_000_001, should_be=4_500_000_000)]


@pytest.mark.parametrize("rollup", ["rollup_day", "rollup_quarter", "rollup_day_by", "rollup_day_reason"])
def test_a_lost_or_invented_cell_is_found_in_each_rollup(engine: Engine, rollup: str) -> None:
    write(engine, booking(1, priced(status="assumed")), booking(1, priced(status="assumed"), org_id=ZENITH))
    run(engine, f"DELETE FROM {rollup} WHERE org_id = {ACME}")
    run(engine, f"UPDATE {rollup} SET writer_slot = 9, errors = 5")

    with transaction(engine, EVERYBODY) as connection:
        everything = check_rollups(connection, EVERYBODY)
        zenith = check_rollups(connection, OrgScope(ZENITH))
        other_days = check_rollups(connection, EVERYBODY, first_day=20260311)
        earlier_days = check_rollups(connection, EVERYBODY, last_day=20260309)

    assert {one.rollup for one in everything} == {rollup}
    assert {one.key[0] for one in everything} == {ACME, ZENITH}
    assert {(one.measure, one.is_sum, one.should_be) for one in zenith} == {("errors", 5, 0)}
    assert other_days == earlier_days == []


def test_rebuilding_brings_everything_right_in_one_slot(engine: Engine) -> None:
    random = Random(5)
    bookings = [random_booking(random, number) for number in range(200)]
    write(engine, *bookings[:100], slot=1)
    write(engine, *bookings[100:], slot=2)
    run(engine, "UPDATE rollup_quarter SET requests = requests + 1")
    run(engine, "DELETE FROM rollup_day_by WHERE dimension = 'user'")

    with transaction(engine, EVERYBODY, write=True) as connection:
        days = rebuild_rollups(connection, EVERYBODY)

    with transaction(engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []
        for rollup in ROLLUPS:
            assert connection.scalar(select(func.max(rollup.c.writer_slot))) == 0
    assert days == len({(one.event.org_id, one.event.day) for one in bookings})


def test_rebuilding_beside_writers_loses_nothing(engine: Engine) -> None:
    random = Random(6)
    bookings = [random_booking(random, number) for number in range(300)]
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for start in range(0, 300, 30):
                write(engine, *bookings[start : start + 30])
        except BaseException as error:
            errors.append(error)

    writer = threading.Thread(target=work)
    writer.start()
    while writer.is_alive():
        with transaction(engine, EVERYBODY, write=True) as connection:
            rebuild_rollups(connection, EVERYBODY)
        writer.join(timeout=0.02)  # SQLite's lock goes to whoever asks while it is free, not to who waits longest
    writer.join(timeout=30)

    assert errors == []
    with transaction(engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []


def test_sums_carry_from_pico_into_units(engine: Engine) -> None:
    for number in range(3):
        write(engine, booking(number, priced(999_999_999_999, 0)))

    with transaction(engine, EVERYBODY) as connection:
        units, pico = connection.execute(select(rollup_day.c.cost_units, rollup_day.c.cost_pico)).one()

    assert (units, pico) == (2, 999_999_999_997)


def test_bookings_do_not_let_the_sums_of_a_day_grow_on_the_disk(postgres_engine: Engine) -> None:
    sizes = []
    for batch in range(12):
        write(postgres_engine, *(booking(100 * batch + user, user=f"user-{user}") for user in range(60)))
        with transaction(postgres_engine, EVERYBODY) as connection:
            sizes.append(connection.scalar(text("SELECT pg_relation_size('rollup_day_by')")))

    assert sizes[-1] == sizes[2]


@pytest.mark.parametrize("name", ['"', "\\", "a\\", "{b", "b}", "a,b", "NULL", " ", "'", "%s", "line\nbreak", "ş…🙂"])
def test_a_name_is_summed_under_itself_whatever_it_is_made_of(engine: Engine, name: str) -> None:
    write(engine, booking(1, project=name, user=name, service="plain"), booking(2, project="plain", user="plain"))

    with transaction(engine, EVERYBODY) as connection:
        projects = set(connection.scalars(select(rollup_day.c.project)))
        found = check_rollups(connection, EVERYBODY)

    assert projects == {name, "plain"}
    assert found == []

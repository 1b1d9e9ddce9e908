"""The schema's discipline for many machines, proven on one: hash partitions by organization, then ranges of days.

PostgreSQL then refuses every unique key without both columns, which is the rule of Citus for distributed tables.
"""

from random import Random

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import NotSupportedError

from farebox_ledger.charges import change_charges
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.isolation import isolate
from farebox_ledger.store.querying import UsageFilter, list_usage
from farebox_ledger.store.rollups import check_rollups, rebuild_rollups
from farebox_ledger.store.schema import REFERENCE_TABLES, metadata
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.writing import COPY_FROM, Booking, book, booked_events
from tests.ledger.store.bookings import ACME, EVERYBODY, at, booking, event, random_booking, random_charge


@pytest.fixture
def distributed(postgres_engine: Engine) -> Engine:
    """Put partitioned tables of the same columns, checks, keys and indexes in the place of the org-owned ones."""
    with owner_transaction(postgres_engine, write=True) as connection:
        for name, table in metadata.tables.items():
            if name in REFERENCE_TABLES:
                continue
            connection.execute(text(f"ALTER TABLE {name} RENAME TO {name}_whole"))
            connection.execute(
                text(
                    f"CREATE TABLE {name} (LIKE {name}_whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS) "
                    "PARTITION BY HASH (org_id)"
                )
            )
            keys = ", ".join(column.name for column in table.primary_key.columns)
            connection.execute(text(f"ALTER TABLE {name} ADD PRIMARY KEY ({keys})"))
            connection.execute(text(f"DROP TABLE {name}_whole CASCADE"))  # views with it
            for index in table.indexes:
                index.create(connection)
            for number in range(3):
                add_partition(connection, name, number, by_day="day" in table.c)
        isolate(connection)
    return postgres_engine


def add_partition(connection: Connection, name: str, number: int, *, by_day: bool) -> None:
    def execute(statement: str) -> None:
        connection.execute(text(statement))

    part = f"{name}_{number}"
    days = " PARTITION BY RANGE (day)" if by_day else ""
    execute(f"CREATE TABLE {part} PARTITION OF {name} FOR VALUES WITH (MODULUS 3, REMAINDER {number}){days}")
    if by_day:
        execute(f"CREATE TABLE {part}_march PARTITION OF {part} FOR VALUES FROM (20260301) TO (20260401)")
        execute(f"CREATE TABLE {part}_rest PARTITION OF {part} DEFAULT")


def test_the_same_statements_book_change_and_read_partitioned_tables(distributed: Engine) -> None:
    random = Random(4)
    bookings = [random_booking(random, number) for number in range(COPY_FROM + 80)]

    for batch in (bookings[:30], bookings, bookings[:COPY_FROM], bookings[-5:]):
        with transaction(distributed, AllOrganizations(), write=True) as connection:
            book(connection, EVERYBODY, batch, collector_id="collector", batch_ids=[1], writer_slot=1)
    with transaction(distributed, AllOrganizations(), write=True) as connection:
        changes = [Booking(one.event, random_charge(random)) for one in bookings[:50]]
        change_charges(connection, EVERYBODY, changes, cause="reprice:1", writer_slot=2)

    with transaction(distributed, AllOrganizations(), write=True) as connection:
        assert len(list_usage(connection, EVERYBODY, UsageFilter(), limit=1000).rows) == len(bookings)
        assert check_rollups(connection, EVERYBODY) == []
        rebuild_rollups(connection, EVERYBODY)
        assert check_rollups(connection, EVERYBODY) == []


def test_a_span_on_the_other_side_of_a_partitions_bound_is_found(distributed: Engine) -> None:
    last, first = at("2026-03-31T23:59:59Z"), at("2026-04-01T00:00:01Z")
    for end in (last, first):
        with transaction(distributed, EVERYBODY, write=True) as connection:
            one = booking(1, occurred_at_us=end)
            inserted = book(connection, EVERYBODY, [one], collector_id=None, batch_ids=[], writer_slot=1)
        assert inserted == (end == last)

    with transaction(distributed, EVERYBODY) as connection:
        (found,) = booked_events(connection, EVERYBODY, [(ACME, 20260401, event(1).trace_id)])
    assert found.day == 20260331


def test_postgresql_refuses_keys_without_organization_and_day_there(distributed: Engine) -> None:
    for columns in ("usage_id", "org_id, usage_id", "day, usage_id"):
        with (
            pytest.raises(NotSupportedError, match="unique constraint on partitioned table"),
            owner_transaction(distributed, write=True) as connection,
        ):
            connection.execute(text(f"CREATE UNIQUE INDEX ON usage_rows ({columns})"))

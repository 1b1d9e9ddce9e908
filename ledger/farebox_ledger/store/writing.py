"""Books usage: rows, rollups, credit deductions, users and batch ids in the caller's one transaction, each span once.

Bookings (an event and its charge) come in from the pipeline, the API and imports. What stands already is skipped, and
only rows that were really inserted count. Charges are computed before and changed later elsewhere (`charges`).

A transaction calls `lock_traces` at most once before `book`, and `book` once: two calls could take their locks in an
order that contradicts another writer's.
"""

from __future__ import annotations

import time
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, TypeAlias, cast

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing.charge import Charge
from farebox_ledger.store.credit_posting import post_deductions
from farebox_ledger.store.engine import is_sqlite, refusals, transaction
from farebox_ledger.store.projects import note_projects
from farebox_ledger.store.rollups import Tally, post
from farebox_ledger.store.rows import POSITION, Record, RowValues, event_of, row_key, row_probes, row_values
from farebox_ledger.store.schema import (
    BOOKED_COLUMNS,
    usage_rows,
    writers,
)
from farebox_ledger.store.scope import AllOrganizations, Scope, require
from farebox_ledger.store.statements import among, chunks, marks, quoted
from farebox_ledger.store.timeline import nearby_days
from farebox_ledger.store.users import note_users
from farebox_ledger.usage import BillingStatus, Reason, UsageEvent

COPY_FROM: Final = 100
"""From this many rows COPY beats executemany on PostgreSQL (performance reference, A2: between 64 and 128)."""

LEASE_US: Final = 3_600_000_000
"""How long a writer keeps its slot without asking again. Two writers on one slot are slower, never wrong."""

_TRACE_LOCKS: Final = 0x6662_7472  # "fbtr": the class of advisory locks that traces are locked in
_TRACE_BUCKETS: Final = 1 << 20
_WRITER_LOCK: Final = 0x6661_7265_626F_7802

_ALL_COLUMNS: Final = quoted(column.name for column in usage_rows.columns)

_ROWS_OF_TRACES: Final = (
    f"SELECT {_ALL_COLUMNS} FROM unnest(%s::bigint[], %s::bytea[]) AS asked (org, trace) CROSS JOIN LATERAL "
    "(SELECT * FROM usage_rows WHERE org_id = asked.org AND trace_id = asked.trace OFFSET 0) AS found "
    "WHERE day BETWEEN %s AND %s"
)
"""OFFSET 0 keeps the days out of the look-up: few days are walked more cheaply than many traces are looked up, thinks
a planner that has no statistics."""

_Incoming: TypeAlias = dict[tuple[int, bytes], RowValues]
_TraceKey: TypeAlias = tuple[int, int, bytes]
_TraceDays: TypeAlias = dict[tuple[int, bytes], set[int]]
"""Days by organization and trace id."""


class Booking(msgspec.Struct):
    """What is to be booked: an event and the charge that was computed for it."""

    event: UsageEvent
    charge: Charge


class BookedEvent(msgspec.Struct):
    """An event that stands in the books. `day` is the day of its row, which may differ from a re-sent event's."""

    event: UsageEvent
    day: int
    charge_status: BillingStatus
    reason: Reason | None
    charge_version: int
    covered_by: bytes | None
    detail: str | None = None  # what the reason is about


def book(
    connection: Connection,
    scope: Scope,
    bookings: Sequence[Booking],
    *,
    collector_id: str | None,
    batch_ids: Sequence[int],
    writer_slot: int,
    are_new: bool = False,
) -> int:
    """Book events with their charges and say how many rows were inserted; the others stood already.

    A span that stands on the day before or after, because it was sent before with another end, is a duplicate as well.
    `batch_ids` are recorded for `collector_id` (None: the rows come from no collector). `are_new` says that the caller
    has locked the events' traces in this transaction and found none of the events in `booked_events` since.

    Raises:
        InvalidInput: an event is outside the scope, or holds what no row can hold, such as a negative count.
    """
    incoming = _incoming(scope, bookings)
    if not are_new:
        lock_traces(connection, scope, {(key[0], row[POSITION["trace_id"]]) for key, row in incoming.items()})
    with refusals():
        for standing in () if are_new else _standing(connection, incoming):
            del incoming[standing]
        inserted = _insert_rows(connection, sorted(incoming.values(), key=row_key))
        tally = Tally()
        for row in inserted:
            tally.add(row)
        post(connection, tally, writer_slot)
        post_deductions(connection, inserted)
        note_users(connection, [booking.event for booking in bookings])
        note_projects(connection, inserted)
        if collector_id is not None:
            _record_batches(connection, collector_id, batch_ids)
    return len(inserted)


def lock_traces(connection: Connection, scope: Scope, traces: Iterable[tuple[int, bytes]]) -> None:
    """Let nobody else decide about these traces (organization, trace id) until the transaction ends.

    On SQLite the write transaction itself is that lock. On PostgreSQL each trace hashes to one of 2**20 advisory
    locks, taken in ascending order; the server's lock table holds some 6,400 by default, so keep batches to some
    1,000 traces.
    """
    if is_sqlite(connection):
        return
    buckets = set()
    for org_id, trace_id in traces:
        require(scope, org_id)
        buckets.add(zlib.crc32(trace_id, org_id & 0xFFFFFFFF) % _TRACE_BUCKETS)
    if buckets:
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(%s, bucket) FROM unnest(%s::int[]) AS bucket", (_TRACE_LOCKS, sorted(buckets))
        )


def booked_events(connection: Connection, scope: Scope, traces: Collection[_TraceKey]) -> list[BookedEvent]:
    """Read what stands of traces, given as (organization, day, trace id), ordered by key.

    Rows of the day before and the day after are among them, rows further away are not.
    """
    days: _TraceDays = defaultdict(set)
    for org_id, day, trace_id in traces:
        require(scope, org_id)
        days[org_id, trace_id].update(nearby_days(day))
    rows_of = _rows_of_traces_on_sqlite if is_sqlite(connection) else _rows_of_traces
    rows = [row for row in rows_of(connection, days) if row["day"] in days[row["org_id"], bytes(row["trace_id"])]]
    return sorted(map(_booked, rows), key=lambda booked: (booked.event.org_id, booked.day, booked.event.usage_id))


def seen_batches(connection: Connection, collector_id: str, batch_ids: Collection[int]) -> set[int]:
    """Say which of a collector's batches are in the books already."""
    seen: set[int] = set()
    database = connection.dialect.name
    for part in chunks(sorted(batch_ids)):
        is_asked, asked = among("batch_id", part, database)
        found = connection.exec_driver_sql(
            f"SELECT batch_id FROM booked_batches WHERE collector_id = {marks(1, database)} AND {is_asked}",
            (collector_id, *asked),
        )
        seen.update(batch_id for (batch_id,) in found)
    return seen


def lease_writer_slot(engine: Engine, holder: str) -> int:
    """Give a writer its own slot in the rollups' keys, for an hour; asking again renews it and answers the same slot.

    Slot 0 is nobody's: folded and rebuilt sums stand there. `holder` names the process, not the host.
    """
    now_us = time.time_ns() // 1000
    with transaction(engine, AllOrganizations(), write=True) as connection:
        if not is_sqlite(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITER_LOCK})
        held = connection.scalar(select(writers.c.slot).where(writers.c.holder == holder))
        if held is not None:
            connection.execute(update(writers).where(writers.c.slot == held).values(leased_until_us=now_us + LEASE_US))
            return int(held)
        connection.execute(delete(writers).where(writers.c.leased_until_us < now_us))
        taken = set(connection.scalars(select(writers.c.slot)))
        slot = next(number for number in range(1, len(taken) + 2) if number not in taken)
        lease = {"slot": slot, "holder": holder, "leased_until_us": now_us + LEASE_US}
        connection.execute(insert(writers), lease)
        return slot


def _incoming(scope: Scope, bookings: Sequence[Booking]) -> _Incoming:
    """Lay the rows out, each span once: within a batch the first one counts."""
    for org_id in {booking.event.org_id for booking in bookings}:
        require(scope, org_id)
    incoming: _Incoming = {}
    for booking in bookings:
        row = _laid_out(booking)
        incoming.setdefault((row[0], row[2]), row)
    return incoming


def _laid_out(booking: Booking) -> RowValues:
    try:
        return row_values(booking.event, booking.charge)
    except (ValueError, OverflowError, OSError) as error:  # what `datetime` says of a year beyond 9999
        raise InvalidInput("occurred_at", f"{booking.event.occurred_at_us} µs is no time of a calendar") from error


def _standing(connection: Connection, incoming: _Incoming) -> set[tuple[int, bytes]]:
    """Find which of the rows stand already, on their own day or next to it."""
    standing: set[tuple[int, bytes]] = set()
    database = connection.dialect.name
    for org_id, day, part in row_probes(incoming.values()):
        is_asked, asked = among("usage_id", part, database)
        found = connection.exec_driver_sql(
            f"SELECT usage_id FROM usage_rows WHERE org_id = {marks(1, database)} "
            f"AND day IN ({marks(3, database)}) AND {is_asked}",
            (org_id, *nearby_days(day), *asked),
        )
        standing.update((org_id, bytes(usage_id)) for (usage_id,) in found)
    return standing


def _insert_rows(connection: Connection, rows: list[RowValues]) -> list[RowValues]:
    """Insert rows that stood nowhere a moment ago and answer those that are now there by our doing."""
    if not rows:
        return []
    if is_sqlite(connection):
        return _insert_on_sqlite(connection, rows)
    insert_them = _copy_rows if len(rows) >= COPY_FROM else _insert_one_by_one
    keys = insert_them(connection, rows)
    return rows if len(keys) == len(rows) else [row for row in rows if (row[0], row[2]) in keys]


def _insert_on_sqlite(connection: Connection, rows: list[RowValues]) -> list[RowValues]:
    """Insert all rows; the write lock is held since before the look-up, so that none can have come between."""
    driver = cast(Any, connection.connection.driver_connection)
    before = driver.total_changes
    connection.exec_driver_sql(_insert_statement("sqlite"), rows)
    assert driver.total_changes - before == len(rows), "book() needs a transaction opened with write=True"
    return rows


def _insert_one_by_one(connection: Connection, rows: list[RowValues]) -> set[tuple[int, bytes]]:
    keys: set[tuple[int, bytes]] = set()
    with _driver_errors(connection), cast(Any, connection.connection.driver_connection).cursor() as cursor:
        cursor.executemany(f"{_insert_statement('postgresql')} RETURNING org_id, usage_id", rows, returning=True)
        for result in cursor.results():
            keys.update((org_id, bytes(usage_id)) for org_id, usage_id in result)
    return keys


def _copy_rows(connection: Connection, rows: list[RowValues]) -> set[tuple[int, bytes]]:
    """Send rows as a binary COPY into a temporary table and insert them from there.

    The table lives as long as the transaction: behind a pooler a session belongs to nobody.
    """
    names = quoted(BOOKED_COLUMNS)
    with _driver_errors(connection), cast(Any, connection.connection.driver_connection).cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE farebox_incoming ON COMMIT DROP AS SELECT {names} FROM usage_rows LIMIT 0")
        with cursor.copy(f"COPY farebox_incoming ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_copy_types())
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            f"INSERT INTO usage_rows ({names}) SELECT {names} FROM farebox_incoming "
            "ON CONFLICT DO NOTHING RETURNING org_id, usage_id"
        )
        keys = {(org_id, bytes(usage_id)) for org_id, usage_id in cursor}
        cursor.execute("DROP TABLE farebox_incoming")
    return keys


@contextmanager
def _driver_errors(connection: Connection) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy's, as for every statement that goes through it."""
    driver = cast(Any, connection.dialect.loaded_dbapi)
    try:
        yield
    except driver.Error as error:
        raise DBAPIError.instance(None, None, error, driver.Error, dialect=connection.dialect) from error


@cache
def _copy_types() -> tuple[str, ...]:
    """Name the columns' PostgreSQL types: a binary COPY converts nothing."""
    names = {BigInteger: "int8", Integer: "int4", SmallInteger: "int2", LargeBinary: "bytea", Text: "text"}
    return tuple(names[type(usage_rows.c[name].type)] for name in BOOKED_COLUMNS)


@cache
def _insert_statement(database: str) -> str:
    values = marks(len(BOOKED_COLUMNS), database)
    return f"INSERT INTO usage_rows ({quoted(BOOKED_COLUMNS)}) VALUES ({values}) ON CONFLICT DO NOTHING"


def _rows_of_traces(connection: Connection, days: _TraceDays) -> Iterator[Record]:
    """Look up the traces of all organizations at once on PostgreSQL, each of them in the index of traces."""
    for part in chunks(sorted(days)):
        org_ids, trace_ids = zip(*part, strict=True)
        around = [day for key in part for day in days[key]]
        with _planned_anew(connection):
            found = connection.exec_driver_sql(
                _ROWS_OF_TRACES, (list(org_ids), list(trace_ids), min(around), max(around))
            )
        yield from found.mappings()


@contextmanager
def _planned_anew(connection: Connection) -> Iterator[None]:
    """Let PostgreSQL plan a block's statements for the tables as they are now.

    The driver has statements prepared that come again, and a plan that was made while a table was all but empty stays
    until its statistics are gathered: for the first minute of a busy installation.
    """
    driver = cast(Any, connection.connection.driver_connection)
    threshold, driver.prepare_threshold = driver.prepare_threshold, None
    try:
        yield
    finally:
        driver.prepare_threshold = threshold


def _rows_of_traces_on_sqlite(connection: Connection, days: _TraceDays) -> Iterator[Record]:
    for org_id, trace_ids in _by_organization(days):
        span = [day for trace_id in trace_ids for day in days[org_id, trace_id]]
        for part in chunks(trace_ids):
            is_asked, asked = among("trace_id", part, "sqlite")
            # For 256 traces and more SQLite thinks it cheaper to walk all rows of the organization's days.
            found = connection.exec_driver_sql(
                f"SELECT {_ALL_COLUMNS} FROM usage_rows INDEXED BY ix_usage_rows_trace "
                f"WHERE org_id = ? AND {is_asked} AND day BETWEEN ? AND ?",
                (org_id, *asked, min(span), max(span)),
            )
            yield from found.mappings()


def _by_organization(traces: Iterable[tuple[int, bytes]]) -> list[tuple[int, list[bytes]]]:
    organizations: dict[int, list[bytes]] = defaultdict(list)
    for org_id, trace_id in sorted(traces):
        organizations[org_id].append(trace_id)
    return list(organizations.items())


def _booked(row: Record) -> BookedEvent:
    return BookedEvent(
        event=event_of(row),
        day=row["day"],
        charge_status=row["billing_status"],
        reason=row["reason"],
        charge_version=row["charge_version"],
        covered_by=None if row["covered_by"] is None else bytes(row["covered_by"]),
        detail=row["reason_detail"],
    )


def _record_batches(connection: Connection, collector_id: str, batch_ids: Sequence[int]) -> None:
    if batch_ids:
        now_us = time.time_ns() // 1000
        connection.exec_driver_sql(
            "INSERT INTO booked_batches (collector_id, batch_id, booked_at_us) "
            f"VALUES ({marks(3, connection.dialect.name)}) ON CONFLICT DO NOTHING",
            [(collector_id, batch_id, now_us) for batch_id in sorted(batch_ids)],
        )

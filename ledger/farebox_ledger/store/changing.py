"""Reads rows to change them and puts new values in their place, under the guards of law 6.

`charges` is the only caller: it decides what changes. Here the old charge is kept, the version grows, and the rollups
and credit accounts get the difference, all in the caller's transaction.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, select

from farebox_ledger.errors import NotFound
from farebox_ledger.store.credit_posting import ChangedRow, post_differences
from farebox_ledger.store.engine import as_writer, refusals
from farebox_ledger.store.rollups import Tally, post
from farebox_ledger.store.rows import POSITION, RowValues, row_key, row_probes
from farebox_ledger.store.schema import BOOKED_COLUMNS, CHARGE_COLUMNS, FACT_COLUMNS, charge_versions, usage_rows
from farebox_ledger.store.scope import Scope, require
from farebox_ledger.store.statements import marks, quoted
from farebox_ledger.store.timeline import nearby_days
from farebox_ledger.usage import UsageEvent


class StoredRow(msgspec.Struct):
    """A row as it stands, for changing it."""

    values: RowValues
    charge_version: int


def stored_rows(
    connection: Connection, scope: Scope, events: Collection[UsageEvent]
) -> dict[tuple[int, bytes], StoredRow]:
    """Read the rows of events as they stand, keyed by (organization, usage id), and hold them until the end.

    Raises:
        NotFound: an event has no row.
    """
    wanted: dict[tuple[int, bytes], UsageEvent] = {}
    for event in events:
        require(scope, event.org_id)
        wanted[event.org_id, event.usage_id] = event
    found: dict[tuple[int, bytes], StoredRow] = {}
    for org_id, day, part in row_probes((event.org_id, event.day, event.usage_id) for event in wanted.values()):
        near = (usage_rows.c.day.in_(nearby_days(day)), usage_rows.c.usage_id.in_(part))
        _read(connection, found, usage_rows.c.org_id == org_id, *near)
    for org_id, usage_id in sorted(wanted.keys() - found.keys()):
        # A span that was sent again with an end days away: its row stands where its trace does.
        in_trace = usage_rows.c.trace_id == wanted[org_id, usage_id].trace_id
        _read(connection, found, usage_rows.c.org_id == org_id, in_trace, usage_rows.c.usage_id == usage_id)
        if (org_id, usage_id) not in found:
            raise NotFound("usage row", usage_id.hex())
    return found


def _read(connection: Connection, found: dict[tuple[int, bytes], StoredRow], *conditions: ColumnElement[bool]) -> None:
    """Add rows to those found, held for this transaction; of two with one id, the earlier day's counts."""
    columns = [usage_rows.c[name] for name in (*BOOKED_COLUMNS, "charge_version")]
    statement = select(*columns).where(*conditions).order_by(usage_rows.c.day, usage_rows.c.usage_id)
    # SQLite, where a writer is alone, leaves FOR UPDATE out.
    with as_writer(connection):
        rows = connection.execute(statement.with_for_update()).all()
    for *values, version in rows:
        found.setdefault((values[0], bytes(values[2])), StoredRow(_with_bytes(values), version))


def replace_rows(
    connection: Connection, changes: Sequence[tuple[StoredRow, RowValues]], *, cause: str, writer_slot: int
) -> None:
    """Put new values in the place of rows: old charges to `charge_versions`, version + 1, the difference to the sums.

    The keys of old and new are the same; `charges` sees to it and is the only caller.
    """
    if not changes:
        return
    now_us = time.time_ns() // 1000
    tally = Tally()
    for old, new in changes:
        tally.add(old.values, -1)
        tally.add(new)
    ordered = sorted(changes, key=lambda change: row_key(change[1]))
    database = connection.dialect.name
    with refusals(), as_writer(connection):
        connection.exec_driver_sql(
            _version_statement(database), [_old_version(old, new, cause, now_us) for old, new in ordered]
        )
        connection.exec_driver_sql(
            _update_statement(database),
            [(*new[3:], old.charge_version + 1, *new[:3], old.charge_version) for old, new in ordered],
        )
        post(connection, tally, writer_slot)
        post_differences(connection, [ChangedRow(old.values, new, old.charge_version + 1) for old, new in ordered])


@cache
def _version_statement(database: str) -> str:
    names = [column.name for column in charge_versions.columns]
    return f"INSERT INTO charge_versions ({quoted(names)}) VALUES ({marks(len(names), database)})"


@cache
def _update_statement(database: str) -> str:
    """Replace a row's facts and charge, if it still is the version that was read."""
    mark = marks(1, database)
    values = ", ".join(f'"{name}" = {mark}' for name in (*FACT_COLUMNS, *CHARGE_COLUMNS, "charge_version"))
    return (
        f"UPDATE usage_rows SET {values} "
        f"WHERE org_id = {mark} AND day = {mark} AND usage_id = {mark} AND charge_version = {mark}"
    )


def _old_version(old: StoredRow, new: RowValues, cause: str, now_us: int) -> tuple[Any, ...]:
    charge = old.values[-len(CHARGE_COLUMNS) :]
    replaced = {
        name: value.hex() if isinstance(value, bytes) else value
        for name in FACT_COLUMNS
        if (value := old.values[POSITION[name]]) != new[POSITION[name]]
    }
    facts = msgspec.json.encode(replaced).decode() if replaced else None
    return (*old.values[:3], old.charge_version, *charge, facts, cause, now_us)


def _with_bytes(values: Iterable[Any]) -> RowValues:
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in values)

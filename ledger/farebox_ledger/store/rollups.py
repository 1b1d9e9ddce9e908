"""The sums beside the rows: per day, per quarter of an hour, per user, key and tag, and per reason of the unsettled.

Row values come in, signed; aggregated in Python they go out as one upsert per table. Bookings, changes, rebuilding and
checking all count through the one `Tally` here, so that rows and rollups cannot disagree about what a row is worth.
Suppressed rows count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from operator import add, itemgetter
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, text

from farebox_ledger.money import join, split
from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.rows import POSITION, RowValues, details_of, tags_of
from farebox_ledger.store.schema import (
    AMOUNTS,
    BOOKED_COLUMNS,
    MEASURES,
    ROLLUP_DIMENSIONS,
    TOKEN_COLUMNS,
    UNSETTLED_STATUSES,
    rollup_day,
    rollup_day_by,
    rollup_day_reason,
    rollup_quarter,
    usage_rows,
)
from farebox_ledger.store.scope import Scope, within
from farebox_ledger.store.statements import marks, quoted
from farebox_ledger.store.timeline import day_start_us, next_day

QUARTER_US: Final = 900_000_000
ROLLUPS: Final = (rollup_day, rollup_quarter, rollup_day_by, rollup_day_reason)

CellKey: TypeAlias = tuple[Any, ...]
"""A rollup row's key without the writer's slot: organization, time, dimensions."""

Sums: TypeAlias = list[int]
"""One number for each of `schema.MEASURES`, then one in pico for each of `schema.AMOUNTS`."""

Cells: TypeAlias = dict[CellKey, Sums]

_WIDTH: Final = len(MEASURES) + len(AMOUNTS)
_SUM: Final = {name: position for position, name in enumerate((*MEASURES, *AMOUNTS))}
_TOKENS: Final = tuple((POSITION[name], _SUM[name]) for name in TOKEN_COLUMNS)
_STATUS_ROWS: Final = {status: _SUM[f"{status}_rows"] for status in ("unpriced", "assumed", "partial")}
_DETAILS: Final = tuple(
    name
    for name in MEASURES
    if name not in TOKEN_COLUMNS and name not in ("requests", "errors", "total_tokens") and not name.endswith("_rows")
)

_BILLING_STATUS: Final = POSITION["billing_status"]
_OCCURRED: Final = POSITION["occurred_at_us"]
_FACTS: Final = itemgetter(
    *(POSITION[name] for name in ("status", "input_tokens", "output_tokens", "usage_details", "billing_status")),
    *(POSITION[name] for name in ("cost_pico", "list_cost_pico")),
)
_REQUESTS: Final = _SUM["requests"]
_ERRORS: Final = _SUM["errors"]
_TOTAL_TOKENS: Final = _SUM["total_tokens"]
_PRICED_ROWS: Final = _SUM["priced_rows"]
_COST: Final = _SUM["cost"]
_LIST_COST: Final = _SUM["list_cost"]
_KEY: Final = itemgetter(
    POSITION["org_id"],
    POSITION["day"],
    *(POSITION[name] for name in ROLLUP_DIMENSIONS),
    POSITION["reason"],
    POSITION["user_ref"],
    POSITION["key_id"],
    POSITION["tags"],
)


class Tally:
    """Adds up rows; each counts +1 where it enters and -1 where it leaves the books."""

    def __init__(self) -> None:
        self._cells: dict[tuple[Any, ...], Sums] = {}

    def add(self, row: RowValues, sign: int = 1) -> None:
        """Count a row's facts and charge (`row` in the order of `schema.BOOKED_COLUMNS`)."""
        if row[_BILLING_STATUS] == "suppressed":
            return
        key = (row[_OCCURRED] // QUARTER_US, *_KEY(row))
        sums = self._cells.get(key)
        if sums is None:
            sums = self._cells[key] = [0] * _WIDTH
        _count(sums, row, sign)

    def cells(self) -> dict[Table, Cells]:
        """Fold what was counted into the rollups. Cells that come to nothing are left out."""
        folded: dict[Table, Cells] = {table: {} for table in ROLLUPS}
        for (quarter, org_id, day, *names, reason, user, key, tags), sums in self._cells.items():
            dimensions = tuple(name or "" for name in names)
            _, provider, model, _, _, status, currency = dimensions
            _merge(folded[rollup_day], (org_id, day, *dimensions), sums)
            _merge(folded[rollup_quarter], (org_id, quarter * QUARTER_US, *dimensions), sums)
            for dimension, value in _holders(user, key, tags):
                _merge(folded[rollup_day_by], (org_id, day, dimension, value, currency), sums)
            if status in UNSETTLED_STATUSES:
                _merge(folded[rollup_day_reason], (org_id, day, provider, model, status, reason or "", currency), sums)
        return {table: {key: sums for key, sums in cells.items() if any(sums)} for table, cells in folded.items()}


class Difference(msgspec.Struct, frozen=True):
    """One cell in which a rollup and the rows disagree: the sums that are there, and those that should be."""

    rollup: str
    key: CellKey
    measure: str
    is_sum: int
    should_be: int


def post(connection: Connection, tally: Tally, writer_slot: int) -> None:
    """Add what was tallied to the rollups, under the writer's own slot, in a fixed order of keys."""
    for table, cells in tally.cells().items():
        add_cells(connection, table, cells, writer_slot)


def check_rollups(
    connection: Connection, scope: Scope, *, first_day: int | None = None, last_day: int | None = None
) -> list[Difference]:
    """Compare the rollups with the rows, cell by cell, by equality; an empty list means that every cent is there.

    Days are numbers YYYYMMDD, both inclusive; None leaves that end open.
    """
    differences: list[Difference] = []
    for org_id, day in booked_days(connection, scope, first_day, last_day):
        should = _tally_day(connection, org_id, day).cells()
        for table in ROLLUPS:
            stands = _stored_cells(connection, table, org_id, day)
            differences += _compared(table.name, stands, should[table])
    return differences


def rebuild_rollups(
    connection: Connection, scope: Scope, *, first_day: int | None = None, last_day: int | None = None
) -> int:
    """Make the rollups anew from the rows and say how many (organization, day) pairs that were.

    All slots are folded into slot 0. On PostgreSQL writers wait for this transaction, so keep the range short.
    """
    if not is_sqlite(connection):
        # The rows are read after the lock is held: whoever has posted before has committed its rows as well.
        tables = ", ".join(table.name for table in ROLLUPS)
        connection.execute(text(f"LOCK TABLE {tables} IN EXCLUSIVE MODE"))
    days = booked_days(connection, scope, first_day, last_day)
    for org_id, day in days:
        tally = _tally_day(connection, org_id, day)
        for table in ROLLUPS:
            connection.execute(delete(table).where(table.c.org_id == org_id, within_day(table, day)))
        post(connection, tally, 0)
    return len(days)


def _count(sums: Sums, row: RowValues, sign: int) -> None:
    status, input_tokens, output_tokens, details, billing_status, cost_pico, list_cost_pico = _FACTS(row)
    sums[_REQUESTS] += sign
    if status == "error":
        sums[_ERRORS] += sign
    for source, target in _TOKENS:
        value = row[source]
        if value:
            sums[target] += sign * value
    sums[_TOTAL_TOKENS] += sign * ((input_tokens or 0) + (output_tokens or 0))
    if details is not None:
        _count_details(sums, details, sign)
    if billing_status in _STATUS_ROWS:
        sums[_STATUS_ROWS[billing_status]] += sign
    if cost_pico is not None:
        sums[_PRICED_ROWS] += sign
        sums[_COST] += sign * cost_pico
    if list_cost_pico is not None:
        sums[_LIST_COST] += sign * list_cost_pico


def _count_details(sums: Sums, details_text: str, sign: int) -> None:
    details = details_of(details_text)
    for name in _DETAILS:
        value = getattr(details, name)
        if value:
            sums[_SUM[name]] += sign * value


def _holders(user: str | None, key: str | None, tags: str | None) -> Iterator[tuple[str, str]]:
    yield "user", user or ""
    yield "key", key or ""
    for tag in tags_of(tags) or ("",):
        yield "tag", tag


def _merge(cells: Cells, key: CellKey, sums: Sums) -> None:
    stands = cells.get(key)
    if stands is None:
        cells[key] = list(sums)
    else:
        cells[key] = list(map(add, stands, sums))


def add_cells(connection: Connection, table: Table, cells: Mapping[CellKey, Sums], writer_slot: int) -> None:
    """Add to one rollup's cells under a slot, in the order of their keys."""
    if not cells:
        return
    rows = [(*key, writer_slot, *_stored(cells[key])) for key in sorted(cells)]
    connection.exec_driver_sql(_upsert_statement(table, connection.dialect.name), rows)


def _stored(sums: Sums) -> Iterable[int]:
    amounts = (part for pico in sums[len(MEASURES) :] for part in split(pico))
    return (*sums[: len(MEASURES)], *amounts)


@cache
def _upsert_statement(table: Table, database: str) -> str:
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key.columns]
    added = [f"{name} = {table.name}.{name} + excluded.{name}" for name in MEASURES]
    for amount in AMOUNTS:
        # Both parts of pico are 0 to 10^12 - 1, so that their sum carries at most one unit.
        pico = f"({table.name}.{amount}_pico + excluded.{amount}_pico)"
        units = f"{table.name}.{amount}_units + excluded.{amount}_units"
        added.append(f"{amount}_units = {units} + {pico} / 1000000000000")
        added.append(f"{amount}_pico = {pico} {'%' if database == 'sqlite' else '%%'} 1000000000000")
    return (
        f"INSERT INTO {table.name} ({quoted(names)}) VALUES ({marks(len(names), database)}) "
        f"ON CONFLICT ({quoted(keys)}) DO UPDATE SET {', '.join(added)}"
    )


def booked_days(
    connection: Connection, scope: Scope, first_day: int | None, last_day: int | None
) -> list[tuple[int, int]]:
    """List the (organization, day) pairs that have rows or sums."""
    found: set[tuple[int, int]] = set()
    for table in (usage_rows, rollup_day, rollup_day_by, rollup_day_reason):
        days = select(table.c.org_id, table.c.day).where(within(scope, table.c.org_id)).distinct()
        if first_day is not None:
            days = days.where(table.c.day >= first_day)
        if last_day is not None:
            days = days.where(table.c.day <= last_day)
        found.update((org_id, day) for org_id, day in connection.execute(days))
    return sorted(found)


def _tally_day(connection: Connection, org_id: int, day: int) -> Tally:
    tally = Tally()
    rows = connection.execute(
        select(*(usage_rows.c[name] for name in BOOKED_COLUMNS)).where(
            usage_rows.c.org_id == org_id, usage_rows.c.day == day
        ),
        execution_options={"yield_per": 1000},
    )
    for row in rows:
        tally.add(tuple(row))
    return tally


def _stored_cells(connection: Connection, table: Table, org_id: int, day: int) -> Cells:
    """Read a day's cells, the writers' slots summed."""
    keys = [column for column in table.primary_key.columns if column.name != "writer_slot"]
    sums = [func.sum(table.c[name]) for name in stored_names()]
    found = connection.execute(
        select(*keys, *sums).where(table.c.org_id == org_id, within_day(table, day)).group_by(*keys)
    )
    cells = {tuple(row[: len(keys)]): joined([int(value) for value in row[len(keys) :]]) for row in found}
    return {key: sums for key, sums in cells.items() if any(sums)}


def stored_names() -> tuple[str, ...]:
    """Name the columns of a rollup's sums, in the order in which `joined` reads them."""
    return (*MEASURES, *(f"{amount}_{part}" for amount in AMOUNTS for part in ("units", "pico")))


def joined(stored: list[int]) -> Sums:
    """Turn a rollup's columns, also when summed over rows, into sums with amounts in one number."""
    amounts = stored[len(MEASURES) :]
    return [*stored[: len(MEASURES)], *(join(*amounts[at : at + 2]) for at in range(0, len(amounts), 2))]


def within_day(table: Table, day: int) -> ColumnElement[bool]:
    """Restrict a rollup to one UTC day YYYYMMDD."""
    if table is not rollup_quarter:
        return table.c.day == day
    return table.c.quarter_us.between(day_start_us(day), day_start_us(next_day(day)) - 1)


def _compared(rollup: str, stands: Cells, should: Cells) -> Iterator[Difference]:
    nothing = [0] * _WIDTH
    for key in sorted(stands.keys() | should.keys()):
        pairs = zip(_SUM, stands.get(key, nothing), should.get(key, nothing), strict=True)
        yield from (
            Difference(rollup, key, measure, is_sum, should_be)
            for measure, is_sum, should_be in pairs
            if is_sum != should_be
        )

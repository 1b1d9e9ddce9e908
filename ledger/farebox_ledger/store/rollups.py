"""The sums beside the rows: per day, per quarter of an hour, per user, key and tag, and per reason of the unsettled.

Row values come in, signed; aggregated in Python they go out as one upsert per table. Bookings, changes, rebuilding and
checking all count through the one `Tally` here, so that rows and rollups cannot disagree about what a row is worth.
Suppressed rows count nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from operator import itemgetter
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
from farebox_ledger.store.statements import array_text, marks, quoted, unnested
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
    POSITION["key_id"],
    POSITION["tags"],
    POSITION["user_ref"],
)
_CURRENCY: Final = 3 + ROLLUP_DIMENSIONS.index("currency")  # in the key of what was counted, behind quarter and day

_Parts: TypeAlias = dict[CellKey, list[Sums]]
"""What is to be summed, by the cell that it is summed into."""


class Tally:
    """Adds up rows; each counts +1 where it enters and -1 where it leaves the books."""

    def __init__(self) -> None:
        self._cells: Cells = {}

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
        folded: dict[Table, _Parts] = {table: defaultdict(list) for table in ROLLUPS}
        by_holder = folded[rollup_day_by]
        of_all_users: _Parts = defaultdict(list)  # first, because users are many and the rest is few
        for key, sums in self._cells.items():
            of_all_users[key[:-1]].append(sums)
            by_holder[*key[1:3], "user", key[-1] or "", key[_CURRENCY] or ""].append(sums)
        for (quarter, org_id, day, *names, reason, key_id, tags), parts in of_all_users.items():
            sums = _summed(parts)
            dimensions = tuple([name or "" for name in names])
            _, provider, model, _, _, status, currency = dimensions
            folded[rollup_day][org_id, day, *dimensions].append(sums)
            folded[rollup_quarter][org_id, quarter * QUARTER_US, *dimensions].append(sums)
            by_holder[org_id, day, "key", key_id or "", currency].append(sums)
            for tag in tags_of(tags) or ("",):
                by_holder[org_id, day, "tag", tag, currency].append(sums)
            if status in UNSETTLED_STATUSES:
                folded[rollup_day_reason][org_id, day, provider, model, status, reason or "", currency].append(sums)
        return {table: _totals(parts) for table, parts in folded.items()}


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


def _totals(parts: _Parts) -> Cells:
    totals = {key: _summed(some) for key, some in parts.items()}
    return {key: sums for key, sums in totals.items() if any(sums)}


def _summed(parts: list[Sums]) -> Sums:
    return parts[0] if len(parts) == 1 else list(map(sum, zip(*parts, strict=True)))


def add_cells(connection: Connection, table: Table, cells: Mapping[CellKey, Sums], writer_slot: int) -> None:
    """Add to one rollup's cells under a slot, in the order of their keys.

    Only the sums that are not 0 in all cells are named: most measures are of rare kinds of calls.
    """
    keys = sorted(cells)
    sums = dict(zip(_SUM, zip(*(cells[key] for key in keys), strict=True), strict=False))
    added = tuple(name for name, column in sums.items() if any(column))
    if not added:
        return
    columns = [*zip(*keys, strict=True), [writer_slot] * len(keys)]
    for name in added:
        columns += zip(*map(split, sums[name]), strict=True) if name in AMOUNTS else [sums[name]]
    statement = _upsert_statement(table, connection.dialect.name, added)
    if is_sqlite(connection):
        connection.exec_driver_sql(statement, list(zip(*columns, strict=True)))
    else:
        connection.exec_driver_sql(statement, tuple(map(array_text, columns)))


@lru_cache(maxsize=256)
def _upsert_statement(table: Table, database: str, added: tuple[str, ...]) -> str:
    """Write the statement that adds to some of the sums: row by row, on PostgreSQL all rows at once."""
    keys = [column.name for column in table.primary_key.columns]
    changes = _changes(table.name, added, "%" if database == "sqlite" else "%%")
    names = [*keys, *changes]
    rows = f"VALUES ({marks(len(names), database)})"
    if database != "sqlite":
        rows = unnested(table.c[name] for name in names)
    changed = ", ".join(f"{name} = {value}" for name, value in changes.items())
    return f"INSERT INTO {table.name} ({quoted(names)}) {rows} ON CONFLICT ({quoted(keys)}) DO UPDATE SET {changed}"


def _changes(table: str, added: Iterable[str], modulo: str) -> dict[str, str]:
    """Write by column what stands after some sums were added; an amount has two columns."""
    changes = {}
    for name in added:
        if name not in AMOUNTS:
            changes[name] = f"{table}.{name} + excluded.{name}"
            continue
        # Both parts of pico are 0 to 10^12 - 1, so that their sum carries at most one unit.
        pico = f"({table}.{name}_pico + excluded.{name}_pico)"
        changes[f"{name}_units"] = f"{table}.{name}_units + excluded.{name}_units + {pico} / 1000000000000"
        changes[f"{name}_pico"] = f"{pico} {modulo} 1000000000000"
    return changes


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

"""Folds what several writers have added to a closed day's sums into slot 0, so that readers sum fewer rows.

Nothing changes in what the sums say, only in how many rows they stand. A row that a writer is using at this moment is
left for the next time; a late row of a folded day makes a new one under its writer's slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import add
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, distinct, func, select, tuple_

from farebox_ledger.store.rollups import ROLLUPS, Cells, add_cells, joined, stored_names, within_day
from farebox_ledger.store.statements import organizations_in
from farebox_ledger.store.timeline import days_from

FOLDED_SLOT: Final = 0
FOLD_ROWS: Final = 500
"""Rows in one step; SQLite's other writers wait while they are folded."""


class SplitDay(NamedTuple):
    """A rollup in which one organization's day stands under several slots."""

    table: Table
    org_id: int
    day: int


def split_days(connection: Connection, first_day: int, before_day: int) -> list[SplitDay]:
    """Find what can be folded in the days from `first_day` up to `before_day` (YYYYMMDD, half-open), by index."""
    found = []
    for table in ROLLUPS:
        organizations = list(connection.scalars(organizations_in(table)))
        for day in days_from(first_day, before_day):
            found += [
                SplitDay(table, org_id, day) for org_id in organizations if _slots(connection, table, org_id, day) > 1
            ]
    return found


def fold(connection: Connection, split: SplitDay, limit: int = FOLD_ROWS) -> int:
    """Fold at most `limit` rows of a day; 0 when all stands in slot 0, but for rows that are in use right now.

    `connection` is a write transaction over all organizations.
    """
    table = split.table
    keys = [*table.primary_key.columns]
    chosen = (
        select(*keys)
        .where(_of(split), table.c.writer_slot != FOLDED_SLOT)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = [tuple(row) for row in connection.execute(chosen)]
    if found:
        sums = (table.c[name] for name in stored_names())
        taken = connection.execute(delete(table).where(tuple_(*keys).in_(found)).returning(*keys, *sums))
        add_cells(connection, table, _summed(taken, len(keys)), FOLDED_SLOT)
    return len(found)


def _summed(rows: Iterable[Sequence[Any]], key_width: int) -> Cells:
    """Sum rollup rows over the slot, which ends their key."""
    cells: Cells = {}
    for row in rows:
        key, sums = tuple(row[: key_width - 1]), joined([int(value) for value in row[key_width:]])
        cells[key] = list(map(add, cells[key], sums)) if key in cells else sums
    return cells


def _slots(connection: Connection, table: Table, org_id: int, day: int) -> int:
    counted = select(func.count(distinct(table.c.writer_slot))).where(_of(SplitDay(table, org_id, day)))
    return int(connection.execute(counted).scalar_one())


def _of(split: SplitDay) -> ColumnElement[bool]:
    return and_(split.table.c.org_id == split.org_id, within_day(split.table, split.day))

"""Where a summary's sums come from: the cheapest source that holds each stretch of the asked time, exactly.

A filter, a range and dimensions come in; cells (bucket, dimension values, currency → sums) go out. Whole UTC days are
read from the day rollups, quarters of an hour from the quarter rollup, and the rest from the rows. What the rollups do
not carry is read from rows alone, for at most 31 days.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from farebox_ledger.errors import InvalidInput
from farebox_ledger.money import PICO
from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.filtering import (
    COLUMNS,
    UsageFilter,
    among,
    asked_dimensions,
    asked_values,
    organization_of,
    people_with,
    row_conditions,
)
from farebox_ledger.store.rollups import QUARTER_US, Sums, joined, stored_names
from farebox_ledger.store.rows import bounded_name
from farebox_ledger.store.schema import (
    AMOUNTS,
    MEASURES,
    ROLLUP_DIMENSIONS,
    TOKEN_COLUMNS,
    rollup_day,
    rollup_day_by,
    rollup_quarter,
    usage_rows,
)
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.statements import organizations_in
from farebox_ledger.store.timeline import DAY_US, HOUR_US, day_start_us
from farebox_ledger.usage import day_of

DIMENSIONS: Final = (*COLUMNS, "tag")
"""All that a summary can be grouped by."""

MAX_ROWS_US: Final = 31 * DAY_US + HOUR_US
"""The longest time that is summed from rows: 31 days, of which one may have 25 hours."""

CellKey: TypeAlias = tuple[int, tuple[Any, ...]]
"""Which bucket (its number among the bounds) and the values of the dimensions, then the currency; None for none."""

Cells: TypeAlias = dict[CellKey, Sums]

Stretch: TypeAlias = tuple[int, int]

MAX_CELLS: Final = 100_000
"""What one statement may answer and one summary hold, about 250 MB; sums by something like trace ids have no end."""

_HOLDERS: Final = frozenset({"user", "key", "tag"})


class Question(NamedTuple):
    """What is summed: rows of a filter in a range, by dimensions, cut at the bounds of buckets.

    A range without a begin or an end is one bucket of whole days, with open ends. `filled` are the whole days outside
    of which there are no rows, in µs; None where nobody looked.
    """

    scope: Scope
    asked: UsageFilter
    dimensions: tuple[str, ...]
    bounds: list[int]
    filled: Stretch | None = None

    @property
    def is_bucketed(self) -> bool:
        """Say whether there is more than one bucket, so that times have to be told apart."""
        return len(self.bounds) > 2


class _Division(NamedTuple):
    """A range cut into what each source serves; days are half-open pairs of numbers YYYYMMDD, the rest is in µs."""

    days: list[Stretch]
    quarters: list[Stretch]
    rows: list[Stretch]


def read_cells(connection: Connection, question: Question) -> Cells:
    """Sum up what is asked.

    Raises:
        InvalidInput: the dimensions or filters are not in the rollups, and the range is longer than 31 days; or there
            are too many groups to hold.
    """
    cells: Cells = {}
    for table, stretch in _sources(question):
        if table is usage_rows:
            _add_rows(connection, question, stretch, cells)
        else:
            _add_rollup(connection, question, table, stretch, cells)
        if len(cells) > MAX_CELLS:
            raise _too_many()
    return cells


def _sources(question: Question) -> Iterator[tuple[Table, Stretch]]:
    """Choose the table for each stretch of the range."""
    needed = (set(question.dimensions) | asked_dimensions(question.asked)) - {"organization"}
    days, quarters, rows = _divided(question)
    parts: list[tuple[Table, list[Stretch]]]
    if needed <= set(ROLLUP_DIMENSIONS):
        parts = [(rollup_day, days), (rollup_quarter, quarters)]
    elif len(needed & _HOLDERS) == 1 and needed <= _HOLDERS | {"currency"}:
        parts, rows = [(rollup_day_by, days)], _joined_stretches([*quarters, *rows])
    else:
        parts, rows = [], _joined_stretches([*_days_us(days), *quarters, *rows])
    _refuse_long(rows, needed)
    for table, stretches in (*parts, (usage_rows, rows)):
        is_by_day = table in (rollup_day, rollup_day_by)
        yield from ((table, stretch) for stretch in _filled(stretches, question.filled, is_by_day=is_by_day))


def _filled(stretches: list[Stretch], filled: Stretch | None, *, is_by_day: bool) -> list[Stretch]:
    """Leave out where there are no rows: a range of centuries is as cheap as what stands in it."""
    if filled is None:
        return stretches
    first, last = map(day_of, filled) if is_by_day else filled
    clipped = ((max(start, first), min(end, last)) for start, end in stretches)
    return [(start, end) for start, end in clipped if start < end]


def _divided(question: Question) -> _Division:
    start_us, end_us = question.asked.start_us, question.asked.end_us
    if start_us is None or end_us is None:
        return _Division([_open_days(start_us, end_us)], [], [])
    division = _Division([], [], [])
    for lower, upper in pairwise(question.bounds):
        _divide(max(lower, start_us), min(upper, end_us), division)
    return _Division(*map(_joined_stretches, division))


def _divide(start_us: int, end_us: int, division: _Division) -> None:
    """Cut one bucket into whole days, the quarters around them, and what is left at its two ends."""
    inner = _aligned(start_us, end_us, QUARTER_US)
    if inner is None:
        division.rows.append((start_us, end_us))
        return
    division.rows.extend(_around((start_us, end_us), inner))
    days = _aligned(*inner, DAY_US)
    if days is None:
        division.quarters.append(inner)
        return
    division.quarters.extend(_around(inner, days))
    division.days.append((day_of(days[0]), day_of(days[1])))


def _aligned(start_us: int, end_us: int, unit_us: int) -> Stretch | None:
    first, last = -(-start_us // unit_us) * unit_us, end_us // unit_us * unit_us
    return (first, last) if first < last else None


def _around(outer: Stretch, inner: Stretch) -> Iterator[Stretch]:
    if outer[0] < inner[0]:
        yield outer[0], inner[0]
    if inner[1] < outer[1]:
        yield inner[1], outer[1]


def _joined_stretches(stretches: list[Stretch]) -> list[Stretch]:
    """Join stretches that touch, so that a year of local days is one statement."""
    whole: list[Stretch] = []
    for start_us, end_us in sorted(stretches):
        if start_us >= end_us:
            continue
        if whole and whole[-1][1] == start_us:
            whole[-1] = (whole[-1][0], end_us)
        else:
            whole.append((start_us, end_us))
    return whole


def _open_days(start_us: int | None, end_us: int | None) -> Stretch:
    """Take a range with an open end by whole days.

    Raises:
        InvalidInput: the other end is not the begin of a UTC day.
    """
    for name, value in (("start", start_us), ("end", end_us)):
        if value is not None and value % DAY_US:
            raise InvalidInput(name, "a range without the other end has to be cut at the begin of a UTC day")
    return 0 if start_us is None else day_of(start_us), 99991231 if end_us is None else day_of(end_us)


def _days_us(days: list[Stretch]) -> list[Stretch]:
    """Turn stretches of days into times; an open end stays far away, and is refused as too long."""
    return [(day_start_us(max(first, 19700101)), day_start_us(last)) for first, last in days]


def _refuse_long(rows: list[Stretch], needed: set[str]) -> None:
    if sum(end_us - start_us for start_us, end_us in rows) > MAX_ROWS_US:
        names = ", ".join(sorted(needed - set(ROLLUP_DIMENSIONS))) or "these buckets"
        raise InvalidInput("start", f"sums by {names} are made from rows, for at most 31 days a request")


def _add_rollup(connection: Connection, question: Question, table: Table, stretch: Stretch, cells: Cells) -> None:
    time = table.c.quarter_us if table is rollup_quarter else table.c.day
    dimensions = [_rollup_dimension(table, name) for name in (*question.dimensions, "currency")]
    keys = [time, *dimensions] if question.is_bucketed else dimensions
    statement = (
        select(*keys, *(func.sum(table.c[name]) for name in stored_names()))
        .where(
            _in_scope(table, question.scope),
            time >= stretch[0],
            time < stretch[1],
            *_rollup_conditions(connection, question, table),
        )
        .group_by(*keys)
    )
    for row in _answered(connection, statement):
        bucket, values = 0, tuple(row)
        if question.is_bucketed:
            start_us = values[0] if table is rollup_quarter else day_start_us(values[0])
            bucket, values = bisect_right(question.bounds, start_us) - 1, values[1:]
        _add(cells, (bucket, tuple(value or None for value in values[: len(dimensions)])), values[len(dimensions) :])


def _answered(connection: Connection, statement: Select[Any]) -> Sequence[Row[Any]]:
    found = connection.execute(statement.limit(MAX_CELLS + 1)).all()
    if len(found) > MAX_CELLS:
        raise _too_many()
    return found


def _too_many() -> InvalidInput:
    return InvalidInput(
        "group_by", f"makes more than {MAX_CELLS} groups; ask for a shorter range, or for fewer at once"
    )


def _rollup_dimension(table: Table, name: str) -> ColumnElement[Any]:
    if name == "organization":
        return table.c.org_id
    return table.c.value if table is rollup_day_by and name != "currency" else table.c[name]


def _rollup_conditions(connection: Connection, question: Question, table: Table) -> list[ColumnElement[bool]]:
    asked = question.asked
    if table is not rollup_day_by:
        return [table.c[name] == value for name, value in asked_values(asked).items()]
    (holder,) = _HOLDERS & (set(question.dimensions) | asked_dimensions(asked))
    conditions = [table.c.dimension == holder]
    conditions += [table.c.value == value for value in asked_values(asked).values()]
    if asked.tag is not None:
        conditions.append(table.c.value == bounded_name(asked.tag))
    if asked.user_email is not None:
        people = people_with(connection, question.scope, asked.user_email)
        conditions.append(among(people, table.c.org_id, table.c.value))
    return conditions


def _add_rows(connection: Connection, question: Question, stretch: Stretch, cells: Cells) -> None:
    source: FromClause = usage_rows
    columns: dict[str, ColumnElement[Any]] = {**COLUMNS}
    conditions = row_conditions(connection, question.scope, question.asked)
    if "tag" in question.dimensions:
        source, columns["tag"] = _with_tags(connection)
        if question.asked.tag is not None:
            conditions.append(columns["tag"] == bounded_name(question.asked.tag))
    dimensions = [columns[name] for name in (*question.dimensions, "currency")]
    unit_us = _common_unit_us(question.bounds)
    keys = [usage_rows.c.occurred_at_us // unit_us, *dimensions] if question.is_bucketed else dimensions
    statement = (
        select(*keys, *_row_sums(connection))
        .select_from(source)
        .where(
            _in_scope(usage_rows, question.scope),
            usage_rows.c.occurred_at_us >= stretch[0],
            usage_rows.c.occurred_at_us < stretch[1],
            usage_rows.c.billing_status != literal_column("'suppressed'"),
            *conditions,
        )
        .group_by(*keys)
    )
    for row in _answered(connection, statement):
        bucket, values = 0, tuple(row)
        if question.is_bucketed:
            start_us = max(values[0] * unit_us, stretch[0])
            bucket, values = bisect_right(question.bounds, start_us) - 1, values[1:]
        _add(cells, (bucket, values[: len(dimensions)]), values[len(dimensions) :])


def _common_unit_us(bounds: list[int]) -> int:
    """Choose the longest time in which no bound of a bucket lies; zones are off by quarter-hours, once by seconds.

    The fewer times are told apart, the fewer sums there are.
    """
    units = (DAY_US, HOUR_US, QUARTER_US, 1_000_000)
    return next(unit_us for unit_us in units if not any(bound % unit_us for bound in bounds[1:-1]))


def _with_tags(connection: Connection) -> tuple[FromClause, ColumnElement[Any]]:
    """Repeat each row for each of its tags; a row without tags stands once, with None."""
    if is_sqlite(connection):
        each = func.json_each(usage_rows.c.tags).table_valued("value")
    else:
        each = func.jsonb_array_elements_text(cast(usage_rows.c.tags, JSONB)).table_valued("value").render_derived()
    return usage_rows.outerjoin(each, true()), each.c.value


def _row_sums(connection: Connection) -> list[ColumnElement[Any]]:
    """Sum rows as `rollups.Tally` does, in the order of a rollup's columns."""
    row = usage_rows.c
    special: dict[str, ColumnElement[Any]] = {
        "requests": func.count(),
        "errors": _count_when(row.status == "error"),
        "total_tokens": func.sum(func.coalesce(row.input_tokens, 0) + func.coalesce(row.output_tokens, 0)),
        "priced_rows": func.count(row.cost_pico),
        **{
            f"{status}_rows": _count_when(row.billing_status == status) for status in ("unpriced", "assumed", "partial")
        },
    }
    sums = [
        special[name] if name in special else func.coalesce(func.sum(_quantity(connection, name)), 0)
        for name in MEASURES
    ]
    for amount in AMOUNTS:
        # Pico-units alone would outgrow 64 bits after a few large rows.
        sums += [func.coalesce(func.sum(row[f"{amount}_pico"] // PICO), 0)]
        sums += [func.coalesce(func.sum(row[f"{amount}_pico"] % PICO), 0)]
    return sums


def _quantity(connection: Connection, name: str) -> ColumnElement[Any]:
    if name in TOKEN_COLUMNS:
        return usage_rows.c[name]
    if is_sqlite(connection):
        return func.json_extract(usage_rows.c.usage_details, f"$.{name}")
    return cast(cast(usage_rows.c.usage_details, JSON).op("->>")(literal(name, Text)), BigInteger)


def _count_when(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _in_scope(table: Table, scope: Scope) -> ColumnElement[bool]:
    """Restrict to the scope such that the key is used also when it is everybody's."""
    mine = organization_of(scope)
    if mine is not None:
        return and_(table.c.org_id == mine)
    return table.c.org_id.in_(organizations_in(table))


def _add(cells: Cells, key: CellKey, stored: Sequence[Any]) -> None:
    sums = joined([int(value) for value in stored])
    stands = cells.get(key)
    cells[key] = sums if stands is None else [left + right for left, right in zip(stands, sums, strict=True)]

"""Reads usage rows: a page of a list, one row, and the charges that a row had before.

Lists are newest first by (occurred_at, usage id), continue behind a key and never count. A filter that no index serves
looks at a bounded number of rows a request and then says how far it came.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from heapq import merge
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, func, select, tuple_

from farebox_ledger.pricing.charge import Charge
from farebox_ledger.store import schema
from farebox_ledger.store.filtering import (
    UsageFilter,
    asked_values,
    equals,
    has_tag,
    in_costs,
    in_time,
    organization_of,
    people_with,
)
from farebox_ledger.store.rows import Record, charge_of, event_of, row_probes
from farebox_ledger.store.schema import usage_rows, users
from farebox_ledger.store.scope import OrgScope, Scope, narrowed, require
from farebox_ledger.store.statements import chunks, organizations_in
from farebox_ledger.store.timeline import nearby_days
from farebox_ledger.usage import UsageEvent

__all__ = [
    "ChargeVersion",
    "RowKey",
    "UsageFilter",
    "UsagePage",
    "UsageRow",
    "charge_versions",
    "list_usage",
    "rows_near",
    "usage_row",
]

SCAN_ROWS: Final = 200_000
"""How many rows a request looks at for a filter without an index (docs/scale.md)."""

MAX_PAGE: Final = 10_000

_MOST_PEOPLE: Final = 20
"""Users of one address that are looked up each by itself; more of them are looked for among all rows."""

RowKey: TypeAlias = tuple[int, bytes]
"""Where a row stands in a list: (occurred_at in microseconds, usage id)."""

_ORDER: Final = (usage_rows.c.occurred_at_us, usage_rows.c.usage_id)


class UsageRow(msgspec.Struct):
    """One row: the event with its user's e-mail, the current charge, and how often that was changed before."""

    event: UsageEvent
    charge: Charge
    day: int
    usage_id: bytes
    charge_version: int

    @property
    def user_email(self) -> str | None:
        """The address of the row's user; None when nobody said it or when it was erased."""
        return self.event.user_email

    @property
    def position(self) -> RowKey:
        """Where the row stands in a list."""
        return self.event.occurred_at_us, self.usage_id


class UsagePage(msgspec.Struct):
    """One page, newest first.

    `next_after` is where the next page goes on, None on the last one. `scanned_until_us` is set when the request ended
    at the scan's bound: newer rows were all looked at, and the page may be short or empty although more may follow.
    """

    rows: list[UsageRow]
    has_more: bool
    scanned_until_us: int | None = None
    next_after: RowKey | None = None


class ChargeVersion(msgspec.Struct):
    """A charge that a row had before; `facts` are the values that were replaced with it, as the columns call them."""

    version: int
    charge: Charge
    cause: str
    replaced_at_us: int
    facts: dict[str, Any] | None


def list_usage(
    connection: Connection,
    scope: Scope,
    asked: UsageFilter,
    *,
    limit: int,
    after: RowKey | None = None,
    scan_rows: int = SCAN_ROWS,
) -> UsagePage:
    """List the rows that a filter chooses, newest first, those behind `after` when it is given.

    Raises:
        InvalidInput: the filter asks for an organization outside the scope, or for a cost that no row can have.
    """
    assert 0 < limit <= MAX_PAGE
    scope = narrowed(scope, asked.org_id)
    walks = [walk for org_id in _organizations(connection, scope) for walk in _walks(connection, org_id, asked)]
    reach = _Reach(limit, after, max(scan_rows // max(len(walks), 1), 1))
    rows: list[UsageRow] = []
    bounds = []
    for walk in walks:
        # Rows older than a whole page of those that were found are not read: a page is held once, not once for each.
        floor = rows[limit].position if len(rows) > limit else None
        part = _read_part(connection, walk, reach, floor)
        rows = list(islice(merge(rows, part.rows, key=_position, reverse=True), limit + 1))
        bounds += [] if part.bound is None else [part.bound]
    # Below the highest point at which a part stopped, rows of that one may be missing between those of the others.
    bound = max(bounds, default=None)
    return _page([row for row in rows if bound is None or row.position >= bound], limit, bound)


def usage_row(connection: Connection, scope: Scope, day: int, usage_id: bytes) -> UsageRow | None:
    """Find one row by day and id; None when there is none in the scope."""
    for organizations in chunks(_organizations(connection, scope)):
        found = connection.execute(
            _SELECT.where(
                usage_rows.c.org_id.in_(organizations), usage_rows.c.day == day, usage_rows.c.usage_id == usage_id
            )
        ).mappings()
        row = found.one_or_none()
        if row is not None:
            return _usage_row(row)
    return None


def rows_near(
    connection: Connection, scope: Scope, keys: Collection[tuple[int, int, bytes]]
) -> dict[tuple[int, bytes], UsageRow]:
    """Find rows by (organization, day, usage id), also a day before or after; they come by (organization, usage id)."""
    probes = {(org_id, near, usage_id) for org_id, day, usage_id in keys for near in nearby_days(day)}
    standing: dict[tuple[int, bytes], UsageRow] = {}
    for org_id, day, usage_ids in row_probes(probes):
        require(scope, org_id)
        found = connection.execute(
            _SELECT.where(usage_rows.c.org_id == org_id, usage_rows.c.day == day, usage_rows.c.usage_id.in_(usage_ids))
        ).mappings()
        standing |= {(org_id, row.usage_id): row for row in map(_usage_row, found)}
    return standing


def charge_versions(
    connection: Connection, scope: Scope, org_id: int, day: int, usage_id: bytes
) -> list[ChargeVersion]:
    """List the charges that a row had before its present one, newest first."""
    require(scope, org_id)
    kept = schema.charge_versions
    found = connection.execute(
        select(kept)
        .where(kept.c.org_id == org_id, kept.c.day == day, kept.c.usage_id == usage_id)
        .order_by(kept.c.version.desc())
    ).mappings()
    return [
        ChargeVersion(
            version=row["version"],
            charge=charge_of(row),
            cause=row["cause"],
            replaced_at_us=row["replaced_at_us"],
            facts=None if row["facts"] is None else msgspec.json.decode(row["facts"]),
        )
        for row in found
    ]


_SELECT: Final[Select[Any]] = select(usage_rows, users.c.email).select_from(
    usage_rows.outerjoin(users, (users.c.org_id == usage_rows.c.org_id) & (users.c.user_ref == usage_rows.c.user_ref))
)


def _organizations(connection: Connection, scope: Scope) -> list[int]:
    """List whose rows are looked at: indexes lead with the organization, so each is looked up in turn."""
    mine = organization_of(scope)
    return list(connection.scalars(organizations_in(usage_rows))) if mine is None else [mine]


class _Walk(NamedTuple):
    """A stretch of an index that is read in the list's order, and what is tested on each row of it."""

    by_index: list[ColumnElement[bool]]
    by_row: list[ColumnElement[bool]]
    is_small: bool  # what the index finds needs no bound


class _Reach(NamedTuple):
    """How much of one walk a request reads: that many rows behind a key, out of so many looked at."""

    limit: int
    after: RowKey | None
    scan_rows: int


class _Part(NamedTuple):
    """What one walk adds to a page; `bound` is the last row looked at when that was not all."""

    rows: list[UsageRow]
    bound: RowKey | None


def _read_part(connection: Connection, walk: _Walk, reach: _Reach, floor: RowKey | None) -> _Part:
    by_index = list(walk.by_index)
    if reach.after is not None:
        by_index.append(tuple_(*_ORDER) < tuple_(*reach.after))
    if floor is not None:
        by_index.append(tuple_(*_ORDER) >= tuple_(*floor))
    bound = None
    if walk.by_row and not walk.is_small:
        bound = _scan_bound(connection, by_index, reach.scan_rows)
        if bound is not None:
            by_index.append(tuple_(*_ORDER) >= tuple_(*bound))
    found = connection.execute(_page_statement([*by_index, *walk.by_row], reach.limit + 1)).mappings()
    rows = [_usage_row(row) for row in found]
    return _Part(rows, bound if len(rows) <= reach.limit else None)


def _walks(connection: Connection, org_id: int, asked: UsageFilter) -> list[_Walk]:
    """Choose the one index that serves a filter; all else is tested row by row. None when nobody can be meant.

    Only one: what a second index would find is no stretch of the first, so that looking for it has to be bounded.
    """
    by_index = [usage_rows.c.org_id == org_id, *in_time(asked)]
    by_row = in_costs(asked)
    values = asked_values(asked)
    people = _people(connection, org_id, asked, values.pop("user", None))
    if people is not None and not people:
        return []
    served = _served_by_index(values)
    for name, value in values.items():
        (by_index if name == served else by_row).append(equals(name, value))
    if asked.tag is not None:
        by_row.append(has_tag(connection, asked.tag))
    if people is None:
        return [_Walk(by_index, by_row, is_small=served == "trace_id")]
    if served is not None or len(people) > _MOST_PEOPLE:
        # Written so that no planner takes the users' index, whose rows the bound does not count.
        among_people = func.coalesce(usage_rows.c.user_ref, "").in_(people)
        return [_Walk(by_index, [*by_row, among_people], is_small=served == "trace_id")]
    return [_Walk([*by_index, usage_rows.c.user_ref == person], by_row, is_small=False) for person in people]


def _served_by_index(values: Mapping[str, Any]) -> str | None:
    """Name the asked value that finds the fewest rows by an index of its own; users come after these."""
    if "trace_id" in values:
        return "trace_id"
    return "billing_status" if values.get("billing_status") == "unpriced" else None


def _people(connection: Connection, org_id: int, asked: UsageFilter, user: str | None) -> list[str] | None:
    """List the users that are meant by reference, by address, or by both; None when any is."""
    if asked.user_email is None:
        return None if user is None else [user]
    references = [name for _, name in people_with(connection, OrgScope(org_id), asked.user_email)]
    return [name for name in references if user in (None, name)]


def _scan_bound(connection: Connection, by_index: list[ColumnElement[bool]], scan_rows: int) -> RowKey | None:
    """Find the last row that a request may look at, None when there are not that many. Only the index is read."""
    found = connection.execute(
        select(*_ORDER).where(*by_index).order_by(*(column.desc() for column in _ORDER)).limit(1).offset(scan_rows)
    ).one_or_none()
    return None if found is None else (found[0], bytes(found[1]))


def _page_statement(conditions: list[ColumnElement[bool]], limit: int) -> Select[Any]:
    """Write the statement of one walk's part of a page."""
    return _SELECT.where(*conditions).order_by(*(column.desc() for column in _ORDER)).limit(limit)


def _page(rows: list[UsageRow], limit: int, bound: RowKey | None) -> UsagePage:
    if len(rows) > limit:
        return UsagePage(rows[:limit], has_more=True, next_after=rows[limit - 1].position)
    if bound is not None:
        return UsagePage(rows, has_more=True, scanned_until_us=bound[0], next_after=bound)
    return UsagePage(rows, has_more=False)


def _position(row: UsageRow) -> RowKey:
    return row.position


def _usage_row(row: Record) -> UsageRow:
    return UsageRow(
        event=event_of(row, row["email"]),
        charge=charge_of(row),
        day=row["day"],
        usage_id=bytes(row["usage_id"]),
        charge_version=row["charge_version"],
    )

"""Sums of usage: by any dimensions, in the buckets of any time zone, for a month, and of all time.

A query comes in and groups go out, one per currency, since money of different currencies is never added. Requests,
tokens and cost count all rows but the suppressed ones; a cost is None where no row of the group has one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from farebox_ledger.errors import InvalidInput
from farebox_ledger.store.filtering import UsageFilter, organization_of
from farebox_ledger.store.largest_users import largest_users
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.rollups import Sums
from farebox_ledger.store.schema import AMOUNTS, MEASURES, USAGE_MEASURES, usage_rows
from farebox_ledger.store.scope import Scope, narrowed
from farebox_ledger.store.statements import organizations_in
from farebox_ledger.store.summary_cells import DIMENSIONS, Cells, Question, read_cells
from farebox_ledger.store.timeline import DAY_US, HOUR_US, Bucket, bucket_bounds, day_start_us, month_days, zone
from farebox_ledger.usage import QUANTITIES, day_of

MAX_BUCKETS: Final = 10_000
"""More than a year of hours; a finer or longer series is asked for in parts."""

MAX_PARTS: Final = 500
"""Models, services, categories or users that a month tells apart; the others are summed up in one."""

_FIRST_US: Final = day_start_us(20200101)
_SHORTEST_US: Final = {
    "hour": HOUR_US,
    "day": 23 * HOUR_US,
    "week": 7 * DAY_US - HOUR_US,
    "month": 28 * DAY_US - HOUR_US,
}


class SummaryQuery(msgspec.Struct, kw_only=True):
    """What to sum up. Times are microseconds since 1970 in UTC, half-open; None leaves an end open.

    `group_by` takes any of `summary_cells.DIMENSIONS`, `tz` an IANA zone in which the buckets are cut. The range of
    `filter` itself is not looked at. `limit` is the most groups that are answered, the most expensive ones first
    within each bucket.
    """

    filter: UsageFilter = UsageFilter()
    start_us: int | None = None
    end_us: int | None = None
    group_by: tuple[str, ...] = ()
    bucket: Bucket = "none"
    tz: str = "UTC"
    limit: int | None = None


class SummaryGroup(msgspec.Struct, kw_only=True):
    """The sums of one group in one currency.

    `dimensions` holds the values of `group_by`, organizations by slug, None where a row has no value. `usage` holds the
    usage members by their names, seconds as Decimal, 0 where nothing was said. Rows without a currency (those without
    a price) stand in the group's one currency when it has exactly one, else in a group of their own.
    """

    dimensions: dict[str, str | None]
    bucket_start_us: int | None
    currency: str | None
    requests: int
    errors: int
    usage: dict[str, int | Decimal]
    total_tokens: int
    cost_pico: int | None
    list_cost_pico: int | None
    priced_rows: int
    unpriced_rows: int
    assumed_rows: int
    partial_rows: int

    @property
    def success_rate(self) -> float | None:
        """The share of requests that did not end in an error, 0 to 1; None without requests."""
        return (self.requests - self.errors) / self.requests if self.requests else None


class Summary(msgspec.Struct, kw_only=True):
    """Groups, and how far they can be trusted.

    `is_complete` says that no row of the range is unpriced or partly priced, whether or not its group is shown.
    `data_through_us` is the end of the newest call in the books, None when there is none.
    """

    groups: list[SummaryGroup]
    is_complete: bool
    data_through_us: int | None
    is_truncated: bool = False


class Rest(msgspec.Struct, frozen=True):
    """What a part of a month does not tell apart: how many models, users, … those are, and their sums by currency."""

    left_out: int
    sums: list[SummaryGroup]


class MonthSummary(msgspec.Struct, kw_only=True):
    """One UTC month of one organization; the parts are sorted by cost, the most expensive first.

    `by_model` has the dimensions provider and model, the others the one that they are named after. Each part tells the
    `MAX_PARTS` largest apart, and with what `rest` has under its name it sums to the totals; no name: all are there.
    """

    month: int
    totals: list[SummaryGroup]
    by_model: list[SummaryGroup]
    by_service: list[SummaryGroup]
    by_category: list[SummaryGroup]
    by_user: list[SummaryGroup]
    rest: dict[str, Rest]
    is_complete: bool
    data_through_us: int | None


class OrganizationTotals(msgspec.Struct, kw_only=True):
    """The current UTC month and all time of one organization, a group per currency."""

    month: Summary
    total: Summary


def summarize(connection: Connection, scope: Scope, query: SummaryQuery) -> Summary:
    """Sum up usage.

    Raises:
        InvalidInput: an unknown dimension, zone or organization, a range that ends before it begins, too many buckets,
            or more than 31 days of something that is summed from rows.
    """
    scope = narrowed(scope, query.filter.org_id)
    _validate(query)
    newest_us = data_through_us(connection, scope)
    question = _question(scope, query)._replace(filled=_filled(newest_us))
    cells = read_cells(connection, question)
    starts = question.bounds if query.bucket != "none" else None
    groups = _groups(cells, question.dimensions, starts)
    _name_organizations(connection, groups)
    shown = groups if query.limit is None else groups[: query.limit]
    return Summary(
        groups=shown,
        is_complete=_is_complete(groups),
        data_through_us=newest_us,
        is_truncated=len(shown) < len(groups),
    )


def month_summary(connection: Connection, scope: Scope, org_id: int, month: int) -> MonthSummary:
    """Sum up one UTC month YYYYMM of one organization.

    Raises:
        InvalidInput: that is no month, or the organization is outside the scope.
    """
    scope = narrowed(scope, org_id)
    names = ("provider", "model", "service", "category")
    cells = read_cells(connection, _month_question(scope, month, names))
    rest: dict[str, Rest] = {}

    def part(name: str, *kept: str) -> list[SummaryGroup]:
        return _largest(_folded(cells, [names.index(one) for one in kept]), kept, name, rest)

    totals = _groups(_folded(cells, []), (), None)
    return MonthSummary(
        month=month,
        totals=totals,
        by_model=part("by_model", "provider", "model"),
        by_service=part("by_service", "service"),
        by_category=part("by_category", "category"),
        by_user=_by_user(connection, org_id, month, rest),
        rest=rest,
        is_complete=_is_complete(totals),
        data_through_us=data_through_us(connection, scope),
    )


def organization_totals(
    connection: Connection, scope: Scope, org_id: int, *, now_us: int | None = None
) -> OrganizationTotals:
    """Sum up the current UTC month (that of `now_us`, else of the clock) and all time of one organization.

    Raises:
        InvalidInput: the organization is outside the scope.
    """
    scope = narrowed(scope, org_id)
    first, following = month_days(day_of(now_us or time.time_ns() // 1000) // 100)
    month = SummaryQuery(start_us=day_start_us(first), end_us=day_start_us(following))
    return OrganizationTotals(
        month=summarize(connection, scope, month), total=summarize(connection, scope, SummaryQuery())
    )


def data_through_us(connection: Connection, scope: Scope) -> int | None:
    """Say when the newest call in the books ended, None when there is none."""
    mine = organization_of(scope)
    newest = select(func.max(usage_rows.c.occurred_at_us))
    if mine is not None:
        statement = newest.where(usage_rows.c.org_id == mine)
    else:
        organizations = organizations_in(usage_rows).subquery()
        each = newest.where(usage_rows.c.org_id == organizations.c.org_id).scalar_subquery()
        statement = select(func.max(each)).select_from(organizations)
    found: int | None = connection.scalar(statement)
    return found


def _validate(query: SummaryQuery) -> None:
    for name in query.group_by:
        if name not in DIMENSIONS:
            raise InvalidInput("group_by", f"{name!r} is no dimension; expected some of {', '.join(DIMENSIONS)}")
    if len(set(query.group_by)) < len(query.group_by):
        raise InvalidInput("group_by", "a dimension is named twice")
    if query.start_us is not None and query.end_us is not None and query.start_us >= query.end_us:
        raise InvalidInput("end", "the range ends before it begins")
    if query.bucket != "none" and (query.start_us is None or query.end_us is None):
        raise InvalidInput("start", "buckets need a range with both ends")


def _question(scope: Scope, query: SummaryQuery) -> Question:
    asked = msgspec.structs.replace(query.filter, start_us=query.start_us, end_us=query.end_us)
    bounds = [0, 0]
    if query.start_us is not None and query.end_us is not None:
        _refuse_many_buckets(query.end_us - query.start_us, query.bucket)
        bounds = bucket_bounds(query.start_us, query.end_us, query.bucket, zone(query.tz))
    return Question(scope, asked, query.group_by, bounds)


def _filled(newest_us: int | None) -> tuple[int, int]:
    """Name the whole days outside of which there are no rows; what claims to be older is not booked."""
    return _FIRST_US, _FIRST_US if newest_us is None else (newest_us // DAY_US + 1) * DAY_US


def _refuse_many_buckets(range_us: int, bucket: Bucket) -> None:
    shortest_us = _SHORTEST_US.get(bucket)
    if shortest_us is not None and range_us > MAX_BUCKETS * shortest_us:
        raise InvalidInput("bucket", f"the range has more than {MAX_BUCKETS} buckets; ask for a shorter one")


def _month_question(scope: Scope, month: int, dimensions: tuple[str, ...]) -> Question:
    try:
        first, following = month_days(month)
        start_us, end_us = day_start_us(first), day_start_us(following)
    except ValueError:
        raise InvalidInput("month", f"{month} is no month YYYYMM") from None
    return Question(scope, UsageFilter(start_us=start_us, end_us=end_us), dimensions, [start_us, end_us])


def _largest(cells: Cells, dimensions: tuple[str, ...], part: str, rest: dict[str, Rest]) -> list[SummaryGroup]:
    """List the groups of the most expensive values, and note under the part's name what the others come to."""
    groups = _groups(cells, dimensions, None)
    ranked = list(dict.fromkeys(tuple(group.dimensions.values()) for group in groups))
    if len(ranked) <= MAX_PARTS:
        return groups
    shown = set(ranked[:MAX_PARTS])
    others = {key: sums for key, sums in cells.items() if key[1][:-1] not in shown}
    rest[part] = Rest(len(ranked) - MAX_PARTS, _groups(_folded(others, []), (), None))
    return [group for group in groups if tuple(group.dimensions.values()) in shown]


def _by_user(connection: Connection, org_id: int, month: int, rest: dict[str, Rest]) -> list[SummaryGroup]:
    """As `_largest`, cut by the database already: there may be more users than are held here."""
    found = largest_users(connection, org_id, month, MAX_PARTS)
    if found.left_out:
        others: Cells = {(0, values): sums for values, sums in found.others.items()}
        rest["by_user"] = Rest(found.left_out, _groups(others, (), None))
    return _groups({(0, values): sums for values, sums in found.shown.items()}, ("user",), None)


def _folded(cells: Cells, kept: list[int]) -> Cells:
    """Sum cells over all dimensions but some; the currency, which stands last, is always kept."""
    folded: Cells = {}
    for (bucket, values), sums in cells.items():
        key = (bucket, (*(values[position] for position in kept), values[-1]))
        stands = folded.get(key)
        folded[key] = sums if stands is None else _plus(stands, sums)
    return folded


def _groups(cells: Cells, dimensions: tuple[str, ...], starts: list[int] | None) -> list[SummaryGroup]:
    """Turn cells into groups, in the order of buckets, then cost, then names; empty ones are left out."""
    if "currency" not in dimensions:
        cells = _with_one_currency(cells)
    groups = [
        _group(
            dict(zip(dimensions, values, strict=False)), values[-1], None if starts is None else starts[bucket], sums
        )
        for (bucket, values), sums in cells.items()
        if any(sums)
    ]
    return sorted(groups, key=_rank)


def _with_one_currency(cells: Cells) -> Cells:
    """Let rows without a price stand with the others of their group, where those are in one currency."""
    currencies: dict[tuple[int, tuple[Any, ...]], set[str]] = {}
    for bucket, values in cells:
        if values[-1] is not None:
            currencies.setdefault((bucket, values[:-1]), set()).add(values[-1])
    merged: Cells = {}
    for (bucket, values), sums in cells.items():
        known = currencies.get((bucket, values[:-1]), set())
        currency = next(iter(known)) if len(known) == 1 else values[-1]
        key = (bucket, (*values[:-1], currency))
        stands = merged.get(key)
        merged[key] = sums if stands is None else _plus(stands, sums)
    return merged


def _named(dimensions: tuple[str, ...], values: tuple[Any, ...]) -> dict[str, Any]:
    """Name a cell's values; the currency behind them has a place of its own, and binary ids are shown as hex."""
    named = zip(dimensions, values[: len(dimensions)], strict=True)
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in named}


def _group(dimensions: dict[str, Any], currency: str | None, bucket_start_us: int | None, sums: Sums) -> SummaryGroup:
    measured = dict(zip((*MEASURES, *AMOUNTS), sums, strict=True))
    is_priced = measured["priced_rows"] > 0
    return SummaryGroup(
        dimensions=dimensions,
        bucket_start_us=bucket_start_us,
        currency=currency,
        requests=measured["requests"],
        errors=measured["errors"],
        usage={name: _quantity(name, measured[USAGE_MEASURES.get(name, name)]) for name in QUANTITIES},
        total_tokens=measured["total_tokens"],
        cost_pico=measured["cost"] if is_priced else None,
        list_cost_pico=measured["list_cost"] if is_priced else None,
        priced_rows=measured["priced_rows"],
        unpriced_rows=measured["unpriced_rows"],
        assumed_rows=measured["assumed_rows"],
        partial_rows=measured["partial_rows"],
    )


def _quantity(name: str, measured: int) -> int | Decimal:
    return Decimal(measured).scaleb(-6) if name.endswith("_seconds") else measured


def _rank(group: SummaryGroup) -> tuple[Any, ...]:
    cost = -1 if group.cost_pico is None else group.cost_pico
    names = tuple(("" if value is None else str(value)) for value in group.dimensions.values())
    return group.bucket_start_us or 0, -cost, -group.requests, names, group.currency or ""


def _name_organizations(connection: Connection, groups: Iterable[SummaryGroup]) -> None:
    """Write organizations as slugs; one that was never made, which only a foreign writer can cause, by number."""
    named = [group for group in groups if "organization" in group.dimensions]
    known = organizations_by_id(connection, {int(group.dimensions["organization"] or 0) for group in named})
    for group in named:
        org_id = int(group.dimensions["organization"] or 0)
        group.dimensions["organization"] = known[org_id].slug if org_id in known else str(org_id)


def _is_complete(groups: Iterable[SummaryGroup]) -> bool:
    return not any(group.unpriced_rows or group.partial_rows for group in groups)


def _plus(left: Sums, right: Sums) -> Sums:
    return [one + other for one, other in zip(left, right, strict=True)]

"""The rows that re-pricing looks at: chosen by a filter, read page by page in an order that pricing does not change.

A filter comes in; rows with the charge that they have go out. Nothing is written here (`charges` does that). What the
collector decided by itself, such as a suppressed row, is chosen by no filter.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal_column, or_, select, tuple_

from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing import Charge
from farebox_ledger.pricing.events import JUDGED_REASONS
from farebox_ledger.store.filtering import equals
from farebox_ledger.store.rows import Record, bounded_name, charge_of, event_of, row_probes
from farebox_ledger.store.schema import (
    UNSETTLED,
    UNSETTLED_STATUSES,
    rollup_day,
    rollup_day_reason,
    usage_rows,
)
from farebox_ledger.store.scope import OrgScope, Scope, within
from farebox_ledger.store.statements import organizations_in
from farebox_ledger.usage import BillingStatus, Reason, UsageEvent, day_of

FINAL_STATUSES: Final[tuple[BillingStatus, ...]] = ("billed", "free")
"""The statuses of rows that are priced for good; re-pricing them has to be asked for."""


class RowsToPrice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which rows are priced anew; None asks for nothing. Times are those of `occurred_at`, half-open.

    Without `include_priced` only rows are meant that are unpriced, partial or assumed.
    """

    provider: str | None = None
    model: str | None = None
    reason: Reason | None = None
    billing_status: BillingStatus | None = None
    start_us: int | None = None
    end_us: int | None = None
    include_priced: bool = False


class StandingCharge(msgspec.Struct):
    """A row with the charge that it has, to be compared with the one that it should have."""

    event: UsageEvent
    charge: Charge
    day: int
    charge_version: int

    @property
    def position(self) -> RowPosition:
        return self.event.org_id, self.event.occurred_at_us, self.event.usage_id


RowPosition: TypeAlias = tuple[int, int, bytes]
"""Where the walk through the rows stands: organization, `occurred_at`, usage id."""

_RowName: TypeAlias = tuple[int, bytes]


def checked(asked: RowsToPrice) -> RowsToPrice:
    """Refuse a filter that could choose nothing.

    Raises:
        InvalidInput: names the field.
    """
    status = asked.billing_status
    if status is not None and status not in _statuses(asked):
        if status in FINAL_STATUSES:
            raise InvalidInput("billing_status", f"{status} rows are priced; they change only with include_priced")
        raise InvalidInput("billing_status", f"{status} rows were decided by the collector and have no price to change")
    if asked.reason in JUDGED_REASONS:
        raise InvalidInput("reason", f"{asked.reason} rows were decided by the collector; no price changes that")
    if asked.start_us is not None and asked.end_us is not None and asked.end_us <= asked.start_us:
        raise InvalidInput("end", "must lie after start; the range is half-open")
    return asked


def organizations_with_rows(connection: Connection, scope: Scope) -> list[int]:
    """List whose rows there are, in ascending order."""
    if isinstance(scope, OrgScope):
        return [scope.org_id]
    return sorted(connection.scalars(organizations_in(usage_rows)))


def page_of_rows(
    connection: Connection, org_id: int, asked: RowsToPrice, *, after: tuple[int, bytes] | None, limit: int
) -> list[StandingCharge]:
    """Read the next rows of an organization that a filter chooses, oldest first.

    The order is that of `occurred_at` and usage id, neither of which a new charge changes: each row is met once.
    """
    chosen = select(usage_rows).where(usage_rows.c.org_id == org_id, *_conditions(asked))
    order = (usage_rows.c.occurred_at_us, usage_rows.c.usage_id)
    if after is not None:
        chosen = chosen.where(tuple_(*order) > tuple_(*after))
    return _read(connection, chosen.order_by(*order).limit(limit))


def changed_since(
    connection: Connection, standing: Collection[StandingCharge], asked: RowsToPrice
) -> tuple[set[_RowName], list[StandingCharge]]:
    """Look at rows again under the caller's locks: (those that are as they were, the others that are still chosen).

    The others are answered as they now are; a row that is no longer chosen is in neither.
    """
    versions = {(row.event.org_id, row.event.usage_id): row.charge_version for row in standing}
    untouched: set[_RowName] = set()
    others: list[StandingCharge] = []
    for org_id, day, part in row_probes((row.event.org_id, row.day, row.event.usage_id) for row in standing):
        at = (usage_rows.c.org_id == org_id, usage_rows.c.day == day)
        names = select(usage_rows.c.usage_id, usage_rows.c.charge_version).where(*at, usage_rows.c.usage_id.in_(part))
        found = {(org_id, bytes(usage_id)): version for usage_id, version in connection.execute(names)}
        same = {name for name, version in found.items() if version == versions[name]}
        untouched |= same
        touched = [usage_id for name_org, usage_id in found.keys() - same]
        if touched:
            again = select(usage_rows).where(*at, usage_rows.c.usage_id.in_(touched), *_conditions(asked))
            others += _read(connection, again)
    return untouched, others


def expected_rows(connection: Connection, scope: Scope, asked: RowsToPrice) -> int:
    """Say about how many rows a filter chooses, from the sums of whole days."""
    unsettled = _counted(connection, scope, asked, rollup_day_reason, UNSETTLED_STATUSES)
    if not asked.include_priced or asked.reason is not None:
        return unsettled
    return unsettled + _counted(connection, scope, asked, rollup_day, FINAL_STATUSES)


def _counted(
    connection: Connection, scope: Scope, asked: RowsToPrice, rollup: Any, statuses: Collection[BillingStatus]
) -> int:
    wanted = set(statuses) & ({asked.billing_status} if asked.billing_status else set(statuses))
    conditions = [within(scope, rollup.c.org_id), rollup.c.billing_status.in_(sorted(wanted))]
    if asked.provider is not None:
        conditions.append(rollup.c.provider == (bounded_name(asked.provider) or ""))
    if asked.model is not None:
        conditions.append(rollup.c.model == (bounded_name(asked.model) or ""))
    if asked.reason is not None:
        conditions.append(rollup.c.reason == asked.reason)
    elif rollup is rollup_day_reason:
        conditions.append(rollup.c.reason.not_in(sorted(JUDGED_REASONS)))
    if asked.start_us is not None:
        conditions.append(rollup.c.day >= day_of(asked.start_us))
    if asked.end_us is not None:
        conditions.append(rollup.c.day <= day_of(asked.end_us - 1))
    return int(connection.scalar(select(func.sum(rollup.c.requests)).where(*conditions)) or 0)


def _statuses(asked: RowsToPrice) -> tuple[BillingStatus, ...]:
    return (*UNSETTLED_STATUSES, *FINAL_STATUSES) if asked.include_priced else UNSETTLED_STATUSES


def _conditions(asked: RowsToPrice) -> list[ColumnElement[bool]]:
    """List the filter's conditions; those on the status are written so that planners know the partial indexes."""
    conditions = [
        _in_status(asked),
        or_(usage_rows.c.reason.is_(None), usage_rows.c.reason.not_in(JUDGED_REASONS)),
        usage_rows.c.covered_by.is_(None),
    ]
    for name in ("provider", "model"):
        value = getattr(asked, name)
        if value is not None:
            conditions.append(usage_rows.c[name].is_(None) if value == "" else equals(name, bounded_name(value)))
    if asked.reason is not None:
        conditions.append(usage_rows.c.reason == asked.reason)
    if asked.start_us is not None:
        conditions.append(usage_rows.c.occurred_at_us >= asked.start_us)
    if asked.end_us is not None:
        conditions.append(usage_rows.c.occurred_at_us < asked.end_us)
    return conditions


def _in_status(asked: RowsToPrice) -> ColumnElement[bool]:
    if asked.billing_status == "unpriced":
        return equals("billing_status", "unpriced")
    if asked.include_priced:
        wanted = (asked.billing_status,) if asked.billing_status else _statuses(asked)
        return usage_rows.c.billing_status.in_(wanted)
    if asked.billing_status is None:
        return literal_column(UNSETTLED)
    return and_(literal_column(UNSETTLED), usage_rows.c.billing_status == asked.billing_status)


def _read(connection: Connection, chosen: Select[Any]) -> list[StandingCharge]:
    return [_standing(row) for row in connection.execute(chosen).mappings()]


def _standing(row: Record) -> StandingCharge:
    return StandingCharge(
        event=event_of(row), charge=charge_of(row), day=row["day"], charge_version=row["charge_version"]
    )

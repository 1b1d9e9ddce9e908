"""The filters of usage rows, as conditions on the rows and on the sums beside them.

A `UsageFilter` comes in, SQL conditions go out; lists and summaries share them, so that both choose the same rows.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, and_, cast, exists, false, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from farebox_ledger.money import to_pico
from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.rows import bounded_name, clean_text
from farebox_ledger.store.schema import usage_rows, users
from farebox_ledger.store.scope import OrgScope, Scope, within
from farebox_ledger.store.users import has_email
from farebox_ledger.usage import BillingStatus, CallStatus, Reason


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are meant; None asks for nothing, and all that is asked for must hold.

    Ranges are half-open and go by `occurred_at`, in microseconds since 1970 in UTC. Costs are in whole units of the
    row's own currency, both ends inclusive; a row without a cost is in no range of costs.
    """

    org_id: int | None = None
    project: str | None = None
    user: str | None = None
    user_email: str | None = None
    key: str | None = None
    provider: str | None = None
    model: str | None = None
    model_config: str | None = None
    service: str | None = None
    action: str | None = None
    category: str | None = None
    task_type: str | None = None
    task_id: str | None = None
    content_type: str | None = None
    status: CallStatus | None = None
    billing_status: BillingStatus | None = None
    reason: Reason | None = None
    min_cost: Decimal | None = None
    max_cost: Decimal | None = None
    trace_id: bytes | None = None
    tag: str | None = None
    start_us: int | None = None
    end_us: int | None = None


COLUMNS: Final[dict[str, Column[Any]]] = {
    "organization": usage_rows.c.org_id,
    "project": usage_rows.c.project,
    "user": usage_rows.c.user_ref,
    "key": usage_rows.c.key_id,
    "provider": usage_rows.c.provider,
    "model": usage_rows.c.model,
    "request_model": usage_rows.c.request_model,
    "response_model": usage_rows.c.response_model,
    "model_config": usage_rows.c.model_config,
    "operation": usage_rows.c.operation,
    "service": usage_rows.c.service,
    "action": usage_rows.c.action,
    "category": usage_rows.c.category,
    "task_type": usage_rows.c.task_type,
    "task_id": usage_rows.c.task_id,
    "content_type": usage_rows.c.content_type,
    "content_ref": usage_rows.c.content_ref,
    "session": usage_rows.c.session,
    "upstream": usage_rows.c.upstream,
    "status": usage_rows.c.status,
    "error_code": usage_rows.c.error_code,
    "service_tier": usage_rows.c.service_tier,
    "dialect": usage_rows.c.dialect,
    "billing_status": usage_rows.c.billing_status,
    "reason": usage_rows.c.reason,
    "currency": usage_rows.c.currency,
    "trace_id": usage_rows.c.trace_id,
}
"""The columns of the rows by the contract's names, for filters and for grouping."""

_BOUNDED: Final = frozenset({"project", "user", "key", "provider", "model", "service", "category"})
_NOT_BY_COLUMN: Final = frozenset({"org_id", "user_email", "min_cost", "max_cost", "tag", "start_us", "end_us"})


def asked_values(asked: UsageFilter) -> dict[str, Any]:
    """List the names and values that are compared with one column each, written as rows hold them."""
    values: dict[str, Any] = {}
    for name in UsageFilter.__struct_fields__:
        value = getattr(asked, name)
        if value is not None and name not in _NOT_BY_COLUMN:
            values[name] = _as_stored(name, value)
    return values


def asked_dimensions(asked: UsageFilter) -> set[str]:
    """Name all that the filter looks at besides organization and time."""
    names = {name for name in UsageFilter.__struct_fields__ if getattr(asked, name) is not None}
    people = {"user"} if "user_email" in names else set()
    return (names | people) - {"org_id", "start_us", "end_us", "user_email"}


def equals(name: str, value: Any) -> ColumnElement[bool]:
    """Compare a column; `unpriced` is written out, because only then do planners use the partial index."""
    if (name, value) == ("billing_status", "unpriced"):
        return usage_rows.c.billing_status == literal_column("'unpriced'")
    same: ColumnElement[bool] = COLUMNS[name] == value
    return same


def in_time(asked: UsageFilter) -> list[ColumnElement[bool]]:
    """Restrict rows to the filter's range."""
    conditions = []
    if asked.start_us is not None:
        conditions.append(usage_rows.c.occurred_at_us >= asked.start_us)
    if asked.end_us is not None:
        conditions.append(usage_rows.c.occurred_at_us < asked.end_us)
    return conditions


def in_costs(asked: UsageFilter) -> list[ColumnElement[bool]]:
    """Restrict rows to the filter's range of costs.

    Raises:
        AmountTooLarge: a bound is beyond what a row can cost.
    """
    conditions = []
    if asked.min_cost is not None:
        conditions.append(usage_rows.c.cost_pico >= to_pico(asked.min_cost))
    if asked.max_cost is not None:
        conditions.append(usage_rows.c.cost_pico <= to_pico(asked.max_cost))
    return conditions


def has_tag(connection: Connection, tag: str) -> ColumnElement[bool]:
    """Restrict rows to those that carry a tag."""
    if is_sqlite(connection):
        each = func.json_each(usage_rows.c.tags).table_valued("value")
        return exists(select(literal_column("1")).select_from(each).where(each.c.value == bounded_name(tag)))
    carried: ColumnElement[bool] = cast(usage_rows.c.tags, JSONB).has_key(bounded_name(tag))
    return carried


def people_with(connection: Connection, scope: Scope, email: str) -> list[tuple[int, str]]:
    """Find the users with an address, as (organization, reference)."""
    found = connection.execute(
        select(users.c.org_id, users.c.user_ref)
        .where(within(scope, users.c.org_id), has_email(scope, email))
        .order_by(users.c.org_id, users.c.user_ref)
    )
    return [(org_id, reference) for org_id, reference in found]


def among(
    people: list[tuple[int, str]], org_id: ColumnElement[int], reference: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Restrict rows to those of some people; the same reference means another person in another organization."""
    return or_(false(), *(and_(org_id == organization, reference == name) for organization, name in people))


def row_conditions(connection: Connection, scope: Scope, asked: UsageFilter) -> list[ColumnElement[bool]]:
    """List all conditions of a filter on the rows, those of time and organization left out."""
    conditions = [equals(name, value) for name, value in asked_values(asked).items()]
    conditions += in_costs(asked)
    if asked.tag is not None:
        conditions.append(has_tag(connection, asked.tag))
    if asked.user_email is not None:
        people = people_with(connection, scope, asked.user_email)
        conditions.append(among(people, usage_rows.c.org_id, usage_rows.c.user_ref))
    return conditions


def organization_of(scope: Scope) -> int | None:
    """Name the one organization of a scope, None when it is all."""
    return scope.org_id if isinstance(scope, OrgScope) else None


def _as_stored(name: str, value: Any) -> Any:
    if name in _BOUNDED:
        return bounded_name(value)
    return clean_text(value) if isinstance(value, str) else value

"""What waits for a price: rows grouped by provider, model and reason, and the groups that nobody wants to see.

Counts come from the rollup by reason, the moments from the ends of an index, so that the list takes no longer with
more rows. Nothing here prices anything.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, literal_column, or_, select

from farebox_ledger.errors import NotFound
from farebox_ledger.store.audit import note
from farebox_ledger.store.rows import bounded_name
from farebox_ledger.store.schema import UNSETTLED, ignored_groups, rollup_day_reason, usage_rows
from farebox_ledger.store.scope import OrgScope, Scope, within
from farebox_ledger.store.subjects import subject_key
from farebox_ledger.usage import BillingStatus, Reason

MAX_GROUPS: Final = 1000

GroupPosition: TypeAlias = tuple[int, str, str, str]
"""Where the list goes on: rows, provider, model and reason of the last group that the caller has; '' is none."""


class GroupName(msgspec.Struct, frozen=True, kw_only=True):
    """What a group is called by: provider and model as the rows name them, None where they name none."""

    provider: str | None
    model: str | None
    reason: Reason


class UnpricedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one group. Times are those of the calls' ends, None where sums without rows await a rebuild."""

    name: GroupName
    rows: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    organizations: int
    first_seen_us: int | None
    last_seen_us: int | None
    is_ignored: bool

    @property
    def position(self) -> GroupPosition:
        """Where the list goes on behind this group."""
        return self.rows, self.name.provider or "", self.name.model or "", self.name.reason


def unpriced_groups(
    connection: Connection,
    scope: Scope,
    *,
    billing_status: BillingStatus = "unpriced",
    provider: str | None = None,
    reason: Reason | None = None,
    with_ignored: bool = False,
    limit: int = 100,
    after: GroupPosition | None = None,
) -> list[UnpricedGroup]:
    """List the groups of the scope, the largest first.

    Args:
        connection: a transaction.
        scope: whose rows are grouped; the system sees the rows of all organizations in one group.
        billing_status: unpriced, partial or assumed.
        provider: only this provider's, as the rows name it; '' asks for those without one.
        reason: only groups with this reason.
        with_ignored: also groups that were set aside.
        limit: at most this many, up to 1000.
        after: the position of the last group that the caller has.
    """
    assert 0 < limit <= MAX_GROUPS
    by = rollup_day_reason.c
    conditions = [within(scope, by.org_id), by.billing_status == billing_status]
    conditions += [] if provider is None else [by.provider == (bounded_name(provider) or "")]
    conditions += [] if reason is None else [by.reason == reason]
    conditions += [] if with_ignored else [~_is_ignored(scope)]
    rows = func.sum(by.requests)
    names = (by.provider, by.model, by.reason)
    tokens = (func.sum(by[name]).label(name) for name in ("input_tokens", "output_tokens", "total_tokens"))
    listed = (
        select(*names, rows.label("rows"), *tokens)
        .where(*conditions)
        .group_by(*names)
        .having(_behind(rows, after))
        .order_by(rows.desc(), *names)
        .limit(limit)
    )
    return [_group(connection, scope, billing_status, row) for row in connection.execute(listed)]


def first_seen_us(connection: Connection, scope: Scope, name: GroupName) -> int | None:
    """Say when the first call of a group ended, whichever of its rows are unpriced, partial or assumed."""
    return min(
        (
            moments[0]
            for status in ("unpriced", "partial", "assumed")
            for moments in _moments(connection, _owners(connection, scope, status, name), status, name)
        ),
        default=None,
    )


def ignore_group(connection: Connection, scope: Scope, name: GroupName) -> None:
    """Set a group aside in the scope's own list; its rows keep their reason. Again changes nothing."""
    if connection.execute(select(ignored_groups.c.reason).where(_key_is(scope, name))).one_or_none() is None:
        connection.execute(
            insert(ignored_groups).values(
                subject_key=_key(scope, name),
                org_id=scope.org_id if isinstance(scope, OrgScope) else None,
                provider=bounded_name(name.provider) or "",
                model=bounded_name(name.model) or "",
                reason=name.reason,
                ignored_at_us=time.time_ns() // 1000,
            )
        )
        note(connection, "unpriced.ignore", "unpriced_group", _key(scope, name), after=name)


def restore_group(connection: Connection, scope: Scope, name: GroupName) -> None:
    """List a group again that was set aside.

    Raises:
        NotFound: it was not.
    """
    if not connection.execute(delete(ignored_groups).where(_key_is(scope, name))).rowcount:
        raise NotFound("ignored group", f"{name.provider}/{name.model} ({name.reason})")
    note(connection, "unpriced.restore", "unpriced_group", _key(scope, name), before=name)


def _key(scope: Scope, name: GroupName) -> str:
    org_id = scope.org_id if isinstance(scope, OrgScope) else None
    return subject_key(org_id, bounded_name(name.provider) or "", bounded_name(name.model) or "", name.reason)


def _key_is(scope: Scope, name: GroupName) -> ColumnElement[bool]:
    return ignored_groups.c.subject_key == _key(scope, name)


def _is_ignored(scope: Scope) -> ColumnElement[bool]:
    """Say whether the scope's own list leaves a group of the rollup out."""
    ignored, by = ignored_groups.c, rollup_day_reason.c
    mine = ignored.org_id == scope.org_id if isinstance(scope, OrgScope) else ignored.org_id.is_(None)
    same = and_(ignored.provider == by.provider, ignored.model == by.model, ignored.reason == by.reason)
    return select(ignored.reason).where(mine, same).exists()


def _behind(rows: ColumnElement[int], after: GroupPosition | None) -> ColumnElement[bool]:
    """Choose the groups that still have rows and stand behind a position."""
    if after is None:
        return rows > 0
    count, provider, model, reason = after
    by = rollup_day_reason.c
    names = or_(
        by.provider > provider,
        and_(by.provider == provider, or_(by.model > model, and_(by.model == model, by.reason > reason))),
    )
    return and_(rows > 0, or_(rows < count, and_(rows == count, names)))


def _group(connection: Connection, scope: Scope, status: BillingStatus, row: Any) -> UnpricedGroup:
    name = GroupName(provider=row.provider or None, model=row.model or None, reason=row.reason)
    owners = _owners(connection, scope, status, name)
    moments = _moments(connection, owners, status, name)
    ignored = connection.execute(select(ignored_groups.c.reason).where(_key_is(scope, name))).one_or_none()
    return UnpricedGroup(
        name=name,
        rows=int(row.rows),
        input_tokens=int(row.input_tokens),
        output_tokens=int(row.output_tokens),
        total_tokens=int(row.total_tokens),
        organizations=len(owners),
        first_seen_us=min((first for first, _ in moments), default=None),
        last_seen_us=max((last for _, last in moments), default=None),
        is_ignored=ignored is not None,
    )


def _owners(connection: Connection, scope: Scope, status: str, name: GroupName) -> list[int]:
    """List the organizations with rows of a group."""
    by = rollup_day_reason.c
    found = connection.scalars(
        select(by.org_id)
        .where(
            within(scope, by.org_id),
            by.billing_status == status,
            by.provider == (bounded_name(name.provider) or ""),
            by.model == (bounded_name(name.model) or ""),
            by.reason == name.reason,
        )
        .group_by(by.org_id)
        .having(func.sum(by.requests) > 0)
    )
    return list(found)


def _moments(connection: Connection, owners: Sequence[int], status: str, name: GroupName) -> list[tuple[int, int]]:
    """Read when the first and the last call of a group ended, for each organization: two ends of an index each."""
    row = usage_rows.c
    found: list[tuple[int, int]] = []
    for org_id in owners:
        chosen: list[ColumnElement[bool]] = [
            row.org_id == org_id,
            literal_column(UNSETTLED),
            row.billing_status == status,
            row.provider.is_(None) if name.provider is None else row.provider == bounded_name(name.provider),
            row.model.is_(None) if name.model is None else row.model == bounded_name(name.model),
            row.reason == name.reason,
        ]
        first = connection.scalar(select(func.min(row.occurred_at_us)).where(*chosen))
        last = connection.scalar(select(func.max(row.occurred_at_us)).where(*chosen))
        if first is not None and last is not None:
            found.append((first, last))
    return found

"""Which unpriced groups their organizations' webhooks were told of: each group once, from its first row to its last.

Groups are those of `unpriced`, one organization's each. One whose rows all got a price is forgotten, and is news again
when it comes back; one that was set aside, by its organization or by the system, is no news.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, or_, select

from farebox_ledger.store.schema import ignored_groups, rollup_day_reason, unpriced_notices
from farebox_ledger.store.statements import organizations_in
from farebox_ledger.store.unpriced import GroupName

_BY: Final = rollup_day_reason.c
_OF: Final = unpriced_notices.c
_NAMES: Final = ("provider", "model", "reason")


class FoundGroup(msgspec.Struct, frozen=True):
    """A group of one organization that nobody was told of, and how many rows it has."""

    org_id: int
    name: GroupName
    rows: int


def organizations_with_unpriced(connection: Connection) -> list[int]:
    """List the organizations that have, or had, rows without a price."""
    return sorted(connection.scalars(organizations_in(rollup_day_reason)))


def new_groups(connection: Connection, org_id: int, *, limit: int) -> list[FoundGroup]:
    """List at most `limit` groups of an organization that have rows and are not noted, the largest first."""
    rows = func.sum(_BY.requests)
    names = [_BY[name] for name in _NAMES]
    is_ignored = exists().where(
        *(ignored_groups.c[name] == _BY[name] for name in _NAMES),
        or_(ignored_groups.c.org_id == org_id, ignored_groups.c.org_id.is_(None)),
    )
    is_noted = exists().where(_OF.org_id == org_id, _same_group())
    listed = (
        select(*names, rows.label("rows"))
        .where(_BY.org_id == org_id, _BY.billing_status == "unpriced", ~is_ignored, ~is_noted)
        .group_by(*names)
        .having(rows > 0)
        .order_by(rows.desc(), *names)
        .limit(limit)
    )
    return [_found(org_id, row) for row in connection.execute(listed)]


def note_group(connection: Connection, found: FoundGroup, now_us: int) -> None:
    """Note that a group is told of, in the transaction of the message."""
    names = {name: getattr(found.name, name) or "" for name in _NAMES}
    connection.execute(insert(unpriced_notices).values(org_id=found.org_id, found_at_us=now_us, **names))


def has_empty(connection: Connection, org_id: int) -> bool:
    """Say whether a noted group of an organization has no rows any more."""
    return connection.scalar(select(exists().where(*_is_empty(org_id)))) or False


def forget_empty(connection: Connection, org_id: int) -> None:
    """Forget the groups of an organization that have no rows any more."""
    connection.execute(delete(unpriced_notices).where(*_is_empty(org_id)))


def _is_empty(org_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    rows = select(func.sum(_BY.requests)).where(_BY.org_id == org_id, _BY.billing_status == "unpriced", _same_group())
    return _OF.org_id == org_id, func.coalesce(rows.scalar_subquery(), 0) <= 0


def _same_group() -> ColumnElement[bool]:
    return and_(*(_OF[name] == _BY[name] for name in _NAMES))


def _found(org_id: int, row: Any) -> FoundGroup:
    name = GroupName(provider=row.provider or None, model=row.model or None, reason=row.reason)
    return FoundGroup(org_id, name, int(row.rows))

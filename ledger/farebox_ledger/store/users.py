"""Users: whom the rows' references mean. Made when they are first seen; erasing one blanks the address for good.

Rows hold the reference alone, so that erasing touches one row here and none of the books.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, exists, insert, select, update

from farebox_ledger.errors import NotFound
from farebox_ledger.store.administration_tables import deleted_users
from farebox_ledger.store.audit import note
from farebox_ledger.store.rows import clean_text, user_reference
from farebox_ledger.store.schema import users
from farebox_ledger.store.scope import OrgScope, Scope, behind, require, within
from farebox_ledger.store.statements import among, chunks, marks, organizations_in
from farebox_ledger.usage import UsageEvent

UserKey: TypeAlias = tuple[int, str]


class User(msgspec.Struct, frozen=True):
    """One user of an organization. `email` is None when nobody said it, and after erasing."""

    org_id: int
    user_ref: str
    email: str | None
    first_seen_us: int
    erased_at_us: int | None


def note_users(connection: Connection, events: Iterable[UsageEvent]) -> None:
    """Make the users that are seen for the first time, and learn an e-mail that was not known.

    Known users are only read: an upsert would lock their rows, and writers with the same users would wait for each
    other. An erased user's address is not learned again.
    """
    seen = _seen(events)
    known = _known(connection, sorted(seen))
    mark = marks(1, connection.dialect.name)
    made = [(*key, *seen[key]) for key in sorted(seen.keys() - known.keys())]
    if made:
        connection.exec_driver_sql(
            "INSERT INTO users (org_id, user_ref, email, first_seen_us) "
            f"VALUES ({marks(4, connection.dialect.name)}) ON CONFLICT DO NOTHING",
            made,
        )
    learned = [
        (seen[key][0], *key)
        for key, user in sorted(known.items())
        if seen[key][0] is not None and user.email is None and user.erased_at_us is None
    ]
    if learned:
        connection.exec_driver_sql(
            f"UPDATE users SET email = {mark} WHERE org_id = {mark} AND user_ref = {mark} "
            "AND email IS NULL AND erased_at_us IS NULL",
            learned,
        )


def list_users(
    connection: Connection, scope: Scope, *, limit: int, after: UserKey | None = None, email: str | None = None
) -> list[User]:
    """List users by organization and reference, those behind `after` when it is given, or those with an address."""
    listed = select(users).where(within(scope, users.c.org_id), ~_is_deleted())
    if after is not None:
        listed = listed.where(behind(scope, users.c.org_id, users.c.user_ref, after))
    if email is not None:
        listed = listed.where(has_email(scope, email))
    return [_user(row) for row in connection.execute(listed.order_by(users.c.org_id, users.c.user_ref).limit(limit))]


def has_email(scope: Scope, email: str) -> ColumnElement[bool]:
    """Restrict users to those with an address; over all organizations each one's index is asked in turn."""
    mine = users.c.email == clean_text(email)
    return mine if isinstance(scope, OrgScope) else and_(users.c.org_id.in_(organizations_in(users)), mine)


def get_user(connection: Connection, scope: Scope, org_id: int, user_ref: str) -> User:
    """Find a user.

    Raises:
        InvalidInput: the organization is outside the scope.
        NotFound: the organization has no such user, or it was deleted.
    """
    require(scope, org_id)
    mine = (users.c.org_id == org_id, users.c.user_ref == user_ref, ~_is_deleted())
    found = connection.execute(select(users).where(*mine)).one_or_none()
    if found is None:
        raise NotFound("user", user_ref)
    return _user(found)


def delete_user(connection: Connection, scope: Scope, org_id: int, user_ref: str) -> None:
    """Take a user off the list. Rows keep the reference and go on showing the address as it was last known.

    Raises:
        InvalidInput, NotFound: as `get_user`.
    """
    before = get_user(connection, scope, org_id, user_ref)
    now_us = time.time_ns() // 1000
    connection.execute(insert(deleted_users).values(org_id=org_id, user_ref=user_ref, deleted_at_us=now_us))
    note(connection, "user.delete", "user", user_ref, org_id=org_id, before=before)


def erase_user(connection: Connection, scope: Scope, org_id: int, user_ref: str) -> User:
    """Blank a user's address for good; rows keep the reference. Erasing again changes nothing.

    Raises:
        InvalidInput: the organization is outside the scope.
        NotFound: the organization has no such user.
    """
    require(scope, org_id)
    mine = (users.c.org_id == org_id, users.c.user_ref == user_ref)
    changed = connection.execute(
        update(users)
        .where(*mine, users.c.erased_at_us.is_(None))
        .values(email=None, erased_at_us=time.time_ns() // 1000)
    )
    found = connection.execute(select(users).where(*mine)).one_or_none()
    if found is None:
        raise NotFound("user", user_ref)
    if changed.rowcount:
        note(connection, "user.erase", "user", user_ref, org_id=org_id)
    return _user(found)


def _is_deleted() -> ColumnElement[bool]:
    return exists().where(deleted_users.c.org_id == users.c.org_id, deleted_users.c.user_ref == users.c.user_ref)


def _seen(events: Iterable[UsageEvent]) -> dict[UserKey, tuple[str | None, int]]:
    """Gather the users of events with the first address that is said and the first time at which they are seen."""
    seen: dict[UserKey, tuple[str | None, int]] = {}
    for event in events:
        reference = user_reference(event)
        if reference is None:
            continue
        key = (event.org_id, reference)
        stands = seen.get(key)
        if stands is None:
            seen[key] = (clean_text(event.user_email), event.received_at_us)
        elif event.received_at_us < stands[1] or (event.user_email and not stands[0]):
            seen[key] = (stands[0] or clean_text(event.user_email), min(stands[1], event.received_at_us))
    return seen


def _known(connection: Connection, keys: Sequence[UserKey]) -> dict[UserKey, User]:
    known: dict[UserKey, User] = {}
    database = connection.dialect.name
    for org_id in sorted({org_id for org_id, _ in keys}):
        references = [reference for organization, reference in keys if organization == org_id]
        for part in chunks(references):
            is_asked, asked = among("user_ref", part, database)
            found = connection.exec_driver_sql(
                "SELECT org_id, user_ref, email, first_seen_us, erased_at_us FROM users "
                f"WHERE org_id = {marks(1, database)} AND {is_asked}",
                (org_id, *asked),
            )
            known.update(((user.org_id, user.user_ref), user) for user in map(_user, found))
    return known


def _user(row: Row[Any]) -> User:
    return User(row.org_id, row.user_ref, row.email, row.first_seen_us, row.erased_at_us)

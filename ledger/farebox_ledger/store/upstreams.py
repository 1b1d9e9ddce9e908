"""Upstreams: what calls go through on their way to a provider (a gateway, a reseller), by the name that calls carry.

A multiplier may name an upstream; the call says which one it took. Nothing here is dated: an upstream has no price.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, select

from farebox_ledger.errors import Conflict
from farebox_ledger.pricing import canonical_provider
from farebox_ledger.store import audit, subjects
from farebox_ledger.store.catalog_state import lock_catalog, raise_catalog_version
from farebox_ledger.store.price_tables import multipliers, upstreams
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.subjects import Position, Subject

_NOUN = "upstream"


class Upstream(Subject, frozen=True, kw_only=True):
    """One upstream. `provider` None: it leads to several."""

    name: str
    provider: str | None


class UpstreamDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream to be made."""

    name: str
    provider: str | None = None
    notes: str | None = None
    is_active: bool = True


class UpstreamChange(msgspec.Struct, frozen=True, kw_only=True):
    """What changes of an upstream; its name is what calls carry, and stays."""

    provider: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


def _before(connection: Connection, scope: Scope, identity: str) -> Upstream:
    """Read what the audit log keeps of the time before a change, which nobody else makes until this one is done."""
    lock_catalog(connection)
    return get_upstream(connection, scope, identity)


@audit.makes("upstream")
def create_upstream(
    connection: Connection, scope: Scope, draft: UpstreamDraft, *, now_us: int | None = None
) -> Upstream:
    """Make an upstream of the scope's organization, or of everybody.

    Raises:
        InvalidInput: a field cannot be used; names it.
        Conflict: the name is taken; carries the id of who has it.
    """
    org_id = subjects.owner(scope)
    name = subjects.checked_name("name", draft.name)
    key = subjects.subject_key(org_id, name)
    identity = subjects.new_id("ups")
    values = {
        "id": identity,
        "org_id": org_id,
        "name": name,
        "provider": _provider(draft.provider),
        "subject_key": key,
        "notes": subjects.checked_notes(draft.notes),
        "is_active": int(draft.is_active),
    }
    lock_catalog(connection)
    _require_free(connection, key, name)
    subjects.insert_row(connection, upstreams, values, subjects.now_us() if now_us is None else now_us)
    raise_catalog_version(connection)
    return get_upstream(connection, scope, identity)


@audit.changes("upstream", _before)
def change_upstream(
    connection: Connection,
    scope: Scope,
    identity: str,
    wanted: UpstreamChange,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> Upstream:
    """Change an upstream.

    Raises:
        InvalidInput: as `create_upstream`.
        NotFound: it does not exist, or is not the scope's to change.
        Outdated: it is not at `expected_version`.
    """
    lock_catalog(connection)
    subjects.find_own(connection, scope, upstreams, _NOUN, identity, expected_version=expected_version)
    values: dict[str, Any] = {}
    if not isinstance(wanted.provider, UnsetType):
        values["provider"] = _provider(wanted.provider)
    if not isinstance(wanted.notes, UnsetType):
        values["notes"] = subjects.checked_notes(wanted.notes)
    if not isinstance(wanted.is_active, UnsetType):
        values["is_active"] = int(wanted.is_active)
    at_us = subjects.now_us() if now_us is None else now_us
    subjects.touch(connection, upstreams, identity, at_us, **values)
    raise_catalog_version(connection)
    return get_upstream(connection, scope, identity)


@audit.changes("upstream", _before, "delete")
def delete_upstream(
    connection: Connection,
    scope: Scope,
    identity: str,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> None:
    """Take an upstream off the list; rows keep its name.

    Raises:
        NotFound, Outdated: as `change_upstream`.
        Conflict: a multiplier of the same owner still names it; carries that multiplier's id.
    """
    lock_catalog(connection)
    row = subjects.find_own(connection, scope, upstreams, _NOUN, identity, expected_version=expected_version)
    user = connection.execute(
        select(multipliers.c.id).where(
            multipliers.c.upstream == row.name,
            multipliers.c.org_id.is_not_distinct_from(row.org_id),
            multipliers.c.deleted_at_us.is_(None),
        )
    ).scalar()
    if user is not None:
        raise Conflict(f"multiplier {user!r} names upstream {row.name!r}: delete that one first", conflicting_id=user)
    at_us = subjects.now_us() if now_us is None else now_us
    subjects.touch(connection, upstreams, identity, at_us, deleted_at_us=at_us, is_active=0)
    raise_catalog_version(connection)


def get_upstream(connection: Connection, scope: Scope, identity: str) -> Upstream:
    """Find an upstream of the scope's organization or of everybody.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    return _upstream(subjects.find(connection, scope, upstreams, _NOUN, identity))


def list_upstreams(
    connection: Connection, scope: Scope, *, limit: int = 100, after: Position | None = None
) -> list[Upstream]:
    """List upstreams, oldest first: an organization's own and everybody's, all of them for the system."""
    return [_upstream(row) for row in subjects.find_all(connection, scope, upstreams, limit=limit, after=after)]


def _provider(text: str | None) -> str | None:
    return None if text is None else canonical_provider(subjects.checked_name("provider", text))


def _require_free(connection: Connection, key: str, name: str) -> None:
    taken = connection.execute(
        select(upstreams.c.id).where(upstreams.c.subject_key == key, upstreams.c.deleted_at_us.is_(None))
    ).scalar()
    if taken is not None:
        raise Conflict(f"upstream {name!r} exists already: {taken}", conflicting_id=taken)


def _upstream(row: Row[Any]) -> Upstream:
    return Upstream(**subjects.subject_fields(row), name=row.name, provider=row.provider)

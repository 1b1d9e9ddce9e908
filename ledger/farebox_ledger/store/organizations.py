"""Organizations: whose usage is metered. A slug is chosen once and never changes; the number is made from it."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, insert, select
from sqlalchemy.exc import IntegrityError

from farebox_ledger.errors import Conflict, InvalidInput
from farebox_ledger.store.audit import note
from farebox_ledger.store.schema import organizations
from farebox_ledger.store.scope import Scope, within
from farebox_ledger.usage import org_id_of

_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


class Organization(msgspec.Struct, frozen=True):
    """One organization; `slug` is what the API, the commands and URLs call it."""

    org_id: int
    slug: str
    name: str | None
    created_at_us: int


def create_organization(connection: Connection, slug: str, name: str | None = None) -> Organization:
    """Make an organization.

    Raises:
        InvalidInput: the slug is not 1 to 64 of a-z, 0-9, `.`, `_`, `-`, or begins or ends with one of the last three.
        Conflict: the slug is taken.
    """
    if not _SLUG.fullmatch(slug):
        raise InvalidInput(
            "slug",
            f"{slug!r}: expected 1 to 64 of a-z, 0-9, '.', '_', '-', beginning and ending with a letter or digit",
        )
    organization = Organization(org_id_of(slug), slug, name, time.time_ns() // 1000)
    try:
        with connection.begin_nested():
            connection.execute(insert(organizations), msgspec.structs.asdict(organization))
    except IntegrityError:
        raise Conflict(f"organization {slug!r} exists already", conflicting_id=slug) from None
    note(connection, "organization.create", "organization", slug, org_id=organization.org_id, after=organization)
    return organization


def organization_by_slug(connection: Connection, slug: str) -> Organization | None:
    """Find an organization by its slug; a deleted one is not found."""
    found = connection.execute(
        _SELECT.where(organizations.c.slug == slug, organizations.c.deleted_at_us.is_(None))
    ).one_or_none()
    return None if found is None else _organization(found)


def organizations_by_id(connection: Connection, org_ids: Collection[int]) -> dict[int, Organization]:
    """Find organizations by number, deleted ones among them, since their rows stay."""
    if not org_ids:
        return {}
    found = connection.execute(_SELECT.where(organizations.c.org_id.in_(org_ids)))
    return {row.org_id: _organization(row) for row in found}


def list_organizations(
    connection: Connection, scope: Scope, *, limit: int | None = None, after: str | None = None
) -> list[Organization]:
    """List the organizations of the scope that are not deleted, by slug, those behind `after` when it is given.

    The order of slugs is the database's own, so a page goes on where it says.
    """
    listed = _SELECT.where(within(scope, organizations.c.org_id), organizations.c.deleted_at_us.is_(None))
    if after is not None:
        listed = listed.where(organizations.c.slug > after)
    return [_organization(row) for row in connection.execute(listed.order_by(organizations.c.slug).limit(limit))]


_SELECT: Final[Select[Any]] = select(
    organizations.c.org_id, organizations.c.slug, organizations.c.name, organizations.c.created_at_us
)


def _organization(row: Row[Any]) -> Organization:
    return Organization(row.org_id, row.slug, row.name, row.created_at_us)

"""Grants: credits that an account got at once, with the order in which they are used up and the moment they lapse.

What was granted never changes. A grant ends when it expires or is voided, whichever comes first; what is left then is
taken back by a movement.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Connection, Row, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from farebox_ledger.errors import Conflict, NotFound, Outdated
from farebox_ledger.store.credit_tables import GrantKind, credit_grants
from farebox_ledger.store.scope import Scope, require

GrantPosition: TypeAlias = tuple[int, bytes]
"""Where a list of grants goes on: when it was made, its id."""

_OF: Final = credit_grants.c


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A grant. Lower `priority` is used up first; `expires_at_us` None: never."""

    org_id: int
    grant_id: bytes
    account_id: str
    kind: GrantKind
    amount_pico: int
    priority: int
    effective_at_us: int
    expires_at_us: int | None
    external_id: str | None
    description: str | None
    actor: str | None
    created_at_us: int
    voided_at_us: int | None = None
    void_reason: str | None = None
    row_version: int = 1

    @property
    def ends_at_us(self) -> int | None:
        """When it can pay for nothing more; None: as long as something is left."""
        ends = [moment for moment in (self.expires_at_us, self.voided_at_us) if moment is not None]
        return min(ends, default=None)

    @property
    def position(self) -> GrantPosition:
        """Where a list goes on behind it."""
        return (self.created_at_us, self.grant_id)


_COLUMNS: Final = tuple(_OF[name] for name in Grant.__struct_fields__)


def insert_grant(connection: Connection, grant: Grant) -> None:
    """Keep a new grant.

    Raises:
        Conflict: another one has its external id.
    """
    try:
        with connection.begin_nested():
            connection.execute(insert(credit_grants), msgspec.structs.asdict(grant))
    except IntegrityError:
        raise Conflict(f"the external id {grant.external_id!r} is being recorded by somebody else") from None


def get_grant(connection: Connection, scope: Scope, org_id: int, grant_id: bytes, *, hold: bool = False) -> Grant:
    """Find a grant; `hold` keeps it as it is until the transaction ends.

    Raises:
        NotFound: the organization has no such grant.
    """
    found = find_grant(connection, scope, org_id, grant_id, hold=hold)
    if found is None:
        raise NotFound("credit grant", grant_text(grant_id))
    return found


def find_grant(
    connection: Connection, scope: Scope, org_id: int, grant_id: bytes, *, hold: bool = False
) -> Grant | None:
    """Find a grant, None when there is none."""
    require(scope, org_id)
    one = select(*_COLUMNS).where(_OF.org_id == org_id, _OF.grant_id == grant_id)
    row = connection.execute(one.with_for_update() if hold else one).one_or_none()
    return None if row is None else _grant(row)


def list_grants(
    connection: Connection,
    scope: Scope,
    org_id: int,
    *,
    limit: int | None = None,
    account_id: str | None = None,
    kinds: Collection[GrantKind] | None = None,
    before: GrantPosition | None = None,
) -> list[Grant]:
    """List an organization's grants, the latest first."""
    require(scope, org_id)
    listed = select(*_COLUMNS).where(_OF.org_id == org_id)
    if account_id is not None:
        listed = listed.where(_OF.account_id == account_id)
    if kinds is not None:
        listed = listed.where(_OF.kind.in_(sorted(kinds)))
    if before is not None:
        listed = listed.where(tuple_(_OF.created_at_us, _OF.grant_id) < tuple_(*before))
    ordered = listed.order_by(_OF.created_at_us.desc(), _OF.grant_id.desc()).limit(limit)
    return [_grant(row) for row in connection.execute(ordered)]


def end_grant(connection: Connection, grant: Grant, reason: str, *, at_us: int, expected_version: int | None) -> Grant:
    """Note that a grant is void from a moment on.

    Raises:
        Outdated: it is no longer at the expected version.
    """
    if expected_version is not None and expected_version != grant.row_version:
        name = grant_text(grant.grant_id)
        raise Outdated("credit grant", name, expected=expected_version, current=grant.row_version)
    values = {"voided_at_us": at_us, "void_reason": reason, "row_version": grant.row_version + 1}
    mine = (_OF.org_id == grant.org_id, _OF.grant_id == grant.grant_id)
    connection.execute(update(credit_grants).where(*mine).values(**values, settled_at_us=None))
    return msgspec.structs.replace(grant, **values)


def note_settled(connection: Connection, org_id: int, grant_ids: Collection[bytes]) -> None:
    """Note that what was left of grants at their end has been taken back."""
    if grant_ids:
        mine = (_OF.org_id == org_id, _OF.grant_id.in_(sorted(grant_ids)))
        connection.execute(update(credit_grants).where(*mine).values(settled_at_us=time.time_ns() // 1000))


def unsettled_accounts(connection: Connection, org_id: int, now_us: int) -> dict[str, int]:
    """Name the accounts with grants that have ended and were not taken back, each with the first of those moments."""
    ends = func.coalesce(_OF.voided_at_us, _OF.expires_at_us)
    has_ended = or_(_OF.expires_at_us <= now_us, _OF.voided_at_us.is_not(None))
    waiting = (_OF.org_id == org_id, _OF.settled_at_us.is_(None), has_ended)
    found = connection.execute(select(_OF.account_id, func.min(ends)).where(*waiting).group_by(_OF.account_id))
    return {account_id: int(end_us) for account_id, end_us in found}


def grant_text(grant_id: bytes) -> str:
    """Write a grant's outward id."""
    return f"crg_{grant_id.hex()}"


def grant_id_of(text: str) -> bytes:
    """Read a grant's outward id.

    Raises:
        NotFound: it has another form, so that no grant can have it.
    """
    prefix, _, digits = text.partition("_")
    if prefix != "crg" or len(digits) != 32 or not set(digits) <= set("0123456789abcdef"):
        raise NotFound("credit grant", text)
    return bytes.fromhex(digits)


def _grant(row: Row[Any]) -> Grant:
    fields = {name: getattr(row, name) for name in Grant.__struct_fields__}
    fields["grant_id"] = bytes(row.grant_id)
    return Grant(**fields)

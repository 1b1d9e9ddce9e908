"""Multipliers: dated factors from list to billed amounts, for an upstream, a provider, an organization, or for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, insert, select

from farebox_ledger.errors import InvalidInput
from farebox_ledger.money import decimal_text
from farebox_ledger.pricing import Multiplier, canonical_provider
from farebox_ledger.pricing.units import checked_decimal
from farebox_ledger.store import audit, subjects
from farebox_ledger.store.catalog_state import lock_catalog
from farebox_ledger.store.price_tables import multiplier_terms, multipliers
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.subjects import Kind, Opening, Position, Redated, Subject, Term

MAX_FACTOR: Final = Decimal(1000)

KIND: Final = Kind("multiplier", "mul", multipliers, multiplier_terms, multiplier_terms)


class MultiplierTerm(Term, frozen=True, kw_only=True):
    """The factor for a span of time."""

    factor: Decimal


class PriceMultiplier(Subject, frozen=True, kw_only=True):
    """A factor on list amounts. `upstream` and `provider` None mean any; the most specific multiplier holds."""

    upstream: str | None
    provider: str | None
    terms: tuple[MultiplierTerm, ...]


class MultiplierDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A multiplier to be made; `effective_from_us` None means since ever."""

    factor: Decimal
    upstream: str | None = None
    provider: str | None = None
    effective_from_us: int | None = None
    effective_to_us: int | None = None
    notes: str | None = None
    is_active: bool = True


class MultiplierChange(Redated, frozen=True, kw_only=True):
    """What changes of a multiplier; its upstream and provider are what it is, and stay."""

    factor: Decimal | UnsetType = UNSET


def _before(connection: Connection, scope: Scope, identity: str) -> PriceMultiplier:
    """Read what the audit log keeps of the time before a change, which nobody else makes until this one is done."""
    lock_catalog(connection)
    return get_multiplier(connection, scope, identity)


@audit.makes("multiplier")
def create_multiplier(
    connection: Connection, scope: Scope, draft: MultiplierDraft, *, now_us: int | None = None
) -> PriceMultiplier:
    """Make a multiplier of the scope's organization, or of everybody.

    Raises:
        InvalidInput: a field cannot be used; names it.
        Conflict: another multiplier has the same names at the same time; carries its id.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    org_id = subjects.owner(scope)
    upstream = None if draft.upstream is None else subjects.checked_name("upstream", draft.upstream)
    provider = None if draft.provider is None else canonical_provider(subjects.checked_name("provider", draft.provider))
    new = subjects.New(
        org_id=org_id,
        subject_key=subjects.subject_key(org_id, upstream, provider),
        opened=(draft.effective_from_us, draft.effective_to_us),
        at_us=at_us,
        values={"upstream": upstream, "provider": provider},
        notes=draft.notes,
        is_active=draft.is_active,
    )
    identity = subjects.make(connection, KIND, new, _opening(connection, checked_factor(draft.factor), at_us))
    return get_multiplier(connection, scope, identity)


@audit.changes("multiplier", _before)
def change_multiplier(
    connection: Connection,
    scope: Scope,
    identity: str,
    wanted: MultiplierChange,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> PriceMultiplier:
    """Change a multiplier; a new factor opens new terms, from now on unless the change says otherwise.

    Raises:
        InvalidInput, Conflict: as `create_multiplier`.
        NotFound: it does not exist, or is not the scope's to change.
        Outdated: it is not at `expected_version`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    lock_catalog(connection)
    row = subjects.find_own(connection, scope, multipliers, KIND.noun, identity, expected_version=expected_version)
    old = subjects.standing_term(_multiplier(connection, row).terms, at_us).factor
    new = old if isinstance(wanted.factor, UnsetType) else checked_factor(wanted.factor)
    subjects.change(connection, KIND, row, wanted, _opening(connection, new, at_us), says_new=new != old, at_us=at_us)
    return get_multiplier(connection, scope, identity)


@audit.changes("multiplier", _before, "delete")
def delete_multiplier(
    connection: Connection,
    scope: Scope,
    identity: str,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> None:
    """End a multiplier now; calls of its time keep its factor.

    Raises:
        NotFound, Outdated: as `change_multiplier`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    subjects.delete(connection, scope, KIND, identity, expected_version=expected_version, at_us=at_us)


def get_multiplier(connection: Connection, scope: Scope, identity: str) -> PriceMultiplier:
    """Find a multiplier of the scope's organization or of everybody.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    return _multiplier(connection, subjects.find(connection, scope, multipliers, KIND.noun, identity))


def list_multipliers(
    connection: Connection,
    scope: Scope,
    *,
    upstream: str | None = None,
    provider: str | None = None,
    limit: int = 100,
    after: Position | None = None,
) -> list[PriceMultiplier]:
    """List multipliers, oldest first: an organization's own and everybody's, all of them for the system."""
    conditions = []
    if upstream is not None:
        conditions.append(multipliers.c.upstream == upstream)
    if provider is not None:
        conditions.append(multipliers.c.provider == canonical_provider(provider))
    rows = subjects.find_all(connection, scope, multipliers, *conditions, limit=limit, after=after)
    terms = _terms(connection, [row.id for row in rows])
    return [_with_terms(row, terms[row.id]) for row in rows]


def all_multipliers(connection: Connection) -> list[Multiplier]:
    """Read all multipliers as the price book takes them, each with its dates, those of deleted ones among them."""
    listed = select(
        multiplier_terms.c.id,
        multiplier_terms.c.factor,
        multipliers.c.org_id,
        multipliers.c.upstream,
        multipliers.c.provider,
        multiplier_terms.c.effective_from_us,
        multiplier_terms.c.effective_to_us,
    ).where(multiplier_terms.c.subject_id == multipliers.c.id, multiplier_terms.c.withdrawn_at_us.is_(None))
    return [Multiplier(**{**row._mapping, "factor": Decimal(row.factor)}) for row in connection.execute(listed)]


def checked_factor(factor: Decimal) -> Decimal:
    """Answer a factor above 0, at most 1000, with at most 12 decimal places.

    Raises:
        InvalidInput: it is not.
    """
    if checked_decimal("factor", factor, most=MAX_FACTOR) == 0:
        raise InvalidInput("factor", "expected a number above 0; an override with `free` makes calls free")
    return factor


def _opening(connection: Connection, factor: Decimal, at_us: int) -> Opening:
    def open_term(identity: str, from_us: int | None, to_us: int | None) -> str:
        term_id = subjects.new_id("mlt")
        connection.execute(
            insert(multiplier_terms).values(
                id=term_id,
                subject_id=identity,
                factor=decimal_text(factor),
                effective_from_us=from_us,
                effective_to_us=to_us,
                created_at_us=at_us,
            )
        )
        return term_id

    return open_term


def _multiplier(connection: Connection, row: Row[Any]) -> PriceMultiplier:
    return _with_terms(row, _terms(connection, [row.id])[row.id])


def _with_terms(row: Row[Any], terms: list[MultiplierTerm]) -> PriceMultiplier:
    return PriceMultiplier(
        **subjects.subject_fields(row), upstream=row.upstream, provider=row.provider, terms=subjects.in_order(terms)
    )


def _terms(connection: Connection, identities: Collection[str]) -> dict[str, list[MultiplierTerm]]:
    """Read the terms of some multipliers in no promised order."""
    terms = multiplier_terms
    listed = select(terms).where(terms.c.subject_id.in_(identities))
    found: dict[str, list[MultiplierTerm]] = defaultdict(list)
    for row in connection.execute(listed):
        found[row.subject_id].append(MultiplierTerm(**subjects.term_fields(row), factor=Decimal(row.factor)))
    return found

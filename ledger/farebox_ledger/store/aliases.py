"""Model aliases: names that stand for other models (an Azure deployment, a gateway's name), dated.

An alias is found by the very name that a call carries, and only after no price has that name. It may also say which
model configuration a call under that name belongs to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, func, insert, select

from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing import ModelAlias, canonical_provider
from farebox_ledger.pricing.names import comparable
from farebox_ledger.store import audit, subjects
from farebox_ledger.store.catalog_state import lock_catalog
from farebox_ledger.store.price_tables import model_alias_terms, model_aliases, model_configs
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.subjects import Kind, Opening, Position, Redated, Subject, Term

KIND: Final = Kind("model alias", "als", model_aliases, model_alias_terms, model_alias_terms)


class AliasTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What a name stands for. `target_provider` None keeps the call's own; a configuration may be named or not."""

    target_model: str
    target_provider: str | None = None
    model_config_id: str | None = None


class AliasTerm(Term, frozen=True, kw_only=True):
    """What the name stands for during a span of time."""

    target: AliasTarget


class AdministeredAlias(Subject, frozen=True, kw_only=True):
    """A name for another model. `provider` None: in calls of any provider."""

    alias: str
    provider: str | None
    terms: tuple[AliasTerm, ...]


class AliasDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An alias to be made; `effective_from_us` None means since ever."""

    alias: str
    target: AliasTarget
    provider: str | None = None
    effective_from_us: int | None = None
    effective_to_us: int | None = None
    notes: str | None = None
    is_active: bool = True


class AliasChange(Redated, frozen=True, kw_only=True):
    """What changes of an alias; its name and provider are what it is, and stay."""

    target_model: str | UnsetType = UNSET
    target_provider: str | UnsetType | None = UNSET
    model_config_id: str | UnsetType | None = UNSET


def _before(connection: Connection, scope: Scope, identity: str) -> AdministeredAlias:
    """Read what the audit log keeps of the time before a change, which nobody else makes until this one is done."""
    lock_catalog(connection)
    return get_alias(connection, scope, identity)


@audit.makes("model_alias")
def create_alias(
    connection: Connection, scope: Scope, draft: AliasDraft, *, now_us: int | None = None
) -> AdministeredAlias:
    """Make an alias of the scope's organization, or of everybody.

    Raises:
        InvalidInput: a field cannot be used; names it.
        Conflict: another alias has the same name at the same time; carries its id.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    org_id = subjects.owner(scope)
    alias = subjects.checked_name("alias", draft.alias)
    provider = None if draft.provider is None else canonical_provider(subjects.checked_name("provider", draft.provider))
    target = _checked_target(connection, org_id, alias, provider, draft.target)
    new = subjects.New(
        org_id=org_id,
        subject_key=subjects.subject_key(org_id, provider, comparable(alias)),
        opened=(draft.effective_from_us, draft.effective_to_us),
        at_us=at_us,
        values={"alias": alias, "provider": provider},
        notes=draft.notes,
        is_active=draft.is_active,
    )
    identity = subjects.make(connection, KIND, new, _opening(connection, target, at_us))
    return get_alias(connection, scope, identity)


@audit.changes("model_alias", _before)
def change_alias(
    connection: Connection,
    scope: Scope,
    identity: str,
    wanted: AliasChange,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> AdministeredAlias:
    """Change an alias; a new target opens new terms, from now on unless the change says otherwise.

    Raises:
        InvalidInput, Conflict: as `create_alias`.
        NotFound: it does not exist, or is not the scope's to change.
        Outdated: it is not at `expected_version`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    lock_catalog(connection)
    row = subjects.find_own(connection, scope, model_aliases, KIND.noun, identity, expected_version=expected_version)
    old = subjects.standing_term(_alias(connection, row).terms, at_us).target
    said = {
        name: value
        for name in AliasTarget.__struct_fields__
        if not isinstance(value := getattr(wanted, name), UnsetType)
    }
    new = _checked_target(connection, row.org_id, row.alias, row.provider, msgspec.structs.replace(old, **said))
    subjects.change(connection, KIND, row, wanted, _opening(connection, new, at_us), says_new=new != old, at_us=at_us)
    return get_alias(connection, scope, identity)


@audit.changes("model_alias", _before, "delete")
def delete_alias(
    connection: Connection,
    scope: Scope,
    identity: str,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> None:
    """End an alias now; calls of its time keep what it stood for.

    Raises:
        NotFound, Outdated: as `change_alias`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    subjects.delete(connection, scope, KIND, identity, expected_version=expected_version, at_us=at_us)


def get_alias(connection: Connection, scope: Scope, identity: str) -> AdministeredAlias:
    """Find an alias of the scope's organization or of everybody.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    return _alias(connection, subjects.find(connection, scope, model_aliases, KIND.noun, identity))


def list_aliases(
    connection: Connection,
    scope: Scope,
    *,
    search: str | None = None,
    provider: str | None = None,
    limit: int = 100,
    after: Position | None = None,
) -> list[AdministeredAlias]:
    """List aliases, oldest first: an organization's own and everybody's, all of them for the system.

    `search` is a part of the name in any case.
    """
    conditions = []
    if search is not None:
        conditions.append(func.lower(model_aliases.c.alias).contains(search.lower(), autoescape=True))
    if provider is not None:
        conditions.append(model_aliases.c.provider == canonical_provider(provider))
    rows = subjects.find_all(connection, scope, model_aliases, *conditions, limit=limit, after=after)
    terms = _terms(connection, [row.id for row in rows])
    return [_with_terms(row, terms[row.id]) for row in rows]


def all_aliases(connection: Connection) -> list[ModelAlias]:
    """Read all aliases as the price book takes them, each with its dates, those of deleted ones among them."""
    aliases, terms = model_aliases, model_alias_terms
    listed = select(
        terms.c.id,
        aliases.c.alias,
        terms.c.target_model,
        aliases.c.org_id,
        aliases.c.provider,
        terms.c.target_provider,
        terms.c.effective_from_us,
        terms.c.effective_to_us,
        terms.c.model_config_id,
    ).where(terms.c.subject_id == aliases.c.id, terms.c.withdrawn_at_us.is_(None))
    return [ModelAlias(**row._mapping) for row in connection.execute(listed)]


def _checked_target(
    connection: Connection, org_id: int | None, alias: str, provider: str | None, target: AliasTarget
) -> AliasTarget:
    model = subjects.checked_name("target_model", target.target_model)
    target_provider = target.target_provider
    if target_provider is not None:
        target_provider = canonical_provider(subjects.checked_name("target_provider", target_provider))
    if comparable(model) == comparable(alias) and target_provider in (None, provider):
        raise InvalidInput("target_model", "is the alias itself; name the model that it stands for")
    if target.model_config_id is not None:
        _require_config(connection, org_id, target.model_config_id)
    return AliasTarget(target_model=model, target_provider=target_provider, model_config_id=target.model_config_id)


def _require_config(connection: Connection, org_id: int | None, identity: str) -> None:
    found = connection.execute(
        select(model_configs.c.org_id).where(model_configs.c.id == identity, model_configs.c.deleted_at_us.is_(None))
    ).scalar()
    if found is None or found != org_id:
        raise InvalidInput("model_config", f"{identity[:64]!r} is no model configuration of the alias's organization")


def _opening(connection: Connection, target: AliasTarget, at_us: int) -> Opening:
    def open_term(identity: str, from_us: int | None, to_us: int | None) -> str:
        term_id = subjects.new_id("alt")
        connection.execute(
            insert(model_alias_terms).values(
                id=term_id,
                subject_id=identity,
                **msgspec.structs.asdict(target),
                effective_from_us=from_us,
                effective_to_us=to_us,
                created_at_us=at_us,
            )
        )
        return term_id

    return open_term


def _alias(connection: Connection, row: Row[Any]) -> AdministeredAlias:
    return _with_terms(row, _terms(connection, [row.id])[row.id])


def _with_terms(row: Row[Any], terms: list[AliasTerm]) -> AdministeredAlias:
    return AdministeredAlias(
        **subjects.subject_fields(row), alias=row.alias, provider=row.provider, terms=subjects.in_order(terms)
    )


def _terms(connection: Connection, identities: Collection[str]) -> dict[str, list[AliasTerm]]:
    """Read the terms of some aliases in no promised order."""
    terms = model_alias_terms
    listed = select(terms).where(terms.c.subject_id.in_(identities))
    found: dict[str, list[AliasTerm]] = defaultdict(list)
    for row in connection.execute(listed):
        target = AliasTarget(
            target_model=row.target_model, target_provider=row.target_provider, model_config_id=row.model_config_id
        )
        found[row.subject_id].append(AliasTerm(**subjects.term_fields(row), target=target))
    return found

"""Model configurations: models as an organization has set them up, each with a name and, where it likes, own prices.

The prices of a configuration are the organization's override of its model, so that there is one place where a price
stands; two configurations of one model share it. Which configuration a call belongs to is decided in `pricing`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, select

from farebox_ledger.errors import Conflict, InvalidInput
from farebox_ledger.pricing import canonical_provider
from farebox_ledger.pricing.configurations import ModelConfiguration
from farebox_ledger.store import audit, subjects
from farebox_ledger.store.catalog_state import lock_catalog, raise_catalog_version
from farebox_ledger.store.overrides import (
    OverrideChange,
    OverrideDraft,
    PriceOverride,
    change_override,
    create_override,
    delete_override,
    overrides_by_id,
)
from farebox_ledger.store.price_tables import model_configs
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.store.subjects import Position, Subject

_NOUN: Final = "model configuration"


class ModelConfig(Subject, frozen=True, kw_only=True):
    """One configuration. `override` holds its prices, None where those of the catalog apply."""

    name: str
    provider: str
    model: str
    is_default: bool
    override: PriceOverride | None


class ModelConfigDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration to be made. `prices` is the override that it brings; its provider and model are replaced."""

    name: str
    provider: str
    model: str
    is_default: bool = False
    prices: OverrideDraft | None = None
    notes: str | None = None
    is_active: bool = True


class ModelConfigChange(msgspec.Struct, frozen=True, kw_only=True):
    """What changes of a configuration; its provider and model are what it is, and stay.

    `prices` changes the override that the configuration has, or makes one; None deletes it.
    """

    name: str | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    prices: OverrideChange | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


def _before(connection: Connection, scope: Scope, identity: str) -> ModelConfig:
    """Read what the audit log keeps of the time before a change, which nobody else makes until this one is done."""
    lock_catalog(connection)
    return get_model_config(connection, scope, identity)


@audit.makes("model_config")
def create_model_config(
    connection: Connection, scope: OrgScope, draft: ModelConfigDraft, *, now_us: int | None = None
) -> ModelConfig:
    """Make a configuration of the scope's organization.

    Raises:
        InvalidInput: a field cannot be used; names it.
        Conflict: the name is taken, or the model has an override already; carries the id of what stands in the way.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    name = subjects.checked_name("name", draft.name)
    provider = canonical_provider(subjects.checked_name("provider", draft.provider))
    assert provider is not None, "a name that is not empty"
    model = subjects.checked_name("model", draft.model)
    notes = subjects.checked_notes(draft.notes)
    lock_catalog(connection)
    _require_free(connection, scope.org_id, name)
    override = None
    if draft.prices is not None:
        priced = msgspec.structs.replace(draft.prices, provider=provider, model=model)
        override = create_override(connection, scope, priced, now_us=at_us)
    if draft.is_default:
        _clear_default(connection, scope.org_id, at_us)
    identity = subjects.new_id("mcf")
    values = {
        "id": identity,
        "org_id": scope.org_id,
        "name": name,
        "provider": provider,
        "model": model,
        "is_default": int(draft.is_default),
        "override_id": override.id if override else None,
        "notes": notes,
        "is_active": int(draft.is_active),
    }
    subjects.insert_row(connection, model_configs, values, at_us)
    raise_catalog_version(connection)
    return get_model_config(connection, scope, identity)


@audit.changes("model_config", _before)
def change_model_config(
    connection: Connection,
    scope: Scope,
    identity: str,
    wanted: ModelConfigChange,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> ModelConfig:
    """Change a configuration; other prices are dated, as those of an override are.

    Raises:
        InvalidInput, Conflict: as `create_model_config`.
        NotFound: it does not exist, or is not the scope's to change.
        Outdated: it is not at `expected_version`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    lock_catalog(connection)
    row = subjects.find_own(connection, scope, model_configs, _NOUN, identity, expected_version=expected_version)
    values: dict[str, Any] = {}
    if not isinstance(wanted.name, UnsetType):
        values["name"] = subjects.checked_name("name", wanted.name)
        if values["name"] != row.name:
            _require_free(connection, row.org_id, values["name"])
    if not isinstance(wanted.is_default, UnsetType):
        values["is_default"] = int(wanted.is_default)
        if wanted.is_default:
            _clear_default(connection, row.org_id, at_us, keep=identity)
    if not isinstance(wanted.notes, UnsetType):
        values["notes"] = subjects.checked_notes(wanted.notes)
    if not isinstance(wanted.is_active, UnsetType):
        values["is_active"] = int(wanted.is_active)
    if not isinstance(wanted.prices, UnsetType):
        values["override_id"] = _price_anew(connection, row, wanted.prices, at_us)
    subjects.touch(connection, model_configs, identity, at_us, **values)
    raise_catalog_version(connection)
    return get_model_config(connection, scope, identity)


@audit.changes("model_config", _before, "delete")
def delete_model_config(
    connection: Connection,
    scope: Scope,
    identity: str,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> None:
    """Delete a configuration and retire the prices that it brought; rows keep its id.

    Raises:
        NotFound, Outdated: as `change_model_config`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    lock_catalog(connection)
    row = subjects.find_own(connection, scope, model_configs, _NOUN, identity, expected_version=expected_version)
    if _own_override(connection, row) is not None:
        delete_override(connection, OrgScope(row.org_id), row.override_id, now_us=at_us)
    subjects.touch(connection, model_configs, identity, at_us, deleted_at_us=at_us, is_active=0, is_default=0)
    raise_catalog_version(connection)


def get_model_config(connection: Connection, scope: Scope, identity: str) -> ModelConfig:
    """Find a configuration of the scope.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    return _configs(connection, [subjects.find(connection, scope, model_configs, _NOUN, identity)])[0]


def list_model_configs(
    connection: Connection, scope: Scope, *, limit: int = 100, after: Position | None = None
) -> list[ModelConfig]:
    """List the configurations of the scope, oldest first."""
    rows = subjects.find_all(connection, scope, model_configs, limit=limit, after=after)
    return _configs(connection, rows)


def model_config_names(connection: Connection, said: Collection[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """Answer the names of configurations that rows mention, by (organization, id); deleted ones among them.

    A row may say whatever its sender liked: the id of another organization's configuration has no name here.
    """
    if not said:
        return {}
    table = model_configs
    listed = select(table.c.org_id, table.c.id, table.c.name).where(table.c.id.in_({identity for _, identity in said}))
    return {(row.org_id, row.id): row.name for row in connection.execute(listed) if (row.org_id, row.id) in said}


def all_model_configs(connection: Connection) -> list[ModelConfiguration]:
    """Read the active configurations as calls are sorted by them."""
    columns = (model_configs.c.id, model_configs.c.org_id, model_configs.c.name, model_configs.c.is_default)
    listed = select(*columns).where(model_configs.c.deleted_at_us.is_(None), model_configs.c.is_active == 1)
    return [
        ModelConfiguration(id=row.id, org_id=row.org_id, name=row.name, is_default=bool(row.is_default))
        for row in connection.execute(listed)
    ]


def _price_anew(connection: Connection, row: Row[Any], wanted: OverrideChange | None, at_us: int) -> str | None:
    """Give the configuration other prices; answers the id of the override that holds them."""
    scope = OrgScope(row.org_id)
    override = _own_override(connection, row)
    if wanted is None:
        if override is not None:
            delete_override(connection, scope, override.id, now_us=at_us)
        return None
    if override is not None:
        return change_override(connection, scope, override.id, wanted, now_us=at_us).id
    said: dict[str, Any] = {
        name: value
        for name in OverrideDraft.__struct_fields__
        if hasattr(wanted, name) and not isinstance(value := getattr(wanted, name), UnsetType)
    }
    if None in (said.get("prices") or {}).values():
        raise InvalidInput("prices", "there is no price yet that could be taken away")
    draft = OverrideDraft(**{**said, "provider": row.provider, "model": row.model})
    return create_override(connection, scope, draft, now_us=at_us).id


def _own_override(connection: Connection, row: Row[Any]) -> PriceOverride | None:
    """Answer the override that holds the configuration's prices; one that was deleted by itself is none."""
    return _configs(connection, [row])[0].override


def _require_free(connection: Connection, org_id: int, name: str) -> None:
    taken = connection.execute(
        select(model_configs.c.id).where(
            model_configs.c.org_id == org_id, model_configs.c.name == name, model_configs.c.deleted_at_us.is_(None)
        )
    ).scalar()
    if taken is not None:
        raise Conflict(f"model configuration {name!r} exists already: {taken}", conflicting_id=taken)


def _clear_default(connection: Connection, org_id: int, at_us: int, *, keep: str | None = None) -> None:
    others = select(model_configs.c.id).where(model_configs.c.org_id == org_id, model_configs.c.is_default == 1)
    for other in connection.execute(others).scalars().all():
        if other != keep:
            subjects.touch(connection, model_configs, other, at_us, is_default=0)


def _configs(connection: Connection, rows: Sequence[Row[Any]]) -> list[ModelConfig]:
    identities = {row.override_id for row in rows if row.override_id is not None}
    overrides = overrides_by_id(connection, AllOrganizations(), identities)
    return [
        ModelConfig(
            **subjects.subject_fields(row),
            name=row.name,
            provider=row.provider,
            model=row.model,
            is_default=bool(row.is_default),
            override=overrides.get(row.override_id),
        )
        for row in rows
    ]

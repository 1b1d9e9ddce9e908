"""Organizations and their keys, as answers and as bodies."""

from __future__ import annotations

import time
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from farebox_api.bodies import Input
from farebox_api.parameters import SLUG_PATTERN
from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import Timestamp, optional_timestamp, timestamp
from farebox_ledger.store.keys import KeyRecord
from farebox_ledger.store.organizations import Organization

Slug: TypeAlias = Annotated[str, Meta(pattern=SLUG_PATTERN, max_length=64)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
KeyScope: TypeAlias = Literal[
    "ingest", "usage:read", "usage:read:own", "usage:write", "prices:read", "prices:write", "credits:read",
    "credits:write", "budgets:read", "budgets:write", "export", "admin",
]  # fmt: skip


class OrganizationAnswer(msgspec.Struct, frozen=True):
    """One organization; its slug never changes and is its name in every address and filter."""

    slug: str
    name: str | None
    created_at: Timestamp


class OrganizationPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[OrganizationAnswer]


class OrganizationInput(Input, frozen=True):
    """A new organization."""

    slug: Slug
    name: Name | None = None


class KeyAnswer(msgspec.Struct, frozen=True):
    """A key, without the key. `organization` null marks a system key.

    `requests_per_minute` null: the server's settings decide. `last_used_at`, to the minute, null: not yet.
    """

    id: str
    prefix: str
    organization: str | None
    name: str | None
    scopes: list[str]
    created_at: Timestamp
    expires_at: Timestamp | None
    requests_per_minute: int | None
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None
    is_active: bool


class KeyPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[KeyAnswer]


class NewKeyAnswer(msgspec.Struct, frozen=True):
    """A key that was just made; `key` is shown this once."""

    id: str
    key: str
    prefix: str
    organization: str | None
    name: str | None
    scopes: list[str]
    created_at: Timestamp
    expires_at: Timestamp | None
    requests_per_minute: int | None


class KeyInput(Input, frozen=True):
    """A new key: of an organization, or with `system` true one that sees all organizations."""

    scopes: Annotated[list[KeyScope], Meta(min_length=1, max_length=12)]
    organization: Slug | None = None
    system: bool = False
    name: Name | None = None
    expires_at: Annotated[str, Meta(max_length=64, extra_json_schema={"format": "date-time"})] | None = None
    requests_per_minute: Annotated[int, Meta(ge=1, le=999_999_999)] | None = None


def organization_answer(organization: Organization) -> OrganizationAnswer:
    """Write an organization."""
    return OrganizationAnswer(organization.slug, organization.name, timestamp(organization.created_at_us))


def key_answer(record: KeyRecord, requests_per_minute: int | None, last_used_us: int | None) -> KeyAnswer:
    """Write what may be seen of a key; its hash is not among it."""
    return KeyAnswer(
        id=record.id,
        prefix=record.prefix,
        organization=record.org_slug,
        name=record.name,
        scopes=list(record.scopes),
        created_at=timestamp(record.created_at_us),
        expires_at=optional_timestamp(record.expires_at_us),
        requests_per_minute=requests_per_minute,
        revoked_at=optional_timestamp(record.revoked_at_us),
        last_used_at=optional_timestamp(last_used_us),
        is_active=record.is_active(time.time_ns() // 1000),
    )


def new_key_answer(record: KeyRecord, key: str, requests_per_minute: int | None) -> NewKeyAnswer:
    """Write a key that was just made, the key itself included."""
    return NewKeyAnswer(
        id=record.id,
        key=key,
        prefix=record.prefix,
        organization=record.org_slug,
        name=record.name,
        scopes=list(record.scopes),
        created_at=timestamp(record.created_at_us),
        expires_at=optional_timestamp(record.expires_at_us),
        requests_per_minute=requests_per_minute,
    )

"""API keys: what senders and readers show. The database holds a hash; the key itself is seen once, when it is made."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Collection
from hashlib import sha256
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, insert, select, tuple_, update

from farebox_ledger.errors import InvalidInput, NotFound
from farebox_ledger.store.administration_tables import key_limits
from farebox_ledger.store.audit import note
from farebox_ledger.store.schema import api_keys, organizations
from farebox_ledger.store.scope import Scope, within

KEY_SCOPES: Final = (
    "ingest", "usage:read", "usage:read:own", "usage:write", "prices:read", "prices:write", "credits:read",
    "credits:write", "budgets:read", "budgets:write", "export", "admin",
)  # fmt: skip
"""What a key can be allowed to do (docs/administration.md)."""

_ALPHABET: Final = string.ascii_letters + string.digits


class KeyRecord(msgspec.Struct, frozen=True):
    """What the database knows of a key. `org_id` None marks a system key, which sees all organizations."""

    id: str
    prefix: str
    hash: bytes
    org_id: int | None
    org_slug: str | None
    name: str | None
    scopes: tuple[str, ...]
    created_at_us: int
    expires_at_us: int | None
    revoked_at_us: int | None

    def is_active(self, now_us: int) -> bool:
        """Say whether the key opens anything at that time (microseconds since 1970 in UTC)."""
        return self.revoked_at_us is None and (self.expires_at_us is None or now_us < self.expires_at_us)


def create_key(
    connection: Connection,
    *,
    org_id: int | None,
    scopes: Collection[str],
    name: str | None = None,
    expires_at_us: int | None = None,
    requests_per_minute: int | None = None,
) -> tuple[KeyRecord, str]:
    """Make a key; the second of the pair is its text `fbx_<prefix>_<secret>`, which nobody can see again.

    Raises:
        InvalidInput: no scope, an unknown scope, an end that has already passed, or a limit that is none.
        NotFound: no organization has that number.
    """
    now_us = time.time_ns() // 1000
    _require_known(scopes)
    if expires_at_us is not None and expires_at_us <= now_us:
        raise InvalidInput("expires_at", "the key would have expired before it was made")
    if requests_per_minute is not None and not 0 < requests_per_minute < 1_000_000_000:
        raise InvalidInput("requests_per_minute", "expected a whole number above 0")
    slug = _slug_of(connection, org_id)
    prefix, secret = (_random_text(length) for length in (8, 43))
    text = f"fbx_{prefix}_{secret}"
    record = KeyRecord(
        id=f"key_{secrets.token_hex(8)}",
        prefix=f"fbx_{prefix}",
        hash=hash_key(text),
        org_id=org_id,
        org_slug=slug,
        name=name,
        scopes=tuple(sorted(set(scopes))),
        created_at_us=now_us,
        expires_at_us=expires_at_us,
        revoked_at_us=None,
    )
    columns = msgspec.structs.asdict(record) | {"scopes": msgspec.json.encode(record.scopes).decode()}
    del columns["org_slug"]
    connection.execute(insert(api_keys), columns)
    if requests_per_minute is not None:
        connection.execute(insert(key_limits).values(key_id=record.id, requests_per_minute=requests_per_minute))
    limits = {"requests_per_minute": requests_per_minute}
    note(connection, "api_key.create", "api_key", record.id, org_id=org_id, after=msgspec.to_builtins(record) | limits)
    return record, text


def hash_key(text: str) -> bytes:
    """Hash a key for storing and comparing. One round of SHA-256 suffices: the secret has 256 random bits."""
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def key_by_hash(connection: Connection, hashed: bytes) -> KeyRecord | None:
    """Find a key by its hash, whether it is active or not."""
    found = connection.execute(_SELECT.where(api_keys.c.hash == hashed)).one_or_none()
    return None if found is None else _record(found)


def all_keys(connection: Connection, scope: Scope) -> list[KeyRecord]:
    """List the keys of the scope, revoked ones among them, oldest first. System keys are in nobody's own scope."""
    listed = _SELECT.where(within(scope, api_keys.c.org_id)).order_by(api_keys.c.created_at_us, api_keys.c.id)
    return [_record(row) for row in connection.execute(listed)]


def list_keys(
    connection: Connection, scope: Scope, *, limit: int, after: tuple[int, str] | None = None
) -> list[tuple[KeyRecord, int | None]]:
    """List some keys of the scope with their requests a minute, as `all_keys`, behind `after` (created, id)."""
    order = (api_keys.c.created_at_us, api_keys.c.id)
    limits = key_limits.c.requests_per_minute
    listed = _SELECT.add_columns(limits).outerjoin(key_limits, key_limits.c.key_id == api_keys.c.id)
    listed = listed.where(within(scope, api_keys.c.org_id)).order_by(*order).limit(limit)
    if after is not None:
        listed = listed.where(tuple_(*order) > tuple_(*after))
    return [(_record(row), row.requests_per_minute) for row in connection.execute(listed)]


def revoke_key(connection: Connection, scope: Scope, key_id: str) -> KeyRecord:
    """End a key now; revoking it again changes nothing.

    Raises:
        NotFound: no key of the scope has that id.
    """
    mine = (api_keys.c.id == key_id, within(scope, api_keys.c.org_id))
    changed = connection.execute(
        update(api_keys).where(*mine, api_keys.c.revoked_at_us.is_(None)).values(revoked_at_us=time.time_ns() // 1000)
    )
    found = connection.execute(_SELECT.where(*mine)).one_or_none()
    if found is None:
        raise NotFound("key", key_id)
    record = _record(found)
    if changed.rowcount:
        note(connection, "api_key.revoke", "api_key", key_id, org_id=record.org_id, after=record)
    return record


_SELECT: Final = select(api_keys, organizations.c.slug).select_from(api_keys.outerjoin(organizations))


def key_limit(connection: Connection, key_id: str) -> int | None:
    """Answer how many requests a minute a key may send; None where the settings decide."""
    return connection.scalar(select(key_limits.c.requests_per_minute).where(key_limits.c.key_id == key_id))


def _record(row: Row[Any]) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        prefix=row.prefix,
        hash=bytes(row.hash),
        org_id=row.org_id,
        org_slug=row.slug,
        name=row.name,
        scopes=msgspec.json.decode(row.scopes, type=tuple[str, ...]),
        created_at_us=row.created_at_us,
        expires_at_us=row.expires_at_us,
        revoked_at_us=row.revoked_at_us,
    )


def _require_known(scopes: Collection[str]) -> None:
    unknown = sorted(set(scopes) - set(KEY_SCOPES))
    if unknown or not scopes:
        problem = f"unknown scope {unknown[0]!r}" if unknown else "a key needs at least one scope"
        raise InvalidInput("scopes", f"{problem}; the scopes are {', '.join(KEY_SCOPES)}")


def _slug_of(connection: Connection, org_id: int | None) -> str | None:
    if org_id is None:
        return None
    slug = connection.scalar(select(organizations.c.slug).where(organizations.c.org_id == org_id))
    if slug is None:
        raise NotFound("organization", str(org_id))
    return str(slug)


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))

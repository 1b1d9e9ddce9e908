"""The tables of administration: who changed what, requests that must not act twice, limits of keys, projects.

The audit log, what idempotency keys remember and projects are owned by organizations; the system's own entries stand
under the number 0, which is no organization's.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from farebox_ledger.store.schema import Big, key, metadata, one_of, required

ActorKind: TypeAlias = Literal["key", "command", "system"]

NOBODYS: Final = 0
"""The organization number of what belongs to the system."""

_KEYED: Final[dict[str, Any]] = {"sqlite_with_rowid": False, "sqlite_strict": True}

audit_log = Table(
    "audit_log",
    metadata,
    key("org_id", Big),
    key("at_us", Big),
    key("id", Text),
    required("actor_kind", Text),
    required("actor", Text),
    Column("via", Text),  # the route's operation, or the command
    required("action", Text),
    required("object_kind", Text),
    Column("object_id", Text),
    Column("before", Text),
    Column("after", Text),
    Column("request_id", Text),
    one_of("actor_kind", ActorKind),
    Index("ix_audit_log_object", "org_id", "object_id", "at_us", "id"),
    Index("ix_audit_log_actor", "org_id", "actor", "at_us", "id"),
    **_KEYED,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    key("org_id", Big),
    key("caller", Text),
    key("idempotency_key", Text),
    required("request_hash", LargeBinary),
    required("claim", Text),
    required("claimed_at_us", Big),
    Column("status", Integer),  # NULL: the request is being answered
    Column("headers", Text),
    Column("body", LargeBinary),
    CheckConstraint("(status IS NULL) = (headers IS NULL)", name="answered_whole"),
    Index("ix_idempotency_keys_claimed", "org_id", "claimed_at_us"),
    **_KEYED,
)

projects = Table(
    "projects",
    metadata,
    key("org_id", Big),
    key("project", Text),
    Column("name", Text),
    required("first_seen_us", Big),
    Column("deleted_at_us", Big),
    **_KEYED,
)

deleted_users = Table(
    "deleted_users",
    metadata,
    key("org_id", Big),
    key("user_ref", Text),
    required("deleted_at_us", Big),
    **_KEYED,
)

key_limits = Table(
    "key_limits",
    metadata,
    Column("key_id", Text, ForeignKey("api_keys.id"), primary_key=True),
    required("requests_per_minute", Integer),
    CheckConstraint("requests_per_minute > 0", name="requests_per_minute_positive"),
    **_KEYED,
)

rate_counts = Table(
    "rate_counts",
    metadata,
    key("key_id", Text),
    required("window_us", Big),
    required("used", Big),
    **_KEYED,
)

key_uses = Table(
    "key_uses",
    metadata,
    key("key_id", Text),
    required("used_at_us", Big),
    **_KEYED,
)

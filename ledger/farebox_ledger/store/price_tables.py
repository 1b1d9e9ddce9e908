"""The tables of price administration: what an administrator decides about prices, and the syncs of the catalog.

They stand on the metadata of `schema` and are reference tables, as prices are. A *subject* (an override, an alias, a
multiplier) keeps its id for life; what it says is dated and stands in its *terms*, which are closed or withdrawn but
never rewritten. The terms of an override are rows of `prices`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from farebox_ledger.store.schema import Big, Flag, key, metadata, one_of, required

SyncStatus: TypeAlias = Literal["running", "applied", "unchanged", "awaiting_approval", "superseded", "failed"]
SyncSource: TypeAlias = Literal["litellm"]
Unit: TypeAlias = Literal["token", "1k", "1m"]

_STRICT: Final[dict[str, Any]] = {"sqlite_strict": True}
_LIVE: Final = text("deleted_at_us IS NULL")


def _owner() -> Column[Any]:
    return Column("org_id", Big, ForeignKey("organizations.org_id"))  # NULL: for everybody


def _bookkeeping() -> list[Column[Any]]:
    """What every administered thing has: a note, whether it holds, its version for If-Match, its times."""
    return [
        Column("notes", Text),
        required("is_active", Flag, default="1"),
        required("row_version", Integer, default="1"),
        required("created_at_us", Big),
        required("updated_at_us", Big),
        Column("deleted_at_us", Big),
    ]


def _lists(table: str) -> list[Index]:
    """Index what stands by age, of each owner and of all, as lists show it."""
    return [
        Index(f"ix_{table}_{name}", *columns, "created_at_us", "id", sqlite_where=_LIVE, postgresql_where=_LIVE)
        for name, columns in (("organization", ("org_id",)), ("created", ()))
    ]


def _dates() -> list[Any]:
    """When a term holds, and whether it was withdrawn before it did."""
    return [
        Column("effective_from_us", Big),  # NULL: since ever
        Column("effective_to_us", Big),  # NULL: until further notice
        required("created_at_us", Big),
        Column("withdrawn_at_us", Big),
        CheckConstraint("effective_from_us < effective_to_us", name="effective_range_not_empty"),
    ]


price_overrides = Table(
    "price_overrides",
    metadata,
    Column("id", Text, primary_key=True),
    _owner(),
    required("provider", Text),
    required("model", Text),
    required("subject_key", Text),
    required("unit", Text),
    *_bookkeeping(),
    one_of("unit", Unit),
    Index("ix_price_overrides_subject", "subject_key"),
    *_lists("price_overrides"),
    **_STRICT,
)

price_override_terms = Table(
    "price_override_terms",
    metadata,
    Column("id", Text, ForeignKey("prices.id"), primary_key=True),
    Column("subject_id", Text, ForeignKey("price_overrides.id"), nullable=False),
    required("created_at_us", Big),
    Column("withdrawn_at_us", Big),
    Index("ix_price_override_terms_subject", "subject_id"),
    **_STRICT,
)

model_configs = Table(
    "model_configs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Big, ForeignKey("organizations.org_id"), nullable=False),
    required("name", Text),
    required("provider", Text),
    required("model", Text),
    required("is_default", Flag, default="0"),
    Column("override_id", Text, ForeignKey("price_overrides.id")),  # the configuration's own prices
    *_bookkeeping(),
    Index("uq_model_configs_name", "org_id", "name", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
    *_lists("model_configs"),
    **_STRICT,
)

model_aliases = Table(
    "model_aliases",
    metadata,
    Column("id", Text, primary_key=True),
    _owner(),
    Column("provider", Text),  # NULL: of any provider
    required("alias", Text),
    required("subject_key", Text),
    *_bookkeeping(),
    Index("ix_model_aliases_subject", "subject_key"),
    *_lists("model_aliases"),
    **_STRICT,
)

model_alias_terms = Table(
    "model_alias_terms",
    metadata,
    Column("id", Text, primary_key=True),
    Column("subject_id", Text, ForeignKey("model_aliases.id"), nullable=False),
    Column("target_provider", Text),  # NULL: the call's own
    required("target_model", Text),
    Column("model_config_id", Text, ForeignKey("model_configs.id")),
    *_dates(),
    Index("ix_model_alias_terms_subject", "subject_id"),
    **_STRICT,
)

multipliers = Table(
    "multipliers",
    metadata,
    Column("id", Text, primary_key=True),
    _owner(),
    Column("upstream", Text),  # NULL: any
    Column("provider", Text),  # NULL: any
    required("subject_key", Text),
    *_bookkeeping(),
    Index("ix_multipliers_subject", "subject_key"),
    *_lists("multipliers"),
    **_STRICT,
)

multiplier_terms = Table(
    "multiplier_terms",
    metadata,
    Column("id", Text, primary_key=True),
    Column("subject_id", Text, ForeignKey("multipliers.id"), nullable=False),
    required("factor", Text),
    *_dates(),
    Index("ix_multiplier_terms_subject", "subject_id"),
    **_STRICT,
)

upstreams = Table(
    "upstreams",
    metadata,
    Column("id", Text, primary_key=True),
    _owner(),
    required("name", Text),
    Column("provider", Text),
    required("subject_key", Text),
    *_bookkeeping(),
    Index("uq_upstreams_subject", "subject_key", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
    *_lists("upstreams"),
    **_STRICT,
)

price_policies = Table(
    "price_policies",
    metadata,
    Column("org_id", Big, ForeignKey("organizations.org_id"), primary_key=True, autoincrement=False),
    required("use_archive", Flag),
    required("carry_retired", Flag),
    required("stated_cost_bills", Flag, default="0"),
    required("aggregate_only_bills", Flag, default="0"),
    required("row_version", Integer, default="1"),
    required("created_at_us", Big),
    required("updated_at_us", Big),
    **_STRICT,
)

price_syncs = Table(
    "price_syncs",
    metadata,
    key("id", Text),
    required("source", Text),
    required("origin", Text),  # the address or the file's name
    required("requested_at_us", Big),
    Column("finished_at_us", Big),
    Column("approved_at_us", Big),
    required("status", Text),
    Column("detail", Text),  # why it failed, or why it waits
    Column("etag", Text),
    Column("sha256", Text),
    Column("size_bytes", Big),
    required("added", Integer, default="0"),
    required("changed", Integer, default="0"),
    required("removed", Integer, default="0"),
    required("refused", Integer, default="0"),
    Column("diff", Text),
    Column("content", LargeBinary),  # gzip, while it waits for approval
    Column("revision_id", Text, ForeignKey("price_revisions.id")),
    one_of("source", SyncSource),
    one_of("status", SyncStatus),
    Index("ix_price_syncs_requested", "requested_at_us", "id"),
    **_STRICT,
)

"""The tables of the books, as both databases hold them.

Statements are built from these tables; the tables themselves are made by `migrations/` alone, and a test proves that
both say the same. Org-owned tables carry `org_id` first in their key, so that they can be distributed by it; the
others are small reference tables.

Times are BIGINT microseconds since 1970 in UTC, money is BIGINT pico-units, a day is the number YYYYMMDD. Columns that
hold JSON hold it as text, written by us and never searched on a hot path.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

from farebox_ledger.usage import QUANTITIES, BillingStatus, CallStatus, EventKind, Reason, TokensSource

# SQLite's STRICT tables know one integer type, 64 bits wide.
Big: Final = BigInteger().with_variant(Integer(), "sqlite")
Flag: Final = SmallInteger().with_variant(Integer(), "sqlite")

JobStatus: TypeAlias = Literal["queued", "running", "done", "failed"]

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

_KEYED: Final[dict[str, Any]] = {"sqlite_with_rowid": False, "sqlite_strict": True}
_STRICT: Final[dict[str, Any]] = {"sqlite_strict": True}

COST_PARTS: Final = (
    "cost_input_pico",
    "cost_output_pico",
    "cost_cache_read_pico",
    "cost_cache_write_pico",
    "cost_other_pico",
)
"""The parts that a row's cost is shown by; they sum to `cost_pico`."""

TOKEN_COLUMNS: Final = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)
"""The usage members with a column of their own; the rarer ones stand in `usage_details`."""


def one_of(column: str, closed_list: Any) -> CheckConstraint:
    """Let a column hold nothing but the values of a Literal (or NULL, where the column may)."""
    values = ", ".join(f"'{value}'" for value in get_args(closed_list))
    return CheckConstraint(f"{column} IN ({values})", name=f"{column}_known")


def any_of(column: str, values: Iterable[str]) -> str:
    """Write `column IN values` as comparisons, for the checks and indexes of rows that are written by the thousand.

    For a list of more than two, SQLite builds a table of it anew for every row: a quarter of the whole insert.
    """
    return "(" + " OR ".join(f"{column} = '{value}'" for value in values) + ")"


def checked_one_of(column: str, closed_list: Any) -> CheckConstraint:
    """Do what `one_of` does, in the words of `any_of`."""
    return CheckConstraint(any_of(column, get_args(closed_list)), name=f"{column}_known")


def not_negative(*columns: str) -> tuple[CheckConstraint, ...]:
    """Refuse negative counts; NULL, the count that nobody said, passes."""
    return tuple(CheckConstraint(f"{column} >= 0", name=f"{column}_not_negative") for column in columns)


def required(name: str, kind: Any, *, default: str | None = None) -> Column[Any]:
    """Declare a NOT NULL column."""
    return Column(name, kind, nullable=False, server_default=None if default is None else text(default))


def key(name: str, kind: Any) -> Column[Any]:
    """Declare a column of the primary key that the writer fills (no sequence, no autoincrement)."""
    return Column(name, kind, primary_key=True, nullable=False, autoincrement=False)


organizations = Table(
    "organizations",
    metadata,
    key("org_id", Big),
    Column("slug", Text, nullable=False, unique=True),
    Column("name", Text),
    required("created_at_us", Big),
    Column("deleted_at_us", Big),
    **_STRICT,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("prefix", Text, nullable=False, unique=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("org_id", Big, ForeignKey("organizations.org_id")),  # NULL: a system key
    Column("name", Text),
    required("scopes", Text),
    required("created_at_us", Big),
    Column("expires_at_us", Big),
    Column("revoked_at_us", Big),
    Index("ix_api_keys_organization", "org_id", "created_at_us", "id"),
    Index("ix_api_keys_created", "created_at_us", "id"),
    **_STRICT,
)

users = Table(
    "users",
    metadata,
    key("org_id", Big),
    key("user_ref", Text),
    Column("email", Text),
    required("first_seen_us", Big),
    Column("erased_at_us", Big),
    Index(
        "ix_users_email",
        "org_id",
        "email",
        "user_ref",
        sqlite_where=text("email IS NOT NULL"),
        postgresql_where=text("email IS NOT NULL"),
    ),
    **_KEYED,
)

_FACTS: Final = (
    ("trace_id", LargeBinary, False),
    ("span_id", LargeBinary, False),
    ("parent_span_id", LargeBinary, True),
    ("occurred_at_us", Big, False),
    ("started_at_us", Big, True),
    ("received_at_us", Big, False),
    ("kind", Text, False),
    ("dialect", Text, False),
    ("scope_name", Text, False),
    ("is_client", Flag, False),
    ("reported_provider", Text, True),
    ("request_model", Text, True),
    ("response_model", Text, True),
    ("response_id", Text, True),
    ("operation", Text, True),
    ("status", Text, False),
    ("error_code", Text, True),
    ("error_message", Text, True),
    ("time_to_first_chunk_ms", Big, True),
    ("is_stream", Flag, False),
    ("service_tier", Text, True),
    ("is_batch", Flag, False),
    ("region", Text, True),
    ("tokens_source", Text, False),
    ("input_tokens", Big, True),
    ("cache_read_input_tokens", Big, True),
    ("cache_write_input_tokens", Big, True),
    ("output_tokens", Big, True),
    ("reasoning_output_tokens", Big, True),
    ("usage_details", Text, True),
    ("stated_cost_pico", Big, True),
    ("project", Text, True),
    ("user_ref", Text, True),
    ("key_id", Text, True),
    ("service", Text, True),
    ("action", Text, True),
    ("category", Text, True),
    ("task_type", Text, True),
    ("task_id", Text, True),
    ("content_type", Text, True),
    ("content_ref", Text, True),
    ("model_config", Text, True),
    ("upstream", Text, True),
    ("session", Text, True),
    ("tags", Text, True),
    ("metadata", Text, True),
)

_CHARGE: Final = (
    ("provider", Text, True),
    ("model", Text, True),
    ("billing_status", Text, False),
    ("reason", Text, True),
    ("reason_detail", Text, True),
    ("currency", Text, True),
    ("cost_pico", Big, True),
    *((part, Big, True) for part in COST_PARTS),
    ("list_cost_pico", Big, True),
    ("multiplier", Text, True),
    ("price_id", Text, True),
    ("covered_by", LargeBinary, True),
    ("lines", Text, True),
)

KEY_COLUMNS: Final = ("org_id", "day", "usage_id")
FACT_COLUMNS: Final = tuple(name for name, _, _ in _FACTS)
CHARGE_COLUMNS: Final = tuple(name for name, _, _ in _CHARGE)
BOOKED_COLUMNS: Final = (*KEY_COLUMNS, *FACT_COLUMNS, *CHARGE_COLUMNS)
"""The columns of a usage row that a booking fills; `charge_version` starts at 1 by itself."""


def _columns(described: tuple[tuple[str, Any, bool], ...]) -> list[Column[Any]]:
    return [Column(name, kind, nullable=nullable) for name, kind, nullable in described]


def _charge_checks() -> tuple[CheckConstraint, ...]:
    """Unknown is not zero, and every cent is in exactly one part (laws 4 and 5)."""
    no_parts = " AND ".join(f"{part} IS NULL" for part in COST_PARTS)
    return (
        checked_one_of("billing_status", BillingStatus),
        checked_one_of("reason", Reason),
        CheckConstraint(
            f"(cost_pico IS NOT NULL) = {any_of('billing_status', ('billed', 'assumed', 'partial', 'free'))}",
            name="cost_known_when_charged",
        ),
        CheckConstraint(
            f"COALESCE(cost_pico = {' + '.join(COST_PARTS)}, cost_pico IS NULL AND {no_parts})",
            name="parts_sum_to_cost",
        ),
        CheckConstraint("billing_status <> 'free' OR cost_pico = 0", name="free_costs_nothing"),
    )


UNSETTLED_STATUSES: Final[tuple[BillingStatus, ...]] = ("unpriced", "partial", "assumed")
"""The statuses of rows that a better price could still settle."""

UNSETTLED: Final = any_of("billing_status", UNSETTLED_STATUSES)
"""What a statement has to say word for word, so that planners use the partial index of those rows."""

FIRST_OF_TRACE: Final = "parent_span_id IS NULL AND response_id IS NOT NULL"
"""The calls that may be told in another trace as well, in the words of the statement that looks for them."""

usage_rows = Table(
    "usage_rows",
    metadata,
    key("org_id", Big),
    key("day", Integer),
    key("usage_id", LargeBinary),
    *_columns(_FACTS),
    *_columns(_CHARGE),
    required("charge_version", Integer, default="1"),
    CheckConstraint("day BETWEEN 20200101 AND 99991231", name="day_is_a_date"),
    CheckConstraint("length(usage_id) = 16", name="usage_id_is_128_bits"),
    checked_one_of("kind", EventKind),
    checked_one_of("status", CallStatus),
    checked_one_of("tokens_source", TokensSource),
    *not_negative(*TOKEN_COLUMNS),
    *_charge_checks(),
    Index("ix_usage_rows_occurred", "org_id", "occurred_at_us", "usage_id"),
    Index("ix_usage_rows_trace", "org_id", "trace_id"),
    Index(
        "ix_usage_rows_response",
        "org_id",
        "response_id",
        "occurred_at_us",
        sqlite_where=text(FIRST_OF_TRACE),
        postgresql_where=text(FIRST_OF_TRACE),
    ),
    Index("ix_usage_rows_user", "org_id", "user_ref", "occurred_at_us", "usage_id"),
    Index(
        "ix_usage_rows_unpriced",
        "org_id",
        "occurred_at_us",
        "usage_id",
        sqlite_where=text("billing_status = 'unpriced'"),
        postgresql_where=text("billing_status = 'unpriced'"),
    ),
    Index(
        "ix_usage_rows_unsettled",
        "org_id",
        "occurred_at_us",
        "usage_id",
        sqlite_where=text(UNSETTLED),
        postgresql_where=text(UNSETTLED),
    ),
    Index(
        "ix_usage_rows_group",
        "org_id",
        "provider",
        "model",
        "reason",
        "billing_status",
        "occurred_at_us",
        sqlite_where=text(UNSETTLED),
        postgresql_where=text(UNSETTLED),
    ),
    **_KEYED,
)

charge_versions = Table(
    "charge_versions",
    metadata,
    key("org_id", Big),
    key("day", Integer),
    key("usage_id", LargeBinary),
    key("version", Integer),
    *_columns(_CHARGE),
    Column("facts", Text),  # JSON of the replaced facts, where the change touched more than the charge
    required("cause", Text),
    required("replaced_at_us", Big),
    *_charge_checks(),
    **_KEYED,
)

USAGE_MEASURES: Final = {
    "input_seconds": "input_seconds_us",
    "output_seconds": "output_seconds_us",
    "requests": "provider_requests",
}
"""Usage members whose measure has another name: seconds are summed as microseconds, and `requests` counts rows."""

MEASURES: Final = (
    "requests",
    "errors",
    *(USAGE_MEASURES.get(member, member) for member in QUANTITIES),
    "total_tokens",
    "priced_rows",
    "unpriced_rows",
    "assumed_rows",
    "partial_rows",
)
"""What the rollups count, besides cost and list cost."""

AMOUNTS: Final = ("cost", "list_cost")
"""What the rollups sum as money, each in two columns: whole units and pico."""

ROLLUP_DIMENSIONS: Final = ("project", "provider", "model", "service", "category", "billing_status", "currency")
"""The dimensions of the day and quarter rollups, besides organization and time; '' stands for none."""


_HALF_FULL: Final = {"fillfactor": 50}
"""Each booking updates many rows of a rollup, often all of a page: there is room for the new ones beside the old.

On a full page they would go to another one, with a new entry in the index, and the table would grow with each booking.
"""


def _measures() -> list[Column[Any]]:
    amounts = [f"{amount}_{part}" for amount in AMOUNTS for part in ("units", "pico")]
    return [required(name, Big, default="0") for name in (*MEASURES, *amounts)]


def _rollup(name: str, time: Column[Any], dimensions: tuple[str, ...]) -> Table:
    """Declare a rollup. The writer's slot ends the key, so that no two writers ever update one row."""
    return Table(
        name,
        metadata,
        key("org_id", Big),
        time,
        *(key(dimension, Text) for dimension in dimensions),
        key("writer_slot", Integer),
        *_measures(),
        postgresql_with=_HALF_FULL,
        **_KEYED,
    )


rollup_day = _rollup("rollup_day", key("day", Integer), ROLLUP_DIMENSIONS)
rollup_quarter = _rollup("rollup_quarter", key("quarter_us", Big), ROLLUP_DIMENSIONS)
rollup_day_reason = _rollup(
    "rollup_day_reason", key("day", Integer), ("provider", "model", "billing_status", "reason", "currency")
)
rollup_day_by = _rollup("rollup_day_by", key("day", Integer), ("dimension", "value", "currency"))

writers = Table(
    "writers",
    metadata,
    key("slot", Integer),
    Column("holder", Text, nullable=False, unique=True),
    required("leased_until_us", Big),
    **_STRICT,
)

booked_batches = Table(
    "booked_batches",
    metadata,
    key("collector_id", Text),
    key("batch_id", Big),
    required("booked_at_us", Big),
    Index("ix_booked_batches_booked", "booked_at_us"),
    **_KEYED,
)

price_revisions = Table(
    "price_revisions",
    metadata,
    Column("id", Text, primary_key=True),
    required("source", Text),
    Column("revision", Text),
    Column("sha256", Text),
    required("fetched_at_us", Big),
    Column("applied_at_us", Big),
    required("added", Integer, default="0"),
    required("changed", Integer, default="0"),
    required("removed", Integer, default="0"),
    required("refused", Integer, default="0"),
    required("status", Text),
    **_STRICT,
)

prices = Table(
    "prices",
    metadata,
    Column("id", Text, primary_key=True),
    required("source", Text),
    Column("org_id", Big, ForeignKey("organizations.org_id")),  # NULL: for everybody
    required("provider", Text),
    required("model", Text),
    Column("mode", Text),
    required("currency", Text),
    required("rates", Text),
    Column("effective_from_us", Big),  # NULL: since ever
    Column("effective_to_us", Big),  # NULL: until further notice
    required("retired", Flag, default="0"),
    Column("source_url", Text),
    Column("revision_id", Text, ForeignKey("price_revisions.id")),
    CheckConstraint("effective_from_us < effective_to_us", name="effective_range_not_empty"),
    Index("ix_prices_name", "provider", "model", "effective_from_us"),
    **_STRICT,
)

catalog_state = Table(
    "catalog_state",
    metadata,
    key("id", Integer),
    required("version", Big),
    CheckConstraint("id = 1", name="one_row"),
    **_STRICT,
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    required("kind", Text),
    Column("org_id", Big, ForeignKey("organizations.org_id")),  # NULL: the system's
    required("arguments", Text),
    required("status", Text),
    required("run_after_us", Big),
    required("attempts", Integer, default="0"),
    Column("holder", Text),
    Column("leased_until_us", Big),
    Column("progress", Text),
    Column("result", Text),
    Column("error", Text),
    required("created_at_us", Big),
    Column("started_at_us", Big),
    Column("finished_at_us", Big),
    one_of("status", JobStatus),
    CheckConstraint(
        "(status = 'running') = (holder IS NOT NULL) AND (status = 'running') = (leased_until_us IS NOT NULL)",
        name="leased_while_running",
    ),
    Index(
        "ix_jobs_waiting",
        "run_after_us",
        "id",
        sqlite_where=text("status IN ('queued', 'running')"),
        postgresql_where=text("status IN ('queued', 'running')"),
    ),
    **_STRICT,
)

ignored_groups = Table(
    "ignored_groups",
    metadata,
    Column("subject_key", Text, primary_key=True),
    Column("org_id", Big, ForeignKey("organizations.org_id")),  # NULL: for the system's list
    required("provider", Text),  # '': none, as in the rollups
    required("model", Text),
    required("reason", Text),
    required("ignored_at_us", Big),
    **_STRICT,
)

unpriced_notices = Table(
    "unpriced_notices",
    metadata,
    key("org_id", Big),
    key("provider", Text),  # '': none, as in the rollups
    key("model", Text),
    key("reason", Text),
    required("found_at_us", Big),
    **_KEYED,
)

REFERENCE_TABLES: Final = frozenset(
    {
        "jobs", "ignored_groups", "key_limits", "rate_counts", "key_uses",
        "organizations", "api_keys", "writers", "booked_batches", "price_revisions", "prices", "catalog_state",
        "price_overrides", "price_override_terms", "model_configs", "model_aliases", "model_alias_terms", "multipliers",
        "multiplier_terms", "upstreams", "price_policies", "price_syncs",
    }
)  # fmt: skip
"""Tables that every node of a distributed database would hold in full; all others are owned by one organization."""

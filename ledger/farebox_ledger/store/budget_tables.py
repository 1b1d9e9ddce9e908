"""The tables of budgets: what may be spent, which thresholds were reached, and who is told.

They stand on the metadata of `schema`. An alert is kept as it was when it fired; only whether it still holds and who
has seen it changes. A webhook's secret is kept as it is, because every message is signed with it. Webhooks of the
system, which hear of every organization, have the number 0 in the place of an organization's.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint, text

from farebox_ledger.store.schema import Big, Flag, key, metadata, one_of, required

BudgetPeriod: TypeAlias = Literal["day", "week", "month", "quarter", "year", "total"]
ThresholdKind: TypeAlias = Literal["soft", "hard"]
DeliveryStatus: TypeAlias = Literal["pending", "delivered", "dead"]

SYSTEM: Final = 0
"""Stands for no organization in a key; no slug has this number."""

_KEYED: Final[dict[str, Any]] = {"sqlite_with_rowid": False, "sqlite_strict": True}
_PENDING: Final = text("status = 'pending'")


def _bookkeeping() -> list[Column[Any]]:
    return [
        Column("notes", Text),
        required("is_active", Flag, default="1"),
        required("row_version", Integer, default="1"),
        required("created_at_us", Big),
        required("updated_at_us", Big),
        Column("deleted_at_us", Big),
    ]


def _in_pico(name: str) -> CheckConstraint:
    return CheckConstraint(f"{name}_pico BETWEEN 0 AND 999999999999", name=f"{name}_pico_below_a_unit")


budgets = Table(
    "budgets",
    metadata,
    key("org_id", Big),
    key("id", Text),
    required("name", Text),
    Column("project", Text),
    Column("provider", Text),
    Column("model", Text),
    Column("service", Text),
    Column("category", Text),
    Column("user_ref", Text),
    Column("key_id", Text),
    Column("tag", Text),
    required("period", Text),
    required("tz", Text),
    required("amount_units", Big),
    required("amount_pico", Big),
    required("currency", Text),
    required("thresholds", Text),
    Column("starts_at_us", Big),
    Column("ends_at_us", Big),
    *_bookkeeping(),
    one_of("period", BudgetPeriod),
    _in_pico("amount"),
    CheckConstraint("amount_units >= 0 AND amount_units + amount_pico > 0", name="amount_is_positive"),
    CheckConstraint("starts_at_us < ends_at_us", name="ends_after_it_starts"),
    **_KEYED,
)

budget_alerts = Table(
    "budget_alerts",
    metadata,
    key("org_id", Big),
    key("id", Text),
    required("budget_id", Text),
    required("period", Text),
    required("period_start_us", Big),  # 0: since ever
    Column("period_end_us", Big),  # NULL: until further notice
    required("threshold", Text),
    required("kind", Text),
    required("limit_units", Big),
    required("limit_pico", Big),
    required("spent_units", Big),
    required("spent_pico", Big),
    required("currency", Text),
    required("fired_at_us", Big),
    Column("resolved_at_us", Big),
    Column("acknowledged_at_us", Big),
    Column("acknowledged_by", Text),
    one_of("period", BudgetPeriod),
    one_of("kind", ThresholdKind),
    _in_pico("limit"),
    _in_pico("spent"),
    CheckConstraint("(acknowledged_at_us IS NULL) = (acknowledged_by IS NULL)", name="acknowledged_by_somebody"),
    UniqueConstraint(
        "org_id", "budget_id", "period", "period_start_us", "threshold", name="uq_budget_alerts_once_a_period"
    ),
    Index("ix_budget_alerts_fired", "org_id", "fired_at_us", "id"),
    **_KEYED,
)

webhooks = Table(
    "webhooks",
    metadata,
    key("org_id", Big),
    key("id", Text),
    required("url", Text),
    required("secret", Text),
    required("events", Text),
    required("allow_private", Flag, default="0"),
    *_bookkeeping(),
    **_KEYED,
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    key("org_id", Big),
    key("id", Text),
    required("webhook_id", Text),
    required("message_id", Text),
    required("event", Text),
    required("payload", Text),
    required("status", Text),
    required("attempts", Integer, default="0"),
    Column("next_attempt_us", Big),
    required("created_at_us", Big),
    Column("attempted_at_us", Big),
    Column("ended_at_us", Big),
    Column("answer_status", Integer),
    Column("error", Text),
    one_of("status", DeliveryStatus),
    CheckConstraint("(status = 'pending') = (next_attempt_us IS NOT NULL)", name="pending_has_a_next_attempt"),
    CheckConstraint("(status = 'pending') = (ended_at_us IS NULL)", name="ended_once_not_pending"),
    Index("ix_webhook_deliveries_webhook", "org_id", "webhook_id", "created_at_us", "id"),
    Index(
        "ix_webhook_deliveries_pending",
        "org_id",
        "next_attempt_us",
        sqlite_where=_PENDING,
        postgresql_where=_PENDING,
    ),
    **_KEYED,
)

"""Budgets, alerts and webhooks."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLAG: Final = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")
KEYED: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
TABLES: Final = ("unpriced_notices", "webhook_deliveries", "webhooks", "budget_alerts", "budgets")

PERIODS: Final = "period IN ('day', 'week', 'month', 'quarter', 'year', 'total')"
FIRED: Final = (
    "org_id", "id", "budget_id", "period", "period_start_us", "period_end_us", "threshold", "kind", "limit_units",
    "limit_pico", "spent_units", "spent_pico", "currency", "fired_at_us",
)  # fmt: skip
FIRED_KEPT: Final = "budget_alerts keeps what fired"


def upgrade() -> None:
    create_budgets()
    create_alerts()
    create_webhooks()
    create_deliveries()
    create_notices()
    if op.get_bind().dialect.name == "sqlite":
        guard_on_sqlite()
    else:
        guard_on_postgresql()


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION farebox_alerts_kept()")


def guard_on_sqlite() -> None:
    for name, event in (("update", f"UPDATE OF {', '.join(FIRED)}"), ("delete", "DELETE")):
        op.execute(
            f"CREATE TRIGGER budget_alerts_{name} BEFORE {event} ON budget_alerts "
            f"BEGIN SELECT RAISE(ABORT, '{FIRED_KEPT}'); END"
        )


def guard_on_postgresql() -> None:
    op.execute(f"""
        CREATE FUNCTION farebox_alerts_kept() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '{FIRED_KEPT}' USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    op.execute(
        f"CREATE TRIGGER budget_alerts_refuse BEFORE UPDATE OF {', '.join(FIRED)} OR DELETE ON budget_alerts "
        "FOR EACH ROW EXECUTE FUNCTION farebox_alerts_kept()"
    )
    op.execute(
        "CREATE TRIGGER budget_alerts_truncate BEFORE TRUNCATE ON budget_alerts "
        "FOR EACH STATEMENT EXECUTE FUNCTION farebox_alerts_kept()"
    )


def key(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def optional(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def counted(name: str, kind: Any, default: str) -> sa.Column[Any]:
    return sa.Column(name, kind, server_default=sa.text(default), nullable=False)


def bookkeeping() -> list[sa.Column[Any]]:
    return [
        optional("notes", sa.Text()),
        counted("is_active", FLAG, "1"),
        counted("row_version", sa.Integer(), "1"),
        required("created_at_us", BIG),
        required("updated_at_us", BIG),
        optional("deleted_at_us", BIG),
    ]


def check(table: str, name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))


def below_a_unit(table: str, name: str) -> sa.CheckConstraint:
    return check(table, f"{name}_pico_below_a_unit", f"{name}_pico BETWEEN 0 AND 999999999999")


def create_budgets() -> None:
    scope = ("project", "provider", "model", "service", "category", "user_ref", "key_id", "tag")
    op.create_table(
        "budgets",
        key("org_id", BIG),
        key("id", sa.Text()),
        required("name", sa.Text()),
        *(optional(name, sa.Text()) for name in scope),
        required("period", sa.Text()),
        required("tz", sa.Text()),
        required("amount_units", BIG),
        required("amount_pico", BIG),
        required("currency", sa.Text()),
        required("thresholds", sa.Text()),
        optional("starts_at_us", BIG),
        optional("ends_at_us", BIG),
        *bookkeeping(),
        check("budgets", "period_known", PERIODS),
        below_a_unit("budgets", "amount"),
        check("budgets", "amount_is_positive", "amount_units >= 0 AND amount_units + amount_pico > 0"),
        check("budgets", "ends_after_it_starts", "starts_at_us < ends_at_us"),
        sa.PrimaryKeyConstraint("org_id", "id", name=op.f("pk_budgets")),
        **KEYED,
    )


def create_alerts() -> None:
    op.create_table(
        "budget_alerts",
        key("org_id", BIG),
        key("id", sa.Text()),
        required("budget_id", sa.Text()),
        required("period", sa.Text()),
        required("period_start_us", BIG),
        optional("period_end_us", BIG),
        required("threshold", sa.Text()),
        required("kind", sa.Text()),
        *(required(f"{name}_{part}", BIG) for name in ("limit", "spent") for part in ("units", "pico")),
        required("currency", sa.Text()),
        required("fired_at_us", BIG),
        optional("resolved_at_us", BIG),
        optional("acknowledged_at_us", BIG),
        optional("acknowledged_by", sa.Text()),
        check("budget_alerts", "period_known", PERIODS),
        check("budget_alerts", "kind_known", "kind IN ('soft', 'hard')"),
        below_a_unit("budget_alerts", "limit"),
        below_a_unit("budget_alerts", "spent"),
        check(
            "budget_alerts",
            "acknowledged_by_somebody",
            "(acknowledged_at_us IS NULL) = (acknowledged_by IS NULL)",
        ),
        sa.PrimaryKeyConstraint("org_id", "id", name=op.f("pk_budget_alerts")),
        sa.UniqueConstraint(
            "org_id", "budget_id", "period", "period_start_us", "threshold", name="uq_budget_alerts_once_a_period"
        ),
        **KEYED,
    )
    op.create_index("ix_budget_alerts_fired", "budget_alerts", ["org_id", "fired_at_us", "id"])


def create_webhooks() -> None:
    op.create_table(
        "webhooks",
        key("org_id", BIG),
        key("id", sa.Text()),
        required("url", sa.Text()),
        required("secret", sa.Text()),
        required("events", sa.Text()),
        counted("allow_private", FLAG, "0"),
        *bookkeeping(),
        sa.PrimaryKeyConstraint("org_id", "id", name=op.f("pk_webhooks")),
        **KEYED,
    )


def create_deliveries() -> None:
    table = "webhook_deliveries"
    op.create_table(
        table,
        key("org_id", BIG),
        key("id", sa.Text()),
        required("webhook_id", sa.Text()),
        required("message_id", sa.Text()),
        required("event", sa.Text()),
        required("payload", sa.Text()),
        required("status", sa.Text()),
        counted("attempts", sa.Integer(), "0"),
        optional("next_attempt_us", BIG),
        required("created_at_us", BIG),
        optional("attempted_at_us", BIG),
        optional("ended_at_us", BIG),
        optional("answer_status", sa.Integer()),
        optional("error", sa.Text()),
        check(table, "status_known", "status IN ('pending', 'delivered', 'dead')"),
        check(table, "pending_has_a_next_attempt", "(status = 'pending') = (next_attempt_us IS NOT NULL)"),
        check(table, "ended_once_not_pending", "(status = 'pending') = (ended_at_us IS NULL)"),
        sa.PrimaryKeyConstraint("org_id", "id", name=op.f(f"pk_{table}")),
        **KEYED,
    )
    op.create_index("ix_webhook_deliveries_webhook", table, ["org_id", "webhook_id", "created_at_us", "id"])
    pending = sa.text("status = 'pending'")
    op.create_index(
        "ix_webhook_deliveries_pending",
        table,
        ["org_id", "next_attempt_us"],
        sqlite_where=pending,
        postgresql_where=pending,
    )


def create_notices() -> None:
    table = "unpriced_notices"
    op.create_table(
        table,
        key("org_id", BIG),
        *(key(name, sa.Text()) for name in ("provider", "model", "reason")),
        required("found_at_us", BIG),
        sa.PrimaryKeyConstraint("org_id", "provider", "model", "reason", name=op.f(f"pk_{table}")),
        **KEYED,
    )

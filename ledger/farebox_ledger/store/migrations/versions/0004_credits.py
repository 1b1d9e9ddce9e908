"""Credits: accounts, grants and the double-entry ledger."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEYED: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
TABLES: Final = (
    "credit_days", "credit_marks", "credit_allocations", "credit_transactions", "credit_grants", "credit_accounts",
)  # fmt: skip

GRANT_KINDS: Final = ("initial_grant", "grant", "purchase", "refund", "adjustment")
TYPES: Final = (*GRANT_KINDS, "usage_deduction", "reprice_adjustment", "expiry", "void")
LEDGER_ACCOUNTS: Final = ("usage", "grants", "purchases", "adjustments", "expiry")

APPEND_ONLY: Final = "credit_transactions is append-only"
GRANT_KEPT: Final = "credit_grants keeps what was granted; void the grant and make another"
GRANTED: Final = (
    "org_id", "grant_id", "account_id", "kind", "amount_pico", "priority", "effective_at_us", "expires_at_us",
    "external_id", "description", "actor", "created_at_us",
)  # fmt: skip
ACCOUNT_KEPT: Final = "credit_accounts keeps owner, currency and rate; make another account"
ACCOUNT: Final = ("org_id", "account_id", "owner_key", "currency", "rate", "created_at_us")

ENTRIES: Final = """
    SELECT org_id, source_id, step, 'customer' AS ledger_account, account_id, currency, amount_pico, occurred_at_us
    FROM credit_transactions
    UNION ALL
    SELECT org_id, source_id, step, counter_account, account_id, currency, -amount_pico, occurred_at_us
    FROM credit_transactions
"""


def upgrade() -> None:
    create_accounts()
    create_transactions()
    create_allocations()
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE VIEW credit_entries AS {ENTRIES}")
        guard_on_sqlite()
    else:
        op.execute(f"CREATE VIEW credit_entries WITH (security_invoker = true) AS {ENTRIES}")
        guard_on_postgresql()


def downgrade() -> None:
    op.execute("DROP VIEW credit_entries")
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION farebox_credits_kept()")


def guard_on_sqlite() -> None:
    for name, event, table, said in (
        ("credit_transactions_update", "UPDATE", "credit_transactions", APPEND_ONLY),
        ("credit_transactions_delete", "DELETE", "credit_transactions", APPEND_ONLY),
        ("credit_grants_update", f"UPDATE OF {', '.join(GRANTED)}", "credit_grants", GRANT_KEPT),
        ("credit_grants_delete", "DELETE", "credit_grants", GRANT_KEPT),
        ("credit_accounts_update", f"UPDATE OF {', '.join(ACCOUNT)}", "credit_accounts", ACCOUNT_KEPT),
        ("credit_accounts_delete", "DELETE", "credit_accounts", ACCOUNT_KEPT),
    ):
        op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, '{said}'); END")


def guard_on_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION farebox_credits_kept() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    for table, update, said in (
        ("credit_transactions", "UPDATE", APPEND_ONLY),
        ("credit_grants", f"UPDATE OF {', '.join(GRANTED)}", GRANT_KEPT),
        ("credit_accounts", f"UPDATE OF {', '.join(ACCOUNT)}", ACCOUNT_KEPT),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_refuse BEFORE {update} OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION farebox_credits_kept('{said}')"
        )
        op.execute(
            f"CREATE TRIGGER {table}_truncate BEFORE TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION farebox_credits_kept('{said}')"
        )


def key(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def optional(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def among(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def any_of(column: str, values: tuple[str, ...]) -> str:
    return "(" + " OR ".join(f"{column} = '{value}'" for value in values) + ")"


def create_accounts() -> None:
    op.create_table(
        "credit_accounts",
        key("org_id", BIG),
        key("account_id", sa.Text()),
        required("owner_key", sa.Text()),
        required("currency", sa.Text()),
        required("rate", sa.Text()),
        optional("name", sa.Text()),
        required("created_at_us", BIG),
        optional("low_balance_pico", BIG),
        optional("low_since_us", BIG),
        sa.CheckConstraint(
            "substr(owner_key, 1, 2) IN ('o:', 'p:', 'u:')", name=op.f("ck_credit_accounts_owner_key_known")
        ),
        sa.PrimaryKeyConstraint("org_id", "account_id", name=op.f("pk_credit_accounts")),
        sa.UniqueConstraint("org_id", "owner_key", "currency", name="uq_credit_accounts_owner"),
        **KEYED,
    )
    op.create_index("ix_credit_accounts_created", "credit_accounts", ["org_id", "created_at_us", "account_id"])
    watched = sa.text("low_balance_pico IS NOT NULL")
    op.create_index(
        "ix_credit_accounts_watched",
        "credit_accounts",
        ["org_id", "account_id"],
        sqlite_where=watched,
        postgresql_where=watched,
    )
    op.create_table(
        "credit_grants",
        key("org_id", BIG),
        key("grant_id", sa.LargeBinary()),
        required("account_id", sa.Text()),
        required("kind", sa.Text()),
        required("amount_pico", BIG),
        required("priority", sa.Integer()),
        required("effective_at_us", BIG),
        optional("expires_at_us", BIG),
        optional("external_id", sa.Text()),
        optional("description", sa.Text()),
        optional("actor", sa.Text()),
        required("created_at_us", BIG),
        optional("voided_at_us", BIG),
        optional("void_reason", sa.Text()),
        optional("settled_at_us", BIG),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(among("kind", GRANT_KINDS), name=op.f("ck_credit_grants_kind_known")),
        sa.CheckConstraint("length(grant_id) = 16", name=op.f("ck_credit_grants_grant_id_is_128_bits")),
        sa.CheckConstraint("amount_pico > 0", name=op.f("ck_credit_grants_amount_is_positive")),
        sa.CheckConstraint("effective_at_us < expires_at_us", name=op.f("ck_credit_grants_expires_after_effective")),
        sa.PrimaryKeyConstraint("org_id", "grant_id", name=op.f("pk_credit_grants")),
        **KEYED,
    )
    op.create_index("ix_credit_grants_account", "credit_grants", ["org_id", "account_id", "created_at_us", "grant_id"])
    op.create_index("ix_credit_grants_created", "credit_grants", ["org_id", "created_at_us", "grant_id"])
    op.create_index("ix_credit_grants_kind", "credit_grants", ["org_id", "kind", "created_at_us", "grant_id"])
    for name, columns, where, unique in (
        ("ix_credit_grants_unsettled", ["org_id", "expires_at_us"], "settled_at_us IS NULL", False),
        ("ix_credit_grants_external", ["org_id", "external_id"], "external_id IS NOT NULL", True),
    ):
        some = sa.text(where)
        op.create_index(name, "credit_grants", columns, unique=unique, sqlite_where=some, postgresql_where=some)


def create_transactions() -> None:
    op.create_table(
        "credit_transactions",
        key("org_id", BIG),
        key("source_id", sa.LargeBinary()),
        key("step", sa.Integer()),
        required("account_id", sa.Text()),
        required("type", sa.Text()),
        required("counter_account", sa.Text()),
        required("amount_pico", BIG),
        required("currency", sa.Text()),
        required("occurred_at_us", BIG),
        required("recorded_at_us", BIG),
        optional("usage_day", sa.Integer()),
        optional("real_cost_pico", BIG),
        optional("project", sa.Text()),
        optional("user_ref", sa.Text()),
        optional("external_id", sa.Text()),
        optional("description", sa.Text()),
        optional("actor", sa.Text()),
        sa.CheckConstraint(any_of("type", TYPES), name=op.f("ck_credit_transactions_type_known")),
        sa.CheckConstraint(
            any_of("counter_account", LEDGER_ACCOUNTS), name=op.f("ck_credit_transactions_counter_account_known")
        ),
        sa.CheckConstraint("length(source_id) = 16", name=op.f("ck_credit_transactions_source_id_is_128_bits")),
        sa.CheckConstraint(
            "(counter_account = 'usage') = (usage_day IS NOT NULL)", name=op.f("ck_credit_transactions_usage_is_linked")
        ),
        sa.CheckConstraint(
            "type <> 'usage_deduction' OR amount_pico <= 0", name=op.f("ck_credit_transactions_deductions_deduct")
        ),
        sa.PrimaryKeyConstraint("org_id", "source_id", "step", name=op.f("pk_credit_transactions")),
        **KEYED,
    )
    place = ["occurred_at_us", "source_id", "step"]
    summed = ["type", "counter_account", "amount_pico"]
    op.create_index("ix_credit_transactions_account", "credit_transactions", ["org_id", "account_id", *place, *summed])
    op.create_index("ix_credit_transactions_occurred", "credit_transactions", ["org_id", *place])
    by_hand = sa.text("usage_day IS NULL")
    op.create_index(
        "ix_credit_transactions_by_hand",
        "credit_transactions",
        ["org_id", "type", *place],
        sqlite_where=by_hand,
        postgresql_where=by_hand,
    )


def create_allocations() -> None:
    op.create_table(
        "credit_allocations",
        key("org_id", BIG),
        key("account_id", sa.Text()),
        key("day", sa.Integer()),
        key("grant_id", sa.LargeBinary()),
        required("amount_units", BIG),
        required("amount_pico", BIG),
        sa.PrimaryKeyConstraint("org_id", "account_id", "day", "grant_id", name=op.f("pk_credit_allocations")),
        **KEYED,
    )
    op.create_table(
        "credit_marks",
        key("org_id", BIG),
        key("account_id", sa.Text()),
        key("day", sa.Integer()),
        key("mark", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("org_id", "account_id", "day", "mark", name=op.f("pk_credit_marks")),
        **KEYED,
    )
    op.create_table(
        "credit_days",
        key("org_id", BIG),
        key("account_id", sa.Text()),
        key("day", sa.Integer()),
        key("type", sa.Text()),
        required("amount_units", BIG),
        required("amount_pico", BIG),
        sa.CheckConstraint(any_of("type", TYPES), name=op.f("ck_credit_days_type_known")),
        sa.PrimaryKeyConstraint("org_id", "account_id", "day", "type", name=op.f("pk_credit_days")),
        **KEYED,
    )

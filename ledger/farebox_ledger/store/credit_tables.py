"""The tables of credits: who has an account, what was granted, every movement, and what grants have paid.

They stand on the metadata of `schema`. Each row of `credit_transactions` is one balanced movement between a customer's
account and one of the ledger's own: what the first gets, the second gives, so that nothing can be out of balance. The
view `credit_entries` shows both sides as entries, which sum to zero. Rows are appended and never change; allocations
are derived from them and may be made anew at any time.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text, UniqueConstraint, text

from farebox_ledger.store.schema import Big, checked_one_of, key, metadata, one_of, required

TransactionType: TypeAlias = Literal[
    "initial_grant",
    "grant",
    "purchase",
    "refund",
    "adjustment",
    "usage_deduction",
    "reprice_adjustment",
    "expiry",
    "void",
]
GrantKind: TypeAlias = Literal["initial_grant", "grant", "purchase", "refund", "adjustment"]
LedgerAccount: TypeAlias = Literal["usage", "grants", "purchases", "adjustments", "expiry"]
"""Where credits come from and go to: what was used, given, sold, corrected, and what lapsed."""

OWNER_KINDS: Final = {"organization": "o", "project": "p", "user": "u"}
"""How `owner_key` begins for each kind of owner; the name follows behind a colon."""

_KEYED: Final[dict[str, Any]] = {"sqlite_with_rowid": False, "sqlite_strict": True}
_WATCHED: Final = text("low_balance_pico IS NOT NULL")
_BY_HAND: Final = text("usage_day IS NULL")
_UNSETTLED: Final = text("settled_at_us IS NULL")

credit_accounts = Table(
    "credit_accounts",
    metadata,
    key("org_id", Big),
    key("account_id", Text),
    required("owner_key", Text),
    required("currency", Text),
    required("rate", Text),  # credits per unit of the currency, exact decimal text
    Column("name", Text),
    required("created_at_us", Big),
    Column("low_balance_pico", Big),  # NULL: nobody wants to be told
    Column("low_since_us", Big),  # NULL: above that, as far as somebody has looked
    CheckConstraint("substr(owner_key, 1, 2) IN ('o:', 'p:', 'u:')", name="owner_key_known"),
    UniqueConstraint("org_id", "owner_key", "currency", name="uq_credit_accounts_owner"),
    Index("ix_credit_accounts_created", "org_id", "created_at_us", "account_id"),
    Index(
        "ix_credit_accounts_watched",
        "org_id",
        "account_id",
        sqlite_where=_WATCHED,
        postgresql_where=_WATCHED,
    ),
    **_KEYED,
)

credit_grants = Table(
    "credit_grants",
    metadata,
    key("org_id", Big),
    key("grant_id", LargeBinary),
    required("account_id", Text),
    required("kind", Text),
    required("amount_pico", Big),
    required("priority", Integer),
    required("effective_at_us", Big),
    Column("expires_at_us", Big),  # NULL: never
    Column("external_id", Text),
    Column("description", Text),
    Column("actor", Text),
    required("created_at_us", Big),
    Column("voided_at_us", Big),
    Column("void_reason", Text),
    Column("settled_at_us", Big),  # when what was left at its end was last taken back
    required("row_version", Integer, default="1"),
    one_of("kind", GrantKind),
    CheckConstraint("length(grant_id) = 16", name="grant_id_is_128_bits"),
    CheckConstraint("amount_pico > 0", name="amount_is_positive"),
    CheckConstraint("effective_at_us < expires_at_us", name="expires_after_effective"),
    Index("ix_credit_grants_account", "org_id", "account_id", "created_at_us", "grant_id"),
    Index("ix_credit_grants_created", "org_id", "created_at_us", "grant_id"),
    Index("ix_credit_grants_kind", "org_id", "kind", "created_at_us", "grant_id"),
    Index(
        "ix_credit_grants_unsettled",
        "org_id",
        "expires_at_us",
        sqlite_where=_UNSETTLED,
        postgresql_where=_UNSETTLED,
    ),
    Index(
        "ix_credit_grants_external",
        "org_id",
        "external_id",
        unique=True,
        sqlite_where=text("external_id IS NOT NULL"),
        postgresql_where=text("external_id IS NOT NULL"),
    ),
    **_KEYED,
)

credit_transactions = Table(
    "credit_transactions",
    metadata,
    key("org_id", Big),
    key("source_id", LargeBinary),  # the usage row's, the grant's, or the adjustment's own id
    key("step", Integer),
    required("account_id", Text),
    required("type", Text),
    required("counter_account", Text),
    required("amount_pico", Big),
    required("currency", Text),
    required("occurred_at_us", Big),
    required("recorded_at_us", Big),
    Column("usage_day", Integer),  # NULL: no usage row is behind it
    Column("real_cost_pico", Big),
    Column("project", Text),
    Column("user_ref", Text),
    Column("external_id", Text),
    Column("description", Text),
    Column("actor", Text),
    checked_one_of("type", TransactionType),
    checked_one_of("counter_account", LedgerAccount),
    CheckConstraint("length(source_id) = 16", name="source_id_is_128_bits"),
    CheckConstraint("(counter_account = 'usage') = (usage_day IS NOT NULL)", name="usage_is_linked"),
    CheckConstraint("type <> 'usage_deduction' OR amount_pico <= 0", name="deductions_deduct"),
    # The last three let balances and allocation be summed from the index alone.
    Index(
        "ix_credit_transactions_account",
        "org_id",
        "account_id",
        "occurred_at_us",
        "source_id",
        "step",
        "type",
        "counter_account",
        "amount_pico",
    ),
    Index("ix_credit_transactions_occurred", "org_id", "occurred_at_us", "source_id", "step"),
    Index(
        "ix_credit_transactions_by_hand",
        "org_id",
        "type",
        "occurred_at_us",
        "source_id",
        "step",
        sqlite_where=_BY_HAND,
        postgresql_where=_BY_HAND,
    ),
    **_KEYED,
)

credit_allocations = Table(
    "credit_allocations",
    metadata,
    key("org_id", Big),
    key("account_id", Text),
    key("day", Integer),
    key("grant_id", LargeBinary),  # empty: what no grant paid, less what a later one paid back
    required("amount_units", Big),
    required("amount_pico", Big),
    **_KEYED,
)

credit_marks = Table(
    "credit_marks",
    metadata,
    key("org_id", Big),
    key("account_id", Text),
    key("day", Integer),
    key("mark", LargeBinary),
    **_KEYED,
)

credit_days = Table(
    "credit_days",
    metadata,
    key("org_id", Big),
    key("account_id", Text),
    key("day", Integer),
    key("type", Text),
    required("amount_units", Big),
    required("amount_pico", Big),
    checked_one_of("type", TransactionType),
    **_KEYED,
)

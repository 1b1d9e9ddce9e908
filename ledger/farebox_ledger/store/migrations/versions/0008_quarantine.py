"""The quarantine: spans that could not be booked as they came, for the API to list, replay and delete."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLE: Final = "quarantined_spans"
REASONS: Final = (
    "bad_trace_id",
    "bad_span_id",
    "clock_skew",
    "malformed_span",
    "booking_crashed",
    "unreadable_batch",
)
STATES: Final = ("held", "requested", "replayed", "duplicate", "refused")
REQUESTED: Final = sa.text("state = 'requested'")


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("org_id", BIG, autoincrement=False, nullable=False),
        sa.Column("quarantine_id", sa.LargeBinary(), autoincrement=False, nullable=False),
        sa.Column("key_id", sa.Text()),
        required("received_at_us", BIG),
        required("reason", sa.Text()),
        required("detail", sa.Text()),
        required("digest", sa.LargeBinary()),
        required("size_bytes", sa.Integer()),
        sa.Column("trace_id", sa.LargeBinary()),
        sa.Column("span_id", sa.LargeBinary()),
        sa.Column("ended_at_us", BIG),
        sa.Column("attributes", sa.Text()),
        sa.Column("span", sa.LargeBinary()),
        sa.Column("state", sa.Text(), nullable=False, server_default=sa.text("'held'")),
        sa.Column("stated_end_us", BIG),
        sa.Column("outcome", sa.Text()),
        sa.Column("usage_day", sa.Integer()),
        sa.Column("usage_id", sa.LargeBinary()),
        required("changed_at_us", BIG),
        check(any_of("reason", REASONS), "reason_known"),
        check(any_of("state", STATES), "state_known"),
        check("length(quarantine_id) = 16", "quarantine_id_is_128_bits"),
        check("span IS NOT NULL OR state = 'held'", "nothing_is_replayed_from_nothing"),
        check("(usage_id IS NULL) = (usage_day IS NULL)", "usage_is_named_whole"),
        sa.PrimaryKeyConstraint("org_id", "quarantine_id", name=op.f(f"pk_{TABLE}")),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index("ix_quarantined_spans_received", TABLE, ["org_id", "received_at_us", "quarantine_id"])
    op.create_index(
        "ix_quarantined_spans_requested",
        TABLE,
        ["org_id", "quarantine_id"],
        sqlite_where=REQUESTED,
        postgresql_where=REQUESTED,
    )


def downgrade() -> None:
    op.drop_table(TABLE)


def required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def check(condition: str, name: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_{TABLE}_{name}"))


def any_of(column: str, values: tuple[str, ...]) -> str:
    return "(" + " OR ".join(f"{column} = '{value}'" for value in values) + ")"

"""What a month came to as the books stood at a moment: the same answer however often prices or rows change later.

Comes in: an organization, a month, and a moment. Goes out: lines by provider, model, billing status and currency. A row
is in it when it had been received by then, with the charge that it had then: the oldest of the charges that were
replaced since, else the present one. All is read by one statement, so that no booking comes between two readings.

It reads every row of the month; nothing else here does.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from farebox_ledger.money import join
from farebox_ledger.store.rows import Record
from farebox_ledger.store.schema import TOKEN_COLUMNS
from farebox_ledger.store.scope import Scope, require
from farebox_ledger.store.timeline import month_days

_PICO: Final = 1_000_000_000_000


class StatementLine(msgspec.Struct, kw_only=True):
    """Rows of one provider, model, billing status and currency, suppressed ones left out.

    Amounts are pico-units of the currency, None where no row has one. `newest_us` is the end of the newest call.
    """

    provider: str | None
    model: str | None
    billing_status: str
    currency: str | None
    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0
    cost_pico: int | None = None
    list_cost_pico: int | None = None
    newest_us: int = 0


def month_statement(
    connection: Connection, scope: Scope, org_id: int, month: int, as_of_us: int
) -> list[StatementLine]:
    """List what a month YYYYMM had come to at a moment, the most expensive line first.

    Raises:
        InvalidInput: the organization is outside the scope.
        ValueError: that is no month.
    """
    require(scope, org_id)
    first, following = month_days(month)
    asked = {"org": org_id, "first": first, "following": following, "as_of": as_of_us}
    lines: dict[tuple[Any, ...], StatementLine] = {}
    for row in connection.execute(_STATEMENT, asked).mappings():
        key = (row["provider"], row["model"], row["billing_status"], row["currency"])
        line = lines.get(key)
        if line is None:
            line = lines[key] = StatementLine(
                provider=row["provider"],
                model=row["model"],
                billing_status=row["billing_status"],
                currency=row["currency"],
            )
        _add(line, row)
    return sorted(lines.values(), key=_rank)


def _add(line: StatementLine, row: Record) -> None:
    """Add one group of rows. Its replaced facts, where it has some, take the place of what the rows say now."""
    requests = int(row["requests"])
    facts = {} if row["facts"] is None else msgspec.json.decode(row["facts"])
    line.requests += requests
    line.newest_us = max(line.newest_us, int(row["newest_us"]))
    errors = requests * (facts["status"] == "error") if "status" in facts else int(row["errors"])
    line.errors += errors
    for name in TOKEN_COLUMNS:
        count = requests * (facts[name] or 0) if name in facts else int(row[name])
        setattr(line, name, getattr(line, name) + count)
    for amount in ("cost", "list_cost"):
        if row[f"{amount}_rows"]:
            pico = join(int(row[f"{amount}_units"]), int(row[f"{amount}_pico"]))
            setattr(line, f"{amount}_pico", (getattr(line, f"{amount}_pico") or 0) + pico)


def _rank(line: StatementLine) -> tuple[Any, ...]:
    cost = -1 if line.cost_pico is None else line.cost_pico
    return -cost, -line.requests, line.provider or "", line.model or "", line.billing_status, line.currency or ""


def _amount(table: str, amount: str) -> str:
    """Sum an amount in units and pico, each far below what an integer holds."""
    column = f"{table}.{amount}_pico"
    return (
        f"COUNT({column}) AS {amount}_rows, COALESCE(SUM({column} / {_PICO}), 0) AS {amount}_units, "
        f"COALESCE(SUM({column} - {column} / {_PICO} * {_PICO}), 0) AS {amount}_pico"
    )


def _sums(charge: str, facts: str) -> str:
    """Write the columns of one part: the charge from one table, the facts from the rows."""
    names = ", ".join(f"{charge}.{name}" for name in ("provider", "model", "billing_status", "currency"))
    tokens = ", ".join(f"COALESCE(SUM(r.{name}), 0) AS {name}" for name in TOKEN_COLUMNS)
    return (
        f"SELECT {names}, {facts} AS facts, COUNT(*) AS requests, MAX(r.occurred_at_us) AS newest_us, "
        f"SUM(CASE WHEN r.status = 'error' THEN 1 ELSE 0 END) AS errors, {tokens}, "
        f"{_amount(charge, 'cost')}, {_amount(charge, 'list_cost')}"
    )


_OF_MONTH: Final = "org_id = :org AND {0}.day >= :first AND {0}.day < :following"
_GROUPED: Final = "GROUP BY {0}.provider, {0}.model, {0}.billing_status, {0}.currency"
_STATEMENT: Final = text(f"""
WITH replaced AS (
    SELECT v.day, v.usage_id, MIN(v.version) AS version FROM charge_versions AS v
    WHERE v.{_OF_MONTH.format("v")} AND v.replaced_at_us > :as_of GROUP BY v.day, v.usage_id
)
{_sums("r", "CAST(NULL AS TEXT)")} FROM usage_rows AS r
LEFT JOIN replaced AS n ON n.day = r.day AND n.usage_id = r.usage_id
WHERE r.{_OF_MONTH.format("r")} AND r.received_at_us <= :as_of AND n.version IS NULL
AND r.billing_status <> 'suppressed' {_GROUPED.format("r")}
UNION ALL
{_sums("v", "v.facts")} FROM replaced AS n
JOIN charge_versions AS v ON v.org_id = :org AND v.day = n.day AND v.usage_id = n.usage_id AND v.version = n.version
JOIN usage_rows AS r ON r.org_id = :org AND r.day = n.day AND r.usage_id = n.usage_id
WHERE r.received_at_us <= :as_of AND v.billing_status <> 'suppressed' {_GROUPED.format("v")}, v.facts
""")

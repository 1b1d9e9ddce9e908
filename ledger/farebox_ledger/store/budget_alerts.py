"""Alerts: which thresholds of a budget were reached in which period. Each fires once, whatever happens afterwards.

`budgets.evaluating` decides what fires and what holds no more; here it is written and found. The database refuses a
second alert of one threshold in one period, so two workers cannot both have fired it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from farebox_ledger.errors import NotFound
from farebox_ledger.money import join
from farebox_ledger.store import audit, subjects
from farebox_ledger.store.budget_tables import BudgetPeriod, ThresholdKind, budget_alerts
from farebox_ledger.store.budgets import Budget, Threshold, amounts
from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.scope import Scope, within
from farebox_ledger.store.subjects import Position

_NOUN: Final = "alert"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold that was reached. `spent_pico` and `limit_pico` are those of the moment at which it fired.

    `resolved_at_us` says since when the spending of the period lies below the threshold again (after re-pricing, or a
    change of the budget); None while it holds. `period_start_us` 0 is since ever.
    """

    id: str
    org_id: int
    budget_id: str
    period: BudgetPeriod
    period_start_us: int
    period_end_us: int | None
    threshold: str
    kind: ThresholdKind
    limit_pico: int
    spent_pico: int
    currency: str
    fired_at_us: int
    resolved_at_us: int | None
    acknowledged_at_us: int | None
    acknowledged_by: str | None


class AlertFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts are meant; None asks for nothing. Times are half-open and go by `fired_at`."""

    budget_id: str | None = None
    kind: ThresholdKind | None = None
    is_acknowledged: bool | None = None
    is_resolved: bool | None = None
    start_us: int | None = None
    end_us: int | None = None


def fire(
    connection: Connection,
    budget: Budget,
    threshold: Threshold,
    period: tuple[int, int | None],
    spent_pico: int,
    *,
    now_us: int,
) -> Alert | None:
    """Write that a threshold was reached in a period (its begin and its end); None when that is known already."""
    identity = _identity(budget, threshold, period[0])
    values = {
        "org_id": budget.org_id,
        "id": identity,
        "budget_id": budget.id,
        "period": budget.period,
        "period_start_us": period[0],
        "period_end_us": period[1],
        "threshold": threshold.name,
        "kind": threshold.kind,
        **amounts("limit", threshold.limit_pico(budget.amount_pico)),
        **amounts("spent", spent_pico),
        "currency": budget.currency,
        "fired_at_us": now_us,
    }
    insert = sqlite.insert if is_sqlite(connection) else postgresql.insert
    write = insert(budget_alerts).values(values).on_conflict_do_nothing().returning(*budget_alerts.columns)
    row = connection.execute(write).one_or_none()
    return None if row is None else _alert(row)


def alerts_of_period(connection: Connection, budget: Budget, period_start_us: int) -> list[Alert]:
    """Read the alerts of one period of a budget."""
    table = budget_alerts
    rows = connection.execute(
        select(table).where(
            table.c.org_id == budget.org_id,
            table.c.budget_id == budget.id,
            table.c.period == budget.period,
            table.c.period_start_us == period_start_us,
        )
    )
    return [_alert(row) for row in rows]


def set_resolved(connection: Connection, alert: Alert, resolved_at_us: int | None) -> None:
    """Note that an alert holds no more, or (None) that it holds again."""
    mine = (budget_alerts.c.org_id == alert.org_id, budget_alerts.c.id == alert.id)
    connection.execute(update(budget_alerts).where(*mine).values(resolved_at_us=resolved_at_us))


def _before(connection: Connection, scope: Scope, identity: str) -> Alert:
    """Read what the audit log keeps of the time before a change, which nobody else makes until this one is done."""
    return get_alert(connection, scope, identity, hold=True)


@audit.changes(_NOUN, _before, "acknowledge")
def acknowledge(connection: Connection, scope: Scope, identity: str, by: str, *, now_us: int | None = None) -> Alert:
    """Note who has seen an alert; the first one stays.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    alert = get_alert(connection, scope, identity)
    table = budget_alerts
    connection.execute(
        update(table)
        .where(table.c.org_id == alert.org_id, table.c.id == identity, table.c.acknowledged_at_us.is_(None))
        .values(acknowledged_at_us=subjects.now_us() if now_us is None else now_us, acknowledged_by=by)
    )
    return get_alert(connection, scope, identity)


def get_alert(connection: Connection, scope: Scope, identity: str, *, hold: bool = False) -> Alert:
    """Find an alert of the scope. `hold` keeps it from others who would change it until the transaction ends.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    mine = (within(scope, budget_alerts.c.org_id), budget_alerts.c.id == identity)
    one = select(budget_alerts).where(*mine)
    row = connection.execute(one.with_for_update() if hold else one).one_or_none()
    if row is None:
        raise NotFound(_NOUN, identity)
    return _alert(row)


def list_alerts(
    connection: Connection, scope: Scope, asked: AlertFilter, *, limit: int = 100, after: Position | None = None
) -> list[Alert]:
    """List alerts, newest first; `after` is (fired_at_us, id) of the last one that the caller has."""
    table = budget_alerts
    conditions = [within(scope, table.c.org_id)]
    if asked.budget_id is not None:
        conditions.append(table.c.budget_id == asked.budget_id)
    if asked.kind is not None:
        conditions.append(table.c.kind == asked.kind)
    if asked.is_acknowledged is not None:
        conditions.append(_is_set(table.c.acknowledged_at_us, asked.is_acknowledged))
    if asked.is_resolved is not None:
        conditions.append(_is_set(table.c.resolved_at_us, asked.is_resolved))
    if asked.start_us is not None:
        conditions.append(table.c.fired_at_us >= asked.start_us)
    if asked.end_us is not None:
        conditions.append(table.c.fired_at_us < asked.end_us)
    if after is not None:
        conditions.append(tuple_(table.c.fired_at_us, table.c.id) < after)
    listed = select(table).where(*conditions).order_by(table.c.fired_at_us.desc(), table.c.id.desc())
    return [_alert(row) for row in connection.execute(listed.limit(limit))]


def _is_set(column: ColumnElement[Any], wanted: bool) -> ColumnElement[bool]:
    return column.is_not(None) if wanted else column.is_(None)


def _identity(budget: Budget, threshold: Threshold, period_start_us: int) -> str:
    """Name an alert by what it is, so that its message has one id however often it is sent."""
    what = msgspec.json.encode((budget.org_id, budget.id, budget.period, period_start_us, threshold.name))
    return f"alr_{blake2b(what, digest_size=12).hexdigest()}"


def _alert(row: Row[Any]) -> Alert:
    amount: dict[str, Any] = {
        f"{name}_pico": join(row._mapping[f"{name}_units"], row._mapping[f"{name}_pico"]) for name in ("limit", "spent")
    }
    others = {name: row._mapping[name] for name in Alert.__struct_fields__ if name not in amount}
    return Alert(**others, **amount)

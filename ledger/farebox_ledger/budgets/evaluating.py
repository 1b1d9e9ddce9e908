"""The job that fires alerts: it compares every budget with its spending and writes what was reached, once.

Looked at is the period of now and the one before it, for 35 days after its end: late rows and re-pricing still fire the
alerts of a past period, once, and none of a period that ended before the budget was made. An alert whose threshold is
no longer reached is resolved; reached again, it holds again, and fires no second time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine

from farebox_ledger.budgets.periods import SINCE_EVER_US, UNTIL_FURTHER_NOTICE_US, Window, window_at
from farebox_ledger.budgets.spending import spending
from farebox_ledger.errors import NotFound
from farebox_ledger.money import pico_text
from farebox_ledger.store.budget_alerts import Alert, alerts_of_period, fire, set_resolved
from farebox_ledger.store.budgets import Budget, Threshold, active_budgets, get_budget
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Interrupted, Job, heartbeat
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.webhook_deliveries import emit, utc_text

EVALUATE: Final = "evaluate_budgets"

LATE_DAYS: Final = 35
"""How long after its end a period still fires alerts."""

_PAGE: Final = 100
_DAY_US: Final = 86_400_000_000
_EVERYBODY: Final = AllOrganizations()


class Evaluated(msgspec.Struct, frozen=True):
    """How many budgets were looked at, and how many alerts fired."""

    budgets: int
    fired: int


class _Findings(NamedTuple):
    """What is to be written of one period of a budget."""

    window: Window
    spent_pico: int
    fires: list[Threshold]
    resolves: list[Alert]
    holds_again: list[Alert]


def evaluate_budgets(engine: Engine, job: Job, stop: threading.Event) -> Evaluated:
    """Look at every budget that is switched on."""
    seen, fired, after = 0, 0, None
    while True:
        with transaction(engine, _EVERYBODY) as connection:
            page = active_budgets(connection, _EVERYBODY, limit=_PAGE, after=after)
        if not page:
            return Evaluated(seen, fired)
        for budget in page:
            if stop.is_set():
                raise Interrupted
            fired += len(evaluate_budget(engine, budget))
        with transaction(engine, _EVERYBODY, write=True) as connection:
            heartbeat(connection, job)
        seen += len(page)
        after = (page[-1].org_id, page[-1].id)


def evaluate_budget(engine: Engine, budget: Budget, *, now_us: int | None = None) -> list[Alert]:
    """Compare one budget with its spending, and answer the alerts that fired by that."""
    at_us = time.time_ns() // 1000 if now_us is None else now_us
    with transaction(engine, _EVERYBODY) as connection:
        found = [one for window in _windows(budget, at_us) if (one := _compared(connection, budget, window))]
    if not found:
        return []
    with transaction(engine, _EVERYBODY, write=True) as connection:
        if not _stands(connection, budget):
            return []  # changed meanwhile: the next run looks at it as it is then
        return [alert for one in found for alert in _written(connection, budget, one, at_us)]


def _windows(budget: Budget, at_us: int) -> Iterator[Window]:
    """Answer the periods that are looked at."""
    last_us = at_us if budget.ends_at_us is None else min(at_us, budget.ends_at_us - 1)
    window = window_at(budget, last_us)
    if window is None:
        return
    yield from (
        one
        for one in (window, window_at(budget, window.start_us - 1))
        if one is not None and one.end_us > max(at_us - LATE_DAYS * _DAY_US, budget.created_at_us)
    )


def _compared(connection: Connection, budget: Budget, window: Window) -> _Findings | None:
    """Compare one period; None when nothing is to be written."""
    spent_pico = spending(connection, budget, window).spent_pico
    known = {alert.threshold: alert for alert in alerts_of_period(connection, budget, window.identity_us)}
    reached = {one.name: one for one in budget.thresholds if spent_pico >= one.limit_pico(budget.amount_pico)}
    findings = _Findings(
        window=window,
        spent_pico=spent_pico,
        fires=[threshold for name, threshold in reached.items() if name not in known],
        resolves=[alert for name, alert in known.items() if alert.resolved_at_us is None and name not in reached],
        holds_again=[alert for name, alert in known.items() if alert.resolved_at_us is not None and name in reached],
    )
    return findings if findings.fires or findings.resolves or findings.holds_again else None


def _stands(connection: Connection, budget: Budget) -> bool:
    try:
        return get_budget(connection, OrgScope(budget.org_id), budget.id).row_version == budget.row_version
    except NotFound:
        return False


def _written(connection: Connection, budget: Budget, found: _Findings, at_us: int) -> Iterator[Alert]:
    for alert in found.resolves:
        set_resolved(connection, alert, at_us)
    for alert in found.holds_again:
        set_resolved(connection, alert, None)
    end_us = None if found.window.end_us >= UNTIL_FURTHER_NOTICE_US else found.window.end_us
    for threshold in found.fires:
        period = (found.window.identity_us, end_us)
        fired = fire(connection, budget, threshold, period, found.spent_pico, now_us=at_us)
        if fired is not None:
            told = _told(connection, budget, fired)
            emit(connection, OrgScope(budget.org_id), "budget.alert", fired.id, told, now_us=at_us)
            yield fired


def _told(connection: Connection, budget: Budget, alert: Alert) -> Mapping[str, Any]:
    """Write what a webhook is told: names and sums, nothing of any call."""
    organization = organizations_by_id(connection, [budget.org_id]).get(budget.org_id)
    return {
        "id": alert.id,
        "organization": None if organization is None else organization.slug,
        "budget": budget.id,
        "name": budget.name,
        "scope": budget.scope,
        "period": alert.period,
        "period_start": None if alert.period_start_us == SINCE_EVER_US else utc_text(alert.period_start_us),
        "period_end": None if alert.period_end_us is None else utc_text(alert.period_end_us),
        "threshold": alert.threshold,
        "kind": alert.kind,
        "amount": pico_text(budget.amount_pico),
        "limit": pico_text(alert.limit_pico),
        "spent": pico_text(alert.spent_pico),
        "currency": alert.currency,
        "fired_at": utc_text(alert.fired_at_us),
    }

"""Alerts of budgets, as answers."""

from __future__ import annotations

import msgspec

from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import Money, Timestamp, optional_timestamp, timestamp
from farebox_ledger.money import pico_text
from farebox_ledger.store.budget_alerts import Alert
from farebox_ledger.store.budget_tables import BudgetPeriod, ThresholdKind


class AlertAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold that was reached in a period, once; `spent` and `limit` are those of that moment.

    `resolved_at` says since when the period's spending lies below the threshold again. Null ends of the period are
    open.
    """

    id: str
    organization: str | None
    budget: str
    period: BudgetPeriod
    period_start: Timestamp | None
    period_end: Timestamp | None
    threshold: str
    kind: ThresholdKind
    limit: Money
    spent: Money
    currency: str
    fired_at: Timestamp
    resolved_at: Timestamp | None
    acknowledged_at: Timestamp | None
    acknowledged_by: str | None


class AlertPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[AlertAnswer]


def alert_answer(alert: Alert, organization: str | None) -> AlertAnswer:
    """Write an alert; `organization` is the slug of its owner."""
    return AlertAnswer(
        id=alert.id,
        organization=organization,
        budget=alert.budget_id,
        period=alert.period,
        period_start=optional_timestamp(alert.period_start_us or None),
        period_end=optional_timestamp(alert.period_end_us),
        threshold=alert.threshold,
        kind=alert.kind,
        limit=pico_text(alert.limit_pico),
        spent=pico_text(alert.spent_pico),
        currency=alert.currency,
        fired_at=timestamp(alert.fired_at_us),
        resolved_at=optional_timestamp(alert.resolved_at_us),
        acknowledged_at=optional_timestamp(alert.acknowledged_at_us),
        acknowledged_by=alert.acknowledged_by,
    )

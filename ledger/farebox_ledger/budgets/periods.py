"""Which period of a budget a moment lies in, cut by the clocks of the budget's zone and by its own begin and end.

Pure: no clock, no database. Times are microseconds since 1970 in UTC, half-open.
"""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from typing import Final, NamedTuple

from farebox_ledger.store.budget_tables import BudgetPeriod
from farebox_ledger.store.budgets import Budget
from farebox_ledger.store.timeline import bucket_bounds, day_start_us, zone

SINCE_EVER_US: Final = 0
UNTIL_FURTHER_NOTICE_US: Final = day_start_us(29990101)

_MONTHS: Final = {"quarter": 3, "year": 12}


class Window(NamedTuple):
    """One period, as far as the budget holds in it. `identity_us` is the begin of the period itself, uncut."""

    identity_us: int
    start_us: int
    end_us: int


def window_at(budget: Budget, at_us: int) -> Window | None:
    """Answer the period that a moment lies in; None where the budget does not hold then."""
    first = SINCE_EVER_US if budget.starts_at_us is None else budget.starts_at_us
    last = UNTIL_FURTHER_NOTICE_US if budget.ends_at_us is None else budget.ends_at_us
    if not first <= at_us < last:
        return None
    start_us, end_us = period_bounds(budget.period, budget.tz, at_us)
    return Window(start_us, max(start_us, first), min(end_us, last))


def period_bounds(period: BudgetPeriod, tz: str, at_us: int) -> tuple[int, int]:
    """Answer begin and end of the period of a zone that a moment lies in; weeks begin on Mondays."""
    if period == "total":
        return SINCE_EVER_US, UNTIL_FURTHER_NOTICE_US
    clock = zone(tz)
    if period in ("day", "week", "month"):
        start_us, end_us, *_ = bucket_bounds(at_us, at_us + 1, period, clock)
        return start_us, end_us
    local = datetime.fromtimestamp(at_us // 1_000_000, clock).date()
    months = _MONTHS[period]
    first = date(local.year, (local.month - 1) // months * months + 1, 1)
    following = date(local.year + (first.month - 1 + months) // 12, (first.month - 1 + months) % 12 + 1, 1)
    return _begin_us(first, clock), _begin_us(following, clock)


def _begin_us(day: date, clock: tzinfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=clock).timestamp()) * 1_000_000

"""May a call be made? Asked before it is, answered from what the books know by then.

farebox hears of calls after they were made, so this is advice, not a lock: calls under way are not in the sums yet, and
two callers may both be let through. The answer says up to when the books reach.
"""

from __future__ import annotations

import time
from typing import Literal, TypeAlias

import msgspec
from sqlalchemy import Connection

from farebox_ledger.budgets.periods import window_at
from farebox_ledger.budgets.spending import Spending, spending
from farebox_ledger.store.budgets import Budget, BudgetedCall, Threshold, binding_budgets
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.summaries import data_through_us

Decision: TypeAlias = Literal["allow", "warn", "deny"]


class Estimate(msgspec.Struct, frozen=True):
    """What a call is expected to cost, in pico-units of a currency."""

    cost_pico: int
    currency: str


class BindingBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that a call counts against, and the thresholds that it has reached or would reach with the call."""

    budget: Budget
    spending: Spending
    reached: tuple[Threshold, ...]

    @property
    def decision(self) -> Decision:
        """Say what the budget says: a hard threshold denies, a soft one warns."""
        kinds = {threshold.kind for threshold in self.reached}
        return "deny" if "hard" in kinds else "warn" if kinds else "allow"

    @property
    def remaining_pico(self) -> int:
        """Say what is left of the amount; below zero when more was spent."""
        return self.budget.amount_pico - self.spending.spent_pico


class Check(msgspec.Struct, frozen=True):
    """The answer: all budgets that bind the call. `data_through_us` as in `Spending`."""

    budgets: tuple[BindingBudget, ...]
    data_through_us: int | None
    checked_at_us: int

    @property
    def is_allowed(self) -> bool:
        """Say whether no budget denies."""
        return all(binding.decision != "deny" for binding in self.budgets)


def check(
    connection: Connection, org_id: int, call: BudgetedCall, estimate: Estimate | None, *, now_us: int | None = None
) -> Check:
    """Find the budgets that bind a call and what each says to it.

    An estimate counts in budgets of its own currency. Without one, a threshold counts as reached when the spending has
    reached it; with one, also when the call would bring it beyond.
    """
    at_us = time.time_ns() // 1000 if now_us is None else now_us
    scope = OrgScope(org_id)
    found = []
    for budget in binding_budgets(connection, scope, call, at_us):
        window = window_at(budget, at_us)
        if window is not None:
            spent = spending(connection, budget, window)
            found.append(BindingBudget(budget=budget, spending=spent, reached=_reached(budget, spent, estimate)))
    return Check(tuple(found), data_through_us(connection, scope), at_us)


def _reached(budget: Budget, spent: Spending, estimate: Estimate | None) -> tuple[Threshold, ...]:
    more = estimate.cost_pico if estimate is not None and estimate.currency == budget.currency else 0
    limits = ((threshold, threshold.limit_pico(budget.amount_pico)) for threshold in budget.thresholds)
    return tuple(
        threshold for threshold, limit in limits if spent.spent_pico >= limit or spent.spent_pico + more > limit
    )

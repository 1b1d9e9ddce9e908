"""Budgets: what was spent of them, what a call may still cost, and the job that fires their alerts."""

from farebox_ledger.budgets.checking import BindingBudget, Check, Estimate, check
from farebox_ledger.budgets.evaluating import EVALUATE, evaluate_budget, evaluate_budgets
from farebox_ledger.budgets.periods import Window, window_at
from farebox_ledger.budgets.spending import Spending, spending

__all__ = [
    "EVALUATE",
    "BindingBudget",
    "Check",
    "Estimate",
    "Spending",
    "Window",
    "check",
    "evaluate_budget",
    "evaluate_budgets",
    "spending",
    "window_at",
]

"""Budgets and bookings for the tests of budgets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Engine

from farebox_ledger.budgets import Spending, evaluate_budget, spending, window_at
from farebox_ledger.charges import change_charges
from farebox_ledger.store.budget_alerts import Alert, AlertFilter, list_alerts
from farebox_ledger.store.budgets import Budget, BudgetDraft, BudgetScope, create_budget
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.writing import Booking, book
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, booking, priced

UNIT = 10**12
MADE_US = NOON - 40 * 86_400_000_000


def cost(number: int, units: str, **facts: Any) -> Booking:
    """Make a call that costs so much, in a trace of its own."""
    charge = {name: facts.pop(name) for name in ("currency", "model") if name in facts}
    trace = {"trace_id": number.to_bytes(16, "big")}
    return booking(number, priced(int(Decimal(units) * UNIT), 0, **charge), **(trace | facts))


def book_all(engine: Engine, *bookings: Booking) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def change_all(engine: Engine, *changes: Booking) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        change_charges(connection, EVERYBODY, changes, cause="reprice:test", writer_slot=1)


def make_budget(engine: Engine, amount: str = "100", *, org_id: int = ACME, **members: Any) -> Budget:
    scope = BudgetScope(**members.pop("scope", {}))
    draft = BudgetDraft(name="a budget", amount=Decimal(amount), scope=scope, **members)
    with transaction(engine, EVERYBODY, write=True) as connection:
        return create_budget(connection, OrgScope(org_id), draft, now_us=MADE_US)


def make_organizations(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        for slug in ("acme", "zenith"):
            create_organization(connection, slug)


def spent(engine: Engine, budget: Budget, at_us: int = NOON) -> Spending:
    window = window_at(budget, at_us)
    assert window is not None
    with transaction(engine, EVERYBODY) as connection:
        return spending(connection, budget, window)


def fired(engine: Engine, budget: Budget, at_us: int = NOON) -> list[str]:
    """Evaluate, and name the thresholds that fired by it."""
    return [alert.threshold for alert in evaluate_budget(engine, budget, now_us=at_us)]


def alerts(engine: Engine) -> list[Alert]:
    with transaction(engine, EVERYBODY) as connection:
        return list_alerts(connection, EVERYBODY, AlertFilter())[::-1]

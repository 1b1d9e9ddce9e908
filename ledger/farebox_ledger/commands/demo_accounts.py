"""The credits and budgets of the demonstration: some in order, one overdrawn, one budget spent.

An organization that was just made and the days of its usage come in; accounts, grants, a purchase and budgets are
written, before any call is booked, because calls are charged to the accounts that stand when they are. Amounts fit what
`demo_usage` spends.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
from sqlalchemy import Connection

from farebox_ledger.credits import Granting, Purchase, grant_credits, record_purchase
from farebox_ledger.store.budgets import BudgetDraft, BudgetScope, create_budget
from farebox_ledger.store.credit_accounts import Account, Owner, create_account
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.timeline import DAY_US
from farebox_ledger.usage import org_id_of

_ACTOR: Final = "farebox demo-data"


class _DemoAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account, what it starts with, and what it is given every so many days, to be used within as many."""

    owner: Owner
    name: str
    rate: int = 1
    start: str
    allowance: int = 0
    every_days: int = 30
    bought: int = 0


_ACCOUNTS: Final = {
    "northwind": _DemoAccount(owner=Owner(), name="Prepaid", start="10", allowance=20, bought=50),
    # A hundred credits a dollar; what is left of a month is lost with it.
    "initech": _DemoAccount(owner=Owner(project="code-review"), name="Reviews", rate=100, start="500", allowance=6500),
    # Spent within days: the balance is below zero, and is shown so.
    "acme": _DemoAccount(owner=Owner(user="user-2"), name="Trial", start="0.25"),
}

_BUDGETS: Final = {
    "northwind": (
        BudgetDraft(name="Everything", amount=Decimal(25)),
        BudgetDraft(name="Support desk", amount=Decimal(8), scope=BudgetScope(project="support")),
    ),
    "initech": (
        BudgetDraft(name="Code review", amount=Decimal(60), scope=BudgetScope(project="code-review")),
        BudgetDraft(name="Claude", amount=Decimal(20), scope=BudgetScope(model="claude-sonnet-4-5"), period="week"),
    ),
    "globex": (BudgetDraft(name="Everything", amount=Decimal(500), period="total"),),
    # Less than a month's use, so that both of its thresholds are reached.
    "hooli": (BudgetDraft(name="Assistant", amount=Decimal(10)),),
    "acme": (BudgetDraft(name="user-2", amount=Decimal("0.05"), scope=BudgetScope(user="user-2"), period="day"),),
}


def open_demo_accounts(connection: Connection, slug: str, *, first_day_us: int, now_us: int) -> None:
    """Give one organization its account and budgets; it has neither yet."""
    org_id = org_id_of(slug)
    if slug in _ACCOUNTS:
        _open(connection, org_id, _ACCOUNTS[slug], first_day_us, now_us)
    for draft in _BUDGETS[slug]:
        create_budget(connection, OrgScope(org_id), draft)


def _open(connection: Connection, org_id: int, demo: _DemoAccount, first_day_us: int, now_us: int) -> None:
    scope = OrgScope(org_id)
    account = create_account(connection, scope, org_id, demo.owner, rate=Decimal(demo.rate), name=demo.name)
    start = Granting(
        amount=Decimal(demo.start), kind="initial_grant", effective_at_us=first_day_us, description="To begin with"
    )
    grant_credits(connection, account, start, actor=_ACTOR)
    if demo.allowance:
        _give_allowances(connection, account, demo, first_day_us, now_us)
    if demo.bought:
        bought = Decimal(demo.bought)
        payment = Purchase(amount=bought, external_id="demo-payment-1", paid=bought, description="Paid by card")
        record_purchase(connection, account, payment, actor=_ACTOR)


def _give_allowances(
    connection: Connection, account: Account, demo: _DemoAccount, first_day_us: int, now_us: int
) -> None:
    length_us = demo.every_days * DAY_US
    for at_us in range(first_day_us, now_us + 1, length_us):
        granting = Granting(
            amount=Decimal(demo.allowance),
            priority=10,  # before what does not expire
            effective_at_us=at_us,
            expires_at_us=at_us + length_us,
            description=f"Allowance of {demo.every_days} days",
        )
        grant_credits(connection, account, granting, actor=_ACTOR)

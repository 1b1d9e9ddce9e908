"""What was spent of budgets, in every scope and period, on both databases: equal to the summary of the same filter."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from farebox_ledger.budgets import check, window_at
from farebox_ledger.budgets.periods import period_bounds
from farebox_ledger.errors import InvalidInput, NotFound, Outdated
from farebox_ledger.store.budgets import (
    BudgetChange,
    BudgetDraft,
    BudgetedCall,
    BudgetScope,
    Threshold,
    change_budget,
    create_budget,
    delete_budget,
    get_budget,
    list_budgets,
)
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.filtering import UsageFilter
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.summaries import SummaryQuery, summarize
from tests.ledger.budgets.making import UNIT, book_all, cost, make_budget, spent
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, ZENITH, at, booking, random_booking, unpriced
from tests.ledger.store.test_plans import plans_of

SCOPES: list[dict[str, str]] = [
    {},
    {"project": "alpha"},
    {"provider": "openai", "model": "m"},
    {"service": "chatbot", "category": "rag"},
    {"user": "ann"},
    {"key": "key_1"},
    {"tag": "b"},
]


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@pytest.mark.parametrize(("period", "tz"), [("day", "UTC"), ("month", "Asia/Kathmandu"), ("total", "UTC")])
def test_L15_what_was_spent_is_what_the_summary_says(
    engine: Engine, scope: dict[str, Any], period: Any, tz: str
) -> None:
    random = Random(11)
    book_all(engine, *(random_booking(random, number) for number in range(150)))
    budget = make_budget(engine, scope=scope, period=period, tz=tz, currency="USD")

    for moment in (at("2026-03-30T20:00:00Z"), at("2026-03-31T18:20:00Z"), at("2026-04-01T12:00:00Z")):
        found = spent(engine, budget, moment)
        query = SummaryQuery(filter=UsageFilter(**scope), start_us=found.window.start_us, end_us=found.window.end_us)
        with transaction(engine, EVERYBODY) as connection:
            groups = summarize(connection, OrgScope(ACME), query).groups
        costs = {group.currency: group.cost_pico or 0 for group in groups if group.currency}
        assert found.spent_pico == costs.pop("USD", 0)
        assert found.other_currencies == costs
        assert found.unpriced_rows == sum(group.unpriced_rows for group in groups)
        assert found.requests == sum(group.requests for group in groups)


def test_other_currencies_and_unpriced_rows_stand_beside_what_counts(engine: Engine) -> None:
    book_all(engine, cost(1, "2"), cost(2, "3", currency="EUR"), booking(3, unpriced()), cost(4, "9", org_id=ZENITH))

    found = spent(engine, make_budget(engine, "10"))

    assert found.spent_pico == 2 * UNIT
    assert found.other_currencies == {"EUR": 3 * UNIT}
    assert (found.requests, found.unpriced_rows, found.is_complete) == (3, 1, False)
    assert found.data_through_us == NOON


@pytest.mark.parametrize(
    ("period", "tz", "moment", "start", "end"),
    [
        ("day", "UTC", "2026-03-10T12:00:00Z", "2026-03-10T00:00:00Z", "2026-03-11T00:00:00Z"),
        ("day", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("day", "Asia/Kathmandu", "2026-03-10T18:14:59Z", "2026-03-09T18:15:00Z", "2026-03-10T18:15:00Z"),
        ("week", "UTC", "2026-03-15T23:59:59Z", "2026-03-09T00:00:00Z", "2026-03-16T00:00:00Z"),
        ("month", "America/New_York", "2026-03-01T04:00:00Z", "2026-02-01T05:00:00Z", "2026-03-01T05:00:00Z"),
        ("quarter", "UTC", "2026-12-31T23:59:59Z", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("quarter", "UTC", "2026-05-01T00:00:00Z", "2026-04-01T00:00:00Z", "2026-07-01T00:00:00Z"),
        ("year", "Asia/Tokyo", "2025-12-31T15:00:00Z", "2025-12-31T15:00:00Z", "2026-12-31T15:00:00Z"),
    ],
)
def test_periods_are_cut_by_the_clocks_of_the_zone(period: Any, tz: str, moment: str, start: str, end: str) -> None:
    assert period_bounds(period, tz, at(moment)) == (at(start), at(end))


def test_a_budget_counts_only_while_it_holds(engine: Engine) -> None:
    book_all(
        engine, cost(1, "1", occurred_at_us=NOON - 1), cost(2, "2"), cost(3, "4", occurred_at_us=NOON + 60_000_000)
    )
    budget = make_budget(engine, starts_at_us=NOON, ends_at_us=NOON + 60_000_000)

    assert spent(engine, budget).spent_pico == 2 * UNIT
    assert window_at(budget, NOON - 1) is None
    assert window_at(budget, NOON + 60_000_000) is None


def test_a_change_of_an_old_version_is_refused_and_a_deleted_budget_is_gone(engine: Engine) -> None:
    budget = make_budget(engine, "100")
    with transaction(engine, EVERYBODY, write=True) as connection:
        changed = change_budget(
            connection, EVERYBODY, budget.id, BudgetChange(amount=Decimal("7.5")), expected_version=1
        )
        assert (changed.amount_pico, changed.row_version, changed.period) == (15 * UNIT // 2, 2, "month")
        with pytest.raises(Outdated):
            change_budget(connection, EVERYBODY, budget.id, BudgetChange(name="x"), expected_version=1)
        with pytest.raises(NotFound):
            get_budget(connection, OrgScope(ZENITH), budget.id)
        delete_budget(connection, OrgScope(ACME), budget.id, expected_version=2)
        assert list_budgets(connection, EVERYBODY) == []


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"amount": Decimal(0)}, "amount"),
        ({"amount": Decimal("NaN")}, "amount"),
        ({"amount": Decimal("1e-13")}, "amount"),
        ({"amount": Decimal("1e16")}, "amount"),
        ({"tz": "Mars/Olympus"}, "tz"),
        ({"currency": "usd"}, "currency"),
        ({"scope": BudgetScope(user="ann", tag="a")}, "scope.tag"),
        ({"scope": BudgetScope(user="ann", model="m")}, "scope.user"),
        ({"thresholds": (Threshold(kind="soft"),)}, "thresholds.0"),
        ({"thresholds": (Threshold(kind="soft", percent=Decimal("0.001")),)}, "thresholds.0.percent"),
        ({"thresholds": (Threshold(kind="soft", percent=Decimal(5)),) * 2}, "thresholds"),
        ({"starts_at_us": 2, "ends_at_us": 2}, "ends_at"),
    ],
    ids=str,
)
def test_what_is_no_budget_is_refused_by_name(engine: Engine, members: dict[str, Any], field: str) -> None:
    draft = BudgetDraft(**{"name": "b", "amount": Decimal(1), **members})

    with (
        pytest.raises(InvalidInput) as refused,
        transaction(engine, EVERYBODY, write=True) as connection,
    ):
        create_budget(connection, OrgScope(ACME), draft)
    assert refused.value.field == field


def test_the_database_refuses_what_is_no_budget(engine: Engine) -> None:
    budget = make_budget(engine)
    for change in ("amount_units = 0, amount_pico = 0", "amount_pico = 1000000000000", "period = 'hour'"):
        with pytest.raises(DBAPIError), transaction(engine, EVERYBODY, write=True) as connection:
            connection.execute(text(f"UPDATE budgets SET {change} WHERE id = :id"), {"id": budget.id})


def test_a_check_reads_budgets_and_sums_by_their_keys(engine: Engine) -> None:
    """No statement of a check walks a table: not the budgets, not the sums, not the rows."""
    for scope in ({}, {"user": "ann"}, {"project": "alpha"}):
        make_budget(engine, scope=scope, period="month")
    book_all(engine, *(cost(number, "1", user="ann", project="alpha") for number in range(1, 40)))
    call = BudgetedCall(user="ann", project="alpha")

    plans = plans_of(engine, lambda connection: check(connection, ACME, call, None, now_us=NOON))

    assert {
        table
        for table in ("budgets", "rollup_day", "rollup_day_by", "usage_rows")
        for statement, _ in plans
        if f"FROM {table} " in statement
    } == {"budgets", "rollup_day", "rollup_day_by", "usage_rows"}
    for statement, plan in plans:
        assert "SCAN" not in plan, f"{statement}\n{plan}"
        assert "Seq Scan" not in plan, f"{statement}\n{plan}"

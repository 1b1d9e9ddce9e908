"""Events are charged alike when they are booked and when they are priced anew; a stated cost bills where it may."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from farebox_ledger.pricing import Charge, CostLine, Policy, PriceBook
from farebox_ledger.pricing.events import charge_event
from farebox_ledger.usage import Usage
from tests.ledger.repricing_cases import price
from tests.ledger.store.bookings import ACME, ZENITH, event

PRICES = [price("gpt-4o"), price("euro", id="ltl_euro", currency="EUR")]
BOOK = PriceBook(PRICES, 1, policies={ACME: Policy(stated_cost_bills=True)})


def charged(**facts: Any) -> Charge:
    return charge_event(BOOK, event(**({"org_id": ZENITH} | facts)))


def stated(cost: str, **facts: Any) -> Charge:
    return charged(**({"org_id": ACME, "stated_cost": Decimal(cost)} | facts))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, ("billed", None)),
        ({"usage": Usage()}, ("unpriced", "missing_usage")),
        ({"usage": Usage(), "stream": True}, ("unpriced", "stream_without_usage")),
        ({"usage": Usage(), "status": "error"}, ("not_billable", "error_no_usage")),
        ({"usage": Usage(input_tokens=1000), "stream": True}, ("partial", "stream_without_usage")),
        ({"usage": Usage(input_tokens=1000), "status": "cancelled"}, ("partial", "stream_without_usage")),
        ({"usage": Usage(input_tokens=1000), "status": "cancelled", "operation": "embeddings"}, ("billed", None)),
        ({"tokens_source": "clamped"}, ("partial", "invalid_usage")),
    ],
)
def test_what_decides_a_charge_stands_on_the_event(facts: Any, expected: tuple[str, str | None]) -> None:
    charge = charged(**facts)

    assert (charge.status, charge.reason) == expected


def test_a_stated_cost_bills_where_the_policy_says_so_and_ours_stands_as_list_cost() -> None:
    charge = stated("0.005")

    assert (charge.status, charge.reason, charge.currency, charge.price) == ("billed", None, "USD", None)
    assert (charge.cost_pico, charge.list_cost_pico) == (5_000_000_000, 4_500_000_000)
    assert charge.lines == (CostLine("stated_cost", Decimal(1), "0.005", "1", 4_500_000_000, 5_000_000_000),)
    assert charge.detail == "as the provider states; by our prices USD 0.0045 (ltl_gpt-4o)"


def test_without_the_policy_ours_bills() -> None:
    charge = charged(stated_cost=Decimal("0.005"))

    assert (charge.cost_pico, charge.price and charge.price.id) == (4_500_000_000, "ltl_gpt-4o")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"request_model": "unheard"}, "unknown_model"),
        ({"usage": Usage()}, "missing_usage"),
        ({"usage": Usage(input_tokens=1000), "stream": True}, "stream_without_usage"),
    ],
)
def test_what_we_cannot_price_is_assumed_with_our_reason(facts: Any, reason: str) -> None:
    charge = stated("0.005", **facts)

    assert (charge.status, charge.reason) == ("assumed", reason)
    assert (charge.cost_pico, charge.list_cost_pico) == (5_000_000_000, 5_000_000_000)


def test_ours_in_another_currency_is_no_list_cost() -> None:
    charge = stated("0.005", request_model="euro")

    assert (charge.status, charge.currency, charge.list_cost_pico) == ("assumed", "USD", 5_000_000_000)


@pytest.mark.parametrize("cost", ["-1", "NaN", "Infinity", "10000000"])
def test_a_statement_that_is_no_amount_leaves_ours(cost: str) -> None:
    assert stated(cost).cost_pico == 4_500_000_000


def test_a_failed_call_without_usage_stays_not_billable() -> None:
    assert stated("0.005", usage=Usage(), status="error").status == "not_billable"

"""Events are charged alike when they are booked and when they are priced anew; a stated cost bills where it may."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from farebox_ledger.pricing import Band, Charge, CostLine, Policy, Price, PriceBook, Rates, Tier
from farebox_ledger.pricing.events import charge_event
from farebox_ledger.usage import Usage
from tests.ledger.repricing_cases import price
from tests.ledger.store.bookings import ACME, ZENITH, event

PRICES = [price("gpt-4o"), price("euro", id="ltl_euro", currency="EUR")]
BANDS = (Band(200_000, {"input_tokens": "0.000002"}),)
LONG = Price(
    id="ltl_long",
    source="litellm",
    provider="openai",
    model="long",
    rates=Rates(tiers={"standard": Tier({"input_tokens": "0.000001", "output_tokens": "0.00001"}, BANDS)}),
)
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


AGENTS = PriceBook(
    [price("gpt-4o"), price("old", id="gnp_old", source="genai-prices"), LONG],
    1,
    policies={ACME: Policy(aggregate_only_bills=True, stated_cost_bills=True)},
)


def aggregate(**facts: Any) -> Charge:
    plain: dict[str, Any] = {"org_id": ACME, "kind": "container"}
    return charge_event(AGENTS, event(**(plain | facts)))


def test_what_only_a_container_tells_is_unpriced_unless_the_policy_bills_it() -> None:
    assert aggregate(org_id=ZENITH) == Charge(status="unpriced", reason="aggregate_only")

    charge = aggregate()

    assert (charge.status, charge.reason, charge.detail) == ("assumed", "aggregate_only", None)
    assert (charge.cost_pico, charge.price and charge.price.id) == (4_500_000_000, "ltl_gpt-4o")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"request_model": "unheard"}, ("unpriced", "unknown_model")),
        ({"tokens_source": "clamped"}, ("partial", "invalid_usage")),
        ({"request_model": "old"}, ("assumed", "aggregate_only")),
        ({"stated_cost": Decimal("0.005")}, ("assumed", "aggregate_only")),
    ],
)
def test_a_container_that_bills_keeps_what_keeps_it_from_a_price(facts: Any, expected: tuple[str, str]) -> None:
    charge = aggregate(**facts)

    assert (charge.status, charge.reason) == expected


def test_the_detail_of_a_container_that_bills_says_why_its_price_is_second_best() -> None:
    assert aggregate(request_model="old").detail == "archived: the price comes from the genai-prices archive"
    assert aggregate(stated_cost=Decimal("0.005")).detail == (
        "as the provider states; by our prices USD 0.0045 (ltl_gpt-4o)"
    )


def test_the_sum_of_several_calls_is_no_long_call() -> None:
    usage = Usage(input_tokens=300_000, output_tokens=0)

    assert aggregate(request_model="long", usage=usage, kind="call").cost_pico == 600_000_000_000
    assert aggregate(request_model="long", usage=usage).cost_pico == 300_000_000_000

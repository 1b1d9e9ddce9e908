"""How the archive stands behind the catalog: what wins, what is assumed, when a date may be dropped."""

from __future__ import annotations

import pytest

from farebox_ledger.pricing import Match, NoMatch, Price, PriceBook, PriceSource, PricingRequest, Rates, Tier
from farebox_ledger.pricing.names import date_us
from farebox_ledger.usage import Usage
from tests.ledger.pricing.amounts import TUESDAY_NOON_US, at


def test_the_catalogs_less_exact_name_comes_before_the_archives_exact_one() -> None:
    book = PriceBook(
        [
            price("archived", "anthropic.claude-x-v1:0", source="genai-prices"),
            price("listed", "anthropic.claude-x"),
        ],
        1,
    )

    answer = resolve(book, "anthropic.claude-x-v1:0")

    assert isinstance(answer, Match)
    assert (answer.price.id, answer.reference.match_rule, answer.assumed) == ("listed", "without_version", None)
    assert "genai-prices aws.bedrock/anthropic.claude-x-v1:0 (archived): litellm listed comes first" in answer.rejected


def test_the_archives_price_of_the_served_model_comes_before_the_catalogs_of_the_requested_one() -> None:
    book = PriceBook([price("archived", "served", source="genai-prices"), price("listed", "asked")], 1)

    answer = resolve(book, "asked", served="served")

    assert isinstance(answer, Match)
    assert (answer.price.id, answer.reference.match_rule) == ("archived", "exact")
    assert answer.assumed is not None


def test_before_the_catalogs_price_began_the_archives_holds_and_no_less_exact_name() -> None:
    begin = at("2026-06-01T00:00:00+00:00")
    book = PriceBook(
        [
            price("older", "us.m", source="genai-prices", end=begin),
            price("today", "us.m", begin=begin),
            price("base", "m"),
        ],
        1,
    )

    before, after = (resolve(book, "us.m", at_us=moment) for moment in (begin - 1, begin))

    assert isinstance(before, Match)
    assert isinstance(after, Match)
    assert (before.price.id, before.assumed is None) == ("older", False)
    assert (after.price.id, after.assumed is None) == ("today", True)


@pytest.mark.parametrize(
    ("sibling", "found"),
    [
        ({"input_tokens": "0.1", "web_searches": "0.01"}, "without_date"),
        ({"input_tokens": "0.2"}, "ambiguous_model"),
    ],
)
def test_siblings_of_different_sources_are_compared_by_the_rates_that_both_list(
    sibling: dict[str, str], found: str
) -> None:
    book = PriceBook(
        [
            price("undated", "m", rates={"input_tokens": "0.1", "output_tokens": "0.4"}),
            price("dated", "m-2025-01-01", source="genai-prices", rates=sibling),
        ],
        1,
    )

    answer = resolve(book, "m-2025-02-02")

    assert (answer.reference.match_rule if isinstance(answer, Match) else answer.reason) == found


def test_a_name_dated_after_the_call_is_no_release_of_the_model() -> None:
    book = PriceBook([price("undated", "m")], 1)
    midnight = at("2026-11-04T00:00:00+00:00")

    early, late = (resolve(book, "m-2026-11-04", at_us=moment) for moment in (midnight - 1, midnight))

    assert isinstance(early, NoMatch)
    assert early.reason == "unknown_model"
    assert early.tried[-1] == "litellm aws.bedrock/m (undated): m-2026-11-04 is dated after the call"
    assert isinstance(late, Match)
    assert late.reference.match_rule == "without_date"


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("gpt-4o-2024-08-06", "2024-08-06T00:00:00+00:00"),
        ("claude-opus-4-5-20251101", "2025-11-01T00:00:00+00:00"),
        ("claude-opus-4-5@20251101", "2025-11-01T00:00:00+00:00"),
        ("m-2026-02-31", None),
        ("m", None),
    ],
)
def test_the_date_of_a_name_is_the_beginning_of_its_day(name: str, moment: str | None) -> None:
    assert date_us(name) == (at(moment) if moment else None)


def test_a_date_that_is_none_is_not_dropped() -> None:
    assert isinstance(resolve(PriceBook([price("undated", "m")], 1), "m-2026-02-31"), NoMatch)


def resolve(book: PriceBook, model: str, *, served: str | None = None, at_us: int = TUESDAY_NOON_US) -> Match | NoMatch:
    return book.resolve(
        PricingRequest(provider="aws.bedrock", request_model=model, response_model=served, at_us=at_us, usage=Usage())
    )


def price(
    identity: str,
    model: str,
    *,
    source: PriceSource = "litellm",
    rates: dict[str, str] | None = None,
    begin: int | None = None,
    end: int | None = None,
) -> Price:
    return Price(
        id=identity,
        source=source,
        provider="aws.bedrock",
        model=model,
        rates=Rates(tiers={"standard": Tier(rates or {"input_tokens": "0.1"})}),
        effective_from_us=begin,
        effective_to_us=end,
    )

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from farebox_ledger.pricing import (
    Charge,
    Match,
    ModelAlias,
    Multiplier,
    NoMatch,
    Policy,
    Price,
    PriceBook,
    PriceSource,
    PricingRequest,
    Rates,
    Tier,
)
from farebox_ledger.usage import Reason, Usage
from tests.ledger.pricing.amounts import TUESDAY_NOON_US, at, pico

Charging = Callable[..., Charge]


@pytest.mark.parametrize(
    ("provider", "model", "found", "rule"),
    [
        ("openai", "gpt-4o", "gpt-4o", "exact"),
        ("openai", "GPT-4o", "gpt-4o", "exact"),
        ("openai", "openai/gpt-4o", "gpt-4o", "without_prefix"),
        ("openai", "gpt-4o-mini", "gpt-4o-mini", "exact"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13", "exact"),
        ("openai", "gpt-5.2-20251211", "gpt-5.2", "without_date"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::a1", "ft:gpt-4o-mini-2024-07-18", "fine_tuned_base"),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929", "exact"),
        ("azure", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06", "exact"),
        ("azure.ai.openai", "eu/gpt-4o", "eu/gpt-4o", "exact"),
        ("azure.ai.openai", "apac/gpt-5.1", "gpt-5.1", "without_region"),
        ("gcp.gemini", "models/gemini-2.5-pro", "gemini-2.5-pro", "without_path"),
        ("gcp.gemini", "gemini/gemini-2.5-pro", "gemini-2.5-pro", "without_prefix"),
        ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro", "without_path"),
        (
            "gcp.vertex_ai",
            "projects/p/locations/us-central1/publishers/meta/models/llama-3.1-405b-instruct-maas",
            "meta/llama-3.1-405b-instruct-maas",
            "without_path",
        ),
        ("gcp.vertex_ai", "claude-opus-4-5-20251101", "claude-opus-4-5@20251101", "date_spelling"),
        ("aws.bedrock", "eu.anthropic.claude-opus-4-7", "eu.anthropic.claude-opus-4-7", "exact"),
        ("aws.bedrock", "jp.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0", "without_region"),
        ("aws.bedrock", "amazon.nova-lite-v1:0:24k", "amazon.nova-lite-v1:0", "without_version"),
        (
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "without_path",
        ),
        (
            "aws.bedrock",
            "arn:aws:bedrock:ap-northeast-1::foundation-model/anthropic.claude-v2:1",
            "ap-northeast-1/anthropic.claude-v2:1",
            "with_region",
        ),
        ("perplexity", "perplexity/perplexity/glm-5.3", "perplexity/glm-5.3", "without_prefix"),
        ("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b", "exact"),
        ("fireworks_ai", "accounts/fireworks/models/deepseek-v3", "accounts/fireworks/models/deepseek-v3", "exact"),
    ],
)
def test_a_name_finds_exactly_its_price(provider: str, model: str, found: str, rule: str, charge: Charging) -> None:
    charged = charge(provider, model, input_tokens=1)

    assert charged.price is not None, charged
    assert (charged.price.model, charged.price.match_rule) == (found, rule)


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("openai", "my-gpt-4o-proxy", "unknown_model"),
        ("openai", "gpt-4o-", "unknown_model"),
        ("openai", "gpt-4-32k", "unknown_model"),
        ("openai", "o1-mini", "unknown_model"),
        ("openai", "gpt-4o-2031-01-01", "ambiguous_model"),
        ("openai", "ft:gpt-5:acme::a1", "unknown_model"),
        ("openai", "gpt-4o-mini-2024-07-18.ft-abc", "unknown_model"),
        ("anthropic", "claude-opus-4-20250514", "unknown_model"),
        ("anthropic", "claude-3-5-haiku", "unknown_model"),
        ("azure", "my-deployment", "unknown_model"),
        ("aws.bedrock", "1-month-commitment/cohere.command-text-v14", "unknown_model"),
        ("aws.bedrock", "*/1-month-commitment/cohere.command-text-v14", "unknown_model"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1:1:application-inference-profile/a1b2c3", "unknown_model"),
        ("together_ai", "together-ai-8.1b-21b", "unknown_model"),
        ("openrouter", "openai/gpt-4o", "unknown_provider"),
        ("nobody", "gpt-4o", "unknown_provider"),
        (None, "no-such-model", "unknown_provider"),
        ("openai", None, "model_missing"),
        ("openai", "  ", "model_missing"),
        ("openai", "sample_spec", "unknown_model"),
        ("openai", "fallback_generalizations", "unknown_model"),
    ],
)
def test_an_unknown_name_costs_null_with_a_reason_and_never_zero(
    provider: str | None, model: str | None, reason: Reason, charge: Charging
) -> None:
    charged = charge(provider, model, input_tokens=1000, output_tokens=1000)

    assert (charged.status, charged.reason, charged.cost_pico, charged.lines) == ("unpriced", reason, None, ())


def test_the_served_model_is_priced_before_the_requested_one(charge: Charging) -> None:
    charged = charge("openai", "gpt-4o", served="gpt-4o-2024-05-13", input_tokens=1_000_000)

    assert charged.model == "gpt-4o-2024-05-13"
    assert charged.cost_pico == pico("5")


def test_an_unknown_served_model_leaves_the_requested_one_and_says_so(charge: Charging) -> None:
    charged = charge("openai", "gpt-4o", served="served-by-someone", input_tokens=1_000_000)

    assert charged.price is not None
    assert charged.price.match_rule == "request_model:exact"
    assert charged.cost_pico == pico("2.5")


@pytest.mark.parametrize(
    ("model", "maker"),
    [("claude-haiku-5-5", "anthropic"), ("gpt-4o", "openai"), ("gemini-2.5-flash", "gcp.gemini")],
)
def test_a_call_without_provider_goes_to_the_models_maker(charge: Charging, model: str, maker: str) -> None:
    charged = charge(None, model, input_tokens=1)

    assert (charged.provider, charged.status) == (maker, "billed")


def test_C20_a_maker_is_not_guessed_by_the_beginning_of_a_name(charge: Charging) -> None:
    charged = charge(None, "gpt-of-tomorrow", input_tokens=1)

    assert (charged.provider, charged.reason, charged.cost_pico) == (None, "unknown_provider", None)


def test_a_name_of_two_makers_is_ambiguous() -> None:
    book = PriceBook([price("a", "openai", "twin"), price("b", "anthropic", "twin")], 1)

    charged = book.charge(request(None, "twin"))

    assert (charged.status, charged.reason) == ("unpriced", "ambiguous_model")
    assert charged.detail == "the call names no provider; anthropic, openai lists 'twin' as its own"


def test_a_date_is_dropped_only_where_all_dated_siblings_cost_the_same() -> None:
    same = [price("u", "openai", "m"), price("d", "openai", "m-2026-01-01")]
    other = price("e", "openai", "m-2026-02-02", rate="0.9")

    assert found(PriceBook(same, 1), "openai", "m-2026-03-03") == ("u", "without_date")
    assert reason(PriceBook([*same, other], 1), "openai", "m-2026-03-03") == "ambiguous_model"


def test_a_dated_name_known_for_another_time_does_not_lose_its_date() -> None:
    book = PriceBook(
        [price("u", "openai", "m"), price("d", "openai", "m-2026-01-01", begin=at("2027-01-01T00:00:00+00:00"))], 1
    )

    assert reason(book, "openai", "m-2026-01-01") == "no_price_at_time"


def test_the_price_is_the_one_valid_at_the_end_of_the_call() -> None:
    change = at("2026-06-01T00:00:00+00:00")
    book = PriceBook([price("old", "openai", "m", end=change), price("new", "openai", "m", begin=change)], 1)

    assert found(book, "openai", "m", at_us=change - 1) == ("old", "exact")
    assert found(book, "openai", "m", at_us=change) == ("new", "exact")
    assert found(book, "openai", "m", at_us=change - 1) == ("old", "exact")


def test_a_price_of_the_future_is_no_price_now() -> None:
    book = PriceBook([price("next", "openai", "m", begin=TUESDAY_NOON_US + 1)], 1)

    assert reason(book, "openai", "m") == "no_price_at_time"
    assert found(book, "openai", "m", at_us=TUESDAY_NOON_US + 1) == ("next", "exact")


def test_an_override_of_the_organization_beats_a_global_one_and_that_the_catalog() -> None:
    book = PriceBook(
        [
            price("catalog", "openai", "m"),
            price("global", "openai", "m", source="override", rate="0.2"),
            price("acme", "openai", "m", source="override", org_id=7, rate="0.3"),
        ],
        1,
    )

    assert found(book, "openai", "m", org_id=7) == ("acme", "exact")
    assert found(book, "openai", "m", org_id=8) == ("global", "exact")
    assert found(book, "openai", "m") == ("global", "exact")


def test_what_lost_is_said_with_its_reason() -> None:
    book = PriceBook([price("catalog", "openai", "m"), price("own", "openai", "m", source="override", org_id=7)], 1)

    answer = book.resolve(request("openai", "m", org_id=7))

    assert isinstance(answer, Match)
    assert answer.rejected == ("litellm openai/m (catalog): loses to an override",)


def test_an_override_beside_a_time_of_no_override_ends_with_its_end() -> None:
    end = at("2026-06-01T00:00:00+00:00")
    book = PriceBook([price("catalog", "openai", "m"), price("own", "openai", "m", source="override", end=end)], 1)

    assert found(book, "openai", "m", at_us=end - 1) == ("own", "exact")
    assert found(book, "openai", "m", at_us=end) == ("catalog", "exact")


def test_an_override_that_inherits_keeps_the_rates_that_it_does_not_name() -> None:
    catalog = Price(
        id="catalog",
        source="litellm",
        provider="openai",
        model="m",
        rates=Rates(tiers={"standard": Tier({"input_tokens": "0.1", "output_tokens": "0.5"})}),
    )
    own = Price(
        id="own",
        source="override",
        provider="openai",
        model="m",
        rates=Rates(tiers={"standard": Tier({"output_tokens": "0.4"})}, inherits=True),
    )

    charged = PriceBook([catalog, own], 1).charge(request("openai", "m", Usage(input_tokens=1, output_tokens=1)))

    assert charged.cost_pico == pico("0.5")
    assert charged.price is not None
    assert charged.price.id == "own"


def test_an_override_that_does_not_inherit_prices_nothing_else() -> None:
    own = Price(
        id="own",
        source="override",
        provider="openai",
        model="m",
        rates=Rates(tiers={"standard": Tier({"output_tokens": "0.4"})}),
    )
    book = PriceBook([price("catalog", "openai", "m"), own], 1)

    charged = book.charge(request("openai", "m", Usage(input_tokens=1, output_tokens=1)))

    assert (charged.status, charged.reason, charged.detail) == ("partial", "no_rate_for_dimension", "input_tokens")
    assert charged.cost_pico == pico("0.4")


def test_the_archive_is_used_after_the_catalog_and_is_assumed() -> None:
    book = PriceBook(
        [price("a", "openai", "old", source="genai-prices"), price("b", "openai", "m", source="genai-prices"),
         price("c", "openai", "m")],
        1,
    )  # fmt: skip

    charged = book.charge(request("openai", "old"))

    assert found(book, "openai", "m") == ("c", "exact")
    assert (charged.status, charged.reason, charged.cost_pico) == ("assumed", "archived", pico("0.1"))


def test_the_archive_can_be_excluded() -> None:
    archived = price("a", "openai", "old", source="genai-prices")
    book = PriceBook([archived], 1, policy=Policy(use_archive=False))

    assert reason(book, "openai", "old") == "unknown_model"


def test_a_retired_price_holds_for_its_time_and_is_assumed_later() -> None:
    end = at("2026-06-01T00:00:00+00:00")
    book = PriceBook([price("gone", "openai", "m", end=end, retired=True)], 1)

    before = book.charge(request("openai", "m", at_us=end - 1))
    after = book.charge(request("openai", "m", at_us=end))

    assert (before.status, before.reason) == ("billed", None)
    assert (after.status, after.reason) == ("assumed", "archived")
    assert after.cost_pico == pico("0.1")


def test_a_price_that_ended_without_being_retired_is_not_carried_on() -> None:
    ended = price("ended", "openai", "m", end=TUESDAY_NOON_US)

    assert reason(PriceBook([ended], 1), "openai", "m") == "no_price_at_time"


def test_a_retired_price_is_not_carried_on_where_the_policy_forbids_it() -> None:
    gone = price("gone", "openai", "m", end=TUESDAY_NOON_US, retired=True)

    assert reason(PriceBook([gone], 1, policy=Policy(carry_retired=False)), "openai", "m") == "no_price_at_time"


def test_a_deployment_name_is_priced_through_its_alias() -> None:
    alias = ModelAlias(id="al", alias="Prod-Chat", target_model="gpt-4o", provider="azure", org_id=7)
    book = PriceBook([price("p", "azure.ai.openai", "gpt-4o")], 1, aliases=[alias])

    assert found(book, "azure", "prod-chat", org_id=7) == ("p", "alias:exact")
    assert reason(book, "azure", "prod-chat", org_id=8) == "unknown_model"
    assert reason(book, "openai", "prod-chat", org_id=7) == "unknown_provider"


def test_another_provider_is_reached_only_through_an_alias_that_names_it() -> None:
    alias = ModelAlias(id="al", alias="gpt-4o", target_model="gpt-4o", provider="gateway", target_provider="openai")
    book = PriceBook([price("p", "openai", "gpt-4o")], 1, aliases=[alias])

    assert found(book, "gateway", "gpt-4o") == ("p", "alias:cross_provider:exact")


def test_a_multiplier_changes_the_amount_and_leaves_the_list_amount() -> None:
    half = Multiplier(id="x", factor=Decimal("0.5"), upstream="reseller")
    book = PriceBook([price("p", "openai", "m")], 1, multipliers=[half])

    charged = book.charge(request("openai", "m", Usage(input_tokens=3), upstream="reseller"))

    assert (charged.list_cost_pico, charged.cost_pico, charged.multiplier) == (pico("0.3"), pico("0.15"), "0.5")
    assert charged.lines[0].multiplier == "0.5"
    assert book.charge(request("openai", "m", upstream="other")).multiplier is None


def test_a_multiplier_cannot_lift_an_amount_beyond_what_a_row_holds() -> None:
    book = PriceBook(
        [price("p", "openai", "m", rate="5000")], 1, multipliers=[Multiplier(id="x", factor=Decimal("1.8"))]
    )

    largest = book.charge(request("openai", "m", Usage(input_tokens=1000)))
    larger = book.charge(request("openai", "m", Usage(input_tokens=1001)))

    assert largest.cost_pico == pico("9000000")
    assert (larger.status, larger.reason, larger.cost_pico) == ("unpriced", "invalid_usage", None)


def test_the_most_specific_multiplier_holds() -> None:
    multipliers = [
        Multiplier(id="all", factor=Decimal(2)),
        Multiplier(id="provider", factor=Decimal(3), provider="openai"),
        Multiplier(id="upstream", factor=Decimal(4), upstream="reseller"),
        Multiplier(id="organization", factor=Decimal(5), org_id=7),
    ]
    book = PriceBook([price("p", "openai", "m"), price("q", "groq", "m")], 1, multipliers=multipliers)

    assert book.charge(request("groq", "m")).multiplier == "2"
    assert book.charge(request("openai", "m")).multiplier == "3"
    assert book.charge(request("openai", "m", upstream="reseller")).multiplier == "4"
    assert book.charge(request("openai", "m", upstream="reseller", org_id=7)).multiplier == "5"


def test_a_multiplier_ends_with_its_time() -> None:
    ended = Multiplier(id="x", factor=Decimal(2), effective_to_us=TUESDAY_NOON_US)
    book = PriceBook([price("p", "openai", "m")], 1, multipliers=[ended])

    assert book.charge(request("openai", "m")).multiplier is None
    assert book.charge(request("openai", "m", at_us=TUESDAY_NOON_US - 1)).multiplier == "2"


def test_a_long_name_fills_neither_the_memory_nor_the_row() -> None:
    book = PriceBook([price("p", "openai", "m")], 1)

    charged = book.charge(request("openai", "x" * 100_000))

    assert (charged.status, charged.reason) == ("unpriced", "unknown_model")
    assert charged.detail is not None
    assert len(charged.detail) == 500
    assert book._remembered == {}


def test_the_memory_of_resolutions_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farebox_ledger.pricing.book._MAX_REMEMBERED", 10)
    book = PriceBook([price("p", "openai", "m")], 1)

    for number in range(25):
        book.resolve(request("openai", f"m-{number}"))

    assert len(book._remembered) <= 10
    assert found(book, "openai", "m") == ("p", "exact")


def price(
    identity: str,
    provider: str,
    model: str,
    *,
    source: PriceSource = "litellm",
    rate: str = "0.1",
    org_id: int | None = None,
    begin: int | None = None,
    end: int | None = None,
    retired: bool = False,
) -> Price:
    return Price(
        id=identity,
        source=source,
        provider=provider,
        model=model,
        rates=Rates(tiers={"standard": Tier({"input_tokens": rate})}),
        org_id=org_id,
        effective_from_us=begin,
        effective_to_us=end,
        retired=retired,
    )


def request(
    provider: str | None,
    model: str,
    usage: Usage | None = None,
    *,
    at_us: int = TUESDAY_NOON_US,
    org_id: int | None = None,
    upstream: str | None = None,
) -> PricingRequest:
    return PricingRequest(
        provider=provider,
        request_model=model,
        response_model=None,
        at_us=at_us,
        usage=usage or Usage(input_tokens=1),
        org_id=org_id,
        upstream=upstream,
    )


def found(
    book: PriceBook, provider: str, model: str, *, at_us: int = TUESDAY_NOON_US, org_id: int | None = None
) -> tuple[str, str]:
    answer = book.resolve(request(provider, model, at_us=at_us, org_id=org_id))
    assert isinstance(answer, Match), answer
    return answer.price.id, answer.reference.match_rule


def reason(book: PriceBook, provider: str, model: str, *, org_id: int | None = None) -> Reason:
    answer = book.resolve(request(provider, model, org_id=org_id))
    assert isinstance(answer, NoMatch), answer
    return answer.reason

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from farebox_ledger.money import MAX_AMOUNT_PICO
from farebox_ledger.pricing import Band, Charge, CostLine, Price, PriceBook, PricingRequest, Rates, Tier, WebSearch
from farebox_ledger.usage import Usage
from tests.ledger.pricing.amounts import TUESDAY_NOON_US, pico

Charging = Callable[..., Charge]


def test_each_line_is_quantity_times_price(charge: Charging) -> None:
    charged = charge("anthropic", "claude-sonnet-4-5", input_tokens=1000, cache_read_input_tokens=300, output_tokens=10)

    assert charged.lines == (
        CostLine("input_tokens", Decimal(700), "0.000003", "1", pico("0.0021"), pico("0.0021")),
        CostLine("cache_read_input_tokens", Decimal(300), "0.0000003", "1", pico("0.00009"), pico("0.00009")),
        CostLine("output_tokens", Decimal(10), "0.000015", "1", pico("0.00015"), pico("0.00015")),
    )
    assert charged.cost_pico == pico("0.00234")


def test_cache_writes_are_shown_by_their_time_to_live(charge: Charging) -> None:
    charged = charge("anthropic", "claude-sonnet-4-5", input_tokens=30, cache_write_input_tokens={"5m": 10, "1h": 20})

    assert [(line.dimension, str(line.quantity), line.unit_price) for line in charged.lines] == [
        ("cache_write_5m_input_tokens", "10", "0.00000375"),
        ("cache_write_1h_input_tokens", "20", "0.000006"),
    ]


def test_a_usage_that_nobody_reported_costs_null(charge: Charging) -> None:
    charged = charge("openai", "gpt-4o")

    assert (charged.status, charged.reason, charged.cost_pico) == ("unpriced", "missing_usage", None)
    assert charged.model == "gpt-4o"


def test_a_reported_zero_is_billed_at_zero(charge: Charging) -> None:
    charged = charge("openai", "gpt-4o", input_tokens=0, output_tokens=0)

    assert (charged.status, charged.cost_pico, charged.lines) == ("billed", 0, ())


def test_a_free_model_costs_zero_and_says_free(charge: Charging) -> None:
    charged = charge("ollama", "llama3", input_tokens=1000, output_tokens=1000)

    assert (charged.status, charged.reason, charged.cost_pico, charged.list_cost_pico) == ("free", None, 0, 0)


@pytest.mark.parametrize(
    "parts",
    [
        {"cache_read_input_tokens": 101},
        {"cache_write_input_tokens": {"5m": 60, "1h": 41}},
        {"cache_read_input_tokens": 60, "cache_write_input_tokens": {"5m": 41}},
        {"audio_input_tokens": 101},
        {"image_input_tokens": 60, "audio_input_tokens": 41},
    ],
)
def test_parts_beyond_the_whole_are_billed_by_the_total(parts: dict[str, object], charge: Charging) -> None:
    charged = charge("anthropic", "claude-sonnet-4-5", input_tokens=100, output_tokens=10, **parts)

    assert (charged.status, charged.reason) == ("partial", "invalid_usage")
    assert charged.detail == "the parts of input_tokens exceed it"
    assert charged.cost_pico == pico("0.00045")  # 100 x $3/M + 10 x $15/M


def test_reasoning_beyond_the_output_is_billed_by_the_total(charge: Charging) -> None:
    charged = charge("openai", "o4-mini", input_tokens=0, output_tokens=10, reasoning_output_tokens=50)

    assert (charged.status, charged.reason) == ("partial", "invalid_usage")
    assert charged.cost_pico == pico("0.000044")


@pytest.mark.parametrize("value", [-1, 2**40 + 1])
def test_an_unusable_count_is_read_as_zero_and_marked(value: int, charge: Charging) -> None:
    charged = charge("openai", "gpt-4o", input_tokens=value, output_tokens=10)

    assert (charged.status, charged.reason, charged.cost_pico) == ("partial", "invalid_usage", pico("0.0001"))


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-1", "sNaN"])
def test_unusable_seconds_are_read_as_zero_and_marked(seconds: str, charge: Charging) -> None:
    charged = charge("openai", "whisper-1", input_seconds=Decimal(seconds))

    assert (charged.status, charged.reason, charged.cost_pico) == ("partial", "invalid_usage", 0)


def test_a_call_marked_invalid_on_the_way_in_is_partial() -> None:
    charged = charged_at({"input_tokens": "0.1"}, Usage(input_tokens=0), is_invalid=True)

    assert (charged.status, charged.reason, charged.cost_pico) == ("partial", "invalid_usage", 0)


def test_a_stream_that_broke_off_is_billed_for_what_is_known() -> None:
    known = charged_at({"input_tokens": "0.1", "output_tokens": "1"}, Usage(input_tokens=2), is_incomplete=True)
    unknown = charged_at({"input_tokens": "0.1"}, Usage(), is_incomplete=True)

    assert (known.status, known.reason, known.cost_pico) == ("partial", "stream_without_usage", pico("0.2"))
    assert (unknown.status, unknown.reason, unknown.cost_pico) == ("unpriced", "stream_without_usage", None)


def test_parts_without_a_whole_are_billed_and_the_whole_is_missing() -> None:
    charged = charged_at({"input_tokens": "1", "cache_read_input_tokens": "0.1"}, Usage(cache_read_input_tokens=5))

    assert (charged.status, charged.reason, charged.detail) == ("partial", "missing_usage", "input_tokens")
    assert charged.cost_pico == pico("0.5")


def test_a_quantity_without_any_rate_leaves_the_rest_and_names_itself(charge: Charging) -> None:
    charged = charge("openai", "gpt-audio", input_tokens=1000, web_searches=1)

    assert (charged.status, charged.reason, charged.detail) == ("partial", "no_rate_for_dimension", "web_searches")
    assert charged.cost_pico == pico("0.0025")


def test_a_call_of_which_nothing_has_a_rate_costs_null(charge: Charging) -> None:
    charged = charge("openai", "gpt-4o", input_seconds=Decimal(3))

    assert (charged.status, charged.reason, charged.detail) == ("unpriced", "no_rate_for_dimension", "input_seconds")
    assert charged.cost_pico is None


def test_a_part_without_a_rate_stays_inside_and_is_named(charge: Charging) -> None:
    charged = charge("openai", "gpt-4", input_tokens=1000, cache_read_input_tokens=400)

    assert (charged.status, charged.cost_pico) == ("billed", pico("0.03"))
    assert charged.detail == "inside their whole for want of a rate: cache_read_input_tokens"


def test_a_units_rate_is_not_added_to_the_tokens_that_contain_it(charge: Charging) -> None:
    # gpt-4o-mini-transcribe lists tokens and seconds for the same audio: 600 x $1.25/M + 20 x $5/M
    charged = charge("openai", "gpt-4o-mini-transcribe", input_tokens=600, input_seconds=Decimal(60), output_tokens=20)

    assert (charged.status, charged.cost_pico) == ("billed", pico("0.00085"))


def test_units_bill_where_no_tokens_were_reported(charge: Charging) -> None:
    charged = charge("openai", "gpt-4o-mini-transcribe", input_seconds=Decimal(60))

    assert (charged.status, charged.cost_pico) == ("billed", pico("0.003"))


def test_P04_images_are_priced_each_in_and_out() -> None:
    charged = charged_at({"input_images": "0.002", "output_images": "0.04"}, Usage(input_images=3, output_images=2))

    assert [(line.dimension, str(line.quantity), line.unit_price) for line in charged.lines] == [
        ("input_images", "3", "0.002"),
        ("output_images", "2", "0.04"),
    ]
    assert (charged.status, charged.cost_pico) == ("billed", pico("0.086"))


def test_a_request_fee_falls_due_once_a_call() -> None:
    rates = {"input_tokens": "0.1", "requests": "5"}

    assert charged_at(rates, Usage(input_tokens=1)).cost_pico == pico("5.1")
    assert charged_at(rates, Usage(input_tokens=1, requests=3)).cost_pico == pico("15.1")


def test_a_web_search_of_unknown_size_is_not_guessed() -> None:
    sizes = Rates(
        tiers={"standard": Tier({"input_tokens": "0.1"})}, web_search=WebSearch(low="1", medium="2", high="3")
    )

    unknown = charged_by(sizes, Usage(input_tokens=1, web_searches=1))
    known = charged_by(sizes, Usage(input_tokens=1, web_searches=2, search_context_size="high"))

    assert (unknown.status, unknown.reason, unknown.cost_pico) == ("partial", "no_rate_for_dimension", pico("0.1"))
    assert (known.status, known.cost_pico) == ("billed", pico("6.1"))


@pytest.mark.parametrize("tier", ["scale", "reserved", "priority"])
def test_a_tier_without_any_rate_is_never_billed_as_standard(tier: str, charge: Charging) -> None:
    charged = charge("anthropic", "claude-sonnet-4-5", tier=tier, input_tokens=1000)

    assert (charged.status, charged.reason, charged.detail) == ("unpriced", "no_rate_for_tier", tier)
    assert charged.cost_pico is None


@pytest.mark.parametrize("tier", [None, "", "auto", "default", "standard", "ON_DEMAND", "on_demand"])
def test_these_tiers_are_the_standard_one(tier: str | None, charge: Charging) -> None:
    charged = charge("openai", "gpt-4o", tier=tier, input_tokens=1000)

    assert (charged.status, charged.cost_pico) == ("billed", pico("0.0025"))


def test_the_fast_mode_of_openai_is_its_priority_tier(charge: Charging) -> None:
    charged = charge("openai", "gpt-4o", tier="fast", input_tokens=1000)

    assert (charged.status, charged.cost_pico) == ("billed", pico("0.00425"))


def test_a_documented_ratio_is_assumed_and_says_where_it_is_written(charge: Charging) -> None:
    charged = charge("mistral_ai", "mistral-large-latest", batch=True, input_tokens=1000)

    assert (charged.status, charged.reason) == ("assumed", "no_rate_for_tier")
    assert charged.detail == "batch: 0.5 x standard (Mistral pricing, Batch API)"


def test_a_batch_at_a_provider_that_documents_none_is_not_halved(charge: Charging) -> None:
    charged = charge("groq", "openai/gpt-oss-120b", batch=True, input_tokens=1000)

    assert (charged.status, charged.reason, charged.cost_pico) == ("unpriced", "no_rate_for_tier", None)


def test_one_rate_missing_in_a_tier_leaves_the_others() -> None:
    rates = Rates(
        tiers={
            "standard": Tier({"input_tokens": "1", "cache_read_input_tokens": "0.1"}),
            "priority": Tier({"input_tokens": "2"}),
        }
    )

    charged = charged_by(rates, Usage(input_tokens=10, cache_read_input_tokens=4), service_tier="priority")

    assert (charged.status, charged.reason, charged.detail) == (
        "partial",
        "no_rate_for_tier",
        "priority: cache_read_input_tokens",
    )
    assert charged.cost_pico == pico("12")


def test_a_tier_that_lists_no_long_rates_does_not_bill_long_requests_at_its_short_ones() -> None:
    rates = Rates(
        tiers={
            "standard": Tier({"input_tokens": "1"}, (Band(100, {"input_tokens": "2"}),)),
            "priority": Tier({"input_tokens": "3"}),
        }
    )

    short = charged_by(rates, Usage(input_tokens=100), service_tier="priority")
    long = charged_by(rates, Usage(input_tokens=101), service_tier="priority")

    assert (short.status, short.cost_pico) == ("billed", pico("300"))
    assert (long.status, long.reason, long.cost_pico) == ("unpriced", "no_rate_for_tier", None)


def test_a_rate_without_a_long_value_keeps_its_base_value() -> None:
    rates = Rates(
        tiers={"standard": Tier({"input_tokens": "1", "output_tokens": "5"}, (Band(100, {"input_tokens": "2"}),))}
    )

    charged = charged_by(rates, Usage(input_tokens=101, output_tokens=1))

    assert charged.cost_pico == pico("207")


def test_of_several_bands_the_highest_reached_holds() -> None:
    bands = (Band(10, {"input_tokens": "2"}), Band(20, {"input_tokens": "3"}))
    rates = Rates(tiers={"standard": Tier({"input_tokens": "1"}, bands)})

    costs = {tokens: charged_by(rates, Usage(input_tokens=tokens)).cost_pico for tokens in (10, 11, 20, 21)}

    assert costs == {10: pico("10"), 11: pico("22"), 20: pico("40"), 21: pico("63")}


def test_an_hour_long_write_that_the_catalog_forgets_is_assumed_at_twice_the_input(charge: Charging) -> None:
    # 1,000 x $6/M: Bedrock's sonnet 4 lists writes of five minutes alone (LiteLLM #27781).
    model = "anthropic.claude-sonnet-4-20250514-v1:0"

    short = charge("aws.bedrock", model, input_tokens=1000, cache_write_input_tokens={"5m": 1000})
    hour = charge("aws.bedrock", model, input_tokens=1000, cache_write_input_tokens={"1h": 1000})

    assert (short.status, short.cost_pico) == ("billed", pico("0.00375"))
    assert (hour.status, hour.reason, hour.cost_pico) == ("assumed", "no_rate_for_dimension", pico("0.006"))
    assert hour.detail == "cache writes of one hour: 2 x input (Anthropic pricing, prompt caching)"


def test_a_long_write_without_its_own_rate_is_assumed_at_the_base_rate() -> None:
    rates = {"input_tokens": "1", "cache_write_input_tokens": "1.5"}

    short = charged_at(rates, Usage(input_tokens=4, cache_write_input_tokens={"5m": 4}))
    hour = charged_at(rates, Usage(input_tokens=4, cache_write_input_tokens={"1h": 4}))

    assert (short.status, short.cost_pico) == ("billed", pico("6"))
    assert (hour.status, hour.reason, hour.cost_pico) == ("assumed", "no_rate_for_dimension", pico("6"))


def test_a_price_by_resolution_is_assumed_at_the_default_one() -> None:
    rates = Rates(tiers={"standard": Tier({"output_images": "0.15"})}, variants={"output_images": {"4K": "0.3"}})

    charged = charged_by(rates, Usage(output_images=2))

    assert (charged.status, charged.reason, charged.cost_pico) == ("assumed", "no_rate_for_dimension", pico("0.3"))
    assert charged.detail == "the price of output_images goes by resolution; the default one applies"


def test_a_line_is_rounded_once_half_to_even() -> None:
    half = charged_at({"input_tokens": "0.0000000000005"}, Usage(input_tokens=1))
    one_and_a_half = charged_at({"input_tokens": "0.0000000000005"}, Usage(input_tokens=3))
    many = charged_at({"input_tokens": "0.0000000000005"}, Usage(input_tokens=1_000_001))

    assert (half.cost_pico, one_and_a_half.cost_pico, many.cost_pico) == (0, 2, 500_000)


def test_an_amount_that_no_row_can_hold_is_refused_and_not_cut() -> None:
    charged = charged_at({"input_tokens": "1000"}, Usage(input_tokens=9_001))
    edge = charged_at({"input_tokens": "1000"}, Usage(input_tokens=9_000))

    assert (charged.status, charged.reason, charged.cost_pico) == ("unpriced", "invalid_usage", None)
    assert edge.cost_pico == MAX_AMOUNT_PICO


def charged_at(rates: dict[str, str], usage: Usage, *, is_invalid: bool = False, is_incomplete: bool = False) -> Charge:
    return charged_by(Rates(tiers={"standard": Tier(rates)}), usage, is_invalid=is_invalid, is_incomplete=is_incomplete)


def charged_by(
    rates: Rates,
    usage: Usage,
    *,
    service_tier: str | None = None,
    is_invalid: bool = False,
    is_incomplete: bool = False,
) -> Charge:
    price = Price(id="p", source="litellm", provider="somebody", model="m", rates=rates)
    return PriceBook([price], 1).charge(
        PricingRequest(
            provider="somebody",
            request_model="m",
            response_model=None,
            at_us=TUESDAY_NOON_US,
            usage=usage,
            service_tier=service_tier,
            is_invalid=is_invalid,
            is_incomplete=is_incomplete,
        )
    )

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from farebox_ledger.catalog import LitellmCatalog, exact_rate, read_litellm, shipped_snapshots, snapshot_content
from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing import Band, OffPeak, Price, Rates, Tier, WebSearch, Window


@pytest.fixture(scope="module")
def shipped() -> LitellmCatalog:
    return read_litellm(snapshot_content(shipped_snapshots()[0]))


def test_the_shipped_file_becomes_prices_and_nothing_of_it_is_silently_lost(shipped: LitellmCatalog) -> None:
    entries = json.loads(snapshot_content(shipped_snapshots()[0]))
    merged = len(shipped.merged)

    assert len(entries) == 4553
    assert len(shipped.prices) + merged + len(shipped.refused) + len(shipped.without_price) == 4553 - 2
    assert len(shipped.prices) > 4300


def test_every_price_key_of_the_shipped_file_is_understood(shipped: LitellmCatalog) -> None:
    assert shipped.unknown_keys == {}


def test_what_is_no_model_is_no_price(shipped: LitellmCatalog) -> None:
    names = {price.model for price in shipped.prices} | {refused.key for refused in shipped.refused}

    assert not names & {"sample_spec", "fallback_generalizations"}


def test_prices_of_the_shipped_file_have_different_names_and_ids(shipped: LitellmCatalog) -> None:
    assert len({(price.provider, price.model.casefold()) for price in shipped.prices}) == len(shipped.prices)
    assert len({price.id for price in shipped.prices}) == len(shipped.prices)


def test_every_shipped_rate_is_exact_canonical_text(shipped: LitellmCatalog) -> None:
    for price in shipped.prices:
        for tier in price.rates.tiers.values():
            for table in (tier.rates, *(band.rates for band in tier.bands)):
                for rate in table.values():
                    assert Decimal(rate) >= 0
                    assert "E" not in rate
                    assert rate == "0" or len(rate.replace(".", "").strip("0")) <= 15


@pytest.mark.parametrize(
    ("listed", "rate"),
    [
        ("2.5e-06", "0.0000025"),
        ("0.0000029999900000000002", "0.00000299999"),
        ("1.0003e-07", "0.00000010003"),
        ("3.3333333333333335e-05", "0.0000333333333333333"),
        ("0", "0"),
        ("0.0", "0"),
        ("1", "1"),
        ('"3e-7"', "0.0000003"),
    ],
)
def test_a_listed_number_becomes_exact_at_fifteen_digits(listed: str, rate: str) -> None:
    assert exact_rate(json.loads(listed, parse_float=Decimal)) == rate


def test_fifteen_digits_are_those_of_a_floats_shortest_form() -> None:
    for number in (0.1 + 0.2, 1.1 * 3e-6, 7e-8 * 1.429e-6, 1 / 3):
        assert Decimal(exact_rate(Decimal(number))) == Decimal(f"{number:.15g}")


@pytest.mark.parametrize("listed", [True, None, -1, "abc", "NaN", "-0.1", "1e400", [], {}, 1.5])
def test_what_is_no_rate_is_refused(listed: object) -> None:
    with pytest.raises(InvalidInput, match="rate: expected a number"):
        exact_rate(listed)


def test_tiers_bands_and_times_to_live_find_their_place() -> None:
    price = one(
        {
            "litellm_provider": "openai",
            "mode": "chat",
            "source": "https://example.com/prices",
            "input_cost_per_token": 2e-6,
            "input_cost_per_token_above_272k_tokens": 4e-6,
            "input_cost_per_token_flex": 1e-6,
            "input_cost_per_token_above_272k_tokens_flex": 2e-6,
            "cache_creation_input_token_cost": 2.5e-6,
            "cache_creation_input_token_cost_above_12hr": 5e-6,
            "cache_creation_input_token_cost_above_12hr_above_272k_tokens_flex": 5e-6,
            "cache_read_input_token_cost_batches": 1e-7,
        }
    )

    assert price.rates == Rates(
        tiers={
            "standard": Tier(
                {
                    "input_tokens": "0.000002",
                    "cache_write_input_tokens": "0.0000025",
                    "cache_write_12h_input_tokens": "0.000005",
                },
                (Band(272_000, {"input_tokens": "0.000004"}),),
            ),
            "flex": Tier(
                {"input_tokens": "0.000001"},
                (Band(272_000, {"input_tokens": "0.000002", "cache_write_12h_input_tokens": "0.000005"}),),
            ),
            "batch": Tier({"cache_read_input_tokens": "0.0000001"}),
        }
    )
    assert (price.source_url, price.mode, price.currency) == ("https://example.com/prices", "chat", "USD")


def test_ranges_become_bands_that_begin_behind_the_upper_bound() -> None:
    price = one(
        {
            "litellm_provider": "dashscope",
            "tiered_pricing": [
                {"range": [0, 32000.0], "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6},
                {"range": [32000.0, 128000.0], "input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6},
            ],
        }
    )

    assert price.rates.tiers == {
        "standard": Tier(
            {"input_tokens": "0.000001", "output_tokens": "0.000004"},
            (Band(32_000, {"input_tokens": "0.000002", "output_tokens": "0.000008"}),),
        )
    }


def test_off_peak_windows_are_read_in_minutes_of_the_utc_day() -> None:
    price = one(
        {
            "litellm_provider": "tencent",
            "input_cost_per_token": 3e-7,
            "off_peak_pricing": {
                "input_cost_per_token": 1.5e-7,
                "weekday_timezone": "Asia/Shanghai",
                "windows": [
                    {"hours_utc": ["00:00-01:00", "10:00-00:00"], "weekdays": [1, 2]},
                    {"hours_utc": "22:30-02:00", "weekdays": [6]},
                ],
            },
        }
    )

    assert price.rates.off_peak == OffPeak(
        {"input_tokens": "0.00000015"},
        (Window((1, 2), ((0, 60), (600, 1440))), Window((6,), ((1350, 1440), (0, 120)))),
        weekday_offset_minutes=480,
    )


def test_factors_of_speed_and_region_are_read_and_other_notes_are_not() -> None:
    rates = one(
        {
            "litellm_provider": "anthropic",
            "input_cost_per_token": 4e-6,
            "provider_specific_entry": {"us": 1.1, "fast": 2, "minimax_free_input_images": 5},
            "regional_processing_uplift_multiplier_eu": 1.1,
            "regional_endpoint_uplift_multiplier": 1.2,
        }
    ).rates

    assert rates.tier_factors == {"fast": "2"}
    assert rates.region_factors == {"us": "1.1", "eu": "1.1", "*": "1.2"}


@pytest.mark.parametrize(
    ("entry", "search"),
    [
        ({"litellm_provider": "openai"}, WebSearch("0.01", "0.02", "0.03")),
        ({"litellm_provider": "perplexity"}, WebSearch("0.01", "0.02", "0.03", per="request", always=True)),
        ({"litellm_provider": "gemini"}, WebSearch("0.01", "0.02", "0.03", per="request")),
        ({"litellm_provider": "gemini", "web_search_billing_unit": "per_query"}, WebSearch("0.01", "0.02", "0.03")),
    ],
)
def test_searches_go_by_size_and_by_what_the_provider_counts(entry: dict[str, Any], search: WebSearch) -> None:
    sizes = {f"search_context_size_{size}": cost for size, cost in (("low", 0.01), ("medium", 0.02), ("high", 0.03))}

    price = one({**entry, "input_cost_per_token": 1e-6, "search_context_cost_per_query": sizes})

    assert price.rates.web_search == search


def test_rates_that_no_usage_member_selects_are_kept_for_display() -> None:
    rates = one(
        {
            "litellm_provider": "fal_ai",
            "output_cost_per_image": 0.15,
            "output_cost_per_image_4K": 0.3,
            "output_cost_per_second_1080p": 0.68,
            "code_interpreter_cost_per_session": 0.03,
        }
    ).rates

    assert rates.standard == {"output_images": "0.15"}
    assert rates.variants == {"output_images": {"4K": "0.3"}, "output_seconds": {"1080p": "0.68"}}
    assert rates.unmeasured == {"code_interpreter_cost_per_session": "0.03"}


def test_a_price_key_of_tomorrow_is_counted_and_the_others_are_read() -> None:
    catalog = read({"m": {"litellm_provider": "openai", "input_cost_per_token": 1e-6, "input_cost_per_smell": 1}})

    assert catalog.unknown_keys == {"input_cost_per_smell": 1}
    assert [price.rates.standard for price in catalog.prices] == [{"input_tokens": "0.000001"}]


@pytest.mark.parametrize(
    ("key", "entry", "reason"),
    [
        ("m", {"litellm_provider": "openai", "input_cost_per_token": -1}, "input_cost_per_token: expected a number"),
        (
            "m",
            {"litellm_provider": "openai", "input_cost_per_token": "dear"},
            "input_cost_per_token: expected a number",
        ),
        ("m", {"input_cost_per_token": 1}, "litellm_provider is missing"),
        ("m", [], "expected an object"),
        ("bedrock/*/x", {"litellm_provider": "bedrock", "input_cost_per_token": 1}, "a wildcard names no model"),
        ("together-ai-8b-21b", {"litellm_provider": "together_ai", "input_cost_per_token": 1}, "a size bucket"),
        (
            "m",
            {"litellm_provider": "exa_ai", "tiered_pricing": [{"max_results_range": [0, 25]}]},
            "tiered_pricing goes by",
        ),
        (
            "m",
            {"litellm_provider": "dashscope", "tiered_pricing": [{"range": [5, 9], "input_cost_per_token": 1}]},
            "tiered_pricing leaves a gap",
        ),
        (
            "m",
            {"litellm_provider": "x", "off_peak_pricing": {"windows": 3}, "input_cost_per_token": 1},
            "off_peak_pricing",
        ),
        (
            "m",
            {
                "litellm_provider": "x",
                "input_cost_per_token": 1,
                "off_peak_pricing": {"windows": [], "weekday_timezone": "Mars/Olympus"},
            },
            "off_peak_pricing names the calendar",
        ),
        (
            "m",
            {
                "litellm_provider": "x",
                "input_cost_per_token": 1,
                "off_peak_pricing": {"windows": [{"hours_utc": "noon"}]},
            },
            "off_peak_pricing",
        ),
        ("m", {"litellm_provider": "x", "tiered_pricing": [{"range": "wide"}]}, "tiered_pricing"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused_alone_with_its_reason(key: str, entry: Any, reason: str) -> None:
    good = {"litellm_provider": "openai", "input_cost_per_token": 1e-6}

    catalog = read({key: entry, "good": good})

    assert [refused.key for refused in catalog.refused] == [key]
    assert catalog.refused[0].reason.startswith(reason)
    assert [price.model for price in catalog.prices] == ["good"]


def test_zero_everywhere_is_free_only_where_somebody_says_so(shipped: LitellmCatalog) -> None:
    zero = {"input_cost_per_token": 0, "output_cost_per_token": 0.0}

    catalog = read(
        {
            "ollama/llama3": {"litellm_provider": "ollama", **zero},
            "ollama/gpt-oss:20b-cloud": {"litellm_provider": "ollama", **zero},
            "gigachat/GigaChat-2": {"litellm_provider": "gigachat", **zero},
        }
    )

    assert [(price.model, price.rates.free) for price in catalog.prices] == [("llama3", True)]
    assert [refused.key for refused in catalog.refused] == ["ollama/gpt-oss:20b-cloud", "gigachat/GigaChat-2"]
    assert {price.provider for price in shipped.prices if price.rates.free} == {
        "ollama",
        "lemonade",
        "openai",
        "searxng",
    }


def test_an_entry_without_any_price_is_no_price() -> None:
    catalog = read({"github_copilot/gpt-5": {"litellm_provider": "github_copilot", "mode": "chat", "max_tokens": 5}})

    assert (catalog.prices, catalog.without_price) == ([], ["github_copilot/gpt-5"])


def test_two_keys_of_one_model_are_one_price_with_the_rates_of_both() -> None:
    catalog = read(
        {
            "gemini-3.5-flash": {
                "litellm_provider": "vertex_ai-language-models",
                "input_cost_per_token": 1e-6,
                "input_cost_per_token_batches": 5e-7,
            },
            "vertex_ai/gemini-3.5-flash": {
                "litellm_provider": "vertex_ai",
                "input_cost_per_token": 2e-6,
                "regional_endpoint_uplift_multiplier": 1.1,
            },
        }
    )

    (price,) = catalog.prices
    assert catalog.merged == [("gemini-3.5-flash", "vertex_ai/gemini-3.5-flash")]
    assert (price.provider, price.model) == ("gcp.vertex_ai", "gemini-3.5-flash")
    assert price.rates.standard == {"input_tokens": "0.000002"}
    assert price.rates.tiers["batch"].rates == {"input_tokens": "0.0000005"}
    assert price.rates.region_factors == {"*": "1.1"}


def test_the_older_name_of_a_cache_read_counts_where_the_newer_is_missing() -> None:
    base = {"litellm_provider": "deepseek", "input_cost_per_token": 3e-7, "input_cost_per_token_cache_hit": 6e-9}

    assert one(base).rates.standard["cache_read_input_tokens"] == "0.000000006"
    assert one({**base, "cache_read_input_token_cost": 5e-9}).rates.standard["cache_read_input_tokens"] == "0.000000005"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_price_list_is_refused_whole(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="catalog: expected"):
        read_litellm(content)


def read(entries: Mapping[str, Any]) -> LitellmCatalog:
    return read_litellm(json.dumps(entries).encode())


def one(entry: dict[str, Any]) -> Price:
    catalog = read({"model": entry})
    assert catalog.refused == []
    return catalog.prices[0]

from __future__ import annotations

import msgspec

from farebox_ledger.pricing import Band, OffPeak, Rates, Tier, WebSearch, Window, overlay, price_id

FULL = Rates(
    tiers={
        "standard": Tier({"input_tokens": "0.000002"}, (Band(200_000, {"input_tokens": "0.000004"}),)),
        "batch": Tier({"input_tokens": "0.000001"}),
    },
    tier_factors={"fast": "2"},
    region_factors={"us": "1.1"},
    off_peak=OffPeak({"input_tokens": "0.000001"}, (Window((6, 7), ((0, 1440),)),), 480),
    web_search=WebSearch("0.01", "0.01", "0.01", per="request", always=True),
    threshold_inclusive=True,
    variants={"output_images": {"4K": "0.3"}},
    unmeasured={"code_interpreter_cost_per_session": "0.03"},
)


def test_rates_survive_the_way_into_the_database_and_back() -> None:
    assert msgspec.json.decode(msgspec.json.encode(FULL), type=Rates) == FULL


def test_rates_are_decimal_strings_in_json() -> None:
    rates = Rates(tiers={"standard": Tier({"input_tokens": "0.00000015"})})

    assert msgspec.json.encode(rates) == b'{"tiers":{"standard":{"rates":{"input_tokens":"0.00000015"}}}}'


def test_the_same_price_has_the_same_id_whatever_the_order_of_its_rates() -> None:
    one = Rates(tiers={"standard": Tier({"input_tokens": "1", "output_tokens": "2"})})
    other = Rates(tiers={"standard": Tier({"output_tokens": "2", "input_tokens": "1"})})

    assert price_id("litellm", "openai", "m", one) == price_id("litellm", "openai", "m", other)


def test_another_rate_time_or_currency_gives_another_id() -> None:
    rates = Rates(tiers={"standard": Tier({"input_tokens": "1"})})
    ids = {
        price_id("litellm", "openai", "m", rates),
        price_id("litellm", "openai", "m", Rates(tiers={"standard": Tier({"input_tokens": "2"})})),
        price_id("litellm", "openai", "m", rates, effective_from_us=1),
        price_id("litellm", "openai", "m", rates, currency="EUR"),
        price_id("genai-prices", "openai", "m", rates),
    }

    assert len(ids) == 5


def test_an_overlay_replaces_what_it_names_and_keeps_the_rest() -> None:
    top = Rates(tiers={"standard": Tier({"output_tokens": "0.00001"})}, region_factors={"eu": "1.2"})

    merged = overlay(FULL, top)

    assert merged.standard == {"input_tokens": "0.000002", "output_tokens": "0.00001"}
    assert merged.tiers["batch"] == FULL.tiers["batch"]
    assert merged.region_factors == {"us": "1.1", "eu": "1.2"}
    assert merged.web_search == FULL.web_search


def test_an_overlaid_rate_without_bands_holds_at_every_length() -> None:
    top = Rates(tiers={"standard": Tier({"input_tokens": "0.000003"})})

    merged = overlay(FULL, top)

    assert merged.tiers["standard"].bands == (Band(200_000, {"input_tokens": "0.000003"}),)


def test_an_overlaid_band_joins_the_bands_below() -> None:
    top = Rates(tiers={"standard": Tier({}, (Band(100_000, {"input_tokens": "0.000003"}),))})

    merged = overlay(FULL, top)

    assert merged.tiers["standard"].bands == (
        Band(100_000, {"input_tokens": "0.000003"}),
        Band(200_000, {"input_tokens": "0.000004"}),
    )

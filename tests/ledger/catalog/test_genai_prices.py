from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from farebox_ledger.catalog import (
    GenaiCatalog,
    read_genai_prices,
    shipped_prices,
    shipped_snapshots,
    snapshot_content,
)
from farebox_ledger.catalog.retired_names import RETIRED_NAMES
from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing import (
    Band,
    Charge,
    Match,
    NoMatch,
    OffPeak,
    Policy,
    Price,
    PriceBook,
    PricingRequest,
    Rates,
    Tier,
    Window,
)
from farebox_ledger.usage import Usage

UNITS = {
    "input_mtok": {"usage": "input_tokens", "per": 1_000_000},
    "output_mtok": {"usage": "output_tokens", "per": 1_000_000},
    "cache_write_1h_mtok": {"usage": "cache_write_1h_tokens", "per": 1_000_000},
    "web_searches_kcount": {"usage": "web_searches", "per": 1000},
    "storage_searches_kcount": {"usage": "storage_searches", "per": 1000},
    "input_audio_hours": {"usage": "input_audio_seconds", "per": 3600},
    "smell_kcount": {"usage": "smells", "per": 1000},
    "broken": {"usage": "input_tokens", "per": 0},
}
EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)


@pytest.fixture(scope="module")
def content() -> bytes:
    (snapshot,) = [one for one in shipped_snapshots() if one.source == "genai-prices"]
    return snapshot_content(snapshot)


@pytest.fixture(scope="module")
def shipped(content: bytes) -> GenaiCatalog:
    return read_genai_prices(content)


@pytest.fixture(scope="module")
def both() -> list[Price]:
    """Everything that an empty database is filled with."""
    return [price for snapshot in shipped_snapshots() for price in shipped_prices(snapshot).prices]


@pytest.fixture(scope="module")
def book(both: list[Price]) -> PriceBook:
    return PriceBook(both, version=1)


@pytest.fixture(scope="module")
def archive_book(shipped: GenaiCatalog) -> PriceBook:
    return PriceBook(shipped.prices, version=1)


# What the shipped archive holds


def test_every_model_of_the_archive_is_a_price_or_has_a_reason(shipped: GenaiCatalog, content: bytes) -> None:
    models = {f"{one['id']}/{model['id']}" for one in json.loads(content)["providers"] for model in one["models"]}
    refused = {one.key for one in shipped.refused}

    assert len(models) == 2330
    assert len(shipped.without_price) == 179
    assert refused < models
    assert not refused & set(shipped.without_price)
    assert len(shipped.prices) > 3500
    assert all(one.reason for one in shipped.refused)


def test_every_unit_of_the_archive_has_its_place(shipped: GenaiCatalog, content: bytes) -> None:
    assert len(json.loads(content)["units"]) == 59
    assert shipped.unknown_units == {}
    assert shipped.unselected == {"route=mistral/eu": 9, "search_type=fast": 1, "search_type=web": 0}


def test_no_name_comes_from_a_pattern(shipped: GenaiCatalog, content: bytes) -> None:
    written = {name for one in json.loads(content)["providers"] for model in one["models"] for name in model["names"]}
    written |= {name for names in RETIRED_NAMES.values() for name in names}

    assert {price.model for price in shipped.prices} <= written
    assert not [price.model for price in shipped.prices if price.model.endswith("-") or "regional." in price.model]


def test_retired_names_belong_to_models_that_the_archive_has(content: bytes) -> None:
    models = {(one["id"], model["id"]) for one in json.loads(content)["providers"] for model in one["models"]}

    assert set(RETIRED_NAMES) <= models


def test_no_rate_of_the_archive_was_ever_a_float(shipped: GenaiCatalog, content: bytes) -> None:
    floats: list[str] = []
    json.loads(content, parse_float=floats.append)

    assert floats == []
    for rate in (rate for price in shipped.prices for rate in every_rate(price.rates)):
        assert Decimal(rate) >= 0
        assert "E" not in rate
        assert rate == "0" or len(rate.replace(".", "").strip("0")) <= 15


def test_the_spans_of_one_name_follow_each_other_without_gap_or_overlap(shipped: GenaiCatalog) -> None:
    chains: dict[tuple[str, str], list[Price]] = {}
    for price in shipped.prices:
        chains.setdefault((price.provider, price.model.casefold()), []).append(price)

    assert len({price.id for price in shipped.prices}) == len(shipped.prices)
    for chain in chains.values():
        chain.sort(key=lambda one: one.effective_from_us or 0)
        assert (chain[0].effective_from_us is None) or len(chain) == 1
        assert chain[-1].effective_to_us is None
        for earlier, later in pairwise(chain):
            assert earlier.effective_to_us == later.effective_from_us
            assert earlier.rates != later.rates


def test_what_is_converted_borrowed_or_lacks_its_audio_is_refused(shipped: GenaiCatalog) -> None:
    reasons = {one.key: one.reason for one in shipped.refused}

    assert "CNY" in reasons["zhipuai/GLM-5"]
    assert "OpenRouter" in reasons["openai/gpt-oss-120b"]
    assert "audio" in reasons["openai/gpt-4o-audio-preview"]
    assert "patterns" in reasons["openai/ft:gpt-4o"]


# What calls cost by it: figures from genai-prices 0.2.3, costs by hand


@pytest.mark.parametrize(
    ("provider", "model", "moment", "cost"),
    [
        # 1,000,000 in and 100,000 out
        ("openai", "o3", "2025-05-01T12:00:00", "14"),  # 10 + 4; price cut on 2025-06-10
        ("openai", "o3", "2025-06-09T23:59:59", "14"),
        ("openai", "o3", "2025-06-10T00:00:00", "2.8"),  # 2 + 0.8
        ("openai", "o3", "2025-07-01T12:00:00", "2.8"),
        ("openai", "o3-2025-04-16", "2025-05-01T12:00:00", "14"),
        ("openai", "gpt-4.5-preview", "2025-05-01T12:00:00", "90"),  # 75 + 15
        ("openai", "gpt-4.5-preview-2025-02-27", "2025-05-01T12:00:00", "90"),
        ("anthropic", "claude-3-5-haiku", "2025-05-01T12:00:00", "1.2"),  # 0.8 + 0.4
        ("anthropic", "claude-3-5-haiku-20241022", "2025-05-01T12:00:00", "1.2"),
        ("anthropic", "claude-opus-4-20250514", "2025-08-01T12:00:00", "22.5"),  # 15 + 7.5
        ("gcp.gemini", "gemini-1.5-pro", "2025-05-01T12:00:00", "3.5"),  # beyond 128,000: 2.5 + 1
        ("gcp.gemini", "models/gemini-1.5-pro-002", "2025-05-01T12:00:00", "3.5"),
        ("groq", "llama-3.3-70b-versatile", "2025-08-01T12:00:00", "0.669"),  # 0.59 + 0.079
        ("x_ai", "grok-3", "2025-08-01T12:00:00", "4.5"),  # 3 + 1.5
        ("openrouter", "anthropic/claude-2", "2025-08-01T12:00:00", "10.4"),  # 8 + 2.4
    ],
)
def test_retired_models_and_older_prices_are_charged_at_the_archives_figures(
    book: PriceBook, archive_book: PriceBook, provider: str, model: str, moment: str, cost: str
) -> None:
    call = request(provider, model, moment, Usage(input_tokens=1_000_000, output_tokens=100_000))

    alone, together = archive_book.charge(call), book.charge(call)

    assert dollars(alone) == dollars(together) == Decimal(cost)
    assert (alone.status, alone.reason) == ("assumed", "archived")
    assert together.status in ("assumed", "billed")


def test_an_older_price_is_assumed_and_todays_is_billed(book: PriceBook) -> None:
    before = book.charge(request("openai", "o3", "2025-05-01T12:00:00", Usage(input_tokens=1)))
    after = book.charge(request("openai", "o3", "2025-07-01T12:00:00", Usage(input_tokens=1)))

    assert (before.status, before.reason) == ("assumed", "archived")
    assert before.price is not None
    assert before.price.source == "genai-prices"
    assert (after.status, after.reason) == ("billed", None)
    assert after.price is not None
    assert (after.price.source, after.price.effective_from) == ("litellm", "2025-06-10T00:00:00Z")


@pytest.mark.parametrize(
    ("provider", "model"),
    [("anthropic", "claude-3-5-haiku"), ("openai", "gpt-4.5-preview"), ("gcp.gemini", "gemini-1.5-pro")],
)
def test_without_the_archive_its_models_have_no_price(both: list[Price], provider: str, model: str) -> None:
    strict = PriceBook(both, version=1, policy=Policy(use_archive=False))

    charged = strict.charge(request(provider, model, "2025-05-01T12:00:00", Usage(input_tokens=1)))

    assert (charged.status, charged.reason, charged.cost_pico) == ("unpriced", "unknown_model", None)


@pytest.mark.parametrize(
    ("tokens", "cost"),
    [(199_999, "0.24999875"), (200_000, "0.5"), (200_001, "0.5000025")],  # 1.25, from 200,000 on 2.5 per million
)
def test_xais_threshold_belongs_to_the_long_rates(archive_book: PriceBook, tokens: int, cost: str) -> None:
    call = request("x_ai", "grok-4.20", "2026-11-03T12:00:00", Usage(input_tokens=tokens))

    assert dollars(archive_book.charge(call)) == Decimal(cost)


@pytest.mark.parametrize(
    ("tokens", "cost"), [(100_000, "0.01"), (100_001, "0.0500005")]
)  # claude-haiku-5-5: 0.1, beyond 100,000 tokens 0.5 per million
def test_every_other_threshold_is_crossed_behind_it(archive_book: PriceBook, tokens: int, cost: str) -> None:
    call = request("anthropic", "claude-haiku-5-5", "2026-11-03T12:00:00", Usage(input_tokens=tokens))

    assert dollars(archive_book.charge(call)) == Decimal(cost)


@pytest.mark.parametrize(
    ("model", "moment", "cost"),
    [
        # 1,000,000 in and as many out. deepseek-chat: 0.135 + 0.55, from 00:30 to 16:30 UTC 0.27 + 1.1
        ("deepseek-chat", "2025-03-04T00:29:59", "0.685"),
        ("deepseek-chat", "2025-03-04T00:30:00", "1.37"),
        ("deepseek-chat", "2025-03-04T16:29:59", "1.37"),
        ("deepseek-chat", "2025-03-04T16:30:00", "0.685"),
        # deepseek-v4-pro: 0.435 + 0.87 at every hour; since 2026-08-17 0.66 + 1.98, and double at two peaks
        ("deepseek-v4-pro", "2026-08-16T02:00:00", "1.305"),
        ("deepseek-v4-pro", "2026-08-17T00:59:59", "2.64"),
        ("deepseek-v4-pro", "2026-08-17T01:00:00", "5.28"),
        ("deepseek-v4-pro", "2026-08-17T04:00:00", "2.64"),
        ("deepseek-v4-pro", "2026-08-17T06:00:00", "5.28"),
        ("deepseek-v4-pro", "2026-08-17T10:00:00", "2.64"),
        # deepseek-v4-flash has three prices; its peak hours belong to the last
        ("deepseek-v4-flash", "2026-08-16T02:00:00", "0.42"),
        ("deepseek-v4-flash", "2026-09-09T02:00:00", "0.88"),
        ("deepseek-v4-flash", "2026-09-10T02:00:00", "1.5"),
        ("deepseek-v4-flash", "2026-09-10T12:00:00", "0.75"),
    ],
)
def test_deepseeks_hours_count_from_the_price_that_they_belong_to(
    archive_book: PriceBook, model: str, moment: str, cost: str
) -> None:
    call = request("deepseek", model, moment, Usage(input_tokens=1_000_000, output_tokens=1_000_000))

    assert dollars(archive_book.charge(call)) == Decimal(cost)


@pytest.mark.parametrize(
    ("tier", "batch", "moment", "cost", "reason"),
    [
        # o3 on 2026-11-03, 1,000,000 in: standard 2, flex 1, priority and fast 3.5, batch 1
        (None, False, "2026-11-03T12:00:00", "2", "archived"),
        ("default", False, "2026-11-03T12:00:00", "2", "archived"),
        ("flex", False, "2026-11-03T12:00:00", "1", "archived"),
        ("priority", False, "2026-11-03T12:00:00", "3.5", "archived"),
        ("fast", False, "2026-11-03T12:00:00", "3.5", "archived"),
        (None, True, "2026-11-03T12:00:00", "1", "archived"),
        # The batch rates are listed from the day on which they were verified; before it, half the price is documented.
        (None, True, "2026-10-01T12:00:00", "1", "no_rate_for_tier"),
    ],
)
def test_kinds_of_request_are_tiers_from_their_day_on(
    archive_book: PriceBook, tier: str | None, batch: bool, moment: str, cost: str, reason: str
) -> None:
    call = request("openai", "o3", moment, Usage(input_tokens=1_000_000), service_tier=tier, batch=batch)

    charged = archive_book.charge(call)

    assert (dollars(charged), charged.status, charged.reason) == (Decimal(cost), "assumed", reason)


def test_a_tier_that_the_archive_does_not_list_is_not_billed_as_standard(archive_book: PriceBook) -> None:
    call = request("openai", "gpt-4.5-preview", "2025-05-01T12:00:00", Usage(input_tokens=1), service_tier="priority")

    charged = archive_book.charge(call)

    assert (charged.status, charged.reason, charged.cost_pico) == ("unpriced", "no_rate_for_tier", None)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-sonnet-4-5-20991231"),  # genai-prices prices it by its beginning
        ("anthropic", "claude-3-5-haiku-20991231"),
        ("openai", "o3-2099-12-31"),
        ("azure", "gpt-4o-mini-2024-07-18.ft-abc"),
        ("anthropic", "claude-3-opus-of-mine"),
        ("gcp.gemini", "my-gemini-1.5-pro-proxy"),
        ("openai", "ft:gpt-3.5-turbo-:x"),
    ],
)
def test_a_name_that_only_begins_like_one_or_contains_one_has_no_price(
    book: PriceBook, archive_book: PriceBook, provider: str, model: str
) -> None:
    call = request(provider, model, "2026-11-03T12:00:00", Usage(input_tokens=1))

    for one in (book, archive_book):
        answer = one.resolve(call)
        assert isinstance(answer, NoMatch)
        assert answer.reason in ("unknown_model", "unknown_provider")


def test_the_archive_changes_no_answer_that_the_catalog_gives_today(both: list[Price], book: PriceBook) -> None:
    catalog = [price for price in both if price.source == "litellm"]
    alone = PriceBook(catalog, version=1)

    for price in catalog:
        for name in (price.model, f"{price.model}-2026-03-03"):
            call = request(price.provider, name, "2026-11-20T12:00:00", Usage())
            before, after = alone.resolve(call), book.resolve(call)
            if isinstance(before, Match):
                assert isinstance(after, Match)
                assert after.reference == before.reference


# How the file is read


def test_dates_become_a_chain_and_equal_neighbors_are_one() -> None:
    catalog = read(
        prices=[
            {"rates": {"input_mtok": "10", "output_mtok": "40"}},
            {"rates": {"input_mtok": "2", "output_mtok": "8"}, "since": "2025-06-10"},
            {"rates": {"input_mtok": "2", "output_mtok": "8"}, "since": "2025-07-01"},
        ]
    )

    begin = at("2025-06-10T00:00:00")
    assert [(price.effective_from_us, price.effective_to_us) for price in catalog.prices] == [
        (None, begin),
        (begin, None),
    ]
    assert [price.rates.standard["input_tokens"] for price in catalog.prices] == ["0.00001", "0.000002"]


def test_each_exact_name_is_a_price_and_spellings_of_one_name_are_not_two() -> None:
    catalog = read(names=["GLM-5", "glm-5", "glm-5-latest"])

    assert [price.model for price in catalog.prices] == ["GLM-5", "glm-5-latest"]


def test_a_name_that_stands_for_another_model_already_is_refused() -> None:
    model = {"id": "a", "names": ["m"], "prices": [{"rates": {"input_mtok": "1"}}]}

    catalog = read_models("openai", [model, {**model, "id": "b"}])

    assert [(one.key, one.reason) for one in catalog.refused] == [
        ("openai/b", "the name 'm' stands for a already"),
    ]


@pytest.mark.parametrize(
    ("provider", "model", "seller"),
    [
        ("aws", "amazon.nova-lite-v1:0", "aws.bedrock"),
        ("x-ai", "grok-3", "x_ai"),
        ("google", "gemini-1.5-pro", "gcp.gemini"),
        ("google", "claude-3-opus", "gcp.vertex_ai"),
        ("azure", "o1", "azure.ai.openai"),
        ("azure", "phi-4", "azure.ai.inference"),
        ("together", "m", "together_ai"),
        ("voyageai", "m", "voyage"),
        ("openrouter", "openai/gpt-4o", "openrouter"),
        ("nobody-knows", "m", "nobody-knows"),
    ],
)
def test_providers_get_the_names_that_calls_carry(provider: str, model: str, seller: str) -> None:
    catalog = read_models(provider, [{"id": model, "names": [model], "prices": [{"rates": {"input_mtok": "1"}}]}])

    assert {price.provider for price in catalog.prices} == {seller}


def test_tiered_rates_become_bands_and_a_rate_without_tiers_stays() -> None:
    catalog = read(prices=[{"rates": {"input_mtok": ["1", [[200_000, "2"]]], "output_mtok": "4"}}])

    assert catalog.prices[0].rates == Rates(
        tiers={
            "standard": Tier(
                {"input_tokens": "0.000001", "output_tokens": "0.000004"},
                (Band(200_000, {"input_tokens": "0.000002"}),),
            )
        }
    )


def test_a_threshold_one_below_a_round_number_is_inclusive() -> None:
    catalog = read(prices=[{"rates": {"input_mtok": ["1", [[199_999, "2"]]]}}])

    rates = catalog.prices[0].rates
    assert rates.threshold_inclusive
    assert rates.tiers["standard"].bands == (Band(200_000, {"input_tokens": "0.000002"}),)


def test_the_dearer_hours_are_the_standard_and_the_others_off_peak() -> None:
    catalog = read(
        prices=[
            {"rates": {"input_mtok": "1"}},
            {"rates": {"input_mtok": "2"}, "minutes": [60, 240]},
            {"rates": {"input_mtok": "2"}, "minutes": [1380, 30]},
        ]
    )

    rates = catalog.prices[0].rates
    assert rates.standard == {"input_tokens": "0.000002"}
    assert rates.off_peak == OffPeak({"input_tokens": "0.000001"}, (Window(EVERY_DAY, ((30, 60), (240, 1380))),))


def test_cheaper_hours_are_off_peak_as_they_stand() -> None:
    catalog = read(
        prices=[{"rates": {"input_mtok": "2"}}, {"rates": {"input_mtok": "1"}, "minutes": [60, 240]}],
    )

    rates = catalog.prices[0].rates
    assert rates.standard == {"input_tokens": "0.000002"}
    assert rates.off_peak == OffPeak({"input_tokens": "0.000001"}, (Window(EVERY_DAY, ((60, 240),)),))


def test_kinds_of_request_that_no_call_can_be_known_to_be_are_shown_and_not_charged() -> None:
    catalog = read(
        variants=[
            {"when": {"route": "eu"}, "rates": {"input_mtok": "9"}},
            {"when": {"processing": "batch", "route": "eu"}, "rates": {"input_mtok": "8"}},
            {"when": {"processing": "batch"}, "rates": {"input_mtok": "0.5"}},
            {"when": {"speed": "fast"}, "rates": {"input_mtok": "6"}},
        ]
    )

    rates = catalog.prices[0].rates
    assert {tier: listed.rates for tier, listed in rates.tiers.items()} == {
        "standard": {"input_tokens": "0.000001"},
        "batch": {"input_tokens": "0.0000005"},
        "fast": {"input_tokens": "0.000006"},
    }
    assert rates.unmeasured == {
        "input_tokens (route=eu)": "0.000009",
        "input_tokens (processing=batch,route=eu)": "0.000008",
    }
    assert catalog.unselected == {"route=eu": 1, "processing=batch,route=eu": 1}


def test_units_are_prices_of_one_and_an_hour_is_cut_at_fifteen_digits() -> None:
    rates = {
        "input_mtok": "0.18000000000000002",
        "web_searches_kcount": "10",
        "storage_searches_kcount": "2.5",
        "input_audio_hours": "0.111",
    }

    price = read(prices=[{"rates": rates}]).prices[0]

    assert price.rates.standard == {
        "input_tokens": "0.00000018",
        "web_searches": "0.01",
        "input_seconds": "0.0000308333333333333",
    }
    assert price.rates.unmeasured == {"storage_searches": "0.0025"}


def test_a_unit_of_tomorrow_is_counted_and_the_others_are_read() -> None:
    catalog = read(prices=[{"rates": {"input_mtok": "1", "smell_kcount": "7"}}])

    assert catalog.unknown_units == {"smells": 1}
    assert catalog.prices[0].rates.standard == {"input_tokens": "0.000001"}
    assert catalog.prices[0].rates.unmeasured == {"smells": "0.007"}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"prices": [{"rates": {"input_mtok": "-1"}}]}, "input_mtok: expected a number between 0"),
        ({"prices": [{"rates": {"input_mtok": "NaN"}}]}, "input_mtok: expected a number between 0"),
        ({"prices": [{"rates": {"input_mtok": "1e400"}}]}, "input_mtok: expected a number between 0"),
        ({"prices": [{"rates": {"unheard_of": "1"}}]}, "the unit of unheard_of is not defined"),
        ({"prices": [{"rates": {"broken": "1"}}]}, "the unit of broken is not defined"),
        ({"prices": [{"rates": {"input_mtok": "0", "output_mtok": "0"}}]}, "every rate is 0 and nothing declares"),
        ({"names": []}, "it has no exact name, only patterns"),
        ({"is_borrowed": True}, "genai-prices took the price from OpenRouter"),
        (
            {
                "prices": [
                    {"rates": {"input_mtok": "1"}},
                    {"rates": {"input_mtok": "2"}, "minutes": [0, 60]},
                    {"rates": {"input_mtok": "3"}, "minutes": [60, 90]},
                ]
            },
            "its hours list several prices",
        ),
        (
            {
                "prices": [
                    {"rates": {"input_mtok": "1", "output_mtok": "2"}},
                    {"rates": {"input_mtok": "2", "output_mtok": "1"}, "minutes": [0, 60]},
                ]
            },
            "its hours make one rate dearer and another cheaper",
        ),
        (
            {"prices": [{"rates": {"input_mtok": "1"}}, {"rates": {"output_mtok": "1"}, "minutes": [0, 60]}]},
            "its hours list several prices, other units or tiers",
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_alone_with_its_reason(model: dict[str, Any], reason: str) -> None:
    good = {"id": "good", "names": ["good"], "prices": [{"rates": {"input_mtok": "1"}}]}

    catalog = read_models("openai", [{**good, "id": "bad", "names": ["bad"], **model}, good])

    assert [one.key for one in catalog.refused] == ["openai/bad"]
    assert catalog.refused[0].reason.startswith(reason)
    assert [price.model for price in catalog.prices] == ["good"]


def test_a_model_without_rates_is_no_price() -> None:
    catalog = read(prices=[{"rates": {}}])

    assert (catalog.prices, catalog.without_price) == ([], ["openai/m"])


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"revision": 1}'])
def test_a_file_that_is_no_archive_is_refused_whole(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="catalog: expected farebox's archive"):
        read_genai_prices(content)


def read(**model: Any) -> GenaiCatalog:
    plain = {"id": "m", "names": ["m"], "prices": [{"rates": {"input_mtok": "1"}}]}
    return read_models("openai", [{**plain, **model}])


def read_models(provider: str, models: list[dict[str, Any]]) -> GenaiCatalog:
    archive = {
        "revision": "1",
        "units": UNITS,
        "providers": [{"id": provider, "models": models}],
        "inexact_clauses": {},
    }
    return read_genai_prices(json.dumps(archive).encode())


def every_rate(rates: Rates) -> Iterator[str]:
    for tier in rates.tiers.values():
        for table in (tier.rates, *(band.rates for band in tier.bands)):
            yield from table.values()
    yield from rates.unmeasured.values()
    if rates.off_peak:
        yield from rates.off_peak.rates.values()


def request(provider: str, model: str, moment: str, usage: Usage, **more: Any) -> PricingRequest:
    call = PricingRequest(provider=provider, request_model=model, response_model=None, at_us=at(moment), usage=usage)
    return msgspec.structs.replace(call, **more)


def at(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 1_000_000


def dollars(charged: Charge) -> Decimal | None:
    return None if charged.cost_pico is None else Decimal(charged.cost_pico).scaleb(-12)

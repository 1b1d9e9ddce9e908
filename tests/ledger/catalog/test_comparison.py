from __future__ import annotations

from typing import Any

import pytest

from farebox_ledger.catalog import Comparison, Disagreement, compare, shipped_prices, shipped_snapshots
from farebox_ledger.pricing import Band, OffPeak, Price, Rates, RateTable, Tier, Window

NOVEMBER_US = 1_793_491_200_000_000  # 2026-11-01
BASE = {"input_tokens": "0.000002", "output_tokens": "0.000008"}


@pytest.fixture(scope="module")
def shipped() -> Comparison:
    catalog, archive = (shipped_prices(snapshot).prices for snapshot in shipped_snapshots())
    return compare(catalog, archive, NOVEMBER_US)


def test_the_shipped_catalogs_differ_on_a_third_of_their_common_models(shipped: Comparison) -> None:
    """LiteLLM 1.109.1 and genai-prices 0.2.3 on 2026-11-01; renewing a snapshot moves these figures.

    Most of it are tiers that one of them does not list. On what nearly every call costs, the standard rates of input
    and output below any threshold, they differ for 68 of 773 models.
    """
    plain = {
        (one.provider, one.model)
        for one in shipped.disagreements
        if (one.tier, one.above_tokens) == ("standard", 0) and one.dimension in ("input_tokens", "output_tokens")
    }

    assert (shipped.compared, shipped.disagreeing) == (773, 270)
    assert len(plain) == 68


@pytest.mark.parametrize(
    "known",
    [
        # An alias that was repointed, an in-region premium, a tier that genai-prices lacks.
        Disagreement("x_ai", "grok-code-fast-1", "standard", 0, "input_tokens", "0.000001", "0.0000002"),
        Disagreement("mistral_ai", "mistral-large-latest", "standard", 0, "input_tokens", "0.0000005", "0.000002"),
        Disagreement("aws.bedrock", "anthropic.claude-opus-5", "standard", 0, "input_tokens", "0.000005", "0.0000055"),
        Disagreement("gcp.gemini", "gemini-2.5-flash", "flex", 0, "input_tokens", "0.00000015", None),
    ],
)
def test_known_disagreements_are_found(shipped: Comparison, known: Disagreement) -> None:
    assert known in shipped.disagreements


@pytest.mark.parametrize(
    ("catalog", "archive", "found"),
    [
        (BASE, BASE, []),
        ({**BASE, "output_tokens": "0.00001"}, BASE, [("standard", 0, "output_tokens", "0.00001", "0.000008")]),
        # A part that is not listed is billed like its whole.
        ({**BASE, "cache_read_input_tokens": "0.000002"}, BASE, []),
        (
            {**BASE, "cache_read_input_tokens": "0.0000002"},
            BASE,
            [("standard", 0, "cache_read_input_tokens", "0.0000002", None)],
        ),
        (
            {**BASE, "cache_write_input_tokens": "0.0000025"},
            {**BASE, "cache_write_input_tokens": "0.0000025", "cache_write_1h_input_tokens": "0.000004"},
            [("standard", 0, "cache_write_1h_input_tokens", None, "0.000004")],
        ),
        # Zero and nothing are the same: the output of an embedding.
        ({"input_tokens": "0.1", "output_tokens": "0"}, {"input_tokens": "0.1"}, []),
        # Rounding: 0.111 an hour by the second.
        ({"input_tokens": "0.00003083"}, {"input_tokens": "0.0000308333333333333"}, []),
        ({"input_tokens": "3"}, {"input_tokens": "3.01"}, [("standard", 0, "input_tokens", "3", "3.01")]),
    ],
)  # fmt: skip
def test_standard_rates_are_compared_as_they_are_billed(
    catalog: RateTable, archive: RateTable, found: list[tuple[Any, ...]]
) -> None:
    assert differences(Rates(tiers={"standard": Tier(catalog)}), Rates(tiers={"standard": Tier(archive)})) == found


def test_a_band_that_one_of_them_lists_is_a_disagreement_beyond_it() -> None:
    band = Band(200_000, {"input_tokens": "0.000004"})

    found = differences(
        Rates(tiers={"standard": Tier(BASE, (band,))}),
        Rates(tiers={"standard": Tier(BASE)}),
    )

    assert found == [("standard", 200_000, "input_tokens", "0.000004", "0.000002")]


def test_an_inclusive_threshold_and_one_below_it_are_the_same() -> None:
    inclusive = Rates(tiers={"standard": Tier(BASE, (Band(200_000, {"input_tokens": "1"}),))}, threshold_inclusive=True)
    exclusive = Rates(tiers={"standard": Tier(BASE, (Band(199_999, {"input_tokens": "1"}),))})

    assert differences(inclusive, exclusive) == []


def test_a_difference_that_holds_at_every_length_is_told_once() -> None:
    band = Band(200_000, {"input_tokens": "0.000004"})

    found = differences(
        Rates(tiers={"standard": Tier({**BASE, "output_tokens": "9"}, (band,))}),
        Rates(tiers={"standard": Tier(BASE, (band,))}),
    )

    assert found == [("standard", 0, "output_tokens", "9", "0.000008")]


def test_tiers_are_compared_under_all_their_names() -> None:
    priority = Rates(tiers={"standard": Tier(BASE), "priority": Tier({"input_tokens": "0.000004"})})
    both = Rates(tiers={**priority.tiers, "fast": Tier({"input_tokens": "0.000004"})})
    doubled = Rates(tiers={"standard": Tier({"input_tokens": "0.000002"})}, tier_factors={"fast": "2"})
    fast = Rates(tiers={"standard": Tier({"input_tokens": "0.000002"}), "fast": Tier({"input_tokens": "0.000004"})})

    assert differences(priority, both) == []
    assert differences(doubled, fast) == []


def test_a_tier_that_one_of_them_lacks_is_a_disagreement_for_each_of_its_rates() -> None:
    batch = Rates(
        tiers={"standard": Tier(BASE), "batch": Tier({"input_tokens": "0.000001", "output_tokens": "0.000004"})}
    )

    assert differences(batch, Rates(tiers={"standard": Tier(BASE)})) == [
        ("batch", 0, "input_tokens", "0.000001", None),
        ("batch", 0, "output_tokens", "0.000004", None),
    ]  # fmt: skip


def test_off_peak_rates_are_compared() -> None:
    window = (Window((1, 2, 3, 4, 5, 6, 7), ((0, 60),)),)
    cheap = Rates(tiers={"standard": Tier(BASE)}, off_peak=OffPeak({"input_tokens": "0.000001"}, window))

    assert differences(cheap, Rates(tiers={"standard": Tier(BASE)})) == [
        ("off_peak", 0, "input_tokens", "0.000001", None)
    ]
    assert differences(cheap, cheap) == []


def test_only_common_names_at_the_moment_are_compared() -> None:
    at_us = NOVEMBER_US
    catalog = [price("litellm", "M", {"input_tokens": "1"}), price("litellm", "alone", BASE)]
    archive = [
        price("genai-prices", "m", {"input_tokens": "9"}, end=at_us),
        price("genai-prices", "m", {"input_tokens": "1"}, begin=at_us),
        price("genai-prices", "lonely", BASE),
    ]

    now, before = compare(catalog, archive, at_us), compare(catalog, archive, at_us - 1)

    assert (now.compared, now.disagreeing) == (1, 0)
    assert (before.compared, before.disagreeing) == (1, 1)


def differences(catalog: Rates, archive: Rates) -> list[tuple[Any, ...]]:
    found = compare(
        [Price(id="a", source="litellm", provider="openai", model="m", rates=catalog)],
        [Price(id="b", source="genai-prices", provider="openai", model="m", rates=archive)],
        NOVEMBER_US,
    )
    return [(one.tier, one.above_tokens, one.dimension, one.catalog, one.archive) for one in found.disagreements]


def price(source: Any, model: str, rates: RateTable, *, begin: int | None = None, end: int | None = None) -> Price:
    return Price(
        id=f"{source}-{model}-{begin}",
        source=source,
        provider="openai",
        model=model,
        rates=Rates(tiers={"standard": Tier(rates)}),
        effective_from_us=begin,
        effective_to_us=end,
    )

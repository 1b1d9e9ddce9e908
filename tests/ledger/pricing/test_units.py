"""Units and currencies: what a stated price is per single unit, and what is no price."""

from __future__ import annotations

from decimal import Decimal

import pytest

from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing import Band, OffPeak, Rates, Tier, Window
from farebox_ledger.pricing.currencies import CURRENCIES, checked_currency
from farebox_ledger.pricing.units import Unit, rates_in_unit, single_price, stated_price


@pytest.mark.parametrize(
    ("unit", "stated", "single"),
    [
        ("token", "0.0000025", "0.0000025"),
        ("1k", "0.0025", "0.0000025"),
        ("1m", "2.5", "0.0000025"),
        ("1m", "2.50000", "0.0000025"),
        ("1m", "0", "0"),
        ("1m", "0.000000000001", "0.000000000000000001"),
        ("1m", "1E+2", "0.0001"),
    ],
)
def test_a_price_of_tokens_is_kept_per_single_token(unit: Unit, stated: str, single: str) -> None:
    assert single_price("prices.input_tokens", "input_tokens", Decimal(stated), unit) == single


@pytest.mark.parametrize("unit", ["token", "1k", "1m"])
def test_what_comes_out_in_a_unit_is_what_went_in(unit: Unit) -> None:
    single = single_price("prices.input_tokens", "input_tokens", Decimal("0.123456789012"), unit)

    assert stated_price("input_tokens", single, unit) == "0.123456789012"


def test_an_image_has_one_price_in_every_unit() -> None:
    assert single_price("prices.output_images", "output_images", Decimal("0.04"), "1m") == "0.04"
    assert single_price("prices.output_images", "output_images", Decimal("0.04"), None) == "0.04"
    assert stated_price("output_images", "0.04", "1k") == "0.04"


@pytest.mark.parametrize(
    ("dimension", "stated", "unit", "field", "words"),
    [
        ("input_tokens", "-0.01", "1m", "p", "from 0"),
        ("input_tokens", "-0.0000000000001", "1m", "p", "from 0"),
        ("input_tokens", "NaN", "1m", "p", "finite"),
        ("input_tokens", "sNaN", "1m", "p", "finite"),
        ("input_tokens", "Infinity", "1m", "p", "finite"),
        ("input_tokens", "-Infinity", "1m", "p", "finite"),
        ("input_tokens", "1e400", "1m", "p", "at most"),
        ("input_tokens", "1e-400", "1m", "p", "12 decimal places"),
        ("input_tokens", "1e999999", "1m", "p", "at most"),
        ("input_tokens", "0.0000000000001", "1m", "p", "12 decimal places, got 13"),
        ("input_tokens", "1000001", "token", "p", "at most 1000000"),
        ("input_images", "1000001", "1m", "p", "at most 1000000"),
        ("input_tokens", "1", None, "unit", "per token, 1k or 1m"),
        ("input_token", "1", "1m", "p", "did you mean input_tokens"),
        ("bananas_and_more", "1", "1m", "p", "expected one of"),
    ],
)
def test_what_is_no_price_is_refused_by_name(
    dimension: str, stated: str, unit: Unit | None, field: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        single_price("p", dimension, Decimal(stated), unit)
    assert refused.value.field == field


def test_a_whole_price_is_shown_in_a_unit() -> None:
    rates = Rates(
        tiers={
            "standard": Tier({"input_tokens": "0.0000025", "pages": "0.01"}, (Band(9, {"input_tokens": "0.000005"}),))
        },
        off_peak=OffPeak({"output_tokens": "0.000001"}, (Window((1,), ((0, 60),)),)),
        variants={"output_tokens": {"4k": "0.000002"}},
        region_factors={"eu": "1.1"},
    )

    assert rates_in_unit(rates, "1m") == Rates(
        tiers={"standard": Tier({"input_tokens": "2.5", "pages": "0.01"}, (Band(9, {"input_tokens": "5"}),))},
        off_peak=OffPeak({"output_tokens": "1"}, (Window((1,), ((0, 60),)),)),
        variants={"output_tokens": {"4k": "2"}},
        region_factors={"eu": "1.1"},
    )
    assert rates_in_unit(rates, "token") is rates


def test_currencies_are_codes_of_iso_4217() -> None:
    assert checked_currency("TRY") == "TRY"
    assert {"USD", "EUR", "CNY", "JPY", "XOF"} <= CURRENCIES

    for code, words in (("usd", "did you mean USD"), ("US$", "such as USD"), ("", "such as"), ("BTC", "such as")):
        with pytest.raises(InvalidInput, match=words) as refused:
            checked_currency(code)
        assert refused.value.field == "currency"

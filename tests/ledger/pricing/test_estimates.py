"""Estimates are means of what is sold at the moment, and say whose."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from farebox_ledger.pricing import Price, Rates, Tier
from farebox_ledger.pricing.estimates import AverageRates, Estimate

NOW_US = 1_790_000_000_000_000
MILLION = 1_000_000


def sold(provider: str, model: str, input_rate: str | None, output_rate: str | None, **fields: Any) -> Price:
    """A model whose rates are per million tokens."""
    named = {"input_tokens": input_rate, "output_tokens": output_rate}
    rates = {name: str(Decimal(rate) / MILLION) for name, rate in named.items() if rate is not None}
    defaults: dict[str, Any] = {"source": "litellm", "rates": Rates(tiers={"standard": Tier(rates)})}
    return Price(id=f"{provider}/{model}", provider=provider, model=model, **(defaults | fields))


RATES = AverageRates(
    [
        sold("openai", "small", "1", "2"),
        sold("openai", "large", "3", "10"),
        sold("anthropic", "other", "8", "30"),
        sold("openai", "by-image", "1", None),
        sold("openai", "of-the-archive", "100", "100", source="genai-prices"),
        sold("openai", "retired", "100", "100", retired=True),
        sold("openai", "in-euros", "100", "100", currency="EUR"),
        sold("openai", "of-yesterday", "100", "100", effective_to_us=NOW_US),
        sold("openai", "of-tomorrow", "100", "100", effective_from_us=NOW_US + 1),
    ],
    NOW_US,
)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("OpenAI", Estimate(amount=Decimal("8"), provider="openai", models=2)),
        ("anthropic", Estimate(amount=Decimal("38"), provider="anthropic", models=1)),
        ("nobody-knows", Estimate(amount=Decimal("18"), provider=None, models=3)),
        (None, Estimate(amount=Decimal("18"), provider=None, models=3)),
    ],
)
def test_the_mean_of_the_providers_models_or_of_all_prices_the_tokens(provider: str | None, expected: Estimate) -> None:
    assert RATES.estimate(provider, MILLION, MILLION) == expected


def test_an_estimate_is_rounded_to_a_millionth() -> None:
    estimate = RATES.estimate(None, 1, 0)

    assert estimate is not None
    assert estimate.amount == Decimal("0.000004")


def test_without_tokens_or_rates_nothing_is_guessed() -> None:
    assert RATES.estimate("openai", 0, 0) is None
    assert AverageRates([], NOW_US).estimate("openai", MILLION, 0) is None

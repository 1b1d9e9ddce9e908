"""Suggestions look like the name; they are never a price."""

from __future__ import annotations

import pytest

from farebox_ledger.pricing import Price, Rates
from farebox_ledger.pricing.suggestions import Suggestion, Suggestions

NAMES = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "text-embedding-3-small"),
    ("anthropic", "claude-sonnet-4-5"),
    ("azure.ai.openai", "gpt-4o"),
)
CATALOG = Suggestions(
    Price(id=f"p{number}", source="litellm", provider=provider, model=model, rates=Rates(tiers={}))
    for number, (provider, model) in enumerate(NAMES)
)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o-minni", ["gpt-4o-mini", "gpt-4o"]),
        ("OpenAI", "GPT-4O-Mini-x", ["gpt-4o-mini", "gpt-4o"]),
        ("anthropic", "claude-sonet-4.5", ["claude-sonnet-4-5"]),
        ("anthropic", "gpt-4o", []),
        ("openai", "llama", []),
        ("openai", None, []),
        ("openai", "x" * 5000, []),
    ],
)
def test_the_likest_names_of_the_same_provider_come_first(
    provider: str, model: str | None, expected: list[str]
) -> None:
    assert [one.model for one in CATALOG.nearest(provider, model)] == expected


@pytest.mark.parametrize("provider", [None, "nobody-knows"])
def test_without_a_known_provider_the_makers_of_the_very_name_are_suggested(provider: str | None) -> None:
    assert CATALOG.nearest(provider, "gpt-4o") == [Suggestion("openai", "gpt-4o", 1.0)]
    assert CATALOG.nearest(provider, "gpt-4") == []

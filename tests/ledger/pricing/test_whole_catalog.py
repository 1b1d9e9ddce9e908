"""The whole shipped file against plain arithmetic on its own numbers: no model is priced as another one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from farebox_ledger.catalog import LitellmCatalog, shipped_snapshots, snapshot_content
from farebox_ledger.pricing import Charge, PriceBook, PricingRequest
from farebox_ledger.pricing.names import canonical_provider, comparable
from farebox_ledger.usage import Usage
from tests.ledger.pricing.amounts import at

PEAK_US = at("2026-11-03T09:00:00+00:00")
SUFFIXES = {None: "", "priority": "_priority", "flex": "_flex", "batch": "_batches"}


@pytest.fixture(scope="module")
def entries(shipped: LitellmCatalog) -> dict[str, dict[str, Any]]:
    """The entries of the file that stand for one price alone."""
    listed = json.loads(snapshot_content(shipped_snapshots()[0]))
    left_out = {"sample_spec", "fallback_generalizations", *shipped.without_price}
    left_out |= {refused.key for refused in shipped.refused} | {key for pair in shipped.merged for key in pair}
    return {key: entry for key, entry in listed.items() if key not in left_out}


def test_every_key_of_the_file_finds_the_price_of_that_key(entries: dict[str, dict[str, Any]], book: PriceBook) -> None:
    found = {key: charged(book, key, entry, Usage(input_tokens=1)) for key, entry in entries.items()}

    strangers = {
        key: charge.price
        for key, charge in found.items()
        if charge.price is None
        or charge.provider != canonical_provider(entries[key]["litellm_provider"])
        or not comparable(key).endswith(comparable(charge.price.model))
        or not without_suffix(key, charge.price.model)
    }
    assert len(found) > 4200
    assert strangers == {}


def test_plain_tokens_cost_what_the_file_says(entries: dict[str, dict[str, Any]], book: PriceBook) -> None:
    wrong = {}
    compared = 0
    for key, entry in entries.items():
        charge = charged(book, key, entry, Usage(input_tokens=7, output_tokens=3))
        if charge.status != "billed" or not {"input_cost_per_token", "output_cost_per_token"} <= entry.keys():
            continue
        lines = 7 * pico(entry["input_cost_per_token"]), 3 * pico(entry["output_cost_per_token"])
        expected = sum(int(line.to_integral_value()) for line in lines)
        expected += int(pico(entry.get("input_cost_per_request", 0)))
        compared += 1
        if charge.cost_pico != expected:
            wrong[key] = (charge.cost_pico, expected)

    assert compared > 3300
    # Named with its prefix twice in the file: asked for like this, it is the model behind the prefix.
    assert set(wrong) <= {"perplexity/sonar"}


@pytest.mark.parametrize("tier", [None, "priority", "flex", "batch"])
@pytest.mark.parametrize("threshold", [100, 200, 272, 512])
def test_long_requests_cost_what_the_file_says_in_every_tier(
    tier: str | None, threshold: int, entries: dict[str, dict[str, Any]], book: PriceBook
) -> None:
    wrong: dict[tuple[str, int], Charge] = {}
    for key, entry in entries.items():
        if f"input_cost_per_token_above_{threshold}k_tokens" not in entry:
            continue
        is_inclusive = key.rpartition("/")[2].startswith(("grok-", "xai.grok-"))
        for tokens in (threshold * 1000 - 1, threshold * 1000, threshold * 1000 + 1):
            is_long = tokens >= threshold * 1000 if is_inclusive else tokens > threshold * 1000
            rates = listed_rates(entry, f"_above_{threshold}k_tokens" * is_long, tier)
            usage = Usage(input_tokens=tokens, output_tokens=1000, cache_read_input_tokens=500)
            charge = charged(book, key, entry, usage, tier)
            if rates is None:
                is_right = charge.status != "billed"
            else:
                expected = (tokens - 500) * rates[0] + 1000 * rates[1] + 500 * rates[2]
                is_right = charge.status == "billed" and charge.cost_pico == int(expected)
            if not is_right:
                wrong[key, tokens] = charge

    assert wrong == {}


def listed_rates(entry: dict[str, Any], length: str, tier: str | None) -> list[Decimal] | None:
    """List the rates of input, output and cached input as the file has them; None where it lacks one of this tier.

    In the standard tier a rate without a long value keeps its base value, and cached input without a rate is input.
    """
    rates: list[Decimal] = []
    for name in ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"):
        if name == "cache_read_input_token_cost" and name not in entry:
            rates.append(rates[0])
        elif name + length + SUFFIXES[tier] in entry:
            rates.append(pico(entry[name + length + SUFFIXES[tier]]))
        elif tier is None:
            rates.append(pico(entry[name]))
        else:
            return None
    return rates


def charged(book: PriceBook, key: str, entry: dict[str, Any], usage: Usage, tier: str | None = None) -> Charge:
    return book.charge(
        PricingRequest(
            provider=entry["litellm_provider"],
            request_model=key,
            response_model=None,
            at_us=PEAK_US,
            usage=usage,
            service_tier=tier,
        )
    )


def without_suffix(key: str, model: str) -> bool:
    """Say whether a key is the model's name behind nothing but its provider."""
    provider = comparable(key)[: -len(model)]
    return provider == "" or provider.endswith("/")


def pico(listed: float) -> Decimal:
    return Decimal(f"{listed:.15g}") * 10**12

"""The grammar of LiteLLM's price keys: which rate a key's name stands for (docs/pricing.md).

Comes in: a key such as `cache_read_input_token_cost_above_272k_tokens_flex`. Goes out: where its rate belongs in the
canonical structure. Sees no values.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

import msgspec

_DIMENSION_OF: Final[dict[str, str]] = {
    "input_cost_per_token": "input_tokens",
    "output_cost_per_token": "output_tokens",
    "cache_read_input_token_cost": "cache_read_input_tokens",
    "cache_creation_input_token_cost": "cache_write_input_tokens",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h_input_tokens",
    "cache_creation_input_token_cost_above_12hr": "cache_write_12h_input_tokens",
    "input_cost_per_audio_token": "audio_input_tokens",
    "input_cost_per_image_token": "image_input_tokens",
    "input_cost_per_video_token": "video_input_tokens",
    "cache_read_input_audio_token_cost": "cache_read_audio_input_tokens",
    "cache_read_input_image_token_cost": "cache_read_image_input_tokens",
    "output_cost_per_reasoning_token": "reasoning_output_tokens",
    "output_cost_per_audio_token": "audio_output_tokens",
    "output_cost_per_image_token": "image_output_tokens",
    "input_cost_per_image": "input_images",
    "output_cost_per_image": "output_images",
    "input_cost_per_second": "input_seconds",
    "output_cost_per_second": "output_seconds",
    "output_cost_per_video_per_second": "output_seconds",
    "input_cost_per_character": "input_characters",
    "output_cost_per_character": "output_characters",
    "ocr_cost_per_page": "pages",
    "input_cost_per_query": "search_units",
    "input_cost_per_request": "requests",
}

_VARIANT_OF: Final = {"output_cost_per_image": "output_images", "output_cost_per_second": "output_seconds"}

# Listed prices of what no usage member counts: kept for display, charged by nothing.
_UNMEASURED: Final = frozenset(
    {
        "annotation_cost_per_page",
        "cache_creation_input_audio_token_cost",
        "citation_cost_per_token",
        "code_interpreter_cost_per_session",
        "computer_use_input_cost_per_1k_tokens",
        "computer_use_output_cost_per_1k_tokens",
        "cost_per_second",
        "explicit_cache_read_input_token_cost",
        "file_search_cost_per_1k_calls",
        "file_search_cost_per_gb_per_day",
        "google_maps_grounding_cost_per_query",
        "input_cost_per_audio_per_second",
        "input_cost_per_pixel",
        "input_cost_per_text_message",
        "input_cost_per_video_per_second",
        "input_cost_per_video_per_second_above_15s_interval",
        "input_cost_per_video_per_second_above_8s_interval",
        "ocr_cost_per_credit",
        "output_cost_per_pixel",
        "output_cost_per_video_token",
        "vector_store_cost_per_gb_per_day",
    }
)

# Read elsewhere in this module, or no price of ours: DBU are Databricks' own unit beside the dollar rates.
OTHER_KEYS: Final = frozenset(
    {
        "guardrail_cost_per_unit",
        "input_cost_per_token_cache_hit",
        "input_dbu_cost_per_token",
        "off_peak_pricing",
        "output_dbu_cost_per_token",
        "provider_specific_entry",
        "regional_endpoint_uplift_multiplier",
        "regional_processing_uplift_multiplier_eu",
        "regional_processing_uplift_multiplier_us",
        "search_context_cost_per_query",
        "tiered_pricing",
        "web_search_billing_unit",
    }
)

_TIER_OF: Final = {
    "_batches": "batch", "_priority": "priority", "_flex": "flex", "_ultrafast": "ultrafast", "_balanced": "balanced",
    "_decisions": "decisions",
}  # fmt: skip
_ABOVE: Final = re.compile(r"_above_(\d+)k_tokens$")
SOUNDS_LIKE_A_PRICE: Final = re.compile(r"cost|pric|uplift|multiplier|billing|(?:^|_)fees?(?:_|$)")
"""Keys that match and are not known here are counted and reported: LiteLLM adds new kinds of prices every month."""


class Place(msgspec.Struct, frozen=True):
    """Where in the canonical structure a key's rate belongs."""

    table: Literal["rates", "variants", "unmeasured"]
    dimension: str
    tier: str = "standard"
    above_tokens: int = 0
    variant: str = ""


@lru_cache(maxsize=4096)
def place_of(key: str) -> Place | None:
    """Read a key's name: `…_above_272k_tokens_flex` is a rate of the tier flex beyond 272,000 tokens."""
    if key in _UNMEASURED:
        return Place("unmeasured", key)
    for stem, dimension in _VARIANT_OF.items():
        variant = key.removeprefix(f"{stem}_")
        if variant != key and re.fullmatch(r"[\d.]+[kKpP]?", variant):
            return Place("variants", dimension, variant=variant)
    tier = next((name for suffix, name in _TIER_OF.items() if key.endswith(suffix)), "standard")
    stem = key if tier == "standard" else key.rpartition("_")[0]
    above = _ABOVE.search(stem)
    stem = stem[: above.start()] if above else stem
    if stem in _UNMEASURED:
        return Place("unmeasured", key)
    dimension = _DIMENSION_OF.get(stem, "")
    return Place("rates", dimension, tier, int(above[1]) * 1000 if above else 0) if dimension else None

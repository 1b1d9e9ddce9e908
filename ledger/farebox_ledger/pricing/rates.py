"""What one model costs per unit: the canonical structure into which every catalog and every override is brought.

A rate table maps a dimension to the exact price of a single unit, as canonical decimal text. A dimension is named like
the usage member that it prices. Comes in from `catalog` and `store`; `plan` compiles it; nothing here calculates.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

RateTable: TypeAlias = dict[str, str]

STANDARD: Final = "standard"

PARENT_OF: Final[dict[str, str]] = {
    "cache_read_input_tokens": "input_tokens",
    "cache_write_input_tokens": "input_tokens",
    "cache_write_1h_input_tokens": "cache_write_input_tokens",
    "cache_write_12h_input_tokens": "cache_write_input_tokens",
    "audio_input_tokens": "input_tokens",
    "image_input_tokens": "input_tokens",
    "video_input_tokens": "input_tokens",
    "cache_read_audio_input_tokens": "cache_read_input_tokens",
    "cache_read_image_input_tokens": "cache_read_input_tokens",
    "reasoning_output_tokens": "output_tokens",
    "audio_output_tokens": "output_tokens",
    "image_output_tokens": "output_tokens",
}
"""Which count includes which: a part without a rate of its own is billed inside its parent."""

DIMENSIONS: Final = frozenset(
    {
        "input_tokens",
        "output_tokens",
        *PARENT_OF,
        "input_images",
        "output_images",
        "input_seconds",
        "output_seconds",
        "input_characters",
        "output_characters",
        "pages",
        "search_units",
        "requests",
        "web_searches",
    }
)
"""Every dimension that a rate table may price. Web searches have their rates in `WebSearch` where they go by size."""

FLAT_FEES: Final = frozenset({"requests", "web_searches"})
"""Fees per request or tool call: the same in every service tier, region and speed."""


class Band(msgspec.Struct, frozen=True):
    """Rates of a request whose total input is beyond `above_tokens`: a cliff, they hold for the whole request.

    A dimension that the band does not list keeps the rate of the band below (LiteLLM's rule).
    """

    above_tokens: int
    rates: RateTable


class Tier(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rates of one service tier, and its bands by rising threshold."""

    rates: RateTable
    bands: tuple[Band, ...] = ()


class Window(msgspec.Struct, frozen=True):
    """Hours on some days of the week. `weekdays` count from 1, Monday; `minutes` are half-open spans of the UTC day."""

    weekdays: tuple[int, ...]
    minutes: tuple[tuple[int, int], ...]


class OffPeak(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rates that replace the standard ones inside the windows.

    Hours are UTC. `weekday_offset_minutes` says by how much the calendar that names the weekday runs ahead of UTC.
    """

    rates: RateTable
    windows: tuple[Window, ...]
    weekday_offset_minutes: int = 0


class WebSearch(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one web search costs by the size of its context.

    `per` is `query` where each query of a call is billed and `request` where a call is billed once whatever it
    searched. `always` marks models that search on every request, asked or not (Perplexity).
    """

    low: str
    medium: str
    high: str
    per: Literal["query", "request"] = "query"
    always: bool = False


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    """All prices of one model at one provider.

    `tiers` has the key `standard` unless the price is free. `tier_factors` are listed multiples of the standard rates
    (Anthropic's fast mode). `region_factors` multiply when the request names the region; `*` stands for every region
    but `global`. `threshold_inclusive` makes a band begin at its threshold instead of behind it (xAI). `variants`
    and `unmeasured` are listed rates that no usage member can select or count; they are shown, never charged.
    """

    tiers: dict[str, Tier] = {}
    tier_factors: dict[str, str] = {}
    region_factors: dict[str, str] = {}
    off_peak: OffPeak | None = None
    web_search: WebSearch | None = None
    threshold_inclusive: bool = False
    free: bool = False
    inherits: bool = False  # an override that keeps the rates of the price below it where it names none
    variants: dict[str, RateTable] = {}
    unmeasured: dict[str, str] = {}

    @property
    def standard(self) -> RateTable:
        """The base rates of the standard tier; empty where only other tiers are listed."""
        tier = self.tiers.get(STANDARD)
        return tier.rates if tier else {}


def overlay(base: Rates, top: Rates) -> Rates:
    """Put the rates that `top` names over those of `base`; what `top` does not name keeps its rate."""
    tiers = {name: _overlay_tier(base.tiers.get(name), top.tiers.get(name)) for name in {**base.tiers, **top.tiers}}
    return Rates(
        tiers=tiers,
        tier_factors={**base.tier_factors, **top.tier_factors},
        region_factors={**base.region_factors, **top.region_factors},
        off_peak=top.off_peak or base.off_peak,
        web_search=top.web_search or base.web_search,
        threshold_inclusive=top.threshold_inclusive or base.threshold_inclusive,
        free=top.free,
        variants={**base.variants, **top.variants},
        unmeasured={**base.unmeasured, **top.unmeasured},
    )


def _overlay_tier(base: Tier | None, top: Tier | None) -> Tier:
    if base is None or top is None:
        return top or base or Tier({})
    bands = {band.above_tokens: band.rates for band in base.bands}
    # A rate that the override names without bands holds at every length of input.
    bands = {above: {**rates, **_only(top.rates, rates)} for above, rates in bands.items()}
    for band in top.bands:
        bands[band.above_tokens] = {**bands.get(band.above_tokens, {}), **band.rates}
    return Tier({**base.rates, **top.rates}, tuple(Band(above, bands[above]) for above in sorted(bands)))


def _only(rates: RateTable, keys: RateTable) -> RateTable:
    return {dimension: rate for dimension, rate in rates.items() if dimension in keys}

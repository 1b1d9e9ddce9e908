"""Overlapping token counts into disjoint quantities: each token of a call is billed once.

Comes in: a `Usage` and the plan that says which parts have a rate of their own. Goes out: the parts, each with the
dimension whose rate prices it. A part without such a rate stays inside its parent. Inconsistent counts are billed by
their totals and said to be invalid (docs/pricing.md).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from farebox_ledger.pricing.plan import RatePlan
from farebox_ledger.usage import MAX_COUNT, CacheTtl, Usage

WRITE_BASE: Final = "cache_write_input_tokens"

# The dimension of a line, the dimension whose rate prices it where the price lists that one.
WRITE_DIMENSIONS: Final[dict[CacheTtl, str]] = {
    "5m": "cache_write_5m_input_tokens",
    "1h": "cache_write_1h_input_tokens",
    "30m": "cache_write_30m_input_tokens",
    "12h": "cache_write_12h_input_tokens",
    "unsplit": "cache_write_unsplit_input_tokens",
}

# Providers mean 5 minutes (Anthropic) or 30 (OpenAI) by their base write rate; a longer life at that rate is assumed.
_LONG_LIVED: Final = frozenset({"1h", "12h"})


class TokenSplit:
    """The disjoint parts of one side of a call: (dimension, quantity, dimension whose rate prices it)."""

    __slots__ = ("assumed", "folded", "invalid", "is_whole_missing", "parts", "whole")

    def __init__(self) -> None:
        self.parts: list[tuple[str, int, str]] = []
        self.whole = 0
        self.invalid: str | None = None
        self.assumed: str | None = None
        self.folded: tuple[str, ...] = ()
        self.is_whole_missing = False

    def bill_by_total(self, dimension: str) -> None:
        """Give up the parts: they contradict the whole, which alone is billed."""
        self.parts = [(dimension, self.whole, dimension)]
        self.invalid = f"the parts of {dimension} exceed it"


def split_input(usage: Usage, plan: RatePlan) -> TokenSplit:
    """Split the input into cached, written, audio, image, video and the plain rest."""
    split = TokenSplit()
    read = _count(split, usage.cache_read_input_tokens, "cache_read_input_tokens")
    written = _writes(split, usage.cache_write_input_tokens, plan) if usage.cache_write_input_tokens else 0
    modal = _media(split, usage, plan)
    _take_whole(split, usage.input_tokens, max(read + written, modal), "input_tokens")
    if read + written > split.whole or modal > split.whole:
        split.bill_by_total("input_tokens")
        return split
    if read:
        _take(split, plan, "cache_read_input_tokens", read)
    _take_rest(split, plan, "input_tokens")
    return split


def split_output(usage: Usage, plan: RatePlan) -> TokenSplit:
    """Split the output into reasoning, audio, images and the plain rest."""
    split = TokenSplit()
    parts = _output_parts(split, usage, plan)
    _take_whole(split, usage.output_tokens, parts, "output_tokens")
    if parts > split.whole:
        split.bill_by_total("output_tokens")
    else:
        _take_rest(split, plan, "output_tokens")
    return split


def _output_parts(split: TokenSplit, usage: Usage, plan: RatePlan) -> int:
    """Take the parts of the output; answers the largest one, since reasoning and media are counted independently."""
    reasoning, audio, image = usage.reasoning_output_tokens, usage.audio_output_tokens, usage.image_output_tokens
    if not reasoning and not audio and not image:
        return 0
    largest = 0
    parts = (
        ("reasoning_output_tokens", reasoning),
        ("audio_output_tokens", audio),
        ("image_output_tokens", image),
    )
    for dimension, value in parts:
        quantity = _count(split, value, dimension)
        largest = max(largest, quantity)
        if quantity:
            _take(split, plan, dimension, quantity)
    return largest


def is_count(value: int | Decimal) -> bool:
    """Say whether a quantity can be billed: finite, not negative, at most 2**40."""
    return (not isinstance(value, Decimal) or value.is_finite()) and 0 <= value <= MAX_COUNT


def _count(split: TokenSplit, value: int | None, dimension: str) -> int:
    if not value:
        return 0
    if 0 < value <= MAX_COUNT:
        return value
    split.invalid = f"{dimension} is no usable count"
    return 0


def _take_whole(split: TokenSplit, value: int | None, parts: int, dimension: str) -> None:
    if value is None:
        split.whole = parts
        split.is_whole_missing = parts > 0
    else:
        split.whole = _count(split, value, dimension)


def _take(split: TokenSplit, plan: RatePlan, dimension: str, quantity: int) -> None:
    if dimension in plan.apart:
        split.parts.append((dimension, quantity, dimension))
    elif quantity and dimension != "reasoning_output_tokens":
        split.folded = (*split.folded, dimension)


def _writes(split: TokenSplit, writes: dict[CacheTtl, int], plan: RatePlan) -> int:
    total = 0
    for ttl, value in writes.items():
        dimension = WRITE_DIMENSIONS.get(ttl, WRITE_DIMENSIONS["unsplit"])
        quantity = _count(split, value, dimension)
        total += quantity
        if dimension in plan.apart:
            split.parts.append((dimension, quantity, dimension))
        elif WRITE_BASE in plan.apart:
            split.parts.append((dimension, quantity, WRITE_BASE))
            if quantity and ttl in _LONG_LIVED:
                split.assumed = f"{dimension} has no rate, the base rate of cache writes applies"
        elif quantity:
            split.folded = (*split.folded, dimension)
    return total


def _media(split: TokenSplit, usage: Usage, plan: RatePlan) -> int:
    audio, image, video = usage.audio_input_tokens, usage.image_input_tokens, usage.video_input_tokens
    if not audio and not image and not video:
        return 0
    total = 0
    media = (("audio_input_tokens", audio), ("image_input_tokens", image), ("video_input_tokens", video))
    for dimension, value in media:
        quantity = _count(split, value, dimension)
        total += quantity
        _take(split, plan, dimension, quantity)
    return total


def _take_rest(split: TokenSplit, plan: RatePlan, dimension: str) -> None:
    """Put the rest, all that is no part, in front; a negative rest means that parts overlap each other."""
    rest = split.whole
    for _, quantity, _ in split.parts:
        rest -= quantity
    if rest < 0:
        rest = _resolve_overlap(split, plan, -rest)
    if rest < 0:
        split.bill_by_total(dimension)
    else:
        split.parts.insert(0, (dimension, rest, dimension))


def _resolve_overlap(split: TokenSplit, plan: RatePlan, overlap: int) -> int:
    """Bill cached audio and cached images apart where the price lists them; answers what is still overlapping, negated.

    Cached tokens and media tokens are counted independently (OpenAI Realtime), so tokens beyond the whole are both.
    """
    quantities = {dimension: quantity for dimension, quantity, _ in split.parts}
    cached = quantities.get("cache_read_input_tokens", 0)
    for medium in ("audio", "image"):
        dimension, both = f"{medium}_input_tokens", f"cache_read_{medium}_input_tokens"
        shared = min(overlap, cached, quantities.get(dimension, 0)) if both in plan.apart else 0
        if shared:
            quantities[dimension] -= shared
            cached -= shared
            overlap -= shared
            split.parts.append((both, shared, both))
    quantities["cache_read_input_tokens"] = cached
    split.parts = [(name, quantities.get(name, quantity), key) for name, quantity, key in split.parts]
    return -overlap

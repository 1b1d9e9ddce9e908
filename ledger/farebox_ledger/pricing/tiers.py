"""Service tiers: the names that providers use for them, and the ratios that providers document.

A served tier that a price does not list is never billed as standard: a documented ratio gives an `assumed` charge,
anything else is `no_rate_for_tier`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from farebox_ledger.pricing.rates import STANDARD

BATCH: Final = "batch"
FAST: Final = "fast"
PRIORITY: Final = "priority"

_CANONICAL: Final[dict[str, str]] = {
    "": STANDARD,
    "auto": STANDARD,
    "default": STANDARD,
    "standard": STANDARD,
    "standard_only": STANDARD,
    "on_demand": STANDARD,  # Gemini trafficType, Groq
    "on-demand": STANDARD,
    "traffic_type_unspecified": STANDARD,
    "service_tier_unspecified": STANDARD,
    "on_demand_priority": PRIORITY,  # Gemini trafficType
    "on_demand_flex": "flex",
    "batches": BATCH,
}


class DocumentedRatio(msgspec.Struct, frozen=True):
    """A tier's price as a multiple of the standard price, as the provider states it for all its models."""

    factor: str
    source: str


# Rules as gathered in reference/pricing.md §3 (November 2026) from the providers' price pages.
DOCUMENTED_RATIOS: Final[dict[tuple[str, str], DocumentedRatio]] = {
    ("openai", BATCH): DocumentedRatio("0.5", "OpenAI pricing, Batch API"),
    ("openai", "flex"): DocumentedRatio("0.5", "OpenAI pricing, flex processing"),
    ("azure.ai.openai", BATCH): DocumentedRatio("0.5", "Azure OpenAI, Global Batch"),
    ("anthropic", BATCH): DocumentedRatio("0.5", "Anthropic pricing, batch processing incl. caches"),
    ("gcp.gemini", BATCH): DocumentedRatio("0.5", "Gemini API pricing, batch"),
    ("gcp.gemini", "flex"): DocumentedRatio("0.5", "Gemini API pricing, flex"),
    ("gcp.vertex_ai", BATCH): DocumentedRatio("0.5", "Vertex AI pricing, batch"),
    ("gcp.vertex_ai", "flex"): DocumentedRatio("0.5", "Vertex AI pricing, flex"),
    ("aws.bedrock", BATCH): DocumentedRatio("0.5", "Amazon Bedrock pricing, batch"),
    ("aws.bedrock", "flex"): DocumentedRatio("0.5", "Amazon Bedrock pricing, flex tier"),
    ("mistral_ai", BATCH): DocumentedRatio("0.5", "Mistral pricing, Batch API"),
    ("x_ai", BATCH): DocumentedRatio("0.8", "xAI pricing, batch"),
}


def canonical_tier(service_tier: str | None, *, batch: bool) -> str:
    """Name the tier that decides the rates; a batch call is batch whatever tier it names.

    An unheard-of name stays as it is (lower case), so that it finds no rates instead of the standard ones.
    """
    if batch:
        return BATCH
    if service_tier is None:
        return STANDARD
    name = service_tier.strip().lower()
    return _CANONICAL.get(name, name)


def listed_as(tier: str) -> tuple[str, ...]:
    """The names under which a catalog may list the tier: OpenAI's fast mode is its priority tier."""
    return (FAST, PRIORITY) if tier == FAST else (tier,)

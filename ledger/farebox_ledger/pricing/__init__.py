"""Prices and charges: which price holds for a call, and what the call costs by it. Pure; knows no database."""

from farebox_ledger.pricing.book import PriceBook
from farebox_ledger.pricing.charge import (
    Charge,
    CostColumn,
    CostLine,
    PriceReference,
    PricingRequest,
    cost_column,
)
from farebox_ledger.pricing.configurations import Configurations, ModelConfiguration
from farebox_ledger.pricing.match import Match, NoMatch
from farebox_ledger.pricing.names import canonical_provider
from farebox_ledger.pricing.price import ModelAlias, Multiplier, Policy, Price, PriceSource, price_id
from farebox_ledger.pricing.rates import Band, OffPeak, Rates, RateTable, Tier, WebSearch, Window, overlay

__all__ = [
    "Band",
    "Charge",
    "Configurations",
    "CostColumn",
    "CostLine",
    "Match",
    "ModelAlias",
    "ModelConfiguration",
    "Multiplier",
    "NoMatch",
    "OffPeak",
    "Policy",
    "Price",
    "PriceBook",
    "PriceReference",
    "PriceSource",
    "PricingRequest",
    "RateTable",
    "Rates",
    "Tier",
    "WebSearch",
    "Window",
    "canonical_provider",
    "cost_column",
    "overlay",
    "price_id",
]

"""Price catalogs: files of others in, dated canonical prices out. Knows no database and no network."""

from farebox_ledger.catalog.comparison import Comparison, Disagreement, compare
from farebox_ledger.catalog.genai_prices import GenaiCatalog, read_genai_prices
from farebox_ledger.catalog.litellm import LitellmCatalog, Refused, exact_rate, read_litellm
from farebox_ledger.catalog.shipped import Snapshot, shipped_snapshots, snapshot_content
from farebox_ledger.catalog.shipped_prices import ShippedPrices, shipped_prices

__all__ = [
    "Comparison",
    "Disagreement",
    "GenaiCatalog",
    "LitellmCatalog",
    "Refused",
    "ShippedPrices",
    "Snapshot",
    "compare",
    "exact_rate",
    "read_genai_prices",
    "read_litellm",
    "shipped_prices",
    "shipped_snapshots",
    "snapshot_content",
]

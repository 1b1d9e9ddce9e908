"""Price catalogs: files of others in, dated canonical prices out. Knows no database and no network."""

from farebox_ledger.catalog.litellm import LitellmCatalog, Refused, exact_rate, read_litellm
from farebox_ledger.catalog.shipped import Snapshot, shipped_snapshots, snapshot_content

__all__ = [
    "LitellmCatalog",
    "Refused",
    "Snapshot",
    "exact_rate",
    "read_litellm",
    "shipped_snapshots",
    "snapshot_content",
]

"""The shipped snapshots as prices: what an empty catalog is filled with.

Comes in: a line of the manifest. Goes out: canonical prices, and how many entries became none. Reads package data only.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from farebox_ledger.catalog.genai_prices import read_genai_prices
from farebox_ledger.catalog.history import with_beginnings
from farebox_ledger.catalog.litellm import Refused, read_litellm
from farebox_ledger.catalog.shipped import Snapshot, shipped_snapshots, snapshot_content
from farebox_ledger.pricing import Price
from farebox_ledger.pricing.price import ARCHIVE


class ShippedPrices(msgspec.Struct, frozen=True):
    """The prices of one snapshot and the entries that became none, with their reasons."""

    prices: list[Price]
    refused: list[Refused]


def shipped_prices(snapshot: Snapshot) -> ShippedPrices:
    """Read a shipped snapshot. LiteLLM's prices get the beginnings that the archive knows."""
    content = snapshot_content(snapshot)
    match snapshot.source:
        case "litellm":
            catalog = read_litellm(content)
            return ShippedPrices(with_beginnings(catalog.prices, _archived()), catalog.refused)
        case "genai-prices":
            archive = read_genai_prices(content)
            return ShippedPrices(archive.prices, archive.refused)
        case other:
            assert_never(other)


def _archived() -> list[Price]:
    return [
        price
        for snapshot in shipped_snapshots()
        if snapshot.source == ARCHIVE
        for price in shipped_prices(snapshot).prices
    ]

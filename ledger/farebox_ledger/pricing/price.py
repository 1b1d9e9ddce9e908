"""A dated price of one model, and what changes how it is found or multiplied: aliases, multipliers, policy.

Comes in from `store` and `catalog`, goes into the `PriceBook`. Rows are immutable: a changed price is another row.
"""

from __future__ import annotations

from decimal import Decimal
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

import msgspec

from farebox_ledger.pricing.rates import Rates

PriceSource: TypeAlias = Literal["litellm", "genai-prices", "override"]

PriceStatus: TypeAlias = Literal["override", "synced", "archived", "retired"]

ARCHIVE: Final[PriceSource] = "genai-prices"
"""The source of second-best prices: what it alone knows is assumed, never plainly billed."""

ID_PREFIX: Final[dict[PriceSource, str]] = {"litellm": "ltl", "genai-prices": "gnp", "override": "ovr"}


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The rates of one model at one provider for a span of time.

    `provider` is canonical; `model` is the provider's own name, with the region in front where the catalog prices
    regions apart (`eu/gpt-4o`, `us.anthropic.claude-…`). `org_id` None is everybody's. Valid from
    `effective_from_us` (None: always) up to but without `effective_to_us` (None: still). `retired` marks a price that
    its source dropped rather than changed.
    """

    id: str
    source: PriceSource
    provider: str
    model: str
    rates: Rates
    currency: str = "USD"
    org_id: int | None = None
    mode: str | None = None
    effective_from_us: int | None = None
    effective_to_us: int | None = None
    source_url: str | None = None
    retired: bool = False

    def is_valid_at(self, at_us: int) -> bool:
        """Say whether the price holds at that moment; the end is exclusive."""
        return (self.effective_from_us is None or self.effective_from_us <= at_us) and (
            self.effective_to_us is None or at_us < self.effective_to_us
        )


class ModelAlias(msgspec.Struct, frozen=True, kw_only=True):
    """A name that stands for another model: an Azure deployment, a gateway's own name.

    `provider` None matches calls of any provider; `target_provider` None keeps the call's own. `model_config_id` names
    the configuration that calls under this name belong to.
    """

    id: str
    alias: str
    target_model: str
    org_id: int | None = None
    provider: str | None = None
    target_provider: str | None = None
    effective_from_us: int | None = None
    effective_to_us: int | None = None
    model_config_id: str | None = None

    def holds_at(self, at_us: int) -> bool:
        """Say whether the alias holds at that moment; the end is exclusive."""
        return (self.effective_from_us is None or self.effective_from_us <= at_us) and (
            self.effective_to_us is None or at_us < self.effective_to_us
        )


class Multiplier(msgspec.Struct, frozen=True, kw_only=True):
    """A factor from list amounts to billed amounts, for an organization, an upstream, a provider, or everybody."""

    id: str
    factor: Decimal
    org_id: int | None = None
    upstream: str | None = None
    provider: str | None = None
    effective_from_us: int | None = None
    effective_to_us: int | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Which second-best prices may be used, whether a provider's own word outweighs ours, and what bills besides calls.

    A charge from the archive or from a retired price is `assumed`, never plainly billed. With `stated_cost_bills` a
    call costs what its provider states, where it does. With `aggregate_only_bills` usage that only a
    container tells, such as a remote agent, is `assumed` instead of unpriced (docs/repair.md).
    """

    use_archive: bool = True
    carry_retired: bool = True
    stated_cost_bills: bool = False
    aggregate_only_bills: bool = False


def price_status(price: Price) -> PriceStatus:
    """Say where a price stands; `retired` is what its source dropped, or an override that somebody deleted."""
    if price.source == ARCHIVE:
        return "archived"
    if price.retired:
        return "retired"
    return "override" if price.source == "override" else "synced"


def price_id(
    source: PriceSource,
    provider: str,
    model: str,
    rates: Rates,
    *,
    currency: str = "USD",
    effective_from_us: int | None = None,
) -> str:
    """Name a price by its content, so that the same revision gives the same ids in every database."""
    content = msgspec.json.encode((source, provider, model, currency, rates, effective_from_us), order="deterministic")
    return f"{ID_PREFIX[source]}_{blake2b(content, digest_size=12).hexdigest()}"

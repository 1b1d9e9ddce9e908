"""What goes into pricing and what comes out: the priced facts of a call, its charge, and the lines that explain it."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

from farebox_ledger.usage import BillingStatus, Reason, Usage

CostColumn: TypeAlias = Literal["input", "output", "cache_read", "cache_write", "other"]


class PricingRequest(msgspec.Struct, kw_only=True, gc=False):
    """All that decides the price of one call. `at_us` is the end of the call, in microseconds since 1970 in UTC.

    `org_id` None prices without any organization's overrides. `region`, `service_tier` and `upstream` None mean that
    nobody said: the standard ones apply.
    """

    provider: str | None
    request_model: str | None
    response_model: str | None
    at_us: int
    usage: Usage
    org_id: int | None = None
    service_tier: str | None = None
    batch: bool = False
    region: str | None = None
    upstream: str | None = None
    is_invalid: bool = False  # a count was clamped on the way in
    is_incomplete: bool = False  # the stream broke off: a count that is None is unknown, not absent
    is_sum: bool = False  # of calls whose lengths nobody knows, so that the rates of short ones hold


class PriceReference(msgspec.Struct, frozen=True):
    """Which price was used and how it was found; stored with the charge and shown by `explain`."""

    id: str
    source: str
    provider: str
    model: str
    match_rule: str
    effective_from: str | None  # RFC 3339, None = always


class CostLine(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One summand: quantity × unit_price × multiplier = amount. `list_amount_pico` is the same before multipliers.

    `unit_price` and `multiplier` are canonical decimal strings per single unit of the dimension. Rows hold lines as
    arrays of JSON: a new field goes to the end and has a default.
    """

    dimension: str
    quantity: Decimal
    unit_price: str
    multiplier: str
    list_amount_pico: int
    amount_pico: int


class Charge(msgspec.Struct, kw_only=True, gc=False):
    """The price of one call: status, reason, cost, and the lines that sum to it exactly.

    `cost_pico` is None unless the status is billed, assumed, partial (the known lines) or free (0); None never means 0.
    The lines sum to `cost_pico`, their list amounts to `list_cost_pico`.
    """

    status: BillingStatus
    reason: Reason | None = None
    detail: str | None = None  # what the reason is about, e.g. the dimension or the tier without a rate
    currency: str | None = None
    cost_pico: int | None = None
    list_cost_pico: int | None = None
    price: PriceReference | None = None
    provider: str | None = None  # as billed, canonical name
    model: str | None = None  # as billed
    multiplier: str | None = None  # the organization's or upstream's factor, None = 1
    lines: tuple[CostLine, ...] = ()
    rejected: tuple[str, ...] = ()  # what else was considered and why it lost, for `explain`
    covered_by: bytes | None = None  # usage id of the row that bills this call instead


def cost_column(dimension: str) -> CostColumn:
    """Name the cost column of a row into which a line's amount goes; units that are no tokens go to `other`."""
    if dimension.startswith("cache_read"):
        return "cache_read"
    if dimension.startswith("cache_write"):
        return "cache_write"
    if dimension.endswith("input_tokens"):
        return "input"
    return "output" if dimension.endswith("output_tokens") else "other"

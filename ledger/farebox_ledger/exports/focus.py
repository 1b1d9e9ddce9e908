"""Usage rows as FOCUS 1.2 (FinOps Open Cost and Usage Specification): what each meter cost, day by day.

Rows come in newest first, and one record goes out for every UTC day, organization, project, service, provider, model,
meter, price and multiplier. Only the groups of one day are held. BilledCost summed over the file is the cost of the
rows to the last digit; suppressed rows are billed by others, and rows that are not billable cost nothing: both are left
out. Columns of which the books know nothing are not written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from decimal import Context, Decimal
from typing import Final, NamedTuple

import msgspec

from farebox_ledger.money import decimal_text, pico_text
from farebox_ledger.pricing.charge import CostLine
from farebox_ledger.store.querying import UsageRow
from farebox_ledger.usage import BillingStatus, day_of

FOCUS_COLUMNS: Final = (
    "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingPeriodStart", "BillingPeriodEnd",
    "BillingCurrency", "BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "ContractedUnitPrice",
    "ListUnitPrice", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodStart",
    "ChargePeriodEnd", "ConsumedQuantity", "ConsumedUnit", "PricingCategory", "PricingQuantity", "PricingUnit",
    "InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceCategory", "ServiceSubcategory", "ServiceName",
    "SkuId", "SkuMeter", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags", "x_BillingStatus",
    "x_Calls", "x_ConsumedTokens",
)  # fmt: skip
"""The columns, named as in FOCUS 1.2; those of our own begin with `x_`.

- the account is the organization, the sub-account its project
- `x_BillingStatus` unpriced: the costs are 0 and the currency is XXX, ISO 4217's "no currency", because FOCUS takes no
  null there; what was used stands in `x_ConsumedTokens`, and no quantity is priced
- a provider that nobody named is `unknown`, as FOCUS takes no null there either
- `x_Calls` counts the calls of which the meter was charged; a call with three meters counts in three records
"""

_NO_CURRENCY: Final = "XXX"
_NO_PROVIDER: Final = "unknown"
_EXACT: Final = Context(prec=60)
_encode_tags: Final = msgspec.json.encode
_NOT_CHARGED: Final[frozenset[BillingStatus]] = frozenset(("suppressed", "not_billable"))


class _Group(NamedTuple):
    """What the calls of one record have in common."""

    day: int
    org_id: int
    project: str | None
    service: str | None
    provider: str | None
    model: str | None
    status: BillingStatus
    currency: str | None
    price_id: str | None
    meter: str | None
    unit_price: str | None
    multiplier: str | None


class _Sums:
    """What the calls of one record add up to; quantities are None where nothing was priced by quantity."""

    __slots__ = ("amount_pico", "calls", "list_pico", "quantity", "tokens")

    def __init__(self) -> None:
        self.calls = 0
        self.amount_pico = 0
        self.list_pico = 0
        self.quantity: Decimal | None = None
        self.tokens: int | None = None

    def add_line(self, line: CostLine) -> None:
        self.calls += 1
        self.amount_pico += line.amount_pico
        self.list_pico += line.list_amount_pico
        self.quantity = _EXACT.add(self.quantity or Decimal(0), line.quantity)

    def add_whole(self, row: UsageRow) -> None:
        self.calls += 1
        self.amount_pico += row.charge.cost_pico or 0
        self.list_pico += row.charge.list_cost_pico or 0
        if (tokens := row.event.usage.total_tokens) is not None:
            self.tokens = (self.tokens or 0) + tokens


def focus_values(rows: Iterable[UsageRow], slug_of: Callable[[int], str]) -> Iterator[tuple[str | None, ...]]:
    """Sum rows, given newest first, into the values of FOCUS records, in the order of `FOCUS_COLUMNS`.

    `slug_of` names an organization by its number.
    """
    groups: dict[_Group, _Sums] = {}
    day = 0
    for row in rows:
        if row.charge.status in _NOT_CHARGED:
            continue
        if (of_row := day_of(row.event.occurred_at_us)) != day:
            yield from _values(groups, slug_of)
            groups, day = {}, of_row
        _add(groups, row, day)
    yield from _values(groups, slug_of)


def _add(groups: dict[_Group, _Sums], row: UsageRow, day: int) -> None:
    for line in row.charge.lines:
        groups.setdefault(_group(row, day, line), _Sums()).add_line(line)
    if not row.charge.lines:
        groups.setdefault(_group(row, day, None), _Sums()).add_whole(row)


def _group(row: UsageRow, day: int, line: CostLine | None) -> _Group:
    event, charge = row.event, row.charge
    return _Group(
        day=day,
        org_id=event.org_id,
        project=event.project,
        service=event.service,
        provider=charge.provider,
        model=charge.model,
        status=charge.status,
        currency=charge.currency,
        price_id=None if charge.price is None else charge.price.id,
        meter=None if line is None else line.dimension,
        unit_price=None if line is None else line.unit_price,
        multiplier=None if line is None else line.multiplier,
    )


def _values(groups: dict[_Group, _Sums], slug_of: Callable[[int], str]) -> Iterator[tuple[str | None, ...]]:
    for group, sums in groups.items():
        record = _record(group, sums, slug_of(group.org_id))
        yield tuple(record.get(name) for name in FOCUS_COLUMNS)


def _record(group: _Group, sums: _Sums, organization: str) -> dict[str, str | None]:
    cost, provider = pico_text(sums.amount_pico), group.provider or _NO_PROVIDER
    quantity = None if sums.quantity is None else decimal_text(sums.quantity)
    unit = None if quantity is None or group.meter is None else _unit(group.meter)
    day = date(group.day // 10_000, group.day // 100 % 100, group.day % 100)
    return {
        **_periods(day),
        "BillingAccountId": organization,
        "BillingAccountName": organization,
        "BillingAccountType": "Organization",
        "BillingCurrency": group.currency or _NO_CURRENCY,
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ContractedCost": cost,
        "ListCost": pico_text(sums.list_pico),
        "ContractedUnitPrice": _contracted(group),
        "ListUnitPrice": group.unit_price,
        "ChargeCategory": "Usage",
        "ChargeDescription": " ".join(part for part in (group.provider, group.model, group.meter) if part) or None,
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "PricingCategory": None if quantity is None else "Standard",
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "InvoiceIssuerName": provider,
        "ProviderName": provider,
        "PublisherName": provider,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": provider,
        "SkuId": group.model,
        "SkuMeter": group.meter,
        "SkuPriceId": group.price_id,
        "SubAccountId": group.project,
        "SubAccountName": group.project,
        "SubAccountType": None if group.project is None else "Project",
        "Tags": _tags(group),
        "x_BillingStatus": group.status,
        "x_Calls": str(sums.calls),
        "x_ConsumedTokens": None if sums.tokens is None else str(sums.tokens),
    }


def _periods(day: date) -> dict[str, str]:
    """Write the day and its month, half-open as FOCUS wants them."""
    month = day.replace(day=1)
    next_month = (month + timedelta(days=31)).replace(day=1)
    return {
        "BillingPeriodStart": f"{month}T00:00:00Z",
        "BillingPeriodEnd": f"{next_month}T00:00:00Z",
        "ChargePeriodStart": f"{day}T00:00:00Z",
        "ChargePeriodEnd": f"{day + timedelta(days=1)}T00:00:00Z",
    }


def _contracted(group: _Group) -> str | None:
    if group.unit_price is None or group.multiplier is None:
        return None
    return decimal_text(_EXACT.multiply(Decimal(group.unit_price), Decimal(group.multiplier)))


def _unit(meter: str) -> str:
    """Name what a meter counts, in the plural and with a capital (FOCUS 1.2, unit format)."""
    return meter.rpartition("_")[2].capitalize()


def _tags(group: _Group) -> str | None:
    said = {name: value for name, value in (("project", group.project), ("service", group.service)) if value}
    return _encode_tags(said).decode() if said else None

"""How far our prices are from what providers say themselves: rows with a stated cost, summed by model.

Compared are list costs, before multipliers, since a provider's statement knows nothing of what is agreed with us; and
only in USD, the one currency of stated costs. Read from rows, so the range is bounded.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from farebox_ledger.errors import InvalidInput
from farebox_ledger.money import from_pico, join
from farebox_ledger.pricing.events import STATED_CURRENCY
from farebox_ledger.store.rows import bounded_name
from farebox_ledger.store.schema import usage_rows
from farebox_ledger.store.scope import OrgScope, Scope
from farebox_ledger.store.statements import organizations_in
from farebox_ledger.store.timeline import DAY_US

MAX_DAYS: Final = 31

_PICO: Final = 10**12
_MAX_MODELS: Final = 10_000


class ModelDrift(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of one model cost by our prices and by the provider's word, in USD.

    `rows` are those of which both are known in full; the amounts are their sums. `uncompared_rows` have a stated cost,
    and are unpriced, partial or in another currency.
    """

    provider: str | None
    model: str | None
    rows: int
    uncompared_rows: int
    ours: Decimal
    stated: Decimal

    @property
    def difference(self) -> Decimal:
        """How much more we say than the provider."""
        return self.ours - self.stated

    @property
    def percent(self) -> Decimal | None:
        """The difference in percent of the stated cost, two decimal places; None where that is 0."""
        return round(self.difference / self.stated * 100, 2) if self.stated else None


def model_drift(
    connection: Connection,
    scope: Scope,
    *,
    start_us: int,
    end_us: int,
    provider: str | None = None,
    model: str | None = None,
    limit: int = 100,
) -> list[ModelDrift]:
    """Compare by model, the largest differences first; at most `limit` models.

    Raises:
        InvalidInput: the range is longer than 31 days, or ends before it begins.
    """
    if end_us <= start_us:
        raise InvalidInput("end", "must lie after start; the range is half-open")
    if end_us - start_us > MAX_DAYS * DAY_US:
        raise InvalidInput("start", f"drift is summed from rows, for at most {MAX_DAYS} days a request")
    conditions = [*_range(connection, scope, start_us, end_us), usage_rows.c.stated_cost_pico.is_not(None)]
    conditions.append(usage_rows.c.billing_status.not_in(("suppressed", "not_billable")))
    for column, name in ((usage_rows.c.provider, provider), (usage_rows.c.model, model)):
        if name is not None:
            conditions.append(column == bounded_name(name))
    compared = [_drift(row) for row in connection.execute(_sums(conditions))]
    return sorted(compared, key=lambda one: (-abs(one.difference), one.provider or "", one.model or ""))[:limit]


def _range(connection: Connection, scope: Scope, start_us: int, end_us: int) -> list[ColumnElement[bool]]:
    """Restrict rows to a range, organization by organization, as the index has them."""
    mine = [scope.org_id] if isinstance(scope, OrgScope) else list(connection.scalars(organizations_in(usage_rows)))
    moment = usage_rows.c.occurred_at_us
    return [usage_rows.c.org_id.in_(mine), moment >= start_us, moment < end_us]


def _sums(conditions: list[ColumnElement[bool]]) -> Any:
    # An assumed charge without a price is the provider's own word, taken for want of ours.
    is_ours = and_(usage_rows.c.billing_status == "assumed", usage_rows.c.price_id.is_not(None))
    is_known = or_(usage_rows.c.billing_status.in_(("billed", "free")), is_ours)
    has_both = and_(is_known, usage_rows.c.list_cost_pico.is_not(None), usage_rows.c.currency == STATED_CURRENCY)
    counted = usage_rows.c.usage_id
    names = (usage_rows.c.provider, usage_rows.c.model)
    return (
        select(
            *names,
            func.count(counted).filter(has_both),
            func.count(counted),
            *_parts(usage_rows.c.list_cost_pico, has_both),
            *_parts(usage_rows.c.stated_cost_pico, has_both),
        )
        .where(*conditions)
        .group_by(*names)
        .order_by(func.count(counted).desc(), *names)
        .limit(_MAX_MODELS)
    )


def _parts(amount: ColumnElement[Any], condition: ColumnElement[bool]) -> tuple[ColumnElement[Any], ...]:
    """Sum units and pico apart, so that 64 bits hold both."""
    return func.sum(amount // _PICO).filter(condition), func.sum(amount % _PICO).filter(condition)


def _drift(row: Any) -> ModelDrift:
    provider, model, rows, stated_rows, ours_units, ours_pico, stated_units, stated_pico = row
    return ModelDrift(
        provider=provider,
        model=model,
        rows=rows,
        uncompared_rows=stated_rows - rows,
        ours=from_pico(join(int(ours_units or 0), int(ours_pico or 0))),
        stated=from_pico(join(int(stated_units or 0), int(stated_pico or 0))),
    )

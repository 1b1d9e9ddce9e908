"""How far our prices are from what providers state, as an answer."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from farebox_api.schemas.values import Count, DecimalText, Money, Timestamp, decimal, timestamp
from farebox_ledger.money import decimal_text
from farebox_ledger.pricing.events import STATED_CURRENCY
from farebox_ledger.store.drift import ModelDrift


class ModelDriftAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one model that the provider stated a cost for.

    `ours` and `stated` are sums over `rows`, of which both are known in full; `ours` is the list cost, before
    multipliers. `uncompared_rows` have a stated cost, and are unpriced, partial or in another currency.
    """

    provider: str | None
    model: str | None
    rows: Count
    uncompared_rows: Count
    ours: Money
    stated: Money
    difference: Annotated[Money, Meta(description="How much more we say than the provider.")]
    percent: Annotated[
        DecimalText | None, Meta(description="The difference in percent of `stated`; null where it is 0.")
    ]


class DriftAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The models of a range, the largest differences first. `is_truncated`: more models than `limit` differ."""

    start: Timestamp
    end: Timestamp
    currency: str
    items: list[ModelDriftAnswer]
    is_truncated: bool


def drift_answer(start_us: int, end_us: int, found: list[ModelDrift], limit: int) -> DriftAnswer:
    """Write the report; `found` may hold one model more than `limit`."""
    return DriftAnswer(
        start=timestamp(start_us),
        end=timestamp(end_us),
        currency=STATED_CURRENCY,
        items=[_model(one) for one in found[:limit]],
        is_truncated=len(found) > limit,
    )


def _model(one: ModelDrift) -> ModelDriftAnswer:
    return ModelDriftAnswer(
        provider=one.provider,
        model=one.model,
        rows=one.rows,
        uncompared_rows=one.uncompared_rows,
        ours=decimal_text(one.ours),
        stated=decimal_text(one.stated),
        difference=decimal_text(one.difference),
        percent=decimal(one.percent),
    )

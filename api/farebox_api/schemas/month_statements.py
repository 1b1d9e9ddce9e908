"""Statements of a month, as answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from farebox_api.schemas.values import Count, Money, Timestamp, money, month_text, timestamp
from farebox_ledger.store.month_statements import StatementLine
from farebox_ledger.usage import BillingStatus


class StatementLineAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one provider, model, billing status and currency. `cost` is null where none of them has one."""

    provider: str | None
    model: str | None
    billing_status: BillingStatus
    requests: Count
    errors: Count
    input_tokens: Count
    cache_read_input_tokens: Count
    cache_write_input_tokens: Count
    output_tokens: Count
    reasoning_output_tokens: Count
    currency: str | None
    cost: Money | None
    list_cost: Money | None


_SHOWN: Final = frozenset(StatementLineAnswer.__struct_fields__) - {"cost", "list_cost"}


class StatementTotalAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What all lines of one currency come to."""

    currency: str
    requests: Count
    cost: Money
    list_cost: Money


class StatementAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A month of usage as the books stood at `as_of`.

    `is_over`: the month had ended by then. `is_complete`: no row was unpriced or partly priced. `data_through` is the
    end of the newest call in it. `requests` counts the calls of all lines, those without a currency among them.
    """

    organization: str
    month: Annotated[str, Meta(description="Month in UTC, YYYY-MM.")]
    as_of: Timestamp
    is_over: bool
    is_complete: bool
    data_through: Timestamp | None
    requests: Count
    unpriced_rows: Count
    totals: Annotated[list[StatementTotalAnswer], Meta(description="One for each currency; they are never added.")]
    lines: Annotated[list[StatementLineAnswer], Meta(description="The most expensive first.")]


def statement_answer(
    organization: str, month: int, as_of_us: int, lines: Sequence[StatementLine], *, is_over: bool
) -> StatementAnswer:
    """Write a statement."""
    return StatementAnswer(
        organization=organization,
        month=month_text(month),
        as_of=timestamp(as_of_us),
        is_over=is_over,
        is_complete=not any(line.billing_status in ("unpriced", "partial") for line in lines),
        data_through=timestamp(max(line.newest_us for line in lines)) if lines else None,
        requests=sum(line.requests for line in lines),
        unpriced_rows=sum(line.requests for line in lines if line.billing_status == "unpriced"),
        totals=_totals(lines),
        lines=[_line(line) for line in lines],
    )


def _line(line: StatementLine) -> StatementLineAnswer:
    shown = {name: value for name, value in msgspec.structs.asdict(line).items() if name in _SHOWN}
    return StatementLineAnswer(**shown, cost=money(line.cost_pico), list_cost=money(line.list_cost_pico))


def _totals(lines: Sequence[StatementLine]) -> list[StatementTotalAnswer]:
    currencies = sorted({line.currency for line in lines if line.currency is not None})
    return [_total(currency, [line for line in lines if line.currency == currency]) for currency in currencies]


def _total(currency: str, lines: Sequence[StatementLine]) -> StatementTotalAnswer:
    return StatementTotalAnswer(
        currency=currency,
        requests=sum(line.requests for line in lines),
        cost=money(sum(line.cost_pico or 0 for line in lines)) or "0",
        list_cost=money(sum(line.list_cost_pico or 0 for line in lines)) or "0",
    )

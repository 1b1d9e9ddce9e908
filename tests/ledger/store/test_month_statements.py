"""Statements of a month: the same for ever, whatever comes later."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import msgspec
from sqlalchemy import Engine

from farebox_ledger.charges import change_charges
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.month_statements import StatementLine, month_statement
from farebox_ledger.store.summaries import month_summary
from farebox_ledger.store.writing import Booking, book
from farebox_ledger.usage import Usage
from tests.ledger.store.bookings import (
    ACME,
    EVERYBODY,
    NOON,
    ZENITH,
    at,
    booking,
    event,
    priced,
    random_booking,
    random_charge,
    suppressed,
    unpriced,
)  # fmt: skip

MONTH = 202603


def write(engine: Engine, *bookings: Booking) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def change(engine: Engine, *changes: Booking) -> int:
    """Change charges and answer a moment before that."""
    before_us = time.time_ns() // 1000
    time.sleep(0.002)
    with transaction(engine, EVERYBODY, write=True) as connection:
        change_charges(connection, EVERYBODY, changes, cause="reprice:1", writer_slot=2)
    return before_us


def statement(
    engine: Engine, as_of_us: int | None = None, org_id: int = ACME, month: int = MONTH
) -> list[StatementLine]:
    moment = time.time_ns() // 1000 if as_of_us is None else as_of_us
    with transaction(engine, EVERYBODY) as connection:
        return month_statement(connection, EVERYBODY, org_id, month, moment)


def test_a_statement_has_a_line_for_each_model_status_and_currency(engine: Engine) -> None:
    write(
        engine,
        booking(1),
        booking(2, status="error"),
        booking(3, unpriced()),
        booking(4, priced(currency="EUR")),
        booking(5, suppressed()),
        booking(6, org_id=ZENITH),
        booking(7, occurred_at_us=at("2026-04-01T00:00:00Z")),
    )

    lines = statement(engine)

    assert [(line.model, line.billing_status, line.currency, line.requests, line.cost_pico) for line in lines] == [
        ("gpt-4o", "billed", "USD", 2, 9_000_000_000),
        ("gpt-4o", "billed", "EUR", 1, 4_500_000_000),
        ("gpt-4o", "unpriced", None, 1, None),
    ]
    assert [(line.errors, line.input_tokens, line.output_tokens) for line in lines] == [
        (1, 2000, 400), (0, 1000, 200), (0, 1000, 200),
    ]  # fmt: skip


def test_a_new_price_leaves_the_statement_of_before_as_it_was(engine: Engine) -> None:
    write(engine, booking(1), booking(2, unpriced()))
    first = statement(engine)

    before_repricing_us = change(engine, booking(1, priced(1, 1)), booking(2, priced()))
    before_reversal_us = change(engine, booking(1, suppressed()))

    assert statement(engine, before_repricing_us) == first
    assert [(line.requests, line.cost_pico) for line in statement(engine, before_reversal_us)] == [(2, 4_500_000_002)]
    assert [(line.requests, line.cost_pico) for line in statement(engine)] == [(1, 4_500_000_000)]


def test_a_late_row_is_in_no_statement_of_before(engine: Engine) -> None:
    write(engine, booking(1, received_at_us=NOON))
    write(engine, booking(2, received_at_us=NOON + 5))

    assert [line.requests for line in statement(engine, NOON + 4)] == [1]
    assert [line.requests for line in statement(engine, NOON + 5)] == [2]


def test_replaced_counts_are_those_of_the_moment(engine: Engine) -> None:
    write(engine, booking(1), booking(2))
    more = event(1, usage=Usage(input_tokens=7, output_tokens=200), status="error")
    before_us = change(engine, Booking(more, priced()))

    assert [(line.input_tokens, line.errors) for line in statement(engine, before_us)] == [(2000, 0)]
    assert [(line.input_tokens, line.errors) for line in statement(engine)] == [(1007, 1)]


def test_a_statement_of_now_is_the_months_sum_after_any_changes(engine: Engine) -> None:
    random = Random(11)
    made = [random_booking(random, number) for number in range(1, 151)]
    write(engine, *made)
    first = statement(engine)
    before_us = change(engine, *(Booking(one.event, random_charge(random)) for one in random.sample(made, 60)))

    assert statement(engine, before_us) == first
    for month in (202603, 202604):
        assert added(statement(engine, month=month)) == summed(engine, month)


def added(lines: list[StatementLine]) -> dict[str, Any]:
    costs: dict[str | None, int] = {}
    for line in lines:
        if line.cost_pico is not None:
            costs[line.currency] = costs.get(line.currency, 0) + line.cost_pico
    names = ("requests", "errors", "input_tokens", "output_tokens", "cache_write_input_tokens")
    return {"costs": costs, **{name: sum(getattr(line, name) for line in lines) for name in names}}


def summed(engine: Engine, month: int) -> dict[str, Any]:
    with transaction(engine, EVERYBODY) as connection:
        groups = month_summary(connection, EVERYBODY, ACME, month).totals
    shown = [msgspec.structs.asdict(group) for group in groups]
    usage = ("input_tokens", "output_tokens", "cache_write_input_tokens")
    return {
        "costs": {group.currency: group.cost_pico for group in groups if group.cost_pico is not None},
        "requests": sum(group["requests"] for group in shown),
        "errors": sum(group["errors"] for group in shown),
        **{name: sum(group["usage"][name] for group in shown) for name in usage},
    }

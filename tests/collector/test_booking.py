"""Law 3: any order and any batching of the same spans, with any of them twice, ends in the same rows and totals.

So it does with crashes between, and whether or not what only containers tell is billed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from farebox_collector.booking import Ledger, Outcome, book_batches
from farebox_collector.spans import AttributeValue, Batch, Sender, Span
from farebox_ledger.pricing import Policy, PriceBook
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.prices import ensure_shipped_prices, load_book
from farebox_ledger.store.scope import AllOrganizations

END_US = 1_763_690_000_000_000
numbers = count(1)


@cache
def shipped(engine: Engine) -> PriceBook:
    ensure_shipped_prices(engine)
    with transaction(engine, AllOrganizations()) as connection:
        return load_book(connection)


@cache
def billing_aggregates(engine: Engine) -> PriceBook:
    return PriceBook(shipped(engine).prices(), 1, policy=Policy(aggregate_only_bills=True))


class Killed(Exception):
    """Ends a transaction as a kill would."""


class Books:
    """An organization of its own in a shared database."""

    def __init__(self, engine: Engine, prices: PriceBook | None = None) -> None:
        self.engine = engine
        self.slug = f"org-{next(numbers)}"
        self.prices = prices or shipped(engine)
        with transaction(engine, AllOrganizations(), write=True) as connection:
            self.org_id = create_organization(connection, self.slug).org_id

    def book(self, spans: Sequence[Span]) -> Outcome:
        return self.book_batch(self.batch(spans))

    def batch(self, spans: Sequence[Span]) -> Batch:
        return Batch(next(numbers), Sender(self.org_id, self.slug), END_US, list(spans), 1)

    def book_batch(self, batch: Batch, *, is_killed: bool = False) -> Outcome:
        with transaction(self.engine, AllOrganizations(), write=True) as connection:
            outcome = book_batches(connection, [batch], Ledger("collector", 1, self.prices))
            if is_killed:
                raise Killed
        return outcome

    def book_through_crashes(self, spans: Sequence[Span], killed: str) -> None:
        """Book a batch, killed before or after the commit, and again as it comes out of the spool."""
        batch = self.batch(spans)
        if killed == "before":
            with pytest.raises(Killed):
                self.book_batch(batch, is_killed=True)
        elif killed == "after":
            self.book_batch(batch)
        self.book_batch(batch)

    def rows(self) -> list[tuple[Any, ...]]:
        """What the rows say, without what an organization or an arrival puts there."""
        return self._read(
            "SELECT span_id, day, occurred_at_us, kind, billing_status, reason, reason_detail, cost_pico, input_tokens,"
            " output_tokens, request_model, response_id, status FROM usage_rows WHERE org_id = :org ORDER BY span_id"
        )

    def coverage(self) -> dict[bytes, bytes | None]:
        """By span id: the span id of the row that bills instead."""
        found = self._read("SELECT span_id, usage_id, covered_by FROM usage_rows WHERE org_id = :org")
        names = {bytes(usage_id): bytes(span_id) for span_id, usage_id, _ in found}
        return {bytes(span): None if by is None else names[bytes(by)] for span, _, by in found}

    def totals(self) -> list[tuple[Any, ...]]:
        found = self._read(
            "SELECT model, billing_status, SUM(requests), SUM(input_tokens), SUM(cost_units), SUM(cost_pico)"
            " FROM rollup_day WHERE org_id = :org GROUP BY 1, 2 HAVING SUM(requests) <> 0 ORDER BY 1, 2"
        )
        return [tuple(int(value) if not isinstance(value, str) else value for value in row) for row in found]

    def _read(self, statement: str) -> list[tuple[Any, ...]]:
        with owner_transaction(self.engine) as connection:
            return [tuple(row) for row in connection.execute(text(statement), {"org": self.org_id})]


@st.composite
def traces(draw: st.DrawFn) -> list[Span]:
    """Spans of one trace, some of them in two versions."""
    spans: list[Span] = []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        parent = draw(st.one_of(st.none(), st.integers(1, 6)))
        count_of_versions = draw(st.sampled_from((1, 1, 1, 2)))
        spans.extend(draw(versions(number, parent)) for _ in range(count_of_versions))
    return spans


@st.composite
def versions(draw: st.DrawFn, number: int, parent: int | None) -> Span:
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": draw(st.sampled_from(("chat", "chat", "invoke_agent"))),
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": draw(st.sampled_from(("gpt-4o-mini", "gpt-4o", "unheard-of-1"))),
    }
    tokens = draw(st.sampled_from((None, 10, 20)))
    if tokens is not None:
        attributes |= {"gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": tokens // 2}
    response_id = draw(st.sampled_from((None, None, "response-1")))
    if response_id is not None:
        attributes["gen_ai.response.id"] = response_id
    start = draw(st.integers(0, 3))
    return Span(
        trace_id=b"t" * 16,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=None if parent is None else parent.to_bytes(8, "big"),
        scope=draw(st.sampled_from(("scope.a", "scope.b"))),
        kind=draw(st.sampled_from((1, 3))),
        start_us=END_US + start * 1_000_000,
        end_us=END_US + (start + draw(st.integers(0, 3))) * 1_000_000,
        is_error=draw(st.booleans()),
        status_message=None,
        attributes=attributes,
    )


@st.composite
def tellings(draw: st.DrawFn) -> list[Span]:
    """Calls that several libraries tell, each in a trace of its own or below one that it has begun."""
    spans: list[Span] = []
    for number in range(1, draw(st.integers(2, 7)) + 1):
        trace = draw(st.sampled_from((number, number, 1)))
        parent = draw(st.sampled_from((None, None, 1))) if trace == 1 and number > 1 else None
        version = draw(versions(number, parent))
        version.trace_id = trace.to_bytes(16, "big")
        version.scope = draw(st.sampled_from(("scope.a", "scope.b", "scope.c")))
        version.attributes = {
            **version.attributes,
            "gen_ai.response.id": draw(st.sampled_from(("told-once", "told-twice"))),
        }
        shift_us = draw(st.sampled_from((0, 0, 0, 50_000_000)))
        version.start_us = (version.start_us or 0) + shift_us
        version.end_us = (version.end_us or 0) + shift_us
        spans.append(version)
    return spans


@given(told=tellings(), data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_several_traces_tell_is_judged_in_any_order(
    sqlite_engine: Engine, told: list[Span], data: st.DataObject
) -> None:
    assert_order_is_without_effect(sqlite_engine, told, data)


@pytest.mark.slow
@given(told=tellings(), data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_several_traces_tell_is_judged_in_any_order_on_postgresql(
    postgres_engine: Engine, told: list[Span], data: st.DataObject
) -> None:
    assert_order_is_without_effect(postgres_engine, told, data)


@given(trace=traces(), data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_order_batching_and_duplication_ends_in_the_same_books(
    sqlite_engine: Engine, trace: list[Span], data: st.DataObject
) -> None:
    assert_order_is_without_effect(sqlite_engine, trace, data)


@pytest.mark.slow
@given(trace=traces(), data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_order_ends_in_the_same_books_on_postgresql(
    postgres_engine: Engine, trace: list[Span], data: st.DataObject
) -> None:
    assert_order_is_without_effect(postgres_engine, trace, data)


@st.composite
def agents(draw: st.DrawFn) -> list[Span]:
    """Spans of which more than half are containers, some of them below spans that are not kept."""
    spans: list[Span] = []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        version = draw(versions(number, draw(st.one_of(st.none(), st.integers(1, 6), st.sampled_from((101, 102))))))
        if draw(st.booleans()):
            version.attributes = {**version.attributes, "gen_ai.operation.name": "invoke_agent"}
        spans.append(version)
    return spans


@given(trace=agents(), data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_order_bills_the_same_containers(sqlite_engine: Engine, trace: list[Span], data: st.DataObject) -> None:
    assert_order_is_without_effect(sqlite_engine, trace, data, billing_aggregates(sqlite_engine))


@pytest.mark.slow
@given(trace=agents(), data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_order_bills_the_same_containers_on_postgresql(
    postgres_engine: Engine, trace: list[Span], data: st.DataObject
) -> None:
    assert_order_is_without_effect(postgres_engine, trace, data, billing_aggregates(postgres_engine))


def assert_order_is_without_effect(
    engine: Engine, trace: list[Span], data: st.DataObject, prices: PriceBook | None = None
) -> None:
    at_once, piecemeal = Books(engine, prices), Books(engine, prices)
    at_once.book(trace)
    arriving = data.draw(st.permutations(trace + data.draw(st.lists(st.sampled_from(trace), max_size=3))))
    while arriving:
        size = data.draw(st.integers(1, len(arriving)))
        killed = data.draw(st.sampled_from(("never", "never", "before", "after")))
        piecemeal.book_through_crashes(arriving[:size], killed)
        arriving = arriving[size:]

    assert piecemeal.rows() == at_once.rows()
    assert piecemeal.coverage() == at_once.coverage()
    assert piecemeal.totals() == at_once.totals()


def test_a_batch_is_booked_once(engine: Engine) -> None:
    books = Books(engine)
    span = Span(
        b"t" * 16, b"s" * 8, None, "x", 3, None, END_US, False, None,
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 1},
    )  # fmt: skip
    batch = Batch(next(numbers), Sender(books.org_id, books.slug), END_US, [span], 1)
    outcomes = []
    for _ in range(2):
        with transaction(engine, AllOrganizations(), write=True) as connection:
            outcomes.append(book_batches(connection, [batch], Ledger("collector", 1, books.prices)))

    assert [(outcome.rows, outcome.replayed) for outcome in outcomes] == [(1, 0), (0, 1)]
    assert len(books.rows()) == 1

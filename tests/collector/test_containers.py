"""What only a container tells is billed where the organization says so, and taken back when its calls come."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from farebox_collector.booking import Ledger, book_batches
from farebox_collector.spans import AttributeValue, Batch, Sender, Span
from farebox_ledger.pricing import Policy
from farebox_ledger.repricing import Transition
from farebox_ledger.store.credit_accounts import Owner, create_account
from farebox_ledger.store.credit_tables import credit_transactions
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.policies import set_price_policy
from farebox_ledger.store.rollups import check_rollups
from farebox_ledger.store.schema import charge_versions, usage_rows
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.usage import org_id_of
from tests.ledger.repricing_cases import add_prices, current_book, price, ran

EVERYBODY = AllOrganizations()
ACME = org_id_of("acme")
END_US = 1_763_690_000_000_000
AGENT, CHAT, OTHER = b"a" * 8, b"c" * 8, b"o" * 8
COST = 4_500_000_000
numbers = count(1)

LEFT_OPEN = ("unpriced", "aggregate_only", None)
BILLED = ("assumed", "aggregate_only", COST)
COVERED = ("suppressed", "covered_by_child", None)


@pytest.fixture
def books(engine: Engine) -> Engine:
    """Books with one price, one organization and its credit account."""
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        create_account(connection, OrgScope(ACME), ACME, Owner())
    add_prices(engine, price("gpt-4o"))
    return engine


def span(span_id: bytes, parent: bytes | None = None, *, operation: str = "invoke_agent", tokens: int = 1000) -> Span:
    attributes: dict[str, AttributeValue] = {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.operation.name": operation,
        "gen_ai.usage.input_tokens": tokens,
        "gen_ai.usage.output_tokens": tokens // 5,
    }
    return Span(b"t" * 16, span_id, parent, "agents", 1, END_US - 1_000_000, END_US, False, None, attributes)


def book(engine: Engine, *spans: Span) -> None:
    """Book what comes as a collector does that has just read the catalog."""
    batch = Batch(next(numbers), Sender(ACME, "acme"), END_US, list(spans), 1)
    ledger = Ledger("collector", 1, current_book(engine))
    with transaction(engine, EVERYBODY, write=True) as connection:
        book_batches(connection, [batch], ledger)


def switch(engine: Engine, is_on: bool) -> None:
    with transaction(engine, OrgScope(ACME), write=True) as connection:
        set_price_policy(connection, OrgScope(ACME), ACME, Policy(aggregate_only_bills=is_on))


def charges(engine: Engine) -> dict[bytes, tuple[Any, ...]]:
    """By span: status, reason and cost. Sums and credits are compared with the rows on the way."""
    row = usage_rows.c
    with transaction(engine, EVERYBODY) as connection:
        found = connection.execute(select(row.span_id, row.billing_status, row.reason, row.cost_pico)).all()
        assert check_rollups(connection, EVERYBODY) == []
        entered = connection.scalars(select(credit_transactions.c.amount_pico)).all()
    assert -sum(entered) == sum(cost for *_, cost in found if cost is not None)
    return {bytes(span_id): tuple(charge) for span_id, *charge in found}


def causes(engine: Engine) -> list[tuple[str, str]]:
    kept = charge_versions.c
    with transaction(engine, EVERYBODY) as connection:
        rows: Iterable[Any] = connection.execute(select(kept.billing_status, kept.cause).order_by(kept.version))
        return [(status, cause.partition(":")[0]) for status, cause in rows]


def test_a_container_that_alone_tells_its_usage_is_billed_where_that_is_switched_on(books: Engine) -> None:
    switch(books, True)

    book(books, span(AGENT))

    assert charges(books) == {AGENT: BILLED}


def test_a_call_that_comes_later_takes_the_billed_container_back(books: Engine) -> None:
    switch(books, True)
    book(books, span(AGENT))

    book(books, span(CHAT, AGENT, operation="chat"))

    assert charges(books) == {AGENT: COVERED, CHAT: ("billed", None, COST)}
    assert causes(books) == [("assumed", "later_span")]


def test_an_agent_inside_that_comes_later_takes_the_billed_one_around_it_back(books: Engine) -> None:
    switch(books, True)
    book(books, span(AGENT))

    book(books, span(OTHER, AGENT))

    assert charges(books) == {AGENT: COVERED, OTHER: BILLED}


def test_switching_changes_no_row_before_it_is_priced_anew(books: Engine) -> None:
    book(books, span(AGENT))
    switch(books, True)
    book(books, span(AGENT), span(OTHER, operation="chat", tokens=10))
    assert charges(books)[AGENT] == LEFT_OPEN

    outcome = ran(books, OrgScope(ACME), reason="aggregate_only")

    assert outcome.transitions == [Transition("unpriced", "assumed", 1)]
    assert charges(books)[AGENT] == BILLED

    switch(books, False)
    book(books, span(AGENT), span(CHAT, operation="chat", tokens=20))
    assert charges(books)[AGENT] == BILLED
    assert ran(books, OrgScope(ACME)).transitions == [Transition("assumed", "unpriced", 1)]
    assert charges(books)[AGENT] == LEFT_OPEN
    assert causes(books) == [("unpriced", "reprice"), ("assumed", "reprice")]
    assert ran(books).rows_changed == 0


def test_pricing_anew_leaves_alone_what_another_span_may_tell(books: Engine) -> None:
    book(books, span(AGENT), span(CHAT, b"unknown!", operation="chat"))
    switch(books, True)

    outcome = ran(books, include_priced=True)

    assert outcome.rows_changed == 0
    assert charges(books) == {AGENT: LEFT_OPEN, CHAT: ("billed", None, COST)}


def test_a_better_version_of_a_container_is_booked_by_the_policy_of_then(books: Engine) -> None:
    book(books, span(AGENT, tokens=500))
    switch(books, True)

    book(books, span(AGENT))

    assert charges(books) == {AGENT: BILLED}


def test_others_are_not_billed_for_containers(books: Engine) -> None:
    with transaction(books, EVERYBODY, write=True) as connection:
        create_organization(connection, "zenith")
        zenith = org_id_of("zenith")
        set_price_policy(connection, EVERYBODY, zenith, Policy(aggregate_only_bills=True))

    book(books, span(AGENT))

    assert charges(books) == {AGENT: LEFT_OPEN}
    with transaction(books, EVERYBODY) as connection:
        assert connection.scalar(select(func.count()).select_from(credit_transactions)) == 0

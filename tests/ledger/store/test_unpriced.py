"""Groups of what waits for a price, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from farebox_ledger.errors import NotFound
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.scope import OrgScope, Scope
from farebox_ledger.store.unpriced import (
    GroupName,
    UnpricedGroup,
    first_seen_us,
    ignore_group,
    restore_group,
    unpriced_groups,
)
from farebox_ledger.store.writing import Booking, book
from farebox_ledger.usage import Usage
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, ZENITH, event, priced, unpriced

SECOND = 1_000_000
LLAMA = GroupName(provider="openai", model="llama", reason="unknown_model")


@pytest.fixture
def waiting(engine: Engine) -> Engine:
    """Three groups: llama (three rows, both organizations), a nameless one, and an assumed one."""
    bookings = [
        Booking(event(1, occurred_at_us=NOON, request_model="llama"), unpriced()),
        Booking(event(2, occurred_at_us=NOON + 86_400 * SECOND, request_model="llama"), unpriced()),
        Booking(event(3, org_id=ZENITH, occurred_at_us=NOON - SECOND, request_model="llama"), unpriced()),
        Booking(event(4, provider=None, request_model=None, usage=Usage()), unpriced("missing_usage")),
        Booking(event(5), priced(status="assumed", reason="archived")),
        Booking(event(6), priced()),
    ]
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)
    return engine


def groups(engine: Engine, scope: Scope = EVERYBODY, **asked: Any) -> list[UnpricedGroup]:
    with transaction(engine, EVERYBODY) as connection:
        return unpriced_groups(connection, scope, **asked)


def test_groups_say_how_much_of_whom_and_since_when(waiting: Engine) -> None:
    llama, nameless = groups(waiting)

    assert llama == UnpricedGroup(
        name=LLAMA,
        rows=3,
        input_tokens=3000,
        output_tokens=600,
        total_tokens=3600,
        organizations=2,
        first_seen_us=NOON - SECOND,
        last_seen_us=NOON + 86_400 * SECOND,
        is_ignored=False,
    )
    assert (nameless.name, nameless.rows) == (GroupName(provider=None, model=None, reason="missing_usage"), 1)
    assert (nameless.first_seen_us, nameless.total_tokens) == (NOON, 0)


def test_an_organization_sees_its_own_rows_alone(waiting: Engine) -> None:
    (mine, _), (theirs,) = groups(waiting, OrgScope(ACME)), groups(waiting, OrgScope(ZENITH))

    assert (mine.rows, mine.organizations, mine.first_seen_us) == (2, 1, NOON)
    assert (theirs.rows, theirs.organizations, theirs.last_seen_us) == (1, 1, NOON - SECOND)


def test_filters_and_other_statuses(waiting: Engine) -> None:
    assert [one.name.reason for one in groups(waiting, billing_status="assumed")] == ["archived"]
    assert groups(waiting, billing_status="partial") == []
    assert [one.name.model for one in groups(waiting, provider="")] == [None]
    assert [one.name.model for one in groups(waiting, provider="openai")] == ["llama"]
    assert [one.name.model for one in groups(waiting, reason="unknown_model")] == ["llama"]


def test_pages_follow_each_other_without_gap_or_double(waiting: Engine) -> None:
    more = [Booking(event(10 + number, request_model=f"m{number % 5}"), unpriced()) for number in range(12)]
    with transaction(waiting, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, more, collector_id=None, batch_ids=[], writer_slot=2)

    whole = groups(waiting)
    walked: list[UnpricedGroup] = []
    while page := groups(waiting, limit=2, after=walked[-1].position if walked else None):
        walked += page

    assert walked == whole
    assert [(one.name.model, one.rows) for one in whole] == [
        ("llama", 3),
        ("m0", 3),
        ("m1", 3),
        ("m2", 2),
        ("m3", 2),
        ("m4", 2),
        (None, 1),
    ]


def test_the_first_call_of_a_group_is_found_at_once(waiting: Engine) -> None:
    with transaction(waiting, EVERYBODY) as connection:
        assert first_seen_us(connection, EVERYBODY, LLAMA) == NOON - SECOND
        assert first_seen_us(connection, OrgScope(ACME), LLAMA) == NOON
        nobody = GroupName(provider="openai", model="nobody", reason="unknown_model")
        assert first_seen_us(connection, EVERYBODY, nobody) is None


def test_an_ignored_group_leaves_the_list_of_who_ignored_it(waiting: Engine) -> None:
    with transaction(waiting, EVERYBODY, write=True) as connection:
        ignore_group(connection, OrgScope(ACME), LLAMA)
        ignore_group(connection, OrgScope(ACME), LLAMA)

    assert [one.name.model for one in groups(waiting, OrgScope(ACME))] == [None]
    assert [one.name.model for one in groups(waiting, OrgScope(ZENITH))] == ["llama"]
    assert [one.name.model for one in groups(waiting)] == ["llama", None]
    shown = groups(waiting, OrgScope(ACME), with_ignored=True)
    assert [(one.name.model, one.is_ignored) for one in shown] == [("llama", True), (None, False)]

    with transaction(waiting, EVERYBODY, write=True) as connection:
        restore_group(connection, OrgScope(ACME), LLAMA)
        with pytest.raises(NotFound, match="ignored group"):
            restore_group(connection, EVERYBODY, LLAMA)
    assert [one.name.model for one in groups(waiting, OrgScope(ACME))] == ["llama", None]

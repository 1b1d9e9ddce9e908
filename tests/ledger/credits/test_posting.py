"""Deductions and differences: what rows cost is what accounts are charged, on both databases, whatever happens."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, delete, select, text, update
from sqlalchemy.exc import DBAPIError

from farebox_ledger.charges import change_charges
from farebox_ledger.errors import Conflict, InvalidInput
from farebox_ledger.money import PICO
from farebox_ledger.store.credit_tables import credit_transactions
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.schema import usage_rows
from farebox_ledger.store.writing import Booking, book
from farebox_ledger.usage import day_of
from tests.ledger.credits.accounts import (
    assert_books_balance,
    assert_rows_are_charged,
    balance,
    book_all,
    change_all,
    marks_left,
    movements,
    open_account,
)
from tests.ledger.store.bookings import (
    ACME,
    EVERYBODY,
    NOON,
    ZENITH,
    booking,
    event,
    priced,
    random_booking,
    random_charge,
    random_event,
    suppressed,
    unpriced,
)

COST = 4_500_000_000
"""What `priced()` costs, 0.0045 USD."""


def test_l03_a_priced_call_is_deducted_in_its_own_transaction(engine: Engine) -> None:
    account = open_account(engine)

    book_all(engine, booking(1, project="alpha", user="ann"))

    (deduction,) = movements(engine, account)
    assert (deduction.type, deduction.amount_pico, deduction.currency) == ("usage_deduction", -COST, "USD")
    assert (deduction.occurred_at_us, deduction.project, deduction.user_ref) == (NOON, "alpha", "ann")
    assert balance(engine, account) == -COST


def test_l04_a_deduction_is_linked_to_its_usage_row_and_l05_keeps_the_real_cost(engine: Engine) -> None:
    account = open_account(engine, rate="100")

    book_all(engine, booking(1))

    (deduction,) = movements(engine, account)
    assert (deduction.usage_day, deduction.source_id) == (day_of(NOON), event(1).usage_id)
    assert (deduction.amount_pico, deduction.real_cost_pico) == (-100 * COST, COST)


def test_l10_what_fails_leaves_neither_the_row_nor_the_deduction(engine: Engine) -> None:
    account = open_account(engine)

    def book_and_crash() -> None:
        with transaction(engine, EVERYBODY, write=True) as connection:
            book(connection, EVERYBODY, [booking(1)], collector_id=None, batch_ids=[], writer_slot=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        book_and_crash()

    assert movements(engine, account) == []
    assert book_all(engine, booking(1)) == 1
    assert balance(engine, account) == -COST


def test_a_replay_adds_no_second_deduction(engine: Engine) -> None:
    account = open_account(engine)

    for _ in range(3):
        book_all(engine, booking(1), booking(1))

    assert [one.amount_pico for one in movements(engine, account)] == [-COST]


def test_the_users_account_pays_before_the_projects_and_that_before_the_organizations(engine: Engine) -> None:
    organization = open_account(engine)
    project = open_account(engine, project="alpha")
    user = open_account(engine, user="ann")

    book_all(
        engine,
        booking(1, user="ann", project="alpha"),
        booking(2, user="bob", project="alpha"),
        booking(3, user="bob", project="beta"),
        booking(4),
    )

    assert [balance(engine, one) for one in (user, project, organization)] == [-COST, -COST, -2 * COST]


def test_an_account_pays_for_its_own_currency_and_organization_alone(engine: Engine) -> None:
    dollars, other = open_account(engine), open_account(engine, ZENITH)

    book_all(engine, booking(1, priced(currency="EUR")), booking(2))

    assert (balance(engine, dollars), balance(engine, other)) == (-COST, 0)


@pytest.mark.parametrize("charge", [unpriced(), suppressed()], ids=["unpriced", "suppressed"])
def test_what_costs_nothing_known_is_not_deducted(engine: Engine, charge: Any) -> None:
    account = open_account(engine)

    book_all(engine, booking(1, charge))

    assert movements(engine, account) == []


def test_rows_of_an_organization_without_accounts_are_booked_without_a_movement(engine: Engine) -> None:
    assert book_all(engine, *(booking(number) for number in range(1, 151))) == 150

    with transaction(engine, EVERYBODY) as connection:
        assert connection.execute(select(credit_transactions)).all() == []


def test_a_first_price_is_deducted_and_a_new_one_posts_the_difference(engine: Engine) -> None:
    account = open_account(engine)
    book_all(engine, booking(1, unpriced()))

    change_all(engine, booking(1))
    change_all(engine, booking(1, priced(1_000_000_000, 500_000_000)))
    change_all(engine, booking(1, suppressed()))

    assert [(one.type, one.amount_pico, one.real_cost_pico) for one in movements(engine, account)] == [
        ("usage_deduction", -4_500_000_000, 4_500_000_000),
        ("reprice_adjustment", 3_000_000_000, -3_000_000_000),
        ("reprice_adjustment", 1_500_000_000, -1_500_000_000),
    ]
    assert balance(engine, account) == 0


def test_a_row_that_turns_out_to_be_somebody_elses_is_charged_to_that_account(engine: Engine) -> None:
    organization, user = open_account(engine), open_account(engine, user="ann")
    book_all(engine, booking(1))

    change_all(engine, booking(1, user="ann"))

    assert (balance(engine, organization), balance(engine, user)) == (0, -COST)


def test_credits_go_back_to_the_moment_that_they_were_taken_at(engine: Engine) -> None:
    account = open_account(engine)
    book_all(engine, booking(1))

    change_all(engine, booking(1, occurred_at_us=NOON + 3_600_000_000))

    assert [(one.occurred_at_us, one.amount_pico) for one in movements(engine, account)] == [
        (NOON, -COST),
        (NOON, COST),
        (NOON + 3_600_000_000, -COST),
    ]
    assert [balance(engine, account, NOON + at) for at in (0, 3_599_999_999, 3_600_000_000)] == [0, 0, -COST]


def test_a_row_of_before_the_account_stays_uncharged_when_it_is_priced_anew(engine: Engine) -> None:
    book_all(engine, booking(1))
    account = open_account(engine)

    change_all(engine, booking(1, priced(1, 1)))

    assert movements(engine, account) == []


def test_an_amount_beyond_one_movement_is_cut_and_charged_in_full(engine: Engine) -> None:
    account = open_account(engine, rate="1000")

    book_all(engine, booking(1, priced(20_000 * PICO, 5)))

    assert [one.amount_pico for one in movements(engine, account)] == [
        -9_000_000 * PICO,
        -9_000_000 * PICO,
        -2_000_000 * PICO - 5_000,
    ]
    assert balance(engine, account) == -20_000_000 * PICO - 5_000


def test_a_movement_cannot_be_changed_or_deleted(engine: Engine) -> None:
    open_account(engine)
    book_all(engine, booking(1))

    for statement in (update(credit_transactions).values(amount_pico=0), delete(credit_transactions)):
        with (
            pytest.raises(DBAPIError, match="append-only"),
            transaction(engine, EVERYBODY, write=True) as connection,
        ):
            connection.execute(statement)


def test_an_account_keeps_its_owner_currency_and_rate(engine: Engine) -> None:
    open_account(engine)

    with pytest.raises(DBAPIError, match="make another"), transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(text("UPDATE credit_accounts SET rate = '2'"))


def test_an_owner_has_one_account_in_a_currency(engine: Engine) -> None:
    first = open_account(engine, user="ann")

    with pytest.raises(Conflict) as refused:
        open_account(engine, user="ann", rate="3")

    assert refused.value.conflicting_id == first.account_id
    assert open_account(engine, user="ann", currency="EUR").account_id != first.account_id


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"rate": "0"}, "rate"),
        ({"rate": "-1"}, "rate"),
        ({"rate": "1000.1"}, "rate"),
        ({"rate": "NaN"}, "rate"),
        ({"currency": "usd"}, "currency"),
        ({"user": "ann", "project": "alpha"}, "project"),
        ({"user": ""}, "user"),
    ],
    ids=["zero", "negative", "large", "nan", "currency", "two owners", "empty"],
)
def test_an_account_that_cannot_be_names_the_field(engine: Engine, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        open_account(engine, **fields)

    assert refused.value.field == field


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_deductions_are_the_rows_costs_after_random_work(engine: Engine, seed: int) -> None:
    """Bookings in batches, replays, crashes, re-pricing, suppression, late versions with other users: by equality."""
    random = Random(seed)
    for org_id in (ACME, ZENITH):
        open_account(engine, org_id, rate="0.5")
        open_account(engine, org_id, currency="EUR", rate="1")
    open_account(engine, user="ann", rate="333.333333")
    open_account(engine, project="alpha", rate="0.0001")
    bookings = [random_booking(random, number) for number in range(300)]

    for start in range(0, 300, 60):
        book_all(engine, *bookings[start : start + 60])
        book_all(engine, *random.sample(bookings[: start + 60], 10))
        _crash(engine, random, bookings[: start + 60])
        changed = {number: _changed(random, bookings[number]) for number in random.sample(range(start + 60), 30)}
        change_all(engine, *changed.values())
        for number, change in changed.items():
            bookings[number] = change
        assert_rows_are_charged(engine)

    assert_books_balance(engine)
    assert marks_left(engine) > 0
    with transaction(engine, EVERYBODY) as connection:
        assert len(connection.execute(select(usage_rows.c.usage_id)).all()) == 300


def _changed(random: Random, standing: Booking) -> Booking:
    """Give a row another charge and, now and then, another user, project or time."""
    told = msgspec.structs.replace(standing.event)
    if random.random() < 0.3:
        drawn = random_event(random, 1)
        told.user, told.user_email, told.project = drawn.user, drawn.user_email, drawn.project
    if random.random() < 0.2:
        told.occurred_at_us += random.randrange(-1_000_000, 1_000_000)
    return Booking(told, random_charge(random))


def _crash(engine: Engine, random: Random, bookings: list[Booking]) -> None:
    """Book and change rows in a transaction that does not end."""
    changes = [_changed(random, one) for one in random.sample(bookings, 5)]
    new = [random_booking(random, 10_000)]

    def book_change_and_crash() -> None:
        with transaction(engine, EVERYBODY, write=True) as connection:
            book(connection, EVERYBODY, new, collector_id=None, batch_ids=[], writer_slot=1)
            change_charges(connection, EVERYBODY, changes, cause="reprice:test", writer_slot=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        book_change_and_crash()

"""The jobs: allocation, re-allocation on late rows, expiry; and conservation after random work, on both databases."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from random import Random

import msgspec
import pytest
from sqlalchemy import Engine

from farebox_ledger.credits import (
    Adjustment,
    Granting,
    Purchase,
    adjust,
    allocate_account,
    balance_of,
    grant_balances,
    grant_credits,
    record_purchase,
    void_grant,
)
from farebox_ledger.errors import Conflict, InvalidInput
from farebox_ledger.money import PICO
from farebox_ledger.store.credit_accounts import Account
from farebox_ledger.store.credit_grants import Grant
from farebox_ledger.store.credit_ledger import Transaction
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.timeline import DAY_US
from farebox_ledger.store.writing import Booking
from tests.ledger.credits.accounts import (
    allocations,
    assert_books_balance,
    assert_rows_are_charged,
    balance,
    book_all,
    change_all,
    marks_left,
    movements,
    open_account,
    run_credit_jobs,
)
from tests.ledger.store.bookings import EVERYBODY, NOON, booking, priced, random_booking, random_charge

HOUR = 3_600_000_000


def grant(engine: Engine, account: Account, amount: str, **fields: object) -> Grant:
    with transaction(engine, EVERYBODY, write=True) as connection:
        granting = Granting(amount=Decimal(amount), **fields)  # type: ignore[arg-type]  # fields of a Granting
        return grant_credits(connection, account, granting)[0]


def use(engine: Engine, number: int, credits_amount: int, at_us: int) -> None:
    book_all(engine, booking(number, priced(credits_amount * PICO, 0), occurred_at_us=at_us))


def left(engine: Engine, account: Account) -> tuple[list[int], int]:
    """Say what is left of the grants, in whole credits and the order of their ids, and what is owed."""
    with transaction(engine, EVERYBODY) as connection:
        balances, owed_pico = grant_balances(connection, account)
    ordered = sorted(balances, key=lambda one: one.grant.created_at_us)
    return [one.remaining_pico // PICO for one in ordered], owed_pico // PICO


def test_usage_is_allocated_by_priority(engine: Engine) -> None:
    account = open_account(engine)
    grant(engine, account, "10", effective_at_us=NOON - HOUR)
    grant(engine, account, "10", effective_at_us=NOON - HOUR, priority=1)

    use(engine, 1, 13, NOON)
    run_credit_jobs(engine)

    assert left(engine, account) == ([7, 0], 0)
    assert marks_left(engine) == 0


def test_a_late_row_re_allocates_what_came_after_it(engine: Engine) -> None:
    account = open_account(engine)
    short = grant(engine, account, "10", effective_at_us=NOON - HOUR, expires_at_us=NOON + HOUR)
    grant(engine, account, "10", effective_at_us=NOON - HOUR)
    use(engine, 1, 4, NOON)
    run_credit_jobs(engine)
    assert [(one.type, one.amount_pico // PICO) for one in movements(engine, account)][-1] == ("expiry", -6)

    use(engine, 2, 3, NOON - 1)
    run_credit_jobs(engine)

    assert left(engine, account) == ([0, 10], 0)
    taken = [one for one in movements(engine, account) if one.type == "expiry"]
    assert [(one.amount_pico // PICO, one.occurred_at_us) for one in taken] == [(-6, NOON + HOUR), (3, NOON + HOUR)]
    assert {one.source_id for one in taken} == {short.grant_id}
    assert balance(engine, account) == 10 * PICO


def test_what_is_left_expires_at_the_time_of_expiry_and_once(engine: Engine) -> None:
    account = open_account(engine)
    grant(engine, account, "10", effective_at_us=NOON, expires_at_us=NOON + HOUR)

    for _ in range(3):
        run_credit_jobs(engine)

    assert [balance(engine, account, NOON + at) // PICO for at in (-1, 0, HOUR - 1, HOUR)] == [0, 10, 10, 0]
    assert [one.type for one in movements(engine, account)] == ["grant", "expiry"]


def test_a_grant_to_come_is_kept_and_pays_what_is_owed_when_it_begins(engine: Engine) -> None:
    account = open_account(engine)
    use(engine, 1, 3, NOON)
    begins = time.time_ns() // 1000 + DAY_US
    grant(engine, account, "10", effective_at_us=begins)

    run_credit_jobs(engine)

    assert left(engine, account) == ([10], 3)
    assert (balance(engine, account, begins - 1) // PICO, balance(engine, account, begins) // PICO) == (-3, 7)


def test_a_void_before_the_begin_takes_all_back_at_the_begin(engine: Engine) -> None:
    account = open_account(engine)
    begins = time.time_ns() // 1000 + DAY_US
    made = grant(engine, account, "10", effective_at_us=begins)

    with transaction(engine, EVERYBODY, write=True) as connection:
        void_grant(connection, EVERYBODY, account, made.grant_id, "a mistake")

    assert [(one.type, one.occurred_at_us) for one in movements(engine, account)] == [
        ("grant", begins),
        ("void", begins),
    ]
    assert balance(engine, account) == 0


def test_a_grant_that_has_ended_cannot_be_voided(engine: Engine) -> None:
    account = open_account(engine)
    made = grant(engine, account, "10", effective_at_us=NOON, expires_at_us=NOON + HOUR)

    with pytest.raises(Conflict, match="has ended"), transaction(engine, EVERYBODY, write=True) as connection:
        void_grant(connection, EVERYBODY, account, made.grant_id, "late")


def test_a_void_needs_its_reason(engine: Engine) -> None:
    account = open_account(engine)
    made = grant(engine, account, "10")

    with pytest.raises(InvalidInput, match="reason"), transaction(engine, EVERYBODY, write=True) as connection:
        void_grant(connection, EVERYBODY, account, made.grant_id, " ")


def test_corrections_are_used_up_and_owed_as_grants_and_usage_are(engine: Engine) -> None:
    account = open_account(engine)
    with transaction(engine, EVERYBODY, write=True) as connection:
        adjust(connection, account, Adjustment(amount=Decimal(5), description="sorry"))
        adjust(connection, account, Adjustment(amount=Decimal(-7), description="typing error"))

    run_credit_jobs(engine)

    assert left(engine, account) == ([0], 2)
    assert balance(engine, account) == -2 * PICO


def test_accounts_are_allocated_by_usage_time_whatever_arrives_first(engine: Engine) -> None:
    """The same calls, in any order and any batches, with the jobs in between or not: the same allocations."""
    found = []
    for seed in range(3):
        random = Random(seed)
        account = open_account(engine, project=f"p{seed}")
        for number, (amount, fields) in enumerate(GRANTS):
            grant(engine, account, amount, external_id=f"{seed}/{number}", **fields)
        calls = [
            booking(
                1000 * seed + number,
                priced(1 + number % 5 * PICO, 0),
                occurred_at_us=NOON + number * 5 * HOUR,
                project=f"p{seed}",
            )
            for number in range(40)
        ]
        random.shuffle(calls)
        while calls:
            size = random.randrange(1, 15)
            book_all(engine, *calls[:size])
            calls = calls[size:]
            if random.random() < 0.5:
                run_credit_jobs(engine)
        run_credit_jobs(engine)
        numbers = {bytes(one.source_id): index for index, one in enumerate(granted_in_order(engine, account))}
        found.append(
            [
                (day, numbers.get(grant_id), units, pico)
                for account_id, day, grant_id, units, pico in allocations(engine)
                if account_id == account.account_id
            ]
        )
        assert_account_adds_up(engine, account)

    assert [sorted(one, key=str) for one in found] == [sorted(found[0], key=str)] * 3


GRANTS: list[tuple[str, dict[str, int]]] = [
    ("30", {"effective_at_us": NOON - HOUR, "expires_at_us": NOON + 2 * DAY_US}),
    ("9", {"effective_at_us": NOON + DAY_US, "priority": 1}),
    ("12", {"effective_at_us": NOON + 3 * DAY_US, "expires_at_us": NOON + 6 * DAY_US}),
]


def granted_in_order(engine: Engine, account: Account) -> list[Transaction]:
    made = [one for one in movements(engine, account) if one.type == "grant"]
    return sorted(made, key=lambda one: str(one.external_id))


def assert_account_adds_up(engine: Engine, account: Account) -> None:
    """What an account has is what is left of its grants less what is owed, and never both."""
    with transaction(engine, EVERYBODY) as connection:
        now = balance_of(connection, account).balance_pico
        balances, owed_pico = grant_balances(connection, account)
    remaining = sum(one.remaining_pico for one in balances)
    assert now == remaining - owed_pico
    assert remaining == 0 or owed_pico == 0


@pytest.mark.parametrize("seed", [11, 12])
def test_balances_are_what_is_left_less_what_is_owed_after_random_work(engine: Engine, seed: int) -> None:
    """Calls, replays, re-pricing, suppression, grants, purchases, corrections, voids and the jobs, in any order."""
    random = Random(seed)
    accounts = [open_account(engine, rate="0.000001"), open_account(engine, user="ann", rate="0.0000001")]
    bookings = [random_booking(random, number) for number in range(200)]
    made: list[tuple[Account, Grant]] = []
    for start in range(0, 200, 25):
        book_all(engine, *bookings[start : start + 25], *random.sample(bookings[: start + 25], 5))
        account = random.choice(accounts)
        with transaction(engine, EVERYBODY, write=True) as connection:
            begins = NOON + random.randrange(40) * DAY_US
            granting = Granting(
                amount=Decimal(random.randrange(1, 10**6)).scaleb(-6),
                priority=random.randrange(3),
                effective_at_us=begins,
                expires_at_us=random.choice((None, begins + random.randrange(1, 30) * DAY_US)),
            )
            made.append((account, grant_credits(connection, account, granting)[0]))
            payment = Purchase(amount=Decimal("0.5"), external_id=f"pay_{start}")
            assert record_purchase(connection, account, payment)[1]
            assert not record_purchase(connection, account, payment)[1]
            sign = random.choice((-1, 1))
            adjust(connection, account, Adjustment(amount=sign * Decimal("0.25"), description="random"))
        changes = [
            Booking(msgspec.structs.replace(one.event), random_charge(random))
            for one in random.sample(bookings[: start + 25], 10)
        ]
        change_all(engine, *changes)
        if random.random() < 0.5:
            run_credit_jobs(engine)
        if random.random() < 0.5:
            _void(engine, *random.choice(made))
    run_credit_jobs(engine)

    assert_rows_are_charged(engine)
    assert_books_balance(engine)
    for account in accounts:
        assert_account_adds_up(engine, account)
    assert marks_left(engine) == 0


def _void(engine: Engine, account: Account, made: Grant) -> None:
    with suppress(Conflict), transaction(engine, EVERYBODY, write=True) as connection:
        void_grant(connection, EVERYBODY, account, made.grant_id, "random")


def test_many_writers_and_the_jobs_at_once_lose_nothing(engine: Engine) -> None:
    account = open_account(engine)
    grant(engine, account, "1", effective_at_us=NOON - HOUR)

    def book_and_allocate(writer: int) -> None:
        for number in range(10):
            one = booking(100 * writer + number, trace_id=bytes([writer, number]) * 8, occurred_at_us=NOON + number)
            book_all(engine, one)
            change_all(engine, Booking(one.event, priced(writer + 1, number)))
            with transaction(engine, EVERYBODY, write=True) as connection:
                allocate_account(connection, account)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(book_and_allocate, range(4)))
    run_credit_jobs(engine)

    assert_rows_are_charged(engine)
    assert_books_balance(engine)
    assert_account_adds_up(engine, account)
    assert marks_left(engine) == 0


def test_calls_voids_and_expiry_at_once_lose_nothing(engine: Engine) -> None:
    account = open_account(engine)
    now_us = time.time_ns() // 1000
    made = [
        grant(
            engine, account, "1", effective_at_us=NOON - HOUR, expires_at_us=(NOON, now_us + 300_000, None)[number % 3]
        )
        for number in range(12)
    ]

    def call(writer: int) -> None:
        for number in range(12):
            one = booking(100 * writer + number, trace_id=bytes([writer, number]) * 8, occurred_at_us=NOON + number)
            book_all(engine, one)
            change_all(engine, Booking(one.event, priced(PICO // 7, number)))

    def void(_: int) -> None:
        for one in made[::2]:
            _void(engine, account, one)

    def expire(_: int) -> None:
        for _ in range(6):
            run_credit_jobs(engine)

    with ThreadPoolExecutor(6) as pool:
        doing = [pool.submit(act, number) for number, act in enumerate((call, call, void, void, expire, expire))]
    for one in doing:
        one.result()
    run_credit_jobs(engine)
    time.sleep(max(0.0, now_us / 1_000_000 + 0.4 - time.time()))
    run_credit_jobs(engine)

    assert_rows_are_charged(engine)
    assert_books_balance(engine)
    assert_account_adds_up(engine, account)
    assert marks_left(engine) == 0
    ended = [one for one in movements(engine, account) if one.type in ("void", "expiry")]
    assert len({(one.source_id, one.step) for one in ended}) == len(ended)

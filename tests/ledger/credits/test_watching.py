"""Balances that sink to their threshold are told once for each time, and sums of days are what their movements say."""

from __future__ import annotations

import threading
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text

from farebox_ledger.credits import CHECK_BALANCES, WATCH, Granting, balance_of, grant_credits
from farebox_ledger.errors import InvalidInput
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.store import jobs
from farebox_ledger.store.credit_accounts import Account, Owner, create_account, get_account, set_low_balance
from farebox_ledger.store.credit_days import first_wrong_day
from farebox_ledger.store.credit_tables import credit_transactions
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.timeline import DAY_US
from farebox_ledger.store.webhook_deliveries import Delivery, list_deliveries
from farebox_ledger.store.webhooks import Webhook, WebhookDraft, create_webhook
from tests.ledger.budgets.making import cost
from tests.ledger.credits.accounts import FAR_FUTURE, balance, book_all, change_all, open_account, run_credit_jobs
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, random_booking

UNIT = 10**12


def watched(engine: Engine, low_balance: str = "10") -> tuple[Account, Webhook]:
    """Open an account that warns, and somebody who listens."""
    draft = WebhookDraft(url="https://example.com/hook", events=("credits.low_balance",))
    with transaction(engine, EVERYBODY, write=True) as connection:
        account = create_account(connection, EVERYBODY, ACME, Owner(user="ann"), low_balance=Decimal(low_balance))
        return account, create_webhook(connection, EVERYBODY, draft).webhook


def give(engine: Engine, account: Account, amount: str, at_us: int = NOON - DAY_US) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        grant_credits(connection, account, Granting(amount=Decimal(amount), effective_at_us=at_us))


def set_threshold(engine: Engine, account: Account, low_balance: str | None) -> None:
    wanted = None if low_balance is None else Decimal(low_balance)
    with transaction(engine, EVERYBODY, write=True) as connection:
        set_low_balance(connection, EVERYBODY, ACME, account.account_id, wanted)


def told(engine: Engine, webhook: Webhook) -> list[Delivery]:
    run_credit_jobs(engine, [WATCH])
    run_credit_jobs(engine, [WATCH])
    with transaction(engine, EVERYBODY) as connection:
        return list_deliveries(connection, EVERYBODY, webhook)


def test_a_balance_that_sinks_is_told_once_for_each_time(engine: Engine) -> None:
    account, webhook = watched(engine)
    give(engine, account, "25")
    assert told(engine, webhook) == []

    book_all(engine, cost(1, "14", user="ann"))
    assert told(engine, webhook) == []  # 11 are left
    book_all(engine, cost(2, "1", user="ann"))
    (first,) = told(engine, webhook)  # 10: the threshold itself
    book_all(engine, cost(3, "5", user="ann"))
    assert len(told(engine, webhook)) == 1

    give(engine, account, "20")
    assert len(told(engine, webhook)) == 1
    book_all(engine, cost(4, "20", user="ann"))
    assert len(told(engine, webhook)) == 2

    assert '"balance":"10","low_balance":"10","currency":"USD"' in first.payload
    assert '"user":"ann"' in first.payload


def test_another_threshold_begins_anew_and_without_one_nobody_is_told(engine: Engine) -> None:
    account, webhook = watched(engine, "-1")
    book_all(engine, cost(1, "3", user="ann"))
    assert len(told(engine, webhook)) == 1

    set_threshold(engine, account, "0")
    assert len(told(engine, webhook)) == 2
    set_threshold(engine, account, None)
    book_all(engine, cost(2, "3", user="ann"))
    assert len(told(engine, webhook)) == 2
    with transaction(engine, EVERYBODY) as connection:
        stands = get_account(connection, EVERYBODY, ACME, account.account_id)
    assert (stands.low_balance_pico, stands.low_since_us) == (None, None)


def test_a_threshold_that_no_balance_can_have_is_refused(engine: Engine) -> None:
    account = open_account(engine)
    for amount in ("0.0000000000001", "10000000", "NaN"):
        with pytest.raises(InvalidInput, match="low_balance"):
            set_threshold(engine, account, amount)


def test_a_balance_is_the_sum_of_its_movements_at_every_moment_before_and_after_the_job(engine: Engine) -> None:
    random = Random(6)
    account = open_account(engine)
    bookings = [random_booking(random, number) for number in range(120)]
    give(engine, account, "3", NOON + 20 * DAY_US)

    for part in (bookings[:50], bookings[50:80], bookings[80:]):
        book_all(engine, *part)
        assert_balances(engine, account)  # with marks
        run_credit_jobs(engine)
        assert_balances(engine, account)  # without
    change_all(engine, *bookings[:20])
    assert_balances(engine, account)


def assert_balances(engine: Engine, account: Account) -> None:
    moved = select(credit_transactions.c.occurred_at_us, credit_transactions.c.amount_pico)
    with transaction(engine, EVERYBODY) as connection:
        all_of_it = connection.execute(moved.where(credit_transactions.c.account_id == account.account_id)).all()
    moments = sorted({at_us for at_us, _ in all_of_it})
    for at_us in (0, *moments[::7], moments[-1], FAR_FUTURE):
        assert balance(engine, account, at_us) == sum(pico for one_us, pico in all_of_it if one_us <= at_us)
    with transaction(engine, EVERYBODY) as connection:
        assert first_wrong_day(connection, account) is None


def test_a_balance_reads_the_days_and_not_their_movements(sqlite_engine: Engine) -> None:
    account = open_account(sqlite_engine)
    book_all(sqlite_engine, *(cost(number, "0.001") for number in range(1, 1001)))
    run_credit_jobs(sqlite_engine)
    read: list[tuple[str, Any]] = []
    event.listen(sqlite_engine, "before_cursor_execute", lambda *said: read.append((said[2], said[3])))

    with transaction(sqlite_engine, EVERYBODY) as connection:
        found = balance_of(connection, account)

    assert found.balance_pico == -UNIT
    (asked,) = [parameters for statement, parameters in read if "FROM credit_transactions" in statement]
    today_us = found.as_of_us - found.as_of_us % DAY_US
    assert asked[-2:] == (today_us, found.as_of_us)  # the thousand calls of NOON are none of that


def test_sums_that_are_wrong_are_found_and_made_anew(engine: Engine) -> None:
    account = open_account(engine)
    book_all(engine, cost(1, "2"))
    run_credit_jobs(engine)
    with owner_transaction(engine, write=True) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL ROLE farebox_writer"))
        connection.execute(text("UPDATE credit_days SET amount_units = amount_units - 7"))
    assert balance(engine, account) == -9 * UNIT

    with transaction(engine, EVERYBODY, write=True) as connection:
        jobs.enqueue(connection, EVERYBODY, CHECK_BALANCES, {})
    assert run_jobs(engine, threading.Event(), {CHECK_BALANCES: KINDS[CHECK_BALANCES]}, until_idle=True) >= 1
    assert balance(engine, account) == -2 * UNIT  # from its movements
    run_credit_jobs(engine)
    run_credit_jobs(engine, [CHECK_BALANCES])

    assert balance(engine, account) == -2 * UNIT

"""Accounts, bookings and sums for the tests of credits."""

from __future__ import annotations

import threading
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, select, text

from farebox_ledger.charges import change_charges
from farebox_ledger.credits import balance_of
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.money import converted
from farebox_ledger.store import jobs
from farebox_ledger.store.credit_accounts import Account, Owner, create_account
from farebox_ledger.store.credit_ledger import Transaction, TransactionFilter, list_transactions
from farebox_ledger.store.credit_tables import credit_accounts, credit_allocations, credit_marks, credit_transactions
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.schema import usage_rows
from farebox_ledger.store.writing import Booking, book
from tests.ledger.store.bookings import ACME, EVERYBODY

FAR_FUTURE = 2**60


def open_account(
    engine: Engine, org_id: int = ACME, *, rate: str = "1", currency: str = "USD", **owner: Any
) -> Account:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return create_account(connection, EVERYBODY, org_id, Owner(**owner), currency=currency, rate=Decimal(rate))


def book_all(engine: Engine, *bookings: Booking) -> int:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def change_all(engine: Engine, *changes: Booking) -> int:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return change_charges(connection, EVERYBODY, changes, cause="reprice:test", writer_slot=1)


def movements(engine: Engine, account: Account) -> list[Transaction]:
    """List an account's movements, oldest first."""
    asked = TransactionFilter(account_id=account.account_id)
    with transaction(engine, EVERYBODY) as connection:
        return list_transactions(connection, EVERYBODY, account.org_id, asked, limit=100_000)[::-1]


def balance(engine: Engine, account: Account, as_of_us: int = FAR_FUTURE) -> int:
    with transaction(engine, EVERYBODY) as connection:
        return balance_of(connection, account, as_of_us=as_of_us).balance_pico


def run_credit_jobs(engine: Engine, kinds: Collection[str] = ("allocate_credits", "expire_credits")) -> None:
    """Run the jobs of credits once."""
    with transaction(engine, EVERYBODY, write=True) as connection:
        for kind in kinds:
            jobs.enqueue(connection, EVERYBODY, kind, {})
    assert run_jobs(engine, threading.Event(), {kind: KINDS[kind] for kind in kinds}, until_idle=True) == 0


def allocations(engine: Engine) -> list[tuple[Any, ...]]:
    columns = [column for column in credit_allocations.columns if column.name != "org_id"]
    with transaction(engine, EVERYBODY) as connection:
        rows = connection.execute(select(*columns).order_by(*columns))
        return [tuple(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in rows]


def marks_left(engine: Engine) -> int:
    with transaction(engine, EVERYBODY) as connection:
        return len(connection.execute(select(credit_marks)).all())


def assert_books_balance(engine: Engine) -> None:
    """Each movement's entries sum to zero, and all accounts' together; what accounts have is what the others gave."""
    with transaction(engine, EVERYBODY) as connection:
        entries = connection.execute(
            text("SELECT org_id, source_id, step, currency, ledger_account, amount_pico FROM credit_entries")
        ).all()
        moved = connection.execute(select(credit_transactions.c.amount_pico)).scalars().all()
    sums: dict[Any, int] = {}
    for org_id, source_id, step, currency, _, amount_pico in entries:
        for key in ((org_id, bytes(source_id), step), currency):
            sums[key] = sums.get(key, 0) + amount_pico
    assert set(sums.values()) <= {0}
    assert sum(entry[-1] for entry in entries if entry[-2] == "customer") == sum(moved)
    assert len(entries) == 2 * len(moved)


def deductions(engine: Engine) -> dict[tuple[int, bytes], int]:
    """Sum what each row is charged, in pico-credits, over all accounts; rows that are charged nothing are left out."""
    with transaction(engine, EVERYBODY) as connection:
        rows = connection.execute(
            select(credit_transactions).where(credit_transactions.c.counter_account == "usage")
        ).all()
    sums: dict[tuple[int, bytes], int] = {}
    for row in rows:
        key = (row.org_id, bytes(row.source_id))
        sums[key] = sums.get(key, 0) - row.amount_pico
    return {key: pico for key, pico in sums.items() if pico}


def assert_rows_are_charged(engine: Engine) -> None:
    """What the accounts were charged is the rows' cost × the rate of the account that each row belongs to."""
    with transaction(engine, EVERYBODY) as connection:
        accounts = {
            (row.org_id, row.owner_key, row.currency): row for row in connection.execute(select(credit_accounts))
        }
        rows = connection.execute(select(usage_rows)).all()
        by_account = connection.execute(
            select(credit_transactions).where(credit_transactions.c.counter_account == "usage")
        ).all()
    should: dict[tuple[int, bytes], tuple[str, int]] = {}
    for row in rows:
        for owner in (f"u:{row.user_ref}", f"p:{row.project}", "o:"):
            account = accounts.get((row.org_id, owner, row.currency))
            if account is not None and row.cost_pico:
                should[row.org_id, bytes(row.usage_id)] = (
                    account.account_id,
                    converted(row.cost_pico, Decimal(account.rate)),
                )
                break
    posted: dict[tuple[int, bytes, str], int] = {}
    for row in by_account:
        key = (row.org_id, bytes(row.source_id), row.account_id)
        posted[key] = posted.get(key, 0) - row.amount_pico
    assert {key: pico for key, pico in posted.items() if pico} == {
        (org_id, usage_id, account_id): pico for (org_id, usage_id), (account_id, pico) in should.items() if pico
    }

"""The tables of credits: plans of the hot statements, and the migration on books that are filled."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine, event, inspect, text

from farebox_ledger.credits import Granting, allocate_account, balance_of, grant_credits
from farebox_ledger.store.credit_accounts import Account
from farebox_ledger.store.credit_ledger import TransactionFilter, list_transactions
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.migrations import downgrade, upgrade
from farebox_ledger.store.writing import book
from tests.ledger.credits.accounts import balance, book_all, change_all, open_account, run_credit_jobs
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, booking, priced


def filled(engine: Engine) -> Account:
    account = open_account(engine)
    with transaction(engine, EVERYBODY, write=True) as connection:
        grant_credits(connection, account, Granting(amount=Decimal(5), effective_at_us=NOON))
    book_all(engine, *(booking(number, occurred_at_us=NOON + number) for number in range(1, 100)))
    change_all(engine, booking(1, priced(1, 1), occurred_at_us=NOON + 1))
    run_credit_jobs(engine)
    return account


def test_the_migration_goes_down_and_up_on_filled_books(engine: Engine) -> None:
    filled(engine)

    with transaction(engine, EVERYBODY, write=True) as connection:
        downgrade(connection, "0003")
        assert not [name for name in inspect(connection).get_table_names() if name.startswith("credit_")]
        assert inspect(connection).get_view_names() == []
        upgrade(connection)

    account = open_account(engine)
    book_all(engine, booking(1000))
    assert balance(engine, account) == -4_500_000_000


def test_balances_and_allocation_are_summed_from_the_index_alone(sqlite_engine: Engine) -> None:
    account = filled(sqlite_engine)

    def ask(connection: Connection) -> None:
        balance_of(connection, account)
        allocate_account(connection, account)

    plans = plans_of(sqlite_engine, ask, about="SUM(credit_transactions")

    assert plans
    assert all("COVERING INDEX ix_credit_transactions_account" in plan for plan in plans), plans


def test_lists_and_rows_find_movements_by_their_keys(sqlite_engine: Engine) -> None:
    account = filled(sqlite_engine)
    asked = TransactionFilter(account_id=account.account_id)

    def ask(connection: Connection) -> None:
        list_transactions(connection, EVERYBODY, ACME, asked, limit=10, before=(NOON + 50, bytes(16), 0))
        list_transactions(connection, EVERYBODY, ACME, TransactionFilter(), limit=10)

    of_account, of_all = plans_of(sqlite_engine, ask, about="FROM credit_transactions")

    assert "ix_credit_transactions_account (org_id=? AND account_id=? AND" in of_account
    assert "ix_credit_transactions_occurred (org_id=?)" in of_all
    assert "TEMP B-TREE" not in of_account + of_all


def test_a_booking_asks_once_whether_there_are_accounts(sqlite_engine: Engine) -> None:
    """An organization without accounts pays for one look-up a batch, and no statement writes."""
    said: list[str] = []

    @event.listens_for(sqlite_engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        said.append(statement)

    with transaction(sqlite_engine, EVERYBODY, write=True) as connection:
        bookings = [booking(number) for number in range(500)]
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)

    assert len([statement for statement in said if "credit_" in statement]) == 1


def plans_of(engine: Engine, ask: Any, *, about: str) -> list[str]:
    """Run statements and explain those that are about something."""
    statements: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if about.lower() in " ".join(statement.split()).lower() and statement.startswith("SELECT"):
            statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    with transaction(engine, EVERYBODY, write=True) as connection:
        mark = text("INSERT INTO credit_marks SELECT org_id, account_id, 20260310, x'01' FROM credit_accounts")
        connection.execute(mark)
        ask(connection)
    event.remove(engine, "before_cursor_execute", note)
    with transaction(engine, EVERYBODY) as connection:
        return [
            " ".join(str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
            for statement, parameters in statements
        ]

"""On SQLite no session without a scope gets at a table, whoever wrote its SQL and however it came there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.tables import metadata
from tests.ledger.budgets.making import book_all
from tests.ledger.store.bookings import ACME, EVERYBODY, booking

REFUSED = "nobody has said whose books are opened"

STATEMENTS = (
    "SELECT count(*) FROM usage_rows",
    "SELECT email FROM users",
    "SELECT slug FROM organizations WHERE org_id = 1",
    '/* a comment */ WITH mine AS (SELECT * FROM main."usage_rows") SELECT * FROM mine',
    "SELECT (SELECT max(cost_pico) FROM usage_rows)",
    "SELECT * FROM credit_entries",
    "EXPLAIN SELECT * FROM users",
    "INSERT INTO users (org_id, user_ref, first_seen_us) VALUES (1, 'eve', 1)",
    "UPDATE users SET email = 'eve@example.com'",
    "DELETE FROM users",
    "REPLACE INTO catalog_state (id, version) VALUES (1, 9)",
    "CREATE TABLE mine AS SELECT * FROM users",
    "CREATE TEMP VIEW seen AS SELECT * FROM users",
    "DROP TABLE users",
    "ALTER TABLE users RENAME TO moved",
)


@pytest.fixture
def books(sqlite_engine: Engine) -> Engine:
    with transaction(sqlite_engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
    book_all(sqlite_engine, booking(1, user="ada", user_email="ada@example.com"))
    return sqlite_engine


def driver_of(connection: Any) -> sqlite3.Connection:
    driver: sqlite3.Connection = connection.connection.dbapi_connection
    return driver


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_session_without_a_scope_refuses_to_run_what_touches_a_table(books: Engine, statement: str) -> None:
    with books.connect() as connection, pytest.raises(ProgrammingError, match=REFUSED):
        connection.execute(text(statement))
    with books.begin() as connection, pytest.raises(ProgrammingError, match=REFUSED):
        connection.exec_driver_sql(statement)

    with transaction(books, EVERYBODY) as connection:
        assert connection.scalar(text("SELECT email FROM users")) == "ada@example.com"


def test_no_table_is_left_out(books: Engine) -> None:
    for name in metadata.tables:
        with books.connect() as connection, pytest.raises(ProgrammingError, match=REFUSED):
            connection.execute(text(f"SELECT 1 FROM {name}"))


def test_the_drivers_own_ways_are_shut_too(books: Engine) -> None:
    read = "SELECT email FROM users"
    raw = books.raw_connection()
    driver: Any = raw.dbapi_connection
    ways: list[Callable[[], object]] = [
        lambda: driver.execute(read),
        lambda: driver.cursor().execute(read),
        lambda: driver.cursor().executemany("INSERT INTO catalog_state (id, version) VALUES (?, 1)", [(7,)]),
        lambda: driver.executemany("INSERT INTO catalog_state (id, version) VALUES (?, 1)", [(7,)]),
        lambda: driver.executescript("DELETE FROM users;"),
        lambda: driver.cursor().executescript("DELETE FROM users;"),
        lambda: driver.execute("ATTACH DATABASE 'other.db' AS other"),
    ]
    for run in ways:
        with pytest.raises(sqlite3.ProgrammingError, match=REFUSED):
            run()
    raw.close()


def test_a_connection_that_served_a_scope_is_shut_when_it_is_used_again(books: Engine) -> None:
    read = "SELECT email FROM users"
    with transaction(books, OrgScope(ACME)) as connection:
        assert connection.exec_driver_sql(read).scalar() == "ada@example.com"
        served = driver_of(connection)
        kept = served.cursor()
    with pytest.raises(KeyError), transaction(books, OrgScope(ACME)):
        raise KeyError("a block that raises")

    with books.connect() as connection:
        assert driver_of(connection) is served
        with pytest.raises(ProgrammingError, match=REFUSED):
            connection.exec_driver_sql(read)  # prepared before, and not run again
    with pytest.raises(sqlite3.ProgrammingError, match=REFUSED):
        kept.execute(read)


def test_what_touches_no_table_runs_and_other_faults_keep_their_words(books: Engine) -> None:
    with books.connect() as connection:
        assert connection.execute(text("SELECT 1 + 1")).scalar() == 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert "users" in inspect(connection).get_table_names()
        with pytest.raises(Exception, match="no such table: nowhere"):
            connection.execute(text("SELECT * FROM nowhere"))
        with pytest.raises(Exception, match="syntax error"):
            connection.execute(text("SELEC 1"))


def test_a_scope_and_the_owner_open_the_books(books: Engine) -> None:
    for opened in (
        transaction(books, AllOrganizations()),
        transaction(books, OrgScope(ACME)),
        owner_transaction(books),
    ):
        with opened as connection:
            assert connection.scalar(text("SELECT count(*) FROM usage_rows")) == 1

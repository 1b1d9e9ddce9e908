"""Opens the database that FAREBOX_DATABASE_URL names, SQLite or PostgreSQL, and runs transactions on it.

A URL comes in, connections inside a transaction go out. It reads no environment and knows no table. On PostgreSQL each
transaction takes on the role of its scope, and `isolation` says what that role sees.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from platformdirs import user_data_path
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError

from farebox_ledger.errors import DatabaseNotReady, InvalidInput
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.store.sqlite_guard import GuardedConnection, opened

URL_VARIABLE: Final = "FAREBOX_DATABASE_URL"
BUSY_TIMEOUT_S: Final = 10
"""How long a writer waits for SQLite's one write lock before it gives up."""

CONNECT_TIMEOUT_S: Final = 10
"""How long a PostgreSQL server may take to accept a connection, unless the URL has a `connect_timeout` of its own."""

OLDEST_SQLITE: Final = (3, 40, 0)
TENANT_ROLE: Final = "farebox_tenant"
WRITER_ROLE: Final = "farebox_writer"
"""The roles of PostgreSQL that transactions take on: of one organization, and of all."""

_EXAMPLES: Final = "expected sqlite:////path/to/farebox.db or postgresql://user:password@host/database"


def open_engine(url: str) -> Engine:
    """Make the engine for a database URL; nothing is connected yet.

    A plain `postgresql://` (or `postgres://`) URL goes through psycopg 3. The folder of an SQLite file is made.

    Raises:
        InvalidInput: the URL is not one of SQLite or PostgreSQL; the message names FAREBOX_DATABASE_URL.
        DatabaseNotReady: the driver is not installed, SQLite is too old, or the file's folder cannot be made.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed)
    return _open_postgresql(parsed)


@contextmanager
def transaction(engine: Engine, scope: Scope, *, write: bool = False) -> Iterator[Connection]:
    """Run a block in one transaction: committed at its end, rolled back when it raises.

    Reads see one snapshot throughout. A write takes SQLite's write lock at once (`BEGIN IMMEDIATE`), because a
    transaction that reads first and writes later could not wait for it. On PostgreSQL the transaction sees what its
    scope sees, by the server's own rules.

    Raises:
        TypeError: `scope` is no scope; nothing is run for nobody in particular.
        DatabaseNotReady: the roles of row-level security are missing; the message names the cure.
    """
    if not isinstance(scope, OrgScope | AllOrganizations):
        raise TypeError(f"a transaction needs the scope that it runs in, got {scope!r}")
    with owner_transaction(engine, write=write) as connection:
        take_scope(connection, scope)
        yield connection


def take_scope(connection: Connection, scope: Scope) -> None:
    """Let the rest of a transaction run in a scope; `transaction` begins with it.

    Raises:
        DatabaseNotReady: as `transaction`.
    """
    connection.execution_options(farebox_scope=scope)
    if not is_sqlite(connection):
        _take_role(connection, scope)


@contextmanager
def owner_transaction(engine: Engine, *, write: bool = False) -> Iterator[Connection]:
    """Run a block as the database's own user, who owns the tables: for `migrations`, which makes them, alone.

    Outside of this and of `transaction` no connection of the engine reaches an organization's rows: on PostgreSQL by
    the forced policies (see `isolation`), on SQLite by `sqlite_guard`.
    """
    with engine.connect() as connection:
        if is_sqlite(connection):
            connection.execution_options(farebox_begin="BEGIN IMMEDIATE" if write else "BEGIN")
        elif not write:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with _opened(connection), connection.begin():
            yield connection


@contextmanager
def _opened(connection: Connection) -> Iterator[None]:
    """Open a connection of SQLite for a block; on PostgreSQL roles decide."""
    driver: Any = connection.connection.dbapi_connection
    if not isinstance(driver, GuardedConnection):
        yield
        return
    with opened(driver):
        yield


@contextmanager
def as_writer(connection: Connection) -> Iterator[None]:
    """Let a block change rows that a tenant may only add to. The caller has checked that they are of its scope."""
    scope = connection.get_execution_options().get("farebox_scope")
    if is_sqlite(connection) or not isinstance(scope, OrgScope):
        yield
        return
    connection.exec_driver_sql(_TAKE_ROLE, (WRITER_ROLE, ""))
    yield  # a block that raises ends the transaction, and the role with it
    _take_role(connection, scope)


def release_role(connection: Connection) -> None:
    """Become the database's own user for the rest of the transaction, as migrations have to be."""
    if not is_sqlite(connection):
        connection.execute(text("SET LOCAL ROLE NONE"))


_TAKE_ROLE: Final = (
    "SELECT set_config('role', %s, true), set_config('farebox.org', %s, true), set_config('synchronous_commit', "
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, "
    "true)"
)
"""In one message: the role, and that a commit is on the server's disk when it returns, since the collector then forgets
what it has booked. Weaker than that is `off` alone, as of `ALTER DATABASE`."""
_NO_ROLE: Final = frozenset({"22023", "42501"})  # the role does not exist; this user may not take it on


def _take_role(connection: Connection, scope: Scope) -> None:
    """Take on the role of a scope until the transaction ends, in one message to the server."""
    taken = (TENANT_ROLE, str(scope.org_id)) if isinstance(scope, OrgScope) else (WRITER_ROLE, "")
    try:
        connection.exec_driver_sql(_TAKE_ROLE, taken)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _NO_ROLE:
            raise
        raise DatabaseNotReady(
            f"this user of the database cannot work as {taken[0]} ({first_line(error)}): run `farebox migrate` as the "
            f"owner of the tables, and GRANT {TENANT_ROLE}, {WRITER_ROLE} to this user"
        ) from error


def is_sqlite(database: Engine | Connection) -> bool:
    """Tell the two databases apart at the few places where they need different words."""
    return database.dialect.name == "sqlite"


def default_database_url() -> str:
    """Name the SQLite file in the platform's data folder, used when FAREBOX_DATABASE_URL is not set."""
    return URL.create("sqlite", database=str(user_data_path("farebox") / "farebox.db")).render_as_string()


def redacted(url: str | URL) -> str:
    """Write a database URL for messages and logs, its password and query values hidden."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "(an unreadable URL)"
    return parsed.set(query=dict.fromkeys(parsed.query, "hidden")).render_as_string(hide_password=True)


def first_line(error: DBAPIError) -> str:
    """Say in one line what the database complains about, without statement and values."""
    return str(error.orig).strip().partition("\n")[0]


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the database's refusal of a value into the ledger's own words; its faults pass unchanged.

    Raises:
        InvalidInput: a CHECK refused the value, or it does not fit into 64 bits. The constraint's name says which.
    """
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise InvalidInput("bookings", f"the database refuses a row: {first_line(error)}") from error
    except OverflowError as error:
        raise InvalidInput("bookings", "a number does not fit into 64 bits") from error


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidInput(URL_VARIABLE, f"this is no database URL; {_EXAMPLES}") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise InvalidInput(URL_VARIABLE, f"{parsed.drivername!r} is not supported; {_EXAMPLES}")
    return parsed


def _open_sqlite(url: URL) -> Engine:
    file = url.database
    if not file or file == ":memory:" or file.startswith("file:"):
        raise InvalidInput(URL_VARIABLE, f"an SQLite URL has to name a file, {redacted(url)} does not; {_EXAMPLES}")
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise DatabaseNotReady(f"SQLite {sqlite3.sqlite_version} is too old: farebox needs 3.40 or later")
    try:
        Path(file).expanduser().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseNotReady(f"the folder of {file} cannot be made ({error}): set {URL_VARIABLE}") from error
    engine = create_engine(
        url.set(database=str(Path(file).expanduser())),
        connect_args={"timeout": BUSY_TIMEOUT_S, "factory": GuardedConnection},
        hide_parameters=True,  # what a statement carries has no business in a log
    )
    event.listen(engine, "connect", _prepare_sqlite_connection)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite_connection(connection: GuardedConnection, _: Any) -> None:
    connection.isolation_level = None  # the driver's own implicit BEGIN is switched off: `_begin_sqlite` says which
    # For new files: of a usage row, some 1,100 bytes, a page of 4,096 would keep a part and lay the rest on another.
    connection.execute("PRAGMA page_size = 8192")
    _switch_to_wal(connection)
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.is_open = False


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Let readers and the writer not wait for each other. The file remembers it.

    The busy timeout does not hold for this switch: several processes that start on a new file would fail at once.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("farebox_begin", "BEGIN"))


def _open_postgresql(url: URL) -> Engine:
    try:
        patience = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_S}
        return create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=patience)
    except ImportError as error:
        raise DatabaseNotReady(
            f'{redacted(url)} needs the PostgreSQL driver: pip install "farebox[postgres]"'
        ) from error

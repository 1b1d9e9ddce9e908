"""Keeps the connections to an SQLite file shut until somebody says whose books are opened on them.

PostgreSQL has roles for that, see `isolation`; SQLite has none. So a connection of the engine refuses every statement
that touches a table, raw SQL too, except for the length of `engine.transaction`, which needs a scope, or of
`engine.owner_transaction`, which migrations use. What a statement touches SQLite itself says, while it prepares it, so
that no view, subquery or spelling hides a table. An open connection pays one look at a flag for each statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_EXECUTE: Final = sqlite3.Cursor.execute
_EXECUTE_MANY: Final = sqlite3.Cursor.executemany
_EXECUTE_SCRIPT: Final = sqlite3.Cursor.executescript

_HARMLESS: Final = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
        sqlite3.SQLITE_PRAGMA,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)
"""What a statement without any table does; names of tables are no secret, so that the schema may be read as well."""

_SCHEMA: Final = ("sqlite_", "pragma_")


class GuardedConnection(sqlite3.Connection):
    """A connection that is shut unless `opened`; the `factory` of the driver's `connect`."""

    is_open = True
    """A new connection is open until whoever prepares it sets this to False."""

    def cursor(self, factory: Any = None) -> Any:
        """Make a cursor that asks whether the connection is open."""
        return super().cursor(factory or GuardedCursor)

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Run a statement on a cursor of its own."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """Run a statement for each of the parameters, on a cursor of its own."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, sql: str, /) -> Any:
        """Run statements one after the other, on a cursor of their own."""
        return self.cursor().executescript(sql)


class GuardedCursor(sqlite3.Cursor):
    """A cursor that runs what touches a table only while its connection is open."""

    connection: GuardedConnection

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Run a statement.

        Raises:
            ProgrammingError: the connection is shut, and the statement touches a table.
        """
        if self.connection.is_open:
            return _EXECUTE(self, sql, parameters)
        with _refusing(self.connection):
            return _EXECUTE(self, sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """Run a statement for each of the parameters; raises as `execute`."""
        if self.connection.is_open:
            return _EXECUTE_MANY(self, sql, parameters)
        with _refusing(self.connection):
            return _EXECUTE_MANY(self, sql, parameters)

    def executescript(self, sql: str, /) -> Any:
        """Run statements one after the other; raises as `execute`."""
        if self.connection.is_open:
            return _EXECUTE_SCRIPT(self, sql)
        with _refusing(self.connection):
            return _EXECUTE_SCRIPT(self, sql)


@contextmanager
def opened(connection: GuardedConnection) -> Iterator[None]:
    """Let statements of a block touch tables; afterwards the connection is shut, also when the block raised."""
    connection.is_open = True
    try:
        yield
    finally:
        connection.is_open = False


@contextmanager
def _refusing(connection: sqlite3.Connection) -> Iterator[None]:
    """Let SQLite refuse what touches a table while it prepares a statement; setting this voids what it had prepared."""
    connection.set_authorizer(_authorized)
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_AUTH:
            raise
        raise sqlite3.ProgrammingError(
            f"nobody has said whose books are opened on this connection ({error}): use `transaction(engine, scope)`"
        ) from error
    finally:
        connection.set_authorizer(None)


def _authorized(action: int, name: str | None, _detail: str | None, _file: str | None, _trigger: str | None) -> int:
    is_schema = action == sqlite3.SQLITE_READ and (name or "").startswith(_SCHEMA)
    return sqlite3.SQLITE_OK if action in _HARMLESS or is_schema else sqlite3.SQLITE_DENY

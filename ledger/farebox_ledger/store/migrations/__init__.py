"""Brings a database to the schema of this version of farebox, and says how far it is from it.

An engine comes in; tables, indexes and triggers come out. Only `migrate` changes a database that holds something:
collectors and the API make an empty one and otherwise refuse with the command that cures it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError

from farebox_ledger.errors import DatabaseNotReady
from farebox_ledger.store.engine import URL_VARIABLE, first_line, is_sqlite, owner_transaction, redacted, release_role
from farebox_ledger.store.isolation import isolate
from farebox_ledger.store.tables import metadata

if TYPE_CHECKING:  # Alembic takes 8 MB, and a database that is current needs none of it
    from alembic.config import Config

SchemaState: TypeAlias = Literal["empty", "current", "older", "newer"]

VERSION_TABLE: Final = "farebox_schema"
"""Named after us, because a shared PostgreSQL database may hold another application's `alembic_version`."""

_FOLDER: Final = Path(__file__).parent
_LIMIT_S: Final = 60.0
_LOCK: Final = 0x6661_7265_626F_7801  # "farebox" and 1: the advisory lock of everyone who changes the schema


def migrate(engine: Engine) -> None:
    """Bring the database to the newest schema, in one transaction; a second run, or one beside it, changes nothing.

    Raises:
        DatabaseNotReady: the database cannot be reached, is newer than this farebox, or holds foreign tables; or the
            roles of row-level security cannot be made, and the message holds the SQL for who can.
    """
    with _locked(engine) as connection:
        state = _state(connection)
        _refuse_newer(engine, state)
        _refuse_foreign_tables(connection, state)
        upgrade(connection)


def ensure_schema(engine: Engine) -> None:
    """Make the tables of an empty database; one that is current is left alone.

    Raises:
        DatabaseNotReady: the schema is older (the message names `farebox migrate`) or newer than this farebox, or the
            database cannot be reached.
    """
    state = schema_state(engine)
    if state == "empty":
        _migrate_apart(engine)
    elif state == "older":
        raise DatabaseNotReady(
            f"the schema of {redacted(engine.url)} is older than this farebox: run `farebox migrate`"
        )
    _refuse_newer(engine, state)


def schema_state(engine: Engine) -> SchemaState:
    """Compare the database with this version of farebox.

    Raises:
        DatabaseNotReady: the database cannot be reached.
    """
    with _reached(engine), owner_transaction(engine) as connection:
        return _state(connection)


def _migrate_apart(engine: Engine) -> None:
    """Migrate in a process that ends: what Alembic needs would stay in the memory of this one as long as it lives.

    Where no such process comes to its end, this one does it, and tells what is wrong.
    """
    url = engine.url.render_as_string(hide_password=False)
    command = (sys.executable, "-P", "-m", __name__)  # -P: no module of the working folder stands for one of ours
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        subprocess.run(command, env={**os.environ, URL_VARIABLE: url}, timeout=_LIMIT_S, check=True, **quiet)
    except (OSError, subprocess.SubprocessError):
        migrate(engine)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision, inside the connection's transaction; row-level security follows them."""
    from alembic import command

    release_role(connection)
    command.upgrade(_config(connection), revision)
    if not is_sqlite(connection):
        isolate(connection)


def downgrade(connection: Connection, revision: str) -> None:
    """Undo migrations down to a revision (`base`: all), inside the connection's transaction. Data is lost."""
    from alembic import command

    release_role(connection)
    command.downgrade(_config(connection), revision)


def _state(connection: Connection) -> SchemaState:
    current = _current_revision(connection)
    revisions = known_revisions()
    if current is None:
        return "empty"
    if current == revisions[-1]:
        return "current"
    return "older" if current in revisions else "newer"


def _current_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return revision


def known_revisions() -> list[str]:
    """List the revisions of this version of farebox, oldest first: the numbers in front of their files' names."""
    return sorted(file.name.partition("_")[0] for file in (_FOLDER / "versions").glob("[0-9]*_*.py"))


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    with _reached(engine), owner_transaction(engine, write=True) as connection:
        if not is_sqlite(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield connection


@contextmanager
def _reached(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        # SQLite says of a file that holds no database a DatabaseError of no kind; other kinds are faults of our own.
        if type(error) not in (DatabaseError, OperationalError):
            raise
        raise DatabaseNotReady(
            f"{redacted(engine.url)} cannot be used ({first_line(error)}): check FAREBOX_DATABASE_URL"
        ) from error


def _refuse_newer(engine: Engine, state: SchemaState) -> None:
    if state == "newer":
        raise DatabaseNotReady(f"the schema of {redacted(engine.url)} is newer than this farebox: upgrade farebox")


def _refuse_foreign_tables(connection: Connection, state: SchemaState) -> None:
    """Stop before a half-made schema when the database belongs to another application."""
    if state != "empty":
        return
    foreign = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
    if foreign:
        raise DatabaseNotReady(
            f"the database holds a table {foreign[0]!r} that farebox did not make: use one of its own"
        )


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config

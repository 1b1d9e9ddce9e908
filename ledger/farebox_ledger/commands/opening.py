"""How the commands of the ledger begin and end: the database of FAREBOX_DATABASE_URL, one line for each fault.

The environment is read here and nowhere below. Faults that the user can cure become exit code 1 and one line on
standard error; wrong use is exit code 2, by argparse; all else is ours and shows its traceback.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from farebox_ledger.errors import DatabaseNotReady, LedgerError
from farebox_ledger.store.audit import Actor, acting
from farebox_ledger.store.engine import URL_VARIABLE, default_database_url, first_line, open_engine, redacted
from farebox_ledger.store.migrations import ensure_schema


@contextmanager
def opened_database(*, with_schema: bool = True) -> Iterator[Engine]:
    """Open the database that the environment names, else the platform's; an empty one gets its tables.

    Raises:
        LedgerError: the URL is wrong, or the database cannot be used as it is.
    """
    engine = open_engine(os.environ.get(URL_VARIABLE) or default_database_url())
    try:
        if with_schema:
            ensure_schema(engine)
        yield engine
    except OperationalError as error:
        raise DatabaseNotReady(f"{redacted(engine.url)} cannot be used now: {first_line(error)}") from error
    finally:
        engine.dispose()


def guarded(command: str, run: Callable[[], None]) -> int:
    """Run a command's work and answer its exit code; what it changes is noted as done by this user of the machine."""
    try:
        with acting(Actor("command", _user(), via=command)):
            run()
    except LedgerError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def print_json(value: object) -> None:
    """Print one JSON document, indented for people."""
    print(msgspec.json.format(msgspec.json.encode(value)).decode())

from __future__ import annotations

import logging

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from farebox_api.logs import JsonLines, TextLines
from farebox_ledger.fault_text import fault_text
from farebox_ledger.store.engine import owner_transaction

CANARY = "canary" + "-7f3a"


def refused(engine: Engine) -> IntegrityError:
    """Let the database refuse a row that holds the canary; PostgreSQL quotes it below its complaint."""
    with owner_transaction(engine, write=True) as connection:
        connection.execute(text("CREATE TEMPORARY TABLE marked (name TEXT PRIMARY KEY)"))
        insert = text("INSERT INTO marked VALUES (:name)")
        connection.execute(insert, {"name": CANARY})
        with pytest.raises(IntegrityError) as caught:
            connection.execute(insert, {"name": CANARY})
    return caught.value


def logged(error: Exception) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__)
    return logging.LogRecord("farebox", logging.ERROR, __file__, 1, "it failed", (), info)


def test_the_database_quotes_the_value_and_no_log_line_does(postgres_engine: Engine) -> None:
    error = refused(postgres_engine)
    assert CANARY in str(error)

    for line in (TextLines().format(logged(error)), JsonLines().format(logged(error)), fault_text(error)):
        assert "duplicate key value violates unique constraint" in line
        assert CANARY not in line


def fails() -> None:
    try:
        raise KeyError("missing")
    except KeyError as cause:
        raise ValueError("cannot write\nbelow") from cause


def test_a_fault_is_told_behind_its_cause() -> None:
    with pytest.raises(ValueError, match="cannot write") as caught:
        fails()

    said = fault_text(caught.value)

    assert said.index("KeyError") < said.index("ValueError: cannot write")
    assert said.endswith("ValueError: cannot write")

import json
from pathlib import Path

import pytest
from sqlalchemy import func, select

from farebox_ledger.commands.database import migrate
from farebox_ledger.store.engine import open_engine, transaction
from farebox_ledger.store.migrations import schema_state
from farebox_ledger.store.schema import prices
from farebox_ledger.store.scope import AllOrganizations


def test_migrate_makes_the_tables_and_fills_the_catalog_once(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", empty_database_url)

    assert migrate(["--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert migrate(["--json"]) == 0
    second = json.loads(capsys.readouterr().out)

    assert (first["before"], second["before"], second["prices_added"]) == ("empty", "current", 0)
    engine = open_engine(empty_database_url)
    with transaction(engine, AllOrganizations()) as connection:
        assert connection.scalar(select(func.count()).select_from(prices)) == first["prices_added"] > 1000
    assert schema_state(engine) == "current"
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:secret@h/db", "FAREBOX_DATABASE_URL: 'mysql' is not supported"),
        ("postgresql://u:secret@127.0.0.1:1/db", "check FAREBOX_DATABASE_URL"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_that_names_the_cure(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", url)

    assert migrate([]) == 1

    printed = capsys.readouterr().err
    assert printed.startswith("farebox migrate: ")
    assert message in printed
    assert "secret" not in printed
    assert len(printed.splitlines()) == 1


def test_a_file_that_holds_no_database_is_one_line_that_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\n")
    monkeypatch.setenv("FAREBOX_DATABASE_URL", f"sqlite:///{tmp_path}/notes.txt")

    assert migrate([]) == 1

    assert capsys.readouterr().err == (
        f"farebox migrate: sqlite:///{tmp_path}/notes.txt cannot be used (file is not a database): "
        "check FAREBOX_DATABASE_URL\n"
    )

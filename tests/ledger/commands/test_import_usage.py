"""`farebox import`: files of calls become rows, once, and what cannot be read is named by line and field."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from farebox_ledger.commands.import_usage import import_usage
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.querying import UsageFilter, UsageRow, list_usage
from farebox_ledger.store.rollups import check_rollups
from tests.ledger.store.bookings import ACME, EVERYBODY, ZENITH

CALL: dict[str, Any] = {
    "occurred_at": "2026-03-10T12:00:00Z",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 200,
}


@pytest.fixture(autouse=True)
def books(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", database_url)
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        create_organization(connection, "zenith")


def rows(engine: Engine) -> list[UsageRow]:
    with transaction(engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []
        return list_usage(connection, EVERYBODY, UsageFilter(), limit=10_000).rows


def json_file(folder: Path, *calls: dict[str, Any]) -> str:
    file = folder / "calls.ndjson"
    file.write_text("".join(json.dumps(call) + "\n" for call in calls))
    return str(file)


def csv_file(folder: Path, *calls: dict[str, Any]) -> str:
    file = folder / "calls.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, fieldnames=list(dict.fromkeys(name for call in calls for name in call)))
        writer.writeheader()
        writer.writerows(calls)
    return str(file)


def test_a_file_that_is_read_twice_books_once(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [{**CALL, "external_id": f"call-{number}"} for number in range(1203)]
    file = json_file(tmp_path, *calls)

    assert import_usage([file, "--org", "acme", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert import_usage([file, "--org", "acme", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)

    assert first == {"booked": 1203, "unpriced": 0, "standing": 0, "refused": 0, "dry_run": False}
    assert second == {"booked": 0, "unpriced": 0, "standing": 1203, "refused": 0, "dry_run": False}
    assert [row.charge.cost_pico for row in rows(engine)] == [4_500_000_000] * 1203


def test_csv_and_ndjson_book_the_same_rows(engine: Engine, tmp_path: Path) -> None:
    members: dict[str, Any] = {
        **CALL,
        "external_id": "call-1",
        "organization": "acme",
        "user": "=ann",
        "stream": "true",
        "time_to_first_chunk_ms": 12,
        "started_at": "2026-03-10T13:59:58+02:00",
        "input_seconds": "1.50",
        "tags": ["a", "b"],
        "metadata": {"depth": 2},
        "cache_write_input_tokens": {"5m": 3},
        "service": None,
    }
    as_json = {**members, "stream": True}
    in_cells = {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in members.items()}

    assert import_usage([csv_file(tmp_path, {**in_cells, "user": "'=ann"})]) == 0
    assert import_usage([json_file(tmp_path, {**as_json, "organization": "zenith"})]) == 0

    zenith, acme = sorted(rows(engine), key=lambda row: row.event.org_id == ACME)
    assert (acme.event.org_id, zenith.event.org_id) == (ACME, ZENITH)
    assert (acme.event.user, acme.event.tags, acme.event.metadata) == ("=ann", ["a", "b"], {"depth": 2})
    assert (acme.event.stream, acme.event.usage.input_seconds) == (True, Decimal("1.50"))
    for row in (acme, zenith):
        row.event.org_id = row.event.received_at_us = 0
    assert (acme.event, acme.charge) == (zenith.event, zenith.charge)


def test_a_dry_run_says_what_would_be_booked_and_books_nothing(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = json_file(
        tmp_path,
        {**CALL, "external_id": "1"},
        {**CALL, "external_id": "2", "model": "nobody-knows-it"},
        {**CALL, "external_id": "3", "model": ""},
    )

    assert import_usage([file, "--org", "acme", "--dry-run"]) == 1

    printed = capsys.readouterr()
    assert printed.out == "2 would be booked (1 without a price), 0 stand already, 1 refused\n"
    assert rows(engine) == []


def test_a_refused_line_is_named_with_its_field_and_the_others_are_booked(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "calls.ndjson"
    lines = [
        json.dumps({**CALL, "external_id": "1"}),
        json.dumps({**CALL, "external_id": "2", "input_tokens": "many"}),
        "",
        json.dumps(CALL),
        "no json",
        json.dumps({**CALL, "external_id": "6", "occurred_at": "2026-03-10T12:00:00"}),
        json.dumps({**CALL, "external_id": "7", "organization": "nobody"}),
        json.dumps({**CALL, "external_id": "8"}),
    ]
    file.write_text("\n".join(lines))

    assert import_usage([str(file), "--org", "acme"]) == 1

    named = [line.removeprefix(f"{file}:") for line in capsys.readouterr().err.splitlines()]
    assert [line.split(":")[:2] for line in named[:-1]] == [
        ["2", " input_tokens"],
        ["4", " external_id"],
        ["5", " line"],
        ["6", " occurred_at"],
        ["7", " organization"],
    ]
    assert named[-1] == "farebox import: 5 lines were refused; correct them and import the file again"
    assert len(rows(engine)) == 2


def test_a_cell_that_cannot_be_read_is_named_with_its_line_and_column(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "calls.csv"
    file.write_text(
        "external_id,occurred_at,model,input_tokens,tags\r\n"
        '1,2026-03-10T12:00:00Z,gpt-4o,5,"[""a"",\r\n""b""]"\r\n'
        "2,2026-03-10T12:00:00Z,gpt-4o,five,\r\n"
        "3,2026-03-10T12:00:00Z,gpt-4o,5,no list\r\n"
        "4,2026-03-10T12:00:00Z,gpt-4o\r\n"
        "5,1773144000,gpt-4o,5,\r\n"
    )

    assert import_usage([str(file), "--org", "acme"]) == 1

    named = [line.removeprefix(f"{file}:") for line in capsys.readouterr().err.splitlines()]
    assert [line.split(":")[:2] for line in named[:-1]] == [
        ["4", " input_tokens"], ["5", " tags"], ["6", " line"], ["7", " occurred_at"],
    ]  # fmt: skip
    assert [row.event.tags for row in rows(engine)] == [["a", "b"]]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("occurred_at,modle", "'modle' is nothing that can be told of a call; did you mean model?"),
        ("model,model", "names model twice"),
        ("", "the first line has to name the columns"),
    ],
)
def test_a_wrong_header_ends_the_import_with_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], header: str, said: str
) -> None:
    file = tmp_path / "calls.csv"
    file.write_text(header)

    assert import_usage([str(file), "--org", "acme"]) == 1

    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_or_of_no_kind_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_usage([str(tmp_path / "missing.csv")]) == 1
    assert "missing.csv cannot be read" in capsys.readouterr().err

    with pytest.raises(SystemExit) as wrong_use:
        import_usage([str(tmp_path / "calls.xlsx")])
    assert wrong_use.value.code == 2
    assert "--format" in capsys.readouterr().err

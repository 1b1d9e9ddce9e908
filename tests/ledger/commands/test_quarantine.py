from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine

from farebox_ledger.commands.quarantine import quarantine
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.quarantine import bring_in, requested_replay
from farebox_ledger.store.scope import AllOrganizations
from tests.ledger.store.quarantined import MIDNIGHT_US, span

EVERYBODY = AllOrganizations()


@pytest.fixture(autouse=True)
def books(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Three spans: two of acme, the newer without anything to replay, and one of zenith."""
    monkeypatch.setenv("FAREBOX_DATABASE_URL", database_url)
    with transaction(engine, EVERYBODY, write=True) as connection:
        for slug in ("acme", "zenith"):
            create_organization(connection, slug)
        bring_in(connection, EVERYBODY, [span(1), span(2, reason="malformed_span", span=None), span(3, "zenith")])
    return engine


def name(number: int) -> str:
    return f"{number:032x}"


def listed(capsys: pytest.CaptureFixture[str], *filters: str) -> list[Any]:
    capsys.readouterr()
    assert quarantine(["list", "--json", *filters]) == 0
    return [int(one["id"], 16) for one in json.loads(capsys.readouterr().out)]


def test_spans_are_listed_by_organization_reason_state_trace_and_arrival(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == [3, 2, 1]
    assert listed(capsys, "--limit", "2") == [3, 2]
    assert listed(capsys, "--org", "acme") == [2, 1]
    assert listed(capsys, "--reason", "malformed_span") == [2]
    assert listed(capsys, "--state", "requested") == []
    assert listed(capsys, "--trace-id", "ab" * 16) == []
    assert listed(capsys, "--start", "2026-10-01T00:00:02Z", "--end", "2026-10-01T00:00:03Z") == [2]


def test_people_read_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert quarantine(["list", "--org", "zenith"]) == 0

    title, line = capsys.readouterr().out.splitlines()
    assert title.split() == ["ID", "ORGANIZATION", "RECEIVED", "REASON", "STATE", "DETAIL"]
    assert line.split(maxsplit=5) == [
        name(3), "zenith", "2026-10-01T00:00:03Z", "clock_skew", "held", "the span ends 90000 seconds in the future"
    ]  # fmt: skip


def test_a_span_is_shown_with_the_members_that_it_has_in_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    assert quarantine(["show", name(1), "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown.pop("changed_at").endswith("Z")
    assert shown == {
        "id": "00000000000000000000000000000001",
        "organization": "acme",
        "key": "key_1",
        "received_at": "2026-10-01T00:00:01Z",
        "reason": "clock_skew",
        "detail": "the span ends 90000 seconds in the future",
        "digest": "00000000000000000000000000000000",
        "size_bytes": 310,
        "trace_id": "00000000000000000000000000000007",
        "span_id": "0000000000000007",
        "ended_at": "2026-10-02T01:00:00Z",
        "attributes": {"gen_ai.request.model": "gpt-4o"},
        "is_replayable": True,
        "state": "held",
        "stated_end": None,
        "outcome": None,
        "usage_id": None,
    }
    assert quarantine(["show", name(1)]) == 0
    assert 'attributes     {"gen_ai.request.model": "gpt-4o"}' in capsys.readouterr().out.splitlines()


def test_a_replay_is_asked_for_with_the_time_that_is_stated(books: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert quarantine(["replay", name(1), "--occurred-at", "2026-09-30T12:00:00Z"]) == 0

    assert capsys.readouterr().out == f"{name(1)}: requested\n"
    with transaction(books, EVERYBODY, write=True) as connection:
        asked = requested_replay(connection)
    assert asked is not None
    assert (asked.quarantine_id, asked.stated_end_us) == (span(1).quarantine_id, MIDNIGHT_US - 43_200_000_000)


def test_what_cannot_be_replayed_is_named_and_the_others_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert quarantine(["replay", name(2), name(1), name(9), "--json"]) == 1

    said = capsys.readouterr()
    assert [(one["id"], one["state"]) for one in json.loads(said.out)] == [(name(1), "requested")]
    assert f"{name(2)}: nothing of this span could be read" in said.err
    assert f"{name(9)}: quarantined span '{name(9)}' does not exist" in said.err
    assert len(said.err.splitlines()) == 1


def test_spans_are_deleted_for_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert quarantine(["delete", name(1), name(3)]) == 0
    assert capsys.readouterr().out == f"deleted {name(1)}\ndeleted {name(3)}\n"
    assert quarantine(["delete", name(1)]) == 1
    assert listed(capsys) == [2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["show", "abc"], "'abc': expected 32 hex digits"),
        (["list", "--start", "2026-10-01"], "with an offset"),
        (["list", "--limit", "0"], "from 1 to 10000"),
        (["delete"], "ID"),
    ],
)
def test_wrong_use_is_named_with_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        quarantine(arguments)

    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_an_organization_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert quarantine(["list", "--org", "nobody"]) == 1
    assert capsys.readouterr().err.startswith("farebox quarantine: organization 'nobody'")

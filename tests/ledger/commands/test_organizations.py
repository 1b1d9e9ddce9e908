import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from farebox_ledger.commands.organizations import keys, orgs
from farebox_ledger.store.engine import open_engine, transaction
from farebox_ledger.store.key_uses import KeyUses
from farebox_ledger.store.keys import all_keys, hash_key, key_by_hash
from farebox_ledger.store.scope import AllOrganizations


@pytest.fixture(autouse=True)
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", database_url)
    return database_url


def answer(capsys: pytest.CaptureFixture[str]) -> object:
    return json.loads(capsys.readouterr().out)


def test_an_organization_is_made_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert orgs(["create", "acme", "--name", "Acme Inc."]) == 0
    assert orgs(["create", "zenith", "--json"]) == 0
    capsys.readouterr()

    assert orgs(["list", "--json"]) == 0
    found = answer(capsys)
    assert isinstance(found, list)
    assert [(one["slug"], one["name"]) for one in found] == [("acme", "Acme Inc."), ("zenith", None)]
    assert orgs(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("acme    20")


def test_a_taken_or_impossible_slug_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert orgs(["create", "acme"]) == 0
    assert orgs(["create", "acme"]) == 1
    assert orgs(["create", "A b"]) == 1

    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "farebox orgs: organization 'acme' exists already"
    assert errors[1].startswith("farebox orgs: slug: 'A b'")


def test_a_key_is_printed_once_and_opens_its_organization(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    orgs(["create", "acme"])
    capsys.readouterr()

    assert keys(["create", "--org", "acme", "--scope", "usage:read", "--scope", "ingest", "--json"]) == 0
    made = answer(capsys)
    assert isinstance(made, dict)
    assert list(made) == ["id", "key", "prefix", "org", "scopes"]
    assert (made["org"], made["scopes"]) == ("acme", ["ingest", "usage:read"])
    assert stored(open_engine(database), made["key"]) == made["id"]
    keys(["list", "--json"])
    assert made["key"] not in capsys.readouterr().out


def test_a_system_key_goes_alone_to_standard_output(capsys: pytest.CaptureFixture[str], database: str) -> None:
    assert keys(["create", "--system", "--scope", "admin", "--name", "ops", "--expires-at", "2100-01-01T00:00Z"]) == 0

    printed = capsys.readouterr()
    assert stored(open_engine(database), printed.out.strip()) is not None
    assert "only time" in printed.err
    keys(["list"])
    assert "(system)" in capsys.readouterr().out


def test_a_key_is_revoked_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    keys(["create", "--system", "--scope", "admin", "--json"])
    made = answer(capsys)
    assert isinstance(made, dict)

    assert keys(["revoke", made["id"], "--json"]) == 0
    revoked = answer(capsys)
    assert isinstance(revoked, dict)
    assert revoked["revoked_at"] is not None
    assert keys(["revoke", "key_0"]) == 1
    assert capsys.readouterr().err == "farebox keys: key 'key_0' does not exist; `farebox keys list` shows which do\n"


def test_the_keys_of_one_organization_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for slug in ("acme", "zenith"):
        orgs(["create", slug])
        keys(["create", "--org", slug, "--scope", "ingest"])
    capsys.readouterr()

    assert keys(["list", "--org", "acme", "--json"]) == 0
    found = answer(capsys)
    assert isinstance(found, list)
    assert [one["org"] for one in found] == ["acme"]


def test_a_list_of_keys_says_when_each_was_last_used(capsys: pytest.CaptureFixture[str], database: str) -> None:
    for scope in ("ingest", "admin"):
        keys(["create", "--system", "--scope", scope])
    capsys.readouterr()
    engine = open_engine(database)
    with transaction(engine, AllOrganizations()) as connection:
        used = all_keys(connection, AllOrganizations())[1]
    KeyUses(engine, now_us=lambda: 1_772_000_000_000_000).note([used.id])
    engine.dispose()

    keys(["list", "--json"])
    found = answer(capsys)
    assert isinstance(found, list)
    assert [one["last_used_at"] for one in found] == [None, "2026-02-25T06:13:20Z"]
    keys(["list"])
    shown = capsys.readouterr().out.splitlines()
    assert ("never" in shown[1], "2026-02-25T06:13:20Z" in shown[2]) == (True, True)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["create", "--scope", "ingest"],
        ["create", "--org", "acme", "--system", "--scope", "ingest"],
        ["create", "--system"],
        ["create", "--system", "--scope", "root"],
        ["create", "--system", "--scope", "admin", "--expires-at", "2100-01-01"],
        ["create", "--system", "--scope", "admin", "--expires-at", "soon"],
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        keys(arguments)

    assert ended.value.code == 2


def test_a_time_that_cannot_be_read_is_answered_with_one_that_can(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        keys(["create", "--system", "--scope", "admin", "--expires-at", "soon"])

    assert "'soon': expected RFC 3339 with an offset, such as 2026-11-01T00:00:00Z" in capsys.readouterr().err


def test_a_key_for_an_organization_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert keys(["create", "--org", "nobody", "--scope", "ingest"]) == 1
    assert (
        capsys.readouterr().err
        == "farebox keys: organization 'nobody' does not exist; `farebox orgs list` shows which do\n"
    )


def test_help_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for command, arguments in ((orgs, ["--help"]), (keys, ["create", "--help"])):
        with pytest.raises(SystemExit) as ended:
            command(arguments)
        assert ended.value.code == 0
    assert "--expires-at" in capsys.readouterr().out


def test_a_first_command_makes_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", f"sqlite:///{tmp_path}/new/farebox.db")

    assert orgs(["list", "--json"]) == 0
    assert answer(capsys) == []


def stored(engine: Engine, text: str) -> str | None:
    try:
        with transaction(engine, AllOrganizations()) as connection:
            record = key_by_hash(connection, hash_key(text))
    finally:
        engine.dispose()
    return None if record is None else record.id

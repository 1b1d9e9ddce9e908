"""`farebox prices` as an administrator uses it: overrides, aliases, multipliers and syncs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farebox_ledger.commands.organizations import orgs
from farebox_ledger.commands.prices import prices
from farebox_ledger.store.engine import open_engine, transaction
from farebox_ledger.store.prices import insert_prices
from farebox_ledger.store.schema import price_revisions
from farebox_ledger.store.scope import AllOrganizations
from tests.fakes.catalog_server import catalog_server
from tests.ledger.test_price_sync import MODELS, entry

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that a revision without prices stands for, so that no command loads the shipped one."""
    monkeypatch.setenv("FAREBOX_DATABASE_URL", sqlite_url)
    monkeypatch.delenv("FAREBOX_PRICE_SYNC_URL", raising=False)
    engine = open_engine(sqlite_url)
    with transaction(engine, AllOrganizations(), write=True) as connection:
        for source in ("litellm", "genai-prices"):
            row = {"id": source, "source": source, "fetched_at_us": 0, "applied_at_us": 0, "status": "applied"}
            connection.execute(price_revisions.insert().values(row))
        insert_prices(connection, [], None)
    engine.dispose()


def answer(captured: Captured, *arguments: str, code: int = 0) -> Any:
    """Run `farebox prices … --json` and answer what it prints."""
    captured.readouterr()
    assert prices([*arguments, "--json"]) == code
    return json.loads(captured.readouterr().out)


def test_an_override_is_set_listed_resolved_and_deleted(capsys: Captured) -> None:
    assert orgs(["create", "acme"]) == 0
    arguments = ["override", "set", "openai", "gpt-4o", "--org", "acme", "--unit", "1m", "--price", "input_tokens=2.5"]

    made = answer(capsys, *arguments, "--price", "output_tokens=10", "--notes", "agreed")
    changed = answer(capsys, *arguments[:-1], "input_tokens=3")

    assert (made["org"], made["prices"], made["notes"]) == (
        "acme",
        {"input_tokens": "2.5", "output_tokens": "10"},
        "agreed",
    )
    assert (changed["id"], changed["prices"]) == (made["id"], {"input_tokens": "3", "output_tokens": "10"})
    assert answer(capsys, "override", "list", "--org", "acme") == [changed]
    assert answer(capsys, "resolve", "openai", "gpt-4o", "--org", "acme")["price"]["id"] == changed["price_id"]
    listed = answer(capsys, "list", "--search", "gpt-4o")
    assert {(price["status"], price["org"]) for price in listed} == {("override", "acme")}
    assert answer(capsys, "override", "delete", made["id"]) == {"id": made["id"]}
    assert answer(capsys, "override", "list") == []


def test_an_alias_and_a_multiplier_change_what_a_call_costs(capsys: Captured) -> None:
    answer(capsys, "override", "set", "openai", "gpt-4o", "--unit", "1m", "--price", "input_tokens=2")
    answer(capsys, "alias", "set", "chat", "gpt-4o", "--provider", "azure", "--target-provider", "openai")
    made = answer(capsys, "multiplier", "set", "1.5")
    changed = answer(capsys, "multiplier", "set", "1.25")

    found = answer(capsys, "resolve", "azure", "chat")

    assert (found["price"]["match_rule"], found["multiplier"]) == ("alias:cross_provider:exact", "1.25")
    assert (changed["id"], changed["factor"]) == (made["id"], "1.25")
    assert [one["target_model"] for one in answer(capsys, "alias", "list")] == ["gpt-4o"]


def test_what_cannot_be_used_is_named(capsys: Captured) -> None:
    assert prices(["override", "set", "openai", "m", "--unit", "1m", "--price", "input_token=1"]) == 1
    assert "prices.input_token: 'input_token' is nothing that has a price" in capsys.readouterr().err
    assert prices(["multiplier", "set", "0"]) == 1
    assert "factor: expected a number above 0" in capsys.readouterr().err
    assert prices(["override", "delete", "pov_none"]) == 1
    assert "price override 'pov_none' does not exist" in capsys.readouterr().err
    assert prices(["alias", "set", "a", "b", "--org", "nobody"]) == 1
    assert "organization 'nobody' does not exist" in capsys.readouterr().err
    for wrong in (["multiplier", "set", "much"], ["override", "set", "openai", "m", "--price", "2.5"], ["override"]):
        with pytest.raises(SystemExit) as stopped:
            prices(wrong)
        assert stopped.value.code == 2


def test_people_read_lines(capsys: Captured) -> None:
    prices(["override", "set", "openai", "gpt-4o", "--unit", "1m", "--price", "input_tokens=2.5"])
    prices(["list"])

    output = capsys.readouterr().out.splitlines()
    assert "provider openai  model gpt-4o  currency USD  unit 1m  prices input_tokens 2.5" in output[0]
    assert output[1].split() == ["openai", "gpt-4o", "input_tokens", "0.0000025", "override"]


def test_a_sync_from_a_file_is_previewed_applied_and_listed(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(MODELS))

    preview = answer(capsys, "sync", "--file", str(file), "--dry-run")
    applied = answer(capsys, "sync", "--file", str(file))
    again = answer(capsys, "sync", "--file", str(file))

    assert (preview["id"], preview["status"], preview["added"]) == (None, "applied", 20)
    assert (applied["status"], applied["added"], applied["url"]) == ("applied", 20, file.as_uri())
    assert again["status"] == "unchanged"
    assert [sync["status"] for sync in answer(capsys, "syncs")] == ["unchanged", "applied"]


def test_a_sync_that_moves_far_waits_for_the_command_that_it_names(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(MODELS))
    answer(capsys, "sync", "--file", str(file))
    file.write_text(json.dumps({**MODELS, "model-3": entry(2e-05)}))

    assert prices(["sync", "--file", str(file)]) == 1

    captured = capsys.readouterr()
    assert "~ openai/model-3  standard.input_tokens  0.000002 -> 0.00002" in captured.out
    assert "moves prices by more than 5 ×" in captured.err
    (command,) = [line.split("`")[1] for line in captured.err.splitlines() if "`" in line]
    assert prices(command.split()[2:]) == 0
    assert ": applied, 0 added, 1 changed, 0 removed, 0 refused" in capsys.readouterr().out


def test_the_address_of_the_environment_is_the_default(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    with catalog_server() as server:
        server.put(MODELS)
        monkeypatch.setenv("FAREBOX_PRICE_SYNC_URL", server.url)
        assert answer(capsys, "sync")["status"] == "applied"
        server.status, server.has_etag = 500, False
        assert answer(capsys, "sync", "--url", server.url, code=1)["status"] == "failed"

    assert prices(["sync", "--url", "http://example.com/prices.json"]) == 1
    assert "url: expected https" in capsys.readouterr().err
    assert prices(["sync", "--file", "no-such-file", "--dry-run"]) == 1
    assert "No such file" in capsys.readouterr().err

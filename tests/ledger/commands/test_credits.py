"""`farebox credits` and `farebox status`, on both databases."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from sqlalchemy import Engine

from farebox_ledger.commands.credits import credits as credits_command
from farebox_ledger.commands.organizations import orgs
from farebox_ledger.commands.status import status
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.writing import book
from tests.ledger.store.bookings import EVERYBODY, booking, unpriced


@pytest.fixture(autouse=True)
def acme(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", database_url)
    assert orgs(["create", "acme"]) == 0
    capsys.readouterr()


class Said:
    """Runs commands and reads what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def json(self, *arguments: str) -> Any:
        assert credits_command([*arguments, "--org", "acme", "--json"]) == 0
        return json.loads(self._capsys.readouterr().out)

    def text(self, *arguments: str) -> str:
        assert credits_command([*arguments, "--org", "acme"]) == 0
        return self._capsys.readouterr().out

    def refused(self, *arguments: str) -> str:
        assert credits_command([*arguments, "--org", "acme"]) == 1
        return self._capsys.readouterr().err.strip()

    def status(self, *arguments: str) -> Any:
        assert status([*arguments, "--json"]) == 0
        return json.loads(self._capsys.readouterr().out)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def use(engine: Engine, *bookings: Any) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def now_us() -> int:
    return time.time_ns() // 1000


def test_credits_are_given_bought_corrected_and_taken_back(said: Said) -> None:
    said.json("open", "--user", "ann", "--rate", "100", "--name", "Ann")
    granted = said.json("grant", "10", "--user", "ann", "--initial", "--priority", "1")
    bought = said.json("purchase", "5", "--user", "ann", "--external-id", "pay_1", "--paid", "4.99")
    again = said.json("purchase", "5", "--user", "ann", "--external-id", "pay_1", "--paid", "4.99")
    said.json("adjust", "-2.5", "--user", "ann", "--description", "typing error")
    said.json("adjust", "1", "--user", "ann", "--description", "sorry", "--refund")
    said.json("void", granted["id"], "--reason", "a mistake")

    balance = said.json("balance", "--user", "ann")

    assert (granted["kind"], granted["amount"], again["id"]) == ("initial_grant", "10", bought["id"])
    assert balance["by_type"] == {
        "adjustment": "-2.5",
        "initial_grant": "10",
        "purchase": "5",
        "refund": "1",
        "void": "-7.5",
    }
    assert (balance["balance"], balance["currency"], balance["account"]["rate"]) == ("6", "USD", "100")
    assert [one["type"] for one in said.json("transactions", "--user", "ann", "--type", "void")] == ["void"]
    assert [(one["user"], one["balance"]) for one in said.json("accounts")] == [("ann", "6")]


def test_what_is_printed_for_people(said: Said) -> None:
    assert said.text("open").startswith("opened acc_")
    assert said.text("grant", "2.5", "--description", "welcome").startswith("gave 2.5 credits of acc_")
    assert said.text("balance").splitlines() == ["organization: 2.5 credits (USD)", "  grant  2.5"]
    assert said.text("transactions").splitlines()[1].endswith("grant  2.5     welcome")
    assert said.text("accounts").splitlines()[1].split()[1:] == ["organization", "USD", "1", "2.5"]
    said.text("warn", "0.5")
    titles, account = (line.split("  ") for line in said.text("accounts").splitlines())
    assert (titles[-1], account[-1]) == ("WARNS AT", "0.5")


def test_a_balance_of_another_day(said: Said) -> None:
    said.json("open")
    said.json("grant", "7", "--effective-at", "2026-03-01T00:00:00Z")

    assert said.json("balance", "--as-of", "2026-02-28T00:00:00Z")["balance"] == "0"
    assert said.json("balance", "--as-of", "2026-03-01T03:00:00+03:00")["balance"] == "7"


def test_what_cannot_be_done_is_one_line_that_names_it(said: Said) -> None:
    assert said.refused("grant", "1", "--user", "ann") == (
        "farebox credits: credit account 'user ann, USD' does not exist; `farebox credits open` opens it"
    )
    said.json("open")
    assert said.refused("open").startswith("farebox credits: there is an account in USD of this owner: acc_")
    assert said.refused("grant", "0") == "farebox credits: amount: expected another number than 0"
    assert said.refused("void", "crg_1", "--reason", "x") == "farebox credits: credit grant 'crg_1' does not exist"


@pytest.mark.parametrize("arguments", [["grant"], ["grant", "x"], ["grant", "1", "--user", "a", "--project", "b"], []])
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        credits_command([*arguments, "--org", "acme"] if arguments else [])

    assert ended.value.code == 2


def test_l12_status_says_balance_month_projects_and_health(engine: Engine, said: Said) -> None:
    said.json("open")
    said.json("grant", "1")
    said.json("open", "--user", "ann")
    at = now_us()
    use(
        engine,
        booking(1, project="alpha", user="ann", occurred_at_us=at - 2_000_000),
        booking(2, project="alpha", user="bob", occurred_at_us=at - 1_000_000),
        booking(3, unpriced(), occurred_at_us=at - 3_000_000, user="bob"),
    )

    (whole,) = said.status("--org", "acme")
    (of_ann,) = said.status("--org", "acme", "--user", "ann")

    assert {one["account"]["user"]: one["balance"] for one in whole["balances"]} == {None: "0.9955", "ann": "-0.0045"}
    assert [(one["requests"], one["cost"], one["unpriced_rows"]) for one in whole["month"]["totals"]] == [
        (3, "0.009", 1)
    ]
    projects = {one["project"]: (one["requests"], one["cost"]) for one in whole["projects"]}
    assert projects == {"alpha": (2, "0.009"), None: (1, None)}
    last_used = {one["project"]: one["last_used"] for one in whole["projects"]}
    assert last_used["alpha"] == whole["health"]["data_through"]
    assert (whole["health"]["is_complete"], whole["health"]["jobs"]["failed"]) == (False, 0)
    assert [one["balance"] for one in of_ann["balances"]] == ["-0.0045"]
    assert [(one["project"], one["requests"]) for one in of_ann["projects"]] == [("alpha", 1)]
    assert of_ann["projects"][0]["last_used"] < last_used["alpha"]


def test_status_for_people(engine: Engine, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    said.json("open")
    use(engine, booking(1, project="alpha", occurred_at_us=now_us()))

    assert status([]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["acme", "Credits: -0.0045 (USD, overdrawn)"]
    assert lines[2].endswith("UTC): 1 calls, 0 errors, 0.0045 USD")
    assert lines[4].startswith("  alpha: 1 calls, 0.0045 USD, last used 20")


def test_the_status_of_an_organization_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["--org", "nobody"]) == 1
    assert (
        capsys.readouterr().err
        == "farebox status: organization 'nobody' does not exist; `farebox orgs list` shows which do\n"
    )
    with pytest.raises(SystemExit):
        status(["--user", "ann"])

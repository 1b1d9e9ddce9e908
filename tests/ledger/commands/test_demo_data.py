"""`farebox demo-data`, as its user runs it."""

from __future__ import annotations

import json
import time

import pytest
from sqlalchemy import Engine, text

from farebox_ledger.commands.demo_data import demo_data
from farebox_ledger.commands.organizations import orgs
from farebox_ledger.credits import balance_of
from farebox_ledger.demo_usage import demo_events
from farebox_ledger.store.budgets import list_budgets
from farebox_ledger.store.credit_accounts import list_accounts
from farebox_ledger.store.engine import open_engine, transaction
from farebox_ledger.store.rollups import check_rollups
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.usage import org_id_of

EVERYBODY = AllOrganizations()
SLUGS = ["northwind", "initech", "globex", "hooli", "acme"]
NOON_US = 1_795_262_400_000_000 // 86_400_000_000 * 86_400_000_000 + 43_200_000_000


@pytest.fixture
def url(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", sqlite_url)
    return sqlite_url


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert demo_data([*arguments, "--json"]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_days_of_usage_are_booked_once_with_their_sums(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(capsys, "--days", "4")
    second = run(capsys, "--days", "2")

    assert first["organizations"] == SLUGS
    assert first["days"] == 4
    assert isinstance(first["booked"], int)
    assert first["booked"] > 400
    assert isinstance(second["booked"], int)
    assert second["booked"] < 20  # what was later than the first run's clock
    with transaction(open_engine(url), EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []
        found = connection.execute(
            text("SELECT request_model, reason FROM usage_rows WHERE billing_status = 'unpriced' GROUP BY 1, 2")
        )
        reasons = {row.request_model: row.reason for row in found}
    assert reasons == {"hooli-nucleus-1": "unknown_model"}


def test_calls_are_charged_to_accounts_one_of_which_is_overdrawn_and_budgets_are_spent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    run(capsys, "--days", "6")
    run(capsys, "--days", "1")

    now_us = time.time_ns() // 1000
    with transaction(engine, EVERYBODY) as connection:
        accounts = [
            balance_of(connection, account, as_of_us=now_us)
            for slug in SLUGS
            for account in list_accounts(connection, EVERYBODY, org_id_of(slug), limit=10)
        ]
        names = [budget.name for budget in list_budgets(connection, EVERYBODY)]
        (charged,) = connection.execute(
            text("SELECT COUNT(*) FROM credit_transactions WHERE type = 'usage_deduction'")
        ).one()
    balances = {str(balance.account.name): balance.balance_pico for balance in accounts}
    assert sorted(balances) == ["Prepaid", "Reviews", "Trial"]
    assert balances["Trial"] < 0 < min(balances["Prepaid"], balances["Reviews"])
    assert sorted(names) == [
        "Assistant", "Claude", "Code review", "Everything", "Everything", "Support desk", "user-2",
    ]  # fmt: skip
    assert charged > 200


def test_a_database_of_others_is_left_alone(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert orgs(["create", "somebody"]) == 0

    assert demo_data(["--days", "1"]) == 1

    assert "the database holds other organizations (somebody)" in capsys.readouterr().err
    with transaction(open_engine(url), EVERYBODY) as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM usage_rows")).scalar_one() == 0


def test_the_same_day_and_seed_give_the_same_calls_and_none_of_the_future() -> None:
    day_us = NOON_US - 43_200_000_000

    year = list(demo_events(day_us, now_us=NOON_US, days=3))
    again = list(demo_events(day_us, now_us=NOON_US, days=1))
    others = list(demo_events(day_us, now_us=NOON_US, days=1, seed=2))

    assert [event.usage_id for event in again[0]] == [event.usage_id for event in year[-1]]
    assert {event.usage_id for event in others[0]}.isdisjoint(event.usage_id for event in again[0])
    assert all(event.occurred_at_us <= NOON_US for day in year for event in day)


@pytest.mark.parametrize("days", ["0", "366", "-1", "ten"])
def test_a_wrong_number_of_days_is_named(url: str, days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        demo_data(["--days", days])

    assert ended.value.code == 2
    assert f"expected a number from 1 to 365, got '{days}'" in capsys.readouterr().err

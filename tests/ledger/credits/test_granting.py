"""Grants, purchases and adjustments as functions of the ledger, and the hook for those who sell credits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from farebox_ledger.credits import (
    PURCHASE_HOOKS,
    Adjustment,
    Checkout,
    Granting,
    Purchase,
    PurchaseHook,
    RecordedByHand,
    adjust,
    grant_credits,
    purchase_hook,
    purchasing,
    record_purchase,
)
from farebox_ledger.errors import Conflict, InvalidInput
from farebox_ledger.money import PICO
from farebox_ledger.store.credit_accounts import Account
from farebox_ledger.store.engine import transaction
from tests.ledger.credits.accounts import assert_books_balance, balance, movements, open_account
from tests.ledger.store.bookings import ACME, EVERYBODY, ZENITH


def test_l09_what_is_recorded_is_answered(engine: Engine) -> None:
    account = open_account(engine, user="ann")

    with transaction(engine, EVERYBODY, write=True) as connection:
        granted, _ = grant_credits(connection, account, Granting(amount=Decimal("2.5")), actor="key_1")
        adjusted, _ = adjust(connection, account, Adjustment(amount=Decimal("-0.5"), description="typing error"))

    assert (granted.amount_pico, granted.kind, granted.actor) == (2_500_000_000_000, "grant", "key_1")
    assert (adjusted.amount_pico, adjusted.type, adjusted.user_ref) == (-500_000_000_000, "adjustment", "ann")
    assert balance(engine, account) == 2 * PICO


def test_each_movement_says_where_the_credits_come_from(engine: Engine) -> None:
    account = open_account(engine)

    with transaction(engine, EVERYBODY, write=True) as connection:
        grant_credits(connection, account, Granting(amount=Decimal(1), kind="initial_grant"))
        record_purchase(connection, account, Purchase(amount=Decimal(2), external_id="pay_1"))
        adjust(connection, account, Adjustment(amount=Decimal(3), description="goodwill", kind="refund"))

    assert [(one.type, one.counter_account) for one in movements(engine, account)] == [
        ("initial_grant", "grants"),
        ("purchase", "purchases"),
        ("refund", "adjustments"),
    ]
    assert_books_balance(engine)


def test_an_external_id_is_one_organizations_own(engine: Engine) -> None:
    accounts = [open_account(engine, org_id) for org_id in (ACME, ZENITH)]

    with transaction(engine, EVERYBODY, write=True) as connection:
        made = [record_purchase(connection, one, Purchase(amount=Decimal(1), external_id="x")) for one in accounts]

    assert [is_new for _, is_new in made] == [True, True]
    assert made[0][0].grant_id != made[1][0].grant_id


def test_a_grant_keeps_what_was_granted(engine: Engine) -> None:
    account = open_account(engine)
    with transaction(engine, EVERYBODY, write=True) as connection:
        grant_credits(connection, account, Granting(amount=Decimal(1)))

    for statement in ("UPDATE credit_grants SET amount_pico = 5", "DELETE FROM credit_grants"):
        with (
            pytest.raises(DBAPIError, match="keeps what was granted"),
            transaction(engine, EVERYBODY, write=True) as connection,
        ):
            connection.execute(text(statement))


class Shop:
    """Sells credits at one address and knows one payment."""

    def checkout(self, account: Account) -> Checkout:
        return Checkout(f"https://shop.example/{account.account_id}", "")

    def verify(self, account: Account, purchase: Purchase) -> None:
        if purchase.external_id != "pay_1":
            raise InvalidInput("external_id", f"there is no payment {purchase.external_id!r}")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Name what stands in the entry-point group of purchases, as if installed."""
    values: list[str] = []

    def found(*, group: str) -> EntryPoints:
        return EntryPoints(EntryPoint(f"shop{number}", value, group) for number, value in enumerate(values))

    monkeypatch.setattr(purchasing, "entry_points", found)
    purchase_hook.cache_clear()
    yield values
    purchase_hook.cache_clear()


def test_l14_without_a_shop_purchases_are_recorded_by_hand(engine: Engine, installed: list[str]) -> None:
    account = open_account(engine)

    hook = purchase_hook()

    assert isinstance(hook, RecordedByHand)
    assert hook.checkout(account) == Checkout(None, "Credits cannot be bought here yet; ask your administrator.")


def test_l14_an_installed_shop_says_where_and_which_payments_are_to_be_believed(
    engine: Engine, installed: list[str]
) -> None:
    installed.append("tests.ledger.credits.test_granting:Shop")
    account = open_account(engine)

    hook: PurchaseHook = purchase_hook()

    assert hook.checkout(account).url == f"https://shop.example/{account.account_id}"
    hook.verify(account, Purchase(amount=Decimal(1), external_id="pay_1"))
    with pytest.raises(InvalidInput, match="no payment 'pay_2'"):
        hook.verify(account, Purchase(amount=Decimal(1), external_id="pay_2"))


def test_two_shops_are_refused(installed: list[str]) -> None:
    installed += ["a:b", "c:d"]

    with pytest.raises(InvalidInput, match=f"{PURCHASE_HOOKS}: several packages offer to take payments"):
        purchase_hook()


def test_a_payment_that_many_tell_at_once_is_recorded_once(engine: Engine) -> None:
    account = open_account(engine)
    told = Purchase(amount=Decimal(1), external_id="pay_1")

    def tell(_: int) -> str:
        try:
            with transaction(engine, EVERYBODY, write=True) as connection:
                return "new" if record_purchase(connection, account, told)[1] else "known"
        except Conflict:
            return "conflict"

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(tell, range(8)))

    assert answers.count("new") == 1
    assert balance(engine, account) == PICO

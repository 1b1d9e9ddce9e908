"""Two recurring jobs: telling webhooks that a balance has sunk to what its account warns at, and checking day sums.

An account is told of once for each time that it sinks to its threshold; when it is above again, or gets another
threshold, the next time is a new one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine

from farebox_ledger.credits.balances import balance_of
from farebox_ledger.errors import LedgerError
from farebox_ledger.money import pico_text
from farebox_ledger.store.credit_accounts import (
    Account,
    get_account,
    list_accounts,
    lock_account,
    note_low,
    organizations_with_accounts,
    watched_accounts,
)
from farebox_ledger.store.credit_days import first_wrong_day
from farebox_ledger.store.credit_posting import Mark, mark
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Interrupted, Job, heartbeat
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.webhook_deliveries import emit, utc_text

WATCH: Final = "watch_balances"
CHECK_BALANCES: Final = "check_balances"

_PAGE: Final = 200
_EVERYBODY: Final = AllOrganizations()

_Page = Callable[[Connection, int, Account | None], list[Account]]


class Watched(msgspec.Struct, frozen=True):
    """How many accounts were looked at, and how many had just become low."""

    accounts: int
    low: int


class Checked(msgspec.Struct, frozen=True):
    """How many accounts' sums were compared with their movements and found equal."""

    accounts: int


class DaysDiffer(LedgerError):
    """Sums of days and movements disagree; the movements are right."""


def watch_balances(engine: Engine, job: Job, stop: threading.Event) -> Watched:
    """Compare the accounts that have a threshold with it."""
    accounts = low = 0
    for account in _accounts(engine, job, stop, watched_accounts):
        accounts += 1
        low += watch(engine, account)
    return Watched(accounts, low)


def watch(engine: Engine, account: Account, *, now_us: int | None = None) -> bool:
    """Compare one account with its threshold, and tell when it has just become low; says whether it has."""
    at_us = time.time_ns() // 1000 if now_us is None else now_us
    with transaction(engine, _EVERYBODY) as connection:
        if _is_low(connection, account, at_us) == (account.low_since_us is not None):
            return False
    with transaction(engine, _EVERYBODY, write=True) as connection:
        lock_account(connection, account)
        stands = get_account(connection, _EVERYBODY, account.org_id, account.account_id)
        is_low = _is_low(connection, stands, at_us)
        if is_low == (stands.low_since_us is not None):
            return False
        note_low(connection, stands, at_us if is_low else None)
        if is_low:
            told = _told(connection, stands, at_us)
            identity = f"{stands.account_id} {at_us}"
            emit(connection, OrgScope(stands.org_id), "credits.low_balance", identity, told, now_us=at_us)
        return is_low


def check_balances(engine: Engine, job: Job, stop: threading.Event) -> Checked:
    """Compare the sums of days of all accounts with their movements; wrong ones are made anew by the allocation.

    Raises:
        DaysDiffer: some were wrong.
    """
    accounts, wrong = 0, []
    for account in _accounts(engine, job, stop, _page_of_all):
        accounts += 1
        with transaction(engine, _EVERYBODY) as connection:
            day = first_wrong_day(connection, account)
        if day is not None:
            wrong.append(account.account_id)
            with transaction(engine, _EVERYBODY, write=True) as connection:
                mark(connection, [Mark(account.org_id, account.account_id, day)])
    if wrong:
        raise DaysDiffer(f"the sums of days of {len(wrong)} credit accounts were wrong, the first: {wrong[0]}")
    return Checked(accounts)


def _is_low(connection: Connection, account: Account, at_us: int) -> bool:
    if account.low_balance_pico is None:
        return False
    return balance_of(connection, account, as_of_us=at_us).balance_pico <= account.low_balance_pico


def _told(connection: Connection, account: Account, at_us: int) -> Mapping[str, Any]:
    """Write what a webhook is told: whose account it is and how it stands."""
    organization = organizations_by_id(connection, [account.org_id]).get(account.org_id)
    assert account.low_balance_pico is not None, "an account without a threshold is never low"
    return {
        "organization": None if organization is None else organization.slug,
        "account": account.account_id,
        "user": account.owner if account.owner_kind == "user" else None,
        "project": account.owner if account.owner_kind == "project" else None,
        "name": account.name,
        "balance": pico_text(balance_of(connection, account, as_of_us=at_us).balance_pico),
        "low_balance": pico_text(account.low_balance_pico),
        "currency": account.currency,
        "low_since": utc_text(at_us),
    }


def _page_of_all(connection: Connection, org_id: int, last: Account | None) -> list[Account]:
    after = None if last is None else (last.created_at_us, last.account_id)
    return list_accounts(connection, _EVERYBODY, org_id, limit=_PAGE, after=after)


def _accounts(engine: Engine, job: Job, stop: threading.Event, page_of: _Page) -> Iterator[Account]:
    """Walk through accounts page by page, and keep the job's lease."""
    with transaction(engine, _EVERYBODY) as connection:
        having = organizations_with_accounts(connection, _EVERYBODY)
    for org_id in having:
        last: Account | None = None
        while True:
            with transaction(engine, _EVERYBODY) as connection:
                page = page_of(connection, org_id, last)
            if not page:
                break
            for account in page:
                if stop.is_set():
                    raise Interrupted
                yield account
            last = page[-1]
            with transaction(engine, _EVERYBODY, write=True) as connection:
                heartbeat(connection, job)

"""Charges rows to credit accounts, in the rows' own transaction: deductions of new rows, differences of changed ones.

Row values come in, balanced movements go out; no balance is touched, so that no two writers wait for each other. The
key of a movement is made from the row's id and its charge's version: a replay adds none. An amount that outgrows one
movement is cut into several.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import Connection, Table

from farebox_ledger.money import MAX_AMOUNT_PICO, converted
from farebox_ledger.store.credit_accounts import (
    Account,
    AccountKey,
    account_of_row,
    accounts_by_id,
    charged_accounts,
    having_accounts,
)
from farebox_ledger.store.credit_tables import TransactionType, credit_marks, credit_transactions
from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.rows import POSITION, RowValues
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.statements import among, chunks, marks, quoted, unnested
from farebox_ledger.usage import day_of

STEPS: Final = 4096
"""How many movements one version of a charge may make; an account's rate is bounded so that they suffice."""

MOVEMENT_COLUMNS: Final = tuple(column.name for column in credit_transactions.columns)

_ORG_ID, _DAY, _USAGE_ID = 0, 1, 2
_OCCURRED: Final = POSITION["occurred_at_us"]
_COST: Final = POSITION["cost_pico"]
_CURRENCY: Final = POSITION["currency"]
_USER: Final = POSITION["user_ref"]
_PROJECT: Final = POSITION["project"]

_Values: TypeAlias = tuple[Any, ...]
_RowName: TypeAlias = tuple[int, bytes]


class ChangedRow(msgspec.Struct, frozen=True):
    """A row before and after a change, and the version that its charge has from now on."""

    before: RowValues
    after: RowValues
    version: int


class Due(NamedTuple):
    """What is to be moved for one row: signed credits, and the cost behind them in the row's currency."""

    type: TransactionType
    amount_pico: int
    real_cost_pico: int


class Mark(msgspec.Struct, frozen=True, order=True):
    """An account whose allocations are to be made anew from a UTC day YYYYMMDD on."""

    org_id: int
    account_id: str
    day: int


def post_deductions(connection: Connection, rows: Iterable[RowValues]) -> None:
    """Charge rows that have just been inserted; those of organizations without accounts are charged to nobody."""
    costly = [row for row in rows if row[_COST]]
    accounts = charged_accounts(connection, costly) if costly else {}
    if not accounts:
        return
    now_us = time.time_ns() // 1000
    movements: list[_Values] = []
    for row in costly:
        account = account_of_row(accounts, row, row[_CURRENCY])
        if account is not None:
            due = Due("usage_deduction", -converted(row[_COST], account.rate), row[_COST])
            movements += _movements(row, account, due, STEPS, now_us)
    append(connection, movements)


def post_differences(connection: Connection, changes: Sequence[ChangedRow]) -> None:
    """Post what changed charges differ by; a row that is another user's or project's now is charged to that account.

    A row that was booked before there was an account to charge stays uncharged, until it is another's or is priced in
    another currency.
    """
    having = set(having_accounts(connection, sorted({change.after[_ORG_ID] for change in changes})))
    changes = [change for change in changes if change.after[_ORG_ID] in having]
    if not changes:
        return
    accounts = charged_accounts(connection, [change.after for change in changes])
    posted = _posted(connection, changes)
    holders = _holders(connection, posted)
    now_us = time.time_ns() // 1000
    movements: list[_Values] = []
    for change in changes:
        sums = posted.get((change.after[_ORG_ID], change.after[_USAGE_ID]), {})
        step = change.version * STEPS
        for row, account, due in _differences(change, sums, holders, accounts):
            moved = _movements(row, account, due, step, now_us)
            movements += moved
            step += len(moved)
    append(connection, movements)


def append(connection: Connection, movements: Sequence[_Values], *, is_marked: bool = True) -> None:
    """Append movements, in the order of `MOVEMENT_COLUMNS`, and unless told mark their accounts for allocation.

    Raises:
        IntegrityError: a movement has the key of another one.
    """
    if not movements:
        return
    _insert(connection, credit_transactions, sorted(movements, key=lambda one: one[:3]))
    if not is_marked:
        return
    occurred = MOVEMENT_COLUMNS.index("occurred_at_us")
    mark(connection, {Mark(one[0], one[3], day_of(one[occurred])) for one in movements})


def mark(connection: Connection, accounts: Iterable[Mark]) -> None:
    """Ask for the allocation of accounts from a day on.

    Each mark is a row of its own: whoever allocates deletes the marks that it has read, and no others.
    """
    _insert(
        connection, credit_marks, [(one.org_id, one.account_id, one.day, os.urandom(8)) for one in sorted(accounts)]
    )


def _differences(
    change: ChangedRow,
    posted: Mapping[str, int],
    holders: Mapping[tuple[int, str], Account],
    accounts: Mapping[AccountKey, Account],
) -> Iterator[tuple[RowValues, Account, Due]]:
    """Say what one changed row moves: a difference, or all of it back from one account and onto another.

    Credits go back to the moment that they were taken at, so that no account ever has more than it should.
    """
    before, after = change.before, change.after
    has_moved = (before[_USER], before[_PROJECT]) != (after[_USER], after[_PROJECT])
    if not posted and before[_COST] and not has_moved and before[_CURRENCY] == after[_CURRENCY]:
        return
    held_by, held_pico = next((item for item in posted.items() if item[1]), (None, 0))
    holder = None if held_by is None else holders[after[_ORG_ID], held_by]
    account = holder
    if holder is None or has_moved or after[_CURRENCY] not in (holder.currency, None):
        account = account_of_row(accounts, after, after[_CURRENCY])
    cost_pico = after[_COST] or 0
    should_pico = -converted(cost_pico, account.rate) if account is not None else 0
    if holder is not None and holder is account and before[_OCCURRED] == after[_OCCURRED]:
        if should_pico != held_pico:
            real_cost_pico = cost_pico - (before[_COST] or 0)
            yield after, holder, Due("reprice_adjustment", should_pico - held_pico, real_cost_pico)
        return
    if holder is not None:
        yield before, holder, Due("reprice_adjustment", -held_pico, -(before[_COST] or 0))
    if account is not None and cost_pico:
        yield after, account, Due("usage_deduction", should_pico, cost_pico)


def _movements(row: RowValues, account: Account, due: Due, step: int, now_us: int) -> list[_Values]:
    """Lay out a movement between an account and `usage`; the real cost stands with its first part."""
    return [
        (
            row[_ORG_ID],
            row[_USAGE_ID],
            step + number,
            account.account_id,
            due.type,
            "usage",
            part,
            account.currency,
            row[_OCCURRED],
            now_us,
            row[_DAY],
            due.real_cost_pico if number == 0 else 0,
            row[_PROJECT],
            row[_USER],
            None,
            None,
            None,
        )
        for number, part in enumerate(_parts(due.amount_pico))
    ]


def _parts(amount_pico: int) -> Iterator[int]:
    """Cut an amount into what one movement holds each; nothing is a part too."""
    sign = -1 if amount_pico < 0 else 1
    rest = abs(amount_pico)
    while rest > MAX_AMOUNT_PICO:
        yield sign * MAX_AMOUNT_PICO
        rest -= MAX_AMOUNT_PICO
    yield sign * rest


def _posted(connection: Connection, changes: Iterable[ChangedRow]) -> dict[_RowName, dict[str, int]]:
    """Sum what rows are charged so far, by row and account; rows that nothing was posted for are left out."""
    wanted: dict[int, list[bytes]] = defaultdict(list)
    for change in changes:
        wanted[change.after[_ORG_ID]].append(change.after[_USAGE_ID])
    sums: dict[_RowName, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    database = connection.dialect.name
    for org_id, usage_ids in sorted(wanted.items()):
        for part in chunks(sorted(usage_ids)):
            is_asked, asked = among("source_id", part, database)
            found = connection.exec_driver_sql(
                "SELECT source_id, account_id, amount_pico FROM credit_transactions "
                f"WHERE org_id = {marks(1, database)} AND {is_asked}",
                (org_id, *asked),
            )
            for source_id, account_id, amount_pico in found:
                sums[org_id, bytes(source_id)][account_id] += amount_pico
    return sums


def _holders(connection: Connection, posted: Mapping[_RowName, Mapping[str, int]]) -> dict[tuple[int, str], Account]:
    """Read the accounts that something was posted to."""
    ids: dict[int, set[str]] = defaultdict(set)
    for (org_id, _), sums in posted.items():
        ids[org_id].update(sums)
    return {
        (org_id, account_id): account
        for org_id, some in sorted(ids.items())
        for account_id, account in accounts_by_id(connection, OrgScope(org_id), org_id, some).items()
    }


def _insert(connection: Connection, table: Table, rows: Sequence[_Values]) -> None:
    """Insert rows at once: as tuples on SQLite, as one array a column on PostgreSQL."""
    if not rows:
        return
    if is_sqlite(connection):
        connection.exec_driver_sql(_insert_statement(table, "sqlite"), list(rows))
    else:
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        connection.exec_driver_sql(_insert_statement(table, "postgresql"), columns)


@cache
def _insert_statement(table: Table, database: str) -> str:
    names = quoted(column.name for column in table.columns)
    if database == "sqlite":
        return f"INSERT INTO {table.name} ({names}) VALUES ({marks(len(table.columns), database)})"
    return f"INSERT INTO {table.name} ({names}) {unnested(table.columns)}"

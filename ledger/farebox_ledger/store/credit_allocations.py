"""Which grants paid for which day of an account's usage: what is read to find out, and what was found.

Derived from grants and movements, and made anew from the first day that something was added to. Row '' of a day is what
no grant paid, less what a later grant has paid back; so the rows of a day sum to what was drawn on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, literal_column, or_, select, tuple_

from farebox_ledger.money import join, split
from farebox_ledger.store.credit_accounts import Account
from farebox_ledger.store.credit_ledger import summed
from farebox_ledger.store.credit_tables import credit_allocations, credit_marks, credit_transactions
from farebox_ledger.store.timeline import DAY_US
from farebox_ledger.usage import day_of

UNCOVERED: Final = b""
"""Stands for the grant where none paid."""

Allocations: TypeAlias = Mapping[tuple[int, bytes], int]
"""Pico-credits by day YYYYMMDD and grant."""

MarkKey: TypeAlias = tuple[int, bytes]

_DRAWS: Final = or_(
    credit_transactions.c.counter_account == "usage",
    and_(credit_transactions.c.type == "adjustment", credit_transactions.c.amount_pico < 0),
)


def marked_accounts(connection: Connection, org_id: int, limit: int) -> list[str]:
    """Name accounts of an organization that wait for allocation."""
    mine = select(credit_marks.c.account_id).where(credit_marks.c.org_id == org_id).distinct()
    return list(connection.scalars(mine.order_by(credit_marks.c.account_id).limit(limit)))


def marks_of(connection: Connection, account: Account) -> list[MarkKey]:
    """Read an account's marks: (day, mark). Read them before what they are about."""
    found = connection.execute(select(credit_marks.c.day, credit_marks.c.mark).where(*_of(credit_marks, account)))
    return [(day, bytes(mark)) for day, mark in found]


def delete_marks(connection: Connection, account: Account, marks: Collection[MarkKey]) -> None:
    """Forget the marks that were read."""
    keys = tuple_(credit_marks.c.day, credit_marks.c.mark)
    ordered = sorted(marks)
    for start in range(0, len(ordered), 200):
        part = ordered[start : start + 200]
        connection.execute(delete(credit_marks).where(*_of(credit_marks, account), keys.in_(part)))


def allocated_before(connection: Connection, account: Account, day: int | None) -> dict[bytes, int]:
    """Sum what each grant paid before a day (None: at all), in pico-credits; `UNCOVERED` is what is still owed."""
    table = credit_allocations.c
    conditions = list(_of(credit_allocations, account))
    if day is not None:
        conditions.append(table.day < day)
    sums = select(table.grant_id, func.sum(table.amount_units), func.sum(table.amount_pico))
    found = connection.execute(sums.where(*conditions).group_by(table.grant_id))
    return {bytes(grant_id): join(int(units), int(pico)) for grant_id, units, pico in found}


def drawn_by_day(connection: Connection, account: Account, start_us: int) -> dict[int, int]:
    """Sum what was drawn from a moment on, in pico-credits by the start of the UTC day in microseconds."""
    table = credit_transactions.c
    day = table.occurred_at_us.op("/")(literal_column(str(DAY_US)))
    found = connection.execute(
        select(day, *summed(table.amount_pico))
        .where(*_of(credit_transactions, account), table.occurred_at_us >= start_us, _DRAWS)
        .group_by(day)
    )
    return {int(number) * DAY_US: -join(int(units), int(pico)) for number, units, pico in found}


def drawn_between(connection: Connection, account: Account, start_us: int, end_us: int) -> int:
    """Sum what was drawn in a half-open range, in pico-credits."""
    table = credit_transactions.c
    within = (table.occurred_at_us >= start_us, table.occurred_at_us < end_us, _DRAWS)
    one = select(*summed(table.amount_pico)).where(*_of(credit_transactions, account), *within)
    units, pico = connection.execute(one).one()
    return -join(int(units), int(pico))


def replace_allocations(connection: Connection, account: Account, start_us: int, found: Allocations) -> None:
    """Put what was found in the place of all that stood from a day on."""
    stale = credit_allocations.c.day >= day_of(start_us)
    connection.execute(delete(credit_allocations).where(*_of(credit_allocations, account), stale))
    rows = [
        {
            "org_id": account.org_id,
            "account_id": account.account_id,
            "day": day,
            "grant_id": grant_id,
            "amount_units": split(pico)[0],
            "amount_pico": split(pico)[1],
        }
        for (day, grant_id), pico in sorted(found.items())
        if pico
    ]
    if rows:
        connection.execute(insert(credit_allocations), rows)


def _of(table: Any, account: Account) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.org_id == account.org_id, table.c.account_id == account.account_id

"""What moved on an account each day, by type: so a balance costs its days and not its movements.

Derived as allocations are, and made anew by the same job from the first day that something was added to. A day that is
marked, and all after it, are read from the movements themselves; so a balance is exact at any moment, whether the job
has run or not.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, func, insert, literal_column, select

from farebox_ledger.money import join, split
from farebox_ledger.store.credit_accounts import Account
from farebox_ledger.store.credit_ledger import summed
from farebox_ledger.store.credit_tables import TransactionType, credit_days, credit_marks, credit_transactions
from farebox_ledger.store.timeline import DAY_US, day_start_us
from farebox_ledger.usage import day_of

LAST_DAY: Final = 99991231

_DAY: Final = credit_days.c
_MOVED: Final = credit_transactions.c


def sums_by_type(connection: Connection, account: Account, *, as_of_us: int) -> dict[TransactionType, int]:
    """Sum an account's movements up to a moment, inclusive, in pico-credits for each type; their sum is the balance."""
    open_day = min(first_open_day(connection, account), day_of(min(as_of_us, day_start_us(LAST_DAY))))
    sums: dict[TransactionType, int] = {}
    days = stored_days(connection, account, open_day) | _moved(connection, account, open_day, as_of_us)
    for (_, kind), pico in days.items():
        sums[kind] = sums.get(kind, 0) + pico
    return sums


def first_open_day(connection: Connection, account: Account) -> int:
    """Answer the first day whose sum is not made yet; without one a day that no movement reaches."""
    mine = (credit_marks.c.org_id == account.org_id, credit_marks.c.account_id == account.account_id)
    return connection.scalar(select(func.min(credit_marks.c.day)).where(*mine)) or LAST_DAY


def renew_days(connection: Connection, account: Account, start_us: int) -> None:
    """Make the sums of all days from that of a moment on anew; the caller holds the account."""
    first = day_of(start_us)
    mine = (_DAY.org_id == account.org_id, _DAY.account_id == account.account_id)
    connection.execute(delete(credit_days).where(*mine, _DAY.day >= first))
    rows = [
        {
            "org_id": account.org_id,
            "account_id": account.account_id,
            "day": day,
            "type": kind,
            "amount_units": split(pico)[0],
            "amount_pico": split(pico)[1],
        }
        for (day, kind), pico in sorted(_moved(connection, account, first, None).items())
    ]
    if rows:
        connection.execute(insert(credit_days), rows)


def first_wrong_day(connection: Connection, account: Account) -> int | None:
    """Compare the sums of all days that are made with the movements; None when they are equal."""
    open_day = first_open_day(connection, account)
    stored = stored_days(connection, account, open_day)
    moved = _moved(connection, account, 19700101, day_start_us(open_day) - 1)
    wrong = {key[0] for key in stored.keys() | moved.keys() if stored.get(key, 0) != moved.get(key, 0)}
    return min(wrong, default=None)


def stored_days(connection: Connection, account: Account, before: int) -> dict[tuple[int, TransactionType], int]:
    """Read the sums of the days before one, in pico-credits by day and type."""
    mine = (_DAY.org_id == account.org_id, _DAY.account_id == account.account_id, _DAY.day < before)
    found = connection.execute(select(_DAY.day, _DAY.type, _DAY.amount_units, _DAY.amount_pico).where(*mine))
    return {(day, kind): join(units, pico) for day, kind, units, pico in found}


def _moved(
    connection: Connection, account: Account, first: int, until_us: int | None
) -> dict[tuple[int, TransactionType], int]:
    """Sum the movements from a day on up to a moment (None: all), in pico-credits by day and type."""
    day = _MOVED.occurred_at_us.op("/")(literal_column(str(DAY_US)))
    mine = [_MOVED.org_id == account.org_id, _MOVED.account_id == account.account_id]
    mine.append(_MOVED.occurred_at_us >= day_start_us(first))
    if until_us is not None:
        mine.append(_MOVED.occurred_at_us <= until_us)
    summing = select(day, _MOVED.type, *summed(_MOVED.amount_pico)).where(*mine).group_by(day, _MOVED.type)
    return {
        (day_of(int(number) * DAY_US), kind): join(int(units), int(pico))
        for number, kind, units, pico in connection.execute(summing)
    }

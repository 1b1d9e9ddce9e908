"""The users of one month: those who cost most, each by itself, and all others in one.

Comes in: an organization, a month and how many to tell apart. Goes out: cells as `summary_cells` has them. The database
ranks and adds up, so that a month of a million users costs no more memory here than one of a few.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import CTE, BigInteger, ColumnElement, Connection, Select, case, cast, func, select

from farebox_ledger.money import PICO
from farebox_ledger.store.rollups import Sums, joined, stored_names
from farebox_ledger.store.schema import rollup_day_by
from farebox_ledger.store.timeline import month_days

_NAMES: Final = stored_names()


class UsersOfMonth(NamedTuple):
    """Sums by (user, currency) of the users told apart, by (currency,) of the others, and how many those are.

    A user of None is for the calls that name none, a currency of None for those without a price.
    """

    shown: dict[tuple[str | None, str | None], Sums]
    others: dict[tuple[str | None], Sums]
    left_out: int


def largest_users(connection: Connection, org_id: int, month: int, limit: int) -> UsersOfMonth:
    """Sum up the month YYYYMM of an organization by user, the `limit` most expensive ones apart from the others.

    Users are ranked by their cost in all currencies, then by their requests, then by name.
    """
    found = UsersOfMonth({}, {}, 0)
    left_out = 0
    for last_rank, is_shown, user, currency, *stored in connection.execute(_ranked(org_id, month, limit)):
        sums = joined([int(value) for value in stored])
        if is_shown:
            found.shown[user or None, currency or None] = sums
        else:
            found.others[currency or None,] = sums
            left_out = max(left_out, last_rank - limit)
    return found._replace(left_out=left_out)


def _ranked(org_id: int, month: int, limit: int) -> Select[Any]:
    cells = _cells(org_id, month)
    rank = func.row_number().over(order_by=_costly_first(cells))
    ranks = select(cells.c.value, rank.label("rank")).group_by(cells.c.value).cte("ranks")
    is_shown = case((ranks.c.rank <= limit, 1), else_=0)
    user = case((ranks.c.rank <= limit, ranks.c.value), else_="")
    return (
        select(func.max(ranks.c.rank), is_shown, user, cells.c.currency, *(func.sum(cells.c[name]) for name in _NAMES))
        .join_from(cells, ranks, cells.c.value == ranks.c.value)
        .group_by(is_shown, user, cells.c.currency)
    )


def _cells(org_id: int, month: int) -> CTE:
    first, following = month_days(month)
    table = rollup_day_by.c
    sums = (func.sum(table[name]).label(name) for name in _NAMES)
    return (
        select(table.value, table.currency, *sums)
        .where(table.org_id == org_id, table.day >= first, table.day < following, table.dimension == "user")
        .group_by(table.value, table.currency)
        .cte("cells")
    )


def _costly_first(cells: CTE) -> list[ColumnElement[Any]]:
    """Order by the exact cost, whose two parts are summed apart and may carry over."""
    units, pico = (cast(func.sum(cells.c[f"cost_{part}"]), BigInteger) for part in ("units", "pico"))
    requests = func.sum(cells.c.requests)
    return [(units + pico // PICO).desc(), (pico % PICO).desc(), requests.desc(), cells.c.value]

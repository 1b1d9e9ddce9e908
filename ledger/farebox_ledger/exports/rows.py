"""All rows of a filter, newest first: the list's own pages, one after the other, in the caller's one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Final

from sqlalchemy import Connection

from farebox_ledger.store.filtering import organization_of
from farebox_ledger.store.querying import RowKey, UsageFilter, UsageRow, list_usage
from farebox_ledger.store.schema import usage_rows
from farebox_ledger.store.scope import OrgScope, Scope, narrowed
from farebox_ledger.store.statements import organizations_in

HELD_ROWS: Final = 4_000
"""How many rows an export holds at a time, over all organizations together."""

_MOST_PER_PAGE: Final = 1_000


def all_rows(
    connection: Connection, scope: Scope, asked: UsageFilter, *, held_rows: int = HELD_ROWS
) -> Iterator[UsageRow]:
    """Walk through the rows that `list_usage` would list, in its order, without its bounds.

    The transaction must see one snapshot throughout, as the reading ones of `store.engine` do, and stay open until the
    walk ends. At least one row of each organization is held.

    Raises:
        InvalidInput: as `list_usage`.
    """
    scope = narrowed(scope, asked.org_id)
    mine = organization_of(scope)
    organizations = list(connection.scalars(organizations_in(usage_rows))) if mine is None else [mine]
    page_rows = max(min(held_rows // max(len(organizations), 1), _MOST_PER_PAGE), 1)
    walks = [_walk(connection, OrgScope(org_id), asked, page_rows) for org_id in organizations]
    return merge(*walks, key=lambda row: row.position, reverse=True)


def _walk(connection: Connection, scope: OrgScope, asked: UsageFilter, page_rows: int) -> Iterator[UsageRow]:
    after: RowKey | None = None
    while True:
        page = list_usage(connection, scope, asked, limit=page_rows, after=after)
        yield from page.rows
        if not page.has_more:
            return
        after = page.next_after

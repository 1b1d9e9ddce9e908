"""Deletes what nobody will ask for again: batch numbers of long ago, and recurring jobs that ended well.

Usage rows, charges, entries and the audit log are never pruned.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, select, tuple_

from farebox_ledger.store.schema import booked_batches, jobs

PRUNE_ROWS: Final = 500
"""Rows in one step; SQLite's other writers wait while they are deleted."""


def prune_batches(connection: Connection, before_us: int, limit: int = PRUNE_ROWS) -> int:
    """Forget at most `limit` batches that were booked before a moment; answers how many.

    A collector sends a batch again only when it died between booking it and noting so, which is at its next start.
    A batch that comes later still books no row twice: its spans are found by their ids.
    """
    return _prune(connection, booked_batches, booked_batches.c.booked_at_us < before_us, limit)


def prune_jobs(connection: Connection, kinds: Collection[str], before_us: int, limit: int = PRUNE_ROWS) -> int:
    """Forget at most `limit` jobs of the system that were done before a moment; failed ones stay, with their reason."""
    done = (jobs.c.kind.in_(kinds), jobs.c.org_id.is_(None), jobs.c.status == "done", jobs.c.finished_at_us < before_us)
    return _prune(connection, jobs, and_(*done), limit)


def _prune(connection: Connection, table: Table, chosen: ColumnElement[bool], limit: int) -> int:
    keys = [*table.primary_key.columns]
    found = [tuple(row) for row in connection.execute(select(*keys).where(chosen).limit(limit))]
    if found:
        connection.execute(delete(table).where(tuple_(*keys).in_(found)))
    return len(found)

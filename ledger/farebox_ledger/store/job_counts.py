"""How the queue of jobs stands, for people who ask whether all is well."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, select

from farebox_ledger.store.schema import jobs
from farebox_ledger.store.scope import Scope, within


class JobCounts(msgspec.Struct, frozen=True):
    """How many jobs wait, run, and have failed and still stand there with their reason."""

    waiting: int
    running: int
    failed: int


def count_jobs(connection: Connection, scope: Scope) -> JobCounts:
    """Count the jobs of the scope that are not done."""
    found = connection.execute(
        select(jobs.c.status, func.count().label("number"))
        .where(within(scope, jobs.c.org_id), jobs.c.status.in_(("queued", "running", "failed")))
        .group_by(jobs.c.status)
    )
    counts = {row.status: int(row.number) for row in found}
    return JobCounts(counts.get("queued", 0), counts.get("running", 0), counts.get("failed", 0))

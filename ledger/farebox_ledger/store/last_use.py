"""When projects were last used: the end of the newest call of each, since a moment."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from farebox_ledger.store.rollups import QUARTER_US
from farebox_ledger.store.rows import bounded_name
from farebox_ledger.store.schema import rollup_quarter, usage_rows
from farebox_ledger.store.scope import Scope, require


def last_use_of_projects(
    connection: Connection, scope: Scope, org_id: int, *, since_us: int, user: str | None = None
) -> dict[str | None, int]:
    """Say for each project that was used since a moment when that was last, for everybody or for one user.

    Everybody's is found by the rollup and then among the rows of one quarter of an hour, a user's by the user's index.
    """
    require(scope, org_id)
    if user is not None:
        return _of_user(connection, org_id, user, since_us)
    quarters = (
        select(rollup_quarter.c.project, func.max(rollup_quarter.c.quarter_us))
        .where(
            rollup_quarter.c.org_id == org_id,
            rollup_quarter.c.quarter_us >= since_us - since_us % QUARTER_US,
            rollup_quarter.c.requests > 0,
        )
        .group_by(rollup_quarter.c.project)
    )
    return {
        project or None: _newest(connection, org_id, project or None, int(quarter_us))
        for project, quarter_us in connection.execute(quarters).all()
    }


def _of_user(connection: Connection, org_id: int, user: str, since_us: int) -> dict[str | None, int]:
    mine = (
        usage_rows.c.org_id == org_id,
        usage_rows.c.user_ref == bounded_name(user),
        usage_rows.c.occurred_at_us >= since_us,
        usage_rows.c.billing_status != "suppressed",
    )
    newest = select(usage_rows.c.project, func.max(usage_rows.c.occurred_at_us)).where(*mine)
    found: Any = connection.execute(newest.group_by(usage_rows.c.project))
    return {project: int(occurred_at_us) for project, occurred_at_us in found}


def _newest(connection: Connection, org_id: int, project: str | None, quarter_us: int) -> int:
    of_project: ColumnElement[bool] = usage_rows.c.project.is_not_distinct_from(project)
    within = usage_rows.c.occurred_at_us.between(quarter_us, quarter_us + QUARTER_US - 1)
    counted = usage_rows.c.billing_status != "suppressed"
    newest = select(func.max(usage_rows.c.occurred_at_us)).where(
        usage_rows.c.org_id == org_id, within, of_project, counted
    )
    return int(connection.scalar(newest) or quarter_us)

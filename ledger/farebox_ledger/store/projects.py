"""Projects: what rows' project names mean to people. Made when they are first seen; rows hold the name alone."""

from __future__ import annotations

import time
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Connection, Row, select, update

from farebox_ledger.errors import NotFound
from farebox_ledger.store.administration_tables import projects
from farebox_ledger.store.audit import note
from farebox_ledger.store.rows import POSITION, RowValues
from farebox_ledger.store.scope import Scope, behind, require, within
from farebox_ledger.store.statements import marks

ProjectKey: TypeAlias = tuple[int, str]

_facts: Final = itemgetter(POSITION["org_id"], POSITION["project"], POSITION["received_at_us"])
_FOREVER_US: Final = 2**63


class Project(msgspec.Struct, frozen=True):
    """One project of an organization; `project` is what rows carry, `name` what people call it."""

    org_id: int
    project: str
    name: str | None
    first_seen_us: int


def note_projects(connection: Connection, rows: Iterable[RowValues]) -> None:
    """Make the projects that rows name for the first time; those that stand, deleted ones too, are left alone."""
    seen: dict[ProjectKey, int] = {}
    for row in rows:
        org_id, project, at_us = _facts(row)
        if project is not None and at_us < seen.get((org_id, project), _FOREVER_US):
            seen[org_id, project] = at_us
    if seen:
        connection.exec_driver_sql(
            "INSERT INTO projects (org_id, project, first_seen_us) "
            f"VALUES ({marks(3, connection.dialect.name)}) ON CONFLICT DO NOTHING",
            [(*key, seen[key]) for key in sorted(seen)],
        )


def list_projects(
    connection: Connection, scope: Scope, *, limit: int, after: ProjectKey | None = None
) -> list[Project]:
    """List the projects that are not deleted, by organization and name, those behind `after` when it is given."""
    listed = select(projects).where(within(scope, projects.c.org_id), projects.c.deleted_at_us.is_(None))
    if after is not None:
        listed = listed.where(behind(scope, projects.c.org_id, projects.c.project, after))
    ordered = listed.order_by(projects.c.org_id, projects.c.project).limit(limit)
    return [_project(row) for row in connection.execute(ordered)]


def get_project(connection: Connection, scope: Scope, org_id: int, project: str) -> Project:
    """Find a project.

    Raises:
        InvalidInput: the organization is outside the scope.
        NotFound: the organization has no such project, or it was deleted.
    """
    require(scope, org_id)
    mine = (projects.c.org_id == org_id, projects.c.project == project, projects.c.deleted_at_us.is_(None))
    found = connection.execute(select(projects).where(*mine)).one_or_none()
    if found is None:
        raise NotFound("project", project)
    return _project(found)


def name_project(connection: Connection, scope: Scope, org_id: int, project: str, name: str | None) -> Project:
    """Give a project a name for people, or take it away.

    Raises:
        InvalidInput, NotFound: as `get_project`.
    """
    before = get_project(connection, scope, org_id, project)
    _set(connection, org_id, project, name=name)
    after = msgspec.structs.replace(before, name=name)
    note(connection, "project.change", "project", project, org_id=org_id, before=before, after=after)
    return after


def delete_project(connection: Connection, scope: Scope, org_id: int, project: str) -> None:
    """Take a project off the list; its rows and sums stay.

    Raises:
        InvalidInput, NotFound: as `get_project`.
    """
    before = get_project(connection, scope, org_id, project)
    _set(connection, org_id, project, deleted_at_us=time.time_ns() // 1000)
    note(connection, "project.delete", "project", project, org_id=org_id, before=before)


def _set(connection: Connection, org_id: int, project: str, **values: Any) -> None:
    connection.execute(
        update(projects).where(projects.c.org_id == org_id, projects.c.project == project).values(**values)
    )


def _project(row: Row[Any]) -> Project:
    return Project(row.org_id, row.project, row.name, row.first_seen_us)

"""Projects, which are made when they are first seen: listed, named for people, taken off the list."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, patch
from litestar.di import NamedDependency
from litestar.params import PathParameter, RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.errors import invalid_parameter
from farebox_api.paging import CursorCodec
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import MAX_NAME_LENGTH, Cursor, Limit, OrganizationName
from farebox_api.schemas.people import ProjectAnswer, ProjectInput, ProjectPageAnswer, project_answer
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.projects import delete_project, get_project, list_projects, name_project
from farebox_ledger.usage import org_id_of

CURSORS = CursorCodec(tuple[int, str])

ProjectPath = Annotated[str, PathParameter(description="The project, as rows carry it.", max_length=MAX_NAME_LENGTH)]


@get(
    "/projects",
    operation_id="list_projects",
    summary="List projects",
    tags=["administration"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ProjectPageAnswer:
    """List the projects that calls have named, deleted ones left out."""
    question = ("projects", books.caller.org_slug, organization)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_projects(connection, scope, limit=limit + 1, after=after)
        owners = organizations_by_id(connection, {project.org_id for project in found})
    rows, has_more = found[:limit], len(found) > limit
    last = rows[-1] if has_more else None
    return ProjectPageAnswer(
        items=[project_answer(project, owners[project.org_id].slug) for project in rows],
        next_cursor=None if last is None else CURSORS.write((last.org_id, last.project), *question),
        has_more=has_more,
    )


@get(
    "/projects/{project:str}",
    operation_id="get_project",
    summary="One project",
    tags=["administration"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]], project: ProjectPath, organization: OrganizationName = None
) -> ProjectAnswer:
    """Show one project; a system key says of which organization."""
    owner = _owner(books, organization)
    with books.reading(owner) as (connection, scope):
        return project_answer(get_project(connection, scope, org_id_of(owner), project), owner)


@patch(
    "/projects/{project:str}",
    operation_id="change_project",
    summary="Name a project",
    tags=["administration"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def changed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    project: ProjectPath,
    data: SkipValidation[ProjectInput],
    body: RawBody,
    organization: OrganizationName = None,
) -> ProjectAnswer:
    """Give a project a name for people; what rows carry stays."""
    wanted, owner = read(body, ProjectInput), _owner(books, organization)
    with books.writing(owner) as (connection, scope):
        return project_answer(name_project(connection, scope, org_id_of(owner), project, wanted.name), owner)


@delete(
    "/projects/{project:str}",
    operation_id="delete_project",
    summary="Delete a project",
    tags=["administration"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def deleted(
    books: NamedDependency[SkipValidation[Books]], project: ProjectPath, organization: OrganizationName = None
) -> None:
    """Take a project off the list; its rows and sums stay."""
    owner = _owner(books, organization)
    with books.writing(owner) as (connection, scope):
        delete_project(connection, scope, org_id_of(owner), project)


def _owner(books: Books, organization: str | None) -> str:
    owner = organization or books.caller.org_slug
    if owner is None:
        raise invalid_parameter("organization", "is required with a system key")
    return owner


ROUTES: tuple[Any, ...] = (listed, shown, changed, deleted)

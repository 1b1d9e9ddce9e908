"""Organizations: listed, made, looked at."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.errors import Forbidden
from farebox_api.paging import CursorCodec
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import Cursor, Limit, OrganizationPath
from farebox_api.schemas.organizations import (
    OrganizationAnswer,
    OrganizationInput,
    OrganizationPageAnswer,
    organization_answer,
)
from farebox_ledger.errors import NotFound
from farebox_ledger.store.organizations import create_organization, list_organizations, organization_by_slug

CURSORS = CursorCodec(str)


@get(
    "/organizations",
    operation_id="list_organizations",
    summary="List organizations",
    tags=["organizations"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403),
    sync_to_thread=True,
)
def listed(
    books: NamedDependency[SkipValidation[Books]], limit: Limit = 50, cursor: Cursor = None
) -> OrganizationPageAnswer:
    """List the organizations that the key sees, by slug: all for a system key, else its own."""
    question = ("organizations", books.caller.org_slug)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading() as (connection, scope):
        found = list_organizations(connection, scope, limit=limit + 1, after=after)
    rows, has_more = found[:limit], len(found) > limit
    return OrganizationPageAnswer(
        items=[organization_answer(organization) for organization in rows],
        next_cursor=CURSORS.write(rows[-1].slug, *question) if has_more else None,
        has_more=has_more,
    )


@post(
    "/organizations",
    operation_id="create_organization",
    summary="Make an organization",
    tags=["organizations"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 409),
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[OrganizationInput], body: RawBody
) -> Response[OrganizationAnswer]:
    """Make an organization; takes a system key."""
    wanted = read(body, OrganizationInput)
    if not books.caller.is_system:
        raise Forbidden("This needs a system key; the key of an organization sees that organization alone.")
    with books.writing() as (connection, _):
        organization = create_organization(connection, wanted.slug, wanted.name)
    return Response(organization_answer(organization), headers={"Location": f"/v1/organizations/{organization.slug}"})


@get(
    "/organizations/{organization:str}",
    operation_id="get_organization",
    summary="One organization",
    tags=["organizations"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(books: NamedDependency[SkipValidation[Books]], organization: OrganizationPath) -> OrganizationAnswer:
    """Show one organization."""
    with books.reading(organization) as (connection, _):
        found = organization_by_slug(connection, organization)
    if found is None:
        raise NotFound("organization", organization)
    return organization_answer(found)


ROUTES: tuple[Any, ...] = (listed, created, shown)

"""Upstreams: what calls go through on their way to a provider, by the name that calls carry."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.conditional import NOT_MODIFIED, IfNoneMatch, unless_held
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import (
    CURSORS,
    Identity,
    IfMatch,
    expected_version,
    position,
    require_own,
    slugs,
    with_etag,
)
from farebox_api.routes.queries import Cursor, Limit, OrganizationName
from farebox_api.schemas.upstreams import (
    UpstreamAnswer,
    UpstreamChangeInput,
    UpstreamInput,
    UpstreamPageAnswer,
    upstream_answer,
)
from farebox_ledger.store.upstreams import (
    change_upstream,
    create_upstream,
    delete_upstream,
    get_upstream,
    list_upstreams,
)


@get(
    "/upstreams",
    operation_id="list_upstreams",
    summary="List upstreams",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> UpstreamPageAnswer:
    """List upstreams, oldest first: the organization's own and everybody's."""
    question = ("upstreams", books.caller.org_slug, organization)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_upstreams(connection, scope, limit=limit + 1, after=after)
        owners = slugs(connection, found)
    rows, has_more = found[:limit], len(found) > limit
    return UpstreamPageAnswer(
        items=[upstream_answer(one, owners[one.org_id]) for one in rows],
        next_cursor=CURSORS.write(position(rows[-1]), *question) if has_more else None,
        has_more=has_more,
    )


@post(
    "/upstreams",
    operation_id="create_upstream",
    summary="Make an upstream",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[UpstreamInput], body: RawBody
) -> Response[UpstreamAnswer]:
    """Make an upstream; multipliers may name it, and so may calls that nobody listed it for."""
    wanted = read(body, UpstreamInput)
    with books.writing(wanted.organization) as (connection, scope):
        made = create_upstream(connection, scope, wanted.draft())
        owners = slugs(connection, [made])
    return with_etag(upstream_answer(made, owners[made.org_id]), "/v1/upstreams")


@get(
    "/upstreams/{upstream_id:str}",
    operation_id="get_upstream",
    summary="One upstream",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=NOT_MODIFIED | problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]], upstream_id: Identity, if_none_match: IfNoneMatch = None
) -> Response[UpstreamAnswer]:
    """Show one upstream."""
    with books.reading() as (connection, scope):
        found = get_upstream(connection, scope, upstream_id)
        owners = slugs(connection, [found])
    return unless_held(with_etag(upstream_answer(found, owners[found.org_id])), if_none_match)


@patch(
    "/upstreams/{upstream_id:str}",
    operation_id="change_upstream",
    summary="Change an upstream",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409, 412),
    sync_to_thread=True,
)
def changed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    upstream_id: Identity,
    data: SkipValidation[UpstreamChangeInput],
    body: RawBody,
    if_match: IfMatch = None,
) -> Response[UpstreamAnswer]:
    """Change what is named and leave the rest."""
    wanted, version = read(body, UpstreamChangeInput).change(), expected_version(if_match)
    with books.writing() as (connection, scope):
        require_own(scope, get_upstream(connection, scope, upstream_id))
        made = change_upstream(connection, scope, upstream_id, wanted, expected_version=version)
        owners = slugs(connection, [made])
    return with_etag(upstream_answer(made, owners[made.org_id]))


@delete(
    "/upstreams/{upstream_id:str}",
    operation_id="delete_upstream",
    summary="Delete an upstream",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409, 412),
    sync_to_thread=True,
)
def deleted(books: NamedDependency[SkipValidation[Books]], upstream_id: Identity, if_match: IfMatch = None) -> None:
    """Take an upstream off the list, once no multiplier names it; rows keep its name."""
    version = expected_version(if_match)
    with books.writing() as (connection, scope):
        require_own(scope, get_upstream(connection, scope, upstream_id))
        delete_upstream(connection, scope, upstream_id, expected_version=version)


ROUTES: tuple[Any, ...] = (listed, created, shown, changed, deleted)

"""Multipliers: dated factors from list cost to cost, for upstreams, providers and organizations."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
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
from farebox_api.routes.queries import Cursor, Limit, OrganizationName, named
from farebox_api.schemas.multipliers import (
    MultiplierAnswer,
    MultiplierBody,
    MultiplierChangeBody,
    MultiplierChangeInput,
    MultiplierInput,
    MultiplierPageAnswer,
    multiplier_answer,
)
from farebox_ledger.store.multipliers import (
    change_multiplier,
    create_multiplier,
    delete_multiplier,
    get_multiplier,
    list_multipliers,
)


@get(
    "/multipliers",
    operation_id="list_multipliers",
    summary="List multipliers",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    provider: Annotated[str | None, named("Provider, in any spelling.")] = None,
    upstream: Annotated[str | None, named("Upstream, by the name that calls carry.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> MultiplierPageAnswer:
    """List multipliers, oldest first: the organization's own and everybody's."""
    question = ("multipliers", books.caller.org_slug, organization, provider, upstream)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_multipliers(connection, scope, upstream=upstream, provider=provider, limit=limit + 1, after=after)
        owners = slugs(connection, found)
    rows, has_more = found[:limit], len(found) > limit
    return MultiplierPageAnswer(
        items=[multiplier_answer(one, owners[one.org_id]) for one in rows],
        next_cursor=CURSORS.write(position(rows[-1]), *question) if has_more else None,
        has_more=has_more,
    )


@post(
    "/multipliers",
    operation_id="create_multiplier",
    summary="Make a multiplier",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[MultiplierInput], body: RawBody
) -> Response[MultiplierAnswer]:
    """Make a multiplier; collectors apply it within seconds. Rows that are priced already stay as they are."""
    wanted = read(body, MultiplierBody)
    with books.writing(wanted.organization) as (connection, scope):
        made = create_multiplier(connection, scope, wanted.draft())
        owners = slugs(connection, [made])
    return with_etag(multiplier_answer(made, owners[made.org_id]), "/v1/multipliers")


@get(
    "/multipliers/{multiplier_id:str}",
    operation_id="get_multiplier",
    summary="One multiplier",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(books: NamedDependency[SkipValidation[Books]], multiplier_id: Identity) -> Response[MultiplierAnswer]:
    """Show one multiplier with all its factors, past and to come."""
    with books.reading() as (connection, scope):
        found = get_multiplier(connection, scope, multiplier_id)
        owners = slugs(connection, [found])
    return with_etag(multiplier_answer(found, owners[found.org_id]))


@patch(
    "/multipliers/{multiplier_id:str}",
    operation_id="change_multiplier",
    summary="Change a multiplier",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409, 412),
    sync_to_thread=True,
)
def changed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    multiplier_id: Identity,
    data: SkipValidation[MultiplierChangeInput],
    body: RawBody,
    if_match: IfMatch = None,
) -> Response[MultiplierAnswer]:
    """Change what is named and leave the rest. Another factor ends the standing one where it begins."""
    wanted, version = read(body, MultiplierChangeBody).change(), expected_version(if_match)
    with books.writing() as (connection, scope):
        require_own(scope, get_multiplier(connection, scope, multiplier_id))
        made = change_multiplier(connection, scope, multiplier_id, wanted, expected_version=version)
        owners = slugs(connection, [made])
    return with_etag(multiplier_answer(made, owners[made.org_id]))


@delete(
    "/multipliers/{multiplier_id:str}",
    operation_id="delete_multiplier",
    summary="End a multiplier",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 412),
    sync_to_thread=True,
)
def deleted(books: NamedDependency[SkipValidation[Books]], multiplier_id: Identity, if_match: IfMatch = None) -> None:
    """End a multiplier now; calls of its time keep its factor."""
    version = expected_version(if_match)
    with books.writing() as (connection, scope):
        require_own(scope, get_multiplier(connection, scope, multiplier_id))
        delete_multiplier(connection, scope, multiplier_id, expected_version=version)


ROUTES: tuple[Any, ...] = (listed, created, shown, changed, deleted)

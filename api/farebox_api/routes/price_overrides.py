"""Price overrides: what models cost by an administrator's word, for one organization or for everybody."""

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
    UnitName,
    expected_version,
    position,
    require_own,
    slugs,
    with_etag,
)
from farebox_api.routes.queries import Cursor, Limit, OrganizationName, named
from farebox_api.schemas.price_overrides import (
    OverrideAnswer,
    OverrideBody,
    OverrideChangeBody,
    OverrideChangeInput,
    OverrideInput,
    OverridePageAnswer,
    override_answer,
)
from farebox_ledger.store.overrides import (
    change_override,
    create_override,
    delete_override,
    get_override,
    list_overrides,
)


@get(
    "/price-overrides",
    operation_id="list_price_overrides",
    summary="List overrides",
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
    search: Annotated[str | None, named("Part of a model's name, in any case.")] = None,
    unit: UnitName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> OverridePageAnswer:
    """List overrides, oldest first: the organization's own and everybody's."""
    question = ("price-overrides", books.caller.org_slug, organization, provider, search)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_overrides(connection, scope, search=search, provider=provider, limit=limit + 1, after=after)
        owners = slugs(connection, found)
    rows, has_more = found[:limit], len(found) > limit
    return OverridePageAnswer(
        items=[override_answer(one, owners[one.org_id], unit) for one in rows],
        next_cursor=CURSORS.write(position(rows[-1]), *question) if has_more else None,
        has_more=has_more,
    )


@post(
    "/price-overrides",
    operation_id="create_price_override",
    summary="Make an override",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[OverrideInput], body: RawBody
) -> Response[OverrideAnswer]:
    """Say what a model costs; collectors price by it within seconds. Rows that are priced already stay as they are."""
    wanted = read(body, OverrideBody)
    with books.writing(wanted.organization) as (connection, scope):
        made = create_override(connection, scope, wanted.draft())
        owners = slugs(connection, [made])
    return with_etag(override_answer(made, owners[made.org_id]), "/v1/price-overrides")


@get(
    "/price-overrides/{override_id:str}",
    operation_id="get_price_override",
    summary="One override",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]], override_id: Identity, unit: UnitName = None
) -> Response[OverrideAnswer]:
    """Show one override with all its prices, past and to come."""
    with books.reading() as (connection, scope):
        found = get_override(connection, scope, override_id)
        owners = slugs(connection, [found])
    return with_etag(override_answer(found, owners[found.org_id], unit))


@patch(
    "/price-overrides/{override_id:str}",
    operation_id="change_price_override",
    summary="Change an override",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409, 412),
    sync_to_thread=True,
)
def changed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    override_id: Identity,
    data: SkipValidation[OverrideChangeInput],
    body: RawBody,
    if_match: IfMatch = None,
) -> Response[OverrideAnswer]:
    """Change what is named and leave the rest. Other prices close the standing one and open a new one."""
    wanted, version = read(body, OverrideChangeBody).change(), expected_version(if_match)
    with books.writing() as (connection, scope):
        require_own(scope, get_override(connection, scope, override_id))
        made = change_override(connection, scope, override_id, wanted, expected_version=version)
        owners = slugs(connection, [made])
    return with_etag(override_answer(made, owners[made.org_id]))


@delete(
    "/price-overrides/{override_id:str}",
    operation_id="delete_price_override",
    summary="Retire an override",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 412),
    sync_to_thread=True,
)
def deleted(books: NamedDependency[SkipValidation[Books]], override_id: Identity, if_match: IfMatch = None) -> None:
    """End an override now; calls of its time keep its price."""
    version = expected_version(if_match)
    with books.writing() as (connection, scope):
        require_own(scope, get_override(connection, scope, override_id))
        delete_override(connection, scope, override_id, expected_version=version)


ROUTES: tuple[Any, ...] = (listed, created, shown, changed, deleted)

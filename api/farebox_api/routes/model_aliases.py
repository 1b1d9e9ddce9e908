"""Model aliases: names that stand for other models, such as Azure deployments."""

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
from farebox_api.schemas.model_aliases import (
    AliasAnswer,
    AliasChangeInput,
    AliasInput,
    AliasPageAnswer,
    alias_answer,
)
from farebox_ledger.store.aliases import (
    change_alias,
    create_alias,
    delete_alias,
    get_alias,
    list_aliases,
)


@get(
    "/model-aliases",
    operation_id="list_model_aliases",
    summary="List aliases",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    provider: Annotated[str | None, named("Provider of the calls, in any spelling.")] = None,
    search: Annotated[str | None, named("Part of the alias, in any case.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> AliasPageAnswer:
    """List aliases, oldest first: the organization's own and everybody's."""
    question = ("model-aliases", books.caller.org_slug, organization, provider, search)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_aliases(connection, scope, search=search, provider=provider, limit=limit + 1, after=after)
        owners = slugs(connection, found)
    rows, has_more = found[:limit], len(found) > limit
    return AliasPageAnswer(
        items=[alias_answer(one, owners[one.org_id]) for one in rows],
        next_cursor=CURSORS.write(position(rows[-1]), *question) if has_more else None,
        has_more=has_more,
    )


@post(
    "/model-aliases",
    operation_id="create_model_alias",
    summary="Make an alias",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[AliasInput], body: RawBody
) -> Response[AliasAnswer]:
    """Say what a name stands for; collectors know it within seconds. A price under the very name comes first."""
    wanted = read(body, AliasInput)
    with books.writing(wanted.organization) as (connection, scope):
        made = create_alias(connection, scope, wanted.draft())
        owners = slugs(connection, [made])
    return with_etag(alias_answer(made, owners[made.org_id]), "/v1/model-aliases")


@get(
    "/model-aliases/{alias_id:str}",
    operation_id="get_model_alias",
    summary="One alias",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(books: NamedDependency[SkipValidation[Books]], alias_id: Identity) -> Response[AliasAnswer]:
    """Show one alias with all its targets, past and to come."""
    with books.reading() as (connection, scope):
        found = get_alias(connection, scope, alias_id)
        owners = slugs(connection, [found])
    return with_etag(alias_answer(found, owners[found.org_id]))


@patch(
    "/model-aliases/{alias_id:str}",
    operation_id="change_model_alias",
    summary="Change an alias",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409, 412),
    sync_to_thread=True,
)
def changed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    alias_id: Identity,
    data: SkipValidation[AliasChangeInput],
    body: RawBody,
    if_match: IfMatch = None,
) -> Response[AliasAnswer]:
    """Change what is named and leave the rest. Another target ends the standing one where it begins."""
    wanted, version = read(body, AliasChangeInput).change(), expected_version(if_match)
    with books.writing() as (connection, scope):
        require_own(scope, get_alias(connection, scope, alias_id))
        made = change_alias(connection, scope, alias_id, wanted, expected_version=version)
        owners = slugs(connection, [made])
    return with_etag(alias_answer(made, owners[made.org_id]))


@delete(
    "/model-aliases/{alias_id:str}",
    operation_id="delete_model_alias",
    summary="End an alias",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 412),
    sync_to_thread=True,
)
def deleted(books: NamedDependency[SkipValidation[Books]], alias_id: Identity, if_match: IfMatch = None) -> None:
    """End an alias now; calls of its time keep what it stood for."""
    version = expected_version(if_match)
    with books.writing() as (connection, scope):
        require_own(scope, get_alias(connection, scope, alias_id))
        delete_alias(connection, scope, alias_id, expected_version=version)


ROUTES: tuple[Any, ...] = (listed, created, shown, changed, deleted)

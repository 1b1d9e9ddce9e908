"""Model configurations: models as an organization has set them up, with prices of their own where it likes."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.errors import Fault, InvalidRequest
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import (
    CURSORS,
    Identity,
    IfMatch,
    UnitName,
    expected_version,
    position,
    slugs,
    with_etag,
)
from farebox_api.routes.queries import Cursor, Limit, OrganizationName
from farebox_api.schemas.model_configs import (
    ModelConfigAnswer,
    ModelConfigBody,
    ModelConfigChangeBody,
    ModelConfigChangeInput,
    ModelConfigInput,
    ModelConfigPageAnswer,
    model_config_answer,
)
from farebox_ledger.store.model_configs import (
    change_model_config,
    create_model_config,
    delete_model_config,
    get_model_config,
    list_model_configs,
)
from farebox_ledger.store.scope import OrgScope


@get(
    "/model-configs",
    operation_id="list_model_configs",
    summary="List model configurations",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    unit: UnitName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ModelConfigPageAnswer:
    """List the configurations that the key sees, oldest first."""
    question = ("model-configs", books.caller.org_slug, organization)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_model_configs(connection, scope, limit=limit + 1, after=after)
        owners = slugs(connection, found)
    rows, has_more = found[:limit], len(found) > limit
    return ModelConfigPageAnswer(
        items=[model_config_answer(one, owners[one.org_id], unit) for one in rows],
        next_cursor=CURSORS.write(position(rows[-1]), *question) if has_more else None,
        has_more=has_more,
    )


@post(
    "/model-configs",
    operation_id="create_model_config",
    summary="Make a model configuration",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[ModelConfigInput], body: RawBody
) -> Response[ModelConfigAnswer]:
    """Make a configuration; calls from now on belong to it. With prices it brings an override of its model."""
    wanted = read(body, ModelConfigBody)
    with books.writing(wanted.organization) as (connection, scope):
        if not isinstance(scope, OrgScope):
            raise InvalidRequest(Fault("a system key has to say whose configuration it is", pointer="/organization"))
        made = create_model_config(connection, scope, wanted.draft())
        owners = slugs(connection, [made])
    return with_etag(model_config_answer(made, owners[made.org_id]), "/v1/model-configs")


@get(
    "/model-configs/{config_id:str}",
    operation_id="get_model_config",
    summary="One model configuration",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]], config_id: Identity, unit: UnitName = None
) -> Response[ModelConfigAnswer]:
    """Show one configuration with its prices as they hold now."""
    with books.reading() as (connection, scope):
        found = get_model_config(connection, scope, config_id)
        owners = slugs(connection, [found])
    return with_etag(model_config_answer(found, owners[found.org_id], unit))


@patch(
    "/model-configs/{config_id:str}",
    operation_id="change_model_config",
    summary="Change a model configuration",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 409, 412),
    sync_to_thread=True,
)
def changed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    config_id: Identity,
    data: SkipValidation[ModelConfigChangeInput],
    body: RawBody,
    if_match: IfMatch = None,
) -> Response[ModelConfigAnswer]:
    """Change what is named and leave the rest. Other prices are dated, as those of an override are."""
    wanted, version = read(body, ModelConfigChangeBody).change(), expected_version(if_match)
    with books.writing() as (connection, scope):
        made = change_model_config(connection, scope, config_id, wanted, expected_version=version)
        owners = slugs(connection, [made])
    return with_etag(model_config_answer(made, owners[made.org_id]))


@delete(
    "/model-configs/{config_id:str}",
    operation_id="delete_model_config",
    summary="Delete a model configuration",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404, 412),
    sync_to_thread=True,
)
def deleted(books: NamedDependency[SkipValidation[Books]], config_id: Identity, if_match: IfMatch = None) -> None:
    """Delete a configuration and retire the prices that it brought; rows keep its id."""
    version = expected_version(if_match)
    with books.writing() as (connection, scope):
        delete_model_config(connection, scope, config_id, expected_version=version)


ROUTES: tuple[Any, ...] = (listed, created, shown, changed, deleted)

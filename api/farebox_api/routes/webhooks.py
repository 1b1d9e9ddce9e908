"""Webhooks: who is told of what happens, a message to try them, and the log of messages."""

from __future__ import annotations

import time
from typing import Annotated, Any

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter, RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.conditional import NOT_MODIFIED, IfNoneMatch, unless_held
from farebox_api.errors import Forbidden
from farebox_api.idempotency import SHOWN_ONCE
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import (
    CURSORS,
    Identity,
    IfMatch,
    expected_version,
    position,
    slugs,
    with_etag,
)
from farebox_api.routes.queries import Cursor, Limit, OrganizationName
from farebox_api.schemas.webhooks import (
    DeliveryAnswer,
    DeliveryPageAnswer,
    NewWebhookAnswer,
    WebhookAnswer,
    WebhookChangeInput,
    WebhookInput,
    WebhookPageAnswer,
    delivery_answer,
    new_webhook_answer,
    webhook_answer,
)
from farebox_ledger.store.budget_tables import DeliveryStatus
from farebox_ledger.store.webhook_deliveries import list_deliveries, ping
from farebox_ledger.store.webhooks import (
    change_webhook,
    create_webhook,
    delete_webhook,
    get_webhook,
    list_webhooks,
)


@get(
    "/webhooks",
    operation_id="list_webhooks",
    summary="List webhooks",
    tags=["webhooks"],
    guards=[requires("budgets:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> WebhookPageAnswer:
    """List webhooks, oldest first: an organization's own, for a system key all."""
    question = ("webhooks", books.caller.org_slug, organization)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_webhooks(connection, scope, limit=limit + 1, after=after)
        owners = slugs(connection, found)
    rows, has_more = found[:limit], len(found) > limit
    return WebhookPageAnswer(
        items=[webhook_answer(one, owners[one.org_id]) for one in rows],
        next_cursor=CURSORS.write(position(rows[-1]), *question) if has_more else None,
        has_more=has_more,
    )


@post(
    "/webhooks",
    operation_id="create_webhook",
    summary="Make a webhook",
    tags=["webhooks"],
    opt={SHOWN_ONCE: True},
    guards=[requires("budgets:write")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[WebhookInput], body: RawBody
) -> Response[NewWebhookAnswer]:
    """Have an address told what happens. The answer shows the secret that signs the messages, this once."""
    wanted = read(body, WebhookInput)
    if wanted.allow_private and not books.caller.is_system:
        raise Forbidden("Only a system key lets messages into private networks.")
    with books.writing(wanted.organization) as (connection, scope):
        made = create_webhook(connection, scope, wanted.draft())
        owners = slugs(connection, [made.webhook])
    return with_etag(new_webhook_answer(made, owners[made.webhook.org_id]), "/v1/webhooks")


@get(
    "/webhooks/{webhook_id:str}",
    operation_id="get_webhook",
    summary="One webhook",
    tags=["webhooks"],
    guards=[requires("budgets:read")],
    responses=NOT_MODIFIED | problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]], webhook_id: Identity, if_none_match: IfNoneMatch = None
) -> Response[WebhookAnswer]:
    """Show one webhook, without its secret."""
    with books.reading() as (connection, scope):
        found = get_webhook(connection, scope, webhook_id)
        owners = slugs(connection, [found])
    return unless_held(with_etag(webhook_answer(found, owners[found.org_id])), if_none_match)


@patch(
    "/webhooks/{webhook_id:str}",
    operation_id="change_webhook",
    summary="Change a webhook",
    tags=["webhooks"],
    guards=[requires("budgets:write")],
    responses=problem_responses(400, 401, 403, 404, 412),
    sync_to_thread=True,
)
def changed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    webhook_id: Identity,
    data: SkipValidation[WebhookChangeInput],
    body: RawBody,
    if_match: IfMatch = None,
) -> Response[WebhookAnswer]:
    """Change what is named and leave the rest. A webhook that may be in a private network is a system key's alone."""
    wanted, version = read(body, WebhookChangeInput).change(), expected_version(if_match)
    with books.writing() as (connection, scope):
        if get_webhook(connection, scope, webhook_id).allow_private and not books.caller.is_system:
            raise Forbidden("Only a system key changes a webhook that may be in a private network.")
        made = change_webhook(connection, scope, webhook_id, wanted, expected_version=version)
        owners = slugs(connection, [made])
    return with_etag(webhook_answer(made, owners[made.org_id]))


@delete(
    "/webhooks/{webhook_id:str}",
    operation_id="delete_webhook",
    summary="Delete a webhook",
    tags=["webhooks"],
    guards=[requires("budgets:write")],
    responses=problem_responses(400, 401, 403, 404, 412),
    sync_to_thread=True,
)
def deleted(books: NamedDependency[SkipValidation[Books]], webhook_id: Identity, if_match: IfMatch = None) -> None:
    """Tell an address no more; messages that wait for it are given up."""
    version = expected_version(if_match)
    with books.writing() as (connection, scope):
        delete_webhook(connection, scope, webhook_id, expected_version=version)


@post(
    "/webhooks/{webhook_id:str}/ping",
    operation_id="ping_webhook",
    summary="Try a webhook",
    tags=["webhooks"],
    guards=[requires("budgets:write")],
    status_code=202,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def pinged(books: NamedDependency[SkipValidation[Books]], webhook_id: Identity) -> DeliveryAnswer:
    """Put a message `webhook.ping` on its way, which a worker sends within half a minute; the log shows its fate."""
    with books.writing() as (connection, scope):
        webhook = get_webhook(connection, scope, webhook_id)
        sent = ping(connection, webhook, now_us=time.time_ns() // 1000)
    return delivery_answer(sent)


@get(
    "/webhooks/{webhook_id:str}/deliveries",
    operation_id="list_webhook_deliveries",
    summary="Messages to a webhook",
    tags=["webhooks"],
    guards=[requires("budgets:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def deliveries(
    *,
    books: NamedDependency[SkipValidation[Books]],
    webhook_id: Identity,
    status: Annotated[DeliveryStatus | None, QueryParameter(description="What became of them.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> DeliveryPageAnswer:
    """List the messages of the last 30 days, newest first, with what became of them."""
    question = ("deliveries", books.caller.org_slug, webhook_id, status)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading() as (connection, scope):
        webhook = get_webhook(connection, scope, webhook_id)
        found = list_deliveries(connection, scope, webhook, status=status, limit=limit + 1, after=after)
    rows, has_more = found[:limit], len(found) > limit
    return DeliveryPageAnswer(
        items=[delivery_answer(one) for one in rows],
        next_cursor=CURSORS.write((rows[-1].created_at_us, rows[-1].id), *question) if has_more else None,
        has_more=has_more,
    )


ROUTES: tuple[Any, ...] = (listed, created, shown, changed, deleted, pinged, deliveries)

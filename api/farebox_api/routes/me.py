"""What the holder of a key has used: the rows that were sent with this very key."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.paging import CursorCodec
from farebox_api.parameters import time_range_us
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import Cursor, End, Limit, Start, named
from farebox_api.routes.usage import page_answer
from farebox_api.schemas.usage import UsagePageAnswer
from farebox_ledger.store.querying import RowKey, UsageFilter, list_usage
from farebox_ledger.usage import CallStatus

CURSORS = CursorCodec[RowKey](tuple[int, bytes])


@get(
    "/me/usage",
    operation_id="list_own_usage",
    summary="Own usage",
    tags=["usage"],
    guards=[requires("usage:read:own", "usage:read")],
    responses=problem_responses(400, 401, 403),
    sync_to_thread=True,
)
def own(
    *,
    books: NamedDependency[SkipValidation[Books]],
    project: Annotated[str | None, named("Project.")] = None,
    provider: Annotated[str | None, named("Provider.")] = None,
    model: Annotated[str | None, named("Model as billed.")] = None,
    service: Annotated[str | None, named("Service.")] = None,
    status: Annotated[CallStatus | None, QueryParameter(description="How the call ended.")] = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> UsagePageAnswer:
    """List the rows that came in with the key of this request, as spans or told, newest first.

    A key belongs to an organization and to no user, so its holder is whoever sends with it: a key with the scopes
    `ingest` and `usage:read:own` sees what it sent and nothing else.
    """
    start_us, end_us = time_range_us(start, end)
    asked = UsageFilter(
        key=books.caller.key_id,
        project=project,
        provider=provider,
        model=model,
        service=service,
        status=status,
        start_us=start_us,
        end_us=end_us,
    )
    question = ("me/usage", asked.key, project, provider, model, service, status, start_us, end_us)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading() as (connection, scope):
        page = list_usage(connection, scope, asked, limit=limit, after=after)
        return page_answer(connection, page, lambda position: CURSORS.write(position, *question))


ROUTES: tuple[Any, ...] = (own,)

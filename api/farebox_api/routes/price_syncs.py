"""Price syncs: started, looked at with what they change, approved."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation
from sqlalchemy import Engine

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.errors import Forbidden
from farebox_api.paging import CursorCodec
from farebox_api.price_syncing import PriceSyncing
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import Identity
from farebox_api.routes.queries import Cursor, Limit
from farebox_api.schemas.price_syncs import (
    SyncAnswer,
    SyncInput,
    SyncPageAnswer,
    SyncWithDiffAnswer,
    sync_answer,
    sync_with_diff_answer,
)
from farebox_ledger.price_sync import approve_sync, checked_source
from farebox_ledger.store.price_syncs import get_sync, list_syncs

CURSORS = CursorCodec(tuple[int, str])


@get(
    "/price-syncs",
    operation_id="list_price_syncs",
    summary="List price syncs",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403),
    sync_to_thread=True,
)
def listed(books: NamedDependency[SkipValidation[Books]], limit: Limit = 50, cursor: Cursor = None) -> SyncPageAnswer:
    """List syncs, newest first: failed ones and those that changed nothing among them."""
    after = None if cursor is None else CURSORS.read(cursor, "price-syncs")
    with books.reading() as (connection, _):
        found = list_syncs(connection, limit=limit + 1, after=after)
    rows, has_more = found[:limit], len(found) > limit
    last = (rows[-1].requested_at_us, rows[-1].id) if has_more else None
    return SyncPageAnswer(
        items=[sync_answer(sync) for sync in rows],
        next_cursor=CURSORS.write(last, "price-syncs") if last is not None else None,
        has_more=has_more,
    )


@post(
    "/price-syncs",
    operation_id="start_price_sync",
    summary="Start a price sync",
    tags=["price administration"],
    guards=[requires("prices:write")],
    status_code=202,
    responses=problem_responses(400, 401, 403, 409),
    sync_to_thread=True,
)
def started(
    books: NamedDependency[SkipValidation[Books]],
    syncing: NamedDependency[SkipValidation[PriceSyncing]],
    body: RawBody,
    data: SkipValidation[SyncInput | None] = None,
) -> Response[SyncAnswer]:
    """Begin to sync with LiteLLM's price file, at the address of the settings; takes a system key.

    The answer is the sync as it begins; its own address tells how it went.
    """
    checked_source(read(body or b"{}", SyncInput).source)
    _require_system(books)
    with books.acting():
        sync = syncing.start()
    return Response(sync_answer(sync), status_code=202, headers={"Location": f"/v1/price-syncs/{sync.id}"})


@get(
    "/price-syncs/{sync_id:str}",
    operation_id="get_price_sync",
    summary="One price sync",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(books: NamedDependency[SkipValidation[Books]], sync_id: Identity) -> SyncWithDiffAnswer:
    """Show one sync with all that it changes."""
    with books.reading() as (connection, _):
        return sync_with_diff_answer(get_sync(connection, sync_id))


@post(
    "/price-syncs/{sync_id:str}/approve",
    operation_id="approve_price_sync",
    summary="Approve a price sync",
    tags=["price administration"],
    guards=[requires("prices:write")],
    status_code=200,
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def approved(
    books: NamedDependency[SkipValidation[Books]], engine: NamedDependency[SkipValidation[Engine]], sync_id: Identity
) -> SyncWithDiffAnswer:
    """Apply a sync that waits because it removes much or moves prices far; takes a system key."""
    _require_system(books)
    with books.acting():
        return sync_with_diff_answer(approve_sync(engine, sync_id))


def _require_system(books: Books) -> None:
    if not books.caller.is_system:
        raise Forbidden("The catalog is everybody's; only a system key syncs it.")


ROUTES: tuple[Any, ...] = (listed, started, shown, approved)

"""The quarantine: spans that could not be booked as they came are listed, replayed and deleted.

A replay is only asked for here; a collector books it within seconds (ADR 010).
"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter, RawBody, SkipValidation
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.paging import CursorCodec
from farebox_api.parameters import TRACE_ID_PATTERN, time_range_us, trace_id
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import Cursor, End, Limit, OrganizationName, Start
from farebox_api.schemas.quarantine import (
    QuarantinedAnswer,
    QuarantinePageAnswer,
    ReplayInput,
    quarantined_answer,
)
from farebox_ledger.errors import NotFound
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.quarantine import (
    QuarantinedSpan,
    QuarantineFilter,
    QuarantineReason,
    QuarantineState,
    delete_quarantined,
    list_quarantined,
    quarantined_span,
    request_replay,
)

CURSORS = CursorCodec(tuple[int, bytes])

QuarantinePath = Annotated[str, PathParameter(description="The span's id in the quarantine.", max_length=64)]


@get(
    "/quarantine",
    operation_id="list_quarantine",
    summary="List quarantined spans",
    tags=["quarantine"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    reason: Annotated[QuarantineReason | None, QueryParameter(description="Why they were set aside.")] = None,
    in_state: Annotated[
        QuarantineState | None, QueryParameter(name="state", description="What has become of them.")
    ] = None,
    of_trace: Annotated[
        str | None,
        QueryParameter(
            name="trace_id",
            min_length=32,
            max_length=32,
            schema_extra={"pattern": TRACE_ID_PATTERN},
            description="Trace id as the span says, 32 hex digits.",
        ),
    ] = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> QuarantinePageAnswer:
    """List spans that could not be booked as they came, the newest arrival first."""
    start_us, end_us = time_range_us(start, end)
    asked_trace = trace_id("trace_id", of_trace)
    wanted = QuarantineFilter(reason=reason, state=in_state, trace_id=asked_trace, start_us=start_us, end_us=end_us)
    question = ("quarantine", books.caller.org_slug, organization, reason, in_state, of_trace, start_us, end_us)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_quarantined(connection, scope, wanted, limit=limit + 1, after=after)
        rows, has_more = found[:limit], len(found) > limit
        items = _answers(connection, rows)
    next_cursor = CURSORS.write((rows[-1].received_at_us, rows[-1].quarantine_id), *question) if has_more else None
    return QuarantinePageAnswer(items=items, next_cursor=next_cursor, has_more=has_more)


@get(
    "/quarantine/{quarantine_id:str}",
    operation_id="get_quarantined_span",
    summary="One quarantined span",
    tags=["quarantine"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(books: NamedDependency[SkipValidation[Books]], quarantine_id: QuarantinePath) -> QuarantinedAnswer:
    """Show one span, and how its replay ended."""
    with books.reading() as (connection, scope):
        found = quarantined_span(connection, scope, _identity(quarantine_id))
        return _answers(connection, [found])[0]


@post(
    "/quarantine/{quarantine_id:str}/replay",
    operation_id="replay_quarantined_span",
    summary="Replay a quarantined span",
    tags=["quarantine"],
    guards=[requires("admin")],
    status_code=202,
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def replayed(
    books: NamedDependency[SkipValidation[Books]],
    quarantine_id: QuarantinePath,
    body: RawBody,
    data: SkipValidation[ReplayInput | None] = None,
) -> Response[QuarantinedAnswer]:
    """Ask that a span be booked, by a collector, within seconds; `state` says later how that ended.

    A span without valid ids gets ids made of its content; a call whose time is not to be believed needs `occurred_at`.
    What has been booked stays as it is, however often it is asked for.
    """
    stated_end_us = read(body or b"{}", ReplayInput).stated_end_us()
    with books.writing() as (connection, scope):
        asked = request_replay(connection, scope, _identity(quarantine_id), stated_end_us=stated_end_us)
        answer = _answers(connection, [asked])[0]
    return Response(answer, headers={"Location": f"/v1/quarantine/{answer.id}"})


@delete(
    "/quarantine/{quarantine_id:str}",
    operation_id="delete_quarantined_span",
    summary="Delete a quarantined span",
    tags=["quarantine"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def deleted(books: NamedDependency[SkipValidation[Books]], quarantine_id: QuarantinePath) -> None:
    """Forget a span for good. A usage row that a replay has made of it stays."""
    with books.writing() as (connection, scope):
        delete_quarantined(connection, scope, _identity(quarantine_id))


def _identity(text: str) -> bytes:
    """Read an id; what has another form cannot exist.

    Raises:
        NotFound: it has another form.
    """
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise NotFound("quarantined span", text) from None


def _answers(connection: Connection, found: list[QuarantinedSpan]) -> list[QuarantinedAnswer]:
    owners = organizations_by_id(connection, {one.org_id for one in found})
    return [quarantined_answer(one, owners[one.org_id].slug) for one in found]


ROUTES: tuple[Any, ...] = (listed, shown, replayed, deleted)

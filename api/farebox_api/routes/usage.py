"""Usage rows: the list, one row, and one row's charge explained."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import PathParameter, SkipValidation
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.paging import CursorCodec
from farebox_api.parameters import usage_id
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import Cursor, Limit, OrganizationName
from farebox_api.routes.usage_filters import usage_filter
from farebox_api.schemas.usage import (
    ExplanationAnswer,
    UsageAnswer,
    UsagePageAnswer,
    explanation_answer,
    usage_answer,
)
from farebox_api.schemas.values import timestamp, usage_id_text
from farebox_ledger.errors import NotFound
from farebox_ledger.pricing.quoting import encode_quote
from farebox_ledger.store.model_configs import model_config_names
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.querying import (
    ChargeVersion,
    RowKey,
    UsageFilter,
    UsagePage,
    UsageRow,
    charge_versions,
    list_usage,
    usage_row,
)
from farebox_ledger.store.scope import OrgScope, Scope
from farebox_ledger.store.timeline import nearby_days

CURSORS = CursorCodec[RowKey](tuple[int, bytes])

UsageIdPath = Annotated[
    str, PathParameter(name="usage_id", description="The row's id, `YYYYMMDD-<32 hex digits>`.", max_length=64)
]


@get(
    "/usage",
    operation_id="list_usage",
    summary="List usage rows",
    tags=["usage"],
    guards=[requires("usage:read")],
    dependencies={"asked": Provide(usage_filter, sync_to_thread=False)},
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    books: NamedDependency[SkipValidation[Books]],
    asked: NamedDependency[SkipValidation[UsageFilter]],
    organization: OrganizationName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> UsagePageAnswer:
    """List the rows that the filter chooses, newest first.

    The list is stable: a walk through its pages meets every row that stood at its begin exactly once. A filter that no
    index serves looks at a bounded number of rows a request; such a page says `scanned_until` and goes on.
    """
    question = ("usage", books.caller.org_slug, organization, _comparable(asked))
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        page = list_usage(connection, scope, asked, limit=limit, after=after)
        return page_answer(connection, page, lambda position: CURSORS.write(position, *question))


@get(
    "/usage/{usage_id:str}",
    operation_id="get_usage",
    summary="One usage row",
    tags=["usage"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]],
    row_id: UsageIdPath,
) -> UsageAnswer:
    """Show one row."""
    with books.reading() as (connection, scope):
        return usage_answers(connection, [_row(connection, scope, row_id)])[0]


@get(
    "/usage/{usage_id:str}/charge",
    operation_id="explain_charge",
    summary="One row's charge, explained",
    tags=["usage"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def explained(
    books: NamedDependency[SkipValidation[Books]],
    row_id: UsageIdPath,
) -> Response[ExplanationAnswer]:
    """Explain what a row costs: its lines, the price that won and those that lost, and every charge it had before."""
    with books.reading() as (connection, scope):
        row = _row(connection, scope, row_id)
        replaced = charge_versions(connection, scope, row.event.org_id, row.day, row.usage_id)
        slug = _slugs(connection, [row])[row.event.org_id]
        answer = explanation_answer(row, slug, replaced, _covering_ids(connection, row, replaced))
    written = encode_quote(answer)
    return Response(written, media_type=MediaType.JSON)  # type: ignore[arg-type]  # the bytes of the declared answer


def _row(connection: Connection, scope: Scope, text: str) -> UsageRow:
    key = usage_id(text)
    row = None if key is None else usage_row(connection, scope, *key)
    if row is None:
        raise NotFound("usage row", text)
    return row


def page_answer(connection: Connection, page: UsagePage, cursor: Callable[[RowKey], str]) -> UsagePageAnswer:
    """Write one page of a list; `cursor` writes where the next one goes on."""
    return UsagePageAnswer(
        items=usage_answers(connection, page.rows),
        next_cursor=None if page.next_after is None else cursor(page.next_after),
        has_more=page.has_more,
        scanned_until=msgspec.UNSET if page.scanned_until_us is None else timestamp(page.scanned_until_us),
    )


def usage_answers(connection: Connection, rows: Collection[UsageRow]) -> list[UsageAnswer]:
    """Write rows with the slugs of their organizations and the names of their model configurations."""
    slugs = _slugs(connection, rows)
    configs = model_config_names(
        connection, {(row.event.org_id, row.event.model_config) for row in rows if row.event.model_config}
    )
    return [
        usage_answer(row, slugs[row.event.org_id], configs.get((row.event.org_id, row.event.model_config or "")))
        for row in rows
    ]


def _slugs(connection: Connection, rows: Collection[UsageRow]) -> dict[int, str]:
    found = organizations_by_id(connection, {row.event.org_id for row in rows})
    return {org_id: organization.slug for org_id, organization in found.items()}


def _covering_ids(connection: Connection, row: UsageRow, replaced: list[ChargeVersion]) -> dict[bytes, str]:
    """Find the days of the rows that bill the call instead: spans of one trace lie within a day of each other."""
    covering = {charge.covered_by for charge in (row.charge, *(old.charge for old in replaced)) if charge.covered_by}
    own = OrgScope(row.event.org_id)
    return {
        identity: usage_id_text(day, identity)
        for identity in covering
        for day in nearby_days(row.day)
        if usage_row(connection, own, day, identity) is not None
    }


def _comparable(asked: UsageFilter) -> dict[str, str | None]:
    """Write a filter so that equal filters are equal texts."""
    return {name: None if value is None else repr(value) for name, value in msgspec.structs.asdict(asked).items()}


ROUTES: tuple[Any, ...] = (listed, shown, explained)

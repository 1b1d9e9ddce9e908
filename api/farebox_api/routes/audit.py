"""The audit log: who changed what, newest first."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.paging import CursorCodec
from farebox_api.parameters import time_range_us
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import Cursor, End, Limit, OrganizationName, Start, named
from farebox_api.schemas.audit import AuditPageAnswer, entry_answer
from farebox_ledger.store.audit import EntryFilter, list_entries
from farebox_ledger.store.organizations import organizations_by_id

CURSORS = CursorCodec(tuple[int, str])


@get(
    "/audit-log",
    operation_id="list_audit_log",
    summary="Who changed what",
    tags=["administration"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    actor: Annotated[str | None, named("Id of the key, or user of the command.")] = None,
    action: Annotated[str | None, named("Action, such as price_override.change.")] = None,
    object_kind: Annotated[str | None, named("Kind of the changed thing, such as price_override.")] = None,
    object_id: Annotated[str | None, named("Id of the changed thing.")] = None,
    request_id: Annotated[str | None, named("X-Request-Id of the request that made the change.")] = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> AuditPageAnswer:
    """List what was changed by the API, by commands and by the system. Entries are never changed or deleted."""
    start_us, end_us = time_range_us(start, end)
    asked = EntryFilter(
        actor=actor,
        action=action,
        object_kind=object_kind,
        object_id=object_id,
        request_id=request_id,
        start_us=start_us,
        end_us=end_us,
    )
    question = ("audit-log", books.caller.org_slug, organization, asked)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_entries(connection, scope, asked, limit=limit + 1, after=after)
        owners = organizations_by_id(connection, {entry.org_id for entry in found})
    rows, has_more = found[:limit], len(found) > limit
    slugs = {org_id: owner.slug for org_id, owner in owners.items()}
    last = rows[-1] if has_more else None
    return AuditPageAnswer(
        items=[entry_answer(entry, slugs.get(entry.org_id)) for entry in rows],
        next_cursor=None if last is None else CURSORS.write((last.at_us, last.id), *question),
        has_more=has_more,
    )


ROUTES: tuple[Any, ...] = (listed,)

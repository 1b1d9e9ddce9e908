"""Alerts: the thresholds of budgets that were reached."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.paging import CursorCodec
from farebox_api.parameters import time_range_us
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import Identity
from farebox_api.routes.queries import Cursor, End, Limit, OrganizationName, Start, named
from farebox_api.schemas.alerts import AlertAnswer, AlertPageAnswer, alert_answer
from farebox_ledger.store.budget_alerts import Alert, AlertFilter, acknowledge, get_alert, list_alerts
from farebox_ledger.store.budget_tables import ThresholdKind
from farebox_ledger.store.organizations import organizations_by_id

CURSORS = CursorCodec(tuple[int, str])


@get(
    "/alerts",
    operation_id="list_alerts",
    summary="List alerts",
    tags=["budgets"],
    guards=[requires("budgets:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    budget: Annotated[str | None, named("Id of a budget.")] = None,
    kind: Annotated[ThresholdKind | None, QueryParameter(description="Warnings (soft) or refusals (hard).")] = None,
    acknowledged: Annotated[bool | None, QueryParameter(description="Whether somebody has seen them.")] = None,
    resolved: Annotated[bool | None, QueryParameter(description="Whether they hold no more.")] = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> AlertPageAnswer:
    """List alerts, newest first; the range goes by `fired_at`."""
    start_us, end_us = time_range_us(start, end)
    asked = AlertFilter(
        budget_id=budget,
        kind=kind,
        is_acknowledged=acknowledged,
        is_resolved=resolved,
        start_us=start_us,
        end_us=end_us,
    )
    question = ("alerts", books.caller.org_slug, organization, asked)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_alerts(connection, scope, asked, limit=limit + 1, after=after)
        owners = _slugs(connection, found)
    rows, has_more = found[:limit], len(found) > limit
    return AlertPageAnswer(
        items=[alert_answer(one, owners.get(one.org_id)) for one in rows],
        next_cursor=CURSORS.write((rows[-1].fired_at_us, rows[-1].id), *question) if has_more else None,
        has_more=has_more,
    )


@get(
    "/alerts/{alert_id:str}",
    operation_id="get_alert",
    summary="One alert",
    tags=["budgets"],
    guards=[requires("budgets:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(books: NamedDependency[SkipValidation[Books]], alert_id: Identity) -> AlertAnswer:
    """Show one alert."""
    with books.reading() as (connection, scope):
        found = get_alert(connection, scope, alert_id)
        return alert_answer(found, _slugs(connection, [found]).get(found.org_id))


@post(
    "/alerts/{alert_id:str}/acknowledge",
    operation_id="acknowledge_alert",
    summary="Acknowledge an alert",
    tags=["budgets"],
    guards=[requires("budgets:write")],
    status_code=200,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def acknowledged_by(books: NamedDependency[SkipValidation[Books]], alert_id: Identity) -> AlertAnswer:
    """Note that the key's holder has seen an alert; who was first stays."""
    with books.writing() as (connection, scope):
        found = acknowledge(connection, scope, alert_id, books.caller.key_id)
        return alert_answer(found, _slugs(connection, [found]).get(found.org_id))


def _slugs(connection: Connection, alerts: Iterable[Alert]) -> dict[int, str]:
    owners = organizations_by_id(connection, {alert.org_id for alert in alerts})
    return {org_id: one.slug for org_id, one in owners.items()}


ROUTES: tuple[Any, ...] = (listed, shown, acknowledged_by)

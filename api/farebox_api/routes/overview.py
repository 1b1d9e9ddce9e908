"""What an administrator looks at first: what was spent today, this month and before, and what waits for a price."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation
from msgspec import structs
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import OrganizationName
from farebox_api.schemas.price_syncs import SyncAnswer, sync_answer
from farebox_api.schemas.summaries import (
    GroupAnswer,
    MonthTotalsAnswer,
    OverviewAnswer,
    TotalsAnswer,
    WindowAnswer,
    group_answer,
    totals,
)
from farebox_api.schemas.values import month_text, optional_timestamp, timestamp
from farebox_ledger.store.filtering import UsageFilter
from farebox_ledger.store.price_syncs import list_syncs
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.summaries import SummaryQuery, summarize
from farebox_ledger.store.timeline import DAY_US, day_start_us, month_days
from farebox_ledger.usage import day_of

MAX_DAYS: Final = 366


@get(
    "/overview",
    operation_id="get_overview",
    summary="What was spent, and what waits for a price",
    tags=["summaries"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def overview(
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    days: Annotated[int, QueryParameter(ge=1, le=MAX_DAYS, description="Length of the window, today included.")] = 30,
) -> OverviewAnswer:
    """Sum up today, this month, the last one and a window of days, all in UTC, beside the state of the prices."""
    today_us = time.time_ns() // 1000 // DAY_US * DAY_US
    month = day_of(today_us) // 100
    with books.reading(organization) as (connection, scope):
        unpriced = summarize(
            connection,
            scope,
            SummaryQuery(filter=UsageFilter(billing_status="unpriced"), group_by=("provider", "model")),
        ).groups
        return OverviewAnswer(
            organization=organization or books.caller.org_slug,
            today=TotalsAnswer(**_totals(connection, scope, today_us, today_us + DAY_US)),
            this_month=_month(connection, scope, month),
            last_month=_month(connection, scope, _month_before(month)),
            window=_window(connection, scope, today_us, days),
            unpriced_rows=sum(group.requests for group in unpriced),
            unpriced_models=len({tuple(group.dimensions.values()) for group in unpriced}),
            last_sync=_last_sync(connection),
        )


def _last_sync(connection: Connection) -> SyncAnswer | None:
    newest = list_syncs(connection, limit=1)
    return sync_answer(newest[0]) if newest else None


def _month(connection: Connection, scope: Scope, month: int) -> MonthTotalsAnswer:
    first, following = month_days(month)
    sums = _totals(connection, scope, day_start_us(first), day_start_us(following))
    return MonthTotalsAnswer(month=month_text(month), **sums)


def _window(connection: Connection, scope: Scope, today_us: int, days: int) -> WindowAnswer:
    start_us, end_us = today_us - (days - 1) * DAY_US, today_us + DAY_US

    def parts(dimension: str) -> list[GroupAnswer]:
        query = SummaryQuery(start_us=start_us, end_us=end_us, group_by=(dimension,))
        groups = summarize(connection, scope, query).groups
        return [_with_a_name(group_answer(group), dimension) for group in groups]

    return WindowAnswer(
        days=days,
        by_provider=parts("provider"),
        by_service=parts("service"),
        **_totals(connection, scope, start_us, end_us),
    )


def _totals(connection: Connection, scope: Scope, start_us: int, end_us: int) -> dict[str, Any]:
    summary = summarize(connection, scope, SummaryQuery(start_us=start_us, end_us=end_us))
    return totals(
        summary.groups,
        start=timestamp(start_us),
        end=timestamp(end_us),
        is_complete=summary.is_complete,
        data_through=optional_timestamp(summary.data_through_us),
    )


def _with_a_name(group: GroupAnswer, dimension: str) -> GroupAnswer:
    return group if getattr(group, dimension) is not None else structs.replace(group, **{dimension: "unknown"})


def _month_before(month: int) -> int:
    return month - 1 if month % 100 > 1 else month - 89


ROUTES: tuple[Any, ...] = (overview,)

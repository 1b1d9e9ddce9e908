"""Sums: by any dimension and bucket, of one organization now and in all time, of one month."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.params import PathParameter, QueryParameter, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.parameters import MONTH_PATTERN, month_number, names
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import OrganizationName, OrganizationPath
from farebox_api.routes.usage_filters import usage_filter
from farebox_api.schemas.summaries import (
    MonthAnswer,
    MonthTotalsAnswer,
    OrganizationSummaryAnswer,
    SummaryAnswer,
    TotalsAnswer,
    group_answer,
    month_rest,
    totals,
)
from farebox_api.schemas.values import month_text, optional_timestamp, timestamp
from farebox_ledger.store.filtering import UsageFilter
from farebox_ledger.store.summaries import (
    Summary,
    SummaryQuery,
    month_summary,
    organization_totals,
    summarize,
)
from farebox_ledger.store.summary_cells import DIMENSIONS
from farebox_ledger.store.timeline import DAY_US, Bucket, day_start_us, month_days, zone
from farebox_ledger.usage import day_of, org_id_of

DEFAULT_GROUPS: Final = 1000
MAX_GROUPS: Final = 10_000

_FIRST_US: Final = day_start_us(20200101)
"""No row is older; what claims to be goes to quarantine (docs/operations.md)."""

GroupBy = Annotated[
    list[str] | None,
    QueryParameter(
        max_items=len(DIMENSIONS),
        description=f"Dimensions, repeated or comma separated, of {', '.join(DIMENSIONS)}. Currency is always one.",
    ),
]


@get(
    "/usage/summary",
    operation_id="summarize_usage",
    summary="Sums of usage",
    tags=["summaries"],
    guards=[requires("usage:read")],
    dependencies={"asked": Provide(usage_filter, sync_to_thread=False)},
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def summarized(
    *,
    books: NamedDependency[SkipValidation[Books]],
    asked: NamedDependency[SkipValidation[UsageFilter]],
    organization: OrganizationName = None,
    group_by: GroupBy = None,
    bucket: Annotated[
        Bucket, QueryParameter(description="Length of the buckets; they need `start` and `end`.")
    ] = "none",
    tz: Annotated[
        str, QueryParameter(min_length=1, max_length=64, description="IANA time zone that the buckets are cut in.")
    ] = "UTC",
    limit: Annotated[
        int, QueryParameter(ge=1, le=MAX_GROUPS, description=f"Most groups, {DEFAULT_GROUPS} unless told.")
    ] = DEFAULT_GROUPS,
) -> SummaryAnswer:
    """Sum up the rows that the filter chooses, a group for each combination of dimensions, bucket and currency.

    Suppressed rows count nowhere. Dimensions and filters beyond project, provider, model, service, category, billing
    status, user, key and tag are summed from rows, for at most 31 days a request. What makes more than 100,000 groups
    is refused, whatever `limit` would show of it.
    """
    zone(tz)  # refuses an unknown one also where no bucket is cut in it
    start_us, end_us = _closed(asked)
    query = SummaryQuery(
        filter=asked,
        start_us=start_us,
        end_us=end_us,
        group_by=names("group_by", group_by, DIMENSIONS),
        bucket=bucket,
        tz=tz,
        limit=limit,
    )
    with books.reading(organization) as (connection, scope):
        summary = summarize(connection, scope, query)
    return SummaryAnswer(
        groups=[group_answer(group) for group in summary.groups],
        start=optional_timestamp(asked.start_us),
        end=optional_timestamp(asked.end_us),
        is_complete=summary.is_complete,
        is_truncated=summary.is_truncated,
        data_through=optional_timestamp(summary.data_through_us),
    )


@get(
    "/organizations/{organization:str}/summary",
    operation_id="summarize_organization",
    summary="This month and all time",
    tags=["summaries"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def current(books: NamedDependency[SkipValidation[Books]], organization: OrganizationPath) -> OrganizationSummaryAnswer:
    """Sum up an organization's current month in UTC, and all time."""
    now_us = time.time_ns() // 1000
    month = day_of(now_us) // 100
    with books.reading(organization) as (connection, scope):
        found = organization_totals(connection, scope, org_id_of(organization), now_us=now_us)
    return OrganizationSummaryAnswer(
        organization,
        MonthTotalsAnswer(month=month_text(month), **_totals(found.month, *_month_range(month))),
        TotalsAnswer(**_totals(found.total, None, None)),
    )


@get(
    "/organizations/{organization:str}/months/{month:str}",
    operation_id="summarize_month",
    summary="One month and its parts",
    tags=["summaries"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def monthly(
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationPath,
    month: Annotated[str, PathParameter(description="Month in UTC, YYYY-MM.", schema_extra={"pattern": MONTH_PATTERN})],
) -> MonthAnswer:
    """Sum up one month in UTC, in all and by model, service, category and user: the 500 largest of each, and the rest.

    Months never close: late rows and new prices change the month in which the calls were made.
    """
    number = month_number("month", month)
    with books.reading(organization) as (connection, scope):
        found = month_summary(connection, scope, org_id_of(organization), number)
    start, end = _month_range(number)
    return MonthAnswer(
        organization=organization,
        month=month_text(number),
        by_model=[group_answer(group) for group in found.by_model],
        by_service=[group_answer(group) for group in found.by_service],
        by_category=[group_answer(group) for group in found.by_category],
        by_user=[group_answer(group) for group in found.by_user],
        is_truncated=bool(found.rest),
        rest=month_rest(found.rest),
        **totals(
            found.totals,
            start=start,
            end=end,
            is_complete=found.is_complete,
            data_through=optional_timestamp(found.data_through_us),
        ),
    )


def _closed(asked: UsageFilter) -> tuple[int | None, int | None]:
    """Close a range that is open on one side where no row can lie beyond: before 2020, or a day ahead of the clock."""
    if asked.start_us is None and asked.end_us is None:
        return None, None
    last_us = (time.time_ns() // 1000 // DAY_US + 3) * DAY_US
    start_us = _FIRST_US if asked.start_us is None else asked.start_us
    end_us = last_us if asked.end_us is None else asked.end_us
    if asked.start_us is None:
        return min(start_us, end_us - 1), end_us
    return start_us, max(end_us, start_us + 1)


def _totals(summary: Summary, start: str | None, end: str | None) -> dict[str, Any]:
    return totals(
        summary.groups,
        start=start,
        end=end,
        is_complete=summary.is_complete,
        data_through=optional_timestamp(summary.data_through_us),
    )


def _month_range(month: int) -> tuple[str, str]:
    first, following = month_days(month)
    return timestamp(day_start_us(first)), timestamp(day_start_us(following))


ROUTES: tuple[Any, ...] = (summarized, current, monthly)

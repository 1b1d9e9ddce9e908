"""Exports: all rows that a filter of the list chooses, as files, from one snapshot of the books."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.parquet import parquet_pieces, require_parquet
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import OrganizationName
from farebox_api.routes.usage import usage_answers
from farebox_api.routes.usage_filters import usage_filter
from farebox_api.schemas.usage import UsageAnswer
from farebox_api.streaming import streamed
from farebox_ledger.delimited import csv_line
from farebox_ledger.exports import FOCUS_COLUMNS, all_rows, focus_values
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.querying import UsageFilter, UsageRow

Item = TypeVar("Item")

CSV: Final = "text/csv"  # the framework adds the charset
NDJSON: Final = "application/x-ndjson"
PARQUET: Final = "application/vnd.apache.parquet"

_PIECE_ROWS: Final = 200
_FIELDS: Final = UsageAnswer.__struct_fields__


@get(
    "/exports/usage.csv",
    operation_id="export_usage_csv",
    summary="Usage rows as CSV",
    tags=["exports"],
    guards=[requires("export")],
    dependencies={"asked": Provide(usage_filter, sync_to_thread=False)},
    media_type=CSV,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def as_csv(
    books: NamedDependency[SkipValidation[Books]],
    asked: NamedDependency[SkipValidation[UsageFilter]],
    organization: OrganizationName = None,
) -> Response[str]:
    """Export every row of the filter, newest first, as CSV (RFC 4180, UTF-8) with the row's fields as its header.

    Money and other decimals are exact decimal text; null is an empty cell; tags, metadata and cache writes by time to
    live are JSON. Text that a spreadsheet would take for a formula has an apostrophe in front, and so has text that
    starts with an apostrophe: take one off to read it back.
    """
    return streamed(
        _csv(books, asked, organization), owner=books.caller.org_slug, media_type=CSV, file_name="usage.csv"
    )


@get(
    "/exports/usage.ndjson",
    operation_id="export_usage_ndjson",
    summary="Usage rows as JSON lines",
    tags=["exports"],
    guards=[requires("export")],
    dependencies={"asked": Provide(usage_filter, sync_to_thread=False)},
    media_type=NDJSON,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def as_ndjson(
    books: NamedDependency[SkipValidation[Books]],
    asked: NamedDependency[SkipValidation[UsageFilter]],
    organization: OrganizationName = None,
) -> Response[str]:
    """Export every row of the filter, newest first, one JSON object a line, each as the list shows it."""
    return streamed(
        _ndjson(books, asked, organization), owner=books.caller.org_slug, media_type=NDJSON, file_name="usage.ndjson"
    )


@get(
    "/exports/usage.parquet",
    operation_id="export_usage_parquet",
    summary="Usage rows as Parquet",
    tags=["exports"],
    guards=[requires("export")],
    dependencies={"asked": Provide(usage_filter, sync_to_thread=False)},
    media_type=PARQUET,
    responses=problem_responses(400, 401, 403, 404, 501),
    sync_to_thread=True,
)
def as_parquet(
    books: NamedDependency[SkipValidation[Books]],
    asked: NamedDependency[SkipValidation[UsageFilter]],
    organization: OrganizationName = None,
) -> Response[str]:
    """Export every row of the filter, newest first, as Parquet; 501 where the extra `parquet` is not installed.

    The columns are the row's fields. Money, decimals and times are text, exactly as the list writes them; metadata and
    cache writes are JSON text.
    """
    require_parquet()
    return streamed(
        _parquet(books, asked, organization), owner=books.caller.org_slug, media_type=PARQUET, file_name="usage.parquet"
    )


@get(
    "/exports/focus.csv",
    operation_id="export_focus_csv",
    summary="Costs in the FOCUS format",
    tags=["exports"],
    guards=[requires("export")],
    dependencies={"asked": Provide(usage_filter, sync_to_thread=False)},
    media_type=CSV,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def as_focus(
    books: NamedDependency[SkipValidation[Books]],
    asked: NamedDependency[SkipValidation[UsageFilter]],
    organization: OrganizationName = None,
) -> Response[str]:
    """Export what the rows of the filter cost as FOCUS 1.2, by UTC day and meter, as far as the books know it.

    The billing account is the organization, the sub-account its project, the meter what was counted, such as
    `output_tokens`. BilledCost sums to the cost of the rows exactly. Unpriced calls have cost 0 in the currency XXX
    because FOCUS takes no null there; `x_BillingStatus` says so, and `x_ConsumedTokens` what they used. Suppressed and
    not billable rows are left out.
    """
    return streamed(
        _focus(books, asked, organization), owner=books.caller.org_slug, media_type=CSV, file_name="focus.csv"
    )


def _csv(books: Books, asked: UsageFilter, organization: str | None) -> Generator[str, None, None]:
    with books.reading(organization) as (connection, scope):
        yield csv_line(_FIELDS)
        for answers in _answers(connection, all_rows(connection, scope, asked)):
            yield "".join(csv_line(getattr(answer, name) for name in _FIELDS) for answer in answers)


def _ndjson(books: Books, asked: UsageFilter, organization: str | None) -> Generator[bytes, None, None]:
    encode = msgspec.json.Encoder().encode_lines
    with books.reading(organization) as (connection, scope):
        for answers in _answers(connection, all_rows(connection, scope, asked)):
            yield encode(answers)


def _parquet(books: Books, asked: UsageFilter, organization: str | None) -> Generator[bytes, None, None]:
    with books.reading(organization) as (connection, scope):
        yield from parquet_pieces(_answers(connection, all_rows(connection, scope, asked)))


def _focus(books: Books, asked: UsageFilter, organization: str | None) -> Generator[str, None, None]:
    slugs: dict[int, str] = {}

    def slug_of(org_id: int) -> str:
        if org_id not in slugs:
            slugs[org_id] = organizations_by_id(connection, {org_id})[org_id].slug
        return slugs[org_id]

    with books.reading(organization) as (connection, scope):
        yield csv_line(FOCUS_COLUMNS)
        for records in _parts(focus_values(all_rows(connection, scope, asked), slug_of)):
            yield "".join(map(csv_line, records))


def _answers(connection: Connection, rows: Iterable[UsageRow]) -> Iterator[list[UsageAnswer]]:
    return (usage_answers(connection, part) for part in _parts(rows))


def _parts(items: Iterable[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    while part := list(islice(remaining, _PIECE_ROWS)):
        yield part


ROUTES: tuple[Any, ...] = (as_csv, as_ndjson, as_parquet, as_focus)

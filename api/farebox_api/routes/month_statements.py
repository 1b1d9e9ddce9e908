"""Statements: a month as the books stood at a moment, for whoever invoices or audits."""

from __future__ import annotations

import time
from typing import Annotated, Any

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import PathParameter, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.conditional import NOT_MODIFIED, IfNoneMatch, unless_held, with_digest
from farebox_api.parameters import MONTH_PATTERN, month_number, time_us
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import OrganizationPath, TimeText
from farebox_api.schemas.month_statements import StatementAnswer, statement_answer
from farebox_ledger.errors import InvalidInput
from farebox_ledger.store.month_statements import month_statement
from farebox_ledger.store.timeline import day_start_us, month_days
from farebox_ledger.usage import org_id_of


@get(
    "/organizations/{organization:str}/months/{month:str}/statement",
    operation_id="get_month_statement",
    summary="The statement of a month",
    tags=["summaries"],
    guards=[requires("usage:read")],
    responses=NOT_MODIFIED | problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def statement(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationPath,
    month: Annotated[str, PathParameter(description="Month in UTC, YYYY-MM.", schema_extra={"pattern": MONTH_PATTERN})],
    as_of: TimeText = None,
    if_none_match: IfNoneMatch = None,
) -> Response[StatementAnswer]:
    """State what a month in UTC had come to at a moment: the same answer however often it is asked for again.

    The month is that of usage: calls that ended in it, whenever they were received. `as_of` is the moment of knowledge:
    of these calls the ones that a collector had received by then (`received_at`), with the charges that they had then.
    Calls that came later, also of this month, and later prices are in a later statement. A call that a collector had
    received and not booked yet when the statement was first asked for is in it the next time, and the ETag another:
    ask with `If-None-Match`, and 304 says that the statement stands. Every row of the month is read, so it takes
    longer than the month's summary.
    """
    number = month_number("month", month)
    now_us = time.time_ns() // 1000
    as_of_us = now_us if as_of is None else time_us("as_of", as_of) or 0
    if as_of_us > now_us:
        raise InvalidInput("as_of", "lies in the future; a statement can be made of what has happened")
    with books.reading(organization) as (connection, scope):
        lines = month_statement(connection, scope, org_id_of(organization), number, as_of_us)
    _, following = month_days(number)
    answer = statement_answer(organization, number, as_of_us, lines, is_over=as_of_us >= day_start_us(following))
    return unless_held(with_digest(answer), if_none_match)


ROUTES: tuple[Any, ...] = (statement,)

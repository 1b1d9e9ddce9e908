"""Every movement of credit accounts, and corrections by hand."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter, RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.paging import CursorCodec
from farebox_api.parameters import time_range_us
from farebox_api.problems import problem_responses
from farebox_api.routes.credit_owners import AccountName, ProjectName, UserName, account_of, slug_of
from farebox_api.routes.queries import Cursor, End, Limit, OrganizationName, Start
from farebox_api.schemas.credits import (
    AdjustmentBody,
    AdjustmentInput,
    TransactionAnswer,
    TransactionPageAnswer,
    transaction_answer,
)
from farebox_ledger.credits import adjust
from farebox_ledger.store.credit_ledger import Transaction, TransactionFilter, list_transactions
from farebox_ledger.store.credit_tables import TransactionType
from farebox_ledger.usage import org_id_of

_TRANSACTIONS: Final = CursorCodec(tuple[int, bytes, int])
_CORRECTIONS: Final[tuple[TransactionType, ...]] = ("adjustment", "refund")


@get(
    "/credits/transactions",
    operation_id="list_credit_transactions",
    summary="List transactions",
    tags=["credits"],
    guards=[requires("credits:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def transactions(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    account: AccountName = None,
    transaction_type: Annotated[
        TransactionType | None, QueryParameter(name="type", description="Transactions of this type alone.")
    ] = None,
    user: UserName = None,
    project: ProjectName = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> TransactionPageAnswer:
    """List every movement of an organization's accounts, newest first by what it is about."""
    start_us, end_us = time_range_us(start, end)
    asked = TransactionFilter(
        account_id=account,
        types=None if transaction_type is None else (transaction_type,),
        user=user,
        project=project,
        start_us=start_us,
        end_us=end_us,
    )
    return _transactions_page(books, organization, asked, limit, cursor)


@get(
    "/credits/adjustments",
    operation_id="list_credit_adjustments",
    summary="List adjustments",
    tags=["credits"],
    guards=[requires("credits:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def adjustments(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    account: AccountName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> TransactionPageAnswer:
    """List corrections by hand and refunds, newest first."""
    asked = TransactionFilter(account_id=account, types=_CORRECTIONS)
    return _transactions_page(books, organization, asked, limit, cursor)


@post(
    "/credits/adjustments",
    operation_id="adjust_credits",
    summary="Correct an account",
    tags=["credits"],
    guards=[requires("credits:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def adjusted(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[AdjustmentInput], body: RawBody
) -> TransactionAnswer:
    """Add credits to an account or take some off, and say why. What is added can be used up as a grant can."""
    wanted = read(body, AdjustmentBody)
    slug = slug_of(books, wanted.organization)
    with books.writing(slug) as (connection, scope):
        account = account_of(connection, scope, slug, wanted)
        made, _ = adjust(connection, account, wanted.adjustment(), actor=books.caller.key_id)
    return transaction_answer(made, slug)


def _transactions_page(
    books: Books, organization: str | None, asked: TransactionFilter, limit: int, cursor: str | None
) -> TransactionPageAnswer:
    slug = slug_of(books, organization)
    before = None if cursor is None else _TRANSACTIONS.read(cursor, "transactions", slug, asked)
    with books.reading(slug) as (connection, scope):
        found = list_transactions(connection, scope, org_id_of(slug), asked, limit=limit + 1, before=before)
    rows: list[Transaction] = found[:limit]
    has_more = len(found) > limit
    return TransactionPageAnswer(
        items=[transaction_answer(one, slug) for one in rows],
        next_cursor=_TRANSACTIONS.write(rows[-1].position, "transactions", slug, asked) if has_more else None,
        has_more=has_more,
    )


ROUTES: tuple[Any, ...] = (adjustments, adjusted, transactions)

"""Credit accounts, and their balances at any moment."""

from __future__ import annotations

from typing import Any, Final

from litestar import Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.paging import CursorCodec
from farebox_api.parameters import time_us
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import Identity
from farebox_api.routes.credit_owners import AccountName, ProjectName, UserName, slug_of
from farebox_api.routes.queries import Cursor, Limit, OrganizationName, TimeText
from farebox_api.schemas.administration import now_us
from farebox_api.schemas.credits import (
    AccountAnswer,
    AccountBody,
    AccountChangeBody,
    AccountChangeInput,
    AccountInput,
    AccountPageAnswer,
    BalanceAnswer,
    BalancePageAnswer,
    account_answer,
    balance_answer,
)
from farebox_api.schemas.decimals import ratio_of
from farebox_ledger.credits import balance_of, grant_balances
from farebox_ledger.store.credit_accounts import (
    Account,
    Owner,
    create_account,
    get_account,
    list_accounts,
    set_low_balance,
)
from farebox_ledger.usage import org_id_of

_ACCOUNTS: Final = CursorCodec(tuple[int, str])


@get(
    "/credits/accounts",
    operation_id="list_credit_accounts",
    summary="List credit accounts",
    tags=["credits"],
    guards=[requires("credits:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def accounts(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    user: UserName = None,
    project: ProjectName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> AccountPageAnswer:
    """List an organization's accounts, the oldest first; `user` or `project` chooses those of one owner."""
    slug = slug_of(books, organization)
    found, has_more, next_cursor = _accounts_page(books, slug, ("accounts", user, project), limit, cursor)
    return AccountPageAnswer(
        items=[account_answer(one, slug) for one in found], next_cursor=next_cursor, has_more=has_more
    )


@post(
    "/credits/accounts",
    operation_id="create_credit_account",
    summary="Open a credit account",
    tags=["credits"],
    guards=[requires("credits:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def opened(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[AccountInput], body: RawBody
) -> Response[AccountAnswer]:
    """Open an account; calls that are booked from now on are charged to it. Owner, currency and rate never change.

    A call is charged to its user's account, else to its project's, else to the organization's, in the currency of its
    price.
    """
    wanted = read(body, AccountBody)
    slug = slug_of(books, wanted.organization)
    with books.writing(slug) as (connection, scope):
        made = create_account(
            connection,
            scope,
            org_id_of(slug),
            Owner(wanted.user, wanted.project),
            currency=wanted.currency,
            rate=ratio_of("/rate", wanted.rate),
            name=wanted.name,
            low_balance=wanted.threshold(),
        )
    return Response(account_answer(made, slug))


@patch(
    "/credits/accounts/{account_id:str}",
    operation_id="change_credit_account",
    summary="Change a credit account",
    tags=["credits"],
    guards=[requires("credits:write")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def changed(
    books: NamedDependency[SkipValidation[Books]],
    account_id: Identity,
    data: SkipValidation[AccountChangeInput],
    body: RawBody,
) -> AccountAnswer:
    """Say at which balance webhooks are told of an account, null for never; one that is there already is told anew."""
    wanted = read(body, AccountChangeBody)
    slug = slug_of(books, wanted.organization)
    with books.writing(slug) as (connection, scope):
        made = set_low_balance(connection, scope, org_id_of(slug), account_id, wanted.threshold())
    return account_answer(made, slug)


@get(
    "/credits/balance",
    operation_id="get_credit_balance",
    summary="Balances",
    tags=["credits"],
    guards=[requires("credits:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def balances(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    account: AccountName = None,
    user: UserName = None,
    project: ProjectName = None,
    as_of: TimeText = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> BalancePageAnswer:
    """Sum accounts' transactions up to a moment: one account, those of one owner, or all of an organization."""
    slug, as_of_us = slug_of(books, organization), time_us("as_of", as_of)
    if account is None:
        found, has_more, next_cursor = _accounts_page(books, slug, ("balance", user, project), limit, cursor)
    else:
        with books.reading(slug) as (connection, scope):
            found = [get_account(connection, scope, org_id_of(slug), account)]
        has_more, next_cursor = False, None
    with books.reading(slug) as (connection, _):
        items = [_balance(connection, one, slug, as_of_us) for one in found]
    return BalancePageAnswer(items=items, next_cursor=next_cursor, has_more=has_more)


def _accounts_page(
    books: Books, slug: str, question: tuple[str, str | None, str | None], limit: int, cursor: str | None
) -> tuple[list[Account], bool, str | None]:
    _, user, project = question
    after = None if cursor is None else _ACCOUNTS.read(cursor, slug, *question)
    owner = None if user is None and project is None else Owner(user, project)
    with books.reading(slug) as (connection, scope):
        found = list_accounts(connection, scope, org_id_of(slug), limit=limit + 1, after=after, owner=owner)
    rows, has_more = found[:limit], len(found) > limit
    if not has_more:
        return rows, False, None
    return rows, True, _ACCOUNTS.write((rows[-1].created_at_us, rows[-1].account_id), slug, *question)


def _balance(connection: Connection, account: Account, slug: str, as_of_us: int | None) -> BalanceAnswer:
    left, owed_pico = grant_balances(connection, account)
    return balance_answer(
        balance_of(connection, account, as_of_us=as_of_us),
        slug,
        remaining_pico=sum(one.remaining_pico for one in left if one.grant.effective_at_us <= now_us()),
        owed_pico=owed_pico,
    )


ROUTES: tuple[Any, ...] = (accounts, opened, changed, balances)

"""What was given to credit accounts and bought for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.paging import CursorCodec
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import Identity, IfMatch, expected_version
from farebox_api.routes.credit_owners import AccountName, account_of, slug_of
from farebox_api.routes.queries import Cursor, Limit, OrganizationName
from farebox_api.schemas.credits import (
    GrantAnswer,
    GrantBody,
    GrantInput,
    GrantPageAnswer,
    PurchaseBody,
    PurchaseInput,
    VoidInput,
    grant_answer,
)
from farebox_ledger.credits import (
    GrantBalance,
    grant_balances,
    grant_credits,
    purchase_hook,
    record_purchase,
    void_grant,
)
from farebox_ledger.store.credit_accounts import Account, accounts_by_id, get_account
from farebox_ledger.store.credit_grants import Grant, get_grant, grant_id_of, list_grants
from farebox_ledger.store.credit_tables import GrantKind
from farebox_ledger.usage import org_id_of

_GRANTS: Final = CursorCodec(tuple[int, bytes])


@get(
    "/credits/grants",
    operation_id="list_credit_grants",
    summary="List grants",
    tags=["credits"],
    guards=[requires("credits:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def grants(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    account: AccountName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> GrantPageAnswer:
    """List what accounts were given, of every kind, the latest first, each with what is left of it."""
    return _grants_page(books, slug_of(books, organization), account, limit, cursor)


@post(
    "/credits/grants",
    operation_id="grant_credits",
    summary="Give credits",
    tags=["credits"],
    guards=[requires("credits:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def granted(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[GrantInput], body: RawBody
) -> Response[GrantAnswer]:
    """Give credits to an account. With an `external_id` the same grant told again is done once."""
    wanted = read(body, GrantBody)
    slug = slug_of(books, wanted.organization)
    with books.writing(slug) as (connection, scope):
        account = account_of(connection, scope, slug, wanted)
        made, is_new = grant_credits(connection, account, wanted.granting(), actor=books.caller.key_id)
        (balance,) = _balances(connection, account, [made])
    return _with_etag(grant_answer(balance, account, slug, is_new=is_new))


@get(
    "/credits/grants/{grant_id:str}",
    operation_id="get_credit_grant",
    summary="One grant",
    tags=["credits"],
    guards=[requires("credits:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def grant(
    books: NamedDependency[SkipValidation[Books]], grant_id: Identity, organization: OrganizationName = None
) -> Response[GrantAnswer]:
    """Show one grant with what is left of it."""
    slug = slug_of(books, organization)
    with books.reading(slug) as (connection, scope):
        found = get_grant(connection, scope, org_id_of(slug), grant_id_of(grant_id))
        account = get_account(connection, scope, org_id_of(slug), found.account_id)
        (balance,) = _balances(connection, account, [found])
    return _with_etag(grant_answer(balance, account, slug))


@post(
    "/credits/grants/{grant_id:str}/void",
    operation_id="void_credit_grant",
    summary="Void a grant",
    tags=["credits"],
    guards=[requires("credits:write")],
    status_code=200,
    responses=problem_responses(400, 401, 403, 404, 409, 412),
    sync_to_thread=True,
)
def voided(
    *,
    books: NamedDependency[SkipValidation[Books]],
    grant_id: Identity,
    data: SkipValidation[VoidInput],
    body: RawBody,
    if_match: IfMatch = None,
) -> Response[GrantAnswer]:
    """End a grant now and take back what is left of it; what it has paid for stays paid."""
    wanted, version = read(body, VoidInput), expected_version(if_match)
    slug = slug_of(books, wanted.organization)
    with books.writing(slug) as (connection, scope):
        standing = get_grant(connection, scope, org_id_of(slug), grant_id_of(grant_id))
        account = get_account(connection, scope, org_id_of(slug), standing.account_id)
        ended = void_grant(connection, scope, account, standing.grant_id, wanted.reason, expected_version=version)
        (balance,) = _balances(connection, account, [ended])
    return _with_etag(grant_answer(balance, account, slug))


@get(
    "/credits/purchases",
    operation_id="list_credit_purchases",
    summary="List purchases",
    tags=["credits"],
    guards=[requires("credits:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def purchases(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    account: AccountName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> GrantPageAnswer:
    """List what was paid for, the latest first, each with what is left of it."""
    return _grants_page(books, slug_of(books, organization), account, limit, cursor, kinds=("purchase",))


@post(
    "/credits/purchases",
    operation_id="record_credit_purchase",
    summary="Record a purchase",
    tags=["credits"],
    guards=[requires("credits:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def purchased(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[PurchaseInput], body: RawBody
) -> Response[GrantAnswer]:
    """Put credits that were paid for on an account. The same payment told again is recorded once.

    farebox takes no payments; an installed package for payments may check what is told (docs/credits.md).
    """
    wanted = read(body, PurchaseBody)
    slug = slug_of(books, wanted.organization)
    told = wanted.purchase()
    with books.reading(slug) as (connection, scope):
        account = account_of(connection, scope, slug, wanted)
    purchase_hook().verify(account, told)
    with books.writing(slug) as (connection, _):
        made, is_new = record_purchase(connection, account, told, actor=books.caller.key_id)
        (balance,) = _balances(connection, account, [made])
    return _with_etag(grant_answer(balance, account, slug, is_new=is_new))


def _grants_page(
    books: Books,
    slug: str,
    account_id: str | None,
    limit: int,
    cursor: str | None,
    *,
    kinds: Sequence[GrantKind] | None = None,
) -> GrantPageAnswer:
    question = ("grants", slug, account_id, kinds)
    before = None if cursor is None else _GRANTS.read(cursor, *question)
    org_id = org_id_of(slug)
    with books.reading(slug) as (connection, scope):
        found = list_grants(
            connection, scope, org_id, limit=limit + 1, account_id=account_id, kinds=kinds, before=before
        )
        rows, has_more = found[:limit], len(found) > limit
        owners = accounts_by_id(connection, scope, org_id, {one.account_id for one in rows})
        left = {
            balance.grant.grant_id: balance
            for account in owners.values()
            for balance in _balances(connection, account, [one for one in rows if one.account_id == account.account_id])
        }
    return GrantPageAnswer(
        items=[grant_answer(left[one.grant_id], owners[one.account_id], slug) for one in rows],
        next_cursor=_GRANTS.write(rows[-1].position, *question) if has_more else None,
        has_more=has_more,
    )


def _balances(connection: Connection, account: Account, some: Sequence[Grant]) -> list[GrantBalance]:
    return grant_balances(connection, account, grants=some)[0]


def _with_etag(answer: GrantAnswer) -> Response[GrantAnswer]:
    headers = {"ETag": f'"{answer.row_version}"', "Location": f"/v1/credits/grants/{answer.id}"}
    return Response(answer, headers=headers)


ROUTES: tuple[Any, ...] = (grants, granted, grant, voided, purchases, purchased)

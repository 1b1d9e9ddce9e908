"""Credits: accounts, what was given, bought and corrected, every movement, and balances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias

from litestar import Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter, RawBody, SkipValidation
from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.paging import CursorCodec
from farebox_api.parameters import time_range_us, time_us
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import Identity, IfMatch, expected_version
from farebox_api.routes.queries import Cursor, End, Limit, OrganizationName, Start, TimeText, named
from farebox_api.schemas.administration import now_us
from farebox_api.schemas.credits import (
    AccountAnswer,
    AccountBody,
    AccountChangeBody,
    AccountChangeInput,
    AccountInput,
    AccountPageAnswer,
    AdjustmentBody,
    AdjustmentInput,
    BalanceAnswer,
    BalancePageAnswer,
    GrantAnswer,
    GrantBody,
    GrantInput,
    GrantPageAnswer,
    Holder,
    PurchaseBody,
    PurchaseInput,
    TransactionAnswer,
    TransactionPageAnswer,
    VoidInput,
    account_answer,
    balance_answer,
    grant_answer,
    transaction_answer,
)
from farebox_api.schemas.decimals import ratio_of
from farebox_ledger.credits import (
    GrantBalance,
    adjust,
    balance_of,
    grant_balances,
    grant_credits,
    purchase_hook,
    record_purchase,
    void_grant,
)
from farebox_ledger.errors import InvalidInput
from farebox_ledger.store.credit_accounts import (
    Account,
    Owner,
    accounts_by_id,
    create_account,
    find_account,
    get_account,
    list_accounts,
    set_low_balance,
)
from farebox_ledger.store.credit_grants import Grant, get_grant, grant_id_of, list_grants
from farebox_ledger.store.credit_ledger import (
    Transaction,
    TransactionFilter,
    list_transactions,
)
from farebox_ledger.store.credit_tables import GrantKind, TransactionType
from farebox_ledger.store.scope import Scope
from farebox_ledger.usage import org_id_of

_ACCOUNTS: Final = CursorCodec(tuple[int, str])
_GRANTS: Final = CursorCodec(tuple[int, bytes])
_TRANSACTIONS: Final = CursorCodec(tuple[int, bytes, int])
_CORRECTIONS: Final[tuple[TransactionType, ...]] = ("adjustment", "refund")

AccountName: TypeAlias = Annotated[str | None, named("The id of an account.")]
UserName: TypeAlias = Annotated[str | None, named("User reference, as usage rows name it.")]
ProjectName: TypeAlias = Annotated[str | None, named("Project.")]


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
    slug = _slug(books, organization)
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
    slug = _slug(books, wanted.organization)
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
    slug = _slug(books, wanted.organization)
    with books.writing(slug) as (connection, scope):
        made = set_low_balance(connection, scope, org_id_of(slug), account_id, wanted.threshold())
    return account_answer(made, slug)


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
    return _grants_page(books, _slug(books, organization), account, limit, cursor)


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
    slug = _slug(books, wanted.organization)
    with books.writing(slug) as (connection, scope):
        account = _account(connection, scope, slug, wanted)
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
    slug = _slug(books, organization)
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
    slug = _slug(books, wanted.organization)
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
    return _grants_page(books, _slug(books, organization), account, limit, cursor, kinds=("purchase",))


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
    slug = _slug(books, wanted.organization)
    told = wanted.purchase()
    with books.reading(slug) as (connection, scope):
        account = _account(connection, scope, slug, wanted)
    purchase_hook().verify(account, told)
    with books.writing(slug) as (connection, _):
        made, is_new = record_purchase(connection, account, told, actor=books.caller.key_id)
        (balance,) = _balances(connection, account, [made])
    return _with_etag(grant_answer(balance, account, slug, is_new=is_new))


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
    slug = _slug(books, wanted.organization)
    with books.writing(slug) as (connection, scope):
        account = _account(connection, scope, slug, wanted)
        made, _ = adjust(connection, account, wanted.adjustment(), actor=books.caller.key_id)
    return transaction_answer(made, slug)


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
    slug, as_of_us = _slug(books, organization), time_us("as_of", as_of)
    if account is None:
        found, has_more, next_cursor = _accounts_page(books, slug, ("balance", user, project), limit, cursor)
    else:
        with books.reading(slug) as (connection, scope):
            found = [get_account(connection, scope, org_id_of(slug), account)]
        has_more, next_cursor = False, None
    with books.reading(slug) as (connection, _):
        items = [_balance(connection, one, slug, as_of_us) for one in found]
    return BalancePageAnswer(items=items, next_cursor=next_cursor, has_more=has_more)


def _slug(books: Books, organization: str | None) -> str:
    """Name the organization that is meant: the key's own, or the one that a system key says."""
    slug = organization or books.caller.org_slug
    if slug is None:
        raise InvalidInput("organization", "required, because the key is of none")
    return slug


def _account(connection: Connection, scope: Scope, slug: str, holder: Holder) -> Account:
    if holder.account is None:
        owner = Owner(holder.user, holder.project)
        return find_account(connection, scope, org_id_of(slug), owner, holder.currency)
    for name in ("user", "project"):
        if getattr(holder, name) is not None:
            raise InvalidInput(name, "stands beside account; one of them says which account is meant")
    return get_account(connection, scope, org_id_of(slug), holder.account)


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


def _transactions_page(
    books: Books, organization: str | None, asked: TransactionFilter, limit: int, cursor: str | None
) -> TransactionPageAnswer:
    slug = _slug(books, organization)
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


def _balances(connection: Connection, account: Account, some: Sequence[Grant]) -> list[GrantBalance]:
    return grant_balances(connection, account, grants=some)[0]


def _balance(connection: Connection, account: Account, slug: str, as_of_us: int | None) -> BalanceAnswer:
    left, owed_pico = grant_balances(connection, account)
    return balance_answer(
        balance_of(connection, account, as_of_us=as_of_us),
        slug,
        remaining_pico=sum(one.remaining_pico for one in left if one.grant.effective_at_us <= now_us()),
        owed_pico=owed_pico,
    )


def _with_etag(answer: GrantAnswer) -> Response[GrantAnswer]:
    headers = {"ETag": f'"{answer.row_version}"', "Location": f"/v1/credits/grants/{answer.id}"}
    return Response(answer, headers=headers)


ROUTES: tuple[Any, ...] = (
    accounts,
    opened,
    changed,
    grants,
    granted,
    grant,
    voided,
    purchases,
    purchased,
    adjustments,
    adjusted,
    transactions,
    balances,
)

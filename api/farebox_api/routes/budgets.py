"""Budgets: what may be spent, what was spent of it, and whether a call may be made."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.catalog import Catalog
from farebox_api.conditional import NOT_MODIFIED, IfNoneMatch, unless_held
from farebox_api.errors import Fault, InvalidRequest, invalid_parameter
from farebox_api.parameters import time_us
from farebox_api.problems import problem_responses
from farebox_api.routes.administration import (
    CURSORS,
    Identity,
    IfMatch,
    expected_version,
    position,
    slugs,
    with_etag,
)
from farebox_api.routes.queries import Cursor, Limit, OrganizationName, TimeText
from farebox_api.schemas.budgets import (
    BudgetAnswer,
    BudgetBody,
    BudgetChangeBody,
    BudgetChangeInput,
    BudgetInput,
    BudgetPageAnswer,
    CheckAnswer,
    CheckBody,
    CheckInput,
    EstimateAnswer,
    SpendingAnswer,
    budget_answer,
    check_answer,
    optional_decimal_of,
    spending_answer,
)
from farebox_api.schemas.values import money
from farebox_ledger.budgets import Estimate, check, spending, window_at
from farebox_ledger.errors import AmountTooLarge, InvalidInput
from farebox_ledger.money import to_pico
from farebox_ledger.pricing import Charge
from farebox_ledger.pricing.quoting import QuotedUsage, QuoteRequest, pricing_request
from farebox_ledger.store.budgets import change_budget, create_budget, delete_budget, get_budget, list_budgets


@get(
    "/budgets",
    operation_id="list_budgets",
    summary="List budgets",
    tags=["budgets"],
    guards=[requires("budgets:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> BudgetPageAnswer:
    """List budgets, oldest first."""
    question = ("budgets", books.caller.org_slug, organization)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_budgets(connection, scope, limit=limit + 1, after=after)
        owners = slugs(connection, found)
    rows, has_more = found[:limit], len(found) > limit
    return BudgetPageAnswer(
        items=[budget_answer(one, owners[one.org_id]) for one in rows],
        next_cursor=CURSORS.write(position(rows[-1]), *question) if has_more else None,
        has_more=has_more,
    )


@post(
    "/budgets",
    operation_id="create_budget",
    summary="Make a budget",
    tags=["budgets"],
    guards=[requires("budgets:write")],
    responses=problem_responses(400, 401, 403, 404, 409),
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[BudgetInput], body: RawBody
) -> Response[BudgetAnswer]:
    """Say what may be spent. What was spent in the period already counts: its alerts fire within a minute."""
    wanted = read(body, BudgetBody)
    with books.writing(wanted.organization) as (connection, scope):
        made = create_budget(connection, scope, wanted.draft())
        owners = slugs(connection, [made])
    return with_etag(budget_answer(made, owners[made.org_id]), "/v1/budgets")


@get(
    "/budgets/{budget_id:str}",
    operation_id="get_budget",
    summary="One budget",
    tags=["budgets"],
    guards=[requires("budgets:read")],
    responses=NOT_MODIFIED | problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]], budget_id: Identity, if_none_match: IfNoneMatch = None
) -> Response[BudgetAnswer]:
    """Show one budget."""
    with books.reading() as (connection, scope):
        found = get_budget(connection, scope, budget_id)
        owners = slugs(connection, [found])
    return unless_held(with_etag(budget_answer(found, owners[found.org_id])), if_none_match)


@patch(
    "/budgets/{budget_id:str}",
    operation_id="change_budget",
    summary="Change a budget",
    tags=["budgets"],
    guards=[requires("budgets:write")],
    responses=problem_responses(400, 401, 403, 404, 412),
    sync_to_thread=True,
)
def changed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    budget_id: Identity,
    data: SkipValidation[BudgetChangeInput],
    body: RawBody,
    if_match: IfMatch = None,
) -> Response[BudgetAnswer]:
    """Change what is named and leave the rest. A threshold that has fired in a period fires no second time in it."""
    wanted, version = read(body, BudgetChangeBody).change(), expected_version(if_match)
    with books.writing() as (connection, scope):
        made = change_budget(connection, scope, budget_id, wanted, expected_version=version)
        owners = slugs(connection, [made])
    return with_etag(budget_answer(made, owners[made.org_id]))


@delete(
    "/budgets/{budget_id:str}",
    operation_id="delete_budget",
    summary="Delete a budget",
    tags=["budgets"],
    guards=[requires("budgets:write")],
    responses=problem_responses(400, 401, 403, 404, 412),
    sync_to_thread=True,
)
def deleted(books: NamedDependency[SkipValidation[Books]], budget_id: Identity, if_match: IfMatch = None) -> None:
    """Let a budget bind nobody from now on; its alerts stay."""
    version = expected_version(if_match)
    with books.writing() as (connection, scope):
        delete_budget(connection, scope, budget_id, expected_version=version)


@get(
    "/budgets/{budget_id:str}/spending",
    operation_id="get_budget_spending",
    summary="What was spent of a budget",
    tags=["budgets"],
    guards=[requires("budgets:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def spent(books: NamedDependency[SkipValidation[Books]], budget_id: Identity, at: TimeText = None) -> SpendingAnswer:
    """Show what was spent in the period that a moment lies in: exactly what a summary of the same filter says."""
    at_us = _now_us() if at is None else time_us("at", at) or 0
    with books.reading() as (connection, scope):
        budget = get_budget(connection, scope, budget_id)
        window = window_at(budget, at_us)
        if window is None:
            raise invalid_parameter("at", "the budget does not hold then: see its starts_at and ends_at")
        return spending_answer(budget, spending(connection, budget, window))


@post(
    "/budgets/check",
    operation_id="check_budgets",
    summary="May a call be made",
    tags=["budgets"],
    guards=[requires("budgets:read")],
    status_code=200,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def checked(
    books: NamedDependency[SkipValidation[Books]],
    catalog: NamedDependency[SkipValidation[Catalog]],
    data: SkipValidation[CheckInput],
    body: RawBody,
) -> CheckAnswer:
    """Ask before a call: hard thresholds deny, soft ones warn.

    This is advice from the books as they are, not a lock: calls under way are not in them yet.
    """
    wanted = read(body, CheckBody)
    organization = wanted.organization or books.caller.org_slug
    if organization is None:
        raise InvalidInput("organization", "required, because the key is of none")
    org_id = books.org_id(organization)
    assert org_id is not None
    charge = _charge(catalog, wanted, organization)
    estimate, answer = _estimate(wanted, charge)
    booked = [charge.model] if charge is not None and charge.model is not None else []
    call = wanted.call(*booked)
    with books.reading(organization) as (connection, _):
        return check_answer(check(connection, org_id, call, estimate), answer)


def _charge(catalog: Catalog, wanted: CheckBody, organization: str) -> Charge | None:
    """Price the call as it would be booked; None where no model is named."""
    if wanted.model is None:
        if wanted.usage is not None:
            raise InvalidRequest(Fault("a usage needs the model that it is priced by", pointer="/usage"))
        return None
    request = QuoteRequest(
        model=wanted.model,
        usage=wanted.usage or QuotedUsage(),
        provider=wanted.provider,
        service_tier=wanted.service_tier,
        region=wanted.region,
        organization=organization,
        upstream=wanted.upstream,
    )
    return catalog.book().charge(pricing_request(request, now_us=_now_us()))


def _estimate(wanted: CheckBody, charge: Charge | None) -> tuple[Estimate | None, EstimateAnswer | None]:
    """Say what the call may cost: as the caller says, or by the catalog."""
    amount = optional_decimal_of("/estimated_cost", wanted.estimated_cost)
    if amount is not None:
        if wanted.usage is not None:
            raise InvalidRequest(Fault("expected either estimated_cost or usage", pointer="/usage"))
        if not amount.is_finite() or amount < 0:
            raise InvalidRequest(Fault("expected an amount of 0 or more", pointer="/estimated_cost"))
        pico = _pico(amount)
        return Estimate(pico, wanted.currency), EstimateAnswer(money(pico), wanted.currency, None, None)
    if wanted.usage is None or charge is None:
        return None, None
    answer = EstimateAnswer(money(charge.cost_pico), charge.currency, charge.status, charge.reason)
    if charge.cost_pico is None or charge.currency is None:
        return None, answer
    return Estimate(charge.cost_pico, charge.currency), answer


def _pico(amount: Decimal) -> int:
    try:
        return to_pico(amount)
    except AmountTooLarge as error:
        raise InvalidRequest(Fault(error.detail, pointer="/estimated_cost")) from None


def _now_us() -> int:
    return time.time_ns() // 1000


ROUTES: tuple[Any, ...] = (listed, created, checked, shown, changed, deleted, spent)

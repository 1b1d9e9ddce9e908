"""Price policies: which second-best prices an organization allows, and whether a provider's own word bills."""

from __future__ import annotations

from typing import Any

from litestar import get, put
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import OrganizationPath
from farebox_api.schemas.price_policies import PolicyAnswer, PolicyInput, policy_answer
from farebox_ledger.store.policies import price_policy, set_price_policy
from farebox_ledger.usage import org_id_of


@get(
    "/organizations/{organization:str}/price-policy",
    operation_id="get_price_policy",
    summary="An organization's price policy",
    tags=["price administration"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(books: NamedDependency[SkipValidation[Books]], organization: OrganizationPath) -> PolicyAnswer:
    """Show the policy; without one of its own an organization has the common one."""
    with books.reading(organization) as (connection, scope):
        return policy_answer(price_policy(connection, scope, org_id_of(organization)))


@put(
    "/organizations/{organization:str}/price-policy",
    operation_id="set_price_policy",
    summary="Set an organization's price policy",
    tags=["price administration"],
    guards=[requires("prices:write")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def changed(
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationPath,
    data: SkipValidation[PolicyInput],
    body: RawBody,
) -> PolicyAnswer:
    """Set the whole policy. It holds for what is priced from now on; a re-price job applies it to standing rows."""
    wanted = read(body, PolicyInput).policy()
    with books.writing(organization) as (connection, scope):
        return policy_answer(set_price_policy(connection, scope, org_id_of(organization), wanted))


ROUTES: tuple[Any, ...] = (shown, changed)

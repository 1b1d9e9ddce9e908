"""Drift: what our prices say beside what the providers state themselves."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.parameters import time_range_us
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import End, Limit, OrganizationName, Start, named
from farebox_api.schemas.drift import DriftAnswer, drift_answer
from farebox_ledger.store.drift import model_drift
from farebox_ledger.store.timeline import DAY_US

_DEFAULT_US: Final = 30 * DAY_US


@get(
    "/prices/drift",
    operation_id="get_price_drift",
    summary="Our prices beside what providers state",
    tags=["prices"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    provider: Annotated[str | None, named("Provider, as the rows name it.")] = None,
    model: Annotated[str | None, named("Model as billed.")] = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 50,
) -> DriftAnswer:
    """Compare, model by model, the costs of calls that came with a stated cost; 30 days up to `end` or now."""
    start_us, end_us = time_range_us(start, end)
    end_us = time.time_ns() // 1000 if end_us is None else end_us
    start_us = max(end_us - _DEFAULT_US, 0) if start_us is None else start_us
    with books.reading(organization) as (connection, scope):
        found = model_drift(
            connection, scope, start_us=start_us, end_us=end_us, provider=provider, model=model, limit=limit + 1
        )
    return drift_answer(start_us, end_us, found, limit)


ROUTES: tuple[Any, ...] = (shown,)

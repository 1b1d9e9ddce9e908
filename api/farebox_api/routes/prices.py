"""Prices: the catalog, which price holds for a call and why, and what calls would cost."""

from __future__ import annotations

import time
from typing import Annotated, Any

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter, RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.bodies import read
from farebox_api.catalog import Catalog
from farebox_api.paging import CursorCodec
from farebox_api.parameters import time_us
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import Cursor, Limit, OrganizationName, TimeText, named
from farebox_api.schemas.prices import (
    CatalogPageAnswer,
    QuotesAnswer,
    QuotesBody,
    QuotesInput,
    ResolutionAnswer,
    catalog_price_answer,
    resolution_answer,
)
from farebox_ledger.pricing import PricingRequest
from farebox_ledger.pricing.quoting import encode_quote, quote
from farebox_ledger.pricing.units import Unit
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.prices import list_prices
from farebox_ledger.usage import Usage

CURSORS = CursorCodec(tuple[str, str, str])


@get(
    "/prices",
    operation_id="list_prices",
    summary="List the catalog",
    tags=["prices"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    provider: Annotated[str | None, named("Provider, in any spelling.")] = None,
    search: Annotated[str | None, named("Part of a model's name, in any case.")] = None,
    unit: Annotated[Unit, QueryParameter(description="Unit of the prices of tokens.")] = "token",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> CatalogPageAnswer:
    """List prices by provider, model and id, retired ones and the organization's own among them."""
    question = ("prices", books.caller.org_slug, organization, provider, search)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_prices(connection, scope, search=search, provider=provider, limit=limit + 1, after=after)
        owners = organizations_by_id(connection, {price.org_id for price in found if price.org_id is not None})
    rows = found[:limit]
    has_more = len(found) > limit
    return CatalogPageAnswer(
        items=[
            catalog_price_answer(price, None if price.org_id is None else owners[price.org_id].slug, unit)
            for price in rows
        ],
        next_cursor=CURSORS.write((rows[-1].provider, rows[-1].model, rows[-1].id), *question) if has_more else None,
        has_more=has_more,
    )


@get(
    "/prices/resolve",
    operation_id="resolve_price",
    summary="Which price holds for a call",
    tags=["prices"],
    guards=[requires("prices:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def resolved(
    *,
    books: NamedDependency[SkipValidation[Books]],
    catalog: NamedDependency[SkipValidation[Catalog]],
    model: Annotated[str, named("Model, as the call names it.")],
    provider: Annotated[str | None, named("Provider; without it the one that lists the model as its own.")] = None,
    at: TimeText = None,
    service_tier: Annotated[str | None, named("Service tier of the call.")] = None,
    region: Annotated[str | None, named("Region of the call.")] = None,
    upstream: Annotated[str | None, named("Upstream that the call goes through.")] = None,
    organization: OrganizationName = None,
) -> ResolutionAnswer:
    """Find the price as the pipeline would, and say what else was considered; a model without price is no error."""
    request = PricingRequest(
        provider=provider,
        request_model=model,
        response_model=None,
        at_us=_now_us() if at is None else time_us("at", at) or 0,
        usage=Usage(),
        org_id=books.org_id(organization),
        service_tier=service_tier,
        region=region,
        upstream=upstream,
    )
    return resolution_answer(catalog.book().resolve(request))


@post(
    "/prices/quote",
    operation_id="quote_prices",
    summary="What calls would cost",
    tags=["prices"],
    guards=[requires("prices:read")],
    status_code=200,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def quoted(
    books: NamedDependency[SkipValidation[Books]],
    catalog: NamedDependency[SkipValidation[Catalog]],
    data: SkipValidation[QuotesInput],
    body: RawBody,
) -> Response[QuotesAnswer]:
    """Price calls without booking them: what each would cost as a row, line by line."""
    wanted = read(body, QuotesBody).items
    for organization in {item.organization for item in wanted}:
        books.org_id(organization)  # raises for one that is not the caller's to name
    book, now_us = catalog.book(), _now_us()
    for item in wanted:
        item.organization = item.organization or books.caller.org_slug
    answers = encode_quote({"items": [quote(book, item, now_us=now_us) for item in wanted]})
    return Response(answers, media_type=MediaType.JSON)  # type: ignore[arg-type]  # the bytes of the declared answer


def _now_us() -> int:
    return time.time_ns() // 1000


ROUTES: tuple[Any, ...] = (listed, resolved, quoted)

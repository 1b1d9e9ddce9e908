"""Prices: how one is found, what is in the catalog, and quotes, as answers and as bodies."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from farebox_api.bodies import Input
from farebox_api.parameters import TIME_PATTERN
from farebox_api.schemas.pages import Page
from farebox_api.schemas.usage import CostLineAnswer, PriceAnswer, price_answer
from farebox_api.schemas.values import DecimalText, Money, Timestamp, optional_timestamp
from farebox_ledger.pricing import Match, NoMatch, Price, PriceSource, Rates
from farebox_ledger.pricing.price import PriceStatus, price_status
from farebox_ledger.pricing.quoting import QuoteRequest
from farebox_ledger.pricing.units import Unit, rates_in_unit
from farebox_ledger.usage import BillingStatus, CacheTtl, Reason, SearchContextSize

MAX_QUOTES = 1000


class ResolutionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Which price holds for a call and how it was found, or why there is none (`price` null, `reason` set)."""

    price: PriceAnswer | None
    reason: Reason | None
    detail: str | None
    assumed: Annotated[
        str | None, Meta(description="Why the price is second best, null where it is plainly the price.")
    ]
    currency: str | None
    mode: str | None
    source_url: str | None
    multiplier: Annotated[DecimalText | None, Meta(description="Factor from list cost to cost, null = 1.")]
    rates: Annotated[Rates | None, Meta(description="Exact prices of a single unit, by dimension.")]
    rejected: Annotated[list[str], Meta(description="What else was considered, in its order, and why it lost.")]


class CatalogPriceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One price of the catalog. `organization` null: everybody's; `effective_to` null: until further notice.

    `status` is where it stands: an administrator's override, synced, from the archive, or retired by its source.
    """

    id: str
    source: PriceSource
    status: PriceStatus
    organization: str | None
    provider: str
    model: str
    currency: str
    mode: str | None
    unit: Annotated[Unit, Meta(description="How many tokens a price of tokens in `rates` is for.")]
    rates: Annotated[Rates, Meta(description="Exact prices by dimension, those of tokens in `unit`.")]
    effective_from: Timestamp | None
    effective_to: Timestamp | None
    source_url: str | None
    retired: bool


class CatalogPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[CatalogPriceAnswer]


class QuotesBody(Input, frozen=True):
    """Calls to be priced, as they are read: by the ledger's own shape, so that a quote is what a row would cost."""

    items: Annotated[list[QuoteRequest], Meta(min_length=1, max_length=MAX_QUOTES)]


class QuotedUsageInput(Input, frozen=True):
    """What the call used. Counts overlap as in OpenTelemetry; what cannot be a count is priced as 0 and `partial`."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | dict[CacheTtl, int] | None = None
    audio_input_tokens: int | None = None
    image_input_tokens: int | None = None
    video_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_output_tokens: int | None = None
    input_images: int | None = None
    output_images: int | None = None
    input_seconds: float | None = None
    output_seconds: float | None = None
    input_characters: int | None = None
    output_characters: int | None = None
    pages: int | None = None
    search_units: int | None = None
    requests: int | None = None
    web_searches: int | None = None
    search_context_size: SearchContextSize | None = None


class QuoteInput(Input, frozen=True):
    """One call to be priced. `at` is its end, now unless told; `id` comes back as it was sent."""

    model: str | None
    usage: QuotedUsageInput
    provider: str | None = None
    id: Any = None
    at: Annotated[str, Meta(pattern=TIME_PATTERN)] | None = None
    service_tier: str | None = None
    batch: bool | None = None
    region: str | None = None
    organization: str | None = None
    upstream: str | None = None


class QuotesInput(Input, frozen=True):
    """Calls to be priced, each as `farebox prices quote` takes it."""

    items: Annotated[list[QuoteInput], Meta(min_length=1, max_length=MAX_QUOTES)]


class QuoteAnswer(msgspec.Struct, frozen=True):
    """What a call would cost; `cost` is the sum of the lines' amounts, null where it is not known."""

    id: Any
    status: BillingStatus
    reason: Reason | None
    detail: str | None
    currency: str | None
    cost: Money | None
    list_cost: Money | None
    price: PriceAnswer | None
    lines: list[CostLineAnswer]


class QuotesAnswer(msgspec.Struct, frozen=True):
    """One quote for each call, in their order."""

    items: list[QuoteAnswer]


def resolution_answer(answer: Match | NoMatch) -> ResolutionAnswer:
    """Write what the resolver found."""
    if isinstance(answer, NoMatch):
        return ResolutionAnswer(
            price=None,
            reason=answer.reason,
            detail=answer.detail,
            assumed=None,
            currency=None,
            mode=None,
            source_url=None,
            multiplier=None,
            rates=None,
            rejected=list(answer.tried),
        )
    return ResolutionAnswer(
        price=price_answer(answer.reference),
        reason=None,
        detail=None,
        assumed=answer.assumed,
        currency=answer.price.currency,
        mode=answer.price.mode,
        source_url=answer.price.source_url,
        multiplier=answer.multiplier_text,
        rates=answer.compiled.rates,
        rejected=list(answer.rejected),
    )


def catalog_price_answer(price: Price, organization: str | None, unit: Unit = "token") -> CatalogPriceAnswer:
    """Write one price of the catalog; `organization` is the slug of the price's, if it has one."""
    return CatalogPriceAnswer(
        id=price.id,
        source=price.source,
        status=price_status(price),
        organization=organization,
        provider=price.provider,
        model=price.model,
        currency=price.currency,
        mode=price.mode,
        unit=unit,
        rates=rates_in_unit(price.rates, unit),
        effective_from=optional_timestamp(price.effective_from_us),
        effective_to=optional_timestamp(price.effective_to_us),
        source_url=price.source_url,
        retired=price.retired,
    )

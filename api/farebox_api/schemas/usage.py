"""A usage row and its charge, as answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, get_args

import msgspec
from msgspec import Meta

from farebox_api.schemas.values import (
    Count,
    DecimalText,
    Money,
    Timestamp,
    decimal,
    money,
    optional_timestamp,
    timestamp,
    usage_id_text,
)
from farebox_ledger.money import pico_text
from farebox_ledger.pricing import Charge, CostColumn, CostLine, PriceReference, cost_column
from farebox_ledger.store.querying import ChargeVersion, UsageRow
from farebox_ledger.usage import (
    BillingStatus,
    CacheTtl,
    CallStatus,
    Reason,
    SearchContextSize,
    TokensSource,
    Usage,
    UsageEvent,
    UsageRule,
)

CacheWrites: TypeAlias = Annotated[
    int | dict[CacheTtl, int],
    Meta(description="A number, or a map by time to live where the provider told them apart."),
]


class UsageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One call. Counts overlap as in OpenTelemetry: `input_tokens` includes cached parts, `output_tokens` reasoning.

    Null is not said or not known, 0 is said to be none.
    """

    id: str
    organization: str
    project: str | None
    user: str | None
    user_email: str | None
    key: str | None
    trace_id: str
    span_id: str
    parent_span_id: str | None
    occurred_at: Timestamp
    started_at: Timestamp | None
    received_at: Timestamp
    provider: str | None
    model: Annotated[str | None, Meta(description="The model as billed.")]
    request_model: str | None
    response_model: str | None
    response_id: str | None
    operation: str | None
    service: str | None
    action: str | None
    category: str | None
    task_type: str | None
    task_id: str | None
    content_type: str | None
    content_ref: str | None
    model_config: str | None
    model_config_name: str | None
    upstream: str | None
    session: str | None
    tags: list[str]
    metadata: dict[str, Any]
    status: CallStatus
    error_code: str | None
    error_message: str | None
    duration_ms: int | None
    time_to_first_chunk_ms: Count | None
    stream: bool
    service_tier: str | None
    input_tokens: Count | None
    cache_read_input_tokens: Count | None
    cache_write_input_tokens: CacheWrites | None
    audio_input_tokens: Count | None
    image_input_tokens: Count | None
    video_input_tokens: Count | None
    output_tokens: Count | None
    reasoning_output_tokens: Count | None
    audio_output_tokens: Count | None
    image_output_tokens: Count | None
    input_images: Count | None
    output_images: Count | None
    input_seconds: DecimalText | None
    output_seconds: DecimalText | None
    input_characters: Count | None
    output_characters: Count | None
    pages: Count | None
    search_units: Count | None
    requests: Count | None
    web_searches: Count | None
    search_context_size: SearchContextSize | None
    total_tokens: Count | None
    estimated_input_tokens: Count | None
    estimated_output_tokens: Count | None
    tokens_source: TokensSource
    dialect: str
    billing_status: BillingStatus
    reason: Reason | None
    currency: str | None
    cost: Money | None
    cost_input: Money | None
    cost_output: Money | None
    cost_cache_read: Money | None
    cost_cache_write: Money | None
    cost_other: Money | None
    list_cost: Money | None
    stated_cost: Annotated[Money | None, Meta(description="What the provider itself says the call cost, in USD.")]
    multiplier: DecimalText | None
    price_id: str | None
    charge_version: int


class UsagePageAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One page of usage rows, newest first. `scanned_until` stands on a page that stopped at the scan bound.

    Such a page may be short or empty although `has_more` is true: go on with `next_cursor`.
    """

    items: list[UsageAnswer]
    next_cursor: str | None
    has_more: bool
    scanned_until: Timestamp | msgspec.UnsetType = msgspec.UNSET


class CostLineAnswer(msgspec.Struct, frozen=True):
    """One summand: quantity × unit_price × multiplier = amount; `list_amount` is the same before multipliers.

    The quantity is a number, exact to its last digit; money is text.
    """

    dimension: str
    quantity: float  # holds a Decimal, which `encode_quote` writes as a number
    unit_price: DecimalText
    multiplier: DecimalText
    list_amount: Money
    amount: Money


class PriceAnswer(msgspec.Struct, frozen=True):
    """Which price was used and how it was found. `effective_from` null: since ever."""

    id: str
    source: str
    provider: str
    model: str
    match_rule: str
    effective_from: str | None


class ChargeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a row's charge; the lines sum to the cost exactly, their list amounts to the list cost."""

    version: int
    billing_status: BillingStatus
    reason: Reason | None
    detail: str | None
    currency: str | None
    cost: Money | None
    list_cost: Money | None
    multiplier: DecimalText | None
    provider: str | None
    model: str | None
    price: PriceAnswer | None
    lines: list[CostLineAnswer]
    rejected: Annotated[list[str], Meta(description="What else was considered, and why it lost.")]
    covered_by: Annotated[str | None, Meta(description="The row that bills this call instead.")]


class OldChargeAnswer(ChargeAnswer, frozen=True, kw_only=True):
    """A charge that was replaced: when, and by what kind of change."""

    replaced_at: Timestamp
    cause: str


class ExplanationAnswer(ChargeAnswer, frozen=True, kw_only=True):
    """A row's present charge explained, and every one that it replaced, newest first."""

    id: str
    organization: str
    dialect: Annotated[str, Meta(description="The emitter whose way of writing a call was read.")]
    usage_rule: Annotated[
        UsageRule | None, Meta(description="How the counts were converted; null: they stand as the emitter wrote them.")
    ]
    raw_usage: Annotated[
        dict[str, int | float | str] | None,
        Meta(description="The counts under the emitter's own names, where they were converted."),
    ]
    versions: list[OldChargeAnswer]


def usage_answer(row: UsageRow, organization: str, model_config_name: str | None = None) -> UsageAnswer:
    """Write a row, with the slug of its organization and the name of its model configuration."""
    event, charge = row.event, row.charge
    parts = _cost_parts(charge)
    return UsageAnswer(
        id=usage_id_text(row.day, row.usage_id),
        organization=organization,
        project=event.project,
        user=event.user,
        user_email=event.user_email,
        key=event.key,
        trace_id=event.trace_id.hex(),
        span_id=event.span_id.hex(),
        parent_span_id=None if event.parent_span_id is None else event.parent_span_id.hex(),
        occurred_at=timestamp(event.occurred_at_us),
        started_at=optional_timestamp(event.started_at_us),
        received_at=timestamp(event.received_at_us),
        provider=charge.provider,
        model=charge.model,
        request_model=event.request_model,
        response_model=event.response_model,
        response_id=event.response_id,
        operation=event.operation,
        service=event.service,
        action=event.action,
        category=event.category,
        task_type=event.task_type,
        task_id=event.task_id,
        content_type=event.content_type,
        content_ref=event.content_ref,
        model_config=event.model_config,
        model_config_name=model_config_name,
        upstream=event.upstream,
        session=event.session,
        tags=event.tags or [],
        metadata=event.metadata or {},
        status=event.status,
        error_code=event.error_code,
        error_message=event.error_message,
        duration_ms=_duration_ms(event),
        time_to_first_chunk_ms=event.time_to_first_chunk_ms,
        stream=event.stream,
        service_tier=event.service_tier,
        **_members(event.usage),
        total_tokens=event.usage.total_tokens,
        estimated_input_tokens=event.estimated_input_tokens,
        estimated_output_tokens=event.estimated_output_tokens,
        tokens_source=event.tokens_source,
        dialect=event.dialect,
        billing_status=charge.status,
        reason=charge.reason,
        currency=charge.currency,
        cost=money(charge.cost_pico),
        cost_input=parts["input"],
        cost_output=parts["output"],
        cost_cache_read=parts["cache_read"],
        cost_cache_write=parts["cache_write"],
        cost_other=parts["other"],
        list_cost=money(charge.list_cost_pico),
        stated_cost=decimal(event.stated_cost),
        multiplier=charge.multiplier,
        price_id=None if charge.price is None else charge.price.id,
        charge_version=row.charge_version,
    )


def explanation_answer(
    row: UsageRow, organization: str, replaced: list[ChargeVersion], covering_ids: Mapping[bytes, str]
) -> ExplanationAnswer:
    """Write a row's charge; `covering_ids` are the outward ids of the rows that bill the call instead."""
    return ExplanationAnswer(
        **_charge_members(row.charge, row.charge_version, covering_ids),
        id=usage_id_text(row.day, row.usage_id),
        organization=organization,
        dialect=row.event.dialect,
        usage_rule=row.event.usage_rule,
        raw_usage=row.event.raw_usage,
        versions=[
            OldChargeAnswer(
                **_charge_members(old.charge, old.version, covering_ids),
                replaced_at=timestamp(old.replaced_at_us),
                cause=old.cause,
            )
            for old in replaced
        ],
    )


def line_answer(line: CostLine) -> CostLineAnswer:
    """Write one cost line."""
    return CostLineAnswer(
        dimension=line.dimension,
        quantity=line.quantity,  # type: ignore[arg-type]  # as the field says
        unit_price=line.unit_price,
        multiplier=line.multiplier,
        list_amount=pico_text(line.list_amount_pico),
        amount=pico_text(line.amount_pico),
    )


def price_answer(price: PriceReference) -> PriceAnswer:
    """Write which price was used."""
    return PriceAnswer(price.id, price.source, price.provider, price.model, price.match_rule, price.effective_from)


def _charge_members(charge: Charge, version: int, covering_ids: Mapping[bytes, str]) -> dict[str, Any]:
    return {
        "version": version,
        "billing_status": charge.status,
        "reason": charge.reason,
        "detail": charge.detail,
        "currency": charge.currency,
        "cost": money(charge.cost_pico),
        "list_cost": money(charge.list_cost_pico),
        "multiplier": charge.multiplier,
        "provider": charge.provider,
        "model": charge.model,
        "price": None if charge.price is None else price_answer(charge.price),
        "lines": [line_answer(line) for line in charge.lines],
        "rejected": list(charge.rejected),
        "covered_by": None if charge.covered_by is None else covering_ids.get(charge.covered_by),
    }


def _duration_ms(event: UsageEvent) -> int | None:
    """Say how long the call took; None when the start is not known, or lies after the end."""
    if event.started_at_us is None or event.started_at_us > event.occurred_at_us:
        return None
    return (event.occurred_at_us - event.started_at_us) // 1000


def _cost_parts(charge: Charge) -> dict[CostColumn, str | None]:
    """Share the cost out to the columns by the lines' dimensions; a cost without lines is `other`."""
    if charge.cost_pico is None:
        return dict.fromkeys(get_args(CostColumn))
    parts: dict[CostColumn, int] = dict.fromkeys(get_args(CostColumn), 0)
    for line in charge.lines:
        parts[cost_column(line.dimension)] += line.amount_pico
    if not charge.lines:
        parts["other"] = charge.cost_pico
    return {name: pico_text(pico) for name, pico in parts.items()}


def _members(usage: Usage) -> dict[str, Any]:
    """Write the usage members; cache writes are a number where nobody told their times to live apart."""
    members = {name: getattr(usage, name) for name in Usage.__struct_fields__}
    members["input_seconds"] = decimal(usage.input_seconds)
    members["output_seconds"] = decimal(usage.output_seconds)
    if usage.cache_write_input_tokens is not None and usage.cache_write_input_tokens.keys() <= {"unsplit"}:
        members["cache_write_input_tokens"] = usage.cache_write_total
    return members

"""A usage row and its charge, as answers."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, Final, TypeAlias, get_args

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


_AS_SAID: Final = (
    "project", "user", "user_email", "key", "request_model", "response_model", "response_id", "operation", "service",
    "action", "category", "task_type", "task_id", "content_type", "content_ref", "model_config", "upstream", "session",
    "status", "error_code", "error_message", "time_to_first_chunk_ms", "stream", "service_tier",
    "estimated_input_tokens", "estimated_output_tokens", "tokens_source", "dialect",
)  # fmt: skip
"""What an answer takes over from the event as it stands there."""

_PARTS: Final[dict[CostColumn, str]] = {part: f"cost_{part}" for part in get_args(CostColumn)}
"""What the parts of a cost are called in an answer."""

_said: Final = attrgetter(*_AS_SAID)


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
        UsageRule | None,
        Meta(
            description="How the counts were converted, or `response_unnamed`: the emitter hid the provider's response,"
            " so that another library may have told the same call; null: the counts stand as the emitter wrote them."
        ),
    ]
    raw_usage: Annotated[
        dict[str, int | float | str] | None,
        Meta(description="The counts under the emitter's own names, where they were converted."),
    ]
    versions: list[OldChargeAnswer]


def usage_answer(row: UsageRow, organization: str, model_config_name: str | None = None) -> UsageAnswer:
    """Write a row, with the slug of its organization and the name of its model configuration."""
    event = row.event
    return UsageAnswer(
        id=usage_id_text(row.day, row.usage_id),
        organization=organization,
        trace_id=event.trace_id.hex(),
        span_id=event.span_id.hex(),
        parent_span_id=None if event.parent_span_id is None else event.parent_span_id.hex(),
        occurred_at=timestamp(event.occurred_at_us),
        started_at=optional_timestamp(event.started_at_us),
        received_at=timestamp(event.received_at_us),
        duration_ms=_duration_ms(event),
        model_config_name=model_config_name,
        tags=event.tags or [],
        metadata=event.metadata or {},
        total_tokens=event.usage.total_tokens,
        stated_cost=decimal(event.stated_cost),
        charge_version=row.charge_version,
        **dict(zip(_AS_SAID, _said(event), strict=True)),
        **_members(event.usage),
        **_charged(row.charge),
    )


def _charged(charge: Charge) -> dict[str, Any]:
    """Write what a charge says of itself on its row."""
    return {
        "provider": charge.provider,
        "model": charge.model,
        "billing_status": charge.status,
        "reason": charge.reason,
        "currency": charge.currency,
        "cost": money(charge.cost_pico),
        **_cost_parts(charge),
        "list_cost": money(charge.list_cost_pico),
        "multiplier": charge.multiplier,
        "price_id": None if charge.price is None else charge.price.id,
    }


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


def _cost_parts(charge: Charge) -> dict[str, str | None]:
    """Share the cost out to the columns by the lines' dimensions; a cost without lines is `other`."""
    if charge.cost_pico is None:
        return dict.fromkeys(_PARTS.values())
    parts: dict[CostColumn, int] = dict.fromkeys(_PARTS, 0)
    for line in charge.lines:
        parts[cost_column(line.dimension)] += line.amount_pico
    if not charge.lines:
        parts["other"] = charge.cost_pico
    return {_PARTS[part]: pico_text(pico) for part, pico in parts.items()}


def _members(usage: Usage) -> dict[str, Any]:
    """Write the usage members; cache writes are a number where nobody told their times to live apart."""
    members = {name: getattr(usage, name) for name in Usage.__struct_fields__}
    members["input_seconds"] = decimal(usage.input_seconds)
    members["output_seconds"] = decimal(usage.output_seconds)
    if usage.cache_write_input_tokens is not None and usage.cache_write_input_tokens.keys() <= {"unsplit"}:
        members["cache_write_input_tokens"] = usage.cache_write_total
    return members

"""What can be told of a call, by the names of a usage row, and the event it becomes. Pure.

Whoever tells a call can be asked to say it right: what a span would have clamped or quarantined is refused here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from farebox_ledger.errors import InvalidInput
from farebox_ledger.usage import MAX_COUNT, CacheTtl, CallStatus, SearchContextSize, Usage, UsageEvent

DIALECT: Final = "recorded"
"""The `dialect` of rows that were told and not measured."""

_NAME_LENGTH: Final = 400
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=_NAME_LENGTH)]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Moment: TypeAlias = Annotated[datetime, Meta(tz=True, description="RFC 3339 with offset.")]
Seconds: TypeAlias = Annotated[
    str, Meta(pattern=r"^[0-9]{1,10}(\.[0-9]{1,12})?$", description="Exact decimal text, such as 12.5.")
]
Amount: TypeAlias = Annotated[
    str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,12})?$", description="Exact decimal text, such as 0.0105.")
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIRST: Final = datetime(2020, 1, 1, tzinfo=UTC)  # as for spans
_AHEAD_US: Final = 86_400_000_000
_SECONDS: Final = ("input_seconds", "output_seconds")


class RecordedCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call, told by the names of a usage row.

    Its identity is either `external_id`, any text that stands for this call alone in its organization, or `trace_id`
    and `span_id`. The same identity told again, with a time at most a day away, is the same row. `model` is the model
    as it was asked for; `occurred_at` is the end of the call, by which it is priced.
    """

    model: Name
    occurred_at: Moment
    external_id: Name | None = None
    trace_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")] | None = None
    span_id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")] | None = None
    organization: Annotated[
        Name | None, Meta(description="Slug; a key of an organization means its own, a system key has to say it.")
    ] = None
    provider: Name | None = None
    response_model: Name | None = None
    response_id: Name | None = None
    started_at: Moment | None = None
    operation: Name | None = None
    status: CallStatus = "ok"
    error_code: Name | None = None
    error_message: Text | None = None
    stream: bool = False
    batch: bool = False
    region: Name | None = None
    service_tier: Name | None = None
    time_to_first_chunk_ms: Count | None = None
    project: Name | None = None
    user: Name | None = None
    user_email: Name | None = None
    service: Name | None = None
    action: Name | None = None
    category: Name | None = None
    task_type: Name | None = None
    task_id: Name | None = None
    content_type: Name | None = None
    content_ref: Name | None = None
    model_config: Name | None = None
    upstream: Name | None = None
    session: Name | None = None
    tags: Annotated[list[Name], Meta(max_length=64)] | None = None
    metadata: Annotated[dict[str, Any], Meta(max_length=64)] | None = None
    stated_cost: Annotated[Amount | None, Meta(description="What the provider itself says it cost, in USD.")] = None
    input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_write_input_tokens: Count | dict[CacheTtl, Count] | None = None
    audio_input_tokens: Count | None = None
    image_input_tokens: Count | None = None
    video_input_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_output_tokens: Count | None = None
    audio_output_tokens: Count | None = None
    image_output_tokens: Count | None = None
    input_images: Count | None = None
    output_images: Count | None = None
    input_seconds: Seconds | None = None
    output_seconds: Seconds | None = None
    input_characters: Count | None = None
    output_characters: Count | None = None
    pages: Count | None = None
    search_units: Count | None = None
    requests: Count | None = None
    web_searches: Count | None = None
    search_context_size: SearchContextSize | None = None


_AS_TOLD: Final = sorted(
    set(RecordedCall.__struct_fields__) & set(UsageEvent.__struct_fields__) - {"trace_id", "span_id", "stated_cost"}
)


def event_of(call: RecordedCall, *, org_id: int, key: str | None, received_at_us: int) -> UsageEvent:
    """Turn a told call into the event that a span of it would have become.

    Raises:
        InvalidInput: no identity or two of them, a time that cannot be, or text that no row keeps; names the field.
    """
    _refuse_nul(call)
    trace_id, span_id = _identity(call)
    return UsageEvent(
        org_id=org_id,
        trace_id=trace_id,
        span_id=span_id,
        occurred_at_us=_occurred_at_us(call, received_at_us),
        started_at_us=_started_at_us(call),
        received_at_us=received_at_us,
        kind="call",
        dialect=DIALECT,
        usage=_usage(call),
        request_model=call.model,
        key=key,
        stated_cost=None if call.stated_cost is None else Decimal(call.stated_cost),
        **{name: getattr(call, name) for name in _AS_TOLD},
    )


def _refuse_nul(call: RecordedCall) -> None:
    """Refuse NUL characters: rows are kept without them, so that two names would become one."""
    for name in RecordedCall.__struct_fields__:
        value = getattr(call, name)
        texts = value if isinstance(value, list) else (value,)
        if any(isinstance(text, str) and "\0" in text for text in texts):
            raise InvalidInput(name, "holds a NUL character")


def _identity(call: RecordedCall) -> tuple[bytes, bytes]:
    """Answer the trace and span under which a call stands; those of an external id are digests of it."""
    if call.external_id is not None:
        if call.trace_id is not None or call.span_id is not None:
            raise InvalidInput("external_id", "stands beside trace_id or span_id; a call has one identity")
        told = call.external_id.encode("utf-8", "surrogatepass")
        digest = blake2b(told, digest_size=24, person=b"farebox.external").digest()
        return digest[:16], digest[16:]
    if call.trace_id is None and call.span_id is None:
        raise InvalidInput("external_id", "required, and missing; or say trace_id and span_id")
    for name in ("trace_id", "span_id"):
        if not (getattr(call, name) or "").strip("0"):
            raise InvalidInput(name, "required beside the other one, and not all zeros")
    return bytes.fromhex(call.trace_id or ""), bytes.fromhex(call.span_id or "")


def _occurred_at_us(call: RecordedCall, now_us: int) -> int:
    occurred_at_us = (call.occurred_at - _EPOCH) // _MICROSECOND
    if call.occurred_at < _FIRST:
        raise InvalidInput("occurred_at", "lies before 2020")
    if occurred_at_us > now_us + _AHEAD_US:
        raise InvalidInput("occurred_at", "lies more than a day ahead")
    return occurred_at_us


def _started_at_us(call: RecordedCall) -> int | None:
    if call.started_at is None:
        return None
    if call.started_at > call.occurred_at:
        raise InvalidInput("started_at", "lies after occurred_at, the end of the call")
    if call.started_at < _FIRST:
        raise InvalidInput("started_at", "lies before 2020")
    return (call.started_at - _EPOCH) // _MICROSECOND


def _usage(call: RecordedCall) -> Usage:
    members: dict[str, Any] = {name: getattr(call, name) for name in Usage.__struct_fields__}
    for name in _SECONDS:
        members[name] = None if members[name] is None else Decimal(members[name])
    if isinstance(members["cache_write_input_tokens"], int):
        members["cache_write_input_tokens"] = {"unsplit": members["cache_write_input_tokens"]}
    return Usage(**members)

"""Quotes: the same objects for the command, the API and tests.

Comes in: one JSON object that names a model and a usage. Goes out: one JSON object with the cost and its lines, or an
error that names the field. Counts are read as the pipeline reads them, so a quote is what a booked row would cost.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final, TypeAlias

import msgspec

from farebox_ledger.errors import InvalidInput
from farebox_ledger.money import pico_text
from farebox_ledger.pricing.book import PriceBook
from farebox_ledger.pricing.charge import Charge, CostLine, PriceReference, PricingRequest
from farebox_ledger.pricing.quantities import is_count
from farebox_ledger.usage import (
    BillingStatus,
    CacheTtl,
    Reason,
    SearchContextSize,
    Usage,
    clamped_count,
    org_id_of,
)

_Count: TypeAlias = int | float | None  # what a sender may write; `clamped_count` says what it is worth
_Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS: Final = tuple(name for name, kind in Usage.__annotations__.items() if kind == "int | None")


class QuotedUsage(msgspec.Struct, forbid_unknown_fields=True):
    """The usage members as a sender may write them."""

    input_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_write_input_tokens: int | float | dict[CacheTtl, _Count] | None = None
    audio_input_tokens: _Count = None
    image_input_tokens: _Count = None
    video_input_tokens: _Count = None
    output_tokens: _Count = None
    reasoning_output_tokens: _Count = None
    audio_output_tokens: _Count = None
    image_output_tokens: _Count = None
    input_images: _Count = None
    output_images: _Count = None
    input_seconds: Decimal | None = None
    output_seconds: Decimal | None = None
    input_characters: _Count = None
    output_characters: _Count = None
    pages: _Count = None
    search_units: _Count = None
    requests: _Count = None
    web_searches: _Count = None
    search_context_size: SearchContextSize | None = None


class QuoteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """One call to be priced. `at` is the end of the call, with an offset; absent means now."""

    model: str | None
    usage: QuotedUsage
    provider: str | None = None
    id: msgspec.Raw = msgspec.Raw(b"null")
    at: _Moment | None = None
    service_tier: str | None = None
    batch: bool | None = None
    region: str | None = None
    organization: str | None = None
    upstream: str | None = None


class QuotedLine(msgspec.Struct):
    """One summand of a quote; amounts are decimal strings in the quote's currency."""

    dimension: str
    quantity: Decimal
    unit_price: str
    multiplier: str
    list_amount: str
    amount: str


class Quote(msgspec.Struct):
    """What a call costs: `cost` is the sum of the lines' amounts, None where it is not known."""

    id: msgspec.Raw
    status: BillingStatus
    reason: Reason | None
    detail: str | None
    currency: str | None
    cost: str | None
    list_cost: str | None
    price: PriceReference | None
    lines: list[QuotedLine]


class QuoteError(msgspec.Struct):
    """A quote request that cannot be read: which field is wrong, and how."""

    id: msgspec.Raw
    error: str


class _IdOnly(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"null")


_decode_request: Final = msgspec.json.Decoder(QuoteRequest).decode
_decode_id: Final = msgspec.json.Decoder(_IdOnly).decode
# Quantities are numbers and money is text; both are exact.
encode_quote: Final = msgspec.json.Encoder(decimal_format="number").encode

_AT: Final = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`$")
_MISSING: Final = re.compile(r"^Object missing required field `(.*?)`")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(.*?)`")


def quote_line(book: PriceBook, line: bytes | str, *, now_us: int) -> Quote | QuoteError:
    """Quote one line of JSON; what cannot be read becomes an error that carries the line's id."""
    try:
        return quote(book, _decode_request(line), now_us=now_us)
    except msgspec.ValidationError as error:
        return QuoteError(_id_of(line), str(refusal(str(error))))
    except msgspec.DecodeError as error:
        return QuoteError(_id_of(line), f"line: expected one JSON object: {error}")


def quote(book: PriceBook, request: QuoteRequest, *, now_us: int) -> Quote:
    """Price one call at its time, or at `now_us` where it names none."""
    return _quoted(request.id, book.charge(pricing_request(request, now_us=now_us)))


def pricing_request(request: QuoteRequest, *, now_us: int) -> PricingRequest:
    """Read a quote request as the pipeline reads a span: unusable counts become 0 and mark the call."""
    usage, is_invalid = read_usage(request.usage)
    return PricingRequest(
        provider=request.provider,
        request_model=request.model,
        response_model=None,
        at_us=now_us if request.at is None else (request.at - _EPOCH) // timedelta(microseconds=1),
        usage=usage,
        org_id=org_id_of(request.organization) if request.organization else None,
        service_tier=request.service_tier,
        batch=bool(request.batch),
        region=request.region,
        upstream=request.upstream,
        is_invalid=is_invalid,
    )


def read_usage(quoted: QuotedUsage) -> tuple[Usage, bool]:
    """Read the usage members as a sender wrote them: (usage, was any count unusable)."""
    usage = Usage(search_context_size=quoted.search_context_size)
    is_invalid = False
    for name in _COUNTS:
        value = getattr(quoted, name)
        if value is not None:
            count, is_unusable = clamped_count(value)
            setattr(usage, name, count)
            is_invalid |= is_unusable
    if quoted.cache_write_input_tokens is not None:
        usage.cache_write_input_tokens, is_unusable = _writes(quoted.cache_write_input_tokens)
        is_invalid |= is_unusable
    if quoted.input_seconds is not None:
        usage.input_seconds, is_unusable = _seconds(quoted.input_seconds)
        is_invalid |= is_unusable
    if quoted.output_seconds is not None:
        usage.output_seconds, is_unusable = _seconds(quoted.output_seconds)
        is_invalid |= is_unusable
    return usage, is_invalid


def _writes(written: float | dict[CacheTtl, _Count]) -> tuple[dict[CacheTtl, int], bool]:
    by_ttl: dict[CacheTtl, _Count] = written if isinstance(written, dict) else {"unsplit": written}
    read = {ttl: clamped_count(value) for ttl, value in by_ttl.items()}
    counts = {ttl: count for ttl, (count, _) in read.items() if count is not None}
    return counts, any(is_unusable for _, is_unusable in read.values())


def _seconds(value: Decimal) -> tuple[Decimal, bool]:
    return (value, False) if is_count(value) else (Decimal(0), True)


def _quoted(identity: msgspec.Raw, charge: Charge) -> Quote:
    return Quote(
        id=identity,
        status=charge.status,
        reason=charge.reason,
        detail=charge.detail,
        currency=charge.currency,
        cost=None if charge.cost_pico is None else pico_text(charge.cost_pico),
        list_cost=None if charge.list_cost_pico is None else pico_text(charge.list_cost_pico),
        price=charge.price,
        lines=[_line(line) for line in charge.lines],
    )


def _line(line: CostLine) -> QuotedLine:
    amount = pico_text(line.amount_pico)
    listed = amount if line.list_amount_pico == line.amount_pico else pico_text(line.list_amount_pico)
    return QuotedLine(line.dimension, line.quantity, line.unit_price, line.multiplier, listed, amount)


def _id_of(line: bytes | str) -> msgspec.Raw:
    try:
        return _decode_id(line).id.copy()
    except msgspec.DecodeError:
        return msgspec.Raw(b"null")


def refusal(message: str) -> InvalidInput:
    """Read what msgspec says of an object: ``Expected `int`, got `str` - at `$.usage.pages` `` names `usage.pages`."""
    at = _AT.search(message)
    path = at[1] if at else ""
    said = message[: at.start()] if at else message
    for pattern, words in ((_MISSING, "required, and missing"), (_UNKNOWN, "no such field")):
        named = pattern.search(said)
        if named:
            return InvalidInput(f"{path}.{named[1]}" if path else named[1], words)
    return InvalidInput(path or "line", said[:1].lower() + said[1:])

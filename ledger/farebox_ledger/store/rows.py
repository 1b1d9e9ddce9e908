"""Between an event with its charge and the columns of a usage row: what is written, and what is read back.

Structs come in and tuples in the order of `schema.BOOKED_COLUMNS` go out, or the other way round. No statement here.

Text is written so that both databases take it: no NUL, no lone surrogate, '' as NULL. Names that stand in an index or
in a rollup's key are bounded, because PostgreSQL refuses index entries beyond 2,704 bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter, itemgetter
from typing import Any, Final, TypeAlias

import msgspec

from farebox_ledger.errors import AmountTooLarge, InvalidInput
from farebox_ledger.money import from_pico, to_pico
from farebox_ledger.pricing.charge import Charge, CostLine, PriceReference, cost_column
from farebox_ledger.store.schema import BOOKED_COLUMNS, COST_PARTS, TOKEN_COLUMNS
from farebox_ledger.store.statements import chunks
from farebox_ledger.usage import CacheTtl, Usage, UsageEvent, UsageRule

Record: TypeAlias = Mapping[Any, Any]
"""A row as it is read, by the names of its columns."""

RowValues: TypeAlias = tuple[Any, ...]
"""The values of one row, in the order of `schema.BOOKED_COLUMNS`."""

POSITION: Final = {name: position for position, name in enumerate(BOOKED_COLUMNS)}
"""Where a column stands in `RowValues`."""

NAME_BYTES: Final = 400
"""The most that a name used as a dimension keeps; a longer one ends in a digest of the whole."""

MAX_SUMMED_SECONDS: Final = 10_000_000
"""Longer media (115 days) is priced as said but not summed, so that no sum of microseconds outgrows 64 bits."""

_MICRO: Final = Decimal(1_000_000)

_BOUNDED: Final = tuple(POSITION[name] for name in ("project", "key_id", "service", "category", "provider", "model"))
_CLEANED: Final = tuple(POSITION[name] for name in (
    "reported_provider", "request_model", "response_model", "operation", "error_code", "service_tier", "region",
    "action", "task_type", "content_type", "model_config", "upstream",
))  # fmt: skip
_names_of: Final = itemgetter(*_BOUNDED, *_CLEANED)

_PLAIN_CHARACTERS: Final = NAME_BYTES // 4
"""A name of at most so many characters needs no bound, in whatever script."""
_MAX_PLAIN_NAMES: Final = 4096
_plain_names: Final[set[str | None]] = set()
"""Names that were looked at and found to need no cleaning."""


class UsageDetails(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The rarer usage members, as the JSON column `usage_details` holds them."""

    cache_write_by_ttl: dict[CacheTtl, int] | None = None
    audio_input_tokens: int | None = None
    image_input_tokens: int | None = None
    video_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_output_tokens: int | None = None
    input_images: int | None = None
    output_images: int | None = None
    input_seconds: Decimal | None = None
    input_seconds_us: int | None = None  # what the sums count
    output_seconds: Decimal | None = None
    output_seconds_us: int | None = None
    input_characters: int | None = None
    output_characters: int | None = None
    pages: int | None = None
    search_units: int | None = None
    provider_requests: int | None = None
    web_searches: int | None = None
    search_context_size: str | None = None
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    usage_rule: UsageRule | None = None
    raw_usage: dict[str, int | float | str] | None = None


class _Explanation(msgspec.Struct, omit_defaults=True):
    """What explains a charge, as the JSON column `lines` holds it."""

    lines: tuple[CostLine, ...] = ()
    price: PriceReference | None = None
    rejected: tuple[str, ...] = ()


_NO_DETAILS: Final = UsageDetails()
_RARE: Final = tuple(name for name in Usage.__struct_fields__ if name not in TOKEN_COLUMNS)
_rare_quantities: Final = attrgetter(*_RARE)
_NO_QUANTITIES: Final = (None,) * len(_RARE)
_NO_PARTS: Final = (None,) * len(COST_PARTS)
_NO_EXPLANATION: Final = _Explanation()
_encode: Final = msgspec.json.Encoder(decimal_format="string").encode
_decode_details: Final = msgspec.json.Decoder(UsageDetails).decode
_decode_explanation: Final = msgspec.json.Decoder(_Explanation).decode
_decode_tags: Final = msgspec.json.Decoder(list[str]).decode
_decode_metadata: Final = msgspec.json.Decoder(dict[str, Any]).decode


def row_values(event: UsageEvent, charge: Charge, day: int | None = None) -> RowValues:
    """Lay out an event and its charge as a row; `day` is given for a row that was booked on another day.

    The columns `provider` and `model` hold the billed names, else the response's, else the request's. A person known
    by e-mail alone is referred to by a digest of it: rows hold references, `users` holds the address.

    Raises:
        InvalidInput: a count is negative, or the time is none that a calendar has.
    """
    usage = event.usage
    row = (
        event.org_id,
        event.day if day is None else day,
        event.usage_id,
        event.trace_id,
        event.span_id,
        event.parent_span_id,
        event.occurred_at_us,
        event.started_at_us,
        event.received_at_us,
        event.kind,
        event.dialect,
        clean_text(event.scope) or "",
        1 if event.is_client else 0,
        event.provider,
        event.request_model,
        event.response_model,
        clean_text(event.response_id),
        event.operation,
        event.status,
        event.error_code,
        clean_text(event.error_message),
        event.time_to_first_chunk_ms,
        1 if event.stream else 0,
        event.service_tier,
        1 if event.batch else 0,
        event.region,
        event.tokens_source,
        usage.input_tokens,
        usage.cache_read_input_tokens,
        None if usage.cache_write_input_tokens is None else usage.cache_write_total,
        usage.output_tokens,
        usage.reasoning_output_tokens,
        _details_text(event),
        None if event.stated_cost is None else _stated_pico(event.stated_cost),
        event.project,
        user_reference(event),
        event.key,
        event.service,
        event.action,
        event.category,
        event.task_type,
        clean_text(event.task_id),
        event.content_type,
        clean_text(event.content_ref),
        event.model_config,
        event.upstream,
        clean_text(event.session),
        _tags_text(event.tags),
        _metadata_text(event.metadata),
        charge.provider or event.provider,
        charge.model or event.response_model or event.request_model,
        charge.status,
        charge.reason,
        clean_text(charge.detail),
        charge.currency,
        charge.cost_pico,
        *_cost_parts(charge),
        charge.list_cost_pico,
        charge.multiplier,
        None if charge.price is None else charge.price.id,
        charge.covered_by,
        _explanation_text(charge),
    )
    names = _names_of(row)
    return row if _plain_names.issuperset(names) or _are_plain(names) else _cleaned(row)


def _are_plain(names: Iterable[str | None]) -> bool:
    """Say whether names can stand as they are; those that can are remembered, since names come again."""
    for name in names:
        if name is not None and not (0 < len(name) <= _PLAIN_CHARACTERS and name.isprintable()):
            return False
    if len(_plain_names) >= _MAX_PLAIN_NAMES:
        _plain_names.clear()
    _plain_names.update(names)
    return True


def _cleaned(row: RowValues) -> RowValues:
    cleaned = list(row)
    for position in _CLEANED:
        cleaned[position] = clean_text(row[position])
    for position in _BOUNDED:
        cleaned[position] = bounded_name(row[position])
    return tuple(cleaned)


def event_of(row: Record, email: str | None = None) -> UsageEvent:
    """Read the event back from a row's columns; the e-mail stands in `users`, not in the row."""
    details = details_of(row["usage_details"])
    return UsageEvent(
        org_id=row["org_id"],
        trace_id=bytes(row["trace_id"]),
        span_id=bytes(row["span_id"]),
        parent_span_id=_bytes(row["parent_span_id"]),
        occurred_at_us=row["occurred_at_us"],
        started_at_us=row["started_at_us"],
        received_at_us=row["received_at_us"],
        kind=row["kind"],
        dialect=row["dialect"],
        usage=_usage(row, details),
        scope=row["scope_name"],
        is_client=bool(row["is_client"]),
        provider=row["reported_provider"],
        request_model=row["request_model"],
        response_model=row["response_model"],
        response_id=row["response_id"],
        operation=row["operation"],
        status=row["status"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        time_to_first_chunk_ms=row["time_to_first_chunk_ms"],
        stream=bool(row["is_stream"]),
        service_tier=row["service_tier"],
        batch=bool(row["is_batch"]),
        region=row["region"],
        tokens_source=row["tokens_source"],
        estimated_input_tokens=details.estimated_input_tokens,
        estimated_output_tokens=details.estimated_output_tokens,
        stated_cost=None if row["stated_cost_pico"] is None else from_pico(row["stated_cost_pico"]),
        project=row["project"],
        user=row["user_ref"],
        user_email=email,
        key=row["key_id"],
        service=row["service"],
        action=row["action"],
        category=row["category"],
        task_type=row["task_type"],
        task_id=row["task_id"],
        content_type=row["content_type"],
        content_ref=row["content_ref"],
        model_config=row["model_config"],
        upstream=row["upstream"],
        session=row["session"],
        tags=None if row["tags"] is None else _decode_tags(row["tags"]),
        metadata=None if row["metadata"] is None else _decode_metadata(row["metadata"]),
        usage_rule=details.usage_rule,
        raw_usage=details.raw_usage,
    )


def charge_of(row: Record) -> Charge:
    """Read a charge back from the columns of a row or of an old version; its names are those of the row."""
    explained = _NO_EXPLANATION if row["lines"] is None else _decode_explanation(row["lines"])
    return Charge(
        status=row["billing_status"],
        reason=row["reason"],
        detail=row["reason_detail"],
        currency=row["currency"],
        cost_pico=row["cost_pico"],
        list_cost_pico=row["list_cost_pico"],
        price=explained.price,
        provider=row["provider"],
        model=row["model"],
        multiplier=row["multiplier"],
        lines=explained.lines,
        rejected=explained.rejected,
        covered_by=_bytes(row["covered_by"]),
    )


def row_key(row: RowValues) -> RowValues:
    """Name the row: organization, day, usage id."""
    return row[:3]


def row_probes(keys: Iterable[RowValues]) -> Iterator[tuple[int, int, Sequence[bytes]]]:
    """Group keys by organization and day into look-ups of a bounded size, in a fixed order."""
    groups: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for org_id, day, usage_id, *_ in keys:
        groups[org_id, day].append(usage_id)
    for (org_id, day), usage_ids in sorted(groups.items()):
        for part in chunks(sorted(usage_ids)):
            yield org_id, day, part


def details_of(text: str | None) -> UsageDetails:
    """Read the column `usage_details`."""
    return _NO_DETAILS if text is None else _decode_details(text)


def tags_of(text: str | None) -> list[str]:
    """Read the column `tags`."""
    return [] if text is None else _decode_tags(text)


def user_reference(event: UsageEvent) -> str | None:
    """Name the user of an event as rows do; None when nobody is named."""
    if event.user:
        return bounded_name(event.user)
    if not event.user_email:
        return None
    address = event.user_email.strip().lower().encode("utf-8", "replace")
    return f"email-{blake2b(address, digest_size=8).hexdigest()}"


def clean_text(text: str | None) -> str | None:
    """Drop what PostgreSQL cannot hold: NUL goes, a lone surrogate becomes `?`, and '' is None."""
    if not text:
        return None
    if text.isprintable():  # neither NUL nor surrogates are; nearly all text is
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode() or None


def bounded_name(text: str | None) -> str | None:
    """Clean a name and keep at most `NAME_BYTES` of it, so that an index takes it; different ones stay different."""
    cleaned = clean_text(text)
    if cleaned is None or len(cleaned) * 4 <= NAME_BYTES:
        return cleaned
    encoded = cleaned.encode()
    if len(encoded) <= NAME_BYTES:
        return cleaned
    digest = blake2b(encoded, digest_size=8).hexdigest()
    return f"{encoded[: NAME_BYTES - 17].decode(errors='ignore')}~{digest}"


def _usage(row: Record, details: UsageDetails) -> Usage:
    return Usage(
        input_tokens=row["input_tokens"],
        cache_read_input_tokens=row["cache_read_input_tokens"],
        cache_write_input_tokens=_cache_writes(row["cache_write_input_tokens"], details),
        audio_input_tokens=details.audio_input_tokens,
        image_input_tokens=details.image_input_tokens,
        video_input_tokens=details.video_input_tokens,
        output_tokens=row["output_tokens"],
        reasoning_output_tokens=row["reasoning_output_tokens"],
        audio_output_tokens=details.audio_output_tokens,
        image_output_tokens=details.image_output_tokens,
        input_images=details.input_images,
        output_images=details.output_images,
        input_seconds=details.input_seconds,
        output_seconds=details.output_seconds,
        input_characters=details.input_characters,
        output_characters=details.output_characters,
        pages=details.pages,
        search_units=details.search_units,
        requests=details.provider_requests,
        web_searches=details.web_searches,
        search_context_size=details.search_context_size,  # type: ignore[arg-type]  # written from the same Literal
    )


def _details_text(event: UsageEvent) -> str | None:
    usage = event.usage
    if (
        _rare_quantities(usage) == _NO_QUANTITIES
        and event.raw_usage is None
        and event.usage_rule is None
        and event.estimated_input_tokens is None
        and event.estimated_output_tokens is None
        and (usage.cache_write_input_tokens is None or usage.cache_write_input_tokens.keys() == {"unsplit"})
    ):
        return None
    writes = usage.cache_write_input_tokens
    details = UsageDetails(
        cache_write_by_ttl=writes if writes and writes.keys() != {"unsplit"} else None,
        audio_input_tokens=usage.audio_input_tokens,
        image_input_tokens=usage.image_input_tokens,
        video_input_tokens=usage.video_input_tokens,
        audio_output_tokens=usage.audio_output_tokens,
        image_output_tokens=usage.image_output_tokens,
        input_images=usage.input_images,
        output_images=usage.output_images,
        input_seconds=usage.input_seconds,
        input_seconds_us=_microseconds(usage.input_seconds),
        output_seconds=usage.output_seconds,
        output_seconds_us=_microseconds(usage.output_seconds),
        input_characters=usage.input_characters,
        output_characters=usage.output_characters,
        pages=usage.pages,
        search_units=usage.search_units,
        provider_requests=usage.requests,
        web_searches=usage.web_searches,
        search_context_size=usage.search_context_size,
        estimated_input_tokens=event.estimated_input_tokens,
        estimated_output_tokens=event.estimated_output_tokens,
        usage_rule=event.usage_rule,
        raw_usage=event.raw_usage,
    )
    if details == _NO_DETAILS:
        return None
    _refuse_negative(details)
    return _encode(details).decode()


def _refuse_negative(details: UsageDetails) -> None:
    """Do for the JSON column what CHECKs do for the others."""
    for name, value in msgspec.structs.asdict(details).items():
        if name == "raw_usage":  # what an emitter wrote is shown, and never counted
            continue
        least = min(value.values()) if isinstance(value, dict) else value
        if isinstance(least, int | Decimal) and not _is_count(least):
            raise InvalidInput(f"usage.{name}", f"{least}: a count is 0 or more, or not said at all")


def _is_count(value: int | Decimal) -> bool:
    return (isinstance(value, int) or value.is_finite()) and value >= 0


def _cache_writes(total: int | None, details: UsageDetails) -> dict[CacheTtl, int] | None:
    if details.cache_write_by_ttl is not None:
        return details.cache_write_by_ttl
    return None if total is None else {"unsplit": total}


def _microseconds(seconds: Decimal | None) -> int | None:
    if seconds is None or not seconds.is_finite() or seconds > MAX_SUMMED_SECONDS:
        return None
    return int((seconds * _MICRO).to_integral_value())


def _stated_pico(stated: Decimal | None) -> int | None:
    """What the provider said the call cost; a figure beyond any real call (9,000,000 units) is not kept."""
    if stated is None or not stated.is_finite():
        return None
    try:
        return to_pico(stated)
    except AmountTooLarge:
        return None


def _tags_text(tags: list[str] | None) -> str | None:
    if not tags:
        return None
    names = dict.fromkeys(name for name in map(bounded_name, tags) if name is not None)
    return _encode(list(names)).decode() if names else None


def _metadata_text(metadata: dict[str, object] | None) -> str | None:
    if not metadata:
        return None
    try:
        text = _encode(metadata).decode()
    except (UnicodeEncodeError, OverflowError, TypeError):
        return _encode(_storable(metadata)).decode()
    return text if "\\u0000" not in text else _encode(_storable(metadata)).decode()


def _storable(value: object) -> object:
    """Rebuild metadata from what JSON can say; all else is written as text."""
    if isinstance(value, str):
        return clean_text(value) or ""
    if isinstance(value, dict):
        return {clean_text(str(name)) or "": _storable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(part) for part in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    return clean_text(str(value)) or ""


def _cost_parts(charge: Charge) -> Sequence[int | None]:
    """Share the cost out to the parts by the lines' dimensions; a cost without lines is `other`."""
    if charge.cost_pico is None:
        return _NO_PARTS
    parts = [0] * len(COST_PARTS)
    for line in charge.lines:
        parts[_part_of(line.dimension)] += line.amount_pico
    if not charge.lines:
        parts[-1] = charge.cost_pico
    return parts


@lru_cache(maxsize=256)
def _part_of(dimension: str) -> int:
    return COST_PARTS.index(f"cost_{cost_column(dimension)}_pico")


def _explanation_text(charge: Charge) -> str | None:
    if not charge.lines and charge.price is None and not charge.rejected:
        return None
    return _encode(_Explanation(charge.lines, charge.price, charge.rejected)).decode()


def _bytes(value: bytes | memoryview | None) -> bytes | None:
    return None if value is None else bytes(value)

"""What a call used: the token and unit counts, and the event that carries them from a span to its row.

Counts overlap as in OpenTelemetry: `input_tokens` includes the cached, audio and image parts, `output_tokens` includes
reasoning. `None` means that the provider did not say, 0 that it said none. Pricing splits them into disjoint parts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

import msgspec

CacheTtl: TypeAlias = Literal["5m", "1h", "30m", "12h", "unsplit"]
SearchContextSize: TypeAlias = Literal["low", "medium", "high"]
TokensSource: TypeAlias = Literal["reported", "clamped"]
CallStatus: TypeAlias = Literal["ok", "error", "cancelled"]
EventKind: TypeAlias = Literal["call", "container"]
UsageRule: TypeAlias = Literal[
    "input_excludes_cache", "output_excludes_reasoning", "disjoint_parts", "compaction_added", "total_is_input",
    "output_includes_placeholder", "cache_hit", "response_unnamed",
]  # fmt: skip
"""How the counts of a row were made from what its emitter wrote; without a rule they stand as they were written.

- `input_excludes_cache`: cached tokens stood outside of the input and were added to it
- `output_excludes_reasoning`: reasoning stood outside of the output and was added to it
- `disjoint_parts`: the emitter writes parts that do not overlap, and the totals are their sums
- `compaction_added`: compaction stands outside of the totals and was added to them
- `total_is_input`: only a total was written, of a call that has no output
- `output_includes_placeholder`: nothing was changed; the emitter counts some output tokens of a stream twice
- `cache_hit`: a gateway answered from its own cache: no provider was called, and nothing was used
- `response_unnamed`: nothing was changed; the emitter keeps the provider's response to itself, so that a second library
  which tells this call in a trace of its own is not known for the same: both rows are billed
"""
BillingStatus: TypeAlias = Literal["billed", "free", "partial", "assumed", "unpriced", "not_billable", "suppressed"]
Reason: TypeAlias = Literal[
    "unknown_provider", "unknown_model", "model_missing", "ambiguous_model", "no_price_at_time",
    "no_rate_for_dimension", "no_rate_for_tier", "missing_usage", "stream_without_usage", "invalid_usage",
    "error_no_usage", "currency_unsupported", "duplicate_response", "covered_by_child", "twin", "aggregate_only",
    "needs_review", "archived",
]  # fmt: skip
"""Why a row is not plainly billed. The list is closed; a new reason is added here, in the contract and in the docs."""

_DAY_US: Final = 86_400_000_000

MAX_COUNT: Final = 2**40
"""A larger count of tokens or units is no count; it is clamped to 0 and marked."""


class Usage(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The quantities of one call; the names are those of the API, the rows and the filters."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: dict[CacheTtl, int] | None = None
    audio_input_tokens: int | None = None
    image_input_tokens: int | None = None
    video_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_output_tokens: int | None = None
    input_images: int | None = None
    output_images: int | None = None
    input_seconds: Decimal | None = None
    output_seconds: Decimal | None = None
    input_characters: int | None = None
    output_characters: int | None = None
    pages: int | None = None
    search_units: int | None = None
    requests: int | None = None
    web_searches: int | None = None
    search_context_size: SearchContextSize | None = None

    @property
    def cache_write_total(self) -> int | None:
        """Cache writes of all TTLs together, None when the provider did not say."""
        return None if self.cache_write_input_tokens is None else sum(self.cache_write_input_tokens.values())

    @property
    def total_tokens(self) -> int | None:
        """Input plus output; None when neither is known."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)

    def is_empty(self) -> bool:
        """Say whether the provider reported no quantity at all (a reported 0 is a report)."""
        if self.input_tokens is not None or self.output_tokens is not None:
            return False
        return all(getattr(self, name) is None for name in QUANTITIES)


QUANTITIES: Final = tuple(name for name in Usage.__struct_fields__ if name != "search_context_size")
"""The usage members that count something, in the order of the contract."""


class UsageEvent(msgspec.Struct, kw_only=True, gc=False):
    """One generative-AI span as the books see it: who, when, what was called, what it used. Not yet priced.

    Times are microseconds since 1970 in UTC. `occurred_at_us` is the end of the call; prices and days go by it.
    """

    org_id: int
    trace_id: bytes
    span_id: bytes
    occurred_at_us: int
    received_at_us: int
    kind: EventKind
    dialect: str
    usage: Usage
    parent_span_id: bytes | None = None
    started_at_us: int | None = None
    scope: str = ""  # the instrumentation scope that emitted the span
    is_client: bool = False
    provider: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    operation: str | None = None
    status: CallStatus = "ok"
    error_code: str | None = None
    error_message: str | None = None
    time_to_first_chunk_ms: int | None = None
    stream: bool = False
    service_tier: str | None = None
    batch: bool = False
    region: str | None = None
    tokens_source: TokensSource = "reported"
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    stated_cost: Decimal | None = None  # what the provider itself says the call cost, in USD
    project: str | None = None
    user: str | None = None
    user_email: str | None = None
    key: str | None = None  # public id of the sender's key, never the key
    service: str | None = None
    action: str | None = None
    category: str | None = None
    task_type: str | None = None
    task_id: str | None = None
    content_type: str | None = None
    content_ref: str | None = None
    model_config: str | None = None
    upstream: str | None = None
    session: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, object] | None = None
    usage_rule: UsageRule | None = None  # None: the counts stand as the emitter wrote them
    raw_usage: dict[str, int | float | str] | None = None  # what it wrote instead, by its own names

    @property
    def day(self) -> int:
        """The UTC day of the event as the number YYYYMMDD."""
        return day_of(self.occurred_at_us)

    @property
    def usage_id(self) -> bytes:
        """The row's id: the same span of the same organization has the same id wherever and whenever it arrives."""
        return usage_id(self.org_id, self.trace_id, self.span_id)


def usage_id(org_id: int, trace_id: bytes, span_id: bytes) -> bytes:
    """128 bits from (organization, trace id, span id), the identity of a usage row."""
    return blake2b(org_id.to_bytes(8, "big") + trace_id + span_id, digest_size=16).digest()


def org_id_of(slug: str) -> int:
    """The number of an organization, 63 bits from its immutable slug, so that any database gives it the same one."""
    return int.from_bytes(blake2b(b"farebox.organization:" + slug.encode(), digest_size=8).digest(), "big") >> 1


def day_of(time_us: int) -> int:
    """The UTC day of a time in microseconds, as the number YYYYMMDD."""
    return _numbered_day(time_us // _DAY_US)


@lru_cache(maxsize=1024)
def _numbered_day(days: int) -> int:
    moment = datetime.fromtimestamp(days * (_DAY_US // 1_000_000), UTC)
    return moment.year * 10_000 + moment.month * 100 + moment.day


def clamped_count(value: object) -> tuple[int | None, bool]:
    """Read a count that some emitter sent: (count, was it unusable).

    None and absent stay None. A negative, fractional, non-finite, non-numeric or larger than 2**40 value becomes 0 and
    is reported as unusable. A float that is a whole number is read as that number.
    """
    if value is None:
        return None, False
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        return 0, True
    return value, False

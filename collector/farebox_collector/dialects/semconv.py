"""OpenTelemetry's GenAI conventions, all generations, and farebox's own spans, which are the newest with additions.

Up to 1.36: `gen_ai.system`, `prompt_tokens` and `completion_tokens`; 1.37 to 1.41: `gen_ai.provider.name`,
`cache_creation`; since then `cache_write` and the split by modality (instrumentation.md §1 and §2b).
`input_tokens` includes the cached parts, `output_tokens` includes reasoning.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from farebox_collector.dialects.assembly import amount_of, assembled, text_of
from farebox_collector.dialects.counting import number_of
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.dialects.providers import provider_of
from farebox_collector.spans import KIND_CLIENT, AttributeValue, Span
from farebox_ledger.usage import MAX_COUNT, CacheTtl, EventKind, Usage, UsageEvent, clamped_count

CALLS: Final = frozenset((
    "chat", "text_completion", "generate_content", "embeddings", "rerank", "image_generation", "image_edit",
    "video_generation", "transcription", "translation", "speech", "moderation", "realtime",
))  # fmt: skip
CONTAINERS: Final = frozenset((
    "invoke_agent", "create_agent", "invoke_workflow", "agent_step", "execute_tool", "plan", "chain", "workflow",
    "task", "retrieval", "fetch_response",
))  # fmt: skip
"""Never billed themselves: they wrap calls, run tools, or fetch what was paid for before."""

_COUNTS: Final = {
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cache_read_input_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_output_tokens",
    **{f"gen_ai.usage.{kind}.input_tokens": f"{kind}_input_tokens" for kind in ("audio", "image", "video")},
    **{f"gen_ai.usage.{kind}.output_tokens": f"{kind}_output_tokens" for kind in ("audio", "image")},
    **{f"farebox.usage.{name}": name for name in (
        "input_images", "output_images", "input_characters", "output_characters", "pages", "search_units", "requests",
        "web_searches",
    )},
}  # fmt: skip
_OLD_COUNTS: Final = {
    "gen_ai.usage.prompt_tokens": "input_tokens",
    "gen_ai.usage.completion_tokens": "output_tokens",
    "gen_ai.usage.cache_read_input_tokens": "cache_read_input_tokens",
    "gen_ai.usage.cache_read_tokens": "cache_read_input_tokens",
    "gen_ai.usage.reasoning_tokens": "reasoning_output_tokens",
}
_AMOUNTS: Final = {"farebox.usage.input_seconds": "input_seconds", "farebox.usage.output_seconds": "output_seconds"}
_CACHE_WRITE_TOTALS: Final = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_tokens",
)
_CACHE_WRITE_SPLIT: Final[dict[str, CacheTtl]] = {
    "farebox.usage.cache_write_5m.input_tokens": "5m",
    "farebox.usage.cache_write_1h.input_tokens": "1h",
    "farebox.usage.cache_write_30m.input_tokens": "30m",
    "farebox.usage.cache_write_12h.input_tokens": "12h",
}
_SEARCH_CONTEXT_SIZE: Final = "farebox.usage.search_context_size"
_AGGREGATE: Final = "gen_ai.aggregated_usage."
"""Sums of an agent's run, by names of their own lest they be added to those of its calls (Pydantic AI, Upsonic)."""
_AGGREGATE_INPUT: Final = f"{_AGGREGATE}input_tokens"
_AGGREGATE_OUTPUT: Final = f"{_AGGREGATE}output_tokens"
_SUMS: Final = {
    key.replace("gen_ai.usage.", _AGGREGATE): key
    for key in (*_COUNTS, *_CACHE_WRITE_TOTALS)
    if key.startswith("gen_ai.usage.")
}
_NAMES: Final = (
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.request.model", "gen_ai.response.model",
    "gen_ai.response.id", "server.address",
)  # fmt: skip

_CACHE_WRITE_KEYS: Final = frozenset((*_CACHE_WRITE_TOTALS, *_CACHE_WRITE_SPLIT))
USAGE_KEYS: Final = frozenset((*_COUNTS, *_OLD_COUNTS, *_AMOUNTS, *_CACHE_WRITE_TOTALS, *_CACHE_WRITE_SPLIT))
KEYS: Final = frozenset((
    *_COUNTS, *_OLD_COUNTS, *_AMOUNTS, *_CACHE_WRITE_TOTALS, *_CACHE_WRITE_SPLIT, _SEARCH_CONTEXT_SIZE,
    *_SUMS, *_NAMES,
))  # fmt: skip


class _Shape(msgspec.Struct, frozen=True):
    """Which quantities a span tells, as (attribute, quantity) or as a group."""

    old_counts: tuple[tuple[str, str], ...]  # in the order of the table, since two of them say the same
    counts: tuple[tuple[str, str], ...]
    amounts: tuple[tuple[str, str], ...]
    has_cache_writes: bool
    sums: tuple[tuple[str, str], ...]  # (attribute, the one that a call has instead)


@lru_cache(maxsize=1024)
def _shape(keys: tuple[str, ...]) -> _Shape:
    """Look through a span's keys; an emitter's spans have few different sets of them."""
    return _Shape(
        old_counts=tuple((key, name) for key, name in _OLD_COUNTS.items() if key in keys),
        counts=tuple((key, _COUNTS[key]) for key in keys if key in _COUNTS),
        amounts=tuple((key, _AMOUNTS[key]) for key in keys if key in _AMOUNTS),
        has_cache_writes=not _CACHE_WRITE_KEYS.isdisjoint(keys),
        sums=tuple((key, _SUMS[key]) for key in keys if key in _SUMS),
    )


def read_usage(attributes: Attributes) -> tuple[Usage, bool]:
    """Read the quantities: (usage, was any of them unusable).

    The sums of an agent's run count where nothing else is told.
    """
    quantities: dict[str, Any] = {}
    is_clamped = False
    shape = _shape(tuple(attributes))
    for key, name in shape.old_counts:
        quantities[name], is_unusable = clamped_count(number_of(attributes[key]))
        is_clamped |= is_unusable
    for key, name in shape.counts:
        value = attributes[key]
        if type(value) is int and 0 <= value <= MAX_COUNT:
            quantities[name] = value
        else:
            quantities[name], is_unusable = clamped_count(number_of(value))
            is_clamped |= is_unusable
    for key, name in shape.amounts:
        quantities[name], is_unusable = amount_of(attributes[key])
        is_clamped |= is_unusable
    if shape.has_cache_writes:
        writes, is_unusable = read_cache_writes(attributes, _CACHE_WRITE_TOTALS, _CACHE_WRITE_SPLIT)
        is_clamped |= is_unusable
        if writes is not None:
            quantities["cache_write_input_tokens"] = writes
    if shape.sums and not quantities:
        return read_usage({key: attributes[told] for told, key in shape.sums})
    if (size := attributes.get(_SEARCH_CONTEXT_SIZE)) in ("low", "medium", "high"):
        quantities["search_context_size"] = size
    return Usage(**quantities), is_clamped


def read_cache_writes(
    attributes: Attributes, totals: tuple[str, ...], split: dict[str, CacheTtl]
) -> tuple[dict[CacheTtl, int] | None, bool]:
    """Read cache writes by their time to live; what the total has beyond the split is `unsplit`."""
    total: AttributeValue | None = None
    for key in totals:
        if key in attributes:
            total = attributes[key]
            break
    whole, is_clamped = clamped_count(number_of(total))
    writes: dict[CacheTtl, int] = {}
    for key, ttl in split.items():
        if key in attributes:
            part, is_unusable = clamped_count(number_of(attributes[key]))
            writes[ttl] = part or 0
            is_clamped |= is_unusable
    if whole is None:
        return writes or None, is_clamped
    rest = whole - sum(writes.values())
    if rest > 0 or not writes:
        writes["unsplit"] = max(rest, 0)
    return writes, is_clamped


def kind_of(span: Span, usage: Usage, operation: str | None, model: str | None) -> EventKind | None:
    """Tell calls from what wraps them; None is no generative-AI operation at all."""
    attributes = span.attributes
    if operation in CONTAINERS or _AGGREGATE_INPUT in attributes or _AGGREGATE_OUTPUT in attributes:
        return "container"
    if operation in CALLS:
        return "call"
    is_priced_like_a_call = model is not None and (span.kind == KIND_CLIENT or not usage.is_empty())
    if operation is None:
        return "call" if is_priced_like_a_call else None
    return "call" if is_priced_like_a_call else "container"


def names_of(attributes: Attributes) -> dict[str, Any]:
    """Read who was called and for what, as the convention names them."""
    get = attributes.get
    provider = text_of(get("gen_ai.provider.name")) or text_of(get("gen_ai.system"))
    return {
        "provider": provider_of(provider, text_of(get("server.address"))),
        "request_model": text_of(get("gen_ai.request.model")),
        "response_model": text_of(get("gen_ai.response.model")),
        "response_id": text_of(get("gen_ai.response.id")),
        "operation": text_of(get("gen_ai.operation.name")),
    }


def _read(span: Span) -> UsageEvent | None:
    usage, is_clamped = read_usage(span.attributes)
    fields = names_of(span.attributes)
    kind = kind_of(span, usage, fields["operation"], fields["response_model"] or fields["request_model"])
    if kind is None:
        return None
    return assembled(span, dialect="semconv", kind=kind, usage=usage, is_clamped=is_clamped, fields=fields)


def _read_own(span: Span) -> UsageEvent | None:
    """Our own spans name the true provider, and each is a call: also one of an operation that nobody has named yet."""
    usage, is_clamped = read_usage(span.attributes)
    fields = names_of(span.attributes)
    fields["provider"] = text_of(span.attributes.get("gen_ai.provider.name"))
    if fields["operation"] in CONTAINERS:
        kind: EventKind = "container"
    else:
        kind = "call"
    return assembled(span, dialect="farebox", kind=kind, usage=usage, is_clamped=is_clamped, fields=fields)


def _has_gen_ai(attributes: Attributes) -> bool:
    return any(key.startswith("gen_ai.") for key in attributes)


OWN: Final = Dialect(
    scopes=("farebox",),
    marks=(b"gen_ai.", b"farebox."),
    keys=KEYS | {"farebox.sequence"},  # which `decode` takes off again: it is no part of the usage
    recognizes=lambda _: False,
    read=_read_own,
)
SEMCONV: Final = Dialect(
    scopes=(
        "opentelemetry.instrumentation.genai",
        "opentelemetry.instrumentation.openai_v2",
        "opentelemetry.instrumentation.google_genai",
    ),
    marks=(b"gen_ai.",),
    keys=KEYS,
    recognizes=_has_gen_ai,
    read=_read,
)

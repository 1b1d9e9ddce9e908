"""Langfuse's SDK: observations, of which generations and embeddings are calls, with their usage as a JSON object.

Two shapes come in it. Langfuse's own is of disjoint parts, `{"input": 6, "input_cached_tokens": 4, "output": 3}`: the
totals are sums. Its OpenAI wrapper passes OpenAI's object on, `{"prompt_tokens": 10, "prompt_tokens_details": {…}}`,
whose parts are inside (langfuse 5.0.4, openai.py and langchain/CallbackHandler.py). No provider is named: the price
book finds the one that sells the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading, stated_cost, tags_of, text_of
from farebox_collector.dialects.counting import Reading, counted, raw_counts
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.spans import AttributeValue, Span
from farebox_ledger.usage import CacheTtl, Usage, UsageEvent, clamped_count

_TYPE: Final = "langfuse.observation.type"
_CALLS: Final = {"generation": "chat", "embedding": "embeddings"}
_MODEL: Final = "langfuse.observation.model.name"
_USAGE: Final = "langfuse.observation.usage_details"
_COST: Final = "langfuse.observation.cost_details"
_TAGS: Final = "langfuse.trace.tags"

_WHOLE: Final = {
    "prompt_tokens": "input_tokens",
    "input_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "output_tokens": "output_tokens",
}
"""OpenAI's names: the parts below `*_details` are inside."""
_WHOLE_PARTS: Final = {
    "cached_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_write_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
}
_DETAILS: Final = {
    "prompt_tokens_details": "input",
    "input_tokens_details": "input",
    "completion_tokens_details": "output",
    "output_tokens_details": "output",
}
_NAME: Final = re.compile(r"[a-zA-Z0-9_]{1,64}")
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def _read(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    observed = text_of(attributes.get(_TYPE))
    model = text_of(attributes.get(_MODEL))
    if observed is None and model is None:
        return None
    operation = _CALLS.get(observed or "generation")
    fields = semconv.names_of(attributes)
    fields["operation"] = operation or observed
    fields["request_model"] = model or fields["request_model"]
    fields["tags"] = tags_of(attributes[_TAGS]) if _TAGS in attributes else None
    fields["stated_cost"] = stated_cost(_object(attributes.get(_COST)).get("total"))
    return assembled_reading(
        span,
        dialect="langfuse",
        kind="container" if operation is None else "call",
        reading=_usage(attributes),
        fields=fields,
    )


def _usage(attributes: Attributes) -> Reading:
    details = _object(attributes.get(_USAGE))
    if not details:
        return Reading(*semconv.read_usage(attributes))
    if any(name in details for name in _WHOLE) and "input" not in details and "output" not in details:
        return _of_openai(details)
    return _of_parts(details)


def _of_openai(details: Mapping[str, Any]) -> Reading:
    quantities, is_clamped = counted(details, _WHOLE)
    for key, side in _DETAILS.items():
        inside = details.get(key)
        if isinstance(inside, dict):
            names = _WHOLE_PARTS | {f"{medium}_tokens": f"{medium}_{side}_tokens" for medium in ("audio", "image")}
            parts, is_unusable = counted(inside, names)
            quantities |= parts
            is_clamped |= is_unusable
    return Reading(_usage_of(quantities), is_clamped)


def _of_parts(details: Mapping[str, Any]) -> Reading:
    """Sum disjoint parts: each key is a part of the input or of the output; `total` and unknown ones are neither."""
    quantities: dict[str, Any] = {}
    writes: dict[CacheTtl, int] = {}
    is_clamped = False
    parts = {key: value for key, value in details.items() if _side(key) is not None}
    for key, written in parts.items():
        side = _side(key)
        value, is_unusable = clamped_count(written)
        is_clamped |= is_unusable
        if value is None or _is_said_again(key, parts):
            continue
        for name in (f"{side}_tokens", _quantity(key, side)):
            if name is not None:
                quantities[name] = quantities.get(name, 0) + value
        ttl = _written_for(key)
        if ttl is not None:
            writes[ttl] = writes.get(ttl, 0) + value
    reading = Reading(Usage(**quantities, cache_write_input_tokens=writes or None), is_clamped)
    if parts.keys() - {"input", "output"}:
        _judge_parts(details, parts, reading)
    return reading


def _judge_parts(details: Mapping[str, Any], parts: Mapping[str, Any], reading: Reading) -> None:
    """Keep the sums, unless the stated total proves that the parts are inside, as some callers write them."""
    (given, _), (written, _) = (clamped_count(parts.get(side)) for side in ("input", "output"))
    whole = (given or 0) + (written or 0)
    if details.get("total") == whole and given is not None:
        reading.usage.input_tokens, reading.usage.output_tokens = given, written
    elif reading.usage.total_tokens != whole:
        reading.rule, reading.raw = "disjoint_parts", raw_counts(details, (*parts, "total"))


def _side(key: str) -> str | None:
    """Say which total a key is a part of; None: of none."""
    if _NAME.fullmatch(key) is None or "priority" in key:  # a tier, said again beside the parts that it bills
        return None
    if key.startswith(("output", "completion")):
        return "output"
    return "input" if key.startswith(("input", "prompt", "cache")) else None


def _is_said_again(key: str, parts: Mapping[str, Any]) -> bool:
    """Leave Anthropic's split by time to live out where its sum stands beside it."""
    return key.startswith("cache_creation_ephemeral") and "cache_creation_input_tokens" in parts


def _written_for(key: str) -> CacheTtl | None:
    """Say for how long a key's tokens were written to the cache; None: it counts no cache writes."""
    if "ephemeral_5m" in key:
        return "5m"
    if "ephemeral_1h" in key:
        return "1h"
    return "unsplit" if "cache_creation" in key or "cache_write" in key else None


def _quantity(key: str, side: str | None) -> str | None:
    if _written_for(key) is not None:
        return None
    if "cache" in key:
        return "cache_read_input_tokens"
    if "reasoning" in key or "thought" in key:
        return "reasoning_output_tokens" if side == "output" else None
    medium = next((medium for medium in ("audio", "image") if medium in key.lower()), None)
    return None if medium is None else f"{medium}_{side}_tokens"


def _usage_of(quantities: dict[str, Any]) -> Usage:
    writes = quantities.pop("cache_write_input_tokens", None)
    usage = Usage(**quantities)
    if writes is not None:
        usage.cache_write_input_tokens = {"unsplit": writes}
    return usage


def _object(value: AttributeValue | None) -> dict[str, Any]:
    if not isinstance(value, str):
        return {}
    try:
        return _decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}


LANGFUSE: Final = Dialect(
    scopes=("langfuse-sdk",),
    marks=(b"langfuse.observation.",),
    keys=semconv.KEYS.union((_TYPE, _MODEL, _USAGE, _COST, _TAGS)),
    recognizes=lambda attributes: _TYPE in attributes or _USAGE in attributes,
    read=_read,
)

"""Vercel's AI SDK, versions 4 to 7: an outer span for what the application asked, inner ones for what it took.

Only the inner spans (`ai.generateText.doGenerate` and its like) are calls to a model; the outer ones repeat their sums.
Version 7 writes the GenAI conventions instead, under the scope `gen_ai`, with `invoke_agent` and `agent_step` around.

Up to version 5 the input is the provider's own count, which excludes cached tokens at Anthropic and Bedrock; since
version 6 it includes them, and `inputTokenDetails` tells (ai 4.3.19, 5.0.277, 6.0.326; @ai-sdk/otel 1.0.173;
@ai-sdk/anthropic 2.0.112 and @ai-sdk/amazon-bedrock 3.0.137). Cache writes of version 5 are in none of its counts.
"""

from __future__ import annotations

from typing import Any, Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading, first_text, tags_of, text_of
from farebox_collector.dialects.counting import Reading, counted, include_cache
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.dialects.providers import provider_of
from farebox_collector.spans import Span
from farebox_ledger.usage import EventKind, Usage, UsageEvent

_OPERATION_ID: Final = "ai.operationId"
_INNER: Final = {".doGenerate": "chat", ".doStream": "chat", ".doEmbed": "embeddings", ".doRerank": "rerank"}
_SINGLE: Final = {
    "ai.generateSpeech": "speech",
    "ai.transcribe": "transcription",
    "ai.streamTranscribe": "transcription",
    "ai.generateImage": "image_generation",
}
"""Operations that are one call each, without an inner span; version 7 has their names for `gen_ai.operation.name`."""

_COUNTS: Final = {
    "ai.usage.inputTokens": "input_tokens",
    "ai.usage.promptTokens": "input_tokens",
    "ai.usage.tokens": "input_tokens",  # of embeddings
    "ai.usage.outputTokens": "output_tokens",
    "ai.usage.completionTokens": "output_tokens",
    "ai.usage.inputTokenDetails.cacheReadTokens": "cache_read_input_tokens",
    "ai.usage.cachedInputTokens": "cache_read_input_tokens",
    "ai.usage.inputTokenDetails.cacheWriteTokens": "cache_write_input_tokens",
    "ai.usage.outputTokenDetails.reasoningTokens": "reasoning_output_tokens",
    "ai.usage.reasoningTokens": "reasoning_output_tokens",
}
_NOT_CACHED: Final = "ai.usage.inputTokenDetails.noCacheTokens"
_PROVIDER: Final = "ai.model.provider"
_MODEL: Final = "ai.model.id"
_RESPONSE_MODEL: Final = "ai.response.model"
_RESPONSE_ID: Final = "ai.response.id"
_FUNCTION: Final = "ai.telemetry.functionId"
_FIRST_CHUNK: Final = "ai.response.msToFirstChunk"
_USERS: Final = ("ai.telemetry.metadata.userId", "ai.telemetry.metadata.user_id")
_SESSIONS: Final = ("ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.session_id")
_TAGS: Final = "ai.telemetry.metadata.tags"
_USAGE_KEYS: Final = semconv.USAGE_KEYS.union(_COUNTS, (_NOT_CACHED,))

_PROVIDERS: Final = (
    ("google.vertex", "gcp.vertex_ai"),
    ("google-vertex", "gcp.vertex_ai"),
    ("vertex", "gcp.vertex_ai"),
    ("google", "gcp.gemini"),
    ("azure", "azure.ai.openai"),
    ("amazon-bedrock", "aws.bedrock"),
    ("bedrock", "aws.bedrock"),
    ("gateway", "vercel_ai_gateway"),
)
"""Beginnings of `ai.model.provider` (`google.vertex.chat`) that name no provider by their first word."""
_EXCLUDING_CACHE: Final = ("anthropic", "aws.bedrock")


def _read(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    fields = _names(attributes)
    reading = _usage(attributes, fields["provider"])
    kind = _kind(span, reading, fields)
    if kind is None:
        return None
    return assembled_reading(span, dialect="vercel", kind=kind, reading=reading, fields=fields)


def _kind(span: Span, reading: Reading, fields: dict[str, Any]) -> EventKind | None:
    if _OPERATION_ID in span.attributes:
        return "call" if fields["operation"] is not None else "container"
    model = fields["response_model"] or fields["request_model"]
    return semconv.kind_of(span, reading.usage, fields["operation"], model)


def _operation(attributes: Attributes) -> str | None:
    """Name what an inner span does; None for an outer span, or for one that names no operation."""
    operation_id = text_of(attributes.get(_OPERATION_ID))
    if operation_id is None:
        named = text_of(attributes.get("gen_ai.operation.name"))
        return _SINGLE.get(named or "", named)
    inner = next((operation for ending, operation in _INNER.items() if operation_id.endswith(ending)), None)
    return inner or _SINGLE.get(operation_id)


def _names(attributes: Attributes) -> dict[str, Any]:
    fields = semconv.names_of(attributes)
    provider = text_of(attributes.get(_PROVIDER)) or text_of(attributes.get("gen_ai.system"))
    if provider is not None:
        fields["provider"] = _provider(provider)
    fields["operation"] = _operation(attributes)
    fields["request_model"] = fields["request_model"] or text_of(attributes.get(_MODEL))
    fields["response_model"] = fields["response_model"] or text_of(attributes.get(_RESPONSE_MODEL))
    fields["response_id"] = fields["response_id"] or text_of(attributes.get(_RESPONSE_ID))
    fields["action"] = text_of(attributes.get(_FUNCTION))
    fields["user"] = first_text(attributes, _USERS)
    fields["session"] = first_text(attributes, _SESSIONS)
    fields["tags"] = tags_of(attributes[_TAGS]) if _TAGS in attributes else None
    fields["stream"] = str(attributes.get(_OPERATION_ID, "")).endswith(".doStream")
    first_chunk_ms = attributes.get(_FIRST_CHUNK)
    if isinstance(first_chunk_ms, int | float) and 0 <= first_chunk_ms < 1e9:
        fields["time_to_first_chunk_ms"] = round(first_chunk_ms)
    return fields


def _provider(name: str) -> str | None:
    """Read `openai.responses` or `google.vertex.chat`: the provider, then which of its APIs."""
    lowered = name.lower()
    for beginning, provider in _PROVIDERS:
        if lowered.startswith(beginning) and lowered[len(beginning) : len(beginning) + 1] in ("", ".", "-"):
            return provider
    return provider_of(lowered.partition(".")[0], None)


def _usage(attributes: Attributes, provider: str | None) -> Reading:
    usage, is_clamped = semconv.read_usage(attributes)
    reading = Reading(usage, is_clamped)
    own, is_unusable = counted(attributes, _COUNTS)
    reading.is_clamped |= is_unusable
    _lay_over(usage, own)
    tells_parts = _NOT_CACHED in attributes or "ai.usage.inputTokenDetails.cacheReadTokens" in attributes
    is_of_own_keys = any(key in attributes for key in _COUNTS)
    if is_of_own_keys and not tells_parts and provider in _EXCLUDING_CACHE and include_cache(usage):
        reading.changed_by("input_excludes_cache", attributes, _USAGE_KEYS)
    return reading


def _lay_over(usage: Usage, own: dict[str, Any]) -> None:
    """Let the SDK's own counts stand before those of the conventions, which it writes with fewer parts."""
    for name, value in own.items():
        setattr(usage, name, {"unsplit": value} if name == "cache_write_input_tokens" else value)


VERCEL: Final = Dialect(
    scopes=("ai", "gen_ai"),
    marks=(b"gen_ai.", b"ai.operationId"),
    keys=semconv.KEYS.union(
        _COUNTS,
        (_OPERATION_ID, _NOT_CACHED, _PROVIDER, _MODEL, _RESPONSE_MODEL, _RESPONSE_ID, _FUNCTION, _FIRST_CHUNK, _TAGS),
        _USERS,
        _SESSIONS,
    ),
    recognizes=lambda attributes: _OPERATION_ID in attributes,
    read=_read,
)

"""OpenLLMetry's instrumentations (Traceloop): the conventions of its day, with names of its own beside them.

Anthropic's cached tokens are in its input, Bedrock's are not, because it passes Bedrock's own counts on. The output of
an Anthropic stream counts the placeholder of the first event again: 201 where the provider says 200, which cannot be
undone and is marked (opentelemetry-instrumentation-openai, -anthropic and -bedrock 0.62.4; issue 4377 there).
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading, first_text, text_of
from farebox_collector.dialects.counting import Reading, counted, include_cache
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.dialects.providers import provider_of
from farebox_collector.spans import Span
from farebox_ledger.usage import EventKind, UsageEvent

_SCOPE: Final = "opentelemetry.instrumentation."
_PACKAGES: Final = (
    "openai.v0", "openai.v1", "openai_agents", "anthropic", "bedrock", "cohere", "google_generativeai", "groq",
    "langchain", "llamaindex", "mistralai", "ollama", "replicate", "sagemaker", "together", "transformers", "vertexai",
    "watsonx", "writer", "haystack", "crewai", "agno", "alephalpha", "voyageai",
)  # fmt: skip
"""Below OpenTelemetry's own scope. Where its packages have the same name (`vertexai`, `langchain`), they write the
conventions that are read here too."""

_SPAN_KIND: Final = "traceloop.span.kind"  # workflow, task, agent, tool
_REQUEST_TYPE: Final = "llm.request.type"
_OPERATIONS: Final = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings", "rerank": "rerank"}
_STREAMING: Final = ("gen_ai.is_streaming", "llm.is_streaming")
_OLD_COUNTS: Final = {
    "llm.usage.prompt_tokens": "input_tokens",
    "llm.usage.completion_tokens": "output_tokens",
    "llm.usage.reasoning_tokens": "reasoning_output_tokens",
    "gen_ai.usage.cache_read_input_tokens": "cache_read_input_tokens",
}
_OLD_SYSTEMS: Final = {"aws": "aws.bedrock", "langchain": None, "crewai": None}
"""`gen_ai.system` of older versions that says AWS of Bedrock, and names a framework where the provider is not known."""

_TOTALS: Final = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens")
_API_BASES: Final = ("gen_ai.openai.api_base", "llm.openai.api_base")
_WORKFLOW: Final = "traceloop.workflow.name"
_USERS: Final = (
    "traceloop.association.properties.user_id", "traceloop.association.properties.userId", "gen_ai.user", "llm.user",
)  # fmt: skip
_SESSIONS: Final = (
    "traceloop.association.properties.session_id", "traceloop.association.properties.sessionId",
    "traceloop.association.properties.conversation_id", "traceloop.association.properties.chat_id",
)  # fmt: skip
_USAGE_KEYS: Final = semconv.USAGE_KEYS.union(_OLD_COUNTS, _TOTALS)


def _read(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    fields = _names(attributes)
    reading = _usage(attributes, fields)
    kind = _kind(span, reading, fields)
    if kind is None:
        return None
    return assembled_reading(span, dialect="openllmetry", kind=kind, reading=reading, fields=fields)


def _kind(span: Span, reading: Reading, fields: dict[str, Any]) -> EventKind | None:
    if _SPAN_KIND in span.attributes:
        return "container"
    model = fields["response_model"] or fields["request_model"]
    return semconv.kind_of(span, reading.usage, fields["operation"], model)


def _names(attributes: Attributes) -> dict[str, Any]:
    fields = semconv.names_of(attributes)
    request_type = text_of(attributes.get(_REQUEST_TYPE))
    fields["operation"] = fields["operation"] or _OPERATIONS.get(request_type or "")
    provider = fields["provider"]
    fields["provider"] = provider_of(_OLD_SYSTEMS.get(provider or "", provider), _host(attributes))
    fields["stream"] = any(attributes.get(key) is True for key in _STREAMING)
    fields["user"] = first_text(attributes, _USERS)
    fields["session"] = first_text(attributes, _SESSIONS)
    fields["action"] = text_of(attributes.get(_WORKFLOW))
    return fields


def _usage(attributes: Attributes, fields: dict[str, Any]) -> Reading:
    reading = Reading(*semconv.read_usage(attributes))
    old, is_unusable = counted(attributes, _OLD_COUNTS)
    reading.is_clamped |= is_unusable
    for name, value in old.items():
        if getattr(reading.usage, name) is None:
            setattr(reading.usage, name, value)
    if fields["operation"] == "embeddings" and reading.usage.input_tokens is None:
        _take_total(attributes, reading)
    if fields["provider"] == "aws.bedrock" and include_cache(reading.usage):
        reading.changed_by("input_excludes_cache", attributes, _USAGE_KEYS)
    elif fields["provider"] == "anthropic" and fields["stream"] and reading.usage.output_tokens:
        reading.changed_by("output_includes_placeholder", attributes, _USAGE_KEYS)
    return reading


def _take_total(attributes: Attributes, reading: Reading) -> None:
    total, is_unusable = counted(attributes, dict.fromkeys(_TOTALS, "input_tokens"))
    if total:
        reading.usage.input_tokens = total["input_tokens"]
        reading.is_clamped |= is_unusable
        reading.changed_by("total_is_input", attributes, _TOTALS)


def _host(attributes: Attributes) -> str | None:
    """Name the host that an OpenAI client really talks to; the emitter writes its base address."""
    base = first_text(attributes, _API_BASES)
    try:
        return None if base is None else urlsplit(base).hostname
    except ValueError:
        return None


def _recognizes(attributes: Attributes) -> bool:
    return _SPAN_KIND in attributes or _REQUEST_TYPE in attributes


OPENLLMETRY: Final = Dialect(
    scopes=("traceloop", *(f"{_SCOPE}{package}" for package in _PACKAGES)),
    marks=(b"gen_ai.", b"traceloop."),
    keys=semconv.KEYS.union(
        (_SPAN_KIND, _REQUEST_TYPE, _WORKFLOW), _OLD_COUNTS, _TOTALS, _STREAMING, _API_BASES, _USERS, _SESSIONS
    ),
    recognizes=_recognizes,
    read=_read,
)

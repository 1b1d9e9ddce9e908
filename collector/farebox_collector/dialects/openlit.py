"""OpenLIT's instrumentations: the conventions' keys, with each provider's own meaning.

Anthropic's and Bedrock's input excludes cached tokens, Google's output excludes thoughts; its other instrumentations
fold them in (openlit 1.45.0: the `prompt_tokens_include_cache` of each, and google_ai_studio/utils.py). The provider's
name does not tell them apart, LangChain's spans name the same ones: the scope does. Its cost is an estimate by its own
price list, 0 where the list lacks the model.
"""

from __future__ import annotations

from typing import Any, Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading, first_text, stated_cost
from farebox_collector.dialects.counting import Reading, counted, include_cache, include_reasoning
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.spans import Span
from farebox_ledger.usage import EventKind, UsageEvent

_SCOPE: Final = "openlit.instrumentation."
_EXCLUDING_CACHE: Final = (f"{_SCOPE}anthropic", f"{_SCOPE}bedrock")
_EXCLUDING_REASONING: Final = (f"{_SCOPE}google_ai_studio",)

_OPERATIONS: Final = {
    "image": "image_generation",
    "audio": "speech",
    "text_to_speech": "speech",
    "speech_to_text": "transcription",
    "speech_to_text_translate": "translation",
    "translate": "translation",
    "video": "video_generation",
    "conversation": "chat",
}
"""Its words for what the conventions, or our own spans, call otherwise."""

_CONTAINERS: Final = semconv.CONTAINERS.union((
    "execute_task", "framework", "agent", "execution", "user_prompt_processing", "model_request", "tool_coordination",
))  # fmt: skip
_OLD_COUNTS: Final = {
    "gen_ai.usage.prompt_tokens_details.cached_tokens": "cache_read_input_tokens",
    "gen_ai.usage.completion_tokens_details.reasoning_tokens": "reasoning_output_tokens",
    "gen_ai.usage.completion_tokens_details.audio_tokens": "audio_output_tokens",
}
_COST: Final = "gen_ai.usage.cost"
_SDK: Final = "telemetry.sdk.name"
_USERS: Final = ("gen_ai.user.id", "gen_ai.request.user")
_SESSIONS: Final = ("gen_ai.session.id",)
_APPLICATIONS: Final = ("gen_ai.application_name",)
_USAGE_KEYS: Final = semconv.USAGE_KEYS.union(_OLD_COUNTS)


def _read(span: Span) -> UsageEvent | None:
    reading = _usage(span)
    fields = _names(span.attributes)
    kind = _kind(reading, fields)
    if kind is None:
        return None
    return assembled_reading(span, dialect="openlit", kind=kind, reading=reading, fields=fields)


def _kind(reading: Reading, fields: dict[str, Any]) -> EventKind | None:
    """Tell calls from what wraps them, and from the rest: vector stores, files, fine-tuning jobs."""
    if fields["operation"] in _CONTAINERS:
        return "container"
    if fields["operation"] in semconv.CALLS:
        return "call"
    has_model = fields["request_model"] is not None or fields["response_model"] is not None
    return "call" if has_model and not reading.usage.is_empty() else None


def _usage(span: Span) -> Reading:
    attributes = span.attributes
    reading = Reading(*semconv.read_usage(attributes))
    old, is_unusable = counted(attributes, _OLD_COUNTS)
    reading.is_clamped |= is_unusable
    for name, value in old.items():
        if getattr(reading.usage, name) is None:
            setattr(reading.usage, name, value)
    if span.scope.startswith(_EXCLUDING_CACHE) and include_cache(reading.usage):
        reading.changed_by("input_excludes_cache", attributes, _USAGE_KEYS)
    elif span.scope.startswith(_EXCLUDING_REASONING) and include_reasoning(reading.usage):
        reading.changed_by("output_excludes_reasoning", attributes, _USAGE_KEYS)
    return reading


def _names(attributes: Attributes) -> dict[str, Any]:
    fields = semconv.names_of(attributes)
    fields["operation"] = _OPERATIONS.get(fields["operation"], fields["operation"])
    fields["stated_cost"] = stated_cost(attributes.get(_COST)) or None
    fields["user"] = first_text(attributes, _USERS)
    fields["session"] = first_text(attributes, _SESSIONS)
    fields["service"] = first_text(attributes, _APPLICATIONS)
    return fields


OPENLIT: Final = Dialect(
    scopes=("openlit",),
    marks=(b"gen_ai.",),
    keys=semconv.KEYS.union((_COST, _SDK), _OLD_COUNTS, _USERS, _SESSIONS, _APPLICATIONS),
    recognizes=lambda attributes: attributes.get(_SDK) == "openlit",
    read=_read,
)

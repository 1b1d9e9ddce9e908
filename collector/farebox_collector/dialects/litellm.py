"""LiteLLM's OpenTelemetry callback, both of its engines: one span for each request, written when it is over.

Its input includes cached tokens, whatever the provider's does. What it answers from its own cache called no provider:
such a row is kept without usage and is not billable (litellm 1.109.1, integrations/opentelemetry.py and otel/).
Organizations and teams are LiteLLM's own, and data here: who pays is decided by the sender's key alone.
"""

from __future__ import annotations

from typing import Any, Final

from farebox_collector.dialects import semconv
from farebox_collector.dialects.assembly import assembled_reading, first_text, stated_cost, text_of
from farebox_collector.dialects.counting import Reading
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.spans import Span
from farebox_ledger.usage import EventKind, Usage, UsageEvent

_CALL_ID: Final = "litellm.call_id"
_CACHE_HIT: Final = "litellm.cache_hit"
_CALL_TYPES: Final = ("litellm.call_type", "llm.request.type")
_OPERATIONS: Final = (
    ("embedding", "embeddings"),
    ("text_completion", "text_completion"),
    ("image_edit", "image_edit"),
    ("image_generation", "image_generation"),
    ("video", "video_generation"),
    ("transcription", "transcription"),
    ("speech", "speech"),
    ("rerank", "rerank"),
    ("moderation", "moderation"),
    ("completion", "chat"),
    ("responses", "chat"),
    ("generate_content", "generate_content"),
    ("anthropic_messages", "chat"),
)
"""Parts of the call types (`acompletion`, `aimage_generation`) that say what the call does, tried in order."""

_COSTS: Final = ("litellm.cost.total", "gen_ai.cost.total_cost")
_DEPLOYMENT: Final = "litellm.provider.model"
_STREAMING: Final = ("litellm.request.streaming", "llm.is_streaming")
_USERS: Final = (
    "litellm.end_user.id",
    "metadata.user_api_key_end_user_id",
    "metadata.user_api_key_user_id",
    "litellm.metadata.user_api_key_user_id",
    "llm.user",
)
_EMAIL: Final = "metadata.user_api_key_user_email"
_DATA: Final = {
    "litellm.team.id": "litellm_team_id",
    "metadata.user_api_key_team_id": "litellm_team_id",
    "litellm.team.alias": "litellm_team",
    "metadata.user_api_key_team_alias": "litellm_team",
    "metadata.user_api_key_org_id": "litellm_organization_id",
    "metadata.user_api_key_alias": "litellm_key",
    _CALL_ID: "litellm_call_id",
}
"""What LiteLLM knows of who called, as metadata of the row."""


def _read(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    fields = _names(attributes)
    reading = Reading(*semconv.read_usage(attributes))
    kind = _kind(reading, fields)
    if kind is None:
        return None
    if attributes.get(_CACHE_HIT) in (True, "True", "true"):
        reading.changed_by("cache_hit", attributes, semconv.USAGE_KEYS)
        reading.usage = Usage()
    return assembled_reading(span, dialect="litellm", kind=kind, reading=reading, fields=fields)


def _kind(reading: Reading, fields: dict[str, Any]) -> EventKind | None:
    """Tell the requests from the spans around them: guardrails, caches, the raw request, the proxy's own work."""
    if fields["operation"] in semconv.CONTAINERS:
        return "container"
    has_model = fields["request_model"] is not None or fields["response_model"] is not None
    is_request = fields["operation"] is not None or not reading.usage.is_empty()
    return "call" if has_model and is_request else None


def _names(attributes: Attributes) -> dict[str, Any]:
    fields = semconv.names_of(attributes)
    if fields["provider"] == "unknown":
        fields["provider"] = None
    fields["operation"] = fields["operation"] or _operation(first_text(attributes, _CALL_TYPES))
    # The requested name may be an alias of the router; the deployment names the model behind it.
    fields["request_model"] = text_of(attributes.get(_DEPLOYMENT)) or fields["request_model"]
    fields["stated_cost"] = next((stated_cost(attributes[key]) for key in _COSTS if key in attributes), None)
    fields["stream"] = any(attributes.get(key) in (True, "True", "true") for key in _STREAMING)
    fields["user"] = first_text(attributes, _USERS)
    fields["user_email"] = text_of(attributes.get(_EMAIL))
    data = {name: text for key, name in _DATA.items() if (text := text_of(attributes.get(key))) is not None}
    fields["metadata"] = data or None
    return fields


def _operation(call_type: str | None) -> str | None:
    if call_type is None:
        return None
    return next((operation for part, operation in _OPERATIONS if part in call_type), None)


LITELLM: Final = Dialect(
    scopes=("litellm",),
    marks=(b"gen_ai.",),
    keys=semconv.KEYS.union((_CACHE_HIT, _DEPLOYMENT, _EMAIL), _CALL_TYPES, _COSTS, _STREAMING, _USERS, _DATA),
    recognizes=lambda attributes: _CALL_ID in attributes or _CACHE_HIT in attributes,
    read=_read,
)

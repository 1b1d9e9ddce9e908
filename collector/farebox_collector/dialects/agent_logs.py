"""Coding agents that report their calls as log events: Claude Code and Codex CLI.

One event is one call. Claude Code's `api_request` has Anthropic's own counts, whose input excludes cached tokens; when
its beta tracing is on as well, the same call comes as a span with the same request id, and counts once: both are put
into one trace of their own, where the rule of the same response finds them. Codex's `sse_event` of kind
`response.completed` has OpenAI's counts, as text; Codex's own spans name no model and are no calls.

Read from @anthropic-ai/claude-code 2.1.197 and @openai/codex 0.169.0 (codex-rs/otel, session_telemetry.rs).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from farebox_collector.dialects.assembly import assembled_reading, stated_cost, text_of
from farebox_collector.dialects.counting import Reading, counted, include_cache, number_of
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.dialects.providers import provider_of_model_id
from farebox_collector.spans import Span
from farebox_ledger.usage import Usage, UsageEvent

_EVENT: Final = "event.name"
_EVENT_KIND: Final = "event.kind"
_EVENT_TIME: Final = "event.timestamp"
_SEQUENCE: Final = "event.sequence"
_SPAN_TYPE: Final = "span.type"
_MODEL: Final = "model"
_REQUEST: Final = "request_id"
_DURATION: Final = "duration_ms"
_SPEED: Final = "speed"
_COST: Final = "cost_usd"
_CONVERSATION: Final = "conversation.id"
_ACCOUNT: Final = "user.account_id"
_SESSION: Final = "session.id"
_DATA: Final = {"organization.id": "organization_id", "query_source": "query_source", "auth_mode": "auth_mode"}
"""What an agent knows of who called and why, as metadata of the row. The organization is Anthropic's, not ours."""

_CLAUDE_EVENTS: Final = ("api_request", "claude_code.api_request")
_CODEX_EVENT: Final = "codex.sse_event"
_CODEX_KIND: Final = "response.completed"
_CODEX_COPY: Final = "codex_otel.trace_safe"
"""Codex writes each event twice: once to its logs, and once without names and texts to its traces."""

_CLAUDE_COUNTS: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_creation_tokens": "cache_write_input_tokens",
}
_CODEX_COUNTS: Final = {
    "input_token_count": "input_tokens",
    "output_token_count": "output_tokens",
    "cached_token_count": "cache_read_input_tokens",
    "cache_write_token_count": "cache_write_input_tokens",
    "reasoning_token_count": "reasoning_output_tokens",
}

LOG_MARKS: Final = (b"cache_creation_tokens", b"input_token_count")
"""Each record that is a call contains one of these; prompts and tool results pass by unread."""


def identify(span: Span) -> bool:
    """Give the span of a log record its ids; False when the record is no call.

    The ids are made of what the record says of itself (source, session, request id, event time, sequence), so that the
    same record gets the same ones whenever and wherever it arrives.
    """
    get = span.attributes.get
    event = get(_EVENT)
    if event in _CLAUDE_EVENTS:
        source, session, needed = "claude_code", get(_SESSION), _CLAUDE_COUNTS
    elif event == _CODEX_EVENT and get(_EVENT_KIND) == _CODEX_KIND and span.scope != _CODEX_COPY:
        source, session, needed = "codex", get(_CONVERSATION), _CODEX_COUNTS
    else:
        return False
    if not any(key in span.attributes for key in needed):
        return False
    request = text_of(get(_REQUEST))
    facts = (source, session, request, get(_EVENT_TIME), span.end_us, get(_SEQUENCE))
    span.span_id = _digest(facts, 8)
    span.trace_id = _digest(facts, 16) if request is None else _trace_of(source, request)
    return True


def _trace_of(source: str, request: str) -> bytes:
    return _digest((source, request), 16)


def _digest(facts: tuple[object, ...], size: int) -> bytes:
    return blake2b(repr(facts).encode(), digest_size=size).digest()


def _read_claude_code(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    is_span = attributes.get(_SPAN_TYPE) == "llm_request"
    if not is_span and attributes.get(_EVENT) not in _CLAUDE_EVENTS:
        return None
    model = text_of(attributes.get(_MODEL)) or text_of(attributes.get("gen_ai.request.model"))
    reading = _counts(attributes, _CLAUDE_COUNTS)
    if include_cache(reading.usage):
        reading.changed_by("input_excludes_cache", attributes, _CLAUDE_COUNTS)
    fields = _fields(attributes, model, provider_of_model_id(model) or "anthropic")
    fields["stated_cost"] = stated_cost(attributes.get(_COST))
    fields["service_tier"] = "fast" if attributes.get(_SPEED) == "fast" else None
    event = assembled_reading(span, dialect="claude_code", kind="call", reading=reading, fields=fields)
    if is_span:
        event.is_client = True
        if event.response_id is not None:
            event.trace_id, event.parent_span_id = _trace_of("claude_code", event.response_id), None
    _set_start(event, attributes)
    return event


def _read_codex(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    if attributes.get(_EVENT) != _CODEX_EVENT or attributes.get(_EVENT_KIND) != _CODEX_KIND:
        return None
    fields = _fields(attributes, text_of(attributes.get(_MODEL)), "openai")
    fields["session"] = text_of(attributes.get(_CONVERSATION))
    fields["user"] = text_of(attributes.get(_ACCOUNT))
    return assembled_reading(
        span, dialect="codex", kind="call", reading=_counts(attributes, _CODEX_COUNTS), fields=fields
    )


def _counts(attributes: Attributes, names: dict[str, str]) -> Reading:
    quantities, is_clamped = counted(attributes, names)
    writes = quantities.pop("cache_write_input_tokens", None)
    if writes is not None:
        quantities["cache_write_input_tokens"] = {"unsplit": writes}
    return Reading(Usage(**quantities), is_clamped)


def _fields(attributes: Attributes, model: str | None, provider: str) -> dict[str, Any]:
    data = {name: text for key, name in _DATA.items() if (text := text_of(attributes.get(key))) is not None}
    return {
        "provider": provider,
        "request_model": model,
        "response_id": text_of(attributes.get(_REQUEST)),
        "operation": "chat",
        "metadata": data or None,
    }


def _set_start(event: UsageEvent, attributes: Attributes) -> None:
    """Reckon the start of an event, which has an end and a duration alone."""
    duration_ms = number_of(attributes.get(_DURATION))
    if event.started_at_us is None and isinstance(duration_ms, int | float) and 0 <= duration_ms < 86_400_000:
        event.started_at_us = event.occurred_at_us - round(duration_ms * 1000)


_KEYS: Final = frozenset((
    _EVENT, _EVENT_TIME, _SEQUENCE, _MODEL, _REQUEST, _DURATION, _SESSION, *_DATA,
))  # fmt: skip

CLAUDE_CODE: Final = Dialect(
    scopes=("com.anthropic.claude_code",),
    marks=(b"gen_ai.",),
    keys=_KEYS.union((_SPAN_TYPE, _SPEED, _COST, "gen_ai.request.model"), _CLAUDE_COUNTS),
    recognizes=lambda attributes: attributes.get(_EVENT) in _CLAUDE_EVENTS,
    read=_read_claude_code,
)
CODEX: Final = Dialect(
    scopes=("codex_otel",),
    marks=(),
    keys=_KEYS.union((_EVENT_KIND, _CONVERSATION, _ACCOUNT), _CODEX_COUNTS),
    recognizes=lambda attributes: attributes.get(_EVENT) == _CODEX_EVENT,
    read=_read_codex,
)
LOG_KEYS: Final = CLAUDE_CODE.keys | CODEX.keys

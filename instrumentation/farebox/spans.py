"""Open and close the span of one call; every attribute name that we emit stands here.

Comes in: what a `Request` and a `Reading` know. Goes out: one span of our own tracer, ended exactly once, whoever ends
it first (the answer, a close, the garbage collector, another thread). It never becomes the current span, so that the
app's own spans keep their parents; its own parent is the app's current span.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode, set_span_in_context

from farebox import attribution, exporting

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from farebox.reading import Attributes
    from farebox.recording import SpanRecord

# OpenTelemetry semantic conventions for generative AI (repository semantic-conventions-genai, 2026-11).
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
USER_ID = "user.id"
USER_EMAIL = "user.email"
SESSION_ID = "session.id"

INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_INPUT_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens"
AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens"
IMAGE_INPUT_TOKENS = "gen_ai.usage.image.input_tokens"
VIDEO_INPUT_TOKENS = "gen_ai.usage.video.input_tokens"
AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens"
IMAGE_OUTPUT_TOKENS = "gen_ai.usage.image.output_tokens"

# Ours: what the conventions have no word for.
CACHE_WRITE_5M_INPUT_TOKENS = "farebox.usage.cache_write_5m.input_tokens"
CACHE_WRITE_1H_INPUT_TOKENS = "farebox.usage.cache_write_1h.input_tokens"
CACHE_WRITE_30M_INPUT_TOKENS = "farebox.usage.cache_write_30m.input_tokens"
CACHE_WRITE_12H_INPUT_TOKENS = "farebox.usage.cache_write_12h.input_tokens"
INPUT_IMAGES = "farebox.usage.input_images"
OUTPUT_IMAGES = "farebox.usage.output_images"
INPUT_SECONDS = "farebox.usage.input_seconds"
OUTPUT_SECONDS = "farebox.usage.output_seconds"
INPUT_CHARACTERS = "farebox.usage.input_characters"
OUTPUT_CHARACTERS = "farebox.usage.output_characters"
PAGES = "farebox.usage.pages"
SEARCH_UNITS = "farebox.usage.search_units"
REQUESTS = "farebox.usage.requests"
WEB_SEARCHES = "farebox.usage.web_searches"
#: Mistral's own count, kept as it is said: whether it is billed as a cache read is not documented (2026-11).
NUM_CACHED_TOKENS = "farebox.usage.num_cached_tokens"
SEARCH_CONTEXT_SIZE = "farebox.usage.search_context_size"
ESTIMATED_INPUT_TOKENS = "farebox.estimated_input_tokens"
ESTIMATED_OUTPUT_TOKENS = "farebox.estimated_output_tokens"
SERVICE_TIER = "farebox.service_tier"
BATCH = "farebox.batch"
REGION = "farebox.region"
STATED_COST = "farebox.stated_cost"
OUTCOME = "farebox.outcome"
SEQUENCE = "farebox.sequence"

# How a call ended; a span without an outcome completed.
COMPLETED = "completed"
CLOSED_EARLY = "closed_early"
DROPPED = "dropped"
CANCELLED = "cancelled"
ERROR = "error"

ERROR_MESSAGE_MAX_CHARACTERS = 256


class CallSpan:
    """The span of one physical call. `end` may be called any number of times, from any thread; the first counts."""

    __slots__ = ("_once", "_span", "started_s")

    def __init__(self, span: Span | SpanRecord) -> None:
        self._span = span
        self._once = threading.Lock()
        self.started_s = time.perf_counter()

    @property
    def is_open(self) -> bool:
        return not self._once.locked()

    def end(self, attributes: Attributes, outcome: str = COMPLETED, error: BaseException | None = None) -> None:
        """Set everything at once and hand the span over; `error` is what the call raised, None if it did not."""
        if not self._once.acquire(blocking=False):
            return
        if outcome != COMPLETED:
            attributes[OUTCOME] = outcome
        if error is not None and outcome == ERROR:
            attributes[ERROR_TYPE] = qualified_name(type(error))
            self._span.set_status(Status(StatusCode.ERROR, first_line(error)))
        attributes[SEQUENCE] = exporting.next_sequence()
        self._span.set_attributes(attributes)
        self._span.end()

    def restart(self) -> None:
        """Start now: the call was prepared before, and is made only now. Spans of the SDK cannot, and keep theirs."""
        self.started_s = time.perf_counter()
        restart = getattr(self._span, "restart", None)
        if restart is not None:
            restart()

    def discard(self) -> None:
        """Forget the span: the call was no use of a model."""
        self._once.acquire(blocking=False)

    def end_child(self, scope: str, attributes: Attributes) -> None:
        """Record a further model's part inside this call as a span below it, over the same time."""
        parent = set_span_in_context(NonRecordingSpan(self._span.get_span_context()))
        name = f"{attributes.get(OPERATION, 'chat')} {attributes.get(RESPONSE_MODEL, '')}".strip()
        started_ns = getattr(self._span, "start_time", None)
        child = exporting.tracer(scope).start_span(name, parent, SpanKind.CLIENT, start_time=started_ns)
        CallSpan(child).end(attributes)


def open_span(scope: str, operation: str, model: str | None, started_ns: int | None = None) -> CallSpan | None:
    """Start the span of a call; None when the app's own tracer provider (if chosen) does not record it.

    `started_ns` is the start in nanoseconds since the epoch, None for now.
    """
    name = f"{operation} {model}" if model else operation
    context = otel_context.get_current()
    span = exporting.tracer(scope).start_span(name, context, SpanKind.CLIENT, start_time=started_ns)
    return CallSpan(span) if span.is_recording() else None


def book(scope: str, attributes: Attributes) -> None:
    """Record a use that was made elsewhere and is known only now, as a span without duration."""
    model = attributes.get(RESPONSE_MODEL) or attributes.get(REQUEST_MODEL)
    span = open_span(scope, str(attributes.get(OPERATION, "chat")), str(model) if model else None)
    if span is not None:
        span.end(attributes)


def base_attributes(operation: str, provider: str, model: str | None) -> Attributes:
    """What every span starts with: who pays, what was asked, of whom."""
    attributes = attribution.current()
    attributes[OPERATION] = operation
    attributes[PROVIDER] = provider
    if model:
        attributes[REQUEST_MODEL] = model
    return attributes


def qualified_name(kind: type[BaseException]) -> str:
    """`openai.RateLimitError`; a builtin stands without its module."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def first_line(error: BaseException) -> str:
    """The first line of the message, cut short; the collector scrubs it further."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001 - the `__str__` of the app's own exception class may fail
        return ""
    return lines[0][:ERROR_MESSAGE_MAX_CHARACTERS] if lines else ""

"""Meter calls that no SDK makes: `track` around one's own request, `record_usage` for figures known afterwards.

Comes in: what the app says. Goes out: the same spans as from the SDK files. Nothing here raises for what it is given,
and `track` never swallows an exception of the app.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from farebox import attribution, metering, safety, spans
from farebox.reading import Attributes, Reading, Request, count, fields
from farebox.sdks import anthropic, openai

TRACK_SCOPE = "farebox.track"
RECORD_SCOPE = "farebox.record_usage"

COUNTS: Mapping[str, str] = {
    "input_tokens": spans.INPUT_TOKENS,
    "cache_read_input_tokens": spans.CACHE_READ_INPUT_TOKENS,
    "audio_input_tokens": spans.AUDIO_INPUT_TOKENS,
    "image_input_tokens": spans.IMAGE_INPUT_TOKENS,
    "video_input_tokens": spans.VIDEO_INPUT_TOKENS,
    "output_tokens": spans.OUTPUT_TOKENS,
    "reasoning_output_tokens": spans.REASONING_OUTPUT_TOKENS,
    "audio_output_tokens": spans.AUDIO_OUTPUT_TOKENS,
    "image_output_tokens": spans.IMAGE_OUTPUT_TOKENS,
    "input_images": spans.INPUT_IMAGES,
    "output_images": spans.OUTPUT_IMAGES,
    "input_seconds": spans.INPUT_SECONDS,
    "output_seconds": spans.OUTPUT_SECONDS,
    "input_characters": spans.INPUT_CHARACTERS,
    "output_characters": spans.OUTPUT_CHARACTERS,
    "pages": spans.PAGES,
    "search_units": spans.SEARCH_UNITS,
    "requests": spans.REQUESTS,
    "web_searches": spans.WEB_SEARCHES,
}
CACHE_WRITES: Mapping[str, str] = {
    "5m": spans.CACHE_WRITE_5M_INPUT_TOKENS,
    "1h": spans.CACHE_WRITE_1H_INPUT_TOKENS,
    "30m": spans.CACHE_WRITE_30M_INPUT_TOKENS,
    "12h": spans.CACHE_WRITE_12H_INPUT_TOKENS,
}


class track:  # noqa: N801 - used as a verb: `with farebox.track(provider="openai", model="gpt-4o") as call:`
    """Meter a call that the app makes without an SDK; a context manager, sync and async.

    It takes the time, and marks the call as failed or cancelled by the exception that leaves the block, which passes.
    Keyword arguments beside those named are those of `attribute`; they hold for the block. SDK calls inside the block
    are metered by themselves, as children of nothing of this.
    """

    def __init__(
        self, *, provider: str | None = None, model: str | None = None, operation: str = "chat", **attributes: Any
    ) -> None:
        self._provider = provider
        self._model = model
        self._operation = operation
        self._payer = _payer(attributes)
        self._span: spans.CallSpan | None = None
        self._base: Attributes = {}
        self._error: BaseException | None = None
        self._metadata: dict[str, Any] = {}
        self._reading = Reading(Request(operation, provider or "", model))

    def __enter__(self) -> track:
        self._payer.__enter__()
        try:
            if not attribution.is_suppressed():
                metering.settings()
                self._base = spans.base_attributes(self._operation, self._provider or "", self._model)
                self._span = spans.open_span(TRACK_SCOPE, self._operation, self._model)
        except Exception:  # noqa: BLE001 - the block runs whatever happens here
            safety.report("track.open")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._payer.__exit__(kind, error, trace)
        try:
            self._end(error if error is not None else self._error)
        except Exception:  # noqa: BLE001 - the app's own exception must pass
            safety.report("track.end")

    async def __aenter__(self) -> track:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def set_response(self, response: Any) -> None:
        """Read usage, model, id and finish reason from an answer: decoded JSON, or an SDK's object.

        Takes OpenAI's and Anthropic's shapes; others give what they have in common with them.
        """
        self._guarded(lambda: _read_any(response, self._reading))

    def set_tokens(
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        *,
        cache_write_input_tokens: int | Mapping[str, int] | None = None,
        **usage: float | str | None,
    ) -> None:
        """Set usage members by their names; totals include their parts. None means not known, 0 means none."""
        named = {**usage, "input_tokens": input_tokens, "output_tokens": output_tokens}
        self._guarded(lambda: self._reading.attributes.update(_usage(named, cache_write_input_tokens)))

    def set_model(self, model: str, provider: str | None = None) -> None:
        """Name the model that answered, and its provider where it is another than was asked for."""
        self._reading.attributes[spans.RESPONSE_MODEL] = str(model)
        if provider is not None:
            self._provider = str(provider)

    set_provider_model = set_model

    def set_error(self, error: BaseException | str) -> None:
        """Mark the call as failed where the app does not let an exception leave the block."""
        self._error = error if isinstance(error, BaseException) else RuntimeError(str(error))

    def add_metadata(self, metadata: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Add to the metadata of this call; later values win."""
        self._guarded(lambda: self._metadata.update({**(metadata or {}), **more}))

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 - what the app hands in may be of any shape
            safety.report("track.set")

    def _end(self, error: BaseException | None) -> None:
        if self._span is None:
            return
        attributes = {**self._base, **self._reading.attributes}
        _put_provider(attributes, self._provider)
        _put_metadata(attributes, self._metadata)
        outcome = metering.outcome_of(error) if error is not None else spans.COMPLETED
        for child in self._reading.children:
            self._span.end_child(TRACK_SCOPE, {**self._base, **child})
        self._span.end(attributes, outcome, error)


def record_usage(
    *,
    provider: str | None = None,
    model: str | None = None,
    operation: str = "chat",
    request_model: str | None = None,
    response_id: str | None = None,
    input_tokens: int | None = None,
    cache_read_input_tokens: int | None = None,
    cache_write_input_tokens: int | Mapping[str, int] | None = None,
    audio_input_tokens: int | None = None,
    image_input_tokens: int | None = None,
    video_input_tokens: int | None = None,
    output_tokens: int | None = None,
    reasoning_output_tokens: int | None = None,
    audio_output_tokens: int | None = None,
    image_output_tokens: int | None = None,
    input_images: int | None = None,
    output_images: int | None = None,
    input_seconds: float | None = None,
    output_seconds: float | None = None,
    input_characters: int | None = None,
    output_characters: int | None = None,
    pages: int | None = None,
    search_units: int | None = None,
    requests: int | None = None,
    web_searches: int | None = None,
    search_context_size: str | None = None,
    service_tier: str | None = None,
    batch: bool | None = None,
    region: str | None = None,
    stated_cost: str | None = None,
    stream: bool | None = None,
    duration_s: float | None = None,
    error: BaseException | str | None = None,
    **attributes: Any,
) -> bool:
    """Record the usage of a call that is over; True when it was recorded. Never raises.

    Counts overlap as in OpenTelemetry: `input_tokens` includes the cached, audio and image parts, `output_tokens` the
    reasoning. `cache_write_input_tokens` is a number, or a map by lifetime ("5m", "1h", "30m", "12h", "unsplit").
    `stated_cost` is a decimal text in US dollars. `duration_s` puts the start that long before now. None means not
    said. Further keyword arguments are those of `attribute`.
    """
    try:
        if attribution.is_suppressed():
            return False
        metering.settings()
        named = {name: value for name, value in locals().items() if name in COUNTS or name == "search_context_size"}
        facts = {
            spans.RESPONSE_MODEL: model,
            spans.RESPONSE_ID: response_id,
            spans.SERVICE_TIER: service_tier,
            spans.BATCH: batch or None,
            spans.REGION: region,
            spans.STATED_COST: None if stated_cost is None else str(stated_cost),
            spans.REQUEST_STREAM: stream or None,
        }
        with _payer(attributes):
            recorded = spans.base_attributes(operation, provider or "", request_model or model)
        _put_provider(recorded, provider)
        recorded.update(_usage(named, cache_write_input_tokens))
        recorded.update({name: value for name, value in facts.items() if value is not None})
        return _record(recorded, operation, request_model or model, duration_s, error)
    except Exception:  # noqa: BLE001 - what the app hands in may be of any shape
        safety.report("record_usage")
        return False


def _record(
    attributes: Attributes,
    operation: str,
    model: str | None,
    duration_s: float | None,
    error: BaseException | str | None,
) -> bool:
    started_ns = None if duration_s is None else time.time_ns() - int(duration_s * 1e9)
    span = spans.open_span(RECORD_SCOPE, operation, model, started_ns)
    if span is None:
        return False
    raised = RuntimeError(error) if isinstance(error, str) else error
    span.end(attributes, spans.COMPLETED if raised is None else metering.outcome_of(raised), raised)
    return True


def _usage(named: Mapping[str, Any], cache_writes: int | Mapping[str, object] | None) -> Attributes:
    """Usage members by their span attributes; an unknown name is left out with one log line."""
    attributes: Attributes = {}
    for name, value in named.items():
        if value is None:
            continue
        if name == "search_context_size":
            attributes[spans.SEARCH_CONTEXT_SIZE] = str(value)
        elif name in COUNTS:
            _put_count(attributes, COUNTS[name], value)
        else:
            safety.say_once(f"usage.{name}", f"{name!r} is no usage member and is left out.")
    if isinstance(cache_writes, Mapping):
        by_ttl = {ttl: number for ttl, tokens in cache_writes.items() if (number := count(tokens)) is not None}
        if any(tokens is not None and ttl not in by_ttl for ttl, tokens in cache_writes.items()):
            raise ValueError("cache_write_input_tokens holds what is no number: the total is not known")
        attributes[spans.CACHE_WRITE_INPUT_TOKENS] = sum(by_ttl.values())
        attributes.update({CACHE_WRITES[ttl]: tokens for ttl, tokens in by_ttl.items() if ttl in CACHE_WRITES})
    elif cache_writes is not None:
        _put_count(attributes, spans.CACHE_WRITE_INPUT_TOKENS, cache_writes)
    return attributes


def _put_count(attributes: Attributes, name: str, value: object) -> None:
    number = count(value)
    if number is not None:
        attributes[name] = number
    elif value is not None:
        safety.say_once(f"count.{name}", f"{name} is no usable number ({type(value).__name__}) and is left out.")


def _read_any(response: Any, reading: Reading) -> None:
    """Tell Anthropic's shape from OpenAI's: only there input and cache stand side by side in `usage`."""
    usage = fields(fields(response).get("usage"))
    is_anthropic = fields(response).get("type") == "message" or "cache_creation_input_tokens" in usage
    (anthropic if is_anthropic else openai).read_response(response, reading)


def _payer(attributes: dict[str, Any]) -> attribution.attribute:
    """An attribution block; names that it does not know are left out with one log line."""
    known = {*attribution.NAMES, "tags", "metadata"}
    for name in attributes.keys() - known:
        safety.say_once(f"attribute.{name}", f"{name!r} is no attribution and is left out.")
    return attribution.attribute(**{name: value for name, value in attributes.items() if name in known})


def _put_provider(attributes: Attributes, provider: str | None) -> None:
    """An unknown provider is absent, not empty: the collector looks for the catalog that knows the model."""
    if provider:
        attributes[spans.PROVIDER] = provider
    else:
        attributes.pop(spans.PROVIDER, None)


def _put_metadata(attributes: Attributes, metadata: dict[str, Any]) -> None:
    if not metadata:
        return
    outer = attributes.get(attribution.METADATA)
    known = json.loads(outer) if isinstance(outer, str) else {}
    encoded = attribution.encode_metadata({**known, **metadata})
    if encoded is not None:
        attributes[attribution.METADATA] = encoded

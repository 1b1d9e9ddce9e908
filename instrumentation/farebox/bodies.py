"""Read along where the app reads an HTTP body itself: raw and streaming responses of the httpx-based SDKs.

Comes in: httpx response objects (of httpx or httpx2; neither is imported). Goes out: the same bytes to the app, and
what they say to the call: the usage in a JSON body, or the chunks of an event stream. Only the `stream` attribute of a
response is wrapped: everything that the app can do with it goes through there, and it is not part of a pickle.
"""

from __future__ import annotations

import inspect
import json
import re
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import wrapt

from farebox import safety, spans
from farebox.reading import Request

if TYPE_CHECKING:
    Proxy: TypeAlias = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy  # not subscriptable before wrapt 2

JSON_MAX_BYTES = 64 * 1024 * 1024
USAGES = (b'"usage":{', b'"usage": {')
#: A member with its comma; inside a text its quotes would stand behind backslashes.
UNSAID_USAGE = re.compile(rb',\s*"usage":\s*null')
#: Only events with one of these are decoded: they hold counts, or say how the stream ends.
MARKERS = (
    *USAGES, b'"finish_reason":"', b'"finish_reason": "', b'"stop_reason":"', b'"x_groq"',
    b'"executed_tools"',
)  # fmt: skip
#: Only what has one of these is decoded of what is delivered: counts, or what a connection is set to.
DELIVERED_MARKERS = (b'"usage"', b'"usage_info"', b'"usageMetadata"', b'"tokenCount"', b'"session"')
LAST_LINE = re.compile(rb"^data:\s*\[DONE\]\s*$", re.MULTILINE)
LAST_EVENTS = frozenset({"message_stop", "response.completed", "response.incomplete", "response.failed"})


class MeteredCall(Protocol):
    """What a body needs to know of its call."""

    scope: str
    request: Request

    def read(self, answer: Any) -> None: ...

    def read_chunk(self, chunk: Any) -> None: ...

    def fail(self, error: BaseException) -> None: ...

    def end(self, outcome: str = ..., error: BaseException | None = ...) -> None: ...


def body_of(result: Any) -> Any | None:
    """The HTTP response in an answer that the SDK has not decoded; None for decoded answers."""
    inside = getattr(result, "__dict__", {})
    if "http_response" in inside:
        return inside["http_response"]
    if "is_stream_consumed" in getattr(inside.get("response"), "__dict__", {}):
        return inside["response"]
    return result if "is_stream_consumed" in inside else None


def decoded(body: Any) -> Any | None:
    """The JSON of a body that was read already; None when it is none."""
    if "json" not in body.headers.get("content-type", ""):
        return None
    return json.loads(body.content)


def lines(delivered: Any) -> Iterator[dict[str, Any]]:
    """The JSON objects of a body that was read already, or of its text: one in all, or one in each line."""
    text = delivered.encode() if isinstance(delivered, str) else delivered
    if not isinstance(text, bytes):
        text = getattr(delivered, "content", b"")
    if (whole := _object_in(text)) is not None:
        yield whole  # a message of a connection, whose JSON may be broken into lines
        return
    for line in text.split(b"\n"):
        if (found := _object_in(line)) is not None:
            yield found


def refused_answer(error: BaseException) -> list[Any]:
    """The answer behind an exception of the SDK's parser, as a list of one; empty where the provider itself refused."""
    inside = getattr(error, "__dict__", {})
    body = inside.get("raw_response") or inside.get("response")
    if not getattr(body, "is_success", False) or not getattr(body, "is_stream_consumed", False):
        return []
    answer = decoded(body)
    return [] if answer is None else [answer]


def watch(body: Any, call: MeteredCall) -> bool:
    """Read along when the app reads the body; False when it was read already."""
    if body.is_closed or body.is_stream_consumed:
        return False
    reader = _reader_for(body, call)
    body.stream = BodyWatch(body.stream, reader)
    weakref.finalize(body.stream, reader.dropped)
    return True


def watch_close(response: Any, closed: Callable[[], None]) -> None:
    """Have `closed` called when the body of a response is closed, by whatever way; nothing where there is none."""
    if response is None or getattr(response, "is_closed", True) or not hasattr(response, "stream"):
        return
    response.stream = CloseWatch(response.stream, closed)


def watch_rereading(stream: Any, call: MeteredCall, closed: Callable[[], None]) -> None:
    """Read along where somebody puts a stream of their own onto the response of this one, as Azure's tracing does.

    Only responses of azure-core are known to be read so: `stream` holds one beside the iterator that it reads itself.
    """
    response = getattr(stream, "_response", None)
    if hasattr(stream, "_bytes_iterator") and hasattr(response, "iter_bytes"):
        stream._response = RereadResponse(response, call, closed)


class RereadResponse(Proxy):
    """A response whose bytes, from now on, are read along."""

    def __init__(self, response: Any, call: MeteredCall, closed: Callable[[], None]) -> None:
        super().__init__(response)
        self._self_call = call
        self._self_closed = closed

    def iter_bytes(self, **kwargs: Any) -> Any:
        parts = self.__wrapped__.iter_bytes(**kwargs)
        return BodyWatch(parts, EventReader(self._self_call, None)).read_along()

    def close(self) -> Any:
        closing = self.__wrapped__.close()
        if inspect.isawaitable(closing):
            return self._self_close_async(closing)
        self._self_closed()
        return closing

    async def _self_close_async(self, closing: Awaitable[Any]) -> Any:
        try:
            return await closing
        finally:
            self._self_closed()


class CloseWatch(Proxy):
    """A byte stream that says when it is closed."""

    def __init__(self, stream: Any, closed: Callable[[], None]) -> None:
        super().__init__(stream)
        self._self_closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.__wrapped__)

    def __aiter__(self) -> AsyncIterator[bytes]:
        iterator: AsyncIterator[bytes] = self.__wrapped__.__aiter__()
        return iterator

    def close(self) -> None:
        try:
            self.__wrapped__.close()
        finally:
            self._self_closed()

    async def aclose(self) -> None:
        try:
            await self.__wrapped__.aclose()
        finally:
            self._self_closed()


class BodyWatch(CloseWatch):
    """A byte stream whose bytes are read along, and filtered where the call hides events."""

    def __init__(self, stream: Any, reader: Reader) -> None:
        super().__init__(stream, reader.closed)
        self._self_reader = reader

    def __iter__(self) -> Iterator[bytes]:
        reader: Reader = self._self_reader
        try:
            for data in self.__wrapped__:
                shown = reader.feed(data)
                if shown:
                    yield shown
            rest = reader.finish()
            if rest:
                yield rest
        except GeneratorExit:
            raise
        except BaseException as error:
            reader.failed(error)
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader: Reader = self._self_reader
        try:
            async for data in self.__wrapped__:
                shown = reader.feed(data)
                if shown:
                    yield shown
            rest = reader.finish()
            if rest:
                yield rest
        except GeneratorExit:
            raise
        except BaseException as error:
            reader.failed(error)
            raise

    def read_along(self) -> Any:
        """An iterator over the bytes, of the kind that the stream itself is."""
        return self.__aiter__() if hasattr(self.__wrapped__, "__aiter__") else self.__iter__()


class Reader:
    """Sees the raw bytes of a body go by. This one reads nothing and only ends the span."""

    def __init__(self, call: MeteredCall, decode: Callable[[bytes], bytes] | None) -> None:
        self._call = call
        self._decode = decode
        self._has_failed = False
        self._is_complete = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; the answer is what the app gets in their place."""
        if self._has_failed:
            return self._held() + data
        try:
            return self._read(data)
        except Exception:  # noqa: BLE001 - the app gets its bytes whatever happens here
            self._has_failed = True
            safety.report(f"{self._call.scope}.read_body")
            return self._held() + data

    def finish(self) -> bytes:
        """The body has been read to its end; the answer is what was held back."""
        self._is_complete = True
        try:
            self._read_whole()
        except Exception:  # noqa: BLE001 - as above
            safety.report(f"{self._call.scope}.read_body")
        self._call.end()
        return self._held()

    def closed(self) -> None:
        self._call.end(spans.COMPLETED if self._is_complete else spans.CLOSED_EARLY)

    def failed(self, error: BaseException) -> None:
        self._call.fail(error)

    def dropped(self) -> None:
        self._call.end(spans.DROPPED)

    def _read(self, data: bytes) -> bytes:
        return data

    def _read_whole(self) -> None:
        pass

    def _held(self) -> bytes:
        return b""


class JsonReader(Reader):
    """Keeps the bytes of a JSON body until it is whole; gives up on one that is longer than any with usage."""

    def __init__(self, call: MeteredCall, decode: Callable[[bytes], bytes] | None) -> None:
        super().__init__(call, decode)
        self._body = bytearray()

    def _read(self, data: bytes) -> bytes:
        if len(self._body) < JSON_MAX_BYTES:
            self._body += self._decode(data) if self._decode else data
        return data

    def _read_whole(self) -> None:
        if self._body and len(self._body) < JSON_MAX_BYTES:
            self._call.read(json.loads(self._body))
        self._body.clear()


class LinesReader(Reader):
    """Reads a body of JSON objects, one in each line, as batches deliver their results."""

    def __init__(self, call: MeteredCall, decode: Callable[[bytes], bytes] | None) -> None:
        super().__init__(call, decode)
        self._rest = b""

    def _read(self, data: bytes) -> bytes:
        *whole, self._rest = (self._rest + (self._decode(data) if self._decode else data)).split(b"\n")
        for line in whole:
            self._read_line(line)
        return data

    def _read_whole(self) -> None:
        self._read_line(self._rest)

    def _read_line(self, line: bytes) -> None:
        if (found := _object_in(line)) is not None:
            self._call.read_chunk(found)


class EventReader(Reader):
    """Reads server-sent events; holds back an unfinished event only where some are to be hidden."""

    def __init__(self, call: MeteredCall, decode: Callable[[bytes], bytes] | None) -> None:
        super().__init__(call, decode)
        # Bytes cannot be left out of a compressed body.
        self._is_hidden = call.request.is_hidden if decode is None else None
        self._hides = True
        self._is_reported = False
        self._rest = b""
        self._is_first = True

    def _read(self, data: bytes) -> bytes:
        self._rest += self._decode(data) if self._decode else data
        *events, self._rest = _split_events(self._rest)
        for event in events:
            self._note(event)
        return data if self._is_hidden is None else b"".join([self._shown(event) for event in events])

    def _note(self, event: bytes) -> None:
        """Read one event; one that cannot be read says nothing, and what is to be hidden stays so."""
        try:
            self._read_event(event)
        except Exception:  # noqa: BLE001 - the app gets its event whatever happens here
            if not self._is_reported:
                self._is_reported = True
                safety.report(f"{self._call.scope}.read_body")

    def _read_event(self, event: bytes) -> None:
        if b"[DONE]" in event and LAST_LINE.search(event):
            self._is_complete = True
            self._call.end()  # some readers stop here and leave the connection open
            return
        if not self._is_first and not any(marker in event for marker in MARKERS) and b"message_stop" not in event:
            return
        self._is_first = False
        chunk = _event_data(event)
        if chunk is not None:
            self._is_complete = self._is_complete or chunk.get("type") in LAST_EVENTS
            self._call.read_chunk(chunk)

    def _shown(self, event: bytes) -> bytes:
        """What the app gets of an event: nothing of the one that only we have asked for.

        On the others our request has left a `usage: null`, which is taken back.
        """
        if b'"usage"' not in event or not self._hides:
            return event
        try:
            is_said = any(marker in event for marker in USAGES)
            if is_said and self._is_hidden is not None and self._is_hidden(_event_data(event)):
                return b""
        except Exception:  # noqa: BLE001 - as above
            self._hides = False
            safety.report(f"{self._call.scope}.read_body")
        return UNSAID_USAGE.sub(b"", event)

    def _held(self) -> bytes:
        held, self._rest = self._rest, b""
        return held if self._is_hidden is not None else b""


def _split_events(data: bytes) -> list[bytes]:
    """Cut behind each blank line; the last part is the unfinished event, maybe empty."""
    separator = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
    parts = data.split(separator)
    return [part + separator for part in parts[:-1]] + [parts[-1]]


def _event_data(event: bytes) -> dict[str, Any] | None:
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    data = json.loads(b"\n".join(lines)) if lines else None
    return data if isinstance(data, dict) else None


def _object_in(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None for what is none, or says nothing of a use."""
    if not any(marker in line for marker in DELIVERED_MARKERS):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _reader_for(body: Any, call: MeteredCall) -> Reader:
    kind = body.headers.get("content-type", "")
    decode: Callable[[bytes], bytes] | None = None
    if body.headers.get("content-encoding", "identity") != "identity":
        # The response's own decoder holds state; ours is a second one of its kind.
        decoder = type(body._get_content_decoder())()
        decode = lambda data: b"".join(_as_chunks(decoder.decode(data)))  # noqa: E731
    if call.request.is_delivery:
        return LinesReader(call, decode)
    if "event-stream" in kind and "amazon" not in kind:
        return EventReader(call, decode)
    return JsonReader(call, decode) if "json" in kind else Reader(call, decode)


def _as_chunks(decoded_part: Any) -> Any:
    """Decoders answer bytes (httpx) or an iterator of bytes (httpx2)."""
    return [decoded_part] if isinstance(decoded_part, bytes) else decoded_part

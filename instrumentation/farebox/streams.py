"""Stand between the app and a stream, unseen: the same chunks, and a span that ends exactly once.

Comes in: stream objects of the SDKs. Goes out: proxies that are instances of the same classes and pass everything
through. The span ends when the stream is read to its end, fails, is closed early, is cancelled, or is dropped and
collected; whatever happens first counts. Chunks that only we have asked for are left out.
"""

from __future__ import annotations

import copy
import time
import weakref
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from typing import Any, Protocol

from farebox import bodies, safety, spans
from farebox.bodies import Proxy
from farebox.reading import Reading


class MeteredCall(bodies.MeteredCall, Protocol):
    """What a stream needs to know of its call."""

    reading: Reading
    span: spans.CallSpan

    def chunk_reader(self) -> Callable[[Any, Reading], None]: ...

    def receive(self, result: Any) -> Any: ...

    def begin(self) -> None: ...

    def forget(self) -> None: ...


def is_stream(result: Any) -> bool:
    """Whether an answer is iterated chunk by chunk; models and raw responses are not."""
    kind = type(result)
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


def met(answer: Any, call: MeteredCall) -> Any | None:
    """The answer with its stream metered; None for an answer that is, and holds, no stream."""
    place = call.request.stream_in
    body = None if place is None else bodies.body_of(getattr(answer, place, None))
    if body is not None and bodies.watch(body, call):
        return answer
    if is_stream(answer):
        return proxy(answer, call)
    if isinstance(answer, (_GeneratorContextManager, _AsyncGeneratorContextManager)):
        return manager(answer, call)
    if place is not None and is_stream(getattr(answer, place, None)):
        setattr(answer, place, proxy(getattr(answer, place), call))
        return answer
    return None


def manager(opening: Any, call: MeteredCall) -> Any:
    """The proxy of a context manager that makes the call when it is entered, and answers the stream then."""
    is_async = isinstance(opening, _AsyncGeneratorContextManager)
    made = AsyncManagerProxy(opening, call) if is_async else ManagerProxy(opening, call)
    weakref.finalize(made, call.forget)
    return made


def proxy(stream: Any, call: MeteredCall) -> Any:
    """The proxy of the right kind, with the body below it watched for a close that passes the proxy by."""
    meter = StreamMeter(call)
    kind = type(stream)
    if not hasattr(kind, "__anext__"):
        made: Proxy = StreamProxy(stream, meter)
    elif hasattr(kind, "__next__"):
        made = EitherStreamProxy(stream, meter)
    else:
        made = AsyncStreamProxy(stream, meter)
    weakref.finalize(made, meter.dropped)
    try:
        bodies.watch_close(getattr(stream, "response", None), meter.closed)
        bodies.watch_rereading(stream, call, meter.closed)
    except Exception:  # noqa: BLE001 - a close below the proxy is then seen when the proxy is dropped
        safety.report(f"{call.scope}.watch_close")
    return made


class StreamMeter:
    """What is learned while a stream is read. It never refers to the proxy, which must be free to be collected."""

    __slots__ = (
        "_call", "_has_failed", "_is_hidden", "_read_chunk", "_reading", "is_first", "is_reading", "is_waiting",
    )  # fmt: skip

    def __init__(self, call: MeteredCall) -> None:
        self._call = call
        self._reading = call.reading
        self._read_chunk = call.chunk_reader()
        self._is_hidden = call.request.is_hidden
        self._has_failed = False
        self.is_first = True
        self.is_reading = False
        self.is_waiting = call.request.is_lazy

    def begin(self) -> None:
        """The request is sent only now."""
        self.is_waiting = False
        self._call.begin()

    def shows(self, chunk: Any) -> bool:
        """Read a chunk; False when the app has not asked for it. One that cannot be read says nothing."""
        try:
            if self.is_first:
                self.is_first = False
                waited_s = time.perf_counter() - self._call.span.started_s
                self._reading.attributes[spans.TIME_TO_FIRST_CHUNK] = waited_s
            self._read_chunk(chunk, self._reading)
        except Exception:  # noqa: BLE001 - the app gets its chunk whatever happens here
            self._report()
        if self._is_hidden is None:
            return True
        try:
            return not self._is_hidden(chunk)
        except Exception:  # noqa: BLE001 - as above
            self._is_hidden = None
            self._report()
            return True

    def _report(self) -> None:
        """Once for each stream: what one chunk does to us, a thousand others may do."""
        if not self._has_failed:
            self._has_failed = True
            safety.report(f"{self._call.scope}.read_chunk")

    def completed(self) -> None:
        self._call.end()

    def failed(self, error: BaseException) -> None:
        self._call.fail(error)

    def closed(self) -> None:
        """The body below was closed; inside a read that is the SDK tidying up after the last chunk."""
        if not self.is_reading:
            self._end_unread(spans.CLOSED_EARLY)

    def left(self, error: BaseException | None) -> None:
        """The app leaves the stream's `with` block, through `error` if there is one."""
        if isinstance(error, CancelledError):
            self._call.end(spans.CANCELLED)

    def dropped(self) -> None:
        self._end_unread(spans.DROPPED)

    def _end_unread(self, outcome: str) -> None:
        if self.is_waiting:
            self._call.forget()
        self._call.end(self._reading.ending or outcome)


class _Copying:
    """`__copy__` of a stream: there for `copy.copy`, and on the object only where the stream has one itself.

    `itertools.tee` asks the object, and makes its own copies of what comes out of those that have none.
    """

    def __get__(self, stream: Any, kind: type[Any]) -> Any:
        if stream is None:
            return lambda original: kind(copy.copy(original.__wrapped__), original._self_meter)
        return stream.__wrapped__.__copy__


class StreamProxy(Proxy):
    """A synchronous stream."""

    __copy__ = _Copying()

    def __init__(self, stream: Any, meter: StreamMeter) -> None:
        super().__init__(stream)
        self._self_meter = meter
        iterator: Iterator[Any] = iter(stream) if not hasattr(type(stream), "__next__") else stream
        # Looked up for each chunk, and attributes of a proxy are dear: one in place of two.
        self._self_reading = meter, iterator

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        meter, iterator = self._self_reading
        if meter.is_waiting:
            meter.begin()
        meter.is_reading = True
        try:
            chunk = iterator.__next__()
            while not meter.shows(chunk):
                chunk = iterator.__next__()
        except StopIteration:
            meter.completed()
            raise
        except BaseException as error:
            meter.failed(error)
            raise
        finally:
            meter.is_reading = False
        return chunk

    def __enter__(self) -> Any:
        entered = self.__wrapped__.__enter__()
        return self if entered is self.__wrapped__ else entered

    def __exit__(self, *raised: Any) -> Any:
        self._self_meter.left(raised[1])
        try:
            return self.__wrapped__.__exit__(*raised)
        finally:
            self._self_meter.closed()

    @property
    def close(self) -> Any:
        return _closing(self, self.__wrapped__.close)


class AsyncStreamProxy(Proxy):
    """An asynchronous stream."""

    __copy__ = _Copying()

    def __init__(self, stream: Any, meter: StreamMeter) -> None:
        super().__init__(stream)
        self._self_meter = meter
        self._self_reading = meter, stream

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        meter, stream = self._self_reading
        if meter.is_waiting:
            meter.begin()
        meter.is_reading = True
        try:
            chunk = await stream.__anext__()
            while not meter.shows(chunk):
                chunk = await stream.__anext__()
        except StopAsyncIteration:
            meter.completed()
            raise
        except BaseException as error:
            meter.failed(error)
            raise
        finally:
            meter.is_reading = False
        return chunk

    async def __aenter__(self) -> Any:
        entered = await self.__wrapped__.__aenter__()
        return self if entered is self.__wrapped__ else entered

    async def __aexit__(self, *raised: Any) -> Any:
        self._self_meter.left(raised[1])
        try:
            return await self.__wrapped__.__aexit__(*raised)
        finally:
            self._self_meter.closed()

    @property
    def close(self) -> Any:
        return _closing_async(self, self.__wrapped__.close)

    @property
    def aclose(self) -> Any:
        return _closing_async(self, self.__wrapped__.aclose)


class EitherStreamProxy(AsyncStreamProxy):
    """A stream of a class that can be read both ways, as litellm's are; `close` is sync, `aclose` is not."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return StreamProxy.__next__(self)  # type: ignore[arg-type]  # both are one object around one meter

    @property
    def close(self) -> Any:
        return _closing(self, self.__wrapped__.close)


class ManagerProxy(Proxy):
    """A context manager around a synchronous stream."""

    def __init__(self, opening: Any, call: MeteredCall) -> None:
        super().__init__(opening)
        self._self_call = call

    def __enter__(self) -> Any:
        call: MeteredCall = self._self_call
        call.begin()
        try:
            entered = self.__wrapped__.__enter__()
        except BaseException as error:
            call.fail(error)
            raise
        return call.receive(entered)

    def __exit__(self, *raised: Any) -> Any:
        try:
            return self.__wrapped__.__exit__(*raised)
        finally:
            _leave(self._self_call, raised[1])


class AsyncManagerProxy(Proxy):
    """A context manager around an asynchronous stream."""

    def __init__(self, opening: Any, call: MeteredCall) -> None:
        super().__init__(opening)
        self._self_call = call

    async def __aenter__(self) -> Any:
        call: MeteredCall = self._self_call
        call.begin()
        try:
            entered = await self.__wrapped__.__aenter__()
        except BaseException as error:
            call.fail(error)
            raise
        return call.receive(entered)

    async def __aexit__(self, *raised: Any) -> Any:
        try:
            return await self.__wrapped__.__aexit__(*raised)
        finally:
            _leave(self._self_call, raised[1])


def _leave(call: MeteredCall, error: BaseException | None) -> None:
    call.end(spans.CANCELLED if isinstance(error, CancelledError) else spans.CLOSED_EARLY)


def _closing(stream: StreamProxy | AsyncStreamProxy, close: Any) -> Any:
    """The method `close`; it holds the proxy, as a bound method does, so that `open_stream().close()` is no drop."""

    def closing(*args: Any, **kwargs: Any) -> Any:
        try:
            return close(*args, **kwargs)
        finally:
            stream._self_meter.closed()

    return closing


def _closing_async(stream: AsyncStreamProxy, close: Any) -> Any:
    async def closing(*args: Any, **kwargs: Any) -> Any:
        try:
            return await close(*args, **kwargs)
        finally:
            stream._self_meter.closed()

    return closing

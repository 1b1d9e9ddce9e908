"""Meter one call of a wrapped method: read the request, call, read the answer, end the span.

Comes in: calls of patched methods. Goes out: their results, unchanged, or a proxy where the result is a stream. What
the app sees of a call (result, exception, arguments) is what the SDK made; our own faults end in `farebox.safety`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

import wrapt

from farebox import attribution, bodies, config, exporting, members, safety, spans, streams
from farebox.estimating import Estimate
from farebox.reading import Arguments, Attributes, Reading, Request, is_refusal

if TYPE_CHECKING:
    from farebox.sdks import Sdk, Target

_sdks: dict[str, Sdk] = {}
_settings: config.Settings | None = None
#: The call that may be made through the next one, see `Request.is_around`.
_around: ContextVar[Call | None] = ContextVar("farebox.around", default=None)


class Switch:
    """Turns one wrapper into a plain pass-through, for when somebody else has wrapped it since."""

    __slots__ = ("is_on",)

    def __init__(self) -> None:
        self.is_on = True


class Call:
    """One metered call on its way, from the request to the end of its span."""

    __slots__ = ("attributes", "entered", "estimate", "has_inner", "reading", "request", "scope", "sdk", "span")

    def __init__(self, scope: str, sdk: Sdk, request: Request, span: spans.CallSpan, attributes: Attributes) -> None:
        self.scope = scope
        self.sdk = sdk
        self.request = request
        self.span = span
        self.attributes = attributes
        self.reading = Reading(request)
        self.estimate = Estimate(request.body) if settings().estimate_tokens else None
        request.body = None
        self.has_inner = False
        self.entered: Token[Call | None] | None = _around.set(self) if request.is_around else None

    def receive(self, result: Any) -> Any:
        """Read the answer and end the span; for a stream or an unread body, put a proxy or a watch in its way."""
        try:
            if self._leave():
                return result
            self.attributes.update(self.request.units)
            if (place := self.request.stream_in) is not None and isinstance(result, dict):
                if not members.meter(result, place, self):
                    self.end()
                return result
            if self.request.is_stream and (met := streams.met(result, self)) is not None:
                return met
            body = bodies.body_of(result)
            if body is not None and bodies.watch(body, self):
                return result
            if self.request.is_delivery:
                for line in bodies.lines(result if body is None else body):
                    self.read_chunk(line)
            else:
                self.read(result if body is None else bodies.decoded(body))
        except Exception:  # noqa: BLE001 - the app gets its result whatever happens here
            safety.report(f"{self.scope}.read_response")
        self.end()
        return result

    def succeed_again(self) -> None:
        """The second try, without what we had added to the request, has succeeded; never raises."""
        try:
            if self.request.retried is not None:
                self.request.retried()
        except Exception:  # noqa: BLE001 - the app gets its result whatever happens here
            safety.report(f"{self.scope}.retry")

    def begin(self) -> None:
        """The request, prepared before, is sent only now; never raises."""
        try:
            self.span.restart()
        except Exception:  # noqa: BLE001 - the app's request goes on
            safety.report(f"{self.scope}.begin")

    def forget(self) -> None:
        """The call was prepared and is never made; never raises."""
        try:
            self.span.discard()
        except Exception:  # noqa: BLE001 - may run in garbage collection
            safety.report(f"{self.scope}.end")

    def read(self, answer: Any) -> None:
        """Read a whole answer, or its decoded JSON."""
        if answer is not None:
            self.sdk.read_response(answer, self.reading)
            self._book_items()
            if self.estimate is not None:
                self.estimate.take(answer)

    def read_chunk(self, chunk: Any) -> None:
        """Read one chunk of a stream, or its decoded JSON."""
        self.sdk.read_chunk(chunk, self.reading)
        if self.request.is_delivery:
            self._book_items()
        elif self.estimate is not None:
            self.estimate.take(chunk)

    def chunk_reader(self) -> Callable[[Any, Reading], None]:
        """The shortest way to read a chunk into this call's reading, for those who do it many times."""
        if self.estimate is not None or self.request.is_delivery:
            return lambda chunk, _: self.read_chunk(chunk)
        return self.sdk.read_chunk

    def fail(self, error: BaseException) -> None:
        """End the span of a call that raised; an answer that came before the exception still counts."""
        try:
            if self._leave():
                return
            for answer in self.request.seen or bodies.refused_answer(error):
                self.read(answer)
        except Exception:  # noqa: BLE001 - the app gets its own exception whatever happens here
            safety.report(f"{self.scope}.read_response")
        self.end(outcome_of(error), error)

    def end(self, outcome: str = spans.COMPLETED, error: BaseException | None = None) -> None:
        """End the span, once; never raises."""
        try:
            if self.reading.is_discarded:
                self.span.discard()
            elif self.span.is_open:
                for child in self.reading.children:
                    self.span.end_child(self.scope, {**self._inherited(), **child})
                self.attributes.update(self.reading.attributes)
                if self.estimate is not None:
                    self.attributes.update(self.estimate.attributes(self.attributes))
                self.span.end(self.attributes, outcome, error)
        except Exception:  # noqa: BLE001 - may run in garbage collection and in the app's exception handling
            safety.report(f"{self.scope}.end")

    def _leave(self) -> bool:
        """The method called has returned; True when others inside it were metered, and stand for it."""
        entered, self.entered = self.entered, None
        if entered is None:
            return False
        # A coroutine that is dropped unfinished is closed in whatever context the collector runs.
        with suppress(ValueError):
            _around.reset(entered)
        if self.has_inner:
            self.span.discard()
        return self.has_inner

    def _book_items(self) -> None:
        """Book what a delivery has brought, at once: it may bring a hundred thousand answers."""
        items = self.reading.items
        while items:
            spans.book(self.scope, {**self._inherited(), **items.pop(0)})

    def _inherited(self) -> Attributes:
        """What a further model inside this call shares with it: who pays, the provider, the place."""
        own = (spans.REQUEST_MODEL, spans.REQUEST_STREAM, spans.TIME_TO_FIRST_CHUNK)
        return {name: value for name, value in self.attributes.items() if name not in own}


def outcome_of(error: BaseException) -> str:
    """A call that was stopped from outside is cancelled; all else that raises is an error."""
    stopped = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)
    return spans.CANCELLED if isinstance(error, stopped) else spans.ERROR


def settings() -> config.Settings:
    """The settings of this process, read from the environment when the first SDK is imported."""
    global _settings
    if _settings is None:
        _settings = config.read()
        attribution.set_defaults(_settings)
    return _settings


def forget_settings() -> None:
    """Read the environment again when metering is next switched on."""
    global _settings
    _settings = None


def switched_off_by(sdk: str) -> str | None:
    """The name of the setting that leaves this SDK alone, None when it is to be metered."""
    if sdk in settings().disabled_sdks:
        return "FAREBOX_DISABLED_SDKS"
    disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    if "farebox" in (part.strip() for part in disabled.split(",")):
        return "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    return None if settings().allows(sdk) else "FAREBOX_INSTRUMENT"


def know(name: str, sdk: Sdk) -> None:
    """Take the SDK file into service, and have the pipeline ready before its first call."""
    _sdks[name] = sdk
    exporting.prepare()


def wrapped(name: str, original: Callable[..., Any], target: Target | None = None) -> tuple[Any, Switch]:
    """A wrapper around a method of the SDK, and the switch that turns it off."""
    switch = Switch()
    metered = _metered_async if inspect.iscoroutinefunction(original) else _metered
    return wrapt.FunctionWrapper(original, metered(f"farebox.sdks.{name}", _sdks[name], target, switch)), switch


def _metered(scope: str, sdk: Sdk, target: Target | None, switch: Switch) -> Callable[..., Any]:
    """What is called in place of a method."""

    def meter(inner: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _opened(scope, sdk, target, owner, (args, kwargs)) if switch.is_on else None
        if call is None:
            return inner(*args, **kwargs)
        sent = call.request.arguments or (args, kwargs)
        try:
            result = inner(*sent[0], **sent[1])
        except BaseException as error:
            again = _retry(call, error, (args, kwargs))
            if again is None:
                call.fail(error)
                raise
        else:
            return call.receive(result)
        try:
            result = inner(*again[0], **again[1])
        except BaseException as error:
            call.fail(error)
            raise
        call.succeed_again()
        return call.receive(result)

    return meter


def _metered_async(scope: str, sdk: Sdk, target: Target | None, switch: Switch) -> Callable[..., Any]:
    """The same for coroutines."""

    async def meter(inner: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _opened(scope, sdk, target, owner, (args, kwargs)) if switch.is_on else None
        if call is None:
            return await inner(*args, **kwargs)
        sent = call.request.arguments or (args, kwargs)
        try:
            result = await inner(*sent[0], **sent[1])
        except BaseException as error:
            again = _retry(call, error, (args, kwargs))
            if again is None:
                call.fail(error)
                raise
        else:
            return call.receive(result)
        try:
            result = await inner(*again[0], **again[1])
        except BaseException as error:
            call.fail(error)
            raise
        call.succeed_again()
        return call.receive(result)

    return meter


def _opened(scope: str, sdk: Sdk, target: Target | None, owner: Any, given: Arguments) -> Call | None:
    """Read the request and open its span; None when the call is not to be metered, or cannot be."""
    try:
        request = None if attribution.is_suppressed() else sdk.read_request(owner, *given)
        if request is None:
            return None
        if target is not None:
            request.operation = target.operation or request.operation
            request.is_stream = request.is_stream or target.is_stream
        attributes = spans.base_attributes(request.operation, request.provider, request.model)
        attributes.update(request.attributes)
        if request.is_stream:
            attributes[spans.REQUEST_STREAM] = True
        span = spans.open_span(scope, request.operation, request.model)
        if span is None:
            return None
        around = _around.get()
        if around is not None and not request.is_delivery:
            around.has_inner = True
        return Call(scope, sdk, request, span, attributes)
    except Exception:  # noqa: BLE001 - the app's call goes on, unmetered
        safety.report(f"{scope}.read_request")
        return None


def _retry(call: Call, error: BaseException, plain: Arguments) -> Arguments | None:
    """Other arguments for a second try, where the first failed for what we had added to the request."""
    if call.request.retry is None or not isinstance(error, Exception):
        return None
    try:
        return call.request.retry(error)
    except Exception:  # noqa: BLE001 - a refused request, which costs nothing, is sent as the app has made it
        safety.report(f"{call.scope}.retry")
        return plain if is_refusal(error) else None

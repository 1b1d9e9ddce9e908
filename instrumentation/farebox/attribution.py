"""Who pays: from the context of the code to the attributes of the span.

Comes in: `attribute(...)` blocks, `suppress()` blocks and the defaults of the environment. Goes out: one dict of span
attributes per call. Context variables carry it, so that it follows tasks, `asyncio.to_thread` and `copy_context`; a
plain new thread starts without it, as with every context variable. Where FAREBOX_BAGGAGE allows it, names also come
from the services that call this one, and go to those that it calls.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast

from farebox import config, safety, startup
from farebox.config import Settings
from farebox.reading import Attributes

if TYPE_CHECKING:
    from farebox.baggage import Attached, Carrier

P = ParamSpec("P")
R = TypeVar("R")

METADATA_MAX_BYTES = 4096
TAGS = "farebox.tags"
METADATA = "farebox.metadata"
NAMES: Mapping[str, str] = {
    "user": "user.id",
    "user_email": "user.email",
    "session": "session.id",
    "project": "farebox.project",
    "service": "farebox.service",
    "action": "farebox.action",
    "category": "farebox.category",
    "task_type": "farebox.task_type",
    "task_id": "farebox.task_id",
    "content_type": "farebox.content_type",
    "content_ref": "farebox.content_ref",
    "model_config": "farebox.model_config",
    "upstream": "farebox.upstream",
}

#: (attributes by their wire names, metadata before encoding)
_Payer: TypeAlias = tuple[Attributes, Mapping[str, Any]]
_NOBODY: _Payer = ({}, {})
#: What a block has changed, and how to undo it.
_Entered: TypeAlias = "tuple[ContextVar[Any], Token[Any], Attached | None]"
_payer: ContextVar[_Payer] = ContextVar("farebox_payer", default=_NOBODY)
_is_suppressed: ContextVar[bool] = ContextVar("farebox_suppressed", default=False)
_defaults: Attributes = {}
#: What may travel between services; None while FAREBOX_BAGGAGE names nothing.
_carrier: Carrier | None = None
_is_configured = False


class attribute:  # noqa: N801 - used as a verb: `with farebox.attribute(user="ada"):`
    """Say who pays for the calls inside; a context manager and a decorator, sync and async.

    Nested blocks add up: an inner value replaces the outer one of the same name, tags are appended, metadata is merged.
    None leaves the outer value as it is. Values are kept as text; `metadata` must be JSON and at most 4 KiB, else it is
    left out with one log line. Never raises for what it is given.
    """

    def __init__(
        self,
        *,
        user: str | None = None,
        user_email: str | None = None,
        project: str | None = None,
        service: str | None = None,
        action: str | None = None,
        category: str | None = None,
        task_type: str | None = None,
        task_id: str | None = None,
        content_type: str | None = None,
        content_ref: str | None = None,
        session: str | None = None,
        model_config: str | None = None,
        upstream: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        given = {
            "user": user,
            "user_email": user_email,
            "project": project,
            "service": service,
            "action": action,
            "category": category,
            "task_type": task_type,
            "task_id": task_id,
            "content_type": content_type,
            "content_ref": content_ref,
            "session": session,
            "model_config": model_config,
            "upstream": upstream,
        }
        self._named: Attributes = {NAMES[name]: str(value) for name, value in given.items() if value is not None}
        self._tags = _tag_list(tags)
        self._metadata = dict(metadata) if isinstance(metadata, Mapping) else {}
        self._entered: list[_Entered] = []

    def __enter__(self) -> attribute:
        self._entered.append(self._enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _leave(self._entered.pop())

    async def __aenter__(self) -> attribute:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, coroutine function, generator function or async generator function."""
        return cast("Callable[P, R]", _decorated(function, self._enter))

    def _enter(self) -> _Entered:
        attached = carrier.attach(self._named) if self._named and (carrier := _outbound()) else None
        return _payer, _payer.set(self._over(_payer.get())), attached

    def _over(self, outer: _Payer) -> _Payer:
        attributes, metadata = outer
        merged = {**attributes, **self._named}
        if self._tags:
            merged[TAGS] = _appended(attributes.get(TAGS), self._tags)
        if not self._metadata:
            return merged, metadata
        metadata = {**metadata, **self._metadata}
        encoded = encode_metadata(metadata)
        if encoded is not None:
            merged[METADATA] = encoded
        return merged, metadata


class suppress:  # noqa: N801 - used as a verb: `with farebox.suppress():`
    """Do not meter the calls inside; a context manager and a decorator, sync and async."""

    def __init__(self) -> None:
        self._entered: list[_Entered] = []

    def __enter__(self) -> suppress:
        self._entered.append(self._enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _leave(self._entered.pop())

    async def __aenter__(self) -> suppress:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return cast("Callable[P, R]", _decorated(function, self._enter))

    def _enter(self) -> _Entered:
        return _is_suppressed, _is_suppressed.set(True), None


def is_suppressed() -> bool:
    return _is_suppressed.get()


def current() -> Attributes:
    """The attributes of who pays here and now, as a new dict.

    A block of this process outweighs what the calling service says, and that outweighs the defaults of the process.
    """
    attributes = _payer.get()[0]
    merged = {**_defaults, **attributes} if _carrier is None else {**_defaults, **_carrier.read(), **attributes}
    if TAGS in attributes and TAGS in _defaults:
        merged[TAGS] = _appended(_defaults[TAGS], cast("list[str]", attributes[TAGS]))
    return merged


def set_defaults(settings: Settings) -> None:
    """Take the process-wide values of the environment; blocks of `attribute` win over them."""
    global _carrier, _is_configured
    _carrier = _carrier_of(settings)
    _is_configured = True
    _defaults.clear()
    named = {"service": settings.service, "project": settings.project, "user": settings.user}
    _defaults.update({NAMES[name]: value for name, value in named.items() if value})
    if settings.tags:
        _defaults[TAGS] = list(settings.tags)


def _carrier_of(settings: Settings) -> Carrier | None:
    if not settings.baggage:
        return None
    from farebox.baggage import Carrier  # and OpenTelemetry's API, which most processes need only at their first call

    return Carrier(settings.baggage, NAMES)


def _outbound() -> Carrier | None:
    """What writes the baggage of this process: of one that is metered, also where it never imports an SDK itself."""
    if not startup.is_on():
        return None
    if not _is_configured:
        try:
            set_defaults(config.read())
        except Exception:  # noqa: BLE001 - the app's block runs whatever happens here
            safety.report("baggage.configure")
    return _carrier


def encode_metadata(metadata: Mapping[str, Any]) -> str | None:
    """Metadata as a JSON object; None, and one log line, when it is no JSON or longer than 4 KiB."""
    try:
        encoded = json.dumps(metadata, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        safety.say_once("attribution.metadata", "metadata that cannot be written as JSON is left out.")
        return None
    if len(encoded.encode()) > METADATA_MAX_BYTES:
        safety.say_once("attribution.metadata", f"metadata over {METADATA_MAX_BYTES} bytes is left out; shorten it.")
        return None
    return encoded


def _tag_list(tags: object) -> list[str]:
    if tags is None:
        return []
    if isinstance(tags, str):
        return [tags]
    if isinstance(tags, Iterable):
        return [str(tag) for tag in tags]
    safety.say_once("attribution.tags", f"tags must be a list of texts, not {type(tags).__name__}; they are left out.")
    return []


def _appended(outer: object, inner: list[str]) -> list[str]:
    known = list(outer) if isinstance(outer, list) else []
    return known + [tag for tag in dict.fromkeys(inner) if tag not in known]


def _leave(entered: _Entered) -> None:
    """Undo what a block has changed; one left in another context than it was entered in has nothing to undo there."""
    variable, token, attached = entered
    with contextlib.suppress(ValueError):
        variable.reset(token)
    if attached is not None:
        from farebox.baggage import detach

        detach(attached)


def _decorated(function: Callable[..., Any], enter: Callable[[], _Entered]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        return _async_generator_decorated(function, enter)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            entered = enter()
            try:
                return await function(*args, **kwargs)
            finally:
                _leave(entered)

        return run_async
    if inspect.isgeneratorfunction(function):
        return _generator_decorated(function, enter)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        entered = enter()
        try:
            return function(*args, **kwargs)
        finally:
            _leave(entered)

    return run


def _generator_decorated(function: Callable[..., Any], enter: Callable[[], _Entered]) -> Callable[..., Any]:
    """Enter the block only while the generator's own code runs: its consumer must not be inside."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, generator)
        while True:
            entered = enter()
            try:
                value = step()
            except StopIteration as stop:
                return stop.value
            finally:
                _leave(entered)
            try:
                step = functools.partial(generator.send, (yield value))
            except GeneratorExit:
                generator.close()
                raise
            except BaseException as error:  # noqa: BLE001 - what the consumer throws in belongs to the generator
                step = functools.partial(generator.throw, error)

    return run


def _async_generator_decorated(function: Callable[..., Any], enter: Callable[[], _Entered]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        step: Callable[[], Any] = generator.__anext__
        while True:
            entered = enter()
            try:
                value = await step()
            except StopAsyncIteration:
                return
            finally:
                _leave(entered)
            try:
                step = functools.partial(generator.asend, (yield value))
            except GeneratorExit:
                await generator.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - what the consumer throws in belongs to the generator
                step = functools.partial(generator.athrow, error)

    return run

"""Answers that are plain dicts, as botocore gives them: facts beside a member that is a stream or an unread body.

Comes in: such an answer, and the name of the member. Goes out: the same dict; a stream is replaced by its proxy, a body
stays the very object and only the connection below it is read along, so that the app may read all, a part, or nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from farebox import streams
from farebox.bodies import JsonReader, Proxy, Reader
from farebox.streams import MeteredCall


def meter(answer: dict[str, Any], place: str, call: MeteredCall) -> bool:
    """Read what the answer says by itself, then meter the member; False when nothing is left to be read of it."""
    call.read(answer)
    member = answer.get(place)
    if hasattr(member, "_raw_stream") and hasattr(member, "readinto"):
        _watch(member, call, _content_type(answer))
        return True
    if call.request.is_stream and hasattr(member, "__iter__"):
        answer[place] = streams.proxy(member, call)
        return True
    return False


def _watch(body: Any, call: MeteredCall, content_type: str) -> None:
    reader = (JsonReader if "json" in content_type else Reader)(call, None)
    length = getattr(body, "_content_length", None)
    body._raw_stream = RawWatch(body._raw_stream, reader, None if length is None else int(length))
    weakref.finalize(body._raw_stream, reader.dropped)


def _content_type(answer: dict[str, Any]) -> str:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("content-type", ""))


class RawWatch(Proxy):
    """The connection below a body (urllib3's response), whose bytes are read along."""

    def __init__(self, raw: Any, reader: Reader, length: int | None) -> None:
        super().__init__(raw)
        self._self_reader = reader
        self._self_left = length

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        data: bytes = self._self_observed(self.__wrapped__.read, *args, **kwargs)
        size = args[0] if args else kwargs.get("amt")
        self._self_take(data, is_last=size is None or size < 0 or (not data and size > 0))
        return data

    def read1(self, *args: Any, **kwargs: Any) -> bytes:
        data: bytes = self._self_observed(self.__wrapped__.read1, *args, **kwargs)
        self._self_take(data, is_last=not data)
        return data

    def readinto(self, buffer: Any) -> int:
        count: int = self._self_observed(self.__wrapped__.readinto, buffer)
        self._self_take(bytes(memoryview(buffer)[:count]), is_last=not count and len(buffer) > 0)
        return count

    def readline(self, *args: Any) -> bytes:
        data: bytes = self._self_observed(self.__wrapped__.readline, *args)
        self._self_take(data, is_last=not data)
        return data

    def readlines(self, *args: Any) -> list[bytes]:
        lines: list[bytes] = self._self_observed(self.__wrapped__.readlines, *args)
        self._self_take(b"".join(lines), is_last=not args)
        return lines

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        parts = self.__wrapped__.stream(*args, **kwargs)
        while (data := self._self_observed(next, parts, None)) is not None:
            self._self_take(data, is_last=False)
            yield data
        self._self_take(b"", is_last=True)

    def __iter__(self) -> Iterator[bytes]:
        parts = iter(self.__wrapped__)
        while (data := self._self_observed(next, parts, None)) is not None:
            self._self_take(data, is_last=False)
            yield data
        self._self_take(b"", is_last=True)

    def __enter__(self) -> RawWatch:
        self.__wrapped__.__enter__()
        return self

    def __exit__(self, *raised: Any) -> Any:
        try:
            return self.__wrapped__.__exit__(*raised)
        finally:
            self._self_reader.closed()

    def close(self) -> None:
        try:
            self.__wrapped__.close()
        finally:
            self._self_reader.closed()

    def _self_observed(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return action(*args, **kwargs)
        except BaseException as error:
            self._self_reader.failed(error)
            raise

    def _self_take(self, data: bytes, *, is_last: bool) -> None:
        """Take what was read; the last byte that was announced ends the body as well as an empty read does."""
        if data:
            self._self_reader.feed(data)
        if self._self_left is not None:
            self._self_left -= len(data)
        if is_last or self._self_left == 0:
            self._self_reader.finish()

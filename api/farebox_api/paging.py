"""Keyset cursors: where a list goes on, bound to the question it belongs to.

A cursor holds the sort key of the last row that was shown and a digest of the filter and the caller's view. It is
opaque, not secret, and grants nothing: the next page is asked with the caller's own scope. With another filter it is
refused, so that a page never silently answers another question.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Final, Generic, TypeVar

import msgspec

from farebox_api.errors import InvalidRequest, invalid_parameter

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
MAX_CURSOR_LENGTH: Final = 1024

_DIGEST_BYTES: Final = 8

Position = TypeVar("Position")


class CursorCodec(Generic[Position]):
    """Writes and reads the cursors of one kind of list, whose sort key has the type `Position`."""

    def __init__(self, position_type: type[Position]) -> None:
        """Take the type of the sort key; msgspec checks what comes back against it."""
        self._decoder = msgspec.msgpack.Decoder(position_type)

    def write(self, position: Position, *question: object) -> str:
        """Make the cursor that goes on after `position`; `question` is all that decides what the list holds."""
        packed = _digest(question) + msgspec.msgpack.encode(position)
        return urlsafe_b64encode(packed).rstrip(b"=").decode()

    def read(self, cursor: str, *question: object) -> Position:
        """Answer the position that `write` was given.

        Raises:
            InvalidRequest: it is no cursor, or belongs to another question.
        """
        packed = _unpacked(cursor)
        if packed[:_DIGEST_BYTES] != _digest(question):
            raise invalid_parameter(
                "cursor", "belongs to another filter or key; a cursor goes on only with the filter that it came from"
            )
        try:
            return self._decoder.decode(packed[_DIGEST_BYTES:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _no_cursor() from None


def _unpacked(cursor: str) -> bytes:
    try:
        packed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise _no_cursor() from None
    if len(packed) <= _DIGEST_BYTES:
        raise _no_cursor()
    return packed


def _no_cursor() -> InvalidRequest:
    return invalid_parameter("cursor", "is no cursor; take `next_cursor` of the page before, unchanged")


def _digest(question: tuple[object, ...]) -> bytes:
    return blake2b(msgspec.json.encode(question, order="deterministic"), digest_size=_DIGEST_BYTES).digest()

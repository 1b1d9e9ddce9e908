"""Long answers: sent piece by piece as they are made, with the transaction they are read in held to their end.

A generator comes in, whose first piece is made before the answer begins: what can be refused is refused as a problem,
and only a fault in the middle cuts the answer off, which the reader sees as a body without its end. Each of them holds
a connection of the database for as long as its reader takes, so there are few places for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final, TypeVar, cast

from anyio import CancelScope, to_thread
from litestar import Response
from litestar.response import Stream

from farebox_api.errors import Busy

Piece = TypeVar("Piece", str, bytes)


class Places:
    """How many long answers may be under way at a time, in all and for one owner."""

    def __init__(self, in_all: int, each: int) -> None:
        """Let nobody have taken a place yet."""
        self._in_all = in_all
        self._each = each
        self._taken: Counter[str | None] = Counter()
        self._lock = Lock()

    @contextmanager
    def taken(self, owner: str | None) -> Iterator[None]:
        """Hold one place for a block.

        Raises:
            Busy: there is none, or the owner has as many as it may have.
        """
        with self._lock:
            if self._taken[owner] >= self._each or self._taken.total() >= self._in_all:
                raise Busy(
                    f"So many exports are under way that this one has to wait: at most {self._each} of an organization "
                    f"and {self._in_all} in all at a time. Try again when one has ended."
                )
            self._taken[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[owner] -= 1


PLACES: Final = Places(in_all=8, each=3)
"""Those of this process: the database's pool has 15 connections, and the other requests need theirs."""


def streamed(
    pieces: Generator[Piece, None, None], *, owner: str | None, media_type: str, file_name: str, places: Places = PLACES
) -> Response[str]:
    """Answer with pieces that are made in a thread, one when the one before has gone out.

    `owner` is the organization that is answered, None for the system.

    Raises:
        Busy: there is no place for it now.
    """
    pieces = _placed(pieces, owner, places)
    first = next(pieces, None)
    headers = {"Content-Disposition": f'attachment; filename="{file_name}"'}
    answer = Stream(_sent(first, pieces), media_type=media_type, headers=headers)
    return cast("Response[str]", answer)  # what the document says of it: text


def _placed(pieces: Generator[Piece, None, None], owner: str | None, places: Places) -> Generator[Piece, None, None]:
    with places.taken(owner):
        yield from pieces


async def _sent(first: Piece | None, pieces: Generator[Piece, None, None]) -> AsyncIterator[Piece]:
    """Hand out the pieces; a reader that has gone ends the generator, and with it the transaction."""
    piece = first
    try:
        while piece is not None:
            yield piece
            piece = await to_thread.run_sync(next, pieces, None)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(pieces.close)

"""Long answers: sent piece by piece as they are made, with the transaction they are read in held to their end.

A generator comes in, whose first piece is made before the answer begins: what can be refused is refused as a problem,
and only a fault in the middle cuts the answer off, which the reader sees as a body without its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import TypeVar, cast

from anyio import CancelScope, to_thread
from litestar import Response
from litestar.response import Stream

Piece = TypeVar("Piece", str, bytes)


def streamed(pieces: Generator[Piece, None, None], *, media_type: str, file_name: str) -> Response[str]:
    """Answer with pieces that are made in a thread, one when the one before has gone out."""
    first = next(pieces, None)
    headers = {"Content-Disposition": f'attachment; filename="{file_name}"'}
    answer = Stream(_sent(first, pieces), media_type=media_type, headers=headers)
    return cast("Response[str]", answer)  # what the document says of it: text


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

"""How much a request may hold in memory, alone and together with the others, raw and decompressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from farebox_collector.errors import Malformed, TooLarge, Unavailable, UnsupportedMedia

Compression: TypeAlias = Literal["gzip", "deflate"]

PIECE_BYTES: Final = 2**20
"""Decompression gives way to other requests after each piece of this size."""
MAX_RATIO: Final = 200
"""What unfolds beyond this is a bomb, also below the size limit: spans of one and the same 30 KB prompt fold 71:1."""
RATIO_FREE_BYTES: Final = 2**20
"""Small bodies of one repeated span may fold better than that and harm nobody."""
MAX_MEMBERS: Final = 64
"""A gzip file may be several in a row; thousands of empty ones would only burn time."""
_WINDOW_BITS: Final[dict[Compression, int]] = {"gzip": 31, "deflate": 15}


class Budget:
    """Bytes of all requests in flight. Used on the event loop only."""

    def __init__(self, max_bytes: int) -> None:
        """Start with nothing held."""
        self._max_bytes = max_bytes
        self._held_bytes = 0

    @contextmanager
    def open(self) -> Iterator[Allowance]:
        """Give a request its part; everything that it took comes back at the end of the block."""
        allowance = Allowance(self)
        try:
            yield allowance
        finally:
            self._held_bytes -= allowance.taken_bytes

    def _take(self, size_bytes: int) -> None:
        if self._held_bytes + size_bytes > self._max_bytes:
            raise Unavailable("too many bytes are in flight; send the request again")
        self._held_bytes += size_bytes


class Allowance:
    """What one request has taken of the budget."""

    __slots__ = ("_budget", "taken_bytes")

    def __init__(self, budget: Budget) -> None:
        """Take nothing yet."""
        self._budget = budget
        self.taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Hold more bytes until the request ends.

        Raises:
            Unavailable: all requests together would hold too much.
        """
        self._budget._take(size_bytes)
        self.taken_bytes += size_bytes


def too_large(max_bytes: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {max_bytes} bytes (FAREBOX_MAX_BODY_BYTES), raw or decompressed; send smaller batches"
    )


def compression_of(header: bytes | None) -> Compression | None:
    """Read a Content-Encoding.

    Raises:
        UnsupportedMedia: it is not one of those that OTLP exporters send.
    """
    name = (header or b"").strip().lower()
    if name in (b"", b"identity", b"none"):
        return None
    if name == b"gzip":
        return "gzip"
    if name == b"deflate":
        return "deflate"
    raise UnsupportedMedia("this Content-Encoding is not supported; send gzip, deflate or none")


async def decompressed(body: bytes, compression: Compression, max_bytes: int, allowance: Allowance) -> bytes:
    """Decompress a body piece by piece, and stop at the limit: a bomb never unfolds.

    Raises:
        TooLarge: more than `max_bytes` come out, or more than `MAX_RATIO` times what went in.
        Malformed: the body is not compressed so, is cut off, or something follows it.
    """
    pieces: list[bytes] = []
    body_bytes, size_bytes = len(body), 0
    for _ in range(MAX_MEMBERS):
        decompressor = zlib.decompressobj(_WINDOW_BITS[compression])
        rest = body
        while not decompressor.eof:
            try:
                piece = decompressor.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise Malformed(f"the body is not valid {compression}: {error}") from None
            rest = decompressor.unconsumed_tail
            if not piece and not rest and not decompressor.eof:
                raise Malformed(f"the {compression} body is cut off")
            size_bytes += len(piece)
            if size_bytes > max_bytes:
                raise too_large(max_bytes)
            if size_bytes > max(RATIO_FREE_BYTES, MAX_RATIO * body_bytes):
                raise TooLarge(f"the body unfolds to more than {MAX_RATIO} times its size; send it uncompressed")
            allowance.take(len(piece))
            pieces.append(piece)
            if len(piece) == PIECE_BYTES:
                await asyncio.sleep(0)
        body = decompressor.unused_data
        if not body:
            return b"".join(pieces) if len(pieces) > 1 else pieces[0]
        if compression != "gzip":
            raise Malformed("something follows the compressed body")
    raise Malformed(f"the body is more than {MAX_MEMBERS} gzip files in a row; send one")

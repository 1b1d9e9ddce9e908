"""How many gRPC messages may be on their way into memory at one time.

grpc's core says how large a message is only when it is there, so bytes cannot be counted while they come. What can be
counted is calls: nothing of a message beyond the stream's first window is sent before somebody reads, so a call that
has no place yet holds 64 KiB at most. Used on the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from farebox_collector.errors import Unavailable

MIN_PLACES: Final = 16
SHARED_BYTES: Final = 256 * 2**20
"""What messages on their way may take together, unless `MIN_PLACES` of the largest that is allowed are more."""
MAX_WAITING: Final = 1024
PATIENCE_S: Final = 1.0
"""While others wait, a message may take so long, and less the more they are; then it gives way, so that stalled senders
hold up nobody."""
LOOK_EVERY_S: Final = 0.1


class Places:
    """The places in which messages are read, and the calls that wait for one."""

    def __init__(self, max_message_bytes: int, timeout_s: float) -> None:
        """Start with all places free; `timeout_s` is how long a message may take when nobody waits."""
        self.count = max(MIN_PLACES, SHARED_BYTES // max_message_bytes)
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(self.count)
        self._taken: dict[asyncio.Timeout, float] = {}  # since when, in the order in which they were taken
        self._waiting = 0
        self._look_timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place while a message is read.

        Raises:
            Unavailable: too many calls wait, the message took too long, or others waited and it was the slowest.
        """
        await self._wait_for_one()
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                self._taken[limit] = asyncio.get_running_loop().time()
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Unavailable("the message came too slowly; send it again, or smaller ones") from None
        finally:
            self._taken.pop(limit, None)
            self._free.release()

    async def _wait_for_one(self) -> None:
        if self._free.locked():
            if self._waiting >= MAX_WAITING:
                raise Unavailable("too many messages are on their way; send the request again")
            self._look_later()
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def _look_later(self) -> None:
        if self._look_timer is None:
            self._look_timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._cut_slow_ones)

    def _cut_slow_ones(self) -> None:
        """End the messages that have taken longest, as many as calls wait, unless they are young."""
        self._look_timer = None
        now = asyncio.get_running_loop().time()
        patience_s = max(LOOK_EVERY_S, PATIENCE_S * self.count / (self.count + self._waiting))
        for limit, since in list(self._taken.items())[: self._waiting]:
            if now - since >= patience_s:
                del self._taken[limit]
                limit.reschedule(now)
        if self._waiting:
            self._look_later()

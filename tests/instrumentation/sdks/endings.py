"""The ways in which an app ends a stream, for every SDK whose streams are iterated.

`open_stream` opens one, given a behaviour of the fake (`tests.fakes.server`) or an empty text.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from typing import Any

Opener = Callable[[str], Any]
AsyncOpener = Callable[[str], Awaitable[Any]]


def complete(open_stream: Opener) -> None:
    assert list(open_stream(""))


def close(open_stream: Opener) -> None:
    stream = open_stream("endless")
    next(stream)
    stream.close()
    stream.close()


def leave(open_stream: Opener) -> None:
    with open_stream("endless") as stream:
        next(stream)


def drop(open_stream: Opener) -> None:
    stream = open_stream("endless")
    next(stream)
    del stream
    gc.collect()


def lose(open_stream: Opener) -> None:
    """The connection breaks in the middle; the app gets the SDK's exception."""
    raised = None
    try:
        list(open_stream("cut"))
    except Exception as error:
        raised = error
    assert raised is not None


async def complete_async(open_stream: AsyncOpener) -> None:
    assert [chunk async for chunk in await open_stream("")]


async def close_async(open_stream: AsyncOpener) -> None:
    stream = await open_stream("endless")
    await anext(stream)
    await stream.close()


async def leave_async(open_stream: AsyncOpener) -> None:
    async with await open_stream("endless") as stream:
        await anext(stream)


async def drop_async(open_stream: AsyncOpener) -> None:
    stream = await open_stream("endless")
    await anext(stream)
    del stream
    gc.collect()


async def lose_async(open_stream: AsyncOpener) -> None:
    raised = None
    try:
        async for _ in await open_stream("cut"):
            pass
    except Exception as error:
        raised = error
    assert raised is not None


async def cancel_async(open_stream: AsyncOpener) -> None:
    """The task that reads is cancelled while it waits for a chunk."""
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in await open_stream("endless"):
            begun.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), 5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


#: What the app does, and what the span says of it; a completed one says nothing.
SYNC = [(complete, None), (close, "closed_early"), (leave, "closed_early"), (drop, "dropped"), (lose, "error")]
ASYNC = [
    (complete_async, None),
    (close_async, "closed_early"),
    (leave_async, "closed_early"),
    (drop_async, "dropped"),
    (lose_async, "error"),
    (cancel_async, "cancelled"),
]

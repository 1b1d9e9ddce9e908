"""The ways in which an app ends a stream, for every SDK; `MANAGED_` is for streams that are context managers as well.

`Open` takes a behavior of the fake (`tests.fakes.server`; "" for none) and answers the stream, or a coroutine of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

Open: TypeAlias = Callable[[str], Any]


def complete(opened: Open) -> None:
    assert list(opened(""))


def close_in_the_middle(opened: Open) -> None:
    stream = opened("endless")
    next(stream)
    stream.close()
    stream.close()


def leave_the_block(opened: Open) -> None:
    with contextlib.closing(opened("endless")) as stream:
        for _ in stream:
            break


def drop(opened: Open) -> None:
    stream = opened("endless")
    next(stream)
    del stream
    gc.collect()


def fail_by_an_event(opened: Open) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - each SDK has its own; `error.type` is looked at
        list(opened("stream-error"))


def fail_by_a_cut(opened: Open) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - as above
        list(opened("cut"))


SYNC: dict[str, tuple[Callable[[Open], None], str | None]] = {
    "complete": (complete, None),
    "close": (close_in_the_middle, "closed_early"),
    "leave": (leave_the_block, "closed_early"),
    "drop": (drop, "dropped"),
    "error event": (fail_by_an_event, "error"),
    "cut": (fail_by_a_cut, "error"),
}


def leave_its_own_block(opened: Open) -> None:
    with opened("endless") as stream:
        next(stream)


MANAGED_SYNC = {**SYNC, "leave its own block": (leave_its_own_block, "closed_early")}


async def begun(opened: Open, behavior: str) -> Any:
    stream = opened(behavior)
    return await stream if asyncio.iscoroutine(stream) else stream


async def async_complete(opened: Open) -> None:
    assert [chunk async for chunk in await begun(opened, "")]


async def async_close_in_the_middle(opened: Open) -> None:
    stream = await begun(opened, "endless")
    await anext(stream)
    await (stream.aclose() if hasattr(stream, "aclose") else stream.close())


async def async_leave_its_own_block(opened: Open) -> None:
    async with await begun(opened, "endless") as stream:
        await anext(stream)


async def async_drop(opened: Open) -> None:
    stream = await begun(opened, "endless")
    await anext(stream)
    del stream
    gc.collect()
    await asyncio.sleep(0.01)


async def async_cancel_while_reading(opened: Open) -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async for _ in await begun(opened, "endless"):
            reading.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(reading.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def async_cancel_before_the_answer(opened: Open) -> None:
    async def read() -> None:
        async for _ in await begun(opened, "hang"):
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.3)


async def async_fail_by_an_event(opened: Open) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - as above
        async for _ in await begun(opened, "stream-error"):
            pass


async def async_fail_by_a_cut(opened: Open) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - as above
        async for _ in await begun(opened, "cut"):
            pass


ASYNC: dict[str, tuple[Callable[[Open], Awaitable[None]], str | None]] = {
    "complete": (async_complete, None),
    "close": (async_close_in_the_middle, "closed_early"),
    "drop": (async_drop, "dropped"),
    "cancel while reading": (async_cancel_while_reading, "cancelled"),
    "cancel before the answer": (async_cancel_before_the_answer, "cancelled"),
    "error event": (async_fail_by_an_event, "error"),
    "cut": (async_fail_by_a_cut, "error"),
}
MANAGED_ASYNC = {**ASYNC, "leave its own block": (async_leave_its_own_block, "closed_early")}

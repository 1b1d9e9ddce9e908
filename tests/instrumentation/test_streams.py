"""A stream ends its span exactly once, however it ends, and stays to the app what it was."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest

from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder

pytestmark = [pytest.mark.usefixtures("no_faults"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
SDKS = ["openai", "anthropic"]
MODELS = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5"}


def make(sdk: str, provider: FakeProvider) -> Any:
    if sdk == "openai":
        return openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=0)
    return anthropic.Anthropic(base_url=provider.url, api_key="k", max_retries=0)


def make_async(sdk: str, provider: FakeProvider) -> Any:
    if sdk == "openai":
        return openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=0)
    return anthropic.AsyncAnthropic(base_url=provider.url, api_key="k", max_retries=0)


def opened(sdk: str, client: Any, behavior: str = "") -> Any:
    model = f"{behavior}:{MODELS[sdk]}" if behavior else MODELS[sdk]
    if sdk == "openai":
        return client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    return client.messages.create(model=model, messages=MESSAGES, max_tokens=100, stream=True)


def complete(sdk: str, client: Any) -> None:
    list(opened(sdk, client))


def complete_by_next(sdk: str, client: Any) -> None:
    stream = opened(sdk, client)
    while next(stream, None) is not None:
        pass


def close_at_once(sdk: str, client: Any) -> None:
    opened(sdk, client, "endless").close()


def close_in_the_middle(sdk: str, client: Any) -> None:
    stream = opened(sdk, client, "endless")
    next(stream)
    stream.close()
    stream.close()


def leave_the_block(sdk: str, client: Any) -> None:
    with opened(sdk, client, "endless") as stream:
        for _ in stream:
            break


def leave_the_block_by_an_error(sdk: str, client: Any) -> None:
    stream = opened(sdk, client, "endless")
    next(stream)
    with pytest.raises(ZeroDivisionError), stream:
        _ = 1 / 0


def close_the_response(sdk: str, client: Any) -> None:
    stream = opened(sdk, client, "endless")
    next(stream)
    stream.response.close()


def drop(sdk: str, client: Any) -> None:
    stream = opened(sdk, client, "endless")
    next(stream)
    del stream
    gc.collect()


def fail_by_an_event(sdk: str, client: Any) -> None:
    kind = openai.APIError if sdk == "openai" else anthropic.APIError
    with pytest.raises(kind):
        list(opened(sdk, client, "stream-error"))


def fail_by_a_cut(sdk: str, client: Any) -> None:
    with pytest.raises(Exception, match=r"peer closed|Connection|incomplete"):
        list(opened(sdk, client, "cut"))


SYNC_CASES: list[tuple[Callable[[str, Any], None], str | None]] = [
    (complete, None),
    (complete_by_next, None),
    (close_at_once, "closed_early"),
    (close_in_the_middle, "closed_early"),
    (leave_the_block, "closed_early"),
    (leave_the_block_by_an_error, "closed_early"),
    (close_the_response, "closed_early"),
    (drop, "dropped"),
    (fail_by_an_event, "error"),
    (fail_by_a_cut, "error"),
]


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize(("end", "outcome"), SYNC_CASES, ids=[case[0].__name__ for case in SYNC_CASES])
def test_a_stream_ends_its_span_once(
    provider: FakeProvider, recorder: Recorder, sdk: str, end: Callable[[str, Any], None], outcome: str | None
) -> None:
    with make(sdk, provider) as client:
        end(sdk, client)
        gc.collect()

    attributes = recorder.one().attributes
    assert attributes.get("farebox.outcome") == outcome
    assert ("error.type" in attributes) == (outcome == "error")
    assert ("gen_ai.usage.output_tokens" in attributes) == (outcome is None)


async def async_complete(sdk: str, client: Any) -> None:
    async for _ in await opened(sdk, client):
        pass


async def async_close_in_the_middle(sdk: str, client: Any) -> None:
    stream = await opened(sdk, client, "endless")
    await stream.__anext__()
    await stream.close()


async def async_leave_the_block(sdk: str, client: Any) -> None:
    async with await opened(sdk, client, "endless") as stream:
        async for _ in stream:
            break


async def async_drop(sdk: str, client: Any) -> None:
    stream = await opened(sdk, client, "endless")
    await stream.__anext__()
    response = stream.response
    del stream
    gc.collect()
    await response.aclose()


async def async_cancel_while_reading(sdk: str, client: Any) -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async for _ in await opened(sdk, client, "endless"):
            reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def async_cancel_between_chunks(sdk: str, client: Any) -> None:
    waiting = asyncio.Event()

    async def read() -> None:
        async with await opened(sdk, client, "endless") as stream:
            async for _ in stream:
                waiting.set()
                await asyncio.sleep(30)

    task = asyncio.create_task(read())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def async_cancel_before_the_answer(sdk: str, client: Any) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(opened(sdk, client, "hang"), 0.2)


async def async_fail_by_an_event(sdk: str, client: Any) -> None:
    kind = openai.APIError if sdk == "openai" else anthropic.APIError
    with pytest.raises(kind):
        async for _ in await opened(sdk, client, "stream-error"):
            pass


ASYNC_CASES: list[tuple[Callable[[str, Any], Awaitable[None]], str | None]] = [
    (async_complete, None),
    (async_close_in_the_middle, "closed_early"),
    (async_leave_the_block, "closed_early"),
    (async_drop, "dropped"),
    (async_cancel_while_reading, "cancelled"),
    (async_cancel_between_chunks, "cancelled"),
    (async_cancel_before_the_answer, "cancelled"),
    (async_fail_by_an_event, "error"),
]


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize(("end", "outcome"), ASYNC_CASES, ids=[case[0].__name__ for case in ASYNC_CASES])
def test_an_async_stream_ends_its_span_once(
    provider: FakeProvider,
    recorder: Recorder,
    sdk: str,
    end: Callable[[str, Any], Awaitable[None]],
    outcome: str | None,
) -> None:
    async def run() -> None:
        async with make_async(sdk, provider) as client:
            await end(sdk, client)

    asyncio.run(run())
    gc.collect()

    attributes = recorder.one().attributes
    assert attributes.get("farebox.outcome") == outcome
    assert ("error.type" in attributes) == (outcome == "error")


def test_a_manager_that_is_left_early_ends_its_span_at_once(provider: FakeProvider, recorder: Recorder) -> None:
    client = make("openai", provider)
    with client.chat.completions.stream(model="endless:gpt-4o", messages=MESSAGES) as stream:
        next(iter(stream))

    assert recorder.one().attributes["farebox.outcome"] == "closed_early"
    assert stream is not None


def test_a_raw_stream_that_is_left_early_ends_its_span(provider: FakeProvider, recorder: Recorder) -> None:
    client = make("openai", provider)
    with client.chat.completions.with_streaming_response.create(
        model="endless:gpt-4o", messages=MESSAGES, stream=True
    ) as response:
        next(response.iter_lines())

    assert recorder.one().attributes["farebox.outcome"] == "closed_early"


def test_a_raw_response_that_nobody_reads_ends_its_span(provider: FakeProvider, recorder: Recorder) -> None:
    client = make("openai", provider)
    raw = client.chat.completions.with_raw_response.create(model="endless:gpt-4o", messages=MESSAGES, stream=True)
    del raw
    gc.collect()

    assert recorder.one().attributes["farebox.outcome"] == "dropped"


def test_two_threads_that_close_a_stream_end_its_span_once(provider: FakeProvider, recorder: Recorder) -> None:
    client = make("openai", provider)
    for _ in range(20):
        stream = opened("openai", client, "endless")
        threads = [threading.Thread(target=stream.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(recorder.spans()) == 20


@pytest.mark.parametrize("sdk", SDKS)
def test_a_stream_is_still_an_instance_of_its_class(provider: FakeProvider, recorder: Recorder, sdk: str) -> None:
    kind = openai.Stream if sdk == "openai" else anthropic.Stream
    client = make(sdk, provider)

    stream = opened(sdk, client)

    assert isinstance(stream, kind)
    assert stream.__class__ is kind
    assert stream.response.status_code == 200
    assert iter(stream) is not None
    with stream as entered:
        assert entered is stream
    vars(stream)["mark"] = 1
    assert getattr(stream, "mark") == 1  # noqa: B009 - mypy knows no such attribute
    assert not hasattr(stream, "aclose")


def test_the_chunks_are_those_of_the_unpatched_sdk(provider: FakeProvider, recorder: Recorder) -> None:
    import farebox

    def texts() -> list[tuple[type, Any, set[str]]]:
        chunks = list(opened("openai", make("openai", provider)))
        return [
            (type(chunk), chunk.choices[0].delta.to_dict(), set(chunk.to_dict()) | chunk.model_fields_set)
            for chunk in chunks
        ]

    metered = texts()
    with farebox.suppress():
        plain = texts()

    assert metered == plain


def test_many_aborted_streams_leave_nothing_behind(provider: FakeProvider, recorder: Recorder) -> None:
    from farebox.streams import StreamMeter

    client = make("openai", provider)
    for _ in range(100):
        stream = opened("openai", client)
        next(stream)
        stream.close()
        del stream
    gc.collect()

    assert len(recorder.spans()) == 100
    assert not [found for found in gc.get_objects() if isinstance(found, StreamMeter)]

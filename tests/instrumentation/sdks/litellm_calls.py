"""Calls of the real `litellm`, run by `test_litellm` in the environment of `tests/instrumentation/litellm.txt`.

Each function below that begins with `case_` is one case. The output is JSON: for each case its spans, how many requests
the fakes served, and the class of the exception that the app got.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="CRITICAL", AWS_EC2_METADATA_DISABLED="true")

import farebox
from farebox import config, exporting, metering, safety
from tests.fakes.cohere import FakeCohere
from tests.fakes.provider import FakeProvider
from tests.instrumentation.cells import Watch
from tests.instrumentation.recorder import Recorder

MESSAGES = [{"role": "user", "content": "What does a ride cost?"}]
CLAUDE = "anthropic/claude-sonnet-4-5"
litellm: Any = None


def anthropic(fake: FakeProvider, model: str = CLAUDE, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": MESSAGES, "api_base": fake.url, "api_key": "k", **more}


def openai(fake: FakeProvider, model: str = "openai/gpt-4o", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": MESSAGES, "api_base": f"{fake.url}/v1", "api_key": "k", **more}


def door(fake: FakeProvider, model: str, **more: Any) -> dict[str, Any]:
    """For what has no messages."""
    return {"model": model, "api_base": f"{fake.url}/v1", "api_key": "k", **more}


async def read(stream: AsyncIterator[Any]) -> list[Any]:
    return [chunk async for chunk in stream]


async def astream(arguments: dict[str, Any]) -> list[Any]:
    return await read(await litellm.acompletion(**arguments, stream=True))


# -- by LiteLLM's own HTTP stack


def case_completion(fake: FakeProvider) -> None:
    answer = litellm.completion(**anthropic(fake))
    assert type(answer).__name__ == "ModelResponse"


def case_acompletion(fake: FakeProvider) -> None:
    asyncio.run(litellm.acompletion(**anthropic(fake)))


def case_stream(fake: FakeProvider) -> None:
    stream = litellm.completion(**anthropic(fake), stream=True)
    assert isinstance(stream, litellm.CustomStreamWrapper)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "The fare is two cents a ride."


def case_stream_with_usage_for_the_app(fake: FakeProvider) -> None:
    chunks = list(litellm.completion(**anthropic(fake), stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.prompt_tokens == 6010


def case_astream(fake: FakeProvider) -> None:
    assert len(asyncio.run(astream(anthropic(fake)))) > 5


def case_stream_closed(fake: FakeProvider) -> None:
    stream = litellm.completion(**anthropic(fake, "anthropic/endless:claude-sonnet-4-5"), stream=True)
    next(stream)
    stream.close()


def case_stream_dropped(fake: FakeProvider) -> None:
    stream = litellm.completion(**anthropic(fake, "anthropic/endless:claude-sonnet-4-5"), stream=True)
    next(stream)
    del stream
    gc.collect()


def case_stream_lost(fake: FakeProvider) -> None:
    list(litellm.completion(**anthropic(fake, "anthropic/cut:claude-sonnet-4-5"), stream=True))


def endings(fake: FakeProvider, end: Callable[[Any], Awaitable[Any]], behavior: str = "endless") -> None:
    async def run() -> None:
        arguments = anthropic(fake, f"anthropic/{behavior}:claude-sonnet-4-5")
        await end(await litellm.acompletion(**arguments, stream=True))
        gc.collect()

    asyncio.run(run())


def case_astream_closed(fake: FakeProvider) -> None:
    async def close(stream: Any) -> None:
        await anext(stream)
        await stream.aclose()

    endings(fake, close)


def case_astream_dropped(fake: FakeProvider) -> None:
    endings(fake, anext)


def case_astream_lost(fake: FakeProvider) -> None:
    endings(fake, read, "cut")


def case_astream_cancelled(fake: FakeProvider) -> None:
    async def run() -> None:
        begun = asyncio.Event()

        async def reading() -> None:
            arguments = anthropic(fake, "anthropic/endless:claude-sonnet-4-5")
            async for _ in await litellm.acompletion(**arguments, stream=True):
                begun.set()

        task = asyncio.create_task(reading())
        await asyncio.wait_for(begun.wait(), 10)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()

    asyncio.run(run())


def case_error(fake: FakeProvider) -> None:
    litellm.completion(**anthropic(fake, "anthropic/fail-400"))


def case_aerror(fake: FakeProvider) -> None:
    asyncio.run(litellm.acompletion(**anthropic(fake, "anthropic/fail-400")))


def case_rerank(fake: FakeProvider) -> None:
    with FakeCohere() as cohere:
        arguments = {"model": "cohere/rerank-v3.5", "query": "fare", "documents": ["a ride", "a walk"]}
        litellm.rerank(**arguments, api_base=f"{cohere.url}/v2/rerank", api_key="k")
        asyncio.run(litellm.arerank(**arguments, api_base=f"{cohere.url}/v2/rerank", api_key="k"))


def case_responses_by_bridge(fake: FakeProvider) -> None:
    litellm.responses(model=CLAUDE, input="Hi", api_base=fake.url, api_key="k")


# -- through the openai package, or LiteLLM's own copy of its calls: one span, whichever it is


def case_openai_completion(fake: FakeProvider) -> None:
    litellm.completion(**openai(fake))


def case_openai_acompletion(fake: FakeProvider) -> None:
    asyncio.run(litellm.acompletion(**openai(fake)))


def case_openai_stream(fake: FakeProvider) -> None:
    list(litellm.completion(**openai(fake), stream=True))


def case_openai_astream(fake: FakeProvider) -> None:
    asyncio.run(astream(openai(fake)))


def case_openai_error(fake: FakeProvider) -> None:
    litellm.completion(**openai(fake, "openai/fail-400"))


def case_text_completion(fake: FakeProvider) -> None:
    litellm.text_completion(**door(fake, "openai/gpt-3.5-turbo-instruct", prompt="Hi"))
    asyncio.run(litellm.atext_completion(**door(fake, "openai/gpt-3.5-turbo-instruct", prompt="Hi")))


def case_embedding(fake: FakeProvider) -> None:
    litellm.embedding(**door(fake, "openai/text-embedding-3-small", input=["Hi"]))
    asyncio.run(litellm.aembedding(**door(fake, "openai/text-embedding-3-small", input=["Hi"])))


def case_images(fake: FakeProvider) -> None:
    litellm.image_generation(**door(fake, "openai/gpt-image-1", prompt="A tram"))
    asyncio.run(litellm.aimage_generation(**door(fake, "openai/gpt-image-1", prompt="A tram")))


def case_images_without_tokens(fake: FakeProvider) -> None:
    litellm.image_generation("A tram", **door(fake, "openai/dall-e-3", n=2))


def case_responses(fake: FakeProvider) -> None:
    litellm.responses(**door(fake, "openai/gpt-5", input="Hi"))
    asyncio.run(litellm.aresponses(**door(fake, "openai/gpt-5", input="Hi")))


def case_responses_stream(fake: FakeProvider) -> None:
    async def run() -> None:
        await read(await litellm.aresponses(**door(fake, "openai/gpt-5", input="Hi"), stream=True))

    list(litellm.responses(**door(fake, "openai/gpt-5", input="Hi"), stream=True))
    asyncio.run(run())


def case_transcription(fake: FakeProvider) -> None:
    litellm.transcription(**door(fake, "openai/whisper-1", file=("a.wav", b"sound")))


def case_speech(fake: FakeProvider) -> None:
    litellm.speech(**door(fake, "openai/tts-1", input="Hello", voice="alloy"))


# -- one call that becomes several, and several that become none


def case_fallback(fake: FakeProvider) -> None:
    second = openai(fake)
    litellm.completion(**anthropic(fake, "anthropic/fail-400"), fallbacks=[second])


def case_fallback_inside_a_loop(fake: FakeProvider) -> None:
    async def run() -> None:
        litellm.completion(**anthropic(fake, "anthropic/fail-400"), fallbacks=[openai(fake)])

    asyncio.run(run())


def case_afallback(fake: FakeProvider) -> None:
    asyncio.run(litellm.acompletion(**openai(fake, "openai/fail-400"), fallbacks=[anthropic(fake)]))


def case_retry(fake: FakeProvider) -> None:
    litellm.completion(**anthropic(fake, "anthropic/flaky:claude-sonnet-4-5"), num_retries=2)


def case_openai_retry(fake: FakeProvider) -> None:
    litellm.completion(**openai(fake, "openai/flaky:gpt-4o"), num_retries=2, max_retries=0)


def router(fake: FakeProvider) -> Any:
    def deployment(arguments: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in arguments.items() if key != "messages"}

    models = [
        {"model_name": "claude", "litellm_params": deployment(anthropic(fake))},
        {"model_name": "broken", "litellm_params": deployment(anthropic(fake, "anthropic/fail-400"))},
        {"model_name": "gpt", "litellm_params": deployment(openai(fake))},
    ]
    return litellm.Router(model_list=models, fallbacks=[{"broken": ["gpt"]}], num_retries=0)


def case_router(fake: FakeProvider) -> None:
    router(fake).completion(model="claude", messages=MESSAGES)
    asyncio.run(router(fake).acompletion(model="gpt", messages=MESSAGES))


def case_router_fallback(fake: FakeProvider) -> None:
    asyncio.run(router(fake).acompletion(model="broken", messages=MESSAGES))


def case_batch_completion(fake: FakeProvider) -> None:
    litellm.batch_completion(**{**anthropic(fake), "messages": [MESSAGES, MESSAGES]})


def case_cache(fake: FakeProvider) -> None:
    litellm.cache = litellm.Cache()
    try:
        for _ in range(3):
            litellm.completion(**anthropic(fake), caching=True)
    finally:
        litellm.cache = None


def case_mock(fake: FakeProvider) -> None:
    litellm.completion(**anthropic(fake), mock_response="Two cents.")


def case_suppressed(fake: FakeProvider) -> None:
    with farebox.suppress():
        litellm.completion(**anthropic(fake))
        litellm.completion(**openai(fake))


def case_attributed(fake: FakeProvider) -> None:
    with farebox.attribute(user="ada"):
        litellm.completion(**anthropic(fake))
        litellm.completion(**openai(fake))
        asyncio.run(litellm.acompletion(**openai(fake)))


def case_fault_of_ours(fake: FakeProvider) -> None:
    kept = metering._sdks["litellm"]

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("ours")

    try:
        for hook in ("read_request", "read_response", "read_chunk"):
            original = getattr(kept, hook)
            setattr(kept, hook, fail)
            assert litellm.completion(**anthropic(fake)).usage.prompt_tokens == 6010
            assert len(list(litellm.completion(**anthropic(fake), stream=True))) > 5
            setattr(kept, hook, original)
    finally:
        assert safety.faults
        safety.faults.clear()


def case_off_and_on_again(fake: FakeProvider) -> None:
    """Last: what the public names are bound to comes back, and can be wrapped again."""
    names = ["completion", "acompletion", "embedding", "responses", "rerank", "text_completion", "speech"]
    wrapped = [getattr(litellm, name) for name in names]
    farebox.uninstrument()
    plain = [getattr(litellm, name) for name in names]
    litellm.completion(**anthropic(fake))
    farebox.instrument()
    again = [getattr(litellm, name).__wrapped__ for name in names]
    assert all(not hasattr(one, "__wrapped__") or one is not other for one, other in zip(plain, wrapped, strict=True))
    assert all(one.__wrapped__ is other for one, other in zip(wrapped, plain, strict=True))
    assert all(one is other for one, other in zip(plain, again, strict=True))
    litellm.completion(**anthropic(fake))


def run(name: str, case: Callable[[FakeProvider], Awaitable[None] | None], recorder: Recorder) -> dict[str, Any]:
    seen = len(recorder.spans())
    raised: BaseException | None = None
    started = time.monotonic()
    with FakeProvider() as fake:
        try:
            case(fake)
        except Exception as error:
            raised = error
        gc.collect()
        spans = [
            {"name": span.name, "scope": span.scope, "attributes": span.attributes} for span in recorder.spans()[seen:]
        ]
        served = len(fake.served)
    faults = dict(safety.faults)
    safety.faults.clear()
    return {
        "spans": spans,
        "served": served,
        "error": None if raised is None else type(raised).__name__,
        "trace": None if raised is None else "".join(traceback.format_exception(raised)[-3:]),
        "faults": faults,
        "seconds": round(time.monotonic() - started, 2),
    }


def cases() -> Iterator[tuple[str, Callable[[FakeProvider], None]]]:
    for name, value in list(globals().items()):
        if name.startswith("case_"):
            yield name.removeprefix("case_"), value


def main() -> None:
    global litellm
    recorder = Recorder()
    exporting.start(config.read(), recorder)
    assert farebox.instrument()
    import litellm as imported

    litellm = imported
    litellm.suppress_debug_info = True
    with Watch() as watch:
        results = {name: run(name, case, recorder) for name, case in cases()}
        cells = watch.cells(recorder.spans())
    # What LiteLLM prints goes before this line.
    print("\n" + json.dumps({"cases": results, "cells": sorted(cells)}))
    sys.stdout.flush()
    os._exit(0)  # LiteLLM's threads may wait for what will not come


if __name__ == "__main__":
    main()

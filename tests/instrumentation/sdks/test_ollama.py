"""Calls of the real `ollama` package against the fake; figures are those of `tests.fakes.ollama`."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import ollama
import pytest

from tests.fakes.ollama import FakeOllama
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings
from tests.instrumentation.sdks.transparency import (
    assert_every_target_is_patched_and_restored,
    assert_our_faults_are_not_felt,
)

#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "test_answers_of_a_system_one_model_are_counted",
        "test_a_server_that_is_away_is_a_span_with_its_error",
    }
)
MODEL = "llama3.2:1b"
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
CHAT = {"input_tokens": 26, "output_tokens": 290}


@pytest.fixture
def provider() -> Iterator[FakeOllama]:
    with FakeOllama() as fake:
        yield fake


@pytest.fixture
def client(provider: FakeOllama) -> Iterator[ollama.Client]:
    made = ollama.Client(host=provider.url)
    with made._client:
        yield made


CALLS: list[tuple[str, str, dict[str, Any], Callable[[Any], Any]]] = [
    ("chat", f"chat {MODEL}", CHAT, lambda c: c.chat(model=MODEL, messages=MESSAGES)),
    ("chat stream", f"chat {MODEL}", CHAT, lambda c: c.chat(model=MODEL, messages=MESSAGES, stream=True)),
    ("generate", f"text_completion {MODEL}", CHAT, lambda c: c.generate(model=MODEL, prompt="Hi")),
    (
        "generate stream",
        f"text_completion {MODEL}",
        CHAT,
        lambda c: c.generate(model=MODEL, prompt="Hi", stream=True),
    ),
    ("embed", "embeddings all-minilm", {"input_tokens": 8}, lambda c: c.embed(model="all-minilm", input="Hi")),
    ("embeddings", "embeddings all-minilm", {}, lambda c: c.embeddings(model="all-minilm", prompt="Hi")),
]
IDS = [row[0] for row in CALLS]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_call_is_one_span_with_its_usage(
    client: ollama.Client,
    recorder: Recorder,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    answer = call(client)
    if "stream" in name:
        assert len(list(answer)) == 9

    span = recorder.one()
    assert recorder.usage() == usage
    assert span.name == span_name
    assert span.scope == "farebox.sdks.ollama"
    assert span.attributes["gen_ai.provider.name"] == "ollama"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes.get("gen_ai.request.stream", False) == ("stream" in name)
    assert ("gen_ai.response.time_to_first_chunk" in span.attributes) == ("stream" in name)
    assert "farebox.outcome" not in span.attributes


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_async_call_is_one_span_with_its_usage(
    provider: FakeOllama,
    recorder: Recorder,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    async def run() -> None:
        client = ollama.AsyncClient(host=provider.url)
        async with client._client:
            answer = await call(client)
            if "stream" in name:
                assert len([chunk async for chunk in answer]) == 9

    asyncio.run(run())

    assert recorder.usage() == usage
    assert recorder.one().name == span_name


@pytest.mark.usefixtures("no_faults")
def test_the_functions_of_the_module_are_metered(
    provider: FakeOllama, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were bound to a client when the module was imported."""
    with httpx.Client(base_url=provider.url) as http:
        monkeypatch.setattr(ollama._client, "_client", http)
        ollama.chat(model=MODEL, messages=MESSAGES)

    assert recorder.usage() == CHAT


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_answers_of_a_system_one_model_are_counted(provider: FakeOllama, recorder: Recorder, is_async: bool) -> None:
    if is_async:
        asyncio.run(ollama.AsyncClient(host=provider.url).systemone(model="gauge", state="Hi", questions={}))
    else:
        ollama.Client(host=provider.url).systemone(model="gauge", state="Hi", questions={})

    assert recorder.usage() == {"input_tokens": 75, "output_tokens": 3}


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_prompt_that_was_cached_has_no_count(client: Any, recorder: Recorder, is_stream: bool) -> None:
    answer = client.chat(model="cached", messages=MESSAGES, stream=is_stream)
    if is_stream:
        list(answer)

    assert recorder.usage() == {"output_tokens": 290}
    assert recorder.one().attributes["gen_ai.response.finish_reasons"] == ["stop"]


@pytest.mark.usefixtures("no_faults")
def test_loading_a_model_and_listing_models_is_no_use(client: ollama.Client, recorder: Recorder) -> None:
    client.generate(model=MODEL)
    client.list()

    assert recorder.spans() == []


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failed_call_is_a_span_with_its_error(client: Any, recorder: Recorder, is_stream: bool) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.chat(model="fail-500", messages=MESSAGES, stream=is_stream))

    attributes = recorder.one().attributes
    assert caught.value.status_code == 500
    assert attributes["farebox.outcome"] == "error"
    assert attributes["error.type"] == "ollama._types.ResponseError"


@pytest.mark.usefixtures("no_faults")
def test_a_server_that_is_away_is_a_span_with_its_error(recorder: Recorder) -> None:
    with pytest.raises(ConnectionError):
        ollama.Client(host="http://127.0.0.1:9").chat(model=MODEL, messages=MESSAGES)

    assert recorder.one().attributes["error.type"] == "ConnectionError"


@pytest.mark.usefixtures("no_faults")
def test_a_stream_that_nobody_reads_was_never_asked_for(
    provider: FakeOllama, client: ollama.Client, recorder: Recorder
) -> None:
    client.chat(model=MODEL, messages=MESSAGES, stream=True).close()  # type: ignore[attr-defined]
    dropped = client.chat(model=MODEL, messages=MESSAGES, stream=True)
    del dropped
    gc.collect()

    assert provider.served == []
    assert recorder.spans() == []


@pytest.mark.usefixtures("no_faults")
def test_a_stream_starts_when_it_is_first_read(client: ollama.Client, recorder: Recorder) -> None:
    stream = client.chat(model=MODEL, messages=MESSAGES, stream=True)
    time.sleep(0.3)
    before_ns, began_s = time.time_ns(), time.perf_counter()
    list(stream)
    reading_s = time.perf_counter() - began_s

    assert recorder.one().start_ns >= before_ns
    assert recorder.one().attributes["gen_ai.response.time_to_first_chunk"] < reading_s


def opener(client: Any) -> endings.Open:
    return lambda behavior: client.chat(
        model=f"{behavior}:{MODEL}" if behavior else MODEL, messages=MESSAGES, stream=True
    )


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.SYNC.values(), ids=endings.SYNC)
def test_a_stream_ends_its_span_once(
    client: ollama.Client, recorder: Recorder, end: Callable[[endings.Open], None], outcome: str | None
) -> None:
    end(opener(client))
    gc.collect()

    attributes = recorder.one().attributes
    assert attributes.get("farebox.outcome") == outcome
    assert ("error.type" in attributes) == (outcome == "error")
    assert ("gen_ai.usage.output_tokens" in attributes) == (outcome is None)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.ASYNC.values(), ids=endings.ASYNC)
def test_an_async_stream_ends_its_span_once(
    provider: FakeOllama, recorder: Recorder, end: Callable[[endings.Open], Awaitable[None]], outcome: str | None
) -> None:
    async def run() -> None:
        client = ollama.AsyncClient(host=provider.url)
        async with client._client:
            await end(opener(client))

    asyncio.run(run())

    assert recorder.one().attributes.get("farebox.outcome") == outcome


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing(
    client: ollama.Client, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def call() -> Any:
        if hook == "read_chunk":
            return [part.message.content for part in client.chat(model=MODEL, messages=MESSAGES, stream=True)]
        return client.chat(model=MODEL, messages=MESSAGES)

    assert_our_faults_are_not_felt("ollama", hook, recorder, monkeypatch, call)


def test_every_method_is_patched_and_restored() -> None:
    assert_every_target_is_patched_and_restored("ollama")

"""Calls of the real `together` package against its fake; figures are those of `tests.fakes.together`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import together

from tests.fakes.together import FakeTogether
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings, transparency

#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "test_chat_without_an_own_address_goes_to_togethers_other_host",
        "test_a_video_is_booked_by_its_seconds_when_it_is_first_seen_done",
    }
)
#: Before 3.0 it stood in the base URL.
VERSION_PATH = "/v1" if together.__version__.startswith("2.") else ""
MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
CHAT = {"input_tokens": 90, "cache_read.input_tokens": 64, "output_tokens": 33}
TEXT_COMPLETION = {"input_tokens": 14, "output_tokens": 21}


@pytest.fixture
def fake() -> Iterator[FakeTogether]:
    with FakeTogether() as made:
        yield made


@pytest.fixture
def client(no_faults: None, fake: FakeTogether) -> Iterator[together.Together]:
    with together.Together(base_url=f"{fake.url}{VERSION_PATH}", api_key="key", max_retries=1) as made:
        yield made


def run_async(fake: FakeTogether, call: Callable[[together.AsyncTogether], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with together.AsyncTogether(base_url=f"{fake.url}{VERSION_PATH}", api_key="key", max_retries=1) as client:
            return await call(client)

    return asyncio.run(run())


def chat(client: Any, **arguments: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **arguments})


def streamed_body(client: together.Together, **arguments: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=MESSAGES, **arguments
    ) as response:
        return list(response.iter_lines())


CALLS: list[tuple[str, str, dict[str, Any], Callable[[Any], Any]]] = [
    ("chat", f"chat {MODEL}", CHAT, chat),
    (
        "chat raw response",
        f"chat {MODEL}",
        CHAT,
        lambda c: c.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES),
    ),
    (
        "completion",
        "text_completion mistralai/Mixtral-8x7B-v0.1",
        TEXT_COMPLETION,
        lambda c: c.completions.create(model="mistralai/Mixtral-8x7B-v0.1", prompt="Hi"),
    ),
    (
        "embeddings",
        "embeddings BAAI/bge-base-en-v1.5",
        {"input_tokens": 11},
        lambda c: c.embeddings.create(model="BAAI/bge-base-en-v1.5", input="Hi"),
    ),
    (
        "images",
        "image_generation black-forest-labs/FLUX.1-schnell",
        {"output_images": 2},
        lambda c: c.images.generate(model="black-forest-labs/FLUX.1-schnell", prompt="A tram", n=2),
    ),
    (
        "rerank",
        "rerank Salesforce/Llama-Rank-v1",
        {"input_tokens": 470, "output_tokens": 0},
        lambda c: c.rerank.create(model="Salesforce/Llama-Rank-v1", query="fare", documents=["a ride", "a walk"]),
    ),
    (
        "transcription",
        "transcription openai/whisper-large-v3",
        {"input_seconds": 12.25},
        lambda c: c.audio.transcriptions.create(
            model="openai/whisper-large-v3", file=("a.wav", b"sound"), response_format="verbose_json"
        ),
    ),
    (
        "translation",
        "transcription openai/whisper-large-v3",
        {"input_seconds": 12.25},
        lambda c: c.audio.translations.create(
            model="openai/whisper-large-v3", file=("a.wav", b"sound"), response_format="verbose_json"
        ),
    ),
    (
        "speech",
        "speech cartesia/sonic",
        {"input_characters": 5},
        lambda c: c.audio.speech.create(model="cartesia/sonic", voice="laidback woman", input="Hello"),
    ),
]
NAMES = [row[0] for row in CALLS]


@pytest.mark.parametrize(("name", "usage", "call"), [row[1:] for row in CALLS], ids=NAMES)
def test_each_kind_of_call_is_one_span_with_its_usage(
    client: together.Together, recorder: Recorder, name: str, usage: dict[str, Any], call: Callable[[Any], Any]
) -> None:
    call(client)

    span = recorder.one()
    assert span.name == name
    assert span.scope == "farebox.sdks.together"
    assert span.attributes["gen_ai.provider.name"] == "together_ai"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert "farebox.outcome" not in span.attributes
    assert recorder.usage() == usage


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "usage", "call"), [row[1:] for row in CALLS], ids=NAMES)
def test_each_kind_of_async_call_is_one_span_with_its_usage(
    fake: FakeTogether, recorder: Recorder, name: str, usage: dict[str, Any], call: Callable[[Any], Any]
) -> None:
    run_async(fake, call)

    assert recorder.one().name == name
    assert recorder.usage() == usage


@pytest.mark.parametrize(
    "read", [lambda c: list(chat(c, stream=True)), lambda c: streamed_body(c, stream=True)], ids=["chunks", "lines"]
)
def test_a_stream_says_its_usage_unasked(
    client: together.Together, recorder: Recorder, fake: FakeTogether, read: Callable[[together.Together], list[Any]]
) -> None:
    read(client)

    attributes = recorder.one().attributes
    assert "stream_options" not in fake.served[0].body
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert recorder.usage() == CHAT


@pytest.mark.parametrize(("end", "outcome"), endings.MANAGED_SYNC.values(), ids=endings.MANAGED_SYNC)
def test_a_stream_is_one_span_however_it_ends(
    client: together.Together, recorder: Recorder, end: Callable[[endings.Open], None], outcome: str | None
) -> None:
    end(lambda behavior: chat(client, model=f"{behavior}:{MODEL}" if behavior else MODEL, stream=True))

    assert recorder.wait_for(1)[0].attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (CHAT if outcome is None else {})


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.MANAGED_ASYNC.values(), ids=endings.MANAGED_ASYNC)
def test_an_async_stream_is_one_span_however_it_ends(
    fake: FakeTogether, recorder: Recorder, end: Callable[[endings.Open], Awaitable[None]], outcome: str | None
) -> None:
    def opened(client: together.AsyncTogether, behavior: str) -> Any:
        return chat(client, model=f"{behavior}:{MODEL}" if behavior else MODEL, stream=True)

    run_async(fake, lambda client: end(lambda behavior: opened(client, behavior)))

    assert recorder.wait_for(1)[0].attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (CHAT if outcome is None else {})


def test_streams_of_completions_and_speech_are_metered(client: together.Together, recorder: Recorder) -> None:
    list(client.completions.create(model="mistralai/Mixtral-8x7B-v0.1", prompt="Hi", stream=True))
    list(client.audio.speech.create(model="cartesia/sonic", voice="laidback woman", input="Hello", stream=True))

    completion, speech = recorder.spans()
    assert completion.attributes["gen_ai.usage.input_tokens"] == 14
    assert completion.attributes["gen_ai.usage.output_tokens"] == 21
    assert speech.attributes["farebox.usage.input_characters"] == 5
    assert speech.attributes["gen_ai.request.stream"] is True


@pytest.mark.usefixtures("no_faults")
def test_async_streams_of_completions_and_speech_are_metered(fake: FakeTogether, recorder: Recorder) -> None:
    async def read(client: together.AsyncTogether) -> None:
        streams: list[Any] = [
            await client.completions.create(model="mistralai/Mixtral-8x7B-v0.1", prompt="Hi", stream=True),
            await client.audio.speech.create(model="cartesia/sonic", voice="man", input="Hello", stream=True),
        ]
        for stream in streams:
            assert [chunk async for chunk in stream]

    run_async(fake, read)

    completion, speech = recorder.spans()
    assert completion.attributes["gen_ai.usage.output_tokens"] == 21
    assert speech.attributes["farebox.usage.input_characters"] == 5


def test_chat_without_an_own_address_goes_to_togethers_other_host(recorder: Recorder) -> None:
    """The SDK sends chat to a host of its own unless the app names one; no connection is made here."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = {"id": "o1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [], "prompt": []}
        return httpx.Response(200, json={**body, "usage": {"prompt_tokens": 1, "completion_tokens": 2}})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    chat(together.Together(api_key="key", http_client=http))

    attributes = recorder.one().attributes
    assert attributes["server.address"] == "api-inference.together.ai"
    assert attributes["gen_ai.provider.name"] == "together_ai"
    assert recorder.usage() == {"input_tokens": 1, "output_tokens": 2}


def test_the_results_of_a_batch_are_a_span_for_each_answer_once(client: together.Together, recorder: Recorder) -> None:
    for _ in range(2):
        assert client.files.content("file-together").read().count(b"usage") == 2

    spans = recorder.spans()
    assert [span.attributes["farebox.batch"] for span in spans] == [True, True]
    assert [span.attributes["gen_ai.usage.output_tokens"] for span in spans] == [33, 33]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_video_is_booked_by_its_seconds_when_it_is_first_seen_done(
    fake: FakeTogether, recorder: Recorder, is_async: bool
) -> None:
    async def make(client: together.AsyncTogether) -> None:
        job = await client.videos.create(model="minimax/hailuo-02", prompt="A tram")
        for _ in range(3):
            await client.videos.retrieve(job.id)

    if is_async:
        run_async(fake, make)
    else:
        client = together.Together(base_url=f"{fake.url}{VERSION_PATH}", api_key="key")
        job = client.videos.create(model="minimax/hailuo-02", prompt="A tram")
        for _ in range(3):
            client.videos.retrieve(job.id)

    span = recorder.one()
    assert span.name == "video_generation"
    assert span.attributes["gen_ai.response.model"] == "minimax/hailuo-02"
    assert recorder.usage() == {"output_seconds": 6.0}


@pytest.mark.usefixtures("no_faults")
def test_the_results_of_a_batch_are_a_span_for_each_answer_async(fake: FakeTogether, recorder: Recorder) -> None:
    run_async(fake, lambda client: client.files.content("file-together-async"))

    assert [span.attributes["farebox.batch"] for span in recorder.spans()] == [True, True]


def test_retries_inside_the_sdk_are_one_span(client: together.Together, recorder: Recorder, fake: FakeTogether) -> None:
    chat(client, model=f"flaky:{MODEL}")

    assert [served.status for served in fake.served] == [500, 200]
    assert recorder.usage() == CHAT


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_failed_call_is_a_span_with_its_error(fake: FakeTogether, recorder: Recorder, is_async: bool) -> None:
    def call() -> None:
        if is_async:
            run_async(fake, lambda client: chat(client, model="fail-400"))
        else:
            chat(together.Together(base_url=f"{fake.url}{VERSION_PATH}", api_key="k"), model="fail-400")

    with pytest.raises(together.BadRequestError, match="Invalid value"):
        call()

    span = recorder.one()
    assert span.attributes["error.type"] == "together.BadRequestError"
    assert span.attributes["farebox.outcome"] == "error"
    assert recorder.usage() == {}


def test_calls_that_use_no_model_make_no_span(client: together.Together, recorder: Recorder) -> None:
    with pytest.raises(together.APIStatusError):
        client.files.list()

    assert recorder.spans() == []


def test_every_method_is_patched_and_given_back() -> None:
    transparency.assert_every_target_is_patched_and_restored("together")


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing_for_the_app(
    fake: FakeTogether, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    client = together.Together(base_url=f"{fake.url}{VERSION_PATH}", api_key="key")

    def call() -> Any:
        if hook == "read_chunk":
            return "".join(chunk.choices[0].delta.content or "" for chunk in chat(client, stream=True))
        return chat(client).choices[0].message.content

    transparency.assert_our_faults_are_not_felt("together", hook, recorder, monkeypatch, call)

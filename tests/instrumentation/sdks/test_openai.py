"""Calls of the real `openai` package against the fake provider; figures are those of `tests.fakes.usage`."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings

pytestmark = pytest.mark.usefixtures("no_faults")

#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "chat parse",
        "chat stream helper",
        "responses create",
        "responses parse",
        "responses stream",
        "responses stream helper",
        "responses raw response",
        "responses compact",
        "decision",
        "images generate stream",
        "images edit stream",
        "transcription stream",
        "test_a_background_response_is_counted_once_when_it_is_fetched",
        "test_a_background_response_can_be_fetched_as_a_stream",
        "test_looking_at_a_response_again_is_no_use",
        "test_a_fetch_that_fails_is_no_failed_call",
        "test_an_answer_that_the_parser_refuses_was_billed",
        "test_an_answer_cut_by_its_length_was_billed",
    }
)
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]

CHAT = {
    "input_tokens": 2006,
    "cache_read.input_tokens": 1920,
    "audio.input_tokens": 0,
    "output_tokens": 300,
    "reasoning.output_tokens": 100,
    "audio.output_tokens": 0,
}
QUESTION: Any = {"type": "predicate", "question": "Is it a greeting?"}
DECISION = {
    "input_tokens": 64,
    "cache_read.input_tokens": 32,
    "cache_write.input_tokens": 0,
    "output_tokens": 5,
    "reasoning.output_tokens": 0,
}
RESPONSES = {
    "input_tokens": 3000,
    "cache_read.input_tokens": 1000,
    "cache_write.input_tokens": 50,
    "cache_write_30m.input_tokens": 30,
    "cache_write_12h.input_tokens": 20,
    "output_tokens": 400,
    "reasoning.output_tokens": 150,
}
COMPACT = {
    "input_tokens": 5000,
    "cache_read.input_tokens": 0,
    "cache_write.input_tokens": 0,
    "output_tokens": 700,
    "reasoning.output_tokens": 0,
}
IMAGES = {
    "input_tokens": 350,
    "image.input_tokens": 300,
    "output_tokens": 1056,
    "image.output_tokens": 1056,
}


class Fare(BaseModel):
    fare: int


class Ride(BaseModel):
    """A shape that the fake's answer does not have."""

    tickets: list[str]


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test", max_retries=1) as made:
        yield made


def run_async(provider: FakeProvider, call: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="sk-test", max_retries=1) as client:
            return await call(client)

    return asyncio.run(run())


def read(stream: Any) -> list[Any]:
    return list(stream)


def chat_stream_helper(client: openai.OpenAI) -> Any:
    with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES) as stream:
        return stream.get_final_completion()


def responses_stream_helper(client: openai.OpenAI) -> Any:
    with client.responses.stream(model="gpt-5", input="Hi", text_format=Fare) as stream:
        return stream.get_final_response()


def streamed_and_parsed(client: openai.OpenAI, **arguments: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=MESSAGES, **arguments
    ) as response:
        parsed = response.parse()
        return list(parsed) if arguments.get("stream") else parsed


def streamed_lines(client: openai.OpenAI) -> Any:
    with client.chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=MESSAGES, stream=True
    ) as response:
        return list(response.iter_lines())


SYNC_CALLS: list[tuple[str, str, dict[str, Any], Callable[[openai.OpenAI], Any]]] = [
    ("chat create", "chat gpt-4o", CHAT, lambda c: c.chat.completions.create(model="gpt-4o", messages=MESSAGES)),
    (
        "chat parse",
        "chat gpt-4o",
        CHAT,
        lambda c: c.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Fare),
    ),
    (
        "chat stream",
        "chat gpt-4o",
        CHAT,
        lambda c: read(c.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)),
    ),
    ("chat stream helper", "chat gpt-4o", CHAT, chat_stream_helper),
    (
        "chat raw response",
        "chat gpt-4o",
        CHAT,
        lambda c: c.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES),
    ),
    (
        "chat raw stream",
        "chat gpt-4o",
        CHAT,
        lambda c: read(
            c.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES, stream=True).parse()
        ),
    ),
    ("chat streaming response", "chat gpt-4o", CHAT, streamed_and_parsed),
    ("chat streaming response of a stream", "chat gpt-4o", CHAT, lambda c: streamed_and_parsed(c, stream=True)),
    ("chat streaming response by lines", "chat gpt-4o", CHAT, streamed_lines),
    (
        "completion",
        "text_completion gpt-3.5-turbo-instruct",
        {"input_tokens": 12, "output_tokens": 16},
        lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hi"),
    ),
    (
        "completion stream",
        "text_completion gpt-3.5-turbo-instruct",
        {"input_tokens": 12, "output_tokens": 16},
        lambda c: read(c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hi", stream=True)),
    ),
    ("responses create", "chat gpt-5", RESPONSES, lambda c: c.responses.create(model="gpt-5", input="Hi")),
    (
        "responses parse",
        "chat gpt-5",
        RESPONSES,
        lambda c: c.responses.parse(model="gpt-5", input="Hi", text_format=Fare),
    ),
    (
        "responses stream",
        "chat gpt-5",
        RESPONSES,
        lambda c: read(c.responses.create(model="gpt-5", input="Hi", stream=True)),
    ),
    ("responses stream helper", "chat gpt-5", RESPONSES, responses_stream_helper),
    (
        "responses raw response",
        "chat gpt-5",
        RESPONSES,
        lambda c: c.responses.with_raw_response.create(model="gpt-5", input="Hi"),
    ),
    ("responses compact", "chat gpt-5", COMPACT, lambda c: c.responses.compact(model="gpt-5")),
    (
        "decision",
        "classify gpt-6-luna",
        DECISION,
        lambda c: c.decisions.create(model="gpt-6-luna", input="Hi", questions=[QUESTION]),
    ),
    (
        "embeddings",
        "embeddings text-embedding-3-small",
        {"input_tokens": 8},
        lambda c: c.embeddings.create(model="text-embedding-3-small", input="Hi"),
    ),
    (
        "images generate",
        "image_generation gpt-image-1",
        IMAGES,
        lambda c: c.images.generate(model="gpt-image-1", prompt="A tram"),
    ),
    (
        "images generate stream",
        "image_generation gpt-image-1",
        IMAGES,
        lambda c: read(c.images.generate(model="gpt-image-1", prompt="A tram", stream=True)),
    ),
    (
        "images without tokens",
        "image_generation dall-e-3",
        {"output_images": 2},
        lambda c: c.images.generate(model="dall-e-3", prompt="A tram", n=2),
    ),
    (
        "images edit",
        "image_generation gpt-image-1",
        IMAGES,
        lambda c: c.images.edit(model="gpt-image-1", prompt="A tram", image=b"picture"),
    ),
    (
        "images edit stream",
        "image_generation gpt-image-1",
        IMAGES,
        lambda c: read(c.images.edit(model="gpt-image-1", prompt="A tram", image=b"picture", stream=True)),
    ),
    (
        "transcription by tokens",
        "transcription gpt-4o-transcribe",
        {"input_tokens": 140, "audio.input_tokens": 100, "output_tokens": 25},
        lambda c: c.audio.transcriptions.create(model="gpt-4o-transcribe", file=b"sound"),
    ),
    (
        "transcription stream",
        "transcription gpt-4o-transcribe",
        {"input_tokens": 140, "audio.input_tokens": 100, "output_tokens": 25},
        lambda c: read(c.audio.transcriptions.create(model="gpt-4o-transcribe", file=b"sound", stream=True)),
    ),
    (
        "transcription by seconds",
        "transcription whisper-1",
        {"input_seconds": 9.0},
        lambda c: c.audio.transcriptions.create(model="whisper-1", file=b"sound"),
    ),
    (
        "translation",
        "transcription whisper-1",
        {"input_seconds": 9.0},
        lambda c: c.audio.translations.create(model="whisper-1", file=b"sound", response_format="verbose_json"),
    ),
    (
        "speech",
        "speech tts-1",
        {"input_characters": 5},
        lambda c: c.audio.speech.create(model="tts-1", voice="alloy", input="Hello"),
    ),
]


@pytest.mark.parametrize(("name", "usage", "call"), [row[1:] for row in SYNC_CALLS], ids=[row[0] for row in SYNC_CALLS])
def test_each_kind_of_call_is_one_span_with_its_usage(
    client: openai.OpenAI, recorder: Recorder, name: str, usage: dict[str, Any], call: Callable[[openai.OpenAI], Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        call(client)

    span = recorder.one()
    assert span.name == name
    assert span.scope == "farebox.sdks.openai"
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert "farebox.outcome" not in span.attributes
    assert recorder.usage() == usage


async def read_async(awaitable: Any) -> list[Any]:
    return [chunk async for chunk in await awaitable]


async def async_chat_stream_helper(client: openai.AsyncOpenAI) -> Any:
    async with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES) as stream:
        return await stream.get_final_completion()


async def async_responses_stream_helper(client: openai.AsyncOpenAI) -> Any:
    async with client.responses.stream(model="gpt-5", input="Hi", text_format=Fare) as stream:
        return await stream.get_final_response()


async def async_raw_stream(client: openai.AsyncOpenAI) -> Any:
    raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES, stream=True)
    return [chunk async for chunk in raw.parse()]


async def async_streaming_response(client: openai.AsyncOpenAI) -> Any:
    async with client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=MESSAGES) as response:
        return await response.parse()


ASYNC_CALLS: list[tuple[str, str, dict[str, Any], Callable[[openai.AsyncOpenAI], Awaitable[Any]]]] = [
    ("chat create", "chat gpt-4o", CHAT, lambda c: c.chat.completions.create(model="gpt-4o", messages=MESSAGES)),
    (
        "chat parse",
        "chat gpt-4o",
        CHAT,
        lambda c: c.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Fare),
    ),
    (
        "chat stream",
        "chat gpt-4o",
        CHAT,
        lambda c: read_async(c.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)),
    ),
    ("chat stream helper", "chat gpt-4o", CHAT, async_chat_stream_helper),
    (
        "chat raw response",
        "chat gpt-4o",
        CHAT,
        lambda c: c.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES),
    ),
    ("chat raw stream", "chat gpt-4o", CHAT, async_raw_stream),
    ("chat streaming response", "chat gpt-4o", CHAT, async_streaming_response),
    ("responses create", "chat gpt-5", RESPONSES, lambda c: c.responses.create(model="gpt-5", input="Hi")),
    (
        "responses stream",
        "chat gpt-5",
        RESPONSES,
        lambda c: read_async(c.responses.create(model="gpt-5", input="Hi", stream=True)),
    ),
    ("responses stream helper", "chat gpt-5", RESPONSES, async_responses_stream_helper),
    ("responses compact", "chat gpt-5", COMPACT, lambda c: c.responses.compact(model="gpt-5")),
    (
        "decision",
        "classify gpt-6-luna",
        DECISION,
        lambda c: c.decisions.create(model="gpt-6-luna", input="Hi", questions=[QUESTION]),
    ),
    (
        "embeddings",
        "embeddings text-embedding-3-small",
        {"input_tokens": 8},
        lambda c: c.embeddings.create(model="text-embedding-3-small", input="Hi"),
    ),
    (
        "completion",
        "text_completion gpt-3.5-turbo-instruct",
        {"input_tokens": 12, "output_tokens": 16},
        lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hi"),
    ),
    (
        "completion stream",
        "text_completion gpt-3.5-turbo-instruct",
        {"input_tokens": 12, "output_tokens": 16},
        lambda c: read_async(c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Hi", stream=True)),
    ),
    (
        "images generate",
        "image_generation gpt-image-1",
        IMAGES,
        lambda c: c.images.generate(model="gpt-image-1", prompt="A tram"),
    ),
    (
        "transcription stream",
        "transcription gpt-4o-transcribe",
        {"input_tokens": 140, "audio.input_tokens": 100, "output_tokens": 25},
        lambda c: read_async(c.audio.transcriptions.create(model="gpt-4o-transcribe", file=b"sound", stream=True)),
    ),
    (
        "images generate stream",
        "image_generation gpt-image-1",
        IMAGES,
        lambda c: read_async(c.images.generate(model="gpt-image-1", prompt="A tram", stream=True)),
    ),
    (
        "transcription",
        "transcription whisper-1",
        {"input_seconds": 9.0},
        lambda c: c.audio.transcriptions.create(model="whisper-1", file=b"sound"),
    ),
    (
        "speech",
        "speech tts-1",
        {"input_characters": 5},
        lambda c: c.audio.speech.create(model="tts-1", voice="alloy", input="Hello"),
    ),
]


@pytest.mark.parametrize(
    ("name", "usage", "call"), [row[1:] for row in ASYNC_CALLS], ids=[row[0] for row in ASYNC_CALLS]
)
def test_each_kind_of_async_call_is_one_span_with_its_usage(
    provider: FakeProvider,
    recorder: Recorder,
    name: str,
    usage: dict[str, Any],
    call: Callable[[openai.AsyncOpenAI], Awaitable[Any]],
) -> None:
    run_async(provider, call)

    assert recorder.one().name == name
    assert "farebox.outcome" not in recorder.one().attributes
    assert recorder.usage() == usage


def opener(client: Any) -> Callable[[str], Any]:
    """Open a chat stream on which the fake behaves as asked."""
    return lambda behavior: client.chat.completions.create(
        model=f"{behavior}:gpt-4o" if behavior else "gpt-4o", messages=MESSAGES, stream=True
    )


@pytest.mark.parametrize(("end", "outcome"), endings.MANAGED_SYNC.values(), ids=endings.MANAGED_SYNC)
def test_a_stream_is_one_span_however_it_ends(
    client: openai.OpenAI, recorder: Recorder, end: Callable[..., None], outcome: str | None
) -> None:
    end(opener(client))

    assert recorder.one().attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (CHAT if outcome is None else {})


@pytest.mark.parametrize(("end", "outcome"), endings.MANAGED_ASYNC.values(), ids=endings.MANAGED_ASYNC)
def test_an_async_stream_is_one_span_however_it_ends(
    provider: FakeProvider, recorder: Recorder, end: Callable[..., Awaitable[None]], outcome: str | None
) -> None:
    run_async(provider, lambda client: end(opener(client)))

    assert recorder.one().attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (CHAT if outcome is None else {})


def test_a_chat_span_says_model_id_tier_and_finish_reason(client: openai.OpenAI, recorder: Recorder) -> None:
    completion = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, service_tier="flex")

    span = recorder.one()
    assert span.attributes["gen_ai.operation.name"] == "chat"
    assert span.attributes["gen_ai.request.model"] == "gpt-4o"
    assert span.attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"
    assert span.attributes["gen_ai.response.id"] == completion.id
    assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert span.attributes["farebox.service_tier"] == "flex"
    assert span.attributes["farebox.sequence"] == 1
    assert span.kind == 3  # CLIENT
    assert span.start_ns < span.end_ns


def test_the_default_tier_is_called_standard(client: openai.OpenAI, recorder: Recorder) -> None:
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert recorder.one().attributes["farebox.service_tier"] == "standard"


def test_a_stream_says_that_it_is_one_and_when_its_first_chunk_came(client: openai.OpenAI, recorder: Recorder) -> None:
    list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))

    attributes = recorder.one().attributes
    assert attributes["gen_ai.request.stream"] is True
    assert 0 < attributes["gen_ai.response.time_to_first_chunk"] < 5
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]


def test_audio_image_and_cache_write_parts_are_kept_apart(client: openai.OpenAI, recorder: Recorder) -> None:
    client.chat.completions.create(model="gpt-4o-audio-preview", messages=MESSAGES)

    assert recorder.usage() == {
        "input_tokens": 1500,
        "cache_read.input_tokens": 0,
        "cache_write.input_tokens": 200,
        "audio.input_tokens": 400,
        "image.input_tokens": 100,
        "output_tokens": 250,
        "reasoning.output_tokens": 0,
        "audio.output_tokens": 150,
    }


def test_hidden_thoughts_in_the_total_are_output(client: openai.OpenAI, recorder: Recorder) -> None:
    client.chat.completions.create(model="gemini-2.5-pro", messages=MESSAGES)

    assert recorder.usage() == {"input_tokens": 35, "output_tokens": 74}


def test_a_stated_cost_is_kept_as_a_decimal(client: openai.OpenAI, recorder: Recorder) -> None:
    client.chat.completions.create(model="openai/gpt-4o", messages=MESSAGES)

    assert recorder.one().attributes["farebox.stated_cost"] == "0.00425"


def test_the_app_does_not_see_the_chunk_that_only_we_asked_for(client: openai.OpenAI, recorder: Recorder) -> None:
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))

    assert len(chunks) == 9
    assert all(chunk.choices for chunk in chunks)
    assert all("usage" not in chunk.to_dict() for chunk in chunks)


def test_the_app_sees_the_usage_chunk_that_it_asked_for(client: openai.OpenAI, recorder: Recorder) -> None:
    stream = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )

    chunks = list(stream)

    assert len(chunks) == 10
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 2306
    assert recorder.usage() == CHAT


def test_nothing_is_asked_for_where_the_app_declined(client: openai.OpenAI, recorder: Recorder) -> None:
    options: Any = {"include_usage": False}
    chunks = list(
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, stream_options=options)
    )

    assert len(chunks) == 9
    assert recorder.usage() == {}


def test_nothing_is_asked_for_when_the_setting_forbids_it(
    client: openai.OpenAI, recorder: Recorder, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    import farebox

    monkeypatch.setenv("FAREBOX_INJECT_STREAM_USAGE", "0")
    farebox.uninstrument()
    farebox.instrument()

    list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))

    assert "stream_options" not in provider.served[0].body
    assert recorder.usage() == {}


@pytest.mark.parametrize("behavior", ["refuse-stream-options", "refuse-silently"])
def test_a_host_that_refuses_the_question_is_not_asked_again(
    client: openai.OpenAI, recorder: Recorder, provider: FakeProvider, behavior: str
) -> None:
    for _ in range(2):
        chunks = list(client.chat.completions.create(model=f"{behavior}:gpt-4o", messages=MESSAGES, stream=True))
        assert len(chunks) == 9

    assert [served.status for served in provider.served] == [400, 200, 200]
    assert ["farebox.outcome" in span.attributes for span in recorder.spans()] == [False, False]


def test_a_bad_request_of_the_app_stays_its_own(client: openai.OpenAI, recorder: Recorder) -> None:
    with pytest.raises(openai.BadRequestError, match="Invalid value"):
        client.chat.completions.create(model="fail-400", messages=MESSAGES, stream=True)

    assert recorder.one().attributes["error.type"] == "openai.BadRequestError"
    list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    assert recorder.spans()[1].attributes["gen_ai.usage.input_tokens"] == 2006


def test_a_background_response_is_counted_once_when_it_is_fetched(client: openai.OpenAI, recorder: Recorder) -> None:
    queued = client.responses.create(model="gpt-5", input="Hi", background=True)
    for _ in range(3):
        client.responses.retrieve(queued.id)
    list(client.responses.retrieve(queued.id, stream=True))

    span = recorder.one()
    assert span.attributes["gen_ai.response.id"] == queued.id
    assert span.attributes["gen_ai.response.model"] == "gpt-5"
    assert recorder.usage() == RESPONSES


def test_a_background_response_can_be_fetched_as_a_stream(client: openai.OpenAI, recorder: Recorder) -> None:
    queued = client.responses.create(model="gpt-5", input="Hi", background=True)
    list(client.responses.retrieve(queued.id, stream=True))

    assert recorder.usage() == RESPONSES


def test_looking_at_a_response_again_is_no_use(
    client: openai.OpenAI, recorder: Recorder, provider: FakeProvider
) -> None:
    created = client.responses.create(model="gpt-5", input="Hi")
    provider.background[created.id] = created.to_dict()

    client.responses.retrieve(created.id)

    assert len(recorder.spans()) == 1


def test_a_fetch_that_fails_is_no_failed_call(client: openai.OpenAI, recorder: Recorder) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_unknown")

    assert recorder.spans() == []


def test_retries_inside_the_sdk_are_one_span(client: openai.OpenAI, recorder: Recorder, provider: FakeProvider) -> None:
    client.chat.completions.create(model="flaky:gpt-4o", messages=MESSAGES)

    assert [served.status for served in provider.served] == [500, 200]
    assert recorder.usage() == CHAT


def test_an_answer_that_the_parser_refuses_was_billed(client: openai.OpenAI, recorder: Recorder) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Ride)

    assert recorder.usage() == CHAT
    assert recorder.one().attributes["farebox.outcome"] == "error"


def test_an_answer_cut_by_its_length_was_billed(client: openai.OpenAI, recorder: Recorder) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Fare, max_completion_tokens=1)

    assert recorder.usage() == CHAT
    assert recorder.one().attributes["error.type"] == "openai.LengthFinishReasonError"


def test_azure_is_its_own_provider(provider: FakeProvider, recorder: Recorder) -> None:
    client = openai.AzureOpenAI(azure_endpoint=provider.url, api_key="key", api_version="2025-04-01-preview")

    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))

    first, second = recorder.spans()
    assert provider.served[0].path == "/openai/deployments/gpt-4o/chat/completions"
    assert first.attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert second.attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert second.attributes["gen_ai.usage.input_tokens"] == 2006


def test_calls_that_use_no_model_make_no_span(client: openai.OpenAI, recorder: Recorder) -> None:
    client.models.list()

    assert recorder.spans() == []


def test_an_answer_without_usage_says_nothing_of_tokens(client: openai.OpenAI, recorder: Recorder) -> None:
    client.chat.completions.create(model="no-usage:gpt-4o", messages=MESSAGES)

    assert recorder.usage() == {}
    assert recorder.one().attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"


def test_a_compressed_body_is_read_along(provider: FakeProvider, recorder: Recorder) -> None:
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", default_headers={"x-fake-gzip": "1"})

    with client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=MESSAGES) as response:
        assert response.parse().id

    assert recorder.usage() == CHAT

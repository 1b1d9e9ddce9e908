"""Calls of the real `mistralai` package against the fake; figures are those of `tests.fakes.mistral`."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from mistralai.client import Mistral, errors
from mistralai.client.utils import eventstreaming
from pydantic import BaseModel

from tests.fakes.mistral import FakeMistral
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings
from tests.instrumentation.sdks.transparency import (
    assert_every_target_is_patched_and_restored,
    assert_our_faults_are_not_felt,
)

#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "responses",
        "responses stream",
        "test_the_provider_is_who_runs_the_host",
        "test_every_method_is_patched_and_restored",
    }
)
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
MODEL = "mistral-large-2411"

CHAT = {
    "input_tokens": 120,
    "output_tokens": 40,
    "cache_read.input_tokens": 80,
    "num_cached_tokens": 80,
}
FIM = {"input_tokens": 18, "output_tokens": 7}
CONVERSATION = {"input_tokens": 7300, "output_tokens": 55, "web_searches": 2, "output_images": 1}
RESPONSES = {
    "input_tokens": 300,
    "cache_read.input_tokens": 100,
    "cache_write.input_tokens": 30,
    "output_tokens": 60,
    "reasoning.output_tokens": 20,
}
TRANSCRIPTION = {"input_seconds": 203, "input_tokens": 4, "output_tokens": 635}


class Fare(BaseModel):
    fare: int


@pytest.fixture
def provider() -> Iterator[FakeMistral]:
    with FakeMistral() as fake:
        yield fake


@pytest.fixture
def client(provider: FakeMistral) -> Iterator[Mistral]:
    with Mistral(api_key="k", server_url=provider.url) as made:
        yield made


def read(stream: Any) -> list[Any]:
    with stream:
        return list(stream)


Row = tuple[str, str, dict[str, Any], Callable[[Any], Any]]

CALLS: list[Row] = [
    ("chat", f"chat {MODEL}", CHAT, lambda c: c.chat.complete(model=MODEL, messages=MESSAGES)),
    (
        "chat parse",
        f"chat {MODEL}",
        CHAT,
        lambda c: c.chat.parse(response_format=Fare, model=MODEL, messages=MESSAGES),
    ),
    ("chat stream", f"chat {MODEL}", CHAT, lambda c: read(c.chat.stream(model=MODEL, messages=MESSAGES))),
    (
        "chat parse stream",
        f"chat {MODEL}",
        CHAT,
        lambda c: read(c.chat.parse_stream(response_format=Fare, model=MODEL, messages=MESSAGES)),
    ),
    ("fim", "text_completion codestral-2508", FIM, lambda c: c.fim.complete(model="codestral-2508", prompt="def")),
    (
        "fim stream",
        "text_completion codestral-2508",
        FIM,
        lambda c: read(c.fim.stream(model="codestral-2508", prompt="def")),
    ),
    ("agent", "chat", CHAT, lambda c: c.agents.complete(agent_id="ag_1", messages=MESSAGES)),
    ("agent stream", "chat", CHAT, lambda c: read(c.agents.stream(agent_id="ag_1", messages=MESSAGES))),
    ("start", f"chat {MODEL}", CONVERSATION, lambda c: c.beta.conversations.start(model=MODEL, inputs="Hi")),
    ("append", "chat", CONVERSATION, lambda c: c.beta.conversations.append(conversation_id="conv_1", inputs="Hi")),
    (
        "restart",
        "chat",
        CONVERSATION,
        lambda c: c.beta.conversations.restart(conversation_id="conv_1", from_entry_id="e", inputs="Hi"),
    ),
    (
        "start stream",
        f"chat {MODEL}",
        CONVERSATION,
        lambda c: read(c.beta.conversations.start_stream(model=MODEL, inputs="Hi")),
    ),
    (
        "append stream",
        "chat",
        CONVERSATION,
        lambda c: read(c.beta.conversations.append_stream(conversation_id="conv_1", inputs="Hi")),
    ),
    (
        "restart stream",
        "chat",
        CONVERSATION,
        lambda c: read(c.beta.conversations.restart_stream(conversation_id="conv_1", from_entry_id="e", inputs="Hi")),
    ),
    ("responses", f"chat {MODEL}", RESPONSES, lambda c: c.responses.create(model=MODEL, input="Hi")),
    (
        "responses stream",
        f"chat {MODEL}",
        RESPONSES,
        lambda c: read(c.responses.create(model=MODEL, input="Hi", stream=True)),
    ),
    (
        "embeddings",
        "embeddings mistral-embed",
        {"input_tokens": 15, "output_tokens": 0},
        lambda c: c.embeddings.create(model="mistral-embed", inputs=["Hi"]),
    ),
    (
        "ocr",
        "ocr mistral-ocr-latest",
        {"pages": 3},
        lambda c: c.ocr.process(
            model="mistral-ocr-latest", document={"type": "document_url", "document_url": "https://example.com/a.pdf"}
        ),
    ),
    (
        "transcription",
        "transcription voxtral-mini-2507",
        TRANSCRIPTION,
        lambda c: c.audio.transcriptions.complete(model="voxtral-mini-2507", file_url="https://example.com/a.mp3"),
    ),
    (
        "transcription stream",
        "transcription voxtral-mini-2507",
        TRANSCRIPTION,
        lambda c: read(c.audio.transcriptions.stream(model="voxtral-mini-2507", file_url="https://example.com/a.mp3")),
    ),
    (
        "speech",
        "speech voxtral-tts-2603",
        {"input_characters": 22},
        lambda c: c.audio.speech.complete(model="voxtral-tts-2603", input="What does a ride cost?"),
    ),
]
IDS = [row[0] for row in CALLS]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_call_is_one_span_with_its_usage(
    client: Mistral, recorder: Recorder, name: str, span_name: str, usage: dict[str, Any], call: Callable[[Any], Any]
) -> None:
    call(client)

    span = recorder.one()
    assert recorder.usage() == usage
    assert span.name == span_name
    assert span.scope == "farebox.sdks.mistralai"
    assert span.attributes["gen_ai.provider.name"] == "mistral_ai"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes.get("gen_ai.request.stream", False) == ("stream" in name)
    assert ("gen_ai.response.time_to_first_chunk" in span.attributes) == ("stream" in name)
    assert "farebox.outcome" not in span.attributes


class Twins:
    """A client whose methods are those that end in `_async`, so that the calls above can be made of both."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        twin = getattr(self._inner, f"{name}_async", None)
        return twin or Twins(getattr(self._inner, name))


async def read_async(answer: Any) -> Any:
    answer = await answer
    if hasattr(answer, "__anext__"):
        async with answer as stream:
            return [chunk async for chunk in stream]
    return answer


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_async_call_is_one_span_with_its_usage(
    provider: FakeMistral,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    monkeypatch.setitem(globals(), "read", lambda stream: stream)

    async def run() -> None:
        async with Mistral(api_key="k", server_url=provider.url) as client:
            await read_async(call(Twins(client)))

    asyncio.run(run())

    assert recorder.usage() == usage
    assert recorder.one().name == span_name
    assert recorder.one().attributes.get("gen_ai.request.stream", False) == ("stream" in name)


@pytest.mark.usefixtures("no_faults")
def test_what_the_answer_says_of_itself(client: Mistral, recorder: Recorder) -> None:
    answer = client.chat.complete(model=MODEL, messages=MESSAGES)

    attributes = recorder.one().attributes
    assert attributes["gen_ai.response.model"] == MODEL
    assert attributes["gen_ai.response.id"] == answer.id
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["farebox.service_tier"] == "priority"


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_conversation_has_the_model_of_its_messages_and_no_response_id(
    client: Mistral, recorder: Recorder, is_stream: bool
) -> None:
    """Many answers have the same conversation id; it must not make them duplicates of one another."""
    if is_stream:
        read(client.beta.conversations.start_stream(agent_id="ag_1", inputs="Hi"))
    else:
        client.beta.conversations.start(agent_id="ag_1", inputs="Hi")

    assert recorder.one().attributes["gen_ai.response.model"] == "mistral-medium-2508"
    assert "gen_ai.response.id" not in recorder.one().attributes


@pytest.mark.usefixtures("no_faults")
def test_audio_in_a_prompt_is_counted_in_seconds(client: Mistral, recorder: Recorder) -> None:
    client.chat.complete(model="voxtral-small-2507", messages=MESSAGES)

    assert recorder.usage() == {"input_tokens": 400, "output_tokens": 30, "input_seconds": 12}


@pytest.mark.usefixtures("no_faults")
def test_a_flat_count_of_cached_tokens_is_kept_as_said_and_is_no_cache_read(
    client: Mistral, recorder: Recorder
) -> None:
    client.chat.complete(model="mistral-small-2506", messages=MESSAGES)

    assert recorder.usage() == {"input_tokens": 50, "output_tokens": 5, "num_cached_tokens": 48}


@pytest.mark.usefixtures("no_faults")
def test_usage_that_is_not_said_is_not_zero(client: Mistral, recorder: Recorder) -> None:
    """The SDK's models fill missing counts with 0."""
    client.beta.conversations.start(model=MODEL, inputs="Hi")
    assert "cache_read.input_tokens" not in recorder.usage()


@pytest.mark.usefixtures("no_faults")
def test_each_turn_of_a_conversation_with_tools_is_a_span(client: Mistral, recorder: Recorder) -> None:
    """The SDK's own loop, `run_async`, calls these two methods; it needs a further package."""
    tool: Any = {"type": "function", "function": {"name": "fare", "parameters": {}}}
    begun = client.beta.conversations.start(model=MODEL, inputs="What does a ride cost?", tools=[tool])
    result: Any = {"type": "function.result", "tool_call_id": "call_1", "result": "2 cents"}
    client.beta.conversations.append(conversation_id=begun.conversation_id, inputs=[result])

    assert begun.outputs[0].type == "function.call"
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in recorder.spans()] == [7300, 7300]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_failed_call_is_a_span_with_its_error(client: Mistral, recorder: Recorder, status: int) -> None:
    with pytest.raises(errors.SDKError) as caught:
        client.chat.complete(model=f"fail-{status}", messages=MESSAGES)

    attributes = recorder.one().attributes
    assert caught.value.status_code == status
    assert attributes["farebox.outcome"] == "error"
    assert attributes["error.type"] == "mistralai.client.errors.sdkerror.SDKError"
    assert attributes["gen_ai.request.model"] == f"fail-{status}"


@pytest.mark.usefixtures("no_faults")
def test_an_answer_that_the_sdk_cannot_read_was_billed(client: Mistral, recorder: Recorder) -> None:
    with pytest.raises(errors.ResponseValidationError):
        client.chat.complete(model="unreadable", messages=MESSAGES)

    assert recorder.usage() == CHAT
    assert recorder.one().attributes["farebox.outcome"] == "error"


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.SYNC.values(), ids=endings.SYNC)
def test_a_stream_ends_its_span_once(
    client: Mistral, recorder: Recorder, end: Callable[[endings.Open], None], outcome: str | None
) -> None:
    end(lambda behavior: client.chat.stream(model=f"{behavior}:{MODEL}" if behavior else MODEL, messages=MESSAGES))
    gc.collect()

    attributes = recorder.one().attributes
    assert attributes.get("farebox.outcome") == outcome
    assert ("error.type" in attributes) == (outcome == "error")
    assert ("gen_ai.usage.output_tokens" in attributes) == (outcome is None)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.ASYNC.values(), ids=endings.ASYNC)
def test_an_async_stream_ends_its_span_once(
    provider: FakeMistral, recorder: Recorder, end: Callable[[endings.Open], Awaitable[None]], outcome: str | None
) -> None:
    async def run() -> None:
        async with Mistral(api_key="k", server_url=provider.url) as client:
            await end(
                lambda behavior: client.chat.stream_async(
                    model=f"{behavior}:{MODEL}" if behavior else MODEL, messages=MESSAGES
                )
            )

    asyncio.run(run())

    attributes = recorder.one().attributes
    assert attributes.get("farebox.outcome") == outcome
    assert ("error.type" in attributes) == (outcome == "error")


def test_a_stream_is_still_an_instance_of_its_class(client: Mistral, recorder: Recorder) -> None:
    with client.chat.stream(model=MODEL, messages=MESSAGES) as stream:
        assert isinstance(stream, eventstreaming.EventStream)
        assert type(next(stream)).__name__ == "CompletionEvent"
        assert stream.response.status_code == 200


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(
    ("host", "provider_name"),
    [
        ("api.mistral.ai", "mistral_ai"),
        ("mistral-large.eastus2.models.ai.azure.com", "azure.ai.inference"),
        ("europe-west4-aiplatform.googleapis.com", "gcp.vertex_ai"),
    ],
)
def test_the_provider_is_who_runs_the_host(recorder: Recorder, host: str, provider_name: str) -> None:
    import httpx2

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(500, json={"message": "away"})

    client = Mistral(
        api_key="k", server_url=f"https://{host}", client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )
    with pytest.raises(errors.SDKError):
        client.chat.complete(model=MODEL, messages=MESSAGES)

    assert recorder.one().attributes["gen_ai.provider.name"] == provider_name


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_stream", [False, True])
def test_the_sdks_own_spans_are_not_ours(
    provider: FakeMistral, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    native = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(native))
    client = Mistral(api_key="k", server_url=provider.url)
    client.sdk_configuration.__dict__["_hooks"].after_success_hooks[1].tracer_provider = tracer_provider

    if is_stream:
        read(client.chat.stream(model=MODEL, messages=MESSAGES))
    else:
        client.chat.complete(model=MODEL, messages=MESSAGES)

    assert len(native.get_finished_spans()) == 1
    assert recorder.usage() == CHAT


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing(
    client: Mistral, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def call() -> Any:
        if hook == "read_chunk":
            return [
                event.data.choices[0].delta.content
                for event in read(client.chat.stream(model=MODEL, messages=MESSAGES))
            ]
        return client.chat.complete(model=MODEL, messages=MESSAGES).choices

    assert_our_faults_are_not_felt("mistralai", hook, recorder, monkeypatch, call)


def test_every_method_is_patched_and_restored() -> None:
    assert_every_target_is_patched_and_restored("mistralai")


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_stream_of_speech_is_one_span_with_its_characters(
    provider: FakeMistral, recorder: Recorder, is_async: bool
) -> None:
    asked: Any = {"model": "voxtral-tts-2603", "input": "What does a ride cost?", "stream": True}

    async def run() -> list[Any]:
        async with Mistral(api_key="k", server_url=provider.url) as client:
            return [event async for event in await client.audio.speech.complete_async(**asked)]

    if is_async:
        events = asyncio.run(run())
    else:
        with Mistral(api_key="k", server_url=provider.url) as client:
            events = list(client.audio.speech.complete(**asked))

    assert len(events) == 2
    assert recorder.usage() == {"input_characters": 22, "input_tokens": 9, "output_tokens": 70}
    assert recorder.one().attributes["gen_ai.request.stream"] is True


@pytest.mark.usefixtures("no_faults")
def test_a_speech_that_failed_bills_no_characters(client: Mistral, recorder: Recorder) -> None:
    with pytest.raises(Exception, match="Invalid value"):
        client.audio.speech.complete(model="fail-400", input="What does a ride cost?")

    assert recorder.one().attributes["farebox.outcome"] == "error"
    assert recorder.usage() == {}


BATCH = [
    ("chat mistral-small-latest", {"gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 40}),
    ("chat mistral-small-latest", {"gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 40}),
    ("ocr mistral-ocr-2505", {"farebox.usage.pages": 3}),
]


def assert_batch(recorder: Recorder) -> None:
    spans = recorder.spans()
    assert [span.name for span in spans] == [name for name, _ in BATCH]
    for span, (_, usage) in zip(spans, BATCH, strict=True):
        assert usage.items() <= span.attributes.items()
        assert span.attributes["farebox.batch"] is True
        assert span.attributes["gen_ai.provider.name"] == "mistral_ai"


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_inline", [False, True], ids=["file", "job"])
def test_each_answer_of_a_batch_is_booked_once(client: Mistral, recorder: Recorder, is_inline: bool) -> None:
    for _ in range(2):
        if is_inline:
            job = client.batch.jobs.get(job_id="job-sync", inline=True)
            assert len(job.outputs or ()) == 4
        else:
            assert client.files.download(file_id="file-sync").read().count(b"\n") == 4
            client.batch.jobs.get(job_id="job-bare")

    assert_batch(recorder)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_inline", [False, True], ids=["file", "job"])
def test_each_answer_of_a_batch_is_booked_async(provider: FakeMistral, recorder: Recorder, is_inline: bool) -> None:
    async def run() -> None:
        async with Mistral(api_key="k", server_url=provider.url) as client:
            if is_inline:
                await client.batch.jobs.get_async(job_id="job-async", inline=True)
            else:
                response = await client.files.download_async(file_id="file-async")
                assert [line async for line in response.aiter_lines()]

    asyncio.run(run())

    assert_batch(recorder)

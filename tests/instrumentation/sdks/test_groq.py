"""Calls of the real `groq` package against its fake; figures are those of `tests.fakes.groq`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import groq
import pytest
from groq.types.chat import ChatCompletion

from tests.fakes.groq import FakeGroq
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings, transparency

#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "speech",
        "test_the_results_of_a_batch_are_a_span_for_each_answer_once",
        "test_the_results_of_a_batch_are_a_span_for_each_answer_async",
        "test_a_chat_span_says_model_id_and_tier",
    }
)
MODEL = "llama-3.3-70b-versatile"
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
CHAT = {
    "input_tokens": 180,
    "cache_read.input_tokens": 128,
    "output_tokens": 60,
    "reasoning.output_tokens": 25,
}


@pytest.fixture
def fake() -> Iterator[FakeGroq]:
    with FakeGroq() as made:
        yield made


@pytest.fixture
def client(no_faults: None, fake: FakeGroq) -> Iterator[groq.Groq]:
    with groq.Groq(base_url=fake.url, api_key="gsk-test", max_retries=1) as made:
        yield made


def run_async(fake: FakeGroq, call: Callable[[groq.AsyncGroq], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with groq.AsyncGroq(base_url=fake.url, api_key="gsk-test", max_retries=1) as client:
            return await call(client)

    return asyncio.run(run())


def chat(client: Any, **arguments: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **arguments})


def streamed_body(client: groq.Groq, **arguments: Any) -> Any:
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
        "embeddings",
        "embeddings nomic-embed-text-v1_5",
        {"input_tokens": 9},
        lambda c: c.embeddings.create(model="nomic-embed-text-v1_5", input="Hi"),
    ),
    (
        "transcription",
        "transcription whisper-large-v3",
        {"input_seconds": 31.5},
        lambda c: c.audio.transcriptions.create(
            model="whisper-large-v3", file=("a.wav", b"sound"), response_format="verbose_json"
        ),
    ),
    (
        "transcription that says no length",
        "transcription whisper-large-v3",
        {},
        lambda c: c.audio.transcriptions.create(model="whisper-large-v3", file=("a.wav", b"sound")),
    ),
    (
        "translation",
        "transcription whisper-large-v3",
        {"input_seconds": 31.5},
        lambda c: c.audio.translations.create(
            model="whisper-large-v3", file=("a.wav", b"sound"), response_format="verbose_json"
        ),
    ),
    (
        "speech",
        "speech playai-tts",
        {"input_characters": 5},
        lambda c: c.audio.speech.create(model="playai-tts", voice="Fritz-PlayAI", input="Hello"),
    ),
]
NAMES = [row[0] for row in CALLS]


@pytest.mark.parametrize(("name", "usage", "call"), [row[1:] for row in CALLS], ids=NAMES)
def test_each_kind_of_call_is_one_span_with_its_usage(
    client: groq.Groq, recorder: Recorder, name: str, usage: dict[str, Any], call: Callable[[Any], Any]
) -> None:
    call(client)

    span = recorder.one()
    assert span.name == name
    assert span.scope == "farebox.sdks.groq"
    assert span.attributes["gen_ai.provider.name"] == "groq"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert "farebox.outcome" not in span.attributes
    assert recorder.usage() == usage


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "usage", "call"), [row[1:] for row in CALLS], ids=NAMES)
def test_each_kind_of_async_call_is_one_span_with_its_usage(
    fake: FakeGroq, recorder: Recorder, name: str, usage: dict[str, Any], call: Callable[[Any], Any]
) -> None:
    run_async(fake, call)

    assert recorder.one().name == name
    assert recorder.usage() == usage


@pytest.mark.parametrize(
    "read", [lambda c: list(chat(c, stream=True)), lambda c: streamed_body(c, stream=True)], ids=["chunks", "lines"]
)
def test_a_stream_says_its_usage_unasked(
    client: groq.Groq, recorder: Recorder, fake: FakeGroq, read: Callable[[groq.Groq], list[Any]]
) -> None:
    read(client)

    attributes = recorder.one().attributes
    assert "stream_options" not in fake.served[0].body
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert recorder.usage() == CHAT


@pytest.mark.parametrize(("end", "outcome"), endings.MANAGED_SYNC.values(), ids=endings.MANAGED_SYNC)
def test_a_stream_is_one_span_however_it_ends(
    client: groq.Groq, recorder: Recorder, end: Callable[[endings.Open], None], outcome: str | None
) -> None:
    end(lambda behavior: chat(client, model=f"{behavior}:{MODEL}" if behavior else MODEL, stream=True))

    assert recorder.wait_for(1)[0].attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (CHAT if outcome is None else {})


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.MANAGED_ASYNC.values(), ids=endings.MANAGED_ASYNC)
def test_an_async_stream_is_one_span_however_it_ends(
    fake: FakeGroq, recorder: Recorder, end: Callable[[endings.Open], Awaitable[None]], outcome: str | None
) -> None:
    def opened(client: groq.AsyncGroq, behavior: str) -> Any:
        return chat(client, model=f"{behavior}:{MODEL}" if behavior else MODEL, stream=True)

    run_async(fake, lambda client: end(lambda behavior: opened(client, behavior)))

    assert recorder.wait_for(1)[0].attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (CHAT if outcome is None else {})


def test_a_chat_span_says_model_id_and_tier(client: groq.Groq, recorder: Recorder) -> None:
    completion = chat(client, service_tier="auto")
    chat(client, service_tier="flex")

    ordinary, flex = recorder.spans()
    assert isinstance(completion, ChatCompletion)
    assert ordinary.attributes["gen_ai.response.id"] == completion.id
    assert ordinary.attributes["gen_ai.response.model"] == MODEL
    assert ordinary.attributes["farebox.service_tier"] == "standard"
    assert flex.attributes["farebox.service_tier"] == "flex"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_compound_system_is_a_span_for_each_model_that_it_used(
    client: groq.Groq, recorder: Recorder, is_stream: bool
) -> None:
    answer = chat(client, model="groq/compound", stream=is_stream)
    if is_stream:
        list(answer)

    spans = {span.attributes["gen_ai.response.model"]: span for span in recorder.spans()}
    main, child = spans["llama-3.3-70b-versatile"], spans["openai/gpt-oss-120b"]
    assert len(spans) == 2
    assert main.attributes["gen_ai.request.model"] == "groq/compound"
    assert main.attributes["gen_ai.usage.input_tokens"] == 400
    assert main.attributes["gen_ai.usage.output_tokens"] == 100
    assert main.attributes["farebox.usage.web_searches"] == 2
    assert child.attributes["gen_ai.usage.input_tokens"] == 600
    assert child.attributes["gen_ai.usage.output_tokens"] == 200
    assert child.parent_span_id == main.span_id
    assert "farebox.usage.web_searches" not in child.attributes


def test_parts_that_do_not_add_up_leave_the_whole(client: groq.Groq, recorder: Recorder) -> None:
    chat(client, model="groq/compound-unequal")

    span = recorder.one()
    assert span.attributes["gen_ai.response.model"] == "groq/compound-unequal"
    assert span.attributes["gen_ai.usage.input_tokens"] == 1000
    assert span.attributes["gen_ai.usage.output_tokens"] == 300


def test_the_results_of_a_batch_are_a_span_for_each_answer_once(client: groq.Groq, recorder: Recorder) -> None:
    for _ in range(2):
        assert client.files.content("file-groq").read().count(b"usage") == 2

    spans = recorder.spans()
    assert [span.attributes["gen_ai.response.id"] for span in spans] == ["chatcmpl-file-groq-0", "chatcmpl-file-groq-1"]
    assert all(span.attributes["farebox.batch"] is True for span in spans)
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in spans] == [180, 180]


@pytest.mark.usefixtures("no_faults")
def test_the_results_of_a_batch_are_a_span_for_each_answer_async(fake: FakeGroq, recorder: Recorder) -> None:
    run_async(fake, lambda client: client.files.content("file-groq-async"))

    assert [span.attributes["farebox.batch"] for span in recorder.spans()] == [True, True]


def test_retries_inside_the_sdk_are_one_span(client: groq.Groq, recorder: Recorder, fake: FakeGroq) -> None:
    chat(client, model=f"flaky:{MODEL}")

    assert [served.status for served in fake.served] == [500, 200]
    assert recorder.usage() == CHAT


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_failed_call_is_a_span_with_its_error(fake: FakeGroq, recorder: Recorder, is_async: bool) -> None:
    def call() -> None:
        if is_async:
            run_async(fake, lambda client: chat(client, model="fail-400"))
        else:
            chat(groq.Groq(base_url=fake.url, api_key="k"), model="fail-400")

    with pytest.raises(groq.BadRequestError, match="Invalid value"):
        call()

    span = recorder.one()
    assert span.attributes["error.type"] == "groq.BadRequestError"
    assert span.attributes["farebox.outcome"] == "error"
    assert recorder.usage() == {}


def test_calls_that_use_no_model_make_no_span(client: groq.Groq, recorder: Recorder) -> None:
    with pytest.raises(groq.APIStatusError):
        client.models.list()

    assert recorder.spans() == []


def test_every_method_is_patched_and_given_back() -> None:
    transparency.assert_every_target_is_patched_and_restored("groq")


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing_for_the_app(
    fake: FakeGroq, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    client = groq.Groq(base_url=fake.url, api_key="key")

    def call() -> Any:
        if hook == "read_chunk":
            return "".join(chunk.choices[0].delta.content or "" for chunk in chat(client, stream=True))
        return chat(client).choices[0].message.content

    transparency.assert_our_faults_are_not_felt("groq", hook, recorder, monkeypatch, call)

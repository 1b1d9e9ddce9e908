"""Calls of the real `huggingface_hub` package against the fake; figures are those of `tests.fakes.huggingface`."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

import farebox
from tests.fakes.huggingface import FakeInference
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings
from tests.instrumentation.sdks.transparency import (
    assert_every_target_is_patched_and_restored,
    assert_our_faults_are_not_felt,
)

#: Old versions use httpx, for which the test has no answer.
NEWER = frozenset(
    {
        "test_the_provider_is_the_inference_provider",
    }
)
MODEL = "meta-llama/Llama-3.3-70B-Instruct"
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
CHAT = {"input_tokens": 90, "output_tokens": 33, "cache_read.input_tokens": 64}
GENERATION = {"input_tokens": 4, "output_tokens": 12}


@pytest.fixture
def provider() -> Iterator[FakeInference]:
    with FakeInference() as fake:
        yield fake


@pytest.fixture
def client(provider: FakeInference) -> Iterator[InferenceClient]:
    with InferenceClient(base_url=f"{provider.url}/v1", api_key="k") as made:
        yield made


def task(client: Any, name: str) -> str:
    """The address of a task's server, as an endpoint of one's own has it."""
    return f"{str(client.model).removesuffix('/v1')}/task/{name}"


def generate(client: Any, **arguments: Any) -> Any:
    return client.text_generation("Hi", model=task(client, "text"), **arguments)


CALLS: list[tuple[str, str, dict[str, Any], Callable[[Any], Any]]] = [
    ("chat", f"chat {MODEL}", CHAT, lambda c: c.chat_completion(MESSAGES, model=MODEL)),
    ("chat stream", f"chat {MODEL}", CHAT, lambda c: c.chat_completion(MESSAGES, model=MODEL, stream=True)),
    (
        "chat as openai",
        f"chat {MODEL}",
        CHAT,
        lambda c: c.chat.completions.create(messages=MESSAGES, model=MODEL),
    ),
    (
        "chat as openai stream",
        f"chat {MODEL}",
        CHAT,
        lambda c: c.chat.completions.create(messages=MESSAGES, model=MODEL, stream=True),
    ),
    ("text", "text_completion", {}, generate),
    (
        "text with details",
        "text_completion",
        GENERATION,
        lambda c: generate(c, details=True, decoder_input_details=True),
    ),
    ("text stream", "text_completion", GENERATION, lambda c: generate(c, stream=True)),
    (
        "speech",
        "speech",
        {"input_characters": 22},
        lambda c: c.text_to_speech("What does a ride cost?", model=task(c, "audio")),
    ),
    (
        "similarity",
        "embeddings",
        {},
        lambda c: c.sentence_similarity("Hi", other_sentences=["Ho"], model=task(c, "vectors")),
    ),
]
IDS = [row[0] for row in CALLS]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_call_is_one_span_with_its_usage(
    client: InferenceClient,
    recorder: Recorder,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    answer = call(client)
    if "stream" in name:
        assert len(list(answer)) == (9 if "chat" in name else 8)

    span = recorder.one()
    assert recorder.usage() == usage
    assert span.name == span_name
    assert span.scope == "farebox.sdks.huggingface_hub"
    assert span.attributes["gen_ai.provider.name"] == "huggingface"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes.get("gen_ai.request.stream", False) == ("stream" in name)
    assert ("gen_ai.response.time_to_first_chunk" in span.attributes) == ("stream" in name)
    assert "farebox.outcome" not in span.attributes
    if "chat" in name:
        assert span.attributes["gen_ai.response.model"] == MODEL
        assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_async_call_is_one_span_with_its_usage(
    provider: FakeInference,
    recorder: Recorder,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    async def run() -> None:
        async with AsyncInferenceClient(base_url=f"{provider.url}/v1", api_key="k") as client:
            answer = await call(client)
            if "stream" in name:
                assert len([chunk async for chunk in answer]) == (9 if "chat" in name else 8)

    asyncio.run(run())

    assert recorder.usage() == usage
    assert recorder.one().name == span_name


@pytest.mark.usefixtures("no_faults")
def test_the_chunks_are_those_of_the_unpatched_sdk(
    provider: FakeInference, client: InferenceClient, recorder: Recorder
) -> None:
    metered = list(client.chat_completion(MESSAGES, model=MODEL, stream=True))
    with farebox.suppress():
        plain = list(client.chat_completion(MESSAGES, model=MODEL, stream=True))

    assert [chunk.choices for chunk in metered] == [chunk.choices for chunk in plain]
    assert [chunk.usage for chunk in metered] == [None] * 9
    assert [served.body.get("stream_options") for served in provider.served] == [{"include_usage": True}, None]


@pytest.mark.usefixtures("no_faults")
def test_who_asks_for_usage_sees_it(client: InferenceClient, recorder: Recorder) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat_completion(MESSAGES, model=MODEL, stream=True, stream_options=options))

    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 123
    assert recorder.usage() == CHAT


def test_nothing_is_asked_for_when_that_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, provider: FakeInference, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("FAREBOX_INJECT_STREAM_USAGE", "0")
    recorder: Recorder = request.getfixturevalue("recorder")
    client: InferenceClient = request.getfixturevalue("client")

    list(client.chat_completion(MESSAGES, model=MODEL, stream=True))

    assert "stream_options" not in provider.served[0].body
    assert recorder.usage() == {}


@pytest.mark.usefixtures("no_faults")
def test_a_server_that_refuses_to_be_asked_is_not_asked_again(
    provider: FakeInference, client: InferenceClient, recorder: Recorder
) -> None:
    for _ in range(2):
        chunks = list(client.chat_completion(MESSAGES, model=f"refuse-stream-options:{MODEL}", stream=True))
        assert len(chunks) == 9

    assert [served.status for served in provider.served] == [400, 200, 200]
    assert [span.attributes.get("farebox.outcome") for span in recorder.spans()] == [None, None]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failed_call_is_a_span_with_its_error(client: Any, recorder: Recorder, status: int, is_stream: bool) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        list(client.chat_completion(MESSAGES, model=f"fail-{status}", stream=is_stream))

    attributes = recorder.one().attributes
    kind = "BadRequestError" if status == 400 else "HfHubHTTPError"
    assert caught.value.response.status_code == status
    assert attributes["farebox.outcome"] == "error"
    assert attributes["error.type"] == f"huggingface_hub.errors.{kind}"


ROUTES = [
    ("groq", "hf_token", "https://router.huggingface.co/groq/openai/v1/chat/completions", "groq"),
    ("together", "hf_token", "https://router.huggingface.co/together/v1/chat/completions", "together_ai"),
    (
        "fireworks-ai",
        "hf_token",
        "https://router.huggingface.co/fireworks-ai/inference/v1/chat/completions",
        "fireworks_ai",
    ),
    ("auto", "hf_token", "https://router.huggingface.co/v1/chat/completions", "huggingface"),
    ("openai", "sk-own", "https://api.openai.com/v1/chat/completions", "openai"),
]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "key", "url", "provider_name"), ROUTES, ids=[row[0] for row in ROUTES])
def test_the_provider_is_the_inference_provider(
    recorder: Recorder, name: Any, key: str, url: str, provider_name: str
) -> None:
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if "/api/models/" in request.url.path:
            mapping = {name: {"providerId": "llama", "status": "live", "task": "conversational"}}
            return httpx2.Response(200, json={"id": f"org/{name}", "inferenceProviderMapping": mapping})
        seen.append(str(request.url))
        return httpx2.Response(500, json={"error": "away"})

    huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(answer)))
    try:
        with pytest.raises(HfHubHTTPError):
            InferenceClient(provider=name, api_key=key).chat_completion(MESSAGES, model=f"org/{name}")
    finally:
        huggingface_hub.set_client_factory(httpx2.Client)

    assert seen == [url]
    assert recorder.one().attributes["gen_ai.provider.name"] == provider_name


#: The SDK's own generator stands between the app and what is metered: that it was closed looks as if it were dropped.
SEEN = {"closed_early": "dropped"}
SYNC_ENDS = {name: (end, SEEN.get(str(outcome), outcome)) for name, (end, outcome) in endings.SYNC.items()}
ASYNC_ENDS = {name: (end, SEEN.get(str(outcome), outcome)) for name, (end, outcome) in endings.ASYNC.items()}


def opener(client: Any) -> endings.Open:
    return lambda behavior: client.chat_completion(
        MESSAGES, model=f"{behavior}:{MODEL}" if behavior else MODEL, stream=True
    )


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), SYNC_ENDS.values(), ids=SYNC_ENDS)
def test_a_stream_ends_its_span_once(
    client: InferenceClient, recorder: Recorder, end: Callable[[endings.Open], None], outcome: str | None
) -> None:
    end(opener(client))
    gc.collect()

    assert recorder.one().attributes.get("farebox.outcome") == outcome
    assert ("gen_ai.usage.output_tokens" in recorder.one().attributes) == (outcome is None)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), ASYNC_ENDS.values(), ids=ASYNC_ENDS)
def test_an_async_stream_ends_its_span_once(
    provider: FakeInference,
    recorder: Recorder,
    end: Callable[[endings.Open], Awaitable[None]],
    outcome: str | None,
) -> None:
    async def run() -> None:
        async with AsyncInferenceClient(base_url=f"{provider.url}/v1", api_key="k") as client:
            await end(opener(client))

    asyncio.run(run())
    gc.collect()

    assert recorder.one().attributes.get("farebox.outcome") == outcome


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing(
    client: InferenceClient, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def call() -> Any:
        if hook == "read_chunk":
            stream = client.chat_completion(MESSAGES, model=MODEL, stream=True)
            return [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
        return client.chat_completion(MESSAGES, model=MODEL).choices

    assert_our_faults_are_not_felt("huggingface_hub", hook, recorder, monkeypatch, call)


def test_every_method_is_patched_and_restored() -> None:
    assert_every_target_is_patched_and_restored("huggingface_hub")

"""Calls of the real `azure-ai-inference` package against the fake that speaks OpenAI's shape, as Azure's models do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, cast

import pytest
from azure.ai import inference
from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, aio
from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient
from azure.ai.inference.models import StreamingChatCompletions
from azure.ai.inference.tracing import AIInferenceInstrumentor
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import AsyncioRequestsTransport
from azure.core.settings import settings
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan

import farebox
from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings
from tests.instrumentation.sdks.transparency import (
    assert_every_target_is_patched_and_restored,
    assert_our_faults_are_not_felt,
)

KEY = AzureKeyCredential("k")
#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "test_a_stream_is_still_an_instance_of_its_class",
    }
)
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
MODEL = "Llama-3.3-70B-Instruct"
CHAT = {
    "input_tokens": 2006,
    "cache_read.input_tokens": 1920,
    "audio.input_tokens": 0,
    "output_tokens": 300,
    "reasoning.output_tokens": 100,
    "audio.output_tokens": 0,
}


class Clients:
    """The three clients, sync or async, on one address."""

    def __init__(self, url: str, module: Any = None, **settings: Any) -> None:
        kinds = module or inference
        common: Any = {"endpoint": url, "credential": KEY, "retry_total": 0, **settings}
        self.chat: Any = kinds.ChatCompletionsClient(**common)
        self.embeddings: Any = kinds.EmbeddingsClient(**common)
        self.images: Any = kinds.ImageEmbeddingsClient(**common)


@pytest.fixture
def clients(provider: FakeProvider) -> Iterator[Clients]:
    made = Clients(provider.url)
    yield made
    for client in vars(made).values():
        client.close()


def asynchronous(provider: FakeProvider) -> Clients:
    return Clients(provider.url, aio, transport=AsyncioRequestsTransport())


IMAGE: Any = [{"image": "data:image/png;base64,AAAA"}]
BODY = {"model": MODEL, "messages": MESSAGES}

CALLS: list[tuple[str, str, dict[str, Any], Callable[[Clients], Any]]] = [
    ("chat", f"chat {MODEL}", CHAT, lambda c: c.chat.complete(messages=MESSAGES, model=MODEL)),
    ("chat body", f"chat {MODEL}", CHAT, lambda c: c.chat.complete(BODY)),
    ("chat bytes", f"chat {MODEL}", CHAT, lambda c: c.chat.complete(json.dumps(BODY).encode())),
    ("chat file", "chat", CHAT, lambda c: c.chat.complete(io.BytesIO(json.dumps(BODY).encode()))),
    ("chat stream", f"chat {MODEL}", CHAT, lambda c: c.chat.complete(messages=MESSAGES, model=MODEL, stream=True)),
    (
        "embeddings",
        "embeddings embed-v-4-0",
        {"input_tokens": 8},
        lambda c: c.embeddings.embed(input=["Hi"], model="embed-v-4-0"),
    ),
    (
        "image embeddings",
        "embeddings embed-v-4-0",
        {"input_tokens": 8},
        lambda c: c.images.embed(input=IMAGE, model="embed-v-4-0"),
    ),
]
IDS = [row[0] for row in CALLS]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_call_is_one_span_with_its_usage(
    clients: Clients,
    recorder: Recorder,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    answer = call(clients)
    if "stream" in name:
        assert len(list(answer)) == 9

    span = recorder.one()
    assert recorder.usage() == usage
    assert span.name == span_name
    assert span.scope == "farebox.sdks.azure_ai_inference"
    assert span.attributes["gen_ai.provider.name"] == "azure.ai.inference"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes["gen_ai.response.model"] in (MODEL, "embed-v-4-0")
    assert span.attributes.get("gen_ai.request.stream", False) == ("stream" in name)
    assert ("gen_ai.response.time_to_first_chunk" in span.attributes) == ("stream" in name)
    assert "farebox.outcome" not in span.attributes
    if "chat" in name:
        assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_async_call_is_one_span_with_its_usage(
    provider: FakeProvider,
    recorder: Recorder,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    async def run() -> None:
        answer = await call(asynchronous(provider))
        if "stream" in name:
            assert len([chunk async for chunk in answer]) == 9

    asyncio.run(run())

    assert recorder.usage() == usage
    assert recorder.one().name == span_name


@pytest.mark.usefixtures("no_faults")
def test_the_chunks_are_those_of_the_unpatched_sdk(
    provider: FakeProvider, clients: Clients, recorder: Recorder
) -> None:
    metered = list(clients.chat.complete(messages=MESSAGES, model=MODEL, stream=True))
    with farebox.suppress():
        plain = list(clients.chat.complete(messages=MESSAGES, model=MODEL, stream=True))

    assert [chunk.choices for chunk in metered] == [chunk.choices for chunk in plain]
    assert [chunk.usage for chunk in metered] == [None] * 9
    assert [served.body.get("stream_options") for served in provider.served] == [{"include_usage": True}, None]


@pytest.mark.usefixtures("no_faults")
def test_who_asks_for_usage_sees_it(clients: Clients, recorder: Recorder) -> None:
    extras = {"stream_options": {"include_usage": True}}
    chunks = list(clients.chat.complete(messages=MESSAGES, model=MODEL, stream=True, model_extras=extras))

    assert chunks[-1].usage.total_tokens == 2306
    assert recorder.usage() == CHAT


@pytest.mark.usefixtures("no_faults")
def test_a_host_that_refuses_to_be_asked_is_not_asked_again(
    provider: FakeProvider, clients: Clients, recorder: Recorder
) -> None:
    for _ in range(2):
        stream = clients.chat.complete(messages=MESSAGES, model=f"refuse-stream-options:{MODEL}", stream=True)
        assert len(list(stream)) == 9

    assert [served.status for served in provider.served] == [400, 200, 200]
    assert [span.attributes.get("farebox.outcome") for span in recorder.spans()] == [None, None]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failed_call_is_a_span_with_its_error(
    clients: Clients, recorder: Recorder, status: int, is_stream: bool
) -> None:
    with pytest.raises(HttpResponseError) as caught:
        clients.chat.complete(messages=MESSAGES, model=f"fail-{status}", stream=is_stream)

    attributes = recorder.one().attributes
    kind = "ClientAuthenticationError" if status == 401 else "HttpResponseError"
    assert caught.value.status_code == status
    assert attributes["farebox.outcome"] == "error"
    assert attributes["error.type"] == f"azure.core.exceptions.{kind}"


ENDPOINTS = [
    ("https://acme.services.ai.azure.com/models", "azure.ai.inference", "chat"),
    ("https://llama-acme.eastus2.models.ai.azure.com", "azure.ai.inference", "chat"),
    ("https://acme.openai.azure.com/openai/deployments/gpt-4o-eu", "azure.ai.openai", "chat gpt-4o-eu"),
    ("https://models.github.ai/inference", "github", "chat"),
]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("endpoint", "provider_name", "span_name"), ENDPOINTS, ids=[row[1] for row in ENDPOINTS])
def test_the_provider_is_who_runs_the_endpoint(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, endpoint: str, provider_name: str, span_name: str
) -> None:
    from azure.core.pipeline.transport import RequestsTransport

    def away(self: Any, request: Any, **settings: Any) -> Any:
        raise ConnectionError("away")

    monkeypatch.setattr(RequestsTransport, "send", away)
    with pytest.raises(ConnectionError):
        ChatCompletionsClient(endpoint=endpoint, credential=KEY, retry_total=0).complete(messages=MESSAGES)

    assert recorder.one().attributes["gen_ai.provider.name"] == provider_name
    assert recorder.one().name == span_name


@pytest.mark.usefixtures("no_faults")
def test_the_model_of_the_client_is_the_model_of_its_calls(provider: FakeProvider, recorder: Recorder) -> None:
    with EmbeddingsClient(endpoint=provider.url, credential=KEY, model="embed-v-4-0") as client:
        client.embed(input=["Hi"])

    assert recorder.one().name == "embeddings embed-v-4-0"


def opener(clients: Clients) -> endings.Open:
    return lambda behavior: clients.chat.complete(
        messages=MESSAGES, model=f"{behavior}:{MODEL}" if behavior else MODEL, stream=True
    )


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.SYNC.values(), ids=endings.SYNC)
def test_a_stream_ends_its_span_once(
    clients: Clients, recorder: Recorder, end: Callable[[endings.Open], None], outcome: str | None
) -> None:
    end(opener(clients))
    gc.collect()

    attributes = recorder.one().attributes
    assert attributes.get("farebox.outcome") == outcome
    assert ("error.type" in attributes) == (outcome == "error")
    assert ("gen_ai.usage.output_tokens" in attributes) == (outcome is None)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("end", "outcome"), endings.ASYNC.values(), ids=endings.ASYNC)
def test_an_async_stream_ends_its_span_once(
    provider: FakeProvider, recorder: Recorder, end: Callable[[endings.Open], Awaitable[None]], outcome: str | None
) -> None:
    async def run() -> None:
        try:
            await end(opener(asynchronous(provider)))
        finally:
            # The transport waits in threads, which only a server that goes away sets free.
            provider.stopping.set()

    asyncio.run(run())

    assert recorder.one().attributes.get("farebox.outcome") == outcome


def test_a_stream_is_still_an_instance_of_its_class(clients: Clients, recorder: Recorder) -> None:
    with clients.chat.complete(messages=MESSAGES, model=MODEL, stream=True) as stream:
        assert isinstance(stream, StreamingChatCompletions)
        assert type(next(stream)).__name__ == "StreamingChatCompletionsUpdate"


class OwnSpan:
    """What the package's tracing needs of a span; `finished` keeps the names of those that have ended."""

    finished: ClassVar[list[str]] = []

    def __init__(self, name: str, kind: Any) -> None:
        self.name = name
        self.span_instance = NonRecordingSpan(INVALID_SPAN_CONTEXT)

    @staticmethod
    def change_context(span: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def add_attribute(self, name: str, value: Any) -> None:
        pass

    def finish(self) -> None:
        self.finished.append(self.name)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_stream", [False, True])
def test_the_packages_own_tracing_is_not_doubled(
    clients: Clients, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    monkeypatch.setattr(settings.tracing_implementation, "_user_value", OwnSpan)
    monkeypatch.setattr(OwnSpan, "finished", [])
    tracing: Any = cast("Any", AIInferenceInstrumentor)()
    ours = vars(ChatCompletionsClient)["complete"]
    tracing.instrument()
    try:
        answer = clients.chat.complete(messages=MESSAGES, model=MODEL, stream=is_stream)
        assert len(list(answer)) > 1
    finally:
        tracing.uninstrument()
        ChatCompletionsClient.complete = ours  # type: ignore[method-assign]

    assert OwnSpan.finished == [f"chat {MODEL}"]
    assert recorder.usage() == CHAT


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(
    ("is_left", "outcome", "usage"), [(False, None, CHAT), (True, "closed_early", {})], ids=["read", "left"]
)
def test_the_packages_own_tracing_of_an_async_stream_hides_no_usage(
    provider: FakeProvider,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    is_left: bool,
    outcome: str | None,
    usage: dict[str, Any],
) -> None:
    """It puts a stream of its own onto the response of the one that we meter."""
    monkeypatch.setattr(settings.tracing_implementation, "_user_value", OwnSpan)
    monkeypatch.setattr(OwnSpan, "finished", [])
    tracing: Any = cast("Any", AIInferenceInstrumentor)()
    ours = vars(AsyncChatCompletionsClient)["complete"]

    async def run() -> int:
        client = asynchronous(provider).chat
        model = f"endless:{MODEL}" if is_left else MODEL
        stream = await client.complete(messages=MESSAGES, model=model, stream=True)
        seen = 0
        async for _ in stream:
            seen += 1
            if is_left:
                await stream.aclose()
                break
        return seen

    tracing.instrument()
    try:
        seen = asyncio.run(run())
    finally:
        tracing.uninstrument()
        AsyncChatCompletionsClient.complete = ours  # type: ignore[method-assign]

    assert seen == (1 if is_left else 9)
    assert recorder.one().attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == usage


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing(
    clients: Clients, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def call() -> Any:
        if hook == "read_chunk":
            stream = clients.chat.complete(messages=MESSAGES, model=MODEL, stream=True)
            return [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
        return clients.chat.complete(messages=MESSAGES, model=MODEL).choices

    assert_our_faults_are_not_felt("azure_ai_inference", hook, recorder, monkeypatch, call)


def test_every_method_is_patched_and_restored() -> None:
    assert_every_target_is_patched_and_restored("azure_ai_inference")

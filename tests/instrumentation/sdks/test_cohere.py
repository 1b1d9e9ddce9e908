"""Calls of the real `cohere` package against the fake; figures are those of `tests.fakes.cohere`."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cohere
import httpx
import pytest
from cohere.core.request_options import RequestOptions
from cohere.errors import BadRequestError, InternalServerError, TooManyRequestsError
from opentelemetry.sdk.trace import TracerProvider

import farebox
from tests.fakes.cohere import FakeCohere
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings
from tests.instrumentation.sdks.transparency import (
    assert_every_target_is_patched_and_restored,
    assert_our_faults_are_not_felt,
)

#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "v2 parse",
        "test_retries_of_the_sdk_are_one_span",
        "test_every_method_is_patched_and_restored",
    }
)
MODEL = "command-a-03-2025"
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
DOCUMENTS: Any = ["A ride costs two cents.", "Trams are red."]
ONCE: RequestOptions = {"max_retries": 0}

CHAT = {"input_tokens": 58, "output_tokens": 20, "cache_read.input_tokens": 30}
GENERATE = {"input_tokens": 12, "output_tokens": 30}
EMBED = {"input_tokens": 6}
EMBED_IMAGES = {"input_tokens": 262, "image.input_tokens": 258, "input_images": 1}
IMAGE = "data:image/png;base64,AAAA"


@pytest.fixture
def provider() -> Iterator[FakeCohere]:
    with FakeCohere() as fake:
        yield fake


@pytest.fixture
def v1(provider: FakeCohere) -> Iterator[cohere.Client]:
    with cohere.Client(api_key="k", base_url=provider.url) as made:
        yield made


@pytest.fixture
def v2(provider: FakeCohere) -> Iterator[cohere.ClientV2]:
    with cohere.ClientV2(api_key="k", base_url=provider.url) as made:
        yield made


def chat_v1(client: Any, **arguments: Any) -> Any:
    return client.chat(message="Hi", **{"model": MODEL, **arguments})


def raw_stream(client: Any) -> Any:
    with client.with_raw_response.chat_stream(model=MODEL, messages=MESSAGES) as response:
        return list(response.data)


def embed_v2(client: Any, **inputs: Any) -> Any:
    return client.embed(model="embed-v4.0", input_type="search_query", embedding_types=["float"], **inputs)


Row = tuple[str, str, dict[str, Any], Callable[[Any], Any]]
V1_CALLS: list[Row] = [
    ("chat", f"chat {MODEL}", CHAT, chat_v1),
    ("chat raw", f"chat {MODEL}", CHAT, lambda c: chat_v1(c.with_raw_response)),
    ("chat stream", f"chat {MODEL}", CHAT, lambda c: c.chat_stream(message="Hi", model=MODEL)),
    ("chat without a model", "chat", CHAT, lambda c: c.chat(message="Hi")),
    ("generate", "text_completion command", GENERATE, lambda c: c.generate(prompt="Hi", model="command")),
    (
        "embed",
        "embeddings embed-english-v3.0",
        EMBED,
        lambda c: c.embed(texts=["Hi"], model="embed-english-v3.0", input_type="search_query"),
    ),
    (
        "rerank",
        "rerank rerank-v3.5",
        {"search_units": 1},
        lambda c: c.rerank(query="fare", documents=DOCUMENTS, model="rerank-v3.5"),
    ),
    (
        "classify",
        "classify embed-english-v3.0",
        {"requests": 2},
        lambda c: c.classify(inputs=["Hi", "Ho"], model="embed-english-v3.0"),
    ),
]
V2_CALLS: list[Row] = [
    ("chat", f"chat {MODEL}", CHAT, lambda c: c.chat(model=MODEL, messages=MESSAGES)),
    ("chat stream", f"chat {MODEL}", CHAT, lambda c: c.chat_stream(model=MODEL, messages=MESSAGES)),
    ("embed", "embeddings embed-v4.0", EMBED, lambda c: embed_v2(c, texts=["Hi"])),
    ("embed images", "embeddings embed-v4.0", EMBED_IMAGES, lambda c: embed_v2(c, images=[IMAGE])),
    (
        "rerank",
        "rerank rerank-v3.5",
        {"search_units": 1},
        lambda c: c.rerank(query="fare", documents=DOCUMENTS, model="rerank-v3.5"),
    ),
    (
        "parse",
        "ocr parse-v5.0",
        {"pages": 4},
        lambda c: c.parse(model="parse-v5.0", document={"type": "document_url", "document_url": "https://e.com/a"}),
    ),
]
CALLS = [("v1", *row) for row in V1_CALLS] + [("v2", *row) for row in V2_CALLS]
IDS = [f"{row[0]} {row[1]}" for row in CALLS]


@pytest.mark.usefixtures("no_faults")
def test_the_requests_of_an_embedding_in_batches_are_paid_by_its_caller(v1: cohere.Client, recorder: Recorder) -> None:
    texts = ["Hi"] * 100  # more than go into one request
    for user in ("ada", "bob"):
        with farebox.attribute(user=user):
            v1.embed(texts=texts, model="embed-english-v3.0", input_type="search_query")
    v1.embed(texts=texts, model="embed-english-v3.0", input_type="search_query")

    payers = [span.attributes.get("user.id") for span in recorder.spans()]
    assert payers == ["ada", "ada", "bob", "bob", None, None]
    assert isinstance(v1._executor, ThreadPoolExecutor)


@pytest.mark.usefixtures("no_faults")
def test_the_requests_of_an_embedding_in_batches_are_in_the_trace_of_its_caller(
    v1: cohere.Client, recorder: Recorder
) -> None:
    with TracerProvider().get_tracer("app").start_as_current_span("handler") as handler:
        v1.embed(texts=["Hi"] * 100, model="embed-english-v3.0", input_type="search_query")

    parent = f"{handler.get_span_context().span_id:016x}"
    assert [span.parent_span_id for span in recorder.spans()] == [parent, parent]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("version", "name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_call_is_one_span_with_its_billed_units(
    request: pytest.FixtureRequest,
    recorder: Recorder,
    version: str,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    answer = call(request.getfixturevalue(version))
    if "stream" in name:
        list(answer)

    span = recorder.one()
    assert recorder.usage() == usage
    assert all(isinstance(count, int) for count in recorder.usage().values())
    assert span.name == span_name
    assert span.scope == "farebox.sdks.cohere"
    assert span.attributes["gen_ai.provider.name"] == "cohere"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes["gen_ai.response.id"]
    assert span.attributes.get("gen_ai.request.stream", False) == ("stream" in name)
    assert ("gen_ai.response.time_to_first_chunk" in span.attributes) == ("stream" in name)
    assert "farebox.outcome" not in span.attributes


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("version", "name", "span_name", "usage", "call"), CALLS, ids=IDS)
def test_each_kind_of_async_call_is_one_span_with_its_billed_units(
    provider: FakeCohere,
    recorder: Recorder,
    version: str,
    name: str,
    span_name: str,
    usage: dict[str, Any],
    call: Callable[[Any], Any],
) -> None:
    kind: Any = cohere.AsyncClient if version == "v1" else cohere.AsyncClientV2

    async def run() -> None:
        async with kind(api_key="k", base_url=provider.url) as client:
            answer = call(client)
            if "stream" in name:
                assert [chunk async for chunk in answer]
            else:
                await answer

    asyncio.run(run())

    assert recorder.usage() == usage
    assert recorder.one().name == span_name


@pytest.mark.usefixtures("no_faults")
def test_a_raw_stream_is_one_span(v2: cohere.ClientV2, recorder: Recorder) -> None:
    assert len(raw_stream(v2)) == 10

    assert recorder.usage() == CHAT
    assert recorder.one().attributes["gen_ai.response.finish_reasons"] == ["COMPLETE"]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_stream_of_the_old_generate_says_no_usage(
    provider: FakeCohere, v1: cohere.Client, recorder: Recorder, is_async: bool
) -> None:
    async def run() -> list[Any]:
        async with cohere.AsyncClient(api_key="k", base_url=provider.url) as client:
            return [event async for event in client.generate_stream(prompt="Hi", model="command")]

    assert asyncio.run(run()) if is_async else list(v1.generate_stream(prompt="Hi", model="command"))

    assert recorder.usage() == {}
    assert recorder.one().name == "text_completion command"


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("command-cached", {"input_tokens": 5, "output_tokens": 1, "cache_read.input_tokens": 5}),
        ("command-tokens", {"input_tokens": 69, "output_tokens": 22}),
        ("command-rag", {"input_tokens": 58, "output_tokens": 20, "search_units": 2}),
    ],
)
def test_billed_units_decide(v2: cohere.ClientV2, recorder: Recorder, model: str, usage: dict[str, int]) -> None:
    v2.chat(model=model, messages=MESSAGES)

    assert recorder.usage() == usage


@pytest.mark.usefixtures("no_faults")
def test_each_request_of_a_batched_embed_is_a_span(v1: cohere.Client, recorder: Recorder) -> None:
    v1.embed(texts=["Hi"] * 200, model="embed-english-v3.0", input_type="search_query")

    assert [span.attributes["gen_ai.usage.input_tokens"] for span in recorder.spans()] == [6, 6, 6]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (400, BadRequestError, "cohere.errors.bad_request_error.BadRequestError"),
        (429, TooManyRequestsError, "cohere.errors.too_many_requests_error.TooManyRequestsError"),
        (500, InternalServerError, "cohere.errors.internal_server_error.InternalServerError"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failed_call_is_a_span_with_its_error(
    v2: cohere.ClientV2, recorder: Recorder, status: int, kind: type[Exception], name: str, is_stream: bool
) -> None:
    call: Any = v2.chat_stream if is_stream else v2.chat
    with pytest.raises(kind):
        list(call(model=f"fail-{status}", messages=MESSAGES, request_options=ONCE))

    assert recorder.one().attributes["farebox.outcome"] == "error"
    assert recorder.one().attributes["error.type"] == name


@pytest.mark.usefixtures("no_faults")
def test_retries_of_the_sdk_are_one_span(v2: cohere.ClientV2, recorder: Recorder) -> None:
    v2.chat(model=f"flaky:{MODEL}", messages=MESSAGES, request_options={"max_retries": 1})

    assert recorder.usage() == CHAT


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_that_nobody_reads_was_never_asked_for(
    provider: FakeCohere, v2: cohere.ClientV2, recorder: Recorder, is_async: bool
) -> None:
    client: Any = cohere.AsyncClientV2(api_key="k", base_url=provider.url) if is_async else v2
    stream = client.chat_stream(model=MODEL, messages=MESSAGES)
    manager = client.with_raw_response.chat_stream(model=MODEL, messages=MESSAGES)
    del stream, manager
    gc.collect()

    assert provider.served == []
    assert recorder.spans() == []


#: A generator cannot tell whether it is closed or collected; and Cohere reports a failing answer by its last event.
SYNC_ENDS = {
    name: (end, "closed_early" if outcome == "dropped" else outcome)
    for name, (end, outcome) in endings.SYNC.items()
    if name != "error event"
}
ASYNC_ENDS = {
    name: (end, "closed_early" if outcome == "dropped" else outcome)
    for name, (end, outcome) in endings.ASYNC.items()
    if name != "error event"
}


def opener(client: Any, version: str) -> endings.Open:
    def opened(behavior: str) -> Any:
        model = f"{behavior}:{MODEL}" if behavior else MODEL
        if version == "v1":
            return client.chat_stream(message="Hi", model=model)
        return client.chat_stream(model=model, messages=MESSAGES)

    return opened


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("end", "outcome"), SYNC_ENDS.values(), ids=SYNC_ENDS)
def test_a_stream_ends_its_span_once(
    request: pytest.FixtureRequest,
    recorder: Recorder,
    version: str,
    end: Callable[[endings.Open], None],
    outcome: str | None,
) -> None:
    end(opener(request.getfixturevalue(version), version))
    gc.collect()

    attributes = recorder.one().attributes
    assert attributes.get("farebox.outcome") == outcome
    assert ("error.type" in attributes) == (outcome == "error")
    assert ("gen_ai.usage.output_tokens" in attributes) == (outcome is None)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("end", "outcome"), ASYNC_ENDS.values(), ids=ASYNC_ENDS)
def test_an_async_stream_ends_its_span_once(
    provider: FakeCohere,
    recorder: Recorder,
    version: str,
    end: Callable[[endings.Open], Awaitable[None]],
    outcome: str | None,
) -> None:
    kind: Any = cohere.AsyncClient if version == "v1" else cohere.AsyncClientV2

    async def run() -> None:
        async with kind(api_key="k", base_url=provider.url) as client:
            await end(opener(client, version))

    asyncio.run(run())

    assert recorder.one().attributes.get("farebox.outcome") == outcome


@pytest.mark.usefixtures("no_faults")
def test_a_raw_stream_that_is_left_early_ends_its_span(v2: cohere.ClientV2, recorder: Recorder) -> None:
    with v2.with_raw_response.chat_stream(model=f"endless:{MODEL}", messages=MESSAGES) as response:
        assert next(iter(response.data)).type == "message-start"

    assert recorder.one().attributes["farebox.outcome"] == "closed_early"


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("service", "provider_name"), [("bedrock", "aws.bedrock"), ("sagemaker", "aws.sagemaker")])
def test_on_aws_the_provider_is_aws(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, service: Any, provider_name: str
) -> None:
    from cohere.aws_client import AwsClientV2

    def away(self: Any, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", away)
    client = AwsClientV2(aws_access_key="k", aws_secret_key="s", aws_region="eu-west-1", service=service)
    with pytest.raises(httpx.ConnectError):
        client.chat(model="cohere.command-r-v1:0", messages=MESSAGES, request_options=ONCE)

    attributes = recorder.one().attributes
    assert attributes["gen_ai.provider.name"] == provider_name
    assert attributes["farebox.region"] == "eu-west-1"
    assert "server.address" not in attributes


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing(
    v2: cohere.ClientV2, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def call() -> Any:
        if hook == "read_chunk":
            return [type(event) for event in v2.chat_stream(model=MODEL, messages=MESSAGES)]
        return v2.chat(model=MODEL, messages=MESSAGES).message

    assert_our_faults_are_not_felt("cohere", hook, recorder, monkeypatch, call)


def test_every_method_is_patched_and_restored() -> None:
    assert_every_target_is_patched_and_restored("cohere")

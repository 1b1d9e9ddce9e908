"""Calls of the real `boto3` package against a fake of Amazon Bedrock; figures are those of `tests.fakes.bedrock`."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.eventstream import EventStream
from botocore.exceptions import ClientError, EventStreamError, ResponseStreamingError
from botocore.response import StreamingBody

import farebox
from tests.fakes.bedrock import FakeBedrock
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings, transparency

CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
#: Old versions leave out the lifetimes of cache writes.
NEWER = frozenset(
    {
        "test_converse_counts_the_cache_in",
        "test_retries_inside_the_sdk_are_one_span",
        "test_a_stream_of_converse_stays_what_it_was",
        "test_a_stream_is_one_span_however_it_ends[complete]",
    }
)
MESSAGES: Any = [{"role": "user", "content": [{"text": "What does a ride cost?"}]}]
#: What the conventions make of 10 in, 5000 read, 1000 written, 200 out.
CACHED = {
    "input_tokens": 6010,
    "cache_read.input_tokens": 5000,
    "cache_write.input_tokens": 1000,
    "cache_write_1h.input_tokens": 600,
    "cache_write_5m.input_tokens": 400,
    "output_tokens": 200,
}
#: What the headers of the answer count, without its body.
COUNTED = {name: count for name, count in CACHED.items() if not name.startswith("cache_write_")}
NOVA = {"input_tokens": 30, "cache_read.input_tokens": 20, "cache_write.input_tokens": 0, "output_tokens": 6}


@pytest.fixture
def fake() -> Iterator[FakeBedrock]:
    with FakeBedrock() as made:
        yield made


def client_of(fake: FakeBedrock, service: str = "bedrock-runtime", attempts: int = 1) -> Any:
    return boto3.client(
        service,
        endpoint_url=fake.url,
        region_name="eu-west-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": attempts}, s3={"addressing_style": "path"}),
    )


@pytest.fixture
def client(no_faults: None, fake: FakeBedrock) -> Any:
    return client_of(fake)


def converse(client: Any, model: str = CLAUDE, **arguments: Any) -> Any:
    return client.converse(modelId=model, messages=MESSAGES, **arguments)


def converse_stream(client: Any, behavior: str = "") -> Any:
    model = f"{behavior}:{CLAUDE}" if behavior else CLAUDE
    return client.converse_stream(modelId=model, messages=MESSAGES)["stream"]


def invoke(client: Any, model: str = CLAUDE, **body: Any) -> Any:
    return client.invoke_model(modelId=model, body=json.dumps(body))["body"]


def invoke_stream(client: Any, model: str = CLAUDE) -> Any:
    return client.invoke_model_with_response_stream(modelId=model, body=b"{}")["body"]


def test_converse_counts_the_cache_in(client: Any, recorder: Recorder) -> None:
    answer = converse(client)

    span = recorder.one()
    assert answer["usage"]["inputTokens"] == 10
    assert span.name == f"chat {CLAUDE}"
    assert span.scope == "farebox.sdks.bedrock"
    assert span.attributes["gen_ai.provider.name"] == "aws.bedrock"
    assert span.attributes["farebox.region"] == "eu-west-1"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes["gen_ai.response.finish_reasons"] == ["end_turn"]
    assert "farebox.service_tier" not in span.attributes
    assert recorder.usage() == CACHED


def test_the_model_is_named_as_it_was_asked_for(client: Any, recorder: Recorder) -> None:
    profile = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc"
    converse(client, profile)
    invoke(client).read()

    by_profile, by_name = (span.attributes for span in recorder.spans())
    assert by_profile["gen_ai.request.model"] == profile
    assert by_name["gen_ai.request.model"] == CLAUDE
    assert "gen_ai.response.model" not in by_profile
    assert "gen_ai.response.model" not in by_name


def test_a_prompt_router_is_billed_as_the_model_that_it_chose(client: Any, recorder: Recorder) -> None:
    converse(client, "arn:aws:bedrock:eu-west-1:123456789012:default-prompt-router/any")

    assert recorder.one().attributes["gen_ai.response.model"] == "arn:aws:bedrock:eu-west-1::foundation-model/small"


@pytest.mark.parametrize(
    ("arguments", "tier"),
    [
        ({"serviceTier": {"type": "default"}}, "standard"),
        ({"serviceTier": {"type": "flex"}}, "flex"),
        ({"serviceTier": {"type": "priority"}}, "priority"),
        ({"performanceConfig": {"latency": "standard"}}, None),
        ({"performanceConfig": {"latency": "optimized"}}, "optimized"),
    ],
)
def test_the_tier_is_said(client: Any, recorder: Recorder, arguments: dict[str, Any], tier: str | None) -> None:
    converse(client, **arguments)

    assert recorder.one().attributes.get("farebox.service_tier") == tier


def test_the_tier_of_an_invocation_is_said(client: Any, recorder: Recorder) -> None:
    client.invoke_model(modelId=CLAUDE, body="{}", serviceTier="flex")["body"].read()

    assert recorder.one().attributes["farebox.service_tier"] == "flex"


INVOKED: list[tuple[str, str, dict[str, Any]]] = [
    (CLAUDE, "chat", {**CACHED, "reasoning.output_tokens": 30}),
    ("amazon.nova-pro-v1:0", "chat", NOVA),
    ("amazon.titan-text-premier-v1:0", "chat", {"input_tokens": 12, "output_tokens": 7}),
    ("meta.llama3-3-70b-instruct-v1:0", "chat", {"input_tokens": 25, "output_tokens": 8}),
    ("openai.gpt-oss-120b-1:0", "chat", {"input_tokens": 70, "output_tokens": 21}),
    ("amazon.titan-embed-text-v2:0", "embeddings", {"input_tokens": 9}),
    ("amazon.nova-canvas-v1:0", "image_generation", {"output_images": 2}),
    ("stability.sd3-5-large-v1:0", "image_generation", {"output_images": 1}),
]


@pytest.mark.parametrize("are_counts_in_headers", [True, False], ids=["headers", "body alone"])
@pytest.mark.parametrize(("model", "operation", "usage"), INVOKED, ids=[row[0] for row in INVOKED])
def test_an_invocation_is_read_by_headers_and_body(
    client: Any, recorder: Recorder, model: str, operation: str, usage: dict[str, Any], are_counts_in_headers: bool
) -> None:
    asked = model if are_counts_in_headers else f"unread:{model}"
    assert json.loads(invoke(client, asked).read())

    assert recorder.one().name == f"{operation} {asked}"
    assert "farebox.outcome" not in recorder.one().attributes
    assert recorder.usage() == usage


@pytest.mark.parametrize(
    ("model", "operation", "usage"),
    [
        ("mistral.mistral-large-2402-v1:0", "chat", {"input_tokens": 14, "output_tokens": 8}),
        ("cohere.command-r-v1:0", "chat", {"input_tokens": 17, "output_tokens": 9}),
        ("cohere.embed-v4:0", "embeddings", {"input_tokens": 6}),
    ],
)
def test_a_vendor_that_says_no_usage_is_read_by_the_headers(
    client: Any, recorder: Recorder, model: str, operation: str, usage: dict[str, Any]
) -> None:
    invoke(client, model).read()

    assert recorder.one().name == f"{operation} {model}"
    assert recorder.usage() == usage


def test_a_reranking_is_counted_by_the_hundred_documents(client: Any, recorder: Recorder) -> None:
    invoke(client, "cohere.rerank-v3-5:0", query="fare", documents=["ride"] * 150).read()

    assert recorder.one().name == "rerank cohere.rerank-v3-5:0"
    assert recorder.usage() == {"search_units": 2}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({"taskType": "TEXT_VIDEO", "videoGenerationConfig": {"durationSeconds": 6}}, 6.0), ({"duration": "9s"}, 9.0)],
    ids=["Nova", "Luma"],
)
def test_a_video_is_counted_when_it_is_begun(
    client: Any, recorder: Recorder, given: dict[str, Any], seconds: float
) -> None:
    place = {"s3OutputDataConfig": {"s3Uri": "s3://bucket/video"}}
    client.start_async_invoke(modelId="amazon.nova-reel-v1:1", modelInput=given, outputDataConfig=place)

    assert recorder.one().name == "video_generation amazon.nova-reel-v1:1"
    assert recorder.usage() == {"output_seconds": seconds}


def raw_read(body: StreamingBody) -> bytes:
    with body as raw:
        return bytes(raw.read())


def read_by_next(body: StreamingBody) -> bytes:
    parts = []
    while part := next(body, b""):
        parts.append(part)
    return b"".join(parts)


def read_into(body: StreamingBody) -> bytes:
    buffer, parts = bytearray(100), []
    while count := body.readinto(buffer):
        parts.append(bytes(buffer[:count]))
    return b"".join(parts)


WAYS: dict[str, Callable[[Any], bytes]] = {
    "read": lambda body: body.read(),
    "read with a limit beyond its end": lambda body: body.read(1_000_000),
    "read in parts": lambda body: b"".join(iter(lambda: body.read(7), b"")),
    "iterate": b"".join,
    "next": read_by_next,
    "iter_chunks": lambda body: b"".join(body.iter_chunks(50)),
    "iter_lines": lambda body: b"".join(body.iter_lines()),
    "readlines": lambda body: b"".join(body.readlines()),
    "readinto": read_into,
    "with": raw_read,
    "json.load": lambda body: json.dumps(json.load(body)).encode(),
    "BufferedReader": lambda body: io.BufferedReader(body).read(),
    "TextIOWrapper": lambda body: io.TextIOWrapper(io.BufferedReader(body)).read().encode(),
}


@pytest.mark.parametrize("read", WAYS.values(), ids=WAYS)
def test_a_body_can_be_read_in_every_way(
    client: Any, recorder: Recorder, fake: FakeBedrock, read: Callable[[Any], bytes]
) -> None:
    body = invoke(client)
    metered = read(body)
    spans = recorder.spans()
    farebox.uninstrument()
    plain = invoke(client_of(fake))

    assert type(body) is type(plain) is StreamingBody
    assert metered == read(plain)
    assert len(spans) == 1
    assert spans[0].attributes["farebox.usage.cache_write_1h.input_tokens"] == 600
    assert "farebox.outcome" not in spans[0].attributes


def leave_unread(body: StreamingBody) -> None:
    body.set_socket_timeout(5)


def close_unread(body: StreamingBody) -> None:
    body.close()
    body.close()


def close_after_a_part(body: StreamingBody) -> None:
    assert len(body.read(10)) == 10
    body.close()


def drop_after_a_part(body: StreamingBody) -> None:
    assert next(body.iter_chunks(10))
    assert body.tell() == 10


@pytest.mark.parametrize(
    ("leave", "outcome"),
    [
        (leave_unread, "dropped"),
        (close_unread, "closed_early"),
        (close_after_a_part, "closed_early"),
        (drop_after_a_part, "dropped"),
    ],
)
def test_a_body_that_is_not_read_out_is_counted_by_its_headers(
    client: Any, recorder: Recorder, leave: Callable[[Any], None], outcome: str
) -> None:
    leave(invoke(client))
    gc.collect()

    assert recorder.one().attributes["farebox.outcome"] == outcome
    assert recorder.usage() == COUNTED


def test_a_body_that_breaks_off_raises_what_the_sdk_raises(client: Any, recorder: Recorder) -> None:
    body = invoke(client, f"cut:{CLAUDE}")
    with pytest.raises(ResponseStreamingError):
        body.read()

    assert recorder.one().attributes["farebox.outcome"] == "error"
    assert recorder.usage() == COUNTED


STREAMED: list[tuple[str, int, list[str], dict[str, Any]]] = [
    (CLAUDE, 11, ["end_turn"], CACHED),
    ("amazon.nova-lite-v1:0", 10, ["end_turn"], NOVA),
    ("amazon.titan-text-express-v1", 9, ["FINISH"], {"input_tokens": 12, "output_tokens": 7}),
    ("amazon.titan-text-guarded-v1", 9, ["CONTENT_FILTERED"], {"input_tokens": 12, "output_tokens": 7}),
    ("meta.llama3-3-70b-instruct-v1:0", 8, ["stop"], {"input_tokens": 25, "output_tokens": 8}),
]


@pytest.mark.parametrize(("model", "count", "reasons", "usage"), STREAMED, ids=[row[0] for row in STREAMED])
def test_an_invocation_stream_is_read_in_its_vendors_words(
    client: Any, recorder: Recorder, model: str, count: int, reasons: list[str], usage: dict[str, Any]
) -> None:
    assert len(list(invoke_stream(client, model))) == count

    attributes = recorder.one().attributes
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.finish_reasons"] == reasons
    assert recorder.usage() == usage


def test_an_invocation_stream_that_is_left_says_no_output(client: Any, recorder: Recorder) -> None:
    stream = invoke_stream(client, f"endless:{CLAUDE}")
    for event in stream:
        assert event["chunk"]["bytes"]
        break
    stream.close()

    assert recorder.one().attributes["farebox.outcome"] == "closed_early"
    assert recorder.usage() == {name: count for name, count in CACHED.items() if name != "output_tokens"}


def test_a_stream_of_converse_stays_what_it_was(client: Any, recorder: Recorder) -> None:
    stream = converse_stream(client)

    assert isinstance(stream, EventStream)
    assert [next(iter(event)) for event in stream] == [
        "messageStart",
        *["contentBlockDelta"] * 8,
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    attributes = recorder.one().attributes
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.finish_reasons"] == ["end_turn"]
    assert 0 < attributes["gen_ai.response.time_to_first_chunk"] < 5
    assert recorder.usage() == CACHED


def iterating(stream: Any) -> Any:
    """An iterator over the stream, with its `close`: the event stream itself is none."""
    stream_of_events = iter(stream)

    class Iterating:
        def __iter__(self) -> Any:
            return stream_of_events

        def __next__(self) -> Any:
            return next(stream_of_events)

        def close(self) -> None:
            stream.close()

    return Iterating()


@pytest.mark.parametrize(("end", "outcome"), endings.SYNC.values(), ids=endings.SYNC)
def test_a_stream_is_one_span_however_it_ends(
    client: Any, recorder: Recorder, end: Callable[[endings.Open], None], outcome: str | None
) -> None:
    end(lambda behavior: iterating(converse_stream(client, behavior)))
    gc.collect()

    assert recorder.one().attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (CACHED if outcome is None else {})


def test_an_error_in_a_stream_is_the_sdks_own(client: Any, recorder: Recorder) -> None:
    with pytest.raises(EventStreamError, match="The model has failed"):
        list(converse_stream(client, "stream-error"))

    assert recorder.one().attributes["error.type"] == "botocore.exceptions.EventStreamError"


@pytest.mark.parametrize(
    "call",
    [
        lambda c: converse(c, "fail-429"),
        lambda c: converse_stream(c, "fail-429"),
        lambda c: invoke(c, "fail-429"),
        lambda c: invoke_stream(c, "fail-429"),
        lambda c: c.start_async_invoke(
            modelId="fail-429",
            modelInput={"videoGenerationConfig": {"durationSeconds": 6}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://bucket/video"}},
        ),
    ],
    ids=["Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream", "StartAsyncInvoke"],
)
def test_a_failed_call_is_a_span_with_its_error_and_without_usage(
    client: Any, recorder: Recorder, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(ClientError) as caught:
        call(client)

    assert isinstance(caught.value, client.exceptions.ThrottlingException)
    assert recorder.one().attributes["error.type"] == "botocore.errorfactory.ThrottlingException"
    assert recorder.one().attributes["farebox.outcome"] == "error"
    assert recorder.usage() == {}


@pytest.mark.usefixtures("no_faults")
def test_retries_inside_the_sdk_are_one_span(fake: FakeBedrock, recorder: Recorder) -> None:
    answer = converse(client_of(fake, attempts=2), f"flaky:{CLAUDE}")

    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert [served.status for served in fake.served] == [500, 200]
    assert recorder.usage() == CACHED


def test_calls_that_use_no_model_make_no_span(client: Any, fake: FakeBedrock, recorder: Recorder) -> None:
    assert client_of(fake, "s3").list_buckets()["Buckets"] == []
    client.count_tokens(modelId=CLAUDE, input={"converse": {"messages": MESSAGES}})

    assert recorder.spans() == []


@pytest.mark.usefixtures("recorder")
def test_a_call_of_another_service_costs_next_to_nothing() -> None:
    """A call of S3 takes some 500 us without its network; here, one that fails at once is timed with and without us."""
    bare = object.__new__(BaseClient)
    bare.meta = SimpleNamespace(service_model=None)
    wrapper: Any = vars(BaseClient)["_make_api_call"]

    def best_s(call: Callable[[str, Any], Any]) -> float:
        best = 1.0
        for _ in range(500):
            began = time.perf_counter()
            with contextlib.suppress(AttributeError):
                call("ListBuckets", None)
            best = min(best, time.perf_counter() - began)
        return best

    added_s = best_s(bare._make_api_call) - best_s(functools.partial(wrapper.__wrapped__, bare))
    assert added_s < 10e-6, f"{added_s * 1e6:.1f} us"


def test_every_method_is_patched_and_given_back() -> None:
    transparency.assert_every_target_is_patched_and_restored("bedrock")


@pytest.mark.parametrize("hook", ["read_request", "read_response", "read_chunk"])
def test_a_fault_of_ours_changes_nothing_for_the_app(
    fake: FakeBedrock, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    client = client_of(fake)

    def call() -> Any:
        if hook == "read_chunk":
            return list(invoke_stream(client))
        return invoke(client).read()

    transparency.assert_our_faults_are_not_felt("bedrock", hook, recorder, monkeypatch, call)

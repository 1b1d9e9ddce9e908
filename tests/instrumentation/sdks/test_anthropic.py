"""Calls of the real `anthropic` package against the fake provider; figures are those of `tests.fakes.usage`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anthropic
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.sdks import endings

pytestmark = [pytest.mark.usefixtures("no_faults"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

#: Not in the oldest supported version.
NEWER = frozenset(
    {
        "parse",
        "beta parse",
        "test_a_tool_runner_is_one_span_for_each_turn",
        "test_an_answer_that_the_parser_refuses_was_billed",
        "test_foundry_is_its_own_provider",
        "test_the_sdks_own_span_stays_in_the_apps_pipeline",
    }
)
MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
MODEL = "claude-sonnet-4-5"

USAGE = {
    "input_tokens": 6010,
    "cache_read.input_tokens": 5000,
    "cache_write.input_tokens": 1000,
    "cache_write_5m.input_tokens": 700,
    "cache_write_1h.input_tokens": 300,
    "output_tokens": 200,
    "reasoning.output_tokens": 60,
}
#: What a stream says at its beginning; the output count there is a placeholder.
BEFORE_THE_END = {name: count for name, count in USAGE.items() if "output" not in name}


class Fare(BaseModel):
    fare: int


class Ride(BaseModel):
    """A shape that the fake's answer does not have."""

    tickets: list[str]


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=provider.url, api_key="sk-ant-test", max_retries=1) as made:
        yield made


def run_async(provider: FakeProvider, call: Callable[[anthropic.AsyncAnthropic], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="sk-ant-test") as client:
            return await call(client)

    return asyncio.run(run())


def create(client: Any, **arguments: Any) -> Any:
    return client.messages.create(**{"model": MODEL, "max_tokens": 100, "messages": MESSAGES, **arguments})


def beta_create(client: Any, **arguments: Any) -> Any:
    return client.beta.messages.create(**{"model": MODEL, "max_tokens": 100, "messages": MESSAGES, **arguments})


def stream_helper(client: anthropic.Anthropic) -> Any:
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        return stream.get_final_message()


def text_stream(client: anthropic.Anthropic) -> Any:
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        return "".join(stream.text_stream)


def beta_stream_helper(client: anthropic.Anthropic) -> Any:
    with client.beta.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        stream.until_done()
        return stream.current_message_snapshot


def streaming_response(client: anthropic.Anthropic, **arguments: Any) -> Any:
    with client.messages.with_streaming_response.create(
        model=MODEL, max_tokens=100, messages=MESSAGES, **arguments
    ) as response:
        parsed = response.parse()
        return list(parsed) if arguments.get("stream") else parsed


def raw_stream(client: anthropic.Anthropic) -> Any:
    raw = client.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=MESSAGES, stream=True)
    return list(raw.parse())


SYNC_CALLS: list[tuple[str, Callable[[anthropic.Anthropic], Any]]] = [
    ("create", create),
    ("create stream", lambda c: list(create(c, stream=True))),
    ("stream helper", stream_helper),
    ("text stream", text_stream),
    (
        "parse",
        lambda c: c.messages.parse(model=MODEL, max_tokens=100, messages=MESSAGES, output_format=Fare),
    ),
    ("beta create", beta_create),
    ("beta create stream", lambda c: list(beta_create(c, stream=True))),
    ("beta stream helper", beta_stream_helper),
    (
        "beta parse",
        lambda c: c.beta.messages.parse(model=MODEL, max_tokens=100, messages=MESSAGES, output_format=Fare),
    ),
    (
        "raw response",
        lambda c: c.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=MESSAGES),
    ),
    ("raw stream", raw_stream),
    ("streaming response", streaming_response),
    ("streaming response of a stream", lambda c: streaming_response(c, stream=True)),
]


@pytest.mark.parametrize("call", [row[1] for row in SYNC_CALLS], ids=[row[0] for row in SYNC_CALLS])
def test_each_kind_of_call_is_one_span_with_its_usage(
    client: anthropic.Anthropic, recorder: Recorder, call: Callable[[anthropic.Anthropic], Any]
) -> None:
    call(client)

    span = recorder.one()
    assert span.name == "chat claude-sonnet-4-5"
    assert span.scope == "farebox.sdks.anthropic"
    assert span.attributes["gen_ai.provider.name"] == "anthropic"
    assert span.attributes["gen_ai.response.model"] == "claude-sonnet-4-5-20250929"
    assert span.attributes["gen_ai.response.finish_reasons"] == ["end_turn"]
    assert span.attributes["farebox.service_tier"] == "standard"
    assert span.attributes["farebox.region"] == "us"
    assert "farebox.outcome" not in span.attributes
    assert recorder.usage() == USAGE


async def async_stream_helper(client: anthropic.AsyncAnthropic) -> Any:
    async with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        return await stream.get_final_message()


async def async_stream(client: anthropic.AsyncAnthropic) -> Any:
    return [event async for event in await create(client, stream=True)]


async def async_streaming_response(client: anthropic.AsyncAnthropic) -> Any:
    async with client.messages.with_streaming_response.create(
        model=MODEL, max_tokens=100, messages=MESSAGES
    ) as response:
        return await response.parse()


ASYNC_CALLS: list[tuple[str, Callable[[anthropic.AsyncAnthropic], Awaitable[Any]]]] = [
    ("create", create),
    ("create stream", async_stream),
    ("stream helper", async_stream_helper),
    (
        "parse",
        lambda c: c.messages.parse(model=MODEL, max_tokens=100, messages=MESSAGES, output_format=Fare),
    ),
    ("beta create", beta_create),
    ("streaming response", async_streaming_response),
]


@pytest.mark.parametrize("call", [row[1] for row in ASYNC_CALLS], ids=[row[0] for row in ASYNC_CALLS])
def test_each_kind_of_async_call_is_one_span_with_its_usage(
    provider: FakeProvider, recorder: Recorder, call: Callable[[anthropic.AsyncAnthropic], Awaitable[Any]]
) -> None:
    run_async(provider, call)

    assert recorder.usage() == USAGE


def opener(client: Any) -> Callable[[str], Any]:
    """Open a stream on which the fake behaves as asked."""
    return lambda behavior: create(client, model=f"{behavior}:{MODEL}" if behavior else MODEL, stream=True)


@pytest.mark.parametrize(("end", "outcome"), endings.MANAGED_SYNC.values(), ids=endings.MANAGED_SYNC)
def test_a_stream_is_one_span_however_it_ends(
    client: anthropic.Anthropic, recorder: Recorder, end: Callable[..., None], outcome: str | None
) -> None:
    end(opener(client))

    assert recorder.one().attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (USAGE if outcome is None else BEFORE_THE_END)


@pytest.mark.parametrize(("end", "outcome"), endings.MANAGED_ASYNC.values(), ids=endings.MANAGED_ASYNC)
def test_an_async_stream_is_one_span_however_it_ends(
    provider: FakeProvider, recorder: Recorder, end: Callable[..., Awaitable[None]], outcome: str | None
) -> None:
    run_async(provider, lambda client: end(opener(client)))

    known = {} if end is endings.async_cancel_before_the_answer else BEFORE_THE_END
    assert recorder.one().attributes.get("farebox.outcome") == outcome
    assert recorder.usage() == (USAGE if outcome is None else known)


def test_a_tool_runner_is_one_span_for_each_turn(client: anthropic.Anthropic, recorder: Recorder) -> None:
    @anthropic.beta_tool
    def fare() -> str:
        """Say what a ride costs."""
        return "2 cents"

    runner = client.beta.messages.tool_runner(model=MODEL, max_tokens=100, messages=MESSAGES, tools=[fare])
    final = runner.until_done()

    spans = recorder.spans()
    assert final.stop_reason == "end_turn"
    assert [span.attributes["gen_ai.response.finish_reasons"] for span in spans] == [["tool_use"], ["end_turn"]]
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in spans] == [6010, 6010]


def test_counting_tokens_is_free(client: anthropic.Anthropic, recorder: Recorder) -> None:
    assert client.messages.count_tokens(model=MODEL, messages=MESSAGES).input_tokens == 10

    assert recorder.spans() == []


def test_the_last_word_of_a_stream_replaces_its_first(client: anthropic.Anthropic, recorder: Recorder) -> None:
    list(create(client, model="claude-opus-4-1", stream=True))

    usage = recorder.usage()
    assert usage["input_tokens"] == 90
    assert usage["output_tokens"] == 500
    assert usage["web_searches"] == 2
    assert recorder.one().attributes["farebox.service_tier"] == "priority"
    assert "farebox.region" not in recorder.one().attributes


@pytest.mark.parametrize("is_stream", [False, True])
def test_compactions_are_added_and_an_advisor_is_a_span_of_its_own(
    client: anthropic.Anthropic, recorder: Recorder, is_stream: bool
) -> None:
    answer = beta_create(client, model="claude-iterations", stream=is_stream)
    if is_stream:
        list(answer)

    spans = {span.name: span for span in recorder.spans()}
    main, advisor = spans["chat claude-iterations"], spans["chat claude-opus-4-1-20250805"]
    assert len(spans) == 2
    assert main.attributes["gen_ai.usage.input_tokens"] == 55220
    assert main.attributes["gen_ai.usage.output_tokens"] == 930
    assert advisor.attributes["gen_ai.usage.input_tokens"] == 1600
    assert advisor.attributes["gen_ai.usage.cache_read.input_tokens"] == 400
    assert advisor.attributes["gen_ai.usage.output_tokens"] == 80
    assert advisor.attributes["gen_ai.response.model"] == "claude-opus-4-1-20250805"
    assert "gen_ai.response.id" not in advisor.attributes
    assert advisor.parent_span_id == main.span_id
    assert advisor.trace_id == main.trace_id


def test_an_aborted_stream_knows_its_input_and_never_the_placeholder(
    client: anthropic.Anthropic, recorder: Recorder
) -> None:
    with create(client, stream=True) as stream:
        next(stream)

    usage = recorder.usage()
    assert usage["input_tokens"] == 6010
    assert usage["cache_write_1h.input_tokens"] == 300
    assert "output_tokens" not in usage
    assert recorder.one().attributes["farebox.outcome"] == "closed_early"


def test_an_answer_that_the_parser_refuses_was_billed(client: anthropic.Anthropic, recorder: Recorder) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        client.messages.parse(model=MODEL, max_tokens=100, messages=MESSAGES, output_format=Ride)

    assert recorder.usage() == USAGE
    assert recorder.one().attributes["farebox.outcome"] == "error"


@pytest.mark.parametrize("is_stream", [False, True])
def test_bedrock_is_its_own_provider(provider: FakeProvider, recorder: Recorder, is_stream: bool) -> None:
    client = anthropic.AnthropicBedrock(
        base_url=provider.url, aws_access_key="key", aws_secret_key="secret", aws_region="eu-west-1"
    )

    answer = create(client, model="anthropic.claude-sonnet-4-5-20250929-v1:0", stream=is_stream)
    if is_stream:
        list(answer)

    attributes = recorder.one().attributes
    assert attributes["gen_ai.provider.name"] == "aws.bedrock"
    assert attributes["gen_ai.request.model"] == "anthropic.claude-sonnet-4-5-20250929-v1:0"
    assert attributes["farebox.region"] == "eu-west-1"
    assert recorder.usage() == USAGE


def test_vertex_is_its_own_provider(provider: FakeProvider, recorder: Recorder) -> None:
    client = anthropic.AnthropicVertex(
        base_url=f"{provider.url}/v1", access_token="token", region="us-east5", project_id="p"
    )

    create(client, model="claude-sonnet-4-5@20250929")

    attributes = recorder.one().attributes
    assert attributes["gen_ai.provider.name"] == "gcp.vertex_ai"
    assert attributes["farebox.region"] == "us-east5"
    assert recorder.usage() == USAGE


def test_foundry_is_its_own_provider(provider: FakeProvider, recorder: Recorder) -> None:
    client = anthropic.AnthropicFoundry(base_url=provider.url, api_key="key")

    create(client)

    assert recorder.one().attributes["gen_ai.provider.name"] == "azure.ai.inference"


def test_the_sdks_own_span_stays_in_the_apps_pipeline(provider: FakeProvider, recorder: Recorder) -> None:
    theirs = InMemorySpanExporter()
    app = TracerProvider()
    app.add_span_processor(SimpleSpanProcessor(theirs))
    client = anthropic.Anthropic(base_url=provider.url, api_key="k", open_telemetry={"tracer_provider": app})

    create(client)

    assert [span.name for span in theirs.get_finished_spans()] == ["anthropic.messages.create"]
    assert recorder.one().scope == "farebox.sdks.anthropic"


def test_a_failed_call_is_a_span_with_its_error(client: anthropic.Anthropic, recorder: Recorder) -> None:
    with pytest.raises(anthropic.RateLimitError):
        create(client, model="fail-429")

    span = recorder.one()
    assert span.status == 2  # ERROR
    assert span.attributes["error.type"] == "anthropic.RateLimitError"
    assert span.attributes["farebox.outcome"] == "error"
    assert "Rate limit reached" in span.message
    assert recorder.usage() == {}


def test_a_failed_async_call_is_a_span_with_its_error(provider: FakeProvider, recorder: Recorder) -> None:
    with pytest.raises(anthropic.BadRequestError):
        run_async(provider, lambda client: create(client, model="fail-400"))

    assert recorder.one().attributes["error.type"] == "anthropic.BadRequestError"

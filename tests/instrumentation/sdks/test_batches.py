"""What is made at OpenAI's and Anthropic's while nobody waits, and fetched later: batches and videos."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.fakes.answering import FakeAnswers
from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder

pytestmark = [pytest.mark.usefixtures("no_faults"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

#: Name, model and input tokens of each answer in the results of OpenAI's batch.
ANSWERS = [
    ("chat gpt-4o-2024-08-06", 2006),
    ("chat gpt-4o-2024-08-06", 2006),
    ("chat gpt-5", 3000),
    ("embeddings text-embedding-3-small", 8),
]
MESSAGE = {
    "gen_ai.usage.input_tokens": 6010,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.cache_write.input_tokens": 1000,
    "farebox.usage.cache_write_5m.input_tokens": 700,
    "farebox.usage.cache_write_1h.input_tokens": 300,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.reasoning.output_tokens": 60,
}


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(provider: FakeProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=provider.url, api_key="sk-ant-test", max_retries=0) as made:
        yield made


def streamed_file(client: openai.OpenAI, file_id: str) -> list[str]:
    with client.files.with_streaming_response.content(file_id) as response:
        return list(response.iter_lines())


def async_file(client: openai.OpenAI, file_id: str) -> Any:
    async def run() -> Any:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="k") as other:
            return await other.files.content(file_id)

    return asyncio.run(run())


def async_streamed_file(client: openai.OpenAI, file_id: str) -> Any:
    async def run() -> Any:
        async with (
            openai.AsyncOpenAI(base_url=client.base_url, api_key="k") as other,
            other.files.with_streaming_response.content(file_id) as response,
        ):
            return [line async for line in response.iter_lines()]

    return asyncio.run(run())


FETCHES: list[tuple[str, Callable[[openai.OpenAI, str], Any]]] = [
    ("content", lambda c, name: c.files.content(name)),
    ("retrieve_content", lambda c, name: c.files.retrieve_content(name)),
    ("raw response", lambda c, name: c.files.with_raw_response.content(name)),
    ("streaming response", streamed_file),
    ("async content", async_file),
    ("async streaming response", async_streamed_file),
]


@pytest.mark.parametrize("fetch", [row[1] for row in FETCHES], ids=[row[0] for row in FETCHES])
def test_each_answer_in_the_results_of_a_batch_is_a_span(
    client: openai.OpenAI, recorder: Recorder, fetch: Callable[[openai.OpenAI, str], Any]
) -> None:
    fetch(client, f"file-batch-{fetch.__name__}-{id(fetch)}")

    spans = recorder.spans()
    assert [(span.name, span.attributes["gen_ai.usage.input_tokens"]) for span in spans] == ANSWERS
    assert all(span.attributes["farebox.batch"] is True for span in spans)
    assert all(span.attributes["gen_ai.provider.name"] == "openai" for span in spans)
    assert spans[0].attributes["gen_ai.usage.cache_read.input_tokens"] == 1920
    assert spans[2].attributes["gen_ai.usage.reasoning.output_tokens"] == 150


def test_results_that_are_fetched_again_are_booked_once(client: openai.OpenAI, recorder: Recorder) -> None:
    for _ in range(2):
        client.files.content("file-batch-again")
    streamed_file(client, "file-batch-again")

    assert len(recorder.spans()) == 4


def test_what_was_booked_of_results_read_in_part_is_not_booked_again(client: openai.OpenAI, recorder: Recorder) -> None:
    with client.files.with_streaming_response.content("file-batch-part") as response:
        next(response.iter_lines())
    client.files.content("file-batch-part")

    assert len(recorder.spans()) == 4


def test_the_results_are_what_they_would_be_without_us(client: openai.OpenAI, recorder: Recorder) -> None:
    import farebox

    metered = client.files.content("file-batch-same")
    lines = streamed_file(client, "file-batch-same")
    farebox.uninstrument()

    plain = client.files.content("file-batch-same")
    assert type(metered) is type(plain)
    assert len(metered.content.splitlines()) == len(lines) == 5
    assert metered.response.headers["content-type"] == "application/octet-stream"


def test_other_files_are_no_use_of_a_model(client: openai.OpenAI, recorder: Recorder) -> None:
    assert b"no json" in client.files.content("file-of-the-app").content

    assert recorder.spans() == []


def test_results_that_cannot_be_fetched_are_no_failed_call(client: openai.OpenAI, recorder: Recorder) -> None:
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_1")
    with pytest.raises(openai.APIConnectionError):
        openai.OpenAI(base_url="http://127.0.0.1:9", api_key="k", max_retries=0).files.content("file-batch-x")

    assert recorder.spans() == []


def message_stream(claude: anthropic.Anthropic, batch_id: str) -> list[Any]:
    return list(claude.messages.batches.results(batch_id))


def beta_message_stream(claude: anthropic.Anthropic, batch_id: str) -> list[Any]:
    return list(claude.beta.messages.batches.results(batch_id))


def raw_lines(claude: anthropic.Anthropic, batch_id: str) -> list[Any]:
    with claude.messages.batches.with_streaming_response.results(batch_id) as response:
        return list(response.iter_lines())


def async_message_stream(claude: anthropic.Anthropic, batch_id: str) -> list[Any]:
    async def run() -> list[Any]:
        async with anthropic.AsyncAnthropic(base_url=claude.base_url, api_key="k") as other:
            return [line async for line in await other.messages.batches.results(batch_id)]

    return asyncio.run(run())


def async_beta_message_stream(claude: anthropic.Anthropic, batch_id: str) -> list[Any]:
    async def run() -> list[Any]:
        async with anthropic.AsyncAnthropic(base_url=claude.base_url, api_key="k") as other:
            return [line async for line in await other.beta.messages.batches.results(batch_id)]

    return asyncio.run(run())


@pytest.mark.parametrize(
    "fetch", [message_stream, beta_message_stream, raw_lines, async_message_stream, async_beta_message_stream]
)
def test_each_message_in_the_results_of_a_batch_is_a_span(
    claude: anthropic.Anthropic, recorder: Recorder, fetch: Callable[[anthropic.Anthropic, str], list[Any]]
) -> None:
    lines = fetch(claude, f"msgbatch_{fetch.__name__}")

    spans = recorder.spans()
    assert len(lines) == 5
    assert [span.name for span in spans] == ["chat claude-sonnet-4-5-20250929"] * 3
    for span in spans:
        assert span.attributes["farebox.batch"] is True
        assert span.attributes["farebox.service_tier"] == "batch"
        assert {key: value for key, value in span.attributes.items() if ".usage." in key} == MESSAGE


def test_messages_that_are_fetched_again_are_booked_once(claude: anthropic.Anthropic, recorder: Recorder) -> None:
    for fetch in (message_stream, beta_message_stream, raw_lines):
        fetch(claude, "msgbatch_again")

    assert len(recorder.spans()) == 3


def test_messages_are_booked_as_they_come(claude: anthropic.Anthropic, recorder: Recorder) -> None:
    results = claude.messages.batches.results("msgbatch_part")
    first = next(results)
    after_one = len(recorder.spans())
    results.close()

    assert first.custom_id == "ride-0"
    assert after_one == 1
    assert len(recorder.spans()) == 1


def test_who_fetches_the_results_pays_for_them(claude: anthropic.Anthropic, recorder: Recorder) -> None:
    import farebox

    with farebox.attribute(user="ada", project="fares"):
        message_stream(claude, "msgbatch_attributed")

    assert {span.attributes["user.id"] for span in recorder.spans()} == {"ada"}
    assert {span.attributes["farebox.project"] for span in recorder.spans()} == {"fares"}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_video_is_booked_by_its_seconds_when_it_is_first_seen_done(
    client: openai.OpenAI, recorder: Recorder, is_async: bool
) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="k") as other:
            await other.videos.create_and_poll(model="sora-2", prompt="A tram", seconds="8", poll_interval_ms=1)

    if is_async:
        asyncio.run(run())
    else:
        video = client.videos.create_and_poll(model="sora-2", prompt="A tram", seconds="8", poll_interval_ms=1)
        client.videos.retrieve(video.id)

    span = recorder.one()
    assert span.attributes["gen_ai.operation.name"] == "video_generation"
    assert span.attributes["gen_ai.response.model"] == "sora-2"
    assert recorder.usage() == {"output_seconds": 8.0}


def test_a_remix_is_a_video_of_its_own(client: openai.OpenAI, recorder: Recorder) -> None:
    first = client.videos.create_and_poll(model="sora-2", prompt="A tram", poll_interval_ms=1)
    remix = client.videos.remix(first.id, prompt="A red tram")
    client.videos.poll(remix.id, poll_interval_ms=1)

    assert [span.attributes["farebox.usage.output_seconds"] for span in recorder.spans()] == [4.0, 4.0]
    assert [span.attributes["gen_ai.response.id"] for span in recorder.spans()] == [first.id, remix.id]


def test_a_video_that_fails_is_not_billed_and_a_refused_one_is_an_error(
    client: openai.OpenAI, recorder: Recorder
) -> None:
    model: Any = "sora-failing"
    assert client.videos.create_and_poll(model=model, prompt="A tram", poll_interval_ms=1).status == "failed"
    refused: Any = "fail-400"
    with pytest.raises(openai.BadRequestError):
        client.videos.create(model=refused, prompt="A tram")

    assert recorder.one().attributes["error.type"] == "openai.BadRequestError"


@pytest.mark.parametrize("usage", [{"input_tokens": 30, "output_tokens": 9, "total_tokens": 39}, None])
def test_what_a_stopped_response_has_used_is_booked_once(recorder: Recorder, usage: dict[str, int] | None) -> None:
    stopped = {"id": f"resp_stopped_{usage}", "object": "response", "status": "cancelled", "model": "gpt-5"}
    with FakeAnswers() as host, openai.OpenAI(base_url=f"{host.url}/v1", api_key="k", max_retries=0) as client:
        host.says = {**stopped, "output": [], "usage": usage}
        for _ in range(2):
            client.responses.cancel("resp_stopped")

    assert [span.attributes["gen_ai.usage.output_tokens"] for span in recorder.spans()] == ([9] if usage else [])

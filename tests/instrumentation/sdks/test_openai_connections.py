"""Connections of the real `openai` package to its fake; figures are those of `tests.fakes.realtime`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import farebox
from farebox import metering, safety
from tests.fakes.realtime import FakeRealtime
from tests.instrumentation.recorder import Recorder

REALTIME = {
    "gen_ai.usage.input_tokens": 900,
    "gen_ai.usage.cache_read.input_tokens": 600,
    "gen_ai.usage.audio.input_tokens": 300,
    "gen_ai.usage.image.input_tokens": 50,
    "gen_ai.usage.output_tokens": 120,
    "gen_ai.usage.audio.output_tokens": 100,
}
TRANSCRIPTION = {
    "gen_ai.usage.input_tokens": 33,
    "gen_ai.usage.audio.input_tokens": 30,
    "gen_ai.usage.output_tokens": 9,
}
RESPONSES = {
    "gen_ai.usage.input_tokens": 210,
    "gen_ai.usage.cache_read.input_tokens": 0,
    "gen_ai.usage.output_tokens": 70,
    "gen_ai.usage.reasoning.output_tokens": 20,
}


@pytest.fixture
def fake() -> Iterator[FakeRealtime]:
    with FakeRealtime() as made:
        yield made


@pytest.fixture
def client(fake: FakeRealtime) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url=fake.url, websocket_base_url=fake.url)


def async_client(fake: FakeRealtime) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="k", base_url=fake.url, websocket_base_url=fake.url)


def until(connection: Any, last: str) -> list[str]:
    seen = []
    for event in connection:
        seen.append(event.type)
        if event.type == last:
            return seen
    raise AssertionError(seen)


async def until_async(connection: Any, last: str) -> list[str]:
    seen = []
    async for event in connection:
        seen.append(event.type)
        if event.type == last:
            return seen
    raise AssertionError(seen)


def used(span: Any) -> dict[str, Any]:
    return {name: value for name, value in span.attributes.items() if ".usage." in name}


@pytest.mark.usefixtures("no_faults")
def test_each_response_on_a_connection_is_a_span(client: openai.OpenAI, recorder: Recorder) -> None:
    with client.realtime.connect(model="gpt-realtime") as connection:
        for _ in range(2):
            connection.response.create()
            until(connection, "response.done")

    spans = recorder.spans()
    assert [span.name for span in spans] == ["chat gpt-realtime", "chat gpt-realtime"]
    assert [used(span) for span in spans] == [REALTIME, REALTIME]
    assert spans[0].attributes["gen_ai.provider.name"] == "openai"
    assert spans[0].attributes["gen_ai.response.model"] == "gpt-realtime"
    assert spans[0].attributes["server.address"] == "127.0.0.1"
    assert spans[0].attributes["gen_ai.response.id"] != spans[1].attributes["gen_ai.response.id"]


@pytest.mark.usefixtures("no_faults")
def test_each_response_on_an_async_connection_is_a_span(fake: FakeRealtime, recorder: Recorder) -> None:
    async def talk() -> list[str]:
        async with async_client(fake).realtime.connect(model="gpt-realtime") as connection:
            await connection.response.create()
            return await until_async(connection, "response.done")

    seen = asyncio.run(talk())

    assert seen == ["session.created", "response.created", "response.output_audio.delta", "response.done"]
    assert recorder.one().name == "chat gpt-realtime"
    assert used(recorder.one()) == REALTIME


LIVE_SPANS = [
    ("chat gpt-5", RESPONSES),
    ("classify gpt-decide-1", {"gen_ai.usage.input_tokens": 64, "gen_ai.usage.output_tokens": 5}),
    ("chat gpt-live-1", {"farebox.usage.input_seconds": 61.5}),
]


@pytest.mark.usefixtures("no_faults")
def test_a_live_session_is_its_seconds_and_the_models_that_it_asks(client: openai.OpenAI, recorder: Recorder) -> None:
    for _ in range(2):  # who listens to a session beside the one that holds it hears the same
        with client.live.connect() as connection:
            connection.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
            until(connection, "session.usage.updated")
            connection.send({"type": "session.close"})
            until(connection, "session.closed")

    spans = [span for span in recorder.spans() if "resp_ws" not in span.attributes.get("gen_ai.response.id", "")]
    assert [(span.name, used(span)) for span in spans] == LIVE_SPANS[1:]
    asked = [span for span in recorder.spans() if span.name == "chat gpt-5"]
    assert [used(span) for span in asked] == [RESPONSES, RESPONSES]


@pytest.mark.usefixtures("no_faults")
def test_an_async_live_session_is_metered(fake: FakeRealtime, recorder: Recorder) -> None:
    async def talk() -> None:
        async with async_client(fake).live.connect() as connection:
            await connection.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
            await until_async(connection, "session.usage.updated")
            await connection.send({"type": "session.close"})
            await until_async(connection, "session.closed")

    asyncio.run(talk())

    assert [(span.name, used(span)) for span in recorder.spans()] == LIVE_SPANS


@pytest.mark.usefixtures("no_faults")
def test_what_the_app_said_is_written_down_by_a_model_of_its_own(client: openai.OpenAI, recorder: Recorder) -> None:
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.session.update(
            session={"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
        )
        connection.input_audio_buffer.commit()
        until(connection, "conversation.item.input_audio_transcription.completed")

    span = recorder.one()
    assert span.name == "transcription gpt-4o-transcribe"
    assert used(span) == TRANSCRIPTION


@pytest.mark.usefixtures("no_faults")
def test_an_app_that_parses_messages_itself_is_metered(client: openai.OpenAI, recorder: Recorder) -> None:
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.response.create()
        kinds = [json.loads(connection.recv_bytes())["type"] for _ in range(4)]

    assert kinds[-1] == "response.done"
    assert used(recorder.one()) == REALTIME


@pytest.mark.usefixtures("no_faults")
def test_a_connection_that_is_left_before_the_end_of_a_response_books_nothing(
    client: openai.OpenAI, recorder: Recorder
) -> None:
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.response.create()
        until(connection, "response.created")

    assert recorder.spans() == []


@pytest.mark.usefixtures("no_faults")
def test_a_cancelled_wait_for_a_message_loses_none(fake: FakeRealtime, recorder: Recorder) -> None:
    async def talk() -> None:
        async with async_client(fake).realtime.connect(model="gpt-realtime") as connection:
            await until_async(connection, "session.created")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.05)
            await connection.response.create()
            await until_async(connection, "response.done")

    asyncio.run(talk())

    assert used(recorder.one()) == REALTIME


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_responses_over_a_connection_are_a_span_each(fake: FakeRealtime, recorder: Recorder, is_async: bool) -> None:
    async def talk() -> None:
        async with async_client(fake).responses.connect() as connection:
            await connection.response.create(model="gpt-5", input="Hi")
            await until_async(connection, "response.completed")

    if is_async:
        asyncio.run(talk())
    else:
        client = openai.OpenAI(api_key="k", base_url=fake.url, websocket_base_url=fake.url)
        with client.responses.connect() as connection:
            connection.response.create(model="gpt-5", input="Hi")
            until(connection, "response.completed")

    assert recorder.one().name == "chat gpt-5"
    assert used(recorder.one()) == RESPONSES


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_connections_of_the_beta_are_metered_too(fake: FakeRealtime, recorder: Recorder, is_async: bool) -> None:
    async def talk() -> None:
        client = async_client(fake)
        async with client.beta.responses.connect() as responses:
            await responses.response.create(model="gpt-5", input="Hi")
            await until_async(responses, "response.completed")
        async with client.beta.realtime.connect(model="gpt-4o-realtime-preview") as realtime:
            await realtime.response.create()
            await until_async(realtime, "response.done")

    if is_async:
        asyncio.run(talk())
    else:
        client = openai.OpenAI(api_key="k", base_url=fake.url, websocket_base_url=fake.url)
        with client.beta.responses.connect() as responses:
            responses.response.create(model="gpt-5", input="Hi")
            until(responses, "response.completed")
        with client.beta.realtime.connect(model="gpt-4o-realtime-preview") as realtime:
            realtime.response.create()
            until(realtime, "response.done")

    assert [span.name for span in recorder.spans()] == ["chat gpt-5", "chat gpt-4o-realtime-preview"]
    assert [used(span) for span in recorder.spans()] == [RESPONSES, REALTIME]


@pytest.mark.usefixtures("no_faults")
def test_who_reads_pays(client: openai.OpenAI, recorder: Recorder) -> None:
    with client.realtime.connect(model="gpt-realtime") as connection, farebox.attribute(user="ada"):
        connection.response.create()
        until(connection, "response.done")

    assert recorder.one().attributes["user.id"] == "ada"


@pytest.mark.parametrize("hook", ["read_request", "read_chunk"])
def test_a_fault_of_ours_changes_nothing_for_the_app(
    client: openai.OpenAI, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(metering._sdks["openai"], hook, fail)

    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.response.create()
        seen = until(connection, "response.done")

    assert seen == ["session.created", "response.created", "response.output_audio.delta", "response.done"]
    assert safety.faults
    assert recorder.spans() == []

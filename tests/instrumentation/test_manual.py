"""`track` and `record_usage`: the spans of calls that no SDK makes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

import farebox
from farebox import safety
from tests.instrumentation.recorder import Recorder

OPENAI_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "secret"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
ANTHROPIC_ANSWER = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-4-5-20250929",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1, "output_tokens": 2},
}


def test_track_takes_tokens_by_hand(recorder: Recorder) -> None:
    with farebox.track(provider="acme", model="m-1", operation="chat", user="ada", tags=["t"]) as call:
        call.set_tokens(100, 50, cache_read_input_tokens=40, cache_write_input_tokens={"5m": 3, "1h": 4, "unsplit": 1})
        call.set_model("m-1-2026", provider="acme.eu")
        call.add_metadata({"a": 1}, b=2)

    span = recorder.one()
    assert span.scope == "farebox.track"
    assert span.name == "chat m-1"
    assert span.attributes["gen_ai.provider.name"] == "acme.eu"
    assert span.attributes["gen_ai.request.model"] == "m-1"
    assert span.attributes["gen_ai.response.model"] == "m-1-2026"
    assert span.attributes["user.id"] == "ada"
    assert span.attributes["farebox.tags"] == ["t"]
    assert json.loads(span.attributes["farebox.metadata"]) == {"a": 1, "b": 2}
    assert recorder.usage() == {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read.input_tokens": 40,
        "cache_write.input_tokens": 8,
        "cache_write_5m.input_tokens": 3,
        "cache_write_1h.input_tokens": 4,
    }


def test_C18_provider_and_model_are_set_under_either_name(recorder: Recorder) -> None:
    with farebox.track(provider="acme", model="m-1") as call:
        call.set_provider_model("m-1-2026", provider="acme.eu")

    attributes = recorder.one().attributes
    assert (attributes["gen_ai.response.model"], attributes["gen_ai.provider.name"]) == ("m-1-2026", "acme.eu")


def test_track_reads_answers_of_either_shape(recorder: Recorder) -> None:
    with farebox.track(provider="openai", model="gpt-4o") as call:
        call.set_response(OPENAI_ANSWER)
    with farebox.track(provider="anthropic", model="claude-sonnet-4-5") as call:
        call.set_response(ANTHROPIC_ANSWER)

    first, second = recorder.spans()
    assert first.attributes["gen_ai.usage.input_tokens"] == 10
    assert first.attributes["gen_ai.response.id"] == "chatcmpl-1"
    assert second.attributes["gen_ai.usage.input_tokens"] == 16
    assert second.attributes["gen_ai.response.finish_reasons"] == ["end_turn"]
    assert "secret" not in repr(recorder.spans())


def test_track_marks_the_exception_that_passes(recorder: Recorder) -> None:
    with pytest.raises(ZeroDivisionError), farebox.track(provider="acme", model="m"):
        _ = 1 / 0

    span = recorder.one()
    assert span.status == 2
    assert span.message == "division by zero"
    assert span.attributes["error.type"] == "ZeroDivisionError"


def test_track_takes_an_error_that_was_handled(recorder: Recorder) -> None:
    with farebox.track(provider="acme", model="m") as call:
        call.set_error(TimeoutError("no answer\nsecond line"))

    assert recorder.one().message == "no answer"
    assert recorder.one().attributes["farebox.outcome"] == "error"


def test_track_serves_async_blocks_and_sees_their_cancellation(recorder: Recorder) -> None:
    async def work() -> None:
        async with farebox.track(provider="acme", model="m"):
            await asyncio.sleep(30)

    async def run() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

    assert recorder.one().attributes["farebox.outcome"] == "cancelled"


def test_track_takes_the_time(recorder: Recorder) -> None:
    with farebox.track(provider="acme", model="m"):
        time.sleep(0.02)

    span = recorder.one()
    assert 20_000_000 <= span.end_ns - span.start_ns < 2_000_000_000


def test_track_never_raises_for_what_it_is_given(recorder: Recorder) -> None:
    odd: Any = object()
    with farebox.track(provider="acme", model="m", nonsense=1) as call:
        call.set_response(odd)
        call.set_response({"usage": {"prompt_tokens": "many"}})
        call.set_tokens(1, fantasy_tokens=2)
        call.add_metadata(odd)

    assert recorder.one().attributes["gen_ai.usage.input_tokens"] == 1
    assert safety.faults["attribute.nonsense"] == 1
    assert safety.faults["usage.fantasy_tokens"] == 1


def test_record_usage_records_every_member(recorder: Recorder) -> None:
    before_ns = time.time_ns()
    is_recorded = farebox.record_usage(
        provider="openai",
        model="gpt-4o-2024-08-06",
        request_model="gpt-4o",
        response_id="r-1",
        input_tokens=10,
        cache_read_input_tokens=1,
        cache_write_input_tokens=2,
        audio_input_tokens=3,
        image_input_tokens=4,
        video_input_tokens=0,
        output_tokens=20,
        reasoning_output_tokens=5,
        audio_output_tokens=6,
        image_output_tokens=7,
        input_images=1,
        output_images=2,
        input_seconds=1.5,
        output_seconds=2.5,
        input_characters=100,
        output_characters=200,
        pages=3,
        search_units=4,
        requests=1,
        web_searches=2,
        search_context_size="low",
        service_tier="batch",
        batch=True,
        region="eu",
        stated_cost="0.0105",
        duration_s=2.0,
        user="ada",
    )

    span = recorder.one()
    assert is_recorded is True
    assert span.scope == "farebox.record_usage"
    assert abs(span.start_ns - (before_ns - 2_000_000_000)) < 1_000_000_000
    assert recorder.usage() == {
        "input_tokens": 10,
        "cache_read.input_tokens": 1,
        "cache_write.input_tokens": 2,
        "audio.input_tokens": 3,
        "image.input_tokens": 4,
        "video.input_tokens": 0,
        "output_tokens": 20,
        "reasoning.output_tokens": 5,
        "audio.output_tokens": 6,
        "image.output_tokens": 7,
        "input_images": 1,
        "output_images": 2,
        "input_seconds": 1.5,
        "output_seconds": 2.5,
        "input_characters": 100,
        "output_characters": 200,
        "pages": 3,
        "search_units": 4,
        "requests": 1,
        "web_searches": 2,
        "search_context_size": "low",
    }
    attributes = span.attributes
    assert attributes["farebox.service_tier"] == "batch"
    assert attributes["farebox.batch"] is True
    assert attributes["farebox.region"] == "eu"
    assert attributes["farebox.stated_cost"] == "0.0105"
    assert attributes["gen_ai.request.model"] == "gpt-4o"
    assert attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"
    assert attributes["user.id"] == "ada"


def test_an_unknown_provider_is_absent(recorder: Recorder) -> None:
    farebox.record_usage(model="gpt-4o", input_tokens=1)

    assert "gen_ai.provider.name" not in recorder.one().attributes


def test_record_usage_answers_false_and_never_raises(recorder: Recorder) -> None:
    odd: Any = {"cache_write_input_tokens": {"5m": "many"}}
    assert farebox.record_usage(model="m", **odd) is False
    with farebox.suppress():
        assert farebox.record_usage(model="m") is False

    assert recorder.spans() == []

"""Estimates stand beside missing counts, only where they were asked for."""

from __future__ import annotations

from typing import Any

import openai
import pytest

import farebox
from farebox.estimating import characters
from tests.fakes.provider import FakeProvider
from tests.instrumentation.recorder import Recorder

pytestmark = pytest.mark.usefixtures("no_faults")

MESSAGES: Any = [
    {"role": "user", "content": "12345678"},
    {"role": "user", "content": [{"type": "text", "text": "1234"}, {"type": "image_url", "image_url": {"url": "x"}}]},
]
NO_USAGE: Any = {"include_usage": False}


@pytest.fixture
def estimating(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_ESTIMATE_TOKENS", "1")
    farebox.uninstrument()
    farebox.instrument()


def chat(provider: FakeProvider, **arguments: Any) -> Any:
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k")
    return client.chat.completions.create(**{"model": "gpt-4o", "messages": MESSAGES, **arguments})


@pytest.mark.usefixtures("estimating")
def test_an_answer_without_usage_is_estimated(provider: FakeProvider, recorder: Recorder) -> None:
    chat(provider, model="no-usage:gpt-4o")

    attributes = recorder.one().attributes
    assert attributes["farebox.estimated_input_tokens"] == 3  # 12 characters
    assert attributes["farebox.estimated_output_tokens"] == 8  # "The fare is two cents a ride."
    assert recorder.usage() == {}


@pytest.mark.usefixtures("estimating")
@pytest.mark.parametrize("count", [9, 2])
def test_a_stream_without_usage_is_estimated_as_far_as_it_was_read(
    provider: FakeProvider, recorder: Recorder, count: int
) -> None:
    stream = chat(provider, stream=True, stream_options=NO_USAGE)
    for _ in range(count):
        next(stream)
    stream.close()

    attributes = recorder.one().attributes
    assert attributes["farebox.estimated_input_tokens"] == 3
    assert attributes["farebox.estimated_output_tokens"] == {9: 8, 2: 2}[count]


@pytest.mark.usefixtures("estimating")
def test_what_the_provider_said_is_not_estimated(provider: FakeProvider, recorder: Recorder) -> None:
    chat(provider)

    assert not [name for name in recorder.one().attributes if "estimated" in name]


def test_nothing_is_estimated_unasked(provider: FakeProvider, recorder: Recorder) -> None:
    list(chat(provider, stream=True, stream_options=NO_USAGE))

    assert not [name for name in recorder.one().attributes if "estimated" in name]


@pytest.mark.parametrize(
    ("part", "length"),
    [
        ({"input": "1234"}, 4),
        ({"input": ["12", "34"]}, 4),
        ({"input": [{"role": "user", "content": "123"}]}, 3),
        ({"system": [{"type": "text", "text": "12"}], "messages": [{"content": "34"}]}, 4),
        ({"model": "gpt-4o", "tools": [{"name": "x"}]}, 0),
        ({"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}, 2),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "123"}}, 3),
        ({"type": "response.output_text.delta", "delta": "123"}, 3),
        (None, 0),
    ],
)
def test_only_billed_text_is_measured(part: Any, length: int) -> None:
    assert characters(part) == length

"""Odd answers: a strange member costs itself, never the counts beside it, and the app sees what it would see anyway."""

from __future__ import annotations

import asyncio
import copy
import decimal
import importlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

import farebox
from farebox.reading import Reading, Request, count
from farebox.sdks import SDKS
from tests.fakes.answering import FakeAnswers
from tests.instrumentation.recorder import Recorder

MESSAGES: Any = [{"role": "user", "content": "What does a ride cost?"}]
GONE = object()
ODD: tuple[Any, ...] = (
    GONE,
    None,
    "",
    "12",
    "1e5",
    "twelve",
    -1,
    1.5,
    True,
    math.nan,
    math.inf,
    2**70,
    [],
    [None],
    {},
    {"a": 1},
)

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens_details": {"ttl_30m_tokens": 1}},
    "completion_tokens_details": {"reasoning_tokens": 5},
    "cost": 0.5,
}
ANTHROPIC_USAGE = {
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_read_input_tokens": 5,
    "cache_creation_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 1},
    "output_tokens_details": {"thinking_tokens": 6},
    "server_tool_use": {"web_search_requests": 2},
    "iterations": [
        {"type": "compaction", "input_tokens": 100, "output_tokens": 7},
        {"type": "advisor_message", "model": "m", "input_tokens": 4, "output_tokens": 1},
    ],
}
GOOGLE_USAGE = {
    "promptTokenCount": 10,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 7,
    "toolUsePromptTokenCount": 2,
    "totalTokenCount": 24,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}, {"modality": "AUDIO", "tokenCount": 2}],
}
BEDROCK_USAGE = {
    "inputTokens": 10,
    "outputTokens": 3,
    "cacheReadInputTokens": 2,
    "cacheWriteInputTokens": 1,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 1}],
}
COHERE_USAGE = {"billed_units": {"input_tokens": 10.0, "output_tokens": 3.0, "search_units": 1}, "cached_tokens": 4}
PART = {"prompt_tokens": 50, "completion_tokens": 25, "total_tokens": 75}


def chat(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "x"}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "delta": message}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}


#: SDK, operation, what is read, and whether it is a chunk.
ANSWERS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "openai chat": ("openai", "chat", chat(usage=USAGE), False),
    "openai chunk": ("openai", "chat", chat(usage=USAGE), True),
    "openai response": (
        "openai",
        "chat",
        {
            "id": "r1",
            "object": "response",
            "status": "completed",
            "model": "m",
            "output": [{"type": "web_search_call", "action": {"type": "search"}}],
            "usage": {"input_tokens": 30, "output_tokens": 9, "total_tokens": 39},
        },
        False,
    ),
    "openai event": (
        "openai",
        "chat",
        {"type": "response.completed", "response": {"id": "r2", "usage": {"input_tokens": 30, "output_tokens": 9}}},
        True,
    ),
    "openai video": ("openai", "video_generation", {"id": "v", "status": "completed", "seconds": "8"}, False),
    "openai transcription": ("openai", "transcription", {"text": "a", "duration": "9.5"}, False),
    "groq chat": (
        "groq",
        "chat",
        chat(usage=USAGE, usage_breakdown={"models": [{"model": "a", "usage": PART}, {"model": "b", "usage": PART}]}),
        False,
    ),
    "groq chunk": ("groq", "chat", chat(x_groq={"usage": USAGE}), True),
    "together chat": ("together", "chat", chat(usage=USAGE), False),
    "litellm chat": ("litellm", "chat", chat(usage=USAGE), False),
    "azure chat": ("azure_ai_inference", "chat", chat(usage=USAGE), False),
    "mistral chat": ("mistralai", "chat", chat(usage=USAGE), False),
    "mistral chunk": ("mistralai", "chat", {"data": chat(usage=USAGE)}, True),
    "anthropic message": (
        "anthropic",
        "chat",
        {"id": "m1", "type": "message", "model": "m", "stop_reason": "end_turn", "usage": ANTHROPIC_USAGE},
        False,
    ),
    "anthropic delta": (
        "anthropic",
        "chat",
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ANTHROPIC_USAGE},
        True,
    ),
    "google content": (
        "google_genai",
        "generate_content",
        {
            "responseId": "r",
            "candidates": [{"finishReason": "STOP", "groundingMetadata": {"webSearchQueries": ["a"]}}],
            "usageMetadata": GOOGLE_USAGE,
        },
        False,
    ),
    "cohere chat": ("cohere", "chat", {"id": "x", "finish_reason": "COMPLETE", "usage": COHERE_USAGE}, False),
    "cohere end": ("cohere", "chat", {"type": "message-end", "delta": {"usage": COHERE_USAGE}}, True),
    "ollama chat": ("ollama", "chat", {"model": "m", "done": True, "prompt_eval_count": 10, "eval_count": 3}, False),
    "bedrock converse": (
        "bedrock",
        "chat",
        {"ResponseMetadata": {"RequestId": "r", "HTTPHeaders": {}}, "stopReason": "end_turn", "usage": BEDROCK_USAGE},
        False,
    ),
    "bedrock headers": (
        "bedrock",
        "chat",
        {"ResponseMetadata": {"HTTPHeaders": {"x-amzn-bedrock-input-token-count": "10"}}},
        False,
    ),
    "bedrock body": ("bedrock", "chat", {"id": "m", "stop_reason": "end_turn", "usage": ANTHROPIC_USAGE}, False),
    "bedrock event": ("bedrock", "chat", {"metadata": {"usage": BEDROCK_USAGE}}, True),
}


def places(thing: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each member of an answer, however deep."""
    members = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for name, value in members:
        yield (*path, name)
        yield from places(value, (*path, name))


def changed(answer: dict[str, Any], path: tuple[Any, ...], odd: Any) -> dict[str, Any]:
    answer = copy.deepcopy(answer)
    inside: Any = answer
    for name in path[:-1]:
        inside = inside[name]
    if odd is GONE:
        del inside[path[-1]]
    else:
        inside[path[-1]] = odd
    return answer


def read(name: str, answer: dict[str, Any]) -> Reading:
    sdk, operation, _, is_chunk = ANSWERS[name]
    module = importlib.import_module(f"farebox.sdks.{sdk}")
    reading = Reading(Request(operation, "p", "m", is_stream=is_chunk))
    (module.read_chunk if is_chunk else module.read_response)(answer, reading)
    return reading


@pytest.mark.parametrize("name", ANSWERS)
def test_no_member_of_an_answer_keeps_the_others_from_being_read(name: str) -> None:
    answer = ANSWERS[name][2]
    for path in places(answer):
        for odd in ODD:
            reading = read(name, changed(answer, path, odd))
            for made in (reading.attributes, *reading.children):
                for attribute, value in made.items():
                    is_count = ".usage." in attribute
                    assert not is_count or (type(value) in (int, float) and abs(value) < 2**63), (path, odd, attribute)  # type: ignore[arg-type]


def test_every_sdk_has_odd_answers() -> None:
    assert {sdk for sdk, *_ in ANSWERS.values()} == set(SDKS) - {"huggingface_hub"}  # which reads through openai's


@pytest.mark.parametrize(
    ("value", "number"),
    [(0, 0), (12, 12), (1.5, 1.5), (-1, -1), ("12", 12), ("0", 0), (2**63 - 1, 2**63 - 1)],
)
def test_a_count_is_a_number_or_digits(value: object, number: float) -> None:
    assert count(value) == number


@pytest.mark.parametrize(
    "value", [None, True, "", "1e5", "-3", "twelve", "9" * 20, math.nan, math.inf, 2**63, -(2**70), [], {"a": 1}]
)
def test_what_no_span_can_carry_is_no_count(value: object) -> None:
    assert count(value) is None


class Number:
    """An integer of another library."""

    def __index__(self) -> int:
        return 7


def test_counts_by_hand_are_numbers_of_any_library(recorder: Recorder) -> None:
    given: Any = {"input_tokens": Number(), "output_tokens": decimal.Decimal(50), "pages": "3", "requests": 2**70}
    writes: Any = {"5m": Number(), "1h": None}

    assert farebox.record_usage(provider="acme", model="m", cache_write_input_tokens=writes, **given)

    assert recorder.usage() == {
        "input_tokens": 7,
        "output_tokens": 50,
        "pages": 3,
        "cache_write.input_tokens": 7,
        "cache_write_5m.input_tokens": 7,
    }


# Through the real SDKs.


@pytest.fixture
def host() -> Iterator[FakeAnswers]:
    with FakeAnswers() as fake:
        yield fake


@pytest.fixture
def client(host: FakeAnswers) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{host.url}/v1", api_key="k", max_retries=0) as made:
        yield made


def part(content: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None if content else "stop"}
    return {
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more,
    }  # fmt: skip


def tokens(prompt: Any, completion: Any, **more: Any) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": None, **more}}


ALONE: dict[str, Any] = {"choices": []}
USAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "null": ({"usage": None}, {}),
    "missing": ({}, {}),
    "empty": ({"usage": {}}, {}),
    "texts": (tokens("100", "50"), {"input_tokens": 100, "output_tokens": 50}),
    "one is no number": (tokens(100, "fifty"), {"input_tokens": 100}),
    "too large": (tokens(2**70, 50), {"output_tokens": 50}),
    "true": (tokens(100, True), {"input_tokens": 100}),
    "negative": (tokens(-1, 50), {"input_tokens": -1, "output_tokens": 50}),
    "null details": (tokens(100, 50, prompt_tokens_details=None), {"input_tokens": 100, "output_tokens": 50}),
    "more cached than read": (
        tokens(100, 50, prompt_tokens_details={"cached_tokens": 900}),
        {"input_tokens": 100, "cache_read.input_tokens": 900, "output_tokens": 50},
    ),
    "unknown members": (tokens(100, 50, dreams={"tokens": 7}), {"input_tokens": 100, "output_tokens": 50}),
    "zeros": (tokens(0, 0, total_tokens=0), {"input_tokens": 0, "output_tokens": 0}),
    "no choices": ({**tokens(100, 0), "choices": []}, {"input_tokens": 100, "output_tokens": 0}),
    "null choices": ({**tokens(100, 0), "choices": None}, {"input_tokens": 100, "output_tokens": 0}),
}


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("name", USAGES)
@pytest.mark.parametrize("is_raw", [False, True], ids=["parsed", "raw"])
def test_an_odd_usage_says_what_it_says(
    client: openai.OpenAI, host: FakeAnswers, recorder: Recorder, name: str, is_raw: bool
) -> None:
    more, expected = USAGES[name]
    host.says = chat(**more)

    create: Any = client.chat.completions.with_raw_response.create if is_raw else client.chat.completions.create
    create(model="m", messages=MESSAGES)

    assert recorder.usage() == expected


FULL = tokens(100, 50)
READ = {"input_tokens": 100, "output_tokens": 50}
STREAMS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "in each chunk, growing": ([part("a", **tokens(100, 10)), part("b", **tokens(100, 30)), part(**FULL)], READ),
    "in each chunk and then alone": (
        [part("a", **tokens(100, 10)), part(**tokens(100, 50)), part(**ALONE, **FULL)],
        READ,
    ),
    "in the first chunk only": ([part("a", **FULL), part("b"), part()], READ),
    "alone in the middle": ([part("a"), part(**ALONE, **FULL), part("b"), part()], READ),
    "alone, twice": ([part("a"), part(), part(**ALONE, **tokens(100, 49)), part(**ALONE, **FULL)], READ),
    "null choices": ([part("a"), part(choices=None, **FULL)], READ),
    "a filter's chunk first": ([part(id="", model="", **ALONE), part("a"), part(**ALONE, **FULL)], READ),
    "a strange chunk before": ([part("a"), part(choices={"0": "b"}), part(), part(**ALONE, **FULL)], READ),
    "never": ([part("a"), part()], {}),
}


def shown(chunks: Any) -> list[Any]:
    return [chunk.to_dict() for chunk in chunks]


def unmetered(client: openai.OpenAI, host: FakeAnswers, says: list[dict[str, Any]]) -> list[Any]:
    """What the app sees without us: the chunks that it has not asked for are not sent then."""
    host.says = [chunk for chunk in says if chunk["choices"] or "usage" not in chunk]
    with farebox.suppress():
        return shown(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("name", STREAMS)
def test_the_usage_of_a_stream_counts_wherever_it_stands(
    client: openai.OpenAI, host: FakeAnswers, recorder: Recorder, name: str
) -> None:
    says, expected = STREAMS[name]
    before = unmetered(client, host, says)
    host.says = says

    seen = shown(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))

    assert (seen, recorder.usage()) == (before, expected)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("name", STREAMS)
def test_the_usage_of_a_raw_stream_counts_wherever_it_stands(
    client: openai.OpenAI, host: FakeAnswers, recorder: Recorder, name: str
) -> None:
    host.says, expected = STREAMS[name]

    raw = client.chat.completions.with_streaming_response.create(model="m", messages=MESSAGES, stream=True)
    with raw as response:
        response.read()

    assert recorder.usage() == expected


@pytest.mark.usefixtures("no_faults")
def test_a_stream_without_an_end_mark_completes(client: openai.OpenAI, host: FakeAnswers, recorder: Recorder) -> None:
    host.says, host.is_done_said = [part("a"), part(**FULL)], False

    list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))

    assert recorder.usage() == READ
    assert "farebox.outcome" not in recorder.one().attributes


@pytest.mark.usefixtures("no_faults")
def test_a_stream_that_is_read_through_itertools_is_read_once(
    client: openai.OpenAI, host: FakeAnswers, recorder: Recorder
) -> None:
    host.says = [part("a"), part("b"), part(), part(**ALONE, **FULL)]
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)

    first = list(itertools.islice(stream, 1))
    one, other = itertools.tee(copy.copy(stream))

    assert [len(first), len(list(one)), len(list(other))] == [1, 2, 2]
    assert recorder.usage() == READ


@pytest.mark.usefixtures("no_faults")
def test_an_error_beside_its_usage_is_a_failed_call_with_tokens(
    client: openai.OpenAI, host: FakeAnswers, recorder: Recorder
) -> None:
    host.says = [part("a", **tokens(100, 1)), {"error": {"message": "Overloaded", "code": 529}}]

    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))

    span = recorder.one()
    assert span.attributes["gen_ai.usage.input_tokens"] == 100
    assert span.attributes["error.type"] == "openai.APIError"


def message(**usage: Any) -> list[dict[str, Any]]:
    begun: dict[str, Any] = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [],
        "stop_reason": None,
    }
    return [
        {"type": "message_start", "message": {**begun, "usage": {"input_tokens": 10, "output_tokens": 1}}},
        {"type": "ping"},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_delta", "delta": {}, "usage": usage},
        {"type": "message_stop"},
    ]


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"output_tokens": 20}, {"input_tokens": 10, "output_tokens": 20}),
        ({"output_tokens": None}, {"input_tokens": 10, "output_tokens": 5}),
        ({"output_tokens": "20", "input_tokens": "300"}, {"input_tokens": 300, "output_tokens": 20}),
        (
            {"output_tokens": 20, "cache_read_input_tokens": 7},
            {"input_tokens": 17, "cache_read.input_tokens": 7, "output_tokens": 20},
        ),
    ],
)
def test_the_last_word_of_a_message_stream_counts(
    host: FakeAnswers, recorder: Recorder, usage: dict[str, Any], expected: dict[str, Any]
) -> None:
    host.says, host.is_done_said = message(**usage), False

    async def run() -> None:
        async with anthropic.AsyncAnthropic(base_url=host.url, api_key="k", max_retries=0) as client:
            request: Any = {"model": "c", "messages": MESSAGES, "max_tokens": 10}
            async for _ in await client.messages.create(**request, stream=True):
                pass

    asyncio.run(run())

    assert recorder.usage() == expected

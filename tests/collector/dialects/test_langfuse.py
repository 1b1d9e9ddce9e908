"""Attribute sets as langfuse 5.0.4 writes them: its OpenAI wrapper, its LangChain handler, and observations by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.reading import read

SCOPE = "langfuse-sdk"
GENERATION: dict[str, AttributeValue] = {
    "langfuse.observation.type": "generation",
    "langfuse.observation.model.name": "gpt-4o-mini",
    "langfuse.observation.input": "hi",
    "langfuse.trace.tags": ["a", "b"],
    "langfuse.environment": "prod",
    "user.id": "u-1",
    "session.id": "s-1",
}


def usage_of(details: str) -> tuple[Usage, str | None]:
    event = read(GENERATION | {"langfuse.observation.usage_details": details}, scope=SCOPE, kind=1)
    return event.usage, event.usage_rule


def test_a_generation_is_a_call() -> None:
    event = read(GENERATION | {"langfuse.observation.cost_details": '{"total": 0.5}'}, scope=SCOPE, kind=1)

    assert (event.dialect, event.kind, event.operation, event.provider) == ("langfuse", "call", "chat", None)
    assert (event.request_model, event.tags, event.stated_cost) == ("gpt-4o-mini", ["a", "b"], Decimal("0.5"))
    assert (event.user, event.session) == ("u-1", "s-1")


def test_the_object_of_openai_has_its_parts_inside() -> None:
    details = (
        '{"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306, "prompt_tokens_details": '
        '{"cached_tokens": 1920, "audio_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 100}}'
    )

    assert usage_of(details) == (
        Usage(
            input_tokens=2006,
            output_tokens=300,
            cache_read_input_tokens=1920,
            audio_input_tokens=3,
            reasoning_output_tokens=100,
        ),
        None,
    )


def test_the_object_of_openai_s_responses_has_its_parts_inside_too() -> None:
    details = (
        '{"input_tokens": 2006, "output_tokens": 300, "total_tokens": 2306, "input_tokens_details": '
        '{"cached_tokens": 1920, "cache_write_tokens": 50}, "output_tokens_details": {"reasoning_tokens": 100}}'
    )

    assert usage_of(details) == (
        Usage(
            input_tokens=2006,
            output_tokens=300,
            cache_read_input_tokens=1920,
            cache_write_input_tokens={"unsplit": 50},
            reasoning_output_tokens=100,
        ),
        None,
    )


def test_an_embedding_is_a_call() -> None:
    event = read(GENERATION | {"langfuse.observation.type": "embedding"}, scope=SCOPE)

    assert (event.kind, event.operation) == ("call", "embeddings")


def test_the_parts_of_its_own_shape_are_summed() -> None:
    details = (
        '{"input": 36, "input_cache_read": 1920, "input_audio": 3, "input_cache_creation": 50, "output": 200, '
        '"output_reasoning": 100, "total": 2309}'
    )

    assert usage_of(details) == (
        Usage(
            input_tokens=2009,
            output_tokens=300,
            cache_read_input_tokens=1920,
            cache_write_input_tokens={"unsplit": 50},
            audio_input_tokens=3,
            reasoning_output_tokens=100,
        ),
        "disjoint_parts",
    )


def test_anthropic_s_cached_tokens_are_parts_too() -> None:
    details = (
        '{"input": 10, "output": 200, "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 1000, '
        '"cache_creation_ephemeral_5m_input_tokens": 1000}'
    )

    assert usage_of(details) == (
        Usage(
            input_tokens=6010,
            output_tokens=200,
            cache_read_input_tokens=5000,
            cache_write_input_tokens={"unsplit": 1000},
        ),
        "disjoint_parts",
    )


def test_what_was_written_is_kept_beside_the_sums() -> None:
    details = '{"input": 10, "output": 2, "cache_read_input_tokens": 5, "note": 7}'

    event = read(GENERATION | {"langfuse.observation.usage_details": details}, scope=SCOPE)

    assert event.raw_usage == {"input": 10, "output": 2, "cache_read_input_tokens": 5}


def test_a_total_that_leaves_the_parts_out_proves_that_they_are_inside() -> None:
    details = '{"input": 2006, "input_cached_tokens": 1920, "output": 300, "total": 2306}'

    assert usage_of(details) == (
        Usage(input_tokens=2006, output_tokens=300, cache_read_input_tokens=1920),
        None,
    )


def test_a_priority_tier_says_the_same_tokens_again() -> None:
    details = '{"input": 10, "output": 5, "input_priority": 10, "output_priority": 5}'

    assert usage_of(details) == (Usage(input_tokens=10, output_tokens=5), None)


@pytest.mark.parametrize("details", ["", "[]", '{"input": ', "[" * 5000, '{"total": 5}'])
def test_what_is_no_usage_says_nothing(details: str) -> None:
    assert usage_of(details) == (Usage(), None)


def test_an_impossible_count_is_flagged() -> None:
    event = read(GENERATION | {"langfuse.observation.usage_details": '{"input": -4, "output": 5}'}, scope=SCOPE)

    assert (event.usage, event.tokens_source) == (Usage(input_tokens=0, output_tokens=5), "clamped")


@pytest.mark.parametrize(
    "details",
    [
        '{"input": "10", "input_cached_tokens": 4, "output": 5}',
        '{"input": {"text": 10}, "input_cached_tokens": 4, "output": 5}',
        '{"input": 0.5, "input_cached_tokens": 4, "output": 5, "total": [9]}',
    ],
)
def test_a_count_of_another_type_is_flagged(details: str) -> None:
    event = read(GENERATION | {"langfuse.observation.usage_details": details}, scope=SCOPE)

    assert event.tokens_source == "clamped"
    assert event.usage == Usage(input_tokens=4, output_tokens=5, cache_read_input_tokens=4)


@pytest.mark.parametrize("observed", ["span", "agent", "tool", "chain", "retriever", "event"])
def test_other_observations_are_containers(observed: str) -> None:
    assert read({"langfuse.observation.type": observed}, scope=SCOPE).kind == "container"

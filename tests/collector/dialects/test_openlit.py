"""Attribute sets as openlit 1.45.0 writes them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from farebox_collector import dialects
from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.reading import read, span

COMMON: dict[str, AttributeValue] = {
    "telemetry.sdk.name": "openlit",
    "gen_ai.operation.name": "chat",
    "deployment.environment": "prod",
    "service.name": "shop",
    "gen_ai.request.stream": False,
    "gen_ai.server.time_to_first_token": 0.25,
    "gen_ai.client.token.usage": 210,
    "gen_ai.usage.cost": 0.0042,
    "gen_ai.request.user": "u-1",
}
ANTHROPIC: dict[str, AttributeValue] = {
    "gen_ai.provider.name": "anthropic",
    "server.address": "api.anthropic.com",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
    "gen_ai.response.id": "msg_0123456789",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.cache_creation.input_tokens": 1000,
}
CACHED = Usage(
    input_tokens=6010,
    output_tokens=200,
    cache_read_input_tokens=5000,
    cache_write_input_tokens={"unsplit": 1000},
)


def test_anthropic_s_cached_tokens_are_added_to_its_input() -> None:
    event = read(COMMON | ANTHROPIC, scope="openlit.instrumentation.anthropic")

    assert (event.usage, event.usage_rule) == (CACHED, "input_excludes_cache")
    assert event.raw_usage == {
        "gen_ai.usage.cache_creation.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 5000,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 200,
    }
    assert (event.dialect, event.kind, event.user) == ("openlit", "call", "u-1")
    assert (event.service, event.stated_cost) == ("shop", Decimal("0.0042"))


def test_langchain_s_input_includes_them_under_the_same_provider() -> None:
    folded: dict[str, AttributeValue] = {"gen_ai.usage.input_tokens": 6010}

    event = read(COMMON | ANTHROPIC | folded, scope="openlit.instrumentation.langchain")

    assert (event.usage, event.usage_rule) == (CACHED, None)


def test_openai_s_input_includes_them() -> None:
    event = read(
        COMMON
        | {
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.usage.input_tokens": 2006,
            "gen_ai.usage.output_tokens": 300,
            "gen_ai.usage.cache_read.input_tokens": 1920,
            "gen_ai.usage.reasoning_tokens": 100,
        },
        scope="openlit.instrumentation.openai",
    )

    assert event.usage == Usage(
        input_tokens=2006, output_tokens=300, cache_read_input_tokens=1920, reasoning_output_tokens=100
    )
    assert event.usage_rule is None


def test_google_s_thoughts_are_added_to_its_output() -> None:
    event = read(
        COMMON
        | {
            "gen_ai.provider.name": "gcp.gemini",
            "gen_ai.request.model": "gemini-2.5-flash",
            "gen_ai.usage.input_tokens": 50,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.reasoning_tokens": 80,
        },
        scope="openlit.instrumentation.google_ai_studio",
    )

    assert event.usage == Usage(input_tokens=50, output_tokens=100, reasoning_output_tokens=80)
    assert event.usage_rule == "output_excludes_reasoning"


def test_older_details_are_read() -> None:
    event = read(
        COMMON
        | {
            "gen_ai.request.model": "gpt-4o-audio-preview",
            "gen_ai.usage.input_tokens": 20,
            "gen_ai.usage.prompt_tokens_details.cached_tokens": 8,
            "gen_ai.usage.completion_tokens_details.audio_tokens": 5,
            "gen_ai.usage.completion_tokens_details.reasoning_tokens": 0,
        },
        scope="openlit.instrumentation.openai",
    )

    assert event.usage == Usage(
        input_tokens=20, cache_read_input_tokens=8, audio_output_tokens=5, reasoning_output_tokens=0
    )


def test_a_cost_of_zero_is_a_model_that_its_list_lacks() -> None:
    event = read(COMMON | ANTHROPIC | {"gen_ai.usage.cost": 0}, scope="openlit.instrumentation.anthropic")

    assert event.stated_cost is None


@pytest.mark.parametrize(
    ("operation", "kind", "named"),
    [
        ("image", "call", "image_generation"),
        ("audio", "call", "speech"),
        ("speech_to_text", "call", "transcription"),
        ("invoke_workflow", "container", "invoke_workflow"),
        ("execute_task", "container", "execute_task"),
        ("invoke_agent", "container", "invoke_agent"),
    ],
)
def test_its_operations_are_calls_or_containers(operation: str, kind: str, named: str) -> None:
    event = read(COMMON | {"gen_ai.operation.name": operation}, scope="openlit.instrumentation.openai")

    assert (event.kind, event.operation) == (kind, named)


def test_vector_stores_are_no_generative_ai() -> None:
    stored: dict[str, AttributeValue] = {"telemetry.sdk.name": "openlit", "gen_ai.operation.name": "vectordb"}

    assert dialects.read(span(stored, scope="openlit.instrumentation.chroma")) is None

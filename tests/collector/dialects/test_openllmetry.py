"""Attribute sets as opentelemetry-instrumentation-openai, -anthropic and -bedrock 0.62.4 and older write them."""

from __future__ import annotations

import pytest

from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.reading import read

OPENAI = "opentelemetry.instrumentation.openai.v1"
ANTHROPIC = "opentelemetry.instrumentation.anthropic"
CHAT: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.response.id": "chatcmpl-0123456789",
    "gen_ai.openai.api_base": "https://api.openai.com/v1/",
    "gen_ai.is_streaming": False,
    "gen_ai.user": "u-1",
    "gen_ai.usage.total_tokens": 2306,
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.cache_read.input_tokens": 1920,
    "gen_ai.usage.reasoning_tokens": 100,
    "openai.response.service_tier": "default",
    "traceloop.workflow.name": "answer",
    "traceloop.entity.path": "planner",
    "traceloop.association.properties.session_id": "s-1",
}
ANTHROPIC_CHAT: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
    "gen_ai.response.id": "msg_0123456789",
    "gen_ai.usage.input_tokens": 6010,
    "gen_ai.usage.output_tokens": 201,
    "gen_ai.usage.total_tokens": 6211,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.cache_creation.input_tokens": 1000,
}


def test_a_call_of_openai_is_read() -> None:
    event = read(CHAT, scope=OPENAI)

    assert event.usage == Usage(
        input_tokens=2006, output_tokens=300, cache_read_input_tokens=1920, reasoning_output_tokens=100
    )
    assert (event.dialect, event.kind, event.operation, event.usage_rule) == ("openllmetry", "call", "chat", None)
    assert (event.provider, event.response_model) == ("openai", "gpt-4o-mini-2024-07-18")
    assert (event.user, event.session, event.action, event.stream) == ("u-1", "s-1", "answer", False)
    assert (event.service_tier, event.response_id) == ("default", "chatcmpl-0123456789")


def test_the_names_of_older_versions_are_read() -> None:
    event = read(
        {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o-mini",
            "llm.is_streaming": True,
            "llm.usage.total_tokens": 25,
            "gen_ai.usage.prompt_tokens": 20,
            "gen_ai.usage.completion_tokens": 5,
            "gen_ai.usage.cache_read_input_tokens": 4,
            "llm.usage.reasoning_tokens": 2,
            "llm.user": "u-1",
            "traceloop.association.properties.user_id": "u-2",
        },
        scope=OPENAI,
    )

    assert event.usage == Usage(input_tokens=20, output_tokens=5, cache_read_input_tokens=4, reasoning_output_tokens=2)
    assert (event.provider, event.operation, event.stream, event.user) == ("openai", "chat", True, "u-2")


def test_anthropic_s_input_includes_cached_tokens_already() -> None:
    event = read(ANTHROPIC_CHAT, scope=ANTHROPIC)

    assert (event.usage.input_tokens, event.usage.output_tokens, event.usage_rule) == (6010, 201, None)
    assert event.usage.cache_write_input_tokens == {"unsplit": 1000}


def test_the_output_of_anthropic_s_streams_is_marked() -> None:
    event = read(ANTHROPIC_CHAT | {"gen_ai.is_streaming": True}, scope=ANTHROPIC)

    assert (event.usage.output_tokens, event.usage_rule) == (201, "output_includes_placeholder")
    assert event.raw_usage is not None
    assert event.raw_usage["gen_ai.usage.output_tokens"] == 201


def test_bedrock_s_cached_tokens_are_added_to_its_input() -> None:
    event = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.request.model": "claude-sonnet-4-5-20250929-v1:0",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 200,
            "gen_ai.usage.total_tokens": 210,
            "gen_ai.usage.cache_read.input_tokens": 5000,
            "gen_ai.usage.cache_creation.input_tokens": 1000,
        },
        scope="opentelemetry.instrumentation.bedrock",
    )

    assert (event.usage.input_tokens, event.usage_rule) == (6010, "input_excludes_cache")
    assert event.raw_usage == {
        "gen_ai.usage.cache_creation.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 5000,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.total_tokens": 210,
    }


def test_the_total_of_an_embedding_is_its_input() -> None:
    written: dict[str, AttributeValue] = {
        "llm.request.type": "embedding", "gen_ai.request.model": "text-embedding-3-small", "llm.usage.total_tokens": 8,
    }  # fmt: skip

    event = read(written, scope=OPENAI)

    assert (event.operation, event.usage, event.usage_rule) == ("embeddings", Usage(input_tokens=8), "total_is_input")


@pytest.mark.parametrize("kind", ["workflow", "task", "agent", "tool"])
def test_traceloop_s_own_spans_are_containers(kind: str) -> None:
    written: dict[str, AttributeValue] = {"traceloop.span.kind": kind, "traceloop.entity.name": "step"}

    assert read(written, scope="traceloop.tracer", kind=1).kind == "container"


@pytest.mark.parametrize(
    ("base", "provider"),
    [
        ("https://api.deepseek.com/v1/", "deepseek"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("http://[", "openai"),
    ],
)
def test_an_openai_client_that_is_pointed_elsewhere_pays_elsewhere(base: str, provider: str) -> None:
    assert read(CHAT | {"gen_ai.openai.api_base": base}, scope=OPENAI).provider == provider


def test_opentelemetry_s_own_package_of_a_similar_name_is_another_emitter() -> None:
    assert read(CHAT, scope="opentelemetry.instrumentation.openai_v2").dialect == "semconv"


@pytest.mark.parametrize(
    ("system", "provider"),
    [("AWS", "aws.bedrock"), ("Anthropic", "anthropic"), ("MistralAI", "mistral_ai"), ("TogetherAI", "together_ai"),
     ("Azure", "azure.ai.openai"), ("Google", "gcp.gemini"), ("Langchain", None)],
)  # fmt: skip
def test_providers_of_older_versions_are_those_of_today(system: str, provider: str | None) -> None:
    older: dict[str, AttributeValue] = {
        "gen_ai.system": system, "llm.request.type": "chat", "gen_ai.request.model": "m",
        "gen_ai.usage.prompt_tokens": 7,
    }  # fmt: skip

    assert read(older, scope=ANTHROPIC).provider == provider


def test_bedrock_s_cached_tokens_are_added_whatever_it_is_called() -> None:
    older: dict[str, AttributeValue] = {
        "gen_ai.system": "AWS", "llm.request.type": "chat", "gen_ai.request.model": "amazon.nova-pro-v1:0",
        "gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read_input_tokens": 5000,
    }  # fmt: skip

    event = read(older, scope="opentelemetry.instrumentation.bedrock")

    assert (event.usage.input_tokens, event.usage_rule) == (5010, "input_excludes_cache")

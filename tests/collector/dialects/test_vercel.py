"""Attribute sets as ai 4.3.19, 5.0.277 and 6.0.326 write them, and @ai-sdk/otel 1.0.173 of version 7."""

from __future__ import annotations

import pytest

from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.reading import read

V6: dict[str, AttributeValue] = {
    "operation.name": "ai.streamText.doStream support",
    "ai.operationId": "ai.streamText.doStream",
    "ai.telemetry.functionId": "support",
    "ai.model.provider": "openai.responses",
    "ai.model.id": "gpt-4o-mini",
    "ai.telemetry.metadata.userId": "u-1",
    "ai.telemetry.metadata.sessionId": "s-1",
    "ai.telemetry.metadata.tags": ["a", "b"],
    "ai.prompt.messages": "[]",
    "gen_ai.system": "openai.responses",
    "gen_ai.request.model": "gpt-4o-mini",
    "ai.response.id": "resp_0123456789",
    "ai.response.model": "gpt-4o-mini-2024-07-18",
    "ai.response.msToFirstChunk": 250.4,
    "ai.usage.inputTokens": 2006,
    "ai.usage.inputTokenDetails.noCacheTokens": 36,
    "ai.usage.inputTokenDetails.cacheReadTokens": 1920,
    "ai.usage.inputTokenDetails.cacheWriteTokens": 50,
    "ai.usage.outputTokens": 300,
    "ai.usage.outputTokenDetails.textTokens": 200,
    "ai.usage.outputTokenDetails.reasoningTokens": 100,
    "ai.usage.totalTokens": 2306,
    "ai.usage.reasoningTokens": 100,
    "ai.usage.cachedInputTokens": 1920,
    "gen_ai.response.id": "resp_0123456789",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
}


def test_a_call_of_version_6_is_read() -> None:
    event = read(V6, scope="ai", kind=1)

    assert event.usage == Usage(
        input_tokens=2006,
        output_tokens=300,
        cache_read_input_tokens=1920,
        cache_write_input_tokens={"unsplit": 50},
        reasoning_output_tokens=100,
    )
    assert (event.dialect, event.kind, event.operation, event.usage_rule) == ("vercel", "call", "chat", None)
    assert (event.provider, event.request_model, event.response_model) == (
        "openai",
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
    )
    assert (event.response_id, event.stream, event.time_to_first_chunk_ms) == ("resp_0123456789", True, 250)
    assert (event.user, event.session, event.tags, event.action) == ("u-1", "s-1", ["a", "b"], "support")


@pytest.mark.parametrize("operation", ["ai.generateText", "ai.streamObject", "ai.embedMany", "ai.toolCall"])
def test_outer_spans_are_containers_whatever_they_count(operation: str) -> None:
    event = read(V6 | {"ai.operationId": operation}, scope="ai", kind=1)

    assert (event.kind, event.usage.input_tokens) == ("container", 2006)


def test_version_4_has_older_names() -> None:
    event = read(
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.provider": "mistral.chat",
            "ai.model.id": "mistral-small-latest",
            "ai.usage.promptTokens": 20,
            "ai.usage.completionTokens": 5,
            "gen_ai.system": "mistral.chat",
            "gen_ai.usage.input_tokens": 20,
            "gen_ai.usage.output_tokens": 5,
        },
        scope="ai",
        kind=1,
    )

    assert (event.usage, event.provider) == (Usage(input_tokens=20, output_tokens=5), "mistral_ai")


@pytest.mark.parametrize("provider", ["anthropic.messages", "amazon-bedrock"])
def test_cached_tokens_of_version_5_stand_outside_at_anthropic_and_bedrock(provider: str) -> None:
    written: dict[str, AttributeValue] = {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.provider": provider,
        "ai.model.id": "claude-sonnet-4-5",
        "ai.usage.inputTokens": 10,
        "ai.usage.outputTokens": 200,
        "ai.usage.totalTokens": 210,
        "ai.usage.cachedInputTokens": 5000,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 200,
    }

    event = read(written, scope="ai", kind=1)

    assert event.usage == Usage(input_tokens=5010, output_tokens=200, cache_read_input_tokens=5000)
    assert event.usage_rule == "input_excludes_cache"
    assert event.raw_usage == {
        "ai.usage.cachedInputTokens": 5000,
        "ai.usage.inputTokens": 10,
        "ai.usage.outputTokens": 200,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 200,
    }


def test_cached_tokens_of_version_6_stand_inside_at_anthropic_too() -> None:
    event = read(V6 | {"ai.model.provider": "anthropic.messages"}, scope="ai", kind=1)

    assert (event.usage.input_tokens, event.usage_rule, event.provider) == (2006, None, "anthropic")


def test_an_embedding_is_a_call() -> None:
    event = read(
        {
            "ai.operationId": "ai.embedMany.doEmbed",
            "ai.model.provider": "openai.embedding",
            "ai.model.id": "text-embedding-3-small",
            "ai.usage.tokens": 8,
        },
        scope="ai",
        kind=1,
    )

    assert (event.kind, event.operation, event.usage) == ("call", "embeddings", Usage(input_tokens=8))


@pytest.mark.parametrize(
    ("operation", "kind"), [("invoke_agent", "container"), ("agent_step", "container"), ("chat", "call")]
)
def test_version_7_writes_the_conventions(operation: str, kind: str) -> None:
    event = read(
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.usage.input_tokens": 6010,
            "gen_ai.usage.output_tokens": 200,
            "gen_ai.usage.cache_read.input_tokens": 5000,
            "gen_ai.usage.cache_creation.input_tokens": 1000,
        },
        scope="gen_ai",
    )

    assert (event.dialect, event.kind, event.usage_rule) == ("vercel", kind, None)
    assert event.usage == Usage(
        input_tokens=6010,
        output_tokens=200,
        cache_read_input_tokens=5000,
        cache_write_input_tokens={"unsplit": 1000},
    )


@pytest.mark.parametrize(
    ("written", "provider"),
    [
        ("google.vertex.chat", "gcp.vertex_ai"),
        ("google.generative-ai", "gcp.gemini"),
        ("vertex.anthropic.messages", "gcp.vertex_ai"),
        ("azure-openai.chat", "azure.ai.openai"),
        ("azure.responses", "azure.ai.openai"),
        ("amazon-bedrock", "aws.bedrock"),
        ("xai.chat", "x_ai"),
        ("togetherai.chat", "together_ai"),
        ("gateway", "vercel_ai_gateway"),
        ("groq.chat", "groq"),
    ],
)
def test_the_provider_s_name_is_taken_out_of_the_sdk_s(written: str, provider: str) -> None:
    assert read(V6 | {"ai.model.provider": written}, scope="ai").provider == provider


def test_a_scope_that_begins_alike_is_another_emitter() -> None:
    conventions: dict[str, AttributeValue] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}

    assert read(conventions, scope="ai21").dialect == "semconv"

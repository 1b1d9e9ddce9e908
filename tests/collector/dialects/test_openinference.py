"""Attribute sets as openinference-instrumentation-openai 0.1.66, -anthropic 3.1.0 and -langchain 0.1.80 write them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from farebox_collector import dialects
from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.reading import read, span

OPENAI = "openinference.instrumentation.openai"
CHAT: dict[str, AttributeValue] = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.system": "openai",
    "llm.model_name": "gpt-4o-mini-2024-07-18",
    "llm.invocation_parameters": '{"model": "gpt-4o-mini"}',
    "llm.input_messages.0.message.content": "hi",
    "llm.token_count.total": 2306,
    "llm.token_count.prompt": 2006,
    "llm.token_count.completion": 300,
    "llm.token_count.prompt_details.cache_read": 1920,
    "llm.token_count.prompt_details.cache_write": 50,
    "llm.token_count.prompt_details.audio": 3,
    "llm.token_count.completion_details.reasoning": 100,
    "llm.token_count.completion_details.audio": 5,
    "llm.cost.total": 0.0125,
    "user.id": "u-1",
    "session.id": "s-1",
    "tag.tags": ["a", "b"],
    "metadata": '{"plan": "gold"}',
}


def test_a_call_of_openai_is_read() -> None:
    event = read(CHAT, scope=OPENAI, kind=1, parent=7)

    assert event.usage == Usage(
        input_tokens=2006,
        output_tokens=300,
        cache_read_input_tokens=1920,
        cache_write_input_tokens={"unsplit": 50},
        audio_input_tokens=3,
        reasoning_output_tokens=100,
        audio_output_tokens=5,
    )
    assert (event.dialect, event.kind, event.operation, event.usage_rule) == ("openinference", "call", "chat", None)
    assert (event.provider, event.request_model, event.response_model) == ("openai", "gpt-4o-mini-2024-07-18", None)
    assert (event.user, event.session, event.tags) == ("u-1", "s-1", ["a", "b"])
    assert (event.metadata, event.stated_cost) == ({"plan": "gold"}, Decimal("0.0125"))


def test_the_model_that_answered_is_told_from_the_requested_one_where_both_are_written() -> None:
    both: dict[str, AttributeValue] = {"llm.request.model_name": "gpt-4o-mini"}

    event = read(CHAT | both, scope=OPENAI)

    assert (event.request_model, event.response_model) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")


def test_anthropic_s_prompt_includes_cached_tokens() -> None:
    event = read(
        {
            "openinference.span.kind": "LLM",
            "llm.provider": "anthropic",
            "llm.system": "anthropic",
            "llm.model_name": "claude-sonnet-4-5-20250929",
            "llm.token_count.prompt": 6010,
            "llm.token_count.completion": 200,
            "llm.token_count.prompt_details.cache_read": 5000,
            "llm.token_count.prompt_details.cache_write": 1000,
            "llm.token_count.total": 6210,
        },
        scope="openinference.instrumentation.anthropic",
    )

    assert event.usage == Usage(
        input_tokens=6010,
        output_tokens=200,
        cache_read_input_tokens=5000,
        cache_write_input_tokens={"unsplit": 1000},
    )


@pytest.mark.parametrize(
    ("written", "model", "operation", "usage"),
    [
        (
            {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "text-embedding-3-small",
             "llm.token_count.total": 8},
            "text-embedding-3-small", "embeddings", Usage(input_tokens=8),
        ),
        (
            {"openinference.span.kind": "RERANKER", "reranker.model_name": "rerank-v3.5"},
            "rerank-v3.5", "rerank", Usage(),
        ),
        (
            {"openinference.span.kind": "DECISION", "decision.model_name": "gpt-5", "decision.provider": "openai",
             "decision.token_count.input": 40, "decision.token_count.output": 2},
            "gpt-5", "decide", Usage(input_tokens=40, output_tokens=2),
        ),
    ],
)  # fmt: skip
def test_every_kind_that_calls_a_model_is_a_call(
    written: dict[str, AttributeValue], model: str, operation: str, usage: Usage
) -> None:
    event = read(written, scope=OPENAI)

    assert (event.kind, event.request_model, event.operation, event.usage) == ("call", model, operation, usage)


@pytest.mark.parametrize("kind", ["AGENT", "CHAIN", "TOOL", "RETRIEVER", "GUARDRAIL", "UNKNOWN"])
def test_what_wraps_calls_is_a_container(kind: str) -> None:
    event = read(CHAT | {"openinference.span.kind": kind}, scope="openinference.instrumentation.langchain", kind=1)

    assert (event.kind, event.operation) == ("container", kind.lower())


@pytest.mark.parametrize(
    ("provider", "system", "paid"),
    [
        ("azure", "openai", "azure.ai.openai"),
        ("google", "vertexai", "gcp.vertex_ai"),
        ("google", None, "gcp.gemini"),
        ("aws", None, "aws.bedrock"),
        (None, "mistralai", "mistral_ai"),
        ("xai", "openai", "x_ai"),
    ],
)
def test_the_provider_is_named_as_everywhere(provider: str | None, system: str | None, paid: str) -> None:
    names: dict[str, AttributeValue] = {
        key: name for key, name in (("llm.provider", provider), ("llm.system", system)) if name is not None
    }

    event = read({"openinference.span.kind": "LLM", "llm.model_name": "m"} | names, scope=OPENAI)

    assert event.provider == paid


def test_an_unknown_scope_is_told_by_the_kind() -> None:
    assert read(CHAT, scope="my.tracer").dialect == "openinference"
    assert dialects.read(span({"user.id": "u-1"}, scope=OPENAI)) is None


def test_the_response_s_id_that_was_taken_out_of_it_is_the_call_s() -> None:
    assert read(CHAT | {"openinference.response.id": "chatcmpl-1"}, scope=OPENAI).response_id == "chatcmpl-1"
    assert read(CHAT, scope=OPENAI).response_id is None


@pytest.mark.parametrize(
    ("output", "response_id"),
    [
        ('{"id":"msg_01","content":[{"text":"hi"}],"model":"claude-sonnet-4-5","type":"message"}', "msg_01"),
        ('{"choices":[{"index":0}],"id":"chatcmpl-1","model":"gpt-4o","object":"chat.completion.chunk"}', "chatcmpl-1"),
        ('{"id":"resp_1","model":"gpt-5","object":"response","output":[{"id":"msg_2","type":"message"}]}', "resp_1"),
        ('{"id":"msg_01","model":"claude-sonnet-4-5","type":"message","content":[{"te', None),
        ('{"id":"a customer\'s name","model":"m","type":"message"}', None),
        ('{"id":"' + "a" * 129 + '","model":"m","type":"message"}', None),
        ('{"id":"customer-1","model":"m","type":"invoice"}', None),
        ('{"id":"customer-1","type":"message"}', None),
        ('{"id":1,"model":"m","type":"message"}', None),
        ('{"data":[],"model":"text-embedding-3-small","object":"list"}', None),
        ("msg_01", None),
        ("[" * 10_000, None),
        ("\ud800", None),
    ],
    ids=[
        "anthropic", "openai, streamed", "openai's responses", "cut off", "no id", "too long an id",
        "something of the application's", "without a model", "a number", "embeddings", "no JSON", "nested", "no UTF-8",
    ],
)  # fmt: skip
def test_an_id_is_taken_out_of_nothing_but_a_provider_s_response(output: str, response_id: str | None) -> None:
    extract = dialects.EXTRACTS[OPENAI]

    assert extract.take(output.encode("utf-8", "surrogatepass")) == response_id


def test_values_are_looked_into_only_where_a_provider_s_response_stands_in_them() -> None:
    assert dialects.EXTRACTS.keys() == {f"openinference.instrumentation.{sdk}" for sdk in ("anthropic", "openai")}
    assert {extract.key for extract in dialects.EXTRACTS.values()} == {"output.value"}
    assert "output.value" not in dialects.KEYS


def test_cached_tokens_by_an_older_name_were_read_unless_the_newer_ones_say_more() -> None:
    newer = ("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_write")
    older: dict[str, AttributeValue] = {"llm.token_count.prompt_details.cache_input": 1900}
    older |= {key: value for key, value in CHAT.items() if key not in newer}

    assert read(older, scope=OPENAI).usage.cache_read_input_tokens == 1900
    assert read(CHAT | older, scope=OPENAI).usage == read(CHAT, scope=OPENAI).usage


TOLD: dict[str, AttributeValue] = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "claude-sonnet-4-5",
    "llm.token_count.prompt": 10,
    "llm.token_count.completion": 5,
}


def test_a_call_of_its_own_without_its_response_says_that_it_may_be_billed_beside_another_report() -> None:
    event = read(TOLD, scope="openinference.instrumentation.anthropic")

    assert (event.usage_rule, event.raw_usage) == ("response_unnamed", None)
    assert event.usage == Usage(input_tokens=10, output_tokens=5)


@pytest.mark.parametrize(
    ("changes", "scope", "parent"),
    [
        ({"openinference.response.id": "msg_01"}, "openinference.instrumentation.anthropic", None),
        ({}, "openinference.instrumentation.anthropic", 7),
        ({}, "openinference.instrumentation.langchain", None),
        ({"openinference.span.kind": "EMBEDDING"}, "openinference.instrumentation.openai", None),
        ({"openinference.span.kind": "CHAIN"}, "openinference.instrumentation.openai", None),
    ],
    ids=["its response is named", "within a trace", "no SDK is watched", "an embedding", "no call"],
)
def test_what_has_an_id_or_needs_none_is_in_no_doubt(
    changes: dict[str, AttributeValue], scope: str, parent: int | None
) -> None:
    assert read(TOLD | changes, scope=scope, parent=parent).usage_rule is None


def test_a_call_of_its_own_without_usage_is_in_no_doubt() -> None:
    event = read({"openinference.span.kind": "LLM"}, scope="openinference.instrumentation.openai")

    assert event.usage_rule is None

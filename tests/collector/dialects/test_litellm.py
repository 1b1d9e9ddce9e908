"""Attribute sets as the two engines of litellm 1.109.1's OpenTelemetry callback write them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from farebox_collector import dialects
from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.reading import read, span

FIRST_ENGINE: dict[str, AttributeValue] = {
    "gen_ai.request.model": "gpt-4o-mini",
    "llm.request.type": "acompletion",
    "gen_ai.system": "openai",
    "llm.is_streaming": "True",
    "gen_ai.response.id": "chatcmpl-0123456789",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "litellm.call_id": "6f3c",
    "litellm.cache_hit": False,
    "gen_ai.usage.total_tokens": 2306,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.cost.total_cost": 0.000421,
    "metadata.user_api_key_user_id": "u-1",
    "metadata.user_api_key_user_email": "jane@example.com",
    "metadata.user_api_key_team_id": "team-9",
    "metadata.user_api_key_team_alias": "search",
    "metadata.user_api_key_org_id": "org-3",
}
SECOND_ENGINE: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "smart",
    "litellm.provider.model": "claude-sonnet-4-5",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
    "gen_ai.response.id": "msg_0123456789",
    "gen_ai.usage.input_tokens": 6010,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.cache_creation.input_tokens": 1000,
    "litellm.call_id": "6f3d",
    "litellm.call_type": "acompletion",
    "litellm.cost.total": 0.0123,
    "litellm.cost.input": 0.01,
    "litellm.cache_hit": False,
    "litellm.request.streaming": True,
    "litellm.end_user.id": "customer-5",
    "litellm.team.id": "team-9",
    "litellm.team.alias": "search",
}


def test_a_call_of_the_first_engine_is_read() -> None:
    event = read(FIRST_ENGINE, scope="litellm", kind=1)

    assert (event.usage, event.usage_rule) == (Usage(input_tokens=2006, output_tokens=300), None)
    assert (event.dialect, event.kind, event.operation, event.stream) == ("litellm", "call", "chat", True)
    assert (event.provider, event.request_model) == ("openai", "gpt-4o-mini")
    assert (event.user, event.user_email, event.stated_cost) == ("u-1", "jane@example.com", Decimal("0.000421"))
    assert event.metadata == {
        "litellm_team_id": "team-9",
        "litellm_team": "search",
        "litellm_organization_id": "org-3",
        "litellm_call_id": "6f3c",
    }


def test_a_call_of_the_second_engine_is_read() -> None:
    event = read(SECOND_ENGINE, scope="litellm")

    assert event.usage == Usage(
        input_tokens=6010,
        output_tokens=200,
        cache_read_input_tokens=5000,
        cache_write_input_tokens={"unsplit": 1000},
    )
    assert (event.request_model, event.response_model) == ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929")
    assert (event.user, event.stated_cost, event.stream) == ("customer-5", Decimal("0.0123"), True)


def test_what_its_cache_answered_used_nothing() -> None:
    event = read(SECOND_ENGINE | {"litellm.cache_hit": True, "litellm.cost.total": 0.0}, scope="litellm")

    assert (event.kind, event.usage, event.usage_rule) == ("call", Usage(), "cache_hit")
    assert event.raw_usage == {
        "gen_ai.usage.cache_creation.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 5000,
        "gen_ai.usage.input_tokens": 6010,
        "gen_ai.usage.output_tokens": 200,
    }


@pytest.mark.parametrize(
    ("call_type", "operation"),
    [
        ("aembedding", "embeddings"),
        ("atext_completion", "text_completion"),
        ("aimage_generation", "image_generation"),
        ("atranscription", "transcription"),
        ("arerank", "rerank"),
        ("aresponses", "chat"),
        ("anthropic_messages", "chat"),
    ],
)
def test_the_call_type_names_the_operation(call_type: str, operation: str) -> None:
    assert read(FIRST_ENGINE | {"llm.request.type": call_type}, scope="litellm").operation == operation


@pytest.mark.parametrize(
    "around",
    [
        {"litellm.guardrail.name": "pii", "litellm.call_id": "6f3c"},
        {"litellm.service.name": "redis"},
        {"llm.openai.model": "gpt-4o-mini", "metadata.user_api_key_team_id": "team-9"},
    ],
    ids=["guardrail", "service", "raw request"],
)
def test_the_spans_around_a_request_are_no_calls(around: dict[str, AttributeValue]) -> None:
    assert dialects.read(span(around, scope="litellm")) is None


def test_a_tool_call_is_a_container() -> None:
    tool: dict[str, AttributeValue] = {"gen_ai.operation.name": "execute_tool", "litellm.call_id": "6f3c"}

    assert read(tool, scope="litellm").kind == "container"

"""Attribute sets as pydantic-ai-slim 2.68.0 writes them, and versions before it."""

from __future__ import annotations

from decimal import Decimal

from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.reading import read

CHAT: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.system": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "server.address": "api.anthropic.com",
    "gen_ai.agent.name": "agent",
    "gen_ai.conversation.id": "c-1",
    "gen_ai.usage.input_tokens": 6010,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.cache_creation.input_tokens": 1000,
    "gen_ai.usage.details.cache_write_tokens": 1000,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.details.cache_read_tokens": 5000,
    "gen_ai.usage.details.reasoning_tokens": 80,
    "gen_ai.usage.details.input_audio_tokens": 3,
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
    "gen_ai.response.id": "msg_0123456789",
    "operation.cost": 0.0123,
}
USAGE = Usage(
    input_tokens=6010,
    output_tokens=200,
    cache_read_input_tokens=5000,
    cache_write_input_tokens={"unsplit": 1000},
    reasoning_output_tokens=80,
    audio_input_tokens=3,
)


def test_a_call_is_read() -> None:
    event = read(CHAT, scope="pydantic-ai")

    assert (event.usage, event.usage_rule, event.kind) == (USAGE, None, "call")
    assert (event.dialect, event.provider, event.session) == ("pydantic_ai", "anthropic", "c-1")
    assert (event.stated_cost, event.response_id) == (Decimal("0.0123"), "msg_0123456789")


def test_the_details_of_older_versions_stand_in() -> None:
    newer = ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_read.input_tokens")
    older = {key: value for key, value in CHAT.items() if key not in newer}

    assert read(older, scope="pydantic-ai").usage == USAGE


def test_an_agent_s_run_is_a_container_with_its_sums() -> None:
    run: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "agent",
        "gen_ai.aggregated_usage.input_tokens": 12_020,
        "gen_ai.aggregated_usage.output_tokens": 400,
        "gen_ai.aggregated_usage.cache_read.input_tokens": 10_000,
        "gen_ai.aggregated_usage.cache_creation.input_tokens": 2000,
        "gen_ai.aggregated_usage.details.reasoning_tokens": 160,
    }

    event = read(run, scope="pydantic-ai", kind=1)

    assert (event.kind, event.usage) == (
        "container",
        Usage(
            input_tokens=12_020,
            output_tokens=400,
            cache_read_input_tokens=10_000,
            cache_write_input_tokens={"unsplit": 2000},
        ),
    )


def test_the_sums_of_a_run_never_stand_before_its_own_counts() -> None:
    event = read(CHAT | {"gen_ai.aggregated_usage.input_tokens": 99_999}, scope="pydantic-ai")

    assert (event.kind, event.usage) == ("container", USAGE)


def test_an_agent_s_run_of_older_versions_is_a_container_with_its_sums() -> None:
    run: dict[str, AttributeValue] = {
        "agent_name": "agent", "model_name": "claude-sonnet-4-5", "gen_ai.usage.input_tokens": 12_020,
        "gen_ai.usage.output_tokens": 400,
    }  # fmt: skip

    event = read(run, scope="pydantic-ai", kind=1)

    assert (event.kind, event.usage) == ("container", Usage(input_tokens=12_020, output_tokens=400))


def test_what_logfire_saw_of_a_stream_so_far_is_no_usage() -> None:
    event = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.usage.partial.input_tokens": 6010,
            "gen_ai.usage.partial.output_tokens": 1,
            "gen_ai.usage.raw": '{"output_tokens": 1}',
        },
        scope="logfire.claude_agent_sdk",
    )

    assert (event.kind, event.usage) == ("call", Usage())

"""Attribute sets as strands-agents 1.62.0 writes them, and versions before it folded cached tokens in."""

from __future__ import annotations

import pytest

from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.reading import read

SCOPE = "strands.telemetry.tracer"
BEDROCK_MODEL = "us.anthropic.claude-sonnet-4-20250514-v1:0"
CHAT: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "strands-agents",
    "gen_ai.request.model": BEDROCK_MODEL,
    "gen_ai.usage.prompt_tokens": 6010,
    "gen_ai.usage.input_tokens": 6010,
    "gen_ai.usage.completion_tokens": 200,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.total_tokens": 6210,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.cache_read_input_tokens": 5000,
    "gen_ai.usage.cache_creation.input_tokens": 1000,
    "gen_ai.usage.cache_write_input_tokens": 1000,
    "session.id": "s-1",
}
USAGE = Usage(
    input_tokens=6010,
    output_tokens=200,
    cache_read_input_tokens=5000,
    cache_write_input_tokens={"unsplit": 1000},
)


def test_a_call_of_a_model_is_read() -> None:
    event = read(CHAT, scope=SCOPE, kind=1)

    assert (event.usage, event.usage_rule) == (USAGE, None)
    assert (event.dialect, event.kind, event.provider, event.session) == ("strands", "call", "aws.bedrock", "s-1")


def test_cached_tokens_of_older_versions_are_added_where_the_total_counts_them() -> None:
    older: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "strands-agents",
        "gen_ai.request.model": BEDROCK_MODEL,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.total_tokens": 6210,
        "gen_ai.usage.cache_read_input_tokens": 5000,
        "gen_ai.usage.cache_write_input_tokens": 1000,
    }

    event = read(older, scope=SCOPE, kind=1)

    assert (event.usage, event.usage_rule) == (USAGE, "input_excludes_cache")
    assert event.raw_usage is not None
    assert event.raw_usage["gen_ai.usage.input_tokens"] == 10


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_event_loop_cycle", "execute_tool", "invoke_swarm"])
def test_agents_and_cycles_are_containers(operation: str) -> None:
    event = read(CHAT | {"gen_ai.operation.name": operation}, scope=SCOPE, kind=1)

    assert (event.kind, event.usage) == ("container", USAGE)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        (BEDROCK_MODEL, "aws.bedrock"),
        ("amazon.nova-pro-v1:0", "aws.bedrock"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-pro-v1:0", "aws.bedrock"),
        ("gpt-4o-mini", None),
        ("claude-sonnet-4-5", None),
        ("llama3.1:8b", None),
    ],
)
def test_the_provider_is_told_by_the_shape_of_the_model_s_id(model: str, provider: str | None) -> None:
    assert read(CHAT | {"gen_ai.request.model": model}, scope=SCOPE).provider == provider

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from farebox_collector import dialects
from farebox_collector.spans import AttributeValue, Span
from farebox_ledger.usage import Usage, UsageEvent

END_US = 1_763_690_000_000_000
OURS = "farebox.sdks.openai"
NEW = "opentelemetry.instrumentation.genai.openai"


def span(attributes: dict[str, AttributeValue], *, scope: str = "some.library", kind: int = 3, **fields: Any) -> Span:
    defaults: dict[str, Any] = {
        "start_us": END_US - 2_000_000,
        "end_us": END_US,
        "is_error": False,
        "status_message": None,
    }
    return Span(
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        parent_span_id=None,
        scope=scope,
        kind=kind,
        attributes=attributes,
        **{**defaults, **fields},
    )


def read(attributes: dict[str, AttributeValue], **fields: Any) -> UsageEvent:
    event = dialects.read(span(attributes, **fields))
    assert event is not None
    return event


MODEL: dict[str, AttributeValue] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}


@pytest.mark.parametrize(
    ("generation", "attributes", "usage"),
    [
        (
            "up to 1.36",
            {"gen_ai.system": "openai", "gen_ai.usage.prompt_tokens": 20, "gen_ai.usage.completion_tokens": 5},
            Usage(input_tokens=20, output_tokens=5),
        ),
        (
            "1.37 to 1.41",
            {
                "gen_ai.provider.name": "anthropic",
                "gen_ai.usage.input_tokens": 6010,
                "gen_ai.usage.output_tokens": 200,
                "gen_ai.usage.cache_read.input_tokens": 5000,
                "gen_ai.usage.cache_creation.input_tokens": 1000,
            },
            Usage(
                input_tokens=6010,
                output_tokens=200,
                cache_read_input_tokens=5000,
                cache_write_input_tokens={"unsplit": 1000},
            ),
        ),
        (
            "new",
            {
                "gen_ai.provider.name": "openai",
                "gen_ai.usage.input_tokens": 2006,
                "gen_ai.usage.output_tokens": 300,
                "gen_ai.usage.cache_read.input_tokens": 1920,
                "gen_ai.usage.cache_write.input_tokens": 0,
                "gen_ai.usage.reasoning.output_tokens": 100,
                "gen_ai.usage.audio.input_tokens": 3,
                "gen_ai.usage.image.input_tokens": 4,
                "gen_ai.usage.audio.output_tokens": 5,
                "gen_ai.usage.image.output_tokens": 6,
            },
            Usage(
                input_tokens=2006,
                output_tokens=300,
                cache_read_input_tokens=1920,
                cache_write_input_tokens={"unsplit": 0},
                reasoning_output_tokens=100,
                audio_input_tokens=3,
                image_input_tokens=4,
                audio_output_tokens=5,
                image_output_tokens=6,
            ),
        ),
    ],
)
def test_every_generation_of_the_conventions_is_read(
    generation: str, attributes: dict[str, AttributeValue], usage: Usage
) -> None:
    event = read(MODEL | attributes)

    assert event.usage == usage, generation
    assert (event.kind, event.dialect, event.tokens_source) == ("call", "semconv", "reported")


def test_new_names_outweigh_old_ones() -> None:
    event = read(MODEL | {"gen_ai.usage.prompt_tokens": 1, "gen_ai.usage.input_tokens": 2})

    assert event.usage.input_tokens == 2


def test_our_own_spans_say_everything() -> None:
    event = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.response.model": "claude-sonnet-4-5-20250929",
            "gen_ai.response.id": "msg_0123456789",
            "gen_ai.request.stream": True,
            "gen_ai.response.time_to_first_chunk": 0.2504,
            "server.address": "127.0.0.1",
            "gen_ai.usage.input_tokens": 6010,
            "gen_ai.usage.output_tokens": 200,
            "gen_ai.usage.cache_read.input_tokens": 5000,
            "gen_ai.usage.cache_write.input_tokens": 1000,
            "farebox.usage.cache_write_5m.input_tokens": 600,
            "farebox.usage.cache_write_1h.input_tokens": 300,
            "farebox.usage.web_searches": 2,
            "farebox.usage.input_seconds": 1.5,
            "farebox.usage.search_context_size": "high",
            "farebox.service_tier": "priority",
            "farebox.batch": True,
            "farebox.region": "eu",
            "farebox.stated_cost": "0.0123",
            "farebox.estimated_output_tokens": 210,
            "user.id": "u-1",
            "user.email": "jane@example.com",
            "session.id": "s-1",
            "farebox.project": "shop",
            "farebox.service": "search",
            "farebox.action": "answer",
            "farebox.category": "support",
            "farebox.task_type": "ticket",
            "farebox.task_id": "t-9",
            "farebox.content_type": "article",
            "farebox.content_ref": "https://example.com/" + "a" * 300,
            "farebox.model_config": "default",
            "farebox.upstream": "reseller",
            "farebox.tags": ["a", "b"],
            "farebox.metadata": '{"plan": "gold", "seats": 3}',
        },
        scope=OURS,
    )

    assert (event.dialect, event.kind, event.provider, event.is_client) == ("farebox", "call", "anthropic", True)
    assert event.usage == Usage(
        input_tokens=6010,
        output_tokens=200,
        cache_read_input_tokens=5000,
        cache_write_input_tokens={"5m": 600, "1h": 300, "unsplit": 100},
        web_searches=2,
        input_seconds=Decimal("1.5"),
        search_context_size="high",
    )
    assert (event.request_model, event.response_model) == ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929")
    assert (event.response_id, event.stream, event.time_to_first_chunk_ms) == ("msg_0123456789", True, 250)
    assert (event.service_tier, event.batch, event.region) == ("priority", True, "eu")
    assert (event.stated_cost, event.estimated_output_tokens) == (Decimal("0.0123"), 210)
    assert (event.user, event.user_email, event.session) == ("u-1", "jane@example.com", "s-1")
    assert (event.project, event.service, event.action, event.category) == ("shop", "search", "answer", "support")
    assert (event.task_type, event.task_id, event.content_type) == ("ticket", "t-9", "article")
    assert (event.model_config, event.upstream) == ("default", "reseller")
    assert event.content_ref == "https://example.com/" + "a" * 300
    assert (event.tags, event.metadata) == (["a", "b"], {"plan": "gold", "seats": 3})
    assert (event.started_at_us, event.occurred_at_us) == (END_US - 2_000_000, END_US)


def test_our_own_span_of_an_unnamed_operation_is_a_call() -> None:
    event = read(
        {"gen_ai.operation.name": "divination", "farebox.usage.requests": 1}, scope="farebox.record_usage", kind=1
    )

    assert (event.kind, event.usage.requests) == ("call", 1)


@pytest.mark.parametrize("operation", ["invoke_agent", "create_agent", "execute_tool", "plan", "invoke_workflow"])
def test_what_wraps_calls_is_a_container(operation: str) -> None:
    assert read({"gen_ai.operation.name": operation, "gen_ai.usage.input_tokens": 5}).kind == "container"


def test_aggregated_usage_makes_a_container_of_anything() -> None:
    event = read(MODEL | {"gen_ai.aggregated_usage.input_tokens": 5})

    assert (event.kind, event.usage) == ("container", Usage(input_tokens=5))


def test_without_an_operation_a_client_with_a_model_is_a_call() -> None:
    bare: dict[str, AttributeValue] = {"gen_ai.request.model": "gpt-4o"}

    assert read(bare).kind == "call"
    assert dialects.read(span(bare, kind=1)) is None
    assert read(bare | {"gen_ai.usage.input_tokens": 1}, kind=1).kind == "call"


def test_a_span_that_only_mentions_generative_ai_is_not_kept() -> None:
    assert dialects.read(span({"gen_ai.conversation.id": "c-1"})) is None
    assert dialects.read(span({"user.id": "u-1"})) is None


@pytest.mark.parametrize("count", [-1, 2**63 - 1, 1.5, float("nan"), float("inf"), "twelve", True, 2**40 + 1], ids=repr)
def test_an_impossible_count_is_stored_as_zero_and_flagged(count: AttributeValue) -> None:
    event = read(MODEL | {"gen_ai.usage.input_tokens": count, "gen_ai.usage.output_tokens": 7})

    assert (event.usage.input_tokens, event.usage.output_tokens, event.tokens_source) == (0, 7, "clamped")


def test_a_whole_float_is_a_count() -> None:
    event = read(MODEL | {"gen_ai.usage.input_tokens": 12.0})

    assert (event.usage.input_tokens, event.tokens_source) == (12, "reported")


@pytest.mark.parametrize(
    ("attributes", "provider"),
    [
        ({"gen_ai.system": "az.ai.openai"}, "azure.ai.openai"),
        ({"gen_ai.system": "vertex_ai"}, "gcp.vertex_ai"),
        ({"gen_ai.system": "gemini"}, "gcp.gemini"),
        ({"gen_ai.system": "xai"}, "x_ai"),
        ({"gen_ai.system": "OpenAI"}, "openai"),
        ({"gen_ai.provider.name": "anthropic", "gen_ai.system": "openai"}, "anthropic"),
        ({"gen_ai.provider.name": "openai", "server.address": "openrouter.ai"}, "openrouter"),
        ({"gen_ai.provider.name": "openai", "server.address": "my-team.openai.azure.com"}, "azure.ai.openai"),
        ({"gen_ai.provider.name": "openai", "server.address": "localhost"}, "openai"),
        ({"gen_ai.provider.name": "aws.bedrock", "server.address": "api.openai.com"}, "aws.bedrock"),
        ({"server.address": "api.groq.com"}, "groq"),
        ({}, None),
    ],
)
def test_the_provider_is_who_is_paid(attributes: dict[str, AttributeValue], provider: str | None) -> None:
    assert read(MODEL | attributes).provider == provider


@pytest.mark.parametrize(
    ("is_error", "outcome", "status"),
    [
        (False, None, "ok"),
        (False, "completed", "ok"),
        (True, None, "error"),
        (False, "error", "error"),
        (False, "closed_early", "cancelled"),
        (False, "dropped", "cancelled"),
        (True, "cancelled", "cancelled"),
    ],
)
def test_the_status_comes_from_the_span_and_the_outcome(is_error: bool, outcome: str | None, status: str) -> None:
    attributes = MODEL | ({} if outcome is None else {"farebox.outcome": outcome})

    assert read(attributes, is_error=is_error).status == status


def test_the_service_of_the_resource_stands_in() -> None:
    assert read(MODEL | {"service.name": "shop"}).service == "shop"
    assert read(MODEL | {"service.name": "shop", "farebox.service": "search"}).service == "search"
    assert read(MODEL | {"service.name": "unknown_service:python"}).service is None


@pytest.mark.parametrize("metadata", ["no json", "[1]", "[" * 4000, '{"a": ' * 500, "x" * 5000, "{}"])
def test_metadata_that_is_no_object_is_left_out(metadata: str) -> None:
    assert read(MODEL | {"farebox.metadata": metadata}).metadata is None


def test_escaped_nul_is_taken_out_of_metadata() -> None:
    assert read(MODEL | {"farebox.metadata": '{"a": "b\\u0000c"}'}).metadata == {"a": "bc"}


def test_bedrock_of_botocore_counts_cached_input_outside() -> None:
    usage: dict[str, AttributeValue] = {
        "gen_ai.system": "aws.bedrock",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 5000,
        "gen_ai.usage.cache_creation.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
    }

    event = read(MODEL | usage, scope="opentelemetry.instrumentation.botocore.bedrock-runtime")

    assert (event.usage.input_tokens, event.dialect) == (6010, "botocore")
    assert (event.usage_rule, event.raw_usage) == (
        "input_excludes_cache",
        {key: count for key, count in usage.items() if key != "gen_ai.system"},
    )
    assert read(MODEL | usage).usage.input_tokens == 10


def test_every_dialect_reads_only_what_is_kept() -> None:
    for dialect in dialects.DIALECTS:
        assert dialect.keys <= dialects.KEYS
        assert set(dialect.marks) <= set(dialects.MARKS)
        assert all(any(mark.decode() in key for key in dialect.keys) for mark in dialect.marks)


def test_counts_may_be_written_as_texts() -> None:
    event = read(
        {
            **MODEL,
            "gen_ai.usage.input_tokens": "1000",
            "gen_ai.usage.output_tokens": "7",
            "gen_ai.usage.cache_read.input_tokens": "400",
            "gen_ai.usage.cache_creation.input_tokens": "50",
        }
    )

    assert event.tokens_source == "reported"
    assert event.usage == Usage(
        input_tokens=1000, output_tokens=7, cache_read_input_tokens=400, cache_write_input_tokens={"unsplit": 50}
    )


@pytest.mark.parametrize("count", ["", "many", "1.5", "-1", "1_000", "\u0663", "9" * 25, True, [], ["5"], 1.5])
def test_what_is_no_count_is_none_and_says_so(count: AttributeValue) -> None:
    event = read({**MODEL, "gen_ai.usage.input_tokens": count, "gen_ai.usage.output_tokens": 7})

    assert (event.tokens_source, event.usage.input_tokens, event.usage.output_tokens) == ("clamped", 0, 7)

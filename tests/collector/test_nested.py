"""One call that several libraries saw is one billed row, with the true tokens, through the real booking."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import permutations
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, text

from farebox_collector import dialects
from farebox_collector.decode import Selection, decode_logs
from farebox_collector.spans import AttributeValue, Span
from farebox_ledger.store.engine import owner_transaction
from tests.collector.dialects import test_agent_logs as agent_logs
from tests.collector.dialects.reading import END_US, span
from tests.collector.test_booking import Books

Attributes = dict[str, AttributeValue]

GPT: Attributes = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.cache_read.input_tokens": 1920,
}
CLAUDE: Attributes = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
    "gen_ai.response.id": "msg_0123456789",
    "gen_ai.usage.input_tokens": 6010,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.cache_write.input_tokens": 1000,
}
OPENINFERENCE_GPT: Attributes = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-4o-mini",
    "llm.token_count.prompt": 2006,
    "llm.token_count.completion": 300,
}
AGENT: Attributes = {"gen_ai.operation.name": "invoke_agent"}
MILLISECOND = 1000


class Row(NamedTuple):
    """What is looked at of a row."""

    status: str
    reason: str | None
    tokens: tuple[int | None, int | None]


BILLED_GPT = Row("billed", None, (2006, 300))
BILLED_CLAUDE = Row("billed", None, (6010, 200))


def within(by_ms: int) -> dict[str, Any]:
    """Times that lie inside of those of a span without any, by so much on both sides."""
    return {"start_us": END_US - 2_000_000 + by_ms * MILLISECOND, "end_us": END_US - by_ms * MILLISECOND}


def rows_of(engine: Engine, spans: Sequence[Span]) -> dict[int, Row]:
    """Book the spans in every order, one by one and at once, and answer the rows, which have to be always the same."""
    outcomes = []
    for order in permutations(spans):
        for pieces in ([order], [[one] for one in order]):
            books = Books(engine)
            for piece in pieces:
                books.book(piece)
            outcomes.append(_rows(engine, books))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    return outcomes[0]


def _rows(engine: Engine, books: Books) -> dict[int, Row]:
    with owner_transaction(engine) as connection:
        found = connection.execute(
            text(
                "SELECT span_id, billing_status, reason, input_tokens, output_tokens"
                " FROM usage_rows WHERE org_id = :org"
            ),
            {"org": books.org_id},
        )
        return {int.from_bytes(bytes(row[0]), "big"): Row(row[1], row[2], (row[3], row[4])) for row in found}


def suppressed(reason: str, tokens: tuple[int | None, int | None]) -> Row:
    return Row("suppressed", reason, tokens)


def test_the_sdk_s_own_span_inside_a_patched_call_bills(sqlite_engine: Engine) -> None:
    patched = span(CLAUDE, scope="opentelemetry.instrumentation.genai.anthropic", number=1)
    native = span(
        CLAUDE | {"anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 1000},
        scope="com.anthropic.sdk.python",
        number=2,
        parent=1,
        **within(5),
    )

    assert rows_of(sqlite_engine, [patched, native]) == {
        1: suppressed("duplicate_response", (6010, 200)),
        2: BILLED_CLAUDE,
    }


def test_the_sdk_s_own_span_beside_a_patched_call_bills_by_its_detail(sqlite_engine: Engine) -> None:
    patched = span(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.response.id": "msg_0123456789",
            "gen_ai.usage.input_tokens": 6010,
            "gen_ai.usage.output_tokens": 201,
            "gen_ai.is_streaming": True,
        },
        scope="opentelemetry.instrumentation.anthropic",
        number=1,
    )
    native = span(CLAUDE, scope="com.anthropic.sdk.python", number=2, **within(5))

    assert rows_of(sqlite_engine, [patched, native]) == {
        1: suppressed("duplicate_response", (6010, 201)),
        2: BILLED_CLAUDE,
    }


def in_traces(*spans: Span) -> list[Span]:
    """Put each span into a trace of its own."""
    for number, one in enumerate(spans, start=1):
        one.trace_id = number.to_bytes(16, "big")
    return list(spans)


def test_a_call_that_two_libraries_tell_in_a_trace_each_is_billed_once(sqlite_engine: Engine) -> None:
    patched = span(
        CLAUDE | {"gen_ai.usage.output_tokens": 201}, scope="opentelemetry.instrumentation.anthropic", number=1
    )
    native = span(
        CLAUDE | {"anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 1000},
        scope="com.anthropic.sdk.python",
        number=2,
        **within(5),
    )

    assert rows_of(sqlite_engine, in_traces(patched, native)) == {
        1: suppressed("duplicate_response", (6010, 201)),
        2: BILLED_CLAUDE,
    }


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"scope": "com.anthropic.sdk.python"}, id="of the same library"),
        pytest.param({"parent": 9}, id="below a span of the application"),
        pytest.param({"start_us": END_US, "end_us": END_US + 61_000_000}, id="that ends much later"),
        pytest.param({"start_us": END_US + 2_000_000, "end_us": END_US + 3_000_000}, id="that begins after its end"),
        pytest.param({"model": "claude-haiku-4-5"}, id="of another model"),
        pytest.param({"input_tokens": 6011}, id="with another input"),
        pytest.param({"response_id": "msg_0123456780"}, id="with another response"),
    ],
)
def test_another_call_in_another_trace_is_billed_as_well(sqlite_engine: Engine, other: dict[str, Any]) -> None:
    fields = {"scope": "opentelemetry.instrumentation.anthropic", **other}
    model = fields.pop("model", "claude-sonnet-4-5")
    told = {
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.usage.input_tokens": fields.pop("input_tokens", 6010),
        "gen_ai.response.id": fields.pop("response_id", "msg_0123456789"),
    }
    mine = span(CLAUDE, scope="com.anthropic.sdk.python", number=1)

    found = rows_of(sqlite_engine, in_traces(mine, span(CLAUDE | told, number=2, **fields)))

    assert {number: row.status for number, row in found.items()} == {1: "billed", 2: "billed"}


def test_a_server_that_gives_all_responses_one_id_loses_no_call(sqlite_engine: Engine) -> None:
    books = Books(sqlite_engine)
    calls = in_traces(
        *(
            span(CLAUDE, scope="opentelemetry.instrumentation.anthropic" if number % 2 else "b", number=number)
            for number in range(1, 151)
        )
    )
    for position in range(0, 150, 10):
        books.book(calls[position : position + 10])

    statuses = [row.status for row in _rows(sqlite_engine, books).values()]
    assert statuses.count("billed") >= 75  # each absorbs at most one of the other library


def test_openlit_s_and_the_sdk_s_counts_are_one_call_although_they_differ(sqlite_engine: Engine) -> None:
    raw: Attributes = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_creation.input_tokens": 1000}
    patched = span(CLAUDE | raw, scope="openlit.instrumentation.anthropic", number=1)
    native = span(CLAUDE, scope="com.anthropic.sdk.python", number=2, parent=1, **within(5))

    found = rows_of(sqlite_engine, [patched, native])

    assert found == {1: suppressed("duplicate_response", (6010, 200)), 2: BILLED_CLAUDE}


def test_langchain_around_openai_is_one_call(sqlite_engine: Engine) -> None:
    chain = span(
        {"openinference.span.kind": "CHAIN"}, scope="openinference.instrumentation.langchain", number=1, kind=1
    )
    langchain = span(
        OPENINFERENCE_GPT, scope="openinference.instrumentation.langchain", number=2, parent=1, kind=1, **within(1)
    )
    openai = span(GPT, scope="opentelemetry.instrumentation.openai.v1", number=3, parent=2, **within(5))

    assert rows_of(sqlite_engine, [chain, langchain, openai]) == {
        1: suppressed("covered_by_child", (None, None)),
        2: suppressed("covered_by_child", (2006, 300)),
        3: BILLED_GPT,
    }


def test_langchain_bills_for_a_stream_that_was_not_asked_for_its_usage(sqlite_engine: Engine) -> None:
    langchain = span(OPENINFERENCE_GPT | {"llm.provider": "openai"}, scope="openinference.instrumentation.langchain")
    silent: Attributes = {key: value for key, value in GPT.items() if "usage" not in key}
    openai = span(silent, scope="opentelemetry.instrumentation.openai.v1", number=2, parent=1, **within(5))

    assert rows_of(sqlite_engine, [langchain, openai]) == {1: BILLED_GPT, 2: suppressed("twin", (None, None))}


def test_litellm_beside_openai_is_one_call_by_its_response(sqlite_engine: Engine) -> None:
    response: Attributes = {"gen_ai.response.id": "chatcmpl-0123456789"}
    gateway = span(
        GPT | response | {"litellm.call_id": "6f3c", "litellm.cost.total": 0.0004}, scope="litellm", number=1, kind=1
    )
    openai = span(GPT | response, scope="opentelemetry.instrumentation.openai.v1", number=2, **within(5))

    found = rows_of(sqlite_engine, [gateway, openai])

    assert sorted(row.status for row in found.values()) == ["billed", "suppressed"]
    assert {row.tokens for row in found.values()} == {(2006, 300)}


def test_litellm_beside_openai_is_one_embedding_by_its_interval(sqlite_engine: Engine) -> None:
    embedding: Attributes = {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.operation.name": "embeddings",
        "gen_ai.usage.input_tokens": 8,
    }
    gateway = span(embedding | {"gen_ai.response.id": "6f3c-0000"}, scope="litellm", number=1, kind=1)
    openai = span(embedding, scope="opentelemetry.instrumentation.openai.v1", number=2, **within(5))

    found = rows_of(sqlite_engine, [gateway, openai])

    assert sorted(row.status for row in found.values()) == ["billed", "suppressed"]


def test_what_litellm_s_cache_answered_is_not_billable(sqlite_engine: Engine) -> None:
    hit = span(GPT | {"litellm.cache_hit": True}, scope="litellm", kind=1)

    assert rows_of(sqlite_engine, [hit]) == {1: Row("not_billable", None, (None, None))}


def vercel(operation: str, tokens: int) -> Attributes:
    return {
        "ai.operationId": operation,
        "ai.model.provider": "openai.responses",
        "ai.model.id": "gpt-4o-mini",
        "ai.usage.inputTokens": tokens,
        "ai.usage.outputTokens": tokens // 10,
    }


def test_vercel_s_outer_span_is_the_sum_of_its_inner_ones(sqlite_engine: Engine) -> None:
    outer = span(vercel("ai.generateText", 3000), scope="ai", number=1, kind=1)
    first = span(vercel("ai.generateText.doGenerate", 1000), scope="ai", number=2, parent=1, kind=1, **within(1))
    second = span(vercel("ai.generateText.doGenerate", 2000), scope="ai", number=3, parent=1, kind=1, **within(1))

    assert rows_of(sqlite_engine, [outer, first, second]) == {
        1: suppressed("covered_by_child", (3000, 300)),
        2: Row("billed", None, (1000, 100)),
        3: Row("billed", None, (2000, 200)),
    }


def test_vercel_s_embeddings_count_once(sqlite_engine: Engine) -> None:
    def embedding(operation: str) -> Attributes:
        return {
            "ai.operationId": operation,
            "ai.model.provider": "openai.embedding",
            "ai.model.id": "text-embedding-3-small",
            "ai.usage.tokens": 8,
        }

    outer = span(embedding("ai.embedMany"), scope="ai", number=1, kind=1)
    inner = span(embedding("ai.embedMany.doEmbed"), scope="ai", number=2, parent=1, kind=1, **within(1))

    assert rows_of(sqlite_engine, [outer, inner]) == {
        1: suppressed("covered_by_child", (8, None)),
        2: Row("billed", None, (8, None)),
    }


def test_version_7_of_vercel_s_sdk_embeds_once(sqlite_engine: Engine) -> None:
    embedding: Attributes = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.usage.input_tokens": 8,
    }
    outer = span(embedding, scope="gen_ai", number=1)
    inner = span(embedding, scope="gen_ai", number=2, parent=1, **within(1))

    assert rows_of(sqlite_engine, [outer, inner])[2] == Row("billed", None, (8, None))


def strands(operation: str) -> Attributes:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.system": "strands-agents",
        "gen_ai.request.model": "us.anthropic.claude-sonnet-4-20250514-v1:0",
        "gen_ai.usage.input_tokens": 6010,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.total_tokens": 6210,
        "gen_ai.usage.cache_read.input_tokens": 5000,
        "gen_ai.usage.cache_creation.input_tokens": 1000,
    }


def test_strands_three_spans_over_bedrock_are_one_call(sqlite_engine: Engine) -> None:
    scope = "strands.telemetry.tracer"
    agent = span(strands("invoke_agent"), scope=scope, number=1, kind=1)
    cycle = span(strands("execute_event_loop_cycle"), scope=scope, number=2, parent=1, kind=1, **within(1))
    model = span(strands("chat"), scope=scope, number=3, parent=2, kind=1, **within(2))
    bedrock = span(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "aws.bedrock",
            "gen_ai.request.model": "us.anthropic.claude-sonnet-4-20250514-v1:0",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 200,
            "gen_ai.usage.cache_read.input_tokens": 5000,
            "gen_ai.usage.cache_creation.input_tokens": 1000,
        },
        scope="opentelemetry.instrumentation.botocore.bedrock-runtime",
        number=4,
        parent=3,
        **within(5),
    )

    assert rows_of(sqlite_engine, [agent, cycle, model, bedrock]) == {
        1: suppressed("covered_by_child", (6010, 200)),
        2: suppressed("covered_by_child", (6010, 200)),
        3: suppressed("covered_by_child", (6010, 200)),
        4: BILLED_CLAUDE,
    }


def test_pydantic_ai_s_agent_and_openai_below_are_one_call(sqlite_engine: Engine) -> None:
    agent = span(AGENT | {"gen_ai.aggregated_usage.input_tokens": 2006}, scope="pydantic-ai", number=1, kind=1)
    chat = span(GPT | {"operation.cost": 0.0004}, scope="pydantic-ai", number=2, parent=1, **within(1))
    openai = span(GPT, scope="opentelemetry.instrumentation.openai.v1", number=3, parent=2, **within(5))

    found = rows_of(sqlite_engine, [agent, chat, openai])

    assert [found[number].status for number in (1, 2, 3)] == ["suppressed", "suppressed", "billed"]
    assert found[3] == BILLED_GPT


def test_langfuse_beside_openinference_is_one_call(sqlite_engine: Engine) -> None:
    observed = span(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-4o-mini",
            "langfuse.observation.usage_details": '{"input": 86, "input_cached_tokens": 1920, "output": 300}',
        },
        scope="langfuse-sdk",
        number=1,
        kind=1,
    )
    openai = span(
        OPENINFERENCE_GPT | {"llm.provider": "openai", "llm.token_count.prompt_details.cache_read": 1920,
                             "llm.token_count.completion_details.reasoning": 0},
        scope="openinference.instrumentation.openai",
        number=2,
        kind=1,
        **within(5),
    )  # fmt: skip

    assert rows_of(sqlite_engine, [observed, openai]) == {1: suppressed("twin", (2006, 300)), 2: BILLED_GPT}


def test_two_attempts_inside_a_framework_s_call_are_both_billed(sqlite_engine: Engine) -> None:
    """python-genai folds a retry into one span with the last call's usage: the calls below know better."""
    folded = span(GPT, scope="opentelemetry.instrumentation.genai.langchain", number=1)
    attempts = [
        span(
            GPT | {"gen_ai.response.id": f"chatcmpl-000000000{number}"},
            scope="opentelemetry.instrumentation.openai.v1",
            number=number,
            parent=1,
            **within(number),
        )
        for number in (2, 3)
    ]

    assert rows_of(sqlite_engine, [folded, *attempts]) == {
        1: suppressed("covered_by_child", (2006, 300)),
        2: BILLED_GPT,
        3: BILLED_GPT,
    }


def test_our_own_advisor_is_billed_beside_the_reply_that_it_advised(sqlite_engine: Engine) -> None:
    reply = span(CLAUDE, scope="farebox.sdks.anthropic", number=1)
    advisor: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-opus-4-5",
        "gen_ai.usage.input_tokens": 700,
        "gen_ai.usage.output_tokens": 50,
    }

    advised = span(advisor, scope="farebox.sdks.anthropic", number=2, parent=1)

    assert rows_of(sqlite_engine, [reply, advised]) == {1: BILLED_CLAUDE, 2: Row("billed", None, (700, 50))}


def test_an_agent_whose_calls_are_partly_missing_says_so(sqlite_engine: Engine) -> None:
    sums: Attributes = {"gen_ai.usage.input_tokens": 5006, "gen_ai.usage.output_tokens": 400}
    agent = span(AGENT | sums, scope="some.agents", number=1, kind=1)
    call = span(GPT, scope="opentelemetry.instrumentation.openai.v1", number=2, parent=1, **within(5))
    books = Books(sqlite_engine)

    alone = books.book([agent])
    joined = books.book([call])

    assert (alone.missing_children, joined.missing_children) == (0, 1)
    with owner_transaction(sqlite_engine) as connection:
        found = connection.execute(
            text("SELECT billing_status, reason, reason_detail FROM usage_rows WHERE org_id = :org AND kind = :kind"),
            {"org": books.org_id, "kind": "container"},
        )
        assert [tuple(row) for row in found] == [
            ("suppressed", "covered_by_child", "missing_children: 3000 input and 100 output tokens")
        ]


@pytest.mark.parametrize("count", [1, 2], ids=["once", "sent again"])
def test_claude_code_s_record_and_span_of_one_request_are_one_call(sqlite_engine: Engine, count: int) -> None:
    selection = Selection(dialects.LOG_MARKS, dialects.LOG_KEYS)
    body = agent_logs.protobuf(*[agent_logs.CLAUDE] * count)
    records = decode_logs(body, "protobuf", selection, dialects.identify_record, END_US).spans
    traced = span(
        {
            "span.type": "llm_request",
            "gen_ai.request.model": "claude-sonnet-4-5-20250929",
            "input_tokens": 10,
            "output_tokens": 200,
            "cache_read_tokens": 5000,
            "cache_creation_tokens": 1000,
            "request_id": "req_0123456789",
        },
        scope="com.anthropic.claude_code.tracing",
        number=1,
        kind=1,
    )

    found = rows_of(sqlite_engine, [traced, *records])

    assert found.pop(1) == BILLED_CLAUDE
    assert list(found.values()) == [suppressed("duplicate_response", (6010, 200))]


def test_the_price_of_converted_counts_is_that_of_the_true_ones(sqlite_engine: Engine) -> None:
    """Claude Sonnet 4.5, per million: 3 USD input, 0.30 cached, 3.75 written, 15 output (anthropic.com, 2025)."""
    raw: Attributes = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_creation.input_tokens": 1000}
    books = Books(sqlite_engine)

    books.book([span(CLAUDE | raw, scope="openlit.instrumentation.anthropic")])

    with owner_transaction(sqlite_engine) as connection:
        pico = connection.scalar(text("SELECT cost_pico FROM usage_rows WHERE org_id = :org"), {"org": books.org_id})
    assert Decimal(pico or 0) / 10**12 == Decimal("0.00828")

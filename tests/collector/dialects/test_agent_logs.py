"""Log events as @anthropic-ai/claude-code 2.1.197 and @openai/codex 0.169.0 write them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from farebox_collector import dialects
from farebox_collector.decode import Decoded, Selection, decode_logs
from farebox_collector.errors import Malformed
from farebox_collector.spans import AttributeValue, Span
from farebox_ledger.usage import Usage, UsageEvent
from tests.collector.dialects.reading import END_US, read, span
from tests.collector.emitting import Value, json_value, key_value

SELECTION = Selection(dialects.LOG_MARKS, dialects.LOG_KEYS)
CLAUDE_SCOPE = "com.anthropic.claude_code.events"
CODEX_SCOPE = "codex_otel.log_only"

CLAUDE: dict[str, Value] = {
    "user.id": "3f9a",
    "session.id": "session-1",
    "app.version": "2.1.197",
    "organization.id": "org-uuid",
    "user.email": "jane@example.com",
    "terminal.type": "vscode",
    "event.name": "api_request",
    "event.timestamp": "2025-11-21T02:33:20.000Z",
    "event.sequence": 7,
    "prompt.id": "p-1",
    "model": "claude-sonnet-4-5-20250929",
    "input_tokens": 10,
    "output_tokens": 200,
    "cache_read_tokens": 5000,
    "cache_creation_tokens": 1000,
    "cost_usd": 0.0083,
    "cost_usd_micros": 8300,
    "duration_ms": 2500,
    "request_id": "req_0123456789",
    "speed": "normal",
    "query_source": "repl_main_thread",
}
CLAUDE_USAGE = Usage(
    input_tokens=6010,
    output_tokens=200,
    cache_read_input_tokens=5000,
    cache_write_input_tokens={"unsplit": 1000},
)
CODEX: dict[str, Value] = {
    "event.name": "codex.sse_event",
    "event.kind": "response.completed",
    "input_token_count": "2006",
    "output_token_count": "300",
    "cached_token_count": 1920,
    "cache_write_token_count": 50,
    "reasoning_token_count": 100,
    "tool_token_count": "2306",
    "event.timestamp": "2025-11-21T02:33:20.000Z",
    "conversation.id": "conversation-1",
    "app.version": "0.169.0",
    "auth_mode": "ApiKey",
    "originator": "codex_cli_rs",
    "user.account_id": "account-1",
    "user.email": "jane@example.com",
    "model": "gpt-5-codex",
    "slug": "gpt-5-codex",
}


def protobuf(*records: dict[str, Value], scope: str = CLAUDE_SCOPE, end_us: int = END_US) -> bytes:
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.append(key_value("service.name", "claude-code"))
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.name = scope
    for attributes in records:
        record = scope_logs.log_records.add(time_unix_nano=end_us * 1000, observed_time_unix_nano=end_us * 1000)
        record.body.string_value = "claude_code.api_request"
        record.attributes.extend(key_value(key, value) for key, value in attributes.items())
    return request.SerializeToString()


def as_json(*records: dict[str, Value], scope: str = CLAUDE_SCOPE) -> bytes:
    logs = [
        {
            "timeUnixNano": str(END_US * 1000),
            "body": {"stringValue": "claude_code.api_request"},
            "attributes": [{"key": key, "value": json_value(value)} for key, value in attributes.items()],
        }
        for attributes in records
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "claude-code"}}]}
    scoped = [{"scope": {"name": scope}, "logRecords": logs}]
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": scoped}]}).encode()


def decoded(body: bytes, encoding: Any = "protobuf") -> Decoded:
    return decode_logs(body, encoding, SELECTION, dialects.identify_record, END_US)


def only_span(body: bytes, encoding: Any = "protobuf") -> Span:
    (span,) = decoded(body, encoding).spans
    return span


def event_of(body: bytes, encoding: Any = "protobuf") -> UsageEvent:
    event = dialects.read(only_span(body, encoding))
    assert event is not None
    return event


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_a_request_of_claude_code_is_a_call(encoding: str) -> None:
    event = event_of(protobuf(CLAUDE) if encoding == "protobuf" else as_json(CLAUDE), encoding)

    assert (event.usage, event.usage_rule) == (CLAUDE_USAGE, "input_excludes_cache")
    assert event.raw_usage == {
        "cache_creation_tokens": 1000, "cache_read_tokens": 5000, "input_tokens": 10, "output_tokens": 200,
    }  # fmt: skip
    assert (event.dialect, event.kind, event.provider) == ("claude_code", "call", "anthropic")
    assert (event.request_model, event.response_id) == ("claude-sonnet-4-5-20250929", "req_0123456789")
    assert event.operation == "chat"
    assert (event.user, event.user_email, event.session) == ("3f9a", "jane@example.com", "session-1")
    assert (event.stated_cost, event.service, event.service_tier) == (Decimal("0.0083"), "claude-code", None)
    assert (event.started_at_us, event.occurred_at_us) == (END_US - 2_500_000, END_US)
    assert event.metadata == {"organization_id": "org-uuid", "query_source": "repl_main_thread"}


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_a_completed_response_of_codex_is_a_call(encoding: str) -> None:
    body = protobuf(CODEX, scope=CODEX_SCOPE) if encoding == "protobuf" else as_json(CODEX, scope=CODEX_SCOPE)

    event = event_of(body, encoding)

    assert event.usage == Usage(
        input_tokens=2006,
        output_tokens=300,
        cache_read_input_tokens=1920,
        cache_write_input_tokens={"unsplit": 50},
        reasoning_output_tokens=100,
    )
    assert (event.dialect, event.kind, event.provider, event.usage_rule) == ("codex", "call", "openai", None)
    assert (event.request_model, event.session, event.user) == ("gpt-5-codex", "conversation-1", "account-1")
    assert event.metadata == {"auth_mode": "ApiKey"}


def test_both_encodings_give_a_record_the_same_ids() -> None:
    one, other = only_span(protobuf(CLAUDE)), only_span(as_json(CLAUDE), "json")

    assert (one.trace_id, one.span_id) == (other.trace_id, other.span_id)
    assert (len(one.trace_id), len(one.span_id)) == (16, 8)


@pytest.mark.parametrize(
    "other",
    [{"event.sequence": 8}, {"event.timestamp": "2025-11-21T02:33:20.001Z"}, {"session.id": "session-2"}],
    ids=["sequence", "time", "session"],
)
def test_another_record_has_other_ids(other: dict[str, Value]) -> None:
    assert only_span(protobuf(CLAUDE)).span_id != only_span(protobuf(CLAUDE | other)).span_id


def test_a_span_of_the_same_request_meets_the_record_in_one_trace() -> None:
    traced: dict[str, AttributeValue] = {
        "span.type": "llm_request",
        "model": "claude-sonnet-4-5-20250929",
        "gen_ai.system": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5-20250929",
        "session.id": "session-1",
        "duration_ms": 2500,
        "input_tokens": 10,
        "output_tokens": 200,
        "cache_read_tokens": 5000,
        "cache_creation_tokens": 1000,
        "request_id": "req_0123456789",
        "gen_ai.response.id": "req_0123456789",
    }

    event = read(traced, scope="com.anthropic.claude_code.tracing", kind=1, parent=9)
    recorded = event_of(protobuf(CLAUDE))

    assert (event.usage, event.kind, event.response_id) == (CLAUDE_USAGE, "call", "req_0123456789")
    assert event.trace_id == recorded.trace_id
    assert event.is_client
    assert not recorded.is_client
    named = {key: value for key, value in traced.items() if key != "model"}
    assert read(named, scope="com.anthropic.claude_code.tracing").request_model == "claude-sonnet-4-5-20250929"


def test_other_spans_of_claude_code_are_no_calls() -> None:
    tool: dict[str, AttributeValue] = {"span.type": "tool", "gen_ai.system": "anthropic", "session.id": "s"}

    span = Span(b"t" * 16, b"s" * 8, None, "com.anthropic.claude_code.tracing", 1, None, END_US, False, None, tool)

    assert dialects.read(span) is None


@pytest.mark.parametrize(
    "other",
    [
        {"event.name": "user_prompt", "prompt": "count the input_token_count"},
        {"event.name": "tool_result", "tool_parameters": "cache_creation_tokens"},
        {"event.name": "codex.sse_event", "event.kind": "response.created"},
        {"event.name": "api_error", "model": "claude-sonnet-4-5", "cache_creation_tokens": 1},
        {"input_token_count": 5},
    ],
    ids=["a prompt", "a tool", "another kind", "an error", "no name"],
)
def test_all_other_records_are_counted_and_forgotten(other: dict[str, Value]) -> None:
    found = decoded(protobuf(other, CLAUDE))

    assert (len(found.spans), found.others, found.rejected) == (1, 1, [])


def test_codex_s_own_spans_are_no_calls() -> None:
    turn: dict[str, AttributeValue] = {"gen_ai.request.model": "gpt-5-codex", "input_token_count": 5}

    assert dialects.read(span(turn, scope=CODEX_SCOPE, kind=3)) is None


def test_the_copy_that_codex_writes_for_its_traces_is_left_out() -> None:
    assert decoded(protobuf(CODEX, scope="codex_otel.trace_safe")).spans == []


def test_the_name_of_an_event_may_be_a_field() -> None:
    request = ExportLogsServiceRequest.FromString(protobuf({key: CLAUDE[key] for key in CLAUDE if key != "event.name"}))
    request.resource_logs[0].scope_logs[0].log_records[0].event_name = "claude_code.api_request"

    assert event_of(request.SerializeToString()).usage == CLAUDE_USAGE


def test_a_record_of_a_wrong_clock_is_rejected() -> None:
    found = decoded(protobuf(CLAUDE, end_us=END_US + 25 * 3_600_000_000))

    assert [rejected.reason for rejected in found.rejected] == ["clock_skew"]


def test_a_broken_record_costs_no_other() -> None:
    bad = as_json(CLAUDE, CLAUDE).replace(str(END_US * 1000).encode(), b"soon", 1)

    found = decoded(bad, "json")

    assert (len(found.spans), found.others) == (1, 1)


@pytest.mark.parametrize(("body", "encoding"), [(b"\xff\xff", "protobuf"), (b"[", "json")])
def test_a_body_that_is_no_request_is_refused(body: bytes, encoding: str) -> None:
    with pytest.raises(Malformed):
        decoded(body, encoding)


def test_fast_requests_have_their_own_tier() -> None:
    assert event_of(protobuf(CLAUDE | {"speed": "fast"})).service_tier == "fast"


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws.bedrock"),
        ("claude-sonnet-4-5@20250929", "gcp.vertex_ai"),
        ("claude-sonnet-4-5", "anthropic"),
    ],
)
def test_claude_code_pays_who_serves_the_model(model: str, provider: str) -> None:
    assert event_of(protobuf(CLAUDE | {"model": model})).provider == provider

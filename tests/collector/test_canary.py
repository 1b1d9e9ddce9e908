"""Law 8: a marker in every place of a span is afterwards in no file, log or answer outside the allow-list."""

from __future__ import annotations

import json
import time
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from sqlalchemy import Engine

from tests.collector.emitting import CALL, Emitted, Value, json_span, protobuf
from tests.collector.running import JSON, Child, rows

MARKER = "c4n4ry-7f3a9e"
PROMPT_KEYS = (
    "gen_ai.prompt", "gen_ai.completion", "gen_ai.input.messages", "gen_ai.output.messages",
    "gen_ai.system_instructions", "gen_ai.tool.definitions", "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result", "llm.prompts",
    "llm.input_messages.0.message.content", "input.value", "output.value", "ai.prompt.messages", "http.url", MARKER,
)  # fmt: skip


def marked_span() -> bytes:
    """A call that carries the marker wherever OTLP has room for it, outside the allow-list."""
    request = ExportTraceServiceRequest.FromString(
        protobuf(Emitted(1, name=f"chat {MARKER}", status=1, message=MARKER))
    )
    resource = request.resource_spans[0]
    resource.schema_url = MARKER
    resource.resource.attributes.append(text("host.name"))
    scope = resource.scope_spans[0]
    scope.schema_url = scope.scope.version = MARKER
    scope.scope.attributes.append(text("scope.attribute"))
    span = scope.spans[0]
    span.trace_state = f"vendor={MARKER}"
    span.attributes.extend(text(key) for key in PROMPT_KEYS)
    span.attributes.append(KeyValue(key="bytes", value=AnyValue(bytes_value=MARKER.encode())))
    nested = KeyValue(key="gen_ai.nested")
    nested.value.kvlist_value.values.append(text("inner"))
    nested.value.array_value.values.append(AnyValue(string_value=MARKER))
    span.attributes.append(nested)
    kept_key = KeyValue(key="gen_ai.request.model")  # an object where a name belongs
    kept_key.value.kvlist_value.values.append(text("inner"))
    span.attributes.append(kept_key)
    span.events.add(name=MARKER).attributes.append(text("exception.message"))
    span.links.add(trace_id=b"l" * 16, span_id=b"l" * 8, trace_state=MARKER).attributes.append(text("link"))
    return request.SerializeToString()


def text(key: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=MARKER))


def failed_and_rejected() -> bytes:
    """A failed call with a message, and spans that go to the quarantine."""
    failed = Emitted(2, {**CALL, "gen_ai.prompt": MARKER}, status=2, message=MARKER)
    late = Emitted(3, {**CALL, "gen_ai.prompt": MARKER}, end_ns=1, name=MARKER)
    return protobuf(failed, late)


def json_with_wrong_types() -> bytes:
    good = json_span(Emitted(4, {**CALL, "gen_ai.prompt": MARKER}))
    number = {"key": "gen_ai.usage.input_tokens", "value": {"intValue": MARKER}}
    bad = [
        {**json_span(Emitted(5)), "attributes": [number]},
        {**json_span(Emitted(6)), "endTimeUnixNano": MARKER},
        {**json_span(Emitted(7)), "kind": {MARKER: MARKER}},
        {**json_span(Emitted(8)), "traceId": MARKER},
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [good, *bad]}]}]}).encode()


def log_records() -> bytes:
    """A record of nobody's, and a call of an agent with what agents write beside it."""
    request = ExportLogsServiceRequest()
    scope_logs = request.resource_logs.add().scope_logs.add()
    scope_logs.log_records.add().body.string_value = MARKER
    record = scope_logs.log_records.add(time_unix_nano=time.time_ns(), severity_text=MARKER)
    record.body.string_value = MARKER
    record.attributes.extend(text(key) for key in ("prompt", "arguments", "output", "error.message", "tool_parameters"))
    record.attributes.extend(
        KeyValue(key=key, value=AnyValue(string_value=value))
        for key, value in (("event.name", "api_request"), ("cache_creation_tokens", "7"), ("input_tokens", "9"))
    )
    return request.SerializeToString()


def foreign_dialects() -> bytes:
    """A call of each dialect with content under the keys where its emitter writes it."""
    usage = json.dumps({"input": 5, "output": 2})
    response = json.dumps({"id": "chatcmpl-1", "model": MARKER, "object": "response", "output": [{"text": MARKER}]})
    emitted: dict[str, dict[str, Value]] = {
        "openinference.instrumentation.openai": {"openinference.span.kind": "LLM", "llm.model_name": "m",
                                                 "llm.invocation_parameters": MARKER, "llm.tools.0.tool": MARKER,
                                                 "output.value": response},
        "opentelemetry.instrumentation.openai.v1": {**CALL, "gen_ai.prompt.0.content": MARKER, "gen_ai.headers": MARKER,
                                                    "traceloop.entity.input": MARKER},
        "openlit.instrumentation.openai": {**CALL, "gen_ai.content.prompt": MARKER, "gen_ai.tool.args": MARKER},
        "ai": {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m", "ai.response.text": MARKER,
               "ai.request.headers.authorization": MARKER, "ai.response.providerMetadata": MARKER},
        "litellm": {**CALL, "litellm.call_id": "1", "hidden_params": MARKER, "litellm.team.metadata": MARKER},
        "pydantic-ai": {**CALL, "gen_ai.usage.raw": MARKER, "model_request_parameters": MARKER},
        "langfuse-sdk": {"langfuse.observation.type": "generation", "langfuse.observation.input": MARKER,
                         "langfuse.observation.usage_details": usage, "langfuse.observation.model.name": "m"},
        "strands.telemetry.tracer": {**CALL, "gen_ai.agent.tools": MARKER, "system_prompt": MARKER},
        "com.anthropic.claude_code.tracing": {"span.type": "llm_request", "gen_ai.system": "anthropic",
                                              "user_prompt": MARKER, "error": MARKER},
    }  # fmt: skip
    return protobuf(
        *(Emitted(20 + at, attributes, scope=scope) for at, (scope, attributes) in enumerate(emitted.items()))
    )


def test_a_marker_is_in_no_file_no_log_and_no_answer(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    child = Child(tmp_path, FAREBOX_ERROR_MESSAGES="off", FAREBOX_LOG_LEVEL="debug")
    http = child.started()
    answers = [
        http.post(marked_span()),
        http.post(failed_and_rejected()),
        http.post(json_with_wrong_types(), JSON),
        http.post(log_records(), path="/v1/logs"),
        http.post(foreign_dialects()),
        http.post(log_records()),
        http.post(f'{{"resourceSpans": "{MARKER}"}}'.encode(), JSON),
        http.post(marked_span(), authorization=f"Bearer {MARKER}"),
        http.post(marked_span(), path=f"/{MARKER}"),
    ]
    time.sleep(0.5)
    pages = [http.get(path) for path in ("/readyz", "/metrics")]
    while_running = files_with_marker(tmp_path)
    child.process.terminate()
    _, out, error = child.end()

    assert [answer.status for answer in answers[:5]] == [200, 200, 200, 200, 200]
    assert len(rows(sqlite_engine, "span_id")) == 3 + 1 + 9
    assert while_running == files_with_marker(tmp_path) == []
    assert not any(MARKER.encode() in answer.body for answer in (*answers, *pages))
    assert MARKER not in out
    assert MARKER not in error


def files_with_marker(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]
    assert len(list(folder.rglob("*.db"))) == 2
    return found

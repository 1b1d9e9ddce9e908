"""Writes trace requests as an exporter would, with the official messages and none of the collector's code."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Value: TypeAlias = str | bool | int | float | list[str]

CALL: Mapping[str, Value] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}
"""A call that costs 0.00021 USD by OpenAI's prices of 2026: 1000 × 0.15e-6 + 100 × 0.6e-6."""


@dataclass
class Emitted:
    """One span; the number makes its ids."""

    number: int = 1
    attributes: Mapping[str, Value] = field(default_factory=lambda: CALL)
    trace: int | None = None
    parent: int | None = None
    end_ns: int = field(default_factory=time.time_ns)
    duration_ns: int = 1_000_000_000
    kind: int = 3
    name: str = "chat gpt-4o-mini"
    status: int = 0
    message: str = ""
    scope: str = "test.emitter"

    @property
    def trace_id(self) -> bytes:
        return (self.number if self.trace is None else self.trace).to_bytes(16, "big")

    @property
    def span_id(self) -> bytes:
        return self.number.to_bytes(8, "big")


def protobuf(*spans: Emitted, resource: Mapping[str, Value] | None = None) -> bytes:
    """A request in protobuf."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.extend(key_value(key, value) for key, value in (resource or {}).items())
    for emitted in spans:
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = emitted.scope
        span = scope_spans.spans.add()
        span.trace_id, span.span_id = emitted.trace_id, emitted.span_id
        if emitted.parent is not None:
            span.parent_span_id = emitted.parent.to_bytes(8, "big")
        span.name, span.kind = emitted.name, Span.SpanKind.ValueType(emitted.kind)
        span.start_time_unix_nano = max(0, emitted.end_ns - emitted.duration_ns)
        span.end_time_unix_nano = emitted.end_ns
        span.attributes.extend(key_value(key, value) for key, value in emitted.attributes.items())
        span.status.code, span.status.message = Status.StatusCode.ValueType(emitted.status), emitted.message
    return request.SerializeToString()


def key_value(key: str, value: Value) -> KeyValue:
    return KeyValue(key=key, value=any_value(value))


def any_value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        result = AnyValue()
        result.array_value.values.extend(AnyValue(string_value=item) for item in value)
        return result
    return AnyValue(string_value=value)


def json_request(*spans: Emitted) -> bytes:
    """The same request in OTLP/JSON."""
    return json.dumps({"resourceSpans": [{"scopeSpans": [json_scope(span) for span in spans]}]}).encode()


def json_scope(emitted: Emitted) -> dict[str, Any]:
    return {"scope": {"name": emitted.scope}, "spans": [json_span(emitted)]}


def json_span(emitted: Emitted) -> dict[str, Any]:
    return {
        "traceId": emitted.trace_id.hex(),
        "spanId": emitted.span_id.hex(),
        "parentSpanId": "" if emitted.parent is None else emitted.parent.to_bytes(8, "big").hex(),
        "name": emitted.name,
        "kind": emitted.kind,
        "startTimeUnixNano": str(max(0, emitted.end_ns - emitted.duration_ns)),
        "endTimeUnixNano": str(emitted.end_ns),
        "attributes": [{"key": key, "value": json_value(value)} for key, value in emitted.attributes.items()],
        "status": {"code": emitted.status, "message": emitted.message},
    }


def json_value(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}
    return {"stringValue": value}


def calls(numbers: Sequence[int]) -> bytes:
    """A request with one call for each number."""
    return protobuf(*(Emitted(number) for number in numbers))

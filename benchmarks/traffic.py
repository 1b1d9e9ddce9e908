"""Trace requests for the benchmarks of the collector: official messages, made once and sent often.

The first half of every trace id is a mark of eight bytes, which `renewed` replaces, so that a body can be sent again as
spans that nobody has seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from random import Random
from typing import Final, Literal, TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

Kind: TypeAlias = Literal["llm", "prompts", "mixed"]
Value: TypeAlias = str | int | float

MARK: Final = b"@mark-8@"
CALLS_PER_TRACE: Final = 4
PROMPT: Final = "All happy families are alike; each unhappy family is unhappy in its own way. " * 53  # 4 KB
MODELS: Final = (("openai", "gpt-4o-mini"), ("openai", "gpt-4.1"), ("anthropic", "claude-sonnet-4-5"))

_random: Final = Random(5)


def requests(kind: Kind, spans: int, per_request: int) -> list[bytes]:
    """Make the bodies of some requests, about 0.9 kB a span; `mixed` holds nine spans of others for each call."""
    return [renewed(request(kind, per_request)) for _ in range(max(1, spans // per_request))]


def renewed(body: bytes) -> bytes:
    """Give all spans of a body ids that nobody has seen."""
    return body.replace(MARK, _random.randbytes(4).hex().encode())


def endless(kind: Kind, per_request: int) -> Iterator[bytes]:
    """Make bodies for ever, at next to no cost each."""
    body = request(kind, per_request)
    while True:
        yield renewed(body)


def request(kind: Kind, spans: int) -> bytes:
    """Make a body whose trace ids carry the mark."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    add_attributes(resource.resource, {"service.name": "shop", "telemetry.sdk.language": "python"})
    calls = resource.scope_spans.add()
    calls.scope.name = "opentelemetry.instrumentation.openai_v2"
    others = resource.scope_spans.add()
    others.scope.name = "opentelemetry.instrumentation.asgi"
    for number in range(spans):
        add_span(others if kind == "mixed" and number % 10 else calls, number, kind)
    return message.SerializeToString()


def add_span(scope: ScopeSpans, number: int, kind: Kind) -> None:
    span = scope.spans.add()
    span.trace_id = MARK + (_random.getrandbits(48) * 2**16 + number // CALLS_PER_TRACE).to_bytes(8, "big")
    if number % CALLS_PER_TRACE:
        span.trace_id = scope.spans[-2].trace_id if len(scope.spans) > 1 else span.trace_id
    span.span_id = _random.randbytes(8)
    span.parent_span_id = _random.randbytes(8)  # a span of the application, which nobody sends here
    span.end_time_unix_nano = time.time_ns() - _random.randrange(10**9)
    span.start_time_unix_nano = span.end_time_unix_nano - 900_000_000
    span.kind = Span.SPAN_KIND_CLIENT
    if scope.scope.name.endswith("asgi"):
        span.name = "GET /orders/{id}"
        add_attributes(span, other_attributes())
    else:
        span.name = "chat gpt-4o-mini"
        add_attributes(span, call_attributes(kind))


def call_attributes(kind: Kind) -> dict[str, Value]:
    provider, model = _random.choice(MODELS)
    said: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.response.id": f"chatcmpl-{_random.randbytes(12).hex()}",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.output.type": "text",
        "gen_ai.usage.input_tokens": _random.randrange(200, 8000),
        "gen_ai.usage.cache_read.input_tokens": _random.randrange(200),
        "gen_ai.usage.output_tokens": _random.randrange(20, 900),
        "server.address": "api.openai.com" if provider == "openai" else "api.anthropic.com",
        "server.port": 443,
        "user.id": f"user-{_random.randrange(50)}",
        "farebox.project": "assistant",
        "farebox.action": "answer",
    }
    return {**said, "gen_ai.input.messages": PROMPT} if kind == "prompts" else said


def other_attributes() -> dict[str, Value]:
    return {
        "http.request.method": "GET",
        "http.route": "/orders/{id}",
        "http.response.status_code": 200,
        "url.path": f"/orders/{_random.randrange(10**6)}",
        "url.scheme": "https",
        "network.protocol.version": "1.1",
        "server.address": "shop.internal",
        "server.port": 8443,
    }


def add_attributes(owner: object, attributes: Mapping[str, Value]) -> None:
    for key, value in attributes.items():
        attribute = owner.attributes.add()  # type: ignore[attr-defined]  # a span or a resource
        attribute.key = key
        if isinstance(value, str):
            attribute.value.string_value = value
        elif isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.double_value = value

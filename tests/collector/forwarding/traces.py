"""Spans of every dialect, as their emitters write them, with a resource, failures and nesting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.collector.dialects import (
    test_anthropic_native,
    test_langfuse,
    test_litellm,
    test_openinference,
    test_openlit,
    test_openllmetry,
    test_pydantic_ai,
    test_strands,
)
from tests.collector.emitting import CALL, Emitted, Value, json_request, json_value, protobuf

END_NS = 1_763_690_000_123_456_789
SECOND_NS = 1_000_000_000
RESOURCE: Mapping[str, Value] = {
    "service.name": "shop", "farebox.project": "checkout", "farebox.tags": ["a", "b"], "host.name": "not kept",
}  # fmt: skip
OURS: Mapping[str, Value] = {
    **CALL,
    "gen_ai.request.stream": True,
    "gen_ai.response.time_to_first_chunk": 0.25,
    "gen_ai.response.id": "chatcmpl-0001",
    "gen_ai.usage.cache_read.input_tokens": 0,
    "gen_ai.response.finish_reasons": ["stop"],
    "farebox.usage.input_seconds": 1.5,
    "farebox.stated_cost": "0.0001",
    "farebox.metadata": '{"order": "Zoë \U0001f600"}',
    "farebox.tags": [],
    "user.id": "u-1",
    "user.email": "jane@example.com",
    "session.id": "s-1",
}
_VERCEL: Mapping[str, Value] = {
    "ai.operationId": "ai.generateText.doGenerate",
    "ai.model.id": "gpt-4o",
    "ai.model.provider": "openai.responses",
    "ai.usage.inputTokens": 12,
    "ai.usage.outputTokens": 34,
    "ai.settings.maxRetries": 2,
}
_BEDROCK: Mapping[str, Value] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "aws.bedrock",
    "gen_ai.request.model": "anthropic.claude-3-haiku-20240307-v1:0",
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.output_tokens": 10,
}
BY_SCOPE: list[tuple[str, Mapping[str, Any]]] = [
    ("farebox.sdks.openai", OURS),
    ("opentelemetry.instrumentation.genai.openai", CALL),
    ("an.unknown.library", CALL),
    ("opentelemetry.instrumentation.botocore.bedrock-runtime", _BEDROCK),
    (test_anthropic_native.SCOPE, test_anthropic_native.CALL),
    (test_langfuse.SCOPE, test_langfuse.GENERATION),
    ("litellm", test_litellm.FIRST_ENGINE),
    ("litellm", test_litellm.SECOND_ENGINE),
    (test_openinference.OPENAI, test_openinference.CHAT),
    ("openlit.otel.tracing", {**test_openlit.COMMON, **test_openlit.ANTHROPIC}),
    (test_openllmetry.OPENAI, test_openllmetry.CHAT),
    (test_openllmetry.ANTHROPIC, test_openllmetry.ANTHROPIC_CHAT),
    ("pydantic-ai", test_pydantic_ai.CHAT),
    (test_strands.SCOPE, test_strands.CHAT),
    ("ai", _VERCEL),
]


def spans_of_every_dialect() -> list[Emitted]:
    """One trace for each emitter, and one in which calls are nested, fail, and carry what cannot be billed."""
    alone = [
        Emitted(number, attributes, end_ns=END_NS + number * SECOND_NS, scope=scope)
        for number, (scope, attributes) in enumerate(BY_SCOPE, 1)
    ]
    agent: Mapping[str, Value] = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 5000}
    failed = "Rate limit of sk-abcdefghijkl1234 reached, ask jane@example.com\nand nobody else"
    nested = [
        Emitted(100, agent, trace=99, end_ns=END_NS + 9 * SECOND_NS, duration_ns=9 * SECOND_NS, kind=1),
        Emitted(101, CALL, trace=99, parent=100, end_ns=END_NS + 3 * SECOND_NS),
        Emitted(102, CALL, trace=99, parent=100, end_ns=END_NS + 5 * SECOND_NS, status=2, message=failed),
        Emitted(103, {**CALL, "gen_ai.usage.input_tokens": -5}, trace=99, parent=101, end_ns=END_NS + 2 * SECOND_NS),
        Emitted(104, {**CALL, "gen_ai.usage.input_tokens": 2**62}, end_ns=END_NS, duration_ns=-SECOND_NS),
        Emitted(105, {**CALL, "gen_ai.usage.output_tokens": float("nan")}, end_ns=END_NS, duration_ns=0),
        Emitted(106, {"gen_ai.system": "openai"}, end_ns=END_NS),  # a mark, and no call
        Emitted(107, {"http.route": "/orders"}, end_ns=END_NS, kind=2),
    ]
    return alone + nested


def as_protobuf() -> bytes:
    return protobuf(*spans_of_every_dialect(), resource=RESOURCE)


def as_json() -> bytes:
    request = json.loads(json_request(*spans_of_every_dialect()))
    attributes = [{"key": key, "value": json_value(value)} for key, value in RESOURCE.items()]
    request["resourceSpans"][0]["resource"] = {"attributes": attributes}
    return json.dumps(request).replace('"doubleValue": NaN', '"doubleValue": "NaN"').encode()

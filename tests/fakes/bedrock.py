"""Amazon Bedrock's runtime on the loopback: Converse, InvokeModel, their streams, asynchronous invocations, and one S3.

Shapes are those of the API reference and of the model parameters in the user guide (2026-11); the figures stand at the
top. Behaviors on demand stand in `tests.fakes.server`; `unread:` leaves the usage headers out, as some vendors' do.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.fakes.aws import frame
from tests.fakes.server import ERRORS, WORDS, Event, FakeServer, Handler

#: 10 + 5000 read + 1000 written (600 for an hour, 400 for five minutes) = 6010 in, 200 out.
CONVERSE: dict[str, Any] = {
    "inputTokens": 10,
    "outputTokens": 200,
    "totalTokens": 6210,
    "cacheReadInputTokens": 5000,
    "cacheWriteInputTokens": 1000,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 600}, {"ttl": "5m", "inputTokens": 400}],
}
#: The same in Anthropic's words, 30 of the output for thinking.
ANTHROPIC: dict[str, Any] = {
    "input_tokens": 10,
    "output_tokens": 200,
    "cache_read_input_tokens": 5000,
    "cache_creation_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600},
    "output_tokens_details": {"thinking_tokens": 30},
}
#: 10 + 20 read = 30 in, 6 out.
NOVA = {"inputTokens": 10, "outputTokens": 6, "cacheReadInputTokenCount": 20, "cacheWriteInputTokenCount": 0}
TEXT = "".join(WORDS)

#: Vendor, as in the model's name → the body of a whole answer, and what the headers count (in, out, read, written).
Body = tuple[dict[str, Any], tuple[int | None, ...]]
BODIES: dict[str, Body] = {
    "anthropic.": (
        {
            "id": "msg_bdrk_1",
            "type": "message",
            "model": "claude-sonnet-4-5-20250929",
            "content": [{"type": "text", "text": TEXT}],
            "stop_reason": "end_turn",
            "usage": ANTHROPIC,
        },
        (10, 200, 5000, 1000),
    ),
    "amazon.nova-canvas": ({"images": ["bm8gcGljdHVyZQ=="] * 2}, ()),
    "amazon.nova": ({"output": {"message": {}}, "stopReason": "end_turn", "usage": NOVA}, (10, 6, 20, 0)),
    "amazon.titan-embed": ({"embedding": [0.25, -0.5], "inputTextTokenCount": 9}, (9,)),
    "amazon.titan": (
        {
            "inputTextTokenCount": 12,
            "results": [{"tokenCount": 7, "outputText": TEXT, "completionReason": "FINISH"}],
        },
        (12, 7),
    ),
    "meta.": (
        {"generation": TEXT, "prompt_token_count": 25, "generation_token_count": 8, "stop_reason": "stop"},
        (25, 8),
    ),
    "mistral.": ({"outputs": [{"text": TEXT, "stop_reason": "stop"}]}, (14, 8)),
    "openai.": (
        {
            "id": "chatcmpl-1",
            "choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 70, "completion_tokens": 21, "total_tokens": 91},
        },
        (70, 21),
    ),
    "cohere.embed": ({"id": "c1", "embeddings": [[0.25, -0.5]], "response_type": "embeddings_floats"}, (6,)),
    "cohere.rerank": ({"results": [{"index": 0, "relevance_score": 0.9}]}, ()),
    "cohere.": ({"generation_id": "g1", "text": TEXT, "finish_reason": "COMPLETE"}, (17, 9)),
    "stability.": ({"images": ["bm8gcGljdHVyZQ=="], "finish_reasons": [None]}, ()),
}
COUNT_HEADERS = ("Input", "Output", "Cache-Read-Input", "Cache-Write-Input")


class _Handler(Handler):
    def do_GET(self) -> None:
        self.behavior, self.model, self.stream, self.body = None, "", False, {}
        self._send_bytes(200, b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>", "application/xml")

    def _read_request(self) -> None:
        super()._read_request()
        if match := re.search(r"/model/([^/]+)/([\w-]+)$", urlsplit(self.path).path):
            self.is_silent = unquote(match[1]).startswith("unread:")
            self.behavior, self.model = self._split_behavior(unquote(match[1]).removeprefix("unread:"))
            self.stream = match[2].endswith("stream")
        elif "modelId" in self.body:
            self.behavior, self.model = self._split_behavior(str(self.body["modelId"]))

    def _send_error(self, status: int, model: str | None) -> None:
        self._log(status)
        kind = {400: "ValidationException", 429: "ThrottlingException"}.get(status, "InternalServerException")
        message = ERRORS.get(status, ("", f"No route {self.path}."))[1]
        self._send_bytes(
            status, json.dumps({"message": message}).encode(), f"application/json\r\nx-amzn-ErrorType: {kind}"
        )

    def _converse(self, _: re.Match[str]) -> None:
        message = {"role": "assistant", "content": [{"text": TEXT}]}
        said = self._said()
        if self.stream:
            self._log(200, usage=CONVERSE)
            self._send_stream(_converse_events(said), "application/vnd.amazon.eventstream", encode=_converse_event)
            return
        answer = {"output": {"message": message}, "stopReason": "end_turn", "metrics": {"latencyMs": 1}}
        self._log(200, usage=CONVERSE)
        self._send_json(200, answer | said)

    def _said(self) -> dict[str, Any]:
        said: dict[str, Any] = {"usage": CONVERSE}
        if "prompt-router" in self.model:
            said["trace"] = {"promptRouter": {"invokedModelId": "arn:aws:bedrock:eu-west-1::foundation-model/small"}}
        for name in ("serviceTier", "performanceConfig"):
            if name in self.body:
                said[name] = self.body[name]
        return said

    def _invoke(self, _: re.Match[str]) -> None:
        body, counts = next(known for vendor, known in BODIES.items() if vendor in self.model)
        self._log(200, usage=body.get("usage"))
        if self.stream:
            self._send_stream(
                _invoke_events(self.model, body, counts), "application/vnd.amazon.eventstream", encode=_invoke_event
            )
            return
        said = [
            f"\r\nX-Amzn-Bedrock-{name}-Token-Count: {count}"
            for name, count in zip(COUNT_HEADERS, counts, strict=False)
            if not self.is_silent
        ]
        tier = self.headers.get("X-Amzn-Bedrock-Service-Tier")
        said += [f"\r\nX-Amzn-Bedrock-Service-Tier: {tier}"] if tier else []
        if self.behavior == "cut":
            self._send_half(json.dumps(body).encode(), "".join(said))
            return
        self._send_bytes(200, json.dumps(body).encode(), "application/json" + "".join(said))

    def _send_half(self, body: bytes, more_headers: str) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json{more_headers}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body[: len(body) // 2])
        self.close_connection = True

    def _async_invoke(self, _: re.Match[str]) -> None:
        self._log(200)
        self._send_json(200, {"invocationArn": "arn:aws:bedrock:eu-west-1:1:async-invoke/1"})

    def _count_tokens(self, _: re.Match[str]) -> None:
        self._log(200)
        self._send_json(200, {"inputTokens": 7})

    routes = (
        (re.compile(r"/converse(?:-stream)?$"), _converse),
        (re.compile(r"/invoke(?:-with-response-stream)?$"), _invoke),
        (re.compile(r"/async-invoke$"), _async_invoke),
        (re.compile(r"/count-tokens$"), _count_tokens),
    )


class FakeBedrock(FakeServer):
    handler = _Handler


def _converse_events(said: dict[str, Any]) -> Iterator[Event]:
    yield "messageStart", {"role": "assistant"}
    for word in WORDS:
        yield "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}
    yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "messageStop", {"stopReason": "end_turn"}
    yield "metadata", {**said, "metrics": {"latencyMs": 1}}


def _converse_event(name: str | None, data: dict[str, Any]) -> bytes:
    if name == "error":
        return _exception()
    headers = {":message-type": "event", ":event-type": name or "", ":content-type": "application/json"}
    return frame(headers, json.dumps(data).encode())


def _invoke_events(model: str, body: dict[str, Any], counts: tuple[int | None, ...]) -> Iterator[Event]:
    """As the vendors stream; the service puts its own counts into the last chunk."""
    names = ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")
    metrics = {name: count for name, count in zip(names, counts, strict=False) if count is not None}
    last = {"amazon-bedrock-invocationMetrics": metrics} if metrics and "guarded" not in model else {}
    chunks = _chunks(model, body)
    for number, chunk in enumerate(chunks):
        yield None, chunk if number + 1 < len(chunks) else {**chunk, **last}


def _chunks(model: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    if "anthropic." in model:
        begun = {**ANTHROPIC, "output_tokens": 2}
        deltas = [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS
        ]
        # What the model says of its output can differ from what the service says (133 against 98 on the record).
        ending = {"stop_reason": "end_turn", "stop_sequence": None}
        delta = {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 235}}
        message = {"type": "message_start", "message": {**body, "content": [], "stop_reason": None, "usage": begun}}
        return [message, *deltas, delta, {"type": "message_stop"}]
    if "titan" in model:
        parts = [{"outputText": word, "index": 0, "totalOutputTextTokenCount": None} for word in WORDS]
        reason = "CONTENT_FILTERED" if "guarded" in model else "FINISH"
        last = {"outputText": "", "totalOutputTextTokenCount": 7, "completionReason": reason, "inputTextTokenCount": 12}
        return [*parts, last]
    if "nova" in model:
        deltas = [{"contentBlockDelta": {"delta": {"text": word}, "contentBlockIndex": 0}} for word in WORDS]
        return [*deltas, {"messageStop": {"stopReason": "end_turn"}}, {"metadata": {"usage": NOVA}}]
    parts = [{"generation": word, "generation_token_count": number + 1} for number, word in enumerate(WORDS)]
    return [parts[0] | {"prompt_token_count": 25}, *parts[1:-1], parts[-1] | {"stop_reason": "stop"}]


def _invoke_event(name: str | None, data: dict[str, Any]) -> bytes:
    if name == "error":
        return _exception()
    payload = json.dumps({"bytes": b64encode(json.dumps(data).encode()).decode()}).encode()
    return frame({":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}, payload)


def _exception() -> bytes:
    headers = {
        ":message-type": "exception",
        ":exception-type": "modelStreamErrorException",
        ":content-type": "application/json",
    }
    return frame(headers, json.dumps({"message": "The model has failed."}).encode())

"""A provider on the loopback that answers as OpenAI and Anthropic do, with usage figures known beforehand.

It takes the requests of the real SDKs and answers JSON, server-sent events or AWS event streams in the documented
shapes; the figures stand in `tests.fakes.usage`. It logs what it served, so that a test or the demo can compare.
It never checks keys and never leaves the loopback.

Behaviour on demand, by a prefix of the model name (`endless:gpt-4o`) or the header `x-fake-behavior`:

  fail-400, fail-401, fail-429, fail-500, fail-529   answer that error (no prefix needed: `fail-429` is a model too)
  refuse-stream-options                              400 naming stream_options when the request has it
  refuse-silently                                    the same without a reason
  flaky                                              500 once for each model name, then the answer
  slow                                               answer after 0.5 s
  hang                                               answer nothing for 30 s
  endless                                            a stream that goes on (for at most 60 s) until the client leaves
  cut                                                a stream whose connection breaks in its middle
  stream-error                                       a stream with an error event in its middle
  no-usage                                           the answer without usage

Run `python -m tests.fakes.provider --port 0`: the first line of the output is its address.
"""

from __future__ import annotations

import argparse
import binascii
import contextlib
import gzip
import itertools
import json
import re
import struct
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes import usage as figures

BEHAVIORS = (
    "refuse-stream-options",
    "refuse-silently",
    "flaky",
    "slow",
    "hang",
    "endless",
    "cut",
    "stream-error",
    "no-usage",
)
ERRORS = {
    400: ("invalid_request_error", "Invalid value for 'messages'."),
    401: ("authentication_error", "Incorrect API key provided."),
    429: ("rate_limit_error", "Rate limit reached for requests."),
    500: ("api_error", "The server had an error while processing your request."),
    529: ("overloaded_error", "Overloaded"),
}
WORDS = ("The", " fare", " is", " two", " cents", " a", " ride", ".")
ENDLESS_LIMIT_S = 60.0
HANG_LIMIT_S = 30.0

Event = tuple[str | None, dict[str, Any]]


@dataclass(slots=True)
class Served:
    """One request as it was answered; `usage` is what the answer bills, None when it bills nothing."""

    path: str
    status: int
    model: str | None
    response_model: str | None = None
    response_id: str | None = None
    stream: bool = False
    usage: dict[str, Any] | None = None
    api_key: str | None = None
    organization: str | None = None
    body: dict[str, Any] = field(default_factory=dict)


class FakeProvider:
    """The server; use it as a context manager. `url` is its address without a path, `served` its log."""

    def __init__(self, port: int = 0) -> None:
        self.served: list[Served] = []
        self.flaky_seen: set[str] = set()
        self.background: dict[str, dict[str, Any]] = {}
        self.ids = itertools.count(1)
        self.stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> FakeProvider:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> FakeProvider:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{next(self.ids):06d}{time.time_ns():x}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave in the middle are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    fake: ClassVar[FakeProvider]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass

    def do_GET(self) -> None:
        self._read_request()
        path = urlsplit(self.path).path
        if match := re.fullmatch(r"(?:/v1)?/responses/([^/]+)", path):
            self._retrieve(match[1])
        elif path.endswith("/models"):
            self._send_json(200, {"object": "list", "data": []})
        else:
            self._send_error(404, None)

    def do_POST(self) -> None:
        self._read_request()
        status = self._failure()
        if status:
            self._send_error(status, self.model)
            return
        if self.behavior == "slow":
            time.sleep(0.5)
        if self.behavior == "hang":
            self.fake.stopping.wait(HANG_LIMIT_S)
        for pattern, method in _ROUTES:
            if match := pattern.search(urlsplit(self.path).path):
                method(self, match)
                return
        self._send_error(404, None)

    # -- the request

    def _read_request(self) -> None:
        raw = self._read_body()
        kind = self.headers.get("content-type", "")
        self.body = _multipart_fields(raw) if kind.startswith("multipart/") else (json.loads(raw) if raw else {})
        named = str(self.body.get("model") or "")
        self.behavior, self.model = self._split_behavior(named)
        self.stream = self.body.get("stream") in (True, "true")

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(iter(self._read_chunk, b""))
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _read_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _split_behavior(self, model: str) -> tuple[str | None, str]:
        header = self.headers.get("x-fake-behavior")
        prefix, colon, rest = model.partition(":")
        if colon and (prefix in BEHAVIORS or prefix.startswith("fail-")):
            return prefix, rest
        return header or (model if model.startswith("fail-") else None), model

    def _failure(self) -> int | None:
        behavior = self.behavior or ""
        if behavior.startswith("fail-"):
            return int(behavior.removeprefix("fail-"))
        if behavior.startswith("refuse-") and "stream_options" in self.body:
            return 400
        if behavior == "flaky" and self.model not in self.fake.flaky_seen:
            self.fake.flaky_seen.add(self.model)
            return 500
        return None

    # -- the answer

    def _log(self, status: int, **known: Any) -> None:
        authorization = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.fake.served.append(
            Served(
                path=urlsplit(self.path).path,
                status=status,
                model=self.model or None,
                stream=self.stream,
                api_key=self.headers.get("x-api-key") or self.headers.get("api-key") or authorization or None,
                organization=self.headers.get("openai-organization"),
                body=self.body,
                **known,
            )
        )

    def _send_bytes(self, status: int, body: bytes, content_type: str) -> None:
        encoding = ""
        if self.headers.get("x-fake-gzip"):
            body, encoding = gzip.compress(body), "Content-Encoding: gzip\r\n"
        head = (
            f"HTTP/1.1 {status} {self.responses.get(status, ('Status',))[0]}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{encoding}"
            f"x-request-id: {self.fake.new_id('req_')}\r\nrequest-id: {self.fake.new_id('req_')}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            self.wfile.write(head.encode() + body)

    def _send_json(self, status: int, body: dict[str, Any]) -> None:
        self._send_bytes(status, json.dumps(body).encode(), "application/json")

    def _send_error(self, status: int, model: str | None) -> None:
        kind, message = ERRORS.get(status, ("not_found_error", f"No route {self.path}."))
        if self.behavior == "refuse-stream-options":
            message = "Unrecognized request argument supplied: stream_options"
        self._log(status)
        error = {"type": kind, "message": message, "param": None, "code": None}
        self._send_json(status, {"type": "error", "error": error})

    def _answer(self, body: dict[str, Any], usage: dict[str, Any] | None) -> None:
        if self.behavior == "no-usage":
            body, usage = {key: value for key, value in body.items() if key != "usage"}, None
        self._log(200, response_model=body.get("model"), response_id=body.get("id"), usage=usage)
        self._send_json(200, body)

    def _send_stream(self, events: Iterator[Event], content_type: str = "text/event-stream", aws: bool = False) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
            f"x-request-id: {self.fake.new_id('req_')}\r\n\r\n"
        ).encode()
        encode = _aws_event if aws else _sse_event
        try:
            for number, (name, data) in enumerate(self._disturbed(events)):
                payload = encode(name, data)
                self.wfile.write((head if number == 0 else b"") + b"%x\r\n%s\r\n" % (len(payload), payload))
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, _Cut):
            self.close_connection = True

    def _disturbed(self, events: Iterator[Event]) -> Iterator[Event]:
        """Bring in what the behaviour asks for, after the third event."""
        for number, event in enumerate(events):
            yield event
            if number != 2:
                continue
            if self.behavior == "cut":
                raise _Cut
            if self.behavior == "stream-error":
                yield "error", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            if self.behavior == "endless":
                yield from self._endless(event)

    def _endless(self, event: Event) -> Iterator[Event]:
        deadline = time.monotonic() + ENDLESS_LIMIT_S
        while time.monotonic() < deadline and not self.fake.stopping.wait(0.02):
            yield event

    # -- OpenAI

    def _chat(self, _: re.Match[str]) -> None:
        usage = figures.CHAT_BY_MODEL.get(self.model, figures.CHAT)
        model = figures.response_model(self.model)
        head = {"id": self.fake.new_id("chatcmpl-"), "created": int(time.time()), "model": model}
        tier = {
            "service_tier": "default" if self.body.get("service_tier", "auto") == "auto" else self.body["service_tier"]
        }
        if self.stream:
            options = self.body.get("stream_options") or {}
            include = bool(options.get("include_usage")) and self.behavior != "no-usage"
            self._log(200, response_model=model, response_id=head["id"], usage=usage)
            self._send_stream(
                _chat_events({**head, "object": "chat.completion.chunk", **tier}, usage if include else None, include)
            )
            return
        message = {"role": "assistant", "content": _content(self.body), "refusal": None}
        finish = "length" if self.body.get("max_completion_tokens") == 1 else "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        self._answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage, **tier}, usage)

    def _completions(self, _: re.Match[str]) -> None:
        usage, model = figures.TEXT_COMPLETION, figures.response_model(self.model)
        head = {
            "id": self.fake.new_id("cmpl-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        if self.stream:
            include = bool((self.body.get("stream_options") or {}).get("include_usage"))
            self._log(200, response_model=model, response_id=head["id"], usage=usage)
            self._send_stream(_completion_events(head, usage if include else None, include))
            return
        choice = {"index": 0, "text": "".join(WORDS), "logprobs": None, "finish_reason": "stop"}
        self._answer({**head, "choices": [choice], "usage": usage}, usage)

    def _responses(self, _: re.Match[str]) -> None:
        response = self._response_object("completed", figures.RESPONSES)
        if self.body.get("background"):
            self.fake.background[response["id"]] = response
            if not self.stream:
                self._answer({**response, "status": "queued", "output": [], "usage": None}, None)
                return
        if self.stream:
            self._log(200, response_model=response["model"], response_id=response["id"], usage=figures.RESPONSES)
            self._send_stream(_responses_events(response))
            return
        self._answer(response, figures.RESPONSES)

    def _compact(self, _: re.Match[str]) -> None:
        body = {
            "id": self.fake.new_id("resp_"), "object": "response.compaction", "created_at": int(time.time()),
            "output": [], "usage": figures.COMPACT,
        }  # fmt: skip
        self._answer(body, figures.COMPACT)

    def _retrieve(self, response_id: str) -> None:
        response = self.fake.background.get(response_id)
        if response is None:
            self._send_error(404, None)
            return
        self.model = response["model"]
        if parse_qs(urlsplit(self.path).query).get("stream") == ["true"]:
            self.stream = True
            self._log(200, response_model=self.model, response_id=response_id, usage=figures.RESPONSES)
            self._send_stream(_responses_events(response))
            return
        self._answer(response, figures.RESPONSES)

    def _response_object(self, status: str, usage: dict[str, Any]) -> dict[str, Any]:
        text = {"type": "output_text", "text": _content(self.body), "annotations": []}
        message = {
            "id": self.fake.new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [text],
        }
        return {
            "id": self.fake.new_id("resp_"),
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "background": bool(self.body.get("background")),
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": figures.response_model(self.model),
            "output": [message],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "service_tier": self.body.get("service_tier") or "default",
            "usage": usage,
        }

    def _embeddings(self, _: re.Match[str]) -> None:
        vector = [0.25, -0.5, 1.0]
        encoded: Any = (
            b64encode(struct.pack("<3f", *vector)).decode() if self.body.get("encoding_format") == "base64" else vector
        )
        data = [{"object": "embedding", "index": 0, "embedding": encoded}]
        model = figures.response_model(self.model)
        self._answer({"object": "list", "data": data, "model": model, "usage": figures.EMBEDDINGS}, figures.EMBEDDINGS)

    def _images(self, match: re.Match[str]) -> None:
        picture = b64encode(b"not really a picture").decode()
        if self.stream:
            kind = "image_edit" if match[1] == "edits" else "image_generation"
            self._log(200, response_model=self.model, usage=figures.IMAGES)
            self._send_stream(_image_events(kind, picture))
            return
        data = [{"b64_json": picture}] * int(self.body.get("n") or 1)
        body = {
            "created": int(time.time()),
            "data": data,
            "size": "1024x1024",
            "quality": "high",
            "usage": figures.IMAGES,
        }
        if self.model.startswith("dall-e"):
            del body["usage"]
        self._answer(body, figures.IMAGES)

    def _transcription(self, _: re.Match[str]) -> None:
        usage = figures.TRANSCRIPTION_SECONDS if self.model == "whisper-1" else figures.TRANSCRIPTION_TOKENS
        if self.stream:
            self._log(200, response_model=self.model, usage=usage)
            self._send_stream(_transcript_events(usage))
            return
        if self.body.get("response_format") == "text":
            self._log(200, response_model=self.model, usage=usage)
            self._send_bytes(200, "".join(WORDS).encode(), "text/plain")
            return
        body: dict[str, Any] = {"text": "".join(WORDS), "usage": usage}
        if self.body.get("response_format") == "verbose_json":
            body |= {"duration": 9.0, "language": "english", "segments": []}
        self._answer(body, usage)

    def _translation(self, _: re.Match[str]) -> None:
        usage = figures.TRANSCRIPTION_SECONDS
        body: dict[str, Any] = {"text": "".join(WORDS)}
        if self.body.get("response_format") == "verbose_json":
            body |= {"duration": 9.0, "language": "english", "segments": []}
        self._answer(body, usage)

    def _speech(self, _: re.Match[str]) -> None:
        self._log(200, response_model=self.model, usage={"input_characters": len(self.body.get("input", ""))})
        self._send_bytes(200, b"ID3 not really a song", "audio/mpeg")

    # -- Anthropic

    def _messages(self, match: re.Match[str]) -> None:
        path = urlsplit(self.path).path
        if path.endswith("/count_tokens"):
            self._log(200)
            self._send_json(200, {"input_tokens": 10})
            return
        groups = match.groupdict()
        if groups.get("model"):
            self.behavior, self.model = self._split_behavior(unquote(groups["model"]))
            self.stream = (groups.get("verb") or "") in ("invoke-with-response-stream", "streamRawPredict")
            if status := self._failure():
                self._send_error(status, self.model)
                return
        usage = figures.MESSAGES_BY_MODEL.get(self.model, figures.MESSAGES)
        message = self._message(usage)
        if not self.stream:
            self._answer(message, usage)
            return
        self._log(200, response_model=message["model"], response_id=message["id"], usage=usage)
        aws = groups.get("verb") == "invoke-with-response-stream"
        kind = "application/vnd.amazon.eventstream" if aws else "text/event-stream"
        self._send_stream(_message_events(message, usage), kind, aws)

    def _message(self, usage: dict[str, Any]) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": _content(self.body)}]
        stop = "end_turn"
        if self.body.get("tools") and not _has_tool_result(self.body):
            name = next((tool["name"] for tool in self.body["tools"] if "name" in tool), "tool")
            content = [{"type": "tool_use", "id": self.fake.new_id("toolu_"), "name": name, "input": {}}]
            stop = "tool_use"
        return {
            "id": self.fake.new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": figures.response_model(self.model),
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": usage,
        }


class _Cut(Exception):
    pass


_ROUTES = (
    (re.compile(r"/chat/completions$"), _Handler._chat),
    (re.compile(r"/completions$"), _Handler._completions),
    (re.compile(r"/responses$"), _Handler._responses),
    (re.compile(r"/responses/compact$"), _Handler._compact),
    (re.compile(r"/embeddings$"), _Handler._embeddings),
    (re.compile(r"/images/(generations|edits|variations)$"), _Handler._images),
    (re.compile(r"/audio/transcriptions$"), _Handler._transcription),
    (re.compile(r"/audio/translations$"), _Handler._translation),
    (re.compile(r"/audio/speech$"), _Handler._speech),
    (re.compile(r"/messages(?:/count_tokens)?$"), _Handler._messages),
    (re.compile(r"/model/(?P<model>[^/]+)/(?P<verb>invoke(?:-with-response-stream)?)$"), _Handler._messages),
    (re.compile(r"/models/(?P<model>[^/:]+):(?P<verb>rawPredict|streamRawPredict)$"), _Handler._messages),
)


def _content(body: dict[str, Any]) -> str:
    """Answer in words, or in JSON where the request asks for a schema."""
    wants_json = any(key in body for key in ("response_format", "output_format", "output_config")) or "text" in body
    return '{"fare": 2}' if wants_json else "".join(WORDS)


def _has_tool_result(body: dict[str, Any]) -> bool:
    return "tool_result" in json.dumps(body.get("messages", []))


def _multipart_fields(raw: bytes) -> dict[str, Any]:
    fields = re.findall(rb'name="(\w+)"\r\n\r\n(.*?)\r\n--', raw, re.DOTALL)
    return {name.decode(): value.decode() for name, value in fields}


def _chat_events(head: dict[str, Any], usage: dict[str, Any] | None, include: bool) -> Iterator[Event]:
    extra: dict[str, Any] = {"usage": None} if include else {}
    for number, word in enumerate(WORDS):
        delta = {"role": "assistant", "content": word} if number == 0 else {"content": word}
        yield None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **extra}
    yield None, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **extra}
    if usage is not None:
        yield None, {**head, "choices": [], "usage": usage}
    yield "[DONE]", {}


def _completion_events(head: dict[str, Any], usage: dict[str, Any] | None, include: bool) -> Iterator[Event]:
    extra: dict[str, Any] = {"usage": None} if include else {}
    for word in WORDS:
        yield None, {**head, "choices": [{"index": 0, "text": word, "logprobs": None, "finish_reason": None}], **extra}
    yield None, {**head, "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}], **extra}
    if usage is not None:
        yield None, {**head, "choices": [], "usage": usage}
    yield "[DONE]", {}


def _responses_events(response: dict[str, Any]) -> Iterator[Event]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    item = response["output"][0]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    count = itertools.count()
    empty = {"type": "output_text", "text": "", "annotations": []}
    text = item["content"][0]["text"]

    def event(name: str, **data: Any) -> Event:
        return name, {"type": name, "sequence_number": next(count), **data}

    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    yield event("response.output_item.added", output_index=0, item={**item, "content": [], "status": "in_progress"})
    yield event("response.content_part.added", **place, part=empty)
    yield event("response.output_text.delta", **place, delta=text, logprobs=[])
    yield event("response.output_text.done", **place, text=text, logprobs=[])
    yield event("response.content_part.done", **place, part=item["content"][0])
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response=response)


def _image_events(kind: str, picture: str) -> Iterator[Event]:
    common = {"b64_json": picture, "background": "opaque", "created_at": int(time.time()), "output_format": "png",
              "quality": "high", "size": "1024x1024"}  # fmt: skip
    name = f"{kind}.partial_image"
    yield name, {"type": name, "partial_image_index": 0, **common}
    name = f"{kind}.completed"
    yield name, {"type": name, "usage": figures.IMAGES, **common}


def _transcript_events(usage: dict[str, Any]) -> Iterator[Event]:
    for word in WORDS:
        yield "transcript.text.delta", {"type": "transcript.text.delta", "delta": word}
    yield "transcript.text.done", {"type": "transcript.text.done", "text": "".join(WORDS), "usage": usage}


def _message_events(message: dict[str, Any], usage: dict[str, Any]) -> Iterator[Event]:
    """As the real one: `message_start` knows input and cache, `message_delta` says the cumulative rest."""
    opening = {key: value for key, value in usage.items() if key not in ("iterations", "output_tokens_details")}
    opening["output_tokens"] = figures.PLACEHOLDER_OUTPUT_TOKENS
    if usage.get("server_tool_use"):
        opening |= {"input_tokens": 40, "server_tool_use": None}
    begun = {**message, "content": [], "stop_reason": None, "usage": opening}
    yield "message_start", {"type": "message_start", "message": begun}
    for index, block in enumerate(message["content"]):
        empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": empty}
        for piece in _pieces(block):
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": piece}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}
    keys = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens",
            "output_tokens_details", "server_tool_use", "iterations")  # fmt: skip
    closing = {key: usage[key] for key in keys if usage.get(key) is not None}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": delta, "usage": closing}
    yield "message_stop", {"type": "message_stop"}


def _pieces(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "tool_use":
        yield {"type": "input_json_delta", "partial_json": "{}"}
        return
    for piece in re.findall(r"\S+\s*", block["text"]):
        yield {"type": "text_delta", "text": piece}


def _sse_event(name: str | None, data: dict[str, Any]) -> bytes:
    if name == "[DONE]":
        return b"data: [DONE]\n\n"
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(data)}\n\n".encode()


def _aws_event(_: str | None, data: dict[str, Any]) -> bytes:
    """Frame one event as application/vnd.amazon.eventstream does: prelude, headers, payload, two checksums."""
    payload = json.dumps({"bytes": b64encode(json.dumps(data).encode()).decode()}).encode()
    named = {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}
    headers = b"".join(
        struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for key, value in named.items()
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", binascii.crc32(message))


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the fake provider until Ctrl-C or SIGTERM.")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    with FakeProvider(arguments.port) as fake:
        print(fake.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

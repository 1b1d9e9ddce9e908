"""A provider on the loopback that answers as OpenAI and Anthropic do, with usage figures known beforehand.

It takes the requests of the real SDKs and answers JSON, server-sent events or AWS event streams in the documented
shapes; the figures stand in `tests.fakes.usage`. It logs what it served, so that a test or the demo can compare.
It never checks keys and never leaves the loopback.

Behaviours on demand stand in `tests.fakes.server`.

Run `python -m tests.fakes.provider --port 0`: the first line of the output is its address.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import struct
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes import batches
from tests.fakes import usage as figures
from tests.fakes.aws import frame
from tests.fakes.server import BEHAVIORS, ERRORS, WORDS, Event, FakeServer, Handler, Served, sse_event

__all__ = ["BEHAVIORS", "ERRORS", "WORDS", "FakeProvider", "Served"]


def _batch_object(batch_id: str, results_url: str) -> dict[str, Any]:
    counts = {"processing": 0, "succeeded": 3, "errored": 1, "canceled": 0, "expired": 1}
    times = dict.fromkeys(("created_at", "expires_at", "ended_at"), "2026-11-01T00:00:00Z")
    return {
        "id": batch_id, "type": "message_batch", "processing_status": "ended", "request_counts": counts,
        "results_url": results_url, "archived_at": None, "cancel_initiated_at": None, **times,
    }  # fmt: skip


class _Handler(Handler):
    def do_GET(self) -> None:
        self._read_request()
        path = urlsplit(self.path).path
        if match := re.fullmatch(r"(?:/v1)?/responses/([^/]+)", path):
            self._retrieve(match[1])
        elif match := re.fullmatch(r"/v1/files/([^/]+)/content", path):
            self._file(match[1])
        elif match := re.fullmatch(r"/v1/videos/([^/]+)", path):
            self._video_job(match[1])
        elif match := re.fullmatch(r"/v1/messages/batches/([^/]+)(/results)?", path):
            self._message_batch(match[1], is_results=bool(match[2]))
        elif path.endswith("/models"):
            self._send_json(200, {"object": "list", "data": []})
        else:
            self._send_error(404, None)

    def _file(self, file_id: str) -> None:
        """The results of a batch of two chats, a response and an embedding; any other file is text of the app's."""
        self._log(200)
        if not file_id.startswith("file-batch"):
            self._send_bytes(200, b'{"messages": []}\n[1]\nno json\n', "application/octet-stream")
            return
        self.model, self.body = "gpt-5", {}
        response = {**self._response_object("completed", figures.RESPONSES), "id": f"resp_{file_id}"}
        embedding = {"object": "list", "data": [], "model": "text-embedding-3-small", "usage": figures.EMBEDDINGS}
        chats = [batches.chat_body(f"{file_id}-{number}", "gpt-4o-2024-08-06", figures.CHAT) for number in range(2)]
        body = batches.result_file(file_id, [*chats, response, embedding])
        self._send_bytes(200, body, "application/octet-stream")

    def _video(self, match: re.Match[str]) -> None:
        video_id = self.fake.new_id("video_")
        self.model = self.model or "sora-2"
        self.fake.videos[video_id] = {
            "id": video_id, "object": "video", "created_at": int(time.time()), "model": self.model, "status": "queued",
            "progress": 0, "seconds": str(self.body.get("seconds") or "4"), "size": "720x1280",
            "remixed_from_video_id": match["source"],
        }  # fmt: skip
        self._answer(self.fake.videos[video_id], None)

    def _video_job(self, video_id: str) -> None:
        """Each look brings the video on: queued, in progress, then done, or failed where the model is a failing one."""
        video = self.fake.videos[video_id]
        last = "failed" if "failing" in video["model"] else "completed"
        video["status"] = {"queued": "in_progress", "in_progress": last}.get(video["status"], last)
        self._answer(video, None)

    def _message_batch(self, batch_id: str, *, is_results: bool) -> None:
        self.model, self.body = "claude-sonnet-4-5", {}
        if not is_results:
            self._answer(_batch_object(batch_id, f"{self.fake.url}/v1/messages/batches/{batch_id}/results"), None)
            return
        usage = {**figures.MESSAGES, "service_tier": "batch"}
        messages = [{**self._message(usage), "id": f"msg_{batch_id}_{number}"} for number in range(3)]
        self._log(200, usage=usage)
        self._send_bytes(200, batches.message_results(messages), "application/x-jsonl")

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

    def _decision(self, _: re.Match[str]) -> None:
        answers = [{"type": "predicate", "name": None, "probability": 0.9}]
        self._answer({"answers": answers, "model": self.model, "usage": figures.DECISION}, figures.DECISION)

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
        self._send_stream(_message_events(message, usage), kind, _aws_event if aws else sse_event)

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


_Handler.routes = (
    (re.compile(r"/chat/completions$"), _Handler._chat),
    (re.compile(r"/completions$"), _Handler._completions),
    (re.compile(r"/responses$"), _Handler._responses),
    (re.compile(r"/responses/compact$"), _Handler._compact),
    (re.compile(r"/embeddings$"), _Handler._embeddings),
    (re.compile(r"/decisions$"), _Handler._decision),
    (re.compile(r"/images/(generations|edits|variations)$"), _Handler._images),
    (re.compile(r"/audio/transcriptions$"), _Handler._transcription),
    (re.compile(r"/audio/translations$"), _Handler._translation),
    (re.compile(r"/audio/speech$"), _Handler._speech),
    (re.compile(r"/videos(?:/(?P<source>[^/]+)/remix)?$"), _Handler._video),
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


def _aws_event(_: str | None, data: dict[str, Any]) -> bytes:
    payload = json.dumps({"bytes": b64encode(json.dumps(data).encode()).decode()}).encode()
    return frame({":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}, payload)


class FakeProvider(FakeServer):
    """OpenAI and Anthropic in one."""

    handler = _Handler

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.background: dict[str, dict[str, Any]] = {}
        self.videos: dict[str, dict[str, Any]] = {}


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

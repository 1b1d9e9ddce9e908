"""Groq on the loopback: chat, embeddings, audio.

Shapes are those of console.groq.com/docs/api-reference (2026-11); the figures stand at the top. Behaviours on demand
stand in `tests.fakes.server`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from tests.fakes import batches
from tests.fakes.server import WORDS, Event, FakeServer, Handler

Usage = dict[str, Any]

#: 180 in (128 of them cached), 60 out (25 of them reasoning).
CHAT: Usage = {
    "queue_time": 0.018,
    "prompt_tokens": 180,
    "prompt_time": 0.011,
    "completion_tokens": 60,
    "completion_time": 0.05,
    "total_tokens": 240,
    "total_time": 0.061,
    "prompt_tokens_details": {"cached_tokens": 128},
    "completion_tokens_details": {"reasoning_tokens": 25},
}
#: A compound system: 1000 in, 300 out, of which llama made 400 and 100, gpt-oss the rest.
COMPOUND: Usage = {"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300}
BREAKDOWN: dict[str, Any] = {
    "models": [
        {
            "model": "llama-3.3-70b-versatile",
            "usage": {"prompt_tokens": 400, "completion_tokens": 100, "total_tokens": 500},
        },
        {
            "model": "openai/gpt-oss-120b",
            "usage": {"prompt_tokens": 600, "completion_tokens": 200, "total_tokens": 800},
        },
    ]
}
#: Two searches and a visit, as they stand in a compound system's message.
TOOLS: list[dict[str, Any]] = [
    {"index": 0, "type": "search", "arguments": "{}", "output": "…", "search_results": {"results": []}},
    {"index": 1, "type": "visit", "arguments": "{}", "output": "…"},
    {"index": 2, "type": "search", "arguments": "{}", "output": "…", "search_results": {"results": []}},
]
#: 9 in.
EMBEDDINGS: Usage = {"prompt_tokens": 9, "total_tokens": 9}
#: The length of every recording, in seconds.
DURATION_S = 31.5


class _Handler(Handler):
    def do_GET(self) -> None:
        """The results of a batch of two chats; the only files there are."""
        self._read_request()
        match = re.fullmatch(r"/openai/v1/files/([^/]+)/content", self.path)
        if match is None:
            self._send_error(404, None)
            return
        self._log(200)
        chats = [batches.chat_body(f"{match[1]}-{number}", self.model, CHAT) for number in range(2)]
        self._send_bytes(200, batches.result_file(match[1], chats), "application/octet-stream")

    def _chat(self, _: re.Match[str]) -> None:
        is_compound = "compound" in self.model
        usage = COMPOUND if is_compound else CHAT
        breakdown = BREAKDOWN if is_compound else None
        if breakdown and self.model.endswith("-unequal"):
            breakdown = {"models": BREAKDOWN["models"][:1]}
        head = {"id": self.fake.new_id("chatcmpl-"), "created": int(time.time()), "model": self.model}
        if self.stream:
            self._log(200, response_model=self.model, response_id=head["id"], usage=usage)
            extra = {"usage": usage, **({"usage_breakdown": breakdown} if breakdown else {})}
            tools = TOOLS if is_compound else []
            head["object"] = "chat.completion.chunk"
            self._send_stream(_events(head, {} if self.behavior == "no-usage" else extra, tools))
            return
        message: dict[str, Any] = {"role": "assistant", "content": "".join(WORDS)}
        if is_compound:
            message["executed_tools"] = TOOLS
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        tier = self.body.get("service_tier") or "on_demand"
        body = {
            **head, "object": "chat.completion", "choices": [choice], "usage": usage, "usage_breakdown": breakdown,
            "service_tier": "on_demand" if tier == "auto" else tier,
            "x_groq": {"id": self.fake.new_id("req_"), "usage": {"dram_cached_tokens": 0, "sram_cached_tokens": 128}},
        }  # fmt: skip
        self._answer(body, usage)

    def _embeddings(self, _: re.Match[str]) -> None:
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
        self._answer({"object": "list", "data": data, "model": self.model, "usage": EMBEDDINGS}, EMBEDDINGS)

    def _transcription(self, _: re.Match[str]) -> None:
        body: dict[str, Any] = {"text": "".join(WORDS), "x_groq": {"id": self.fake.new_id("req_")}}
        if self.body.get("response_format") == "verbose_json":
            body |= {"task": "transcribe", "language": "English", "duration": DURATION_S, "segments": []}
        self._answer(body, {"seconds": DURATION_S})

    def _speech(self, _: re.Match[str]) -> None:
        self._log(200, response_model=self.model, usage={"input_characters": len(self.body.get("input", ""))})
        self._send_bytes(200, b"RIFF not really a wave", "audio/wav")


_Handler.routes = (
    (re.compile(r"^/openai/v1/chat/completions$"), _Handler._chat),
    (re.compile(r"^/openai/v1/embeddings$"), _Handler._embeddings),
    (re.compile(r"^/openai/v1/audio/(transcriptions|translations)$"), _Handler._transcription),
    (re.compile(r"^/openai/v1/audio/speech$"), _Handler._speech),
)


class FakeGroq(FakeServer):
    handler = _Handler


def _events(head: dict[str, Any], extra: Usage, tools: list[dict[str, Any]]) -> Iterator[Event]:
    """The first and the last chunk carry `x_groq`; only the last one knows the usage."""
    request_id = "req_01"
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    yield None, {**head, "choices": [first], "x_groq": {"id": request_id}}
    for tool in tools:
        begun = {key: tool[key] for key in ("index", "type", "arguments")}
        for part in (begun, tool):
            yield None, {**head, "choices": [{"index": 0, "delta": {"executed_tools": [part]}, "finish_reason": None}]}
    for word in WORDS:
        yield None, {**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    yield None, {**head, "choices": [last], "x_groq": {"id": request_id, **extra}}
    yield "[DONE]", {}

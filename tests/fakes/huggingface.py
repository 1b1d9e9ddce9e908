"""An inference server on the loopback as `huggingface_hub` meets them: OpenAI's chat shape, and TGI's generation.

Shapes are those of huggingface.co/docs/inference-providers and of text-generation-inference (2026-11). Behaviors on
demand stand in `tests.fakes.server`; where a request has no model, a header brings them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from tests.fakes.server import WORDS, Event, FakeServer, Handler

Usage = dict[str, Any]

#: 90 in (64 of them cached), 33 out.
CHAT: Usage = {"prompt_tokens": 90, "completion_tokens": 33, "total_tokens": 123, "cached_tokens": 64}
#: 4 in, 12 out.
GENERATION: Usage = {"prefill": 4, "generated_tokens": 12}
#: Text generation in OpenAI's shape: 7 in, 5 out.
COMPLETION: Usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class _Handler(Handler):
    def do_GET(self) -> None:
        self._read_request()
        self._send_error(404, None)

    def _chat(self, _: re.Match[str]) -> None:
        head = {"id": self.fake.new_id("chatcmpl-"), "created": int(time.time()), "model": self.model}
        if self.stream:
            include = bool((self.body.get("stream_options") or {}).get("include_usage"))
            self._log(200, response_model=self.model, usage=CHAT)
            self._send_stream(_chat_events({**head, "object": "chat.completion.chunk"}, include))
            return
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        self._answer({**head, "object": "chat.completion", "choices": [choice], "usage": CHAT}, CHAT)

    def _completion(self, _: re.Match[str]) -> None:
        choice = {"index": 0, "text": "".join(WORDS), "finish_reason": "stop"}
        self._answer({"id": "c", "model": self.model, "choices": [choice], "usage": COMPLETION}, COMPLETION)

    def _task(self, _: re.Match[str]) -> None:
        if "audio" in self.path:
            self._log(200)
            self._send_bytes(200, b"RIFF not really a sound", "audio/wav")
        elif "vectors" in self.path:
            self._log(200)
            self._send_bytes(200, b"[[0.25, -0.5]]", "application/json")
        elif self.stream:
            self._log(200, usage=GENERATION)
            self._send_stream(_generation_events())
        else:
            self._generate()

    def _generate(self) -> None:
        answer: dict[str, Any] = {"generated_text": "".join(WORDS)}
        if self.body["parameters"].get("details"):
            token = {"id": 1, "text": "x", "logprob": -0.1, "special": False}
            prefill = [{"id": 1, "text": "x", "logprob": None}] * 4
            answer["details"] = {
                "finish_reason": "length",
                "generated_tokens": 12,
                "prefill": prefill,
                "seed": None,
                "tokens": [token],
            }
        self._log(200, usage=GENERATION)
        self._send_json(200, answer)


_Handler.routes = (
    (re.compile(r"/chat/completions$"), _Handler._chat),
    (re.compile(r"/completions$"), _Handler._completion),
    (re.compile(r"/task/"), _Handler._task),
)


class FakeInference(FakeServer):
    """An inference server."""

    handler = _Handler


def _chat_events(head: dict[str, Any], include: bool) -> Iterator[Event]:
    extra: dict[str, Any] = {"usage": None} if include else {}
    for word in WORDS:
        delta = {"role": "assistant", "content": word}
        yield None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **extra}
    yield None, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **extra}
    if include:
        yield None, {**head, "choices": [], "usage": CHAT}
    yield "[DONE]", {}


def _generation_events() -> Iterator[Event]:
    for number, word in enumerate(WORDS):
        token = {"id": number, "text": word, "logprob": -0.1, "special": False}
        is_last = number == len(WORDS) - 1
        details = {"finish_reason": "length", "generated_tokens": 12, "input_length": 4, "seed": None}
        text = "".join(WORDS) if is_last else None
        yield None, {"index": number, "token": token, "generated_text": text, "details": details if is_last else None}

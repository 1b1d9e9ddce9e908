"""Ollama on the loopback: chat, generate, embed, embeddings, systemone.

Shapes are those of docs.ollama.com/api (2026-11). Behaviors on demand stand in `tests.fakes.server`; a model name has a
colon of its own there (`llama3.2:1b`), which the fake leaves alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.fakes.server import WORDS, Event, FakeServer, Handler

Usage = dict[str, Any]

#: 26 in, 290 out.
CHAT: Usage = {
    "total_duration": 5191566416,
    "load_duration": 2154458,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 383809000,
    "eval_count": 290,
    "eval_duration": 4799921000,
}
#: The prompt was evaluated before: its count is left out.
CACHED: Usage = {"total_duration": 4799921000, "load_duration": 2154458, "eval_count": 290, "eval_duration": 4799921000}
#: 8 in.
EMBED: Usage = {"total_duration": 14143917, "load_duration": 1019500, "prompt_eval_count": 8}
#: 75 in, 3 out.
SYSTEM_ONE: Usage = {"input_tokens": 75, "output_tokens": 3}


class _Handler(Handler):
    def do_GET(self) -> None:
        self._read_request()
        self._send_json(200, {"models": []})

    def _read_request(self) -> None:
        super()._read_request()
        self.stream = bool(self.body.get("stream"))

    def _send_error(self, status: int, model: str | None) -> None:
        self._log(status)
        self._send_json(status, {"error": f"model '{model}' cannot be run"})

    def _chat(self, _: re.Match[str]) -> None:
        self._write({"message": {"role": "assistant", "content": "".join(WORDS)}}, _chat_part)

    def _generate(self, _: re.Match[str]) -> None:
        if not self.body.get("prompt"):
            head = {"model": self.model, "created_at": "2026-11-20T10:00:00Z", "response": ""}
            self._answer({**head, "done": True, "done_reason": "load"}, None)
            return
        self._write({"response": "".join(WORDS), "context": [1, 2, 3]}, _generate_part)

    def _write(self, content: dict[str, Any], part: Any) -> None:
        usage = CACHED if self.model == "cached" else CHAT
        head = {"model": self.model, "created_at": "2026-11-20T10:00:00Z"}
        last = {"done": True, "done_reason": "stop", **usage}
        if self.stream:
            self._log(200, response_model=self.model, usage=usage)
            self._send_stream(_parts(head, last, part), "application/x-ndjson", _line)
            return
        self._answer({**head, **content, **last}, usage)

    def _embed(self, _: re.Match[str]) -> None:
        self._answer({"model": self.model, "embeddings": [[0.25, -0.5]], **EMBED}, EMBED)

    def _embeddings(self, _: re.Match[str]) -> None:
        self._answer({"embedding": [0.25, -0.5]}, None)

    def _system_one(self, _: re.Match[str]) -> None:
        answers = {"fair": {"type": "noul", "noul": 0.9}}
        self._answer({"model": self.model, "answers": answers, "usage": SYSTEM_ONE}, SYSTEM_ONE)


_Handler.routes = (
    (re.compile(r"/api/chat$"), _Handler._chat),
    (re.compile(r"/api/generate$"), _Handler._generate),
    (re.compile(r"/api/embed$"), _Handler._embed),
    (re.compile(r"/api/embeddings$"), _Handler._embeddings),
    (re.compile(r"/v1/systemone$"), _Handler._system_one),
)


class FakeOllama(FakeServer):
    """Ollama."""

    handler = _Handler


def _chat_part(word: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": word}}


def _generate_part(word: str) -> dict[str, Any]:
    return {"response": word}


def _parts(head: dict[str, Any], last: dict[str, Any], part: Any) -> Iterator[Event]:
    for word in WORDS:
        yield None, {**head, **part(word), "done": False}
    yield None, {**head, **part(""), **last}


def _line(name: str | None, data: dict[str, Any]) -> bytes:
    line = {"error": "an error was encountered while running the model"} if name == "error" else data
    return json.dumps(line).encode() + b"\n"

"""Cohere's platform on the loopback: v1 and v2 chat, generate, embed, rerank, classify, parse.

Shapes are those of docs.cohere.com (2026-11); counts are floats, as Cohere sends them. Behaviors on demand stand in
`tests.fakes.server`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.fakes.server import WORDS, Event, FakeServer, Handler

Usage = dict[str, Any]

#: 58 in and 20 out are billed; the model saw 69 and 22, 30 of them cached.
CHAT: Usage = {
    "billed_units": {"input_tokens": 58.0, "output_tokens": 20.0},
    "tokens": {"input_tokens": 69.0, "output_tokens": 22.0},
    "cached_tokens": 30.0,
}
CHAT_BY_MODEL: dict[str, Usage] = {
    # More cached than billed.
    "command-cached": {
        "billed_units": {"input_tokens": 5.0, "output_tokens": 1.0},
        "tokens": {"input_tokens": 500.0, "output_tokens": 1.0},
        "cached_tokens": 480.0,
    },
    # Nothing is said of bills.
    "command-tokens": {"tokens": {"input_tokens": 69.0, "output_tokens": 22.0}},
    # Searches by a connector.
    "command-rag": {"billed_units": {"input_tokens": 58.0, "output_tokens": 20.0, "search_units": 2.0}},
}
#: 12 in, 30 out.
GENERATE: Usage = {"billed_units": {"input_tokens": 12.0, "output_tokens": 30.0}}
#: 6 in for each request; with images 1 image and 258 tokens of it.
EMBED: Usage = {"billed_units": {"input_tokens": 6.0}}
EMBED_IMAGES: Usage = {"billed_units": {"input_tokens": 4.0, "image_tokens": 258.0, "images": 1.0}}
#: 1 search unit.
RERANK: Usage = {"billed_units": {"search_units": 1.0}}
#: 2 classifications.
CLASSIFY: Usage = {"billed_units": {"classifications": 2.0}}
#: 4 pages.
PARSE: Usage = {"billed_units": {"pages": 4.0}}


class _Handler(Handler):
    def do_GET(self) -> None:
        self._read_request()
        self._send_error(404, None)

    def _send_error(self, status: int, model: str | None) -> None:
        self._log(status)
        self._send_json(status, {"id": self.fake.new_id("err_"), "message": "invalid request"})

    def _chat_v1(self, _: re.Match[str]) -> None:
        usage = CHAT_BY_MODEL.get(self.model, CHAT)
        answer = {
            "response_id": self.fake.new_id("resp_"),
            "generation_id": self.fake.new_id("gen_"),
            "text": "".join(WORDS),
            "chat_history": [],
            "finish_reason": "COMPLETE",
            "meta": {"api_version": {"version": "1"}, **usage},
        }
        if self.stream:
            self._log(200, response_id=answer["response_id"], usage=usage)
            self._send_stream(_lines_v1(answer), "application/stream+json", _line)
            return
        self._answer(answer, usage)

    def _chat_v2(self, _: re.Match[str]) -> None:
        usage = CHAT_BY_MODEL.get(self.model, CHAT)
        answer_id = self.fake.new_id("resp_")
        if self.stream:
            self._log(200, response_id=answer_id, usage=usage)
            self._send_stream(_events_v2(answer_id, usage))
            return
        message = {"role": "assistant", "content": [{"type": "text", "text": "".join(WORDS)}]}
        self._answer({"id": answer_id, "finish_reason": "COMPLETE", "message": message, "usage": usage}, usage)

    def _generate(self, _: re.Match[str]) -> None:
        generation = {"id": self.fake.new_id("gen_"), "text": "".join(WORDS), "index": 0}
        answer = {"id": self.fake.new_id("resp_"), "generations": [generation], "prompt": "Hi", "meta": GENERATE}
        if self.stream:
            self._log(200, usage=None)
            self._send_stream(_lines_of_generation(answer), "application/stream+json", _line)
            return
        self._answer(answer, GENERATE)

    def _embed(self, match: re.Match[str]) -> None:
        usage = EMBED_IMAGES if self.body.get("images") else EMBED
        count = len(self.body.get("texts") or self.body.get("images") or ())
        floats = [[0.25, -0.5]] * count
        is_v1 = match[1] == "v1"
        embeddings: Any = floats if is_v1 else {"float": floats}
        kind = "embeddings_floats" if is_v1 else "embeddings_by_type"
        answer = {"id": self.fake.new_id("emb_"), "texts": self.body.get("texts") or [], "embeddings": embeddings}
        self._answer({**answer, "response_type": kind, "meta": usage}, usage)

    def _rerank(self, _: re.Match[str]) -> None:
        results = [{"index": 0, "relevance_score": 0.9}]
        self._answer({"id": self.fake.new_id("rr_"), "results": results, "meta": RERANK}, RERANK)

    def _classify(self, _: re.Match[str]) -> None:
        answer = {"id": self.fake.new_id("cls_"), "classifications": [], "meta": CLASSIFY}
        self._answer(answer, CLASSIFY)

    def _parse(self, _: re.Match[str]) -> None:
        answer = {"id": self.fake.new_id("prs_"), "pages": [], "finish_reason": "COMPLETE", "meta": PARSE}
        self._answer(answer, PARSE)


_Handler.routes = (
    (re.compile(r"/v1/chat$"), _Handler._chat_v1),
    (re.compile(r"/v2/chat$"), _Handler._chat_v2),
    (re.compile(r"/v1/generate$"), _Handler._generate),
    (re.compile(r"/(v1|v2)/embed$"), _Handler._embed),
    (re.compile(r"/(v1|v2)/rerank$"), _Handler._rerank),
    (re.compile(r"/v1/classify$"), _Handler._classify),
    (re.compile(r"/v2/parse$"), _Handler._parse),
)


class FakeCohere(FakeServer):
    """Cohere's platform."""

    handler = _Handler


def _lines_v1(answer: dict[str, Any]) -> Iterator[Event]:
    yield None, {"is_finished": False, "event_type": "stream-start", "generation_id": answer["generation_id"]}
    for word in WORDS:
        yield None, {"is_finished": False, "event_type": "text-generation", "text": word}
    last = {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE"}
    yield None, {**last, "response": answer}


def _lines_of_generation(answer: dict[str, Any]) -> Iterator[Event]:
    for word in WORDS:
        yield None, {"is_finished": False, "event_type": "text-generation", "text": word, "index": 0}
    last = {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE"}
    yield None, {**last, "response": {key: value for key, value in answer.items() if key != "meta"}}


def _events_v2(answer_id: str, usage: Usage) -> Iterator[Event]:
    yield "message-start", {"type": "message-start", "id": answer_id, "delta": {"message": {"role": "assistant"}}}
    for word in WORDS:
        delta = {"message": {"content": {"text": word}}}
        yield "content-delta", {"type": "content-delta", "index": 0, "delta": delta}
    yield "message-end", {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}
    yield "[DONE]", {}


def _line(_: str | None, data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"

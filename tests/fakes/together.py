"""Together on the loopback: chat, completions, embeddings, images, rerank, audio.

Shapes are those of docs.together.ai/reference (2026-11); the figures stand at the top. Behaviours on demand stand in
`tests.fakes.server`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from tests.fakes import batches
from tests.fakes.server import WORDS, Event, FakeServer, Handler

Usage = dict[str, Any]

#: 90 in (64 of them cached, said flat), 33 out.
CHAT: Usage = {"prompt_tokens": 90, "completion_tokens": 33, "total_tokens": 123, "cached_tokens": 64}
#: 14 in, 21 out.
TEXT_COMPLETION: Usage = {"prompt_tokens": 14, "completion_tokens": 21, "total_tokens": 35}
#: 11 in, where a model says it at all.
EMBEDDINGS: Usage = {"prompt_tokens": 11, "total_tokens": 11}
#: 470 in.
RERANK: Usage = {"prompt_tokens": 470, "completion_tokens": 0, "total_tokens": 470}
#: The length of every recording, in seconds.
DURATION_S = 12.25


class _Handler(Handler):
    error_event = None  # the SDK passes events with a name by

    def do_GET(self) -> None:
        """The results of a batch of two chats; a video that is done at the second look."""
        self._read_request()
        self._log(200)
        if match := re.fullmatch(r"/v1/files/([^/]+)/content", self.path):
            chats = [batches.chat_body(f"{match[1]}-{number}", self.model, CHAT) for number in range(2)]
            self._send_bytes(200, batches.result_file(match[1], chats), "application/octet-stream")
        elif match := re.fullmatch(r"/v2/videos/([^/]+)", self.path):
            self.fake.looks += 1
            self._send_json(200, _video(match[1], "completed" if self.fake.looks > 1 else "in_progress"))
        else:
            self._send_error(404, None)

    def _video(self, _: re.Match[str]) -> None:
        self._answer(_video(self.fake.new_id("video-"), "in_progress"), None)

    def _chat(self, _: re.Match[str]) -> None:
        head = {"id": self.fake.new_id("o"), "created": int(time.time()), "model": self.model}
        if self.stream:
            self._log(200, response_model=self.model, response_id=head["id"], usage=CHAT)
            usage = None if self.behavior == "no-usage" else CHAT
            self._send_stream(_chat_events({**head, "object": "chat.completion.chunk"}, usage))
            return
        message = {"role": "assistant", "content": "".join(WORDS), "tool_calls": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "seed": 7}
        body = {**head, "object": "chat.completion", "choices": [choice], "prompt": [], "usage": CHAT}
        self._answer(body, CHAT)

    def _completions(self, _: re.Match[str]) -> None:
        head = {"id": self.fake.new_id("o"), "created": int(time.time()), "model": self.model}
        if self.stream:
            self._log(200, response_model=self.model, response_id=head["id"], usage=TEXT_COMPLETION)
            self._send_stream(_completion_events({**head, "object": "completion.chunk"}, TEXT_COMPLETION))
            return
        choice = {"text": "".join(WORDS), "finish_reason": "stop", "seed": 7}
        body = {**head, "object": "text.completion", "choices": [choice], "prompt": [], "usage": TEXT_COMPLETION}
        self._answer(body, TEXT_COMPLETION)

    def _embeddings(self, _: re.Match[str]) -> None:
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
        body = {"object": "list", "data": data, "model": self.model, "usage": EMBEDDINGS}
        self._answer(body, EMBEDDINGS)

    def _images(self, _: re.Match[str]) -> None:
        count = self.body.get("n") or 1
        data = [{"index": index, "url": "https://images.example/1.png", "type": "url"} for index in range(count)]
        body = {"id": self.fake.new_id("o"), "model": self.model, "object": "list", "data": data}
        self._answer(body, {"images": count})

    def _rerank(self, _: re.Match[str]) -> None:
        results = [{"index": 0, "relevance_score": 0.98, "document": {"text": "a ride"}}]
        body = {
            "id": self.fake.new_id("o"), "object": "rerank", "model": self.model, "results": results, "usage": RERANK,
        }  # fmt: skip
        self._answer(body, RERANK)

    def _transcription(self, _: re.Match[str]) -> None:
        body: dict[str, Any] = {"text": "".join(WORDS)}
        if self.body.get("response_format") == "verbose_json":
            body |= {"language": "english", "duration": DURATION_S, "segments": []}
        self._answer(body, {"seconds": DURATION_S})

    def _speech(self, _: re.Match[str]) -> None:
        self._log(200, response_model=self.model, usage={"input_characters": len(self.body.get("input", ""))})
        if self.stream:
            self._send_stream(_speech_events(self.model))
            return
        self._send_bytes(200, b"RIFF not really a wave", "audio/wav")


_Handler.routes = (
    (re.compile(r"^/v1/chat/completions$"), _Handler._chat),
    (re.compile(r"^/v1/completions$"), _Handler._completions),
    (re.compile(r"^/v1/embeddings$"), _Handler._embeddings),
    (re.compile(r"^/v1/images/generations$"), _Handler._images),
    (re.compile(r"^/v1/rerank$"), _Handler._rerank),
    (re.compile(r"^/v1/audio/(transcriptions|translations)$"), _Handler._transcription),
    (re.compile(r"^/v1/audio/speech$"), _Handler._speech),
    (re.compile(r"^/v2/videos$"), _Handler._video),
)


class FakeTogether(FakeServer):
    handler = _Handler

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.looks = 0


def _video(video_id: str, status: str) -> dict[str, Any]:
    outputs = {"cost": 1, "video_url": "https://videos.example/1.mp4"} if status == "completed" else None
    return {
        "id": video_id, "object": "video", "model": "minimax/hailuo-02", "status": status, "created_at": 1.0,
        "seconds": "6", "size": "1366x768", "outputs": outputs,
    }  # fmt: skip


def _chat_events(head: dict[str, Any], usage: Usage | None) -> Iterator[Event]:
    for word in WORDS:
        delta = {"role": "assistant", "content": word}
        yield None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}
    last = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop", "seed": 7}
    yield None, {**head, "choices": [last], "usage": usage}
    yield "[DONE]", {}


def _completion_events(head: dict[str, Any], usage: Usage) -> Iterator[Event]:
    for number, word in enumerate(WORDS):
        token = {"id": number, "text": word, "logprob": 0.0, "special": False}
        choice = {"index": 0, "text": word, "delta": {"role": "assistant", "content": word}}
        yield None, {**head, "token": token, "choices": [choice], "usage": None, "finish_reason": None}
    token = {"id": 2, "text": "", "logprob": 0.0, "special": True}
    last = {"index": 0, "text": "", "delta": {"role": "assistant", "content": ""}}
    yield None, {**head, "token": token, "choices": [last], "usage": usage, "finish_reason": "stop"}
    yield "[DONE]", {}


def _speech_events(model: str) -> Iterator[Event]:
    for _ in WORDS:
        yield None, {"object": "audio.tts.chunk", "model": model, "b64": "UklGRg=="}
    yield "[DONE]", {}

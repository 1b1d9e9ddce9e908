"""Mistral's platform on the loopback: chat, fim, agents, conversations, responses, embeddings, ocr, audio.

Shapes are those of docs.mistral.ai/api (2026-11); the figures stand at the top. Behaviours on demand stand in
`tests.fakes.server`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

from tests.fakes import batches
from tests.fakes.server import WORDS, Event, FakeServer, Handler

Usage = dict[str, Any]

#: 120 in (80 of them cached, said twice), 40 out, served at priority.
CHAT: Usage = {
    "prompt_tokens": 120,
    "completion_tokens": 40,
    "total_tokens": 160,
    "num_cached_tokens": 80,
    "prompt_tokens_details": {"cached_tokens": 80},
    "service_tier": "priority",
}
#: Chat models with figures of their own: audio in the prompt; a cache that is only counted flat.
CHAT_BY_MODEL: dict[str, Usage] = {
    "voxtral-small-2507": {
        "prompt_tokens": 400,
        "completion_tokens": 30,
        "total_tokens": 430,
        "prompt_audio_seconds": 12,
    },
    "mistral-small-2506": {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55, "num_cached_tokens": 48},
}
#: 18 in, 7 out.
FIM: Usage = {"prompt_tokens": 18, "completion_tokens": 7, "total_tokens": 25}
#: 188 + 7112 read through connectors = 7300 in, 55 out, two searches and one picture.
CONVERSATION: Usage = {
    "prompt_tokens": 188,
    "completion_tokens": 55,
    "total_tokens": 7355,
    "connector_tokens": 7112,
    "connectors": {"web_search": 2, "image_generation": 1},
}
#: 300 in (100 read from the cache, 30 written), 60 out (20 reasoning).
RESPONSES: Usage = {
    "input_tokens": 300,
    "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 30},
    "output_tokens": 60,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 360,
}
#: 15 in.
EMBEDDINGS: Usage = {"prompt_tokens": 15, "completion_tokens": 0, "total_tokens": 15}
#: 3 pages.
OCR: Usage = {"pages_processed": 3, "doc_size_bytes": 3002783}
#: 203 seconds; 4 in, 635 out; the total holds the audio's tokens too.
TRANSCRIPTION: Usage = {
    "prompt_audio_seconds": 203,
    "prompt_tokens": 4,
    "completion_tokens": 635,
    "total_tokens": 3264,
}
#: The end of a stream of speech; the characters of the text are what is billed.
SPEECH: Usage = {"prompt_tokens": 9, "completion_tokens": 70, "total_tokens": 79}
#: A batch that is done; its results are as those of the calls above.
BATCH_JOB: dict[str, Any] = {
    "input_files": ["file-in"], "endpoint": "/v1/chat/completions", "errors": [], "status": "SUCCESS", "created_at": 1,
    "total_requests": 4, "completed_requests": 4, "succeeded_requests": 3, "failed_requests": 1, "object": "batch",
    "model": "mistral-small-latest", "output_file": "file-out",
}  # fmt: skip


class _Handler(Handler):
    def do_GET(self) -> None:
        """The results of a batch of two chats and an OCR: in a file, or in the job."""
        self._read_request()
        self._log(200)
        if match := re.search(r"/files/([^/]+)/content$", self.path):
            self._send_bytes(200, _results(match[1]), "application/octet-stream")
        elif match := re.search(r"/batch/jobs/([^/?]+)", self.path):
            is_inline = "inline=true" in self.path.lower()
            outputs = [json.loads(line) for line in _results(match[1]).splitlines()] if is_inline else None
            self._send_json(200, {**BATCH_JOB, "id": match[1], "outputs": outputs})
        else:
            self._send_error(404, None)

    def _read_request(self) -> None:
        super()._read_request()
        if self.path.endswith("#stream"):
            self.stream = True
        if not self.model:
            # Agents and the later turns of a conversation are asked for without a model.
            self.behavior, self.model = self._split_behavior(str(self.body.get("agent_id") or self._turn() or ""))

    def _turn(self) -> str:
        match = re.search(r"/conversations/([^/#]+)", self.path)
        return match[1] if match else ""

    def _chat(self, _: re.Match[str]) -> None:
        model = self.model if "agent_id" not in self.body else "mistral-medium-2508"
        self._complete(model, CHAT_BY_MODEL.get(self.model, CHAT))

    def _fim(self, _: re.Match[str]) -> None:
        self._complete(self.model, FIM)

    def _complete(self, model: str, usage: Usage) -> None:
        head = {"id": self.fake.new_id("cmpl-"), "object": "chat.completion", "created": int(time.time())}
        head["model"] = model
        if self.stream:
            self._log(200, response_model=model, response_id=head["id"], usage=usage)
            self._send_stream(_chat_events({**head, "object": "chat.completion.chunk"}, usage))
            return
        wants_json = "response_format" in self.body
        content: Any = '{"fare": 2}' if wants_json else "".join(WORDS)
        if self.model == "unreadable":
            content = 7
        message = {"role": "assistant", "content": content, "tool_calls": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._answer({**head, "choices": [choice], "usage": usage}, usage)

    def _conversation(self, _: re.Match[str]) -> None:
        model, conversation = "mistral-medium-2508", self.fake.new_id("conv_")
        wants_tool = bool(self.body.get("tools")) and "function.result" not in json.dumps(self.body)
        if self.stream:
            self._log(200, response_model=model, usage=CONVERSATION)
            self._send_stream(_conversation_events(conversation, model))
            return
        entry: dict[str, Any] = {"type": "message.output", "id": "msg_1", "model": model, "role": "assistant"}
        entry["content"] = "".join(WORDS)
        if wants_tool:
            entry = {
                "type": "function.call",
                "id": "fc_1",
                "tool_call_id": "call_1",
                "name": "fare",
                "arguments": "{}",
                "model": model,
            }
        body: dict[str, Any] = {"object": "conversation.response", "conversation_id": conversation, "outputs": [entry]}
        self._answer({**body, "usage": CONVERSATION}, CONVERSATION)

    def _responses(self, _: re.Match[str]) -> None:
        response = _response(self.fake.new_id("resp_"), self.model)
        if self.stream:
            self._log(200, response_model=self.model, usage=RESPONSES)
            begun = {**response, "status": "in_progress", "usage": None}
            events: list[Event] = [
                ("response.created", {"type": "response.created", "sequence_number": 0, "response": begun}),
                ("response.in_progress", {"type": "response.in_progress", "sequence_number": 1, "response": begun}),
                ("response.completed", {"type": "response.completed", "sequence_number": 2, "response": response}),
            ]
            self._send_stream(iter(events))
            return
        self._answer(response, RESPONSES)

    def _embeddings(self, _: re.Match[str]) -> None:
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
        body = {"id": self.fake.new_id("emb_"), "object": "list", "data": data, "model": self.model}
        self._answer({**body, "usage": EMBEDDINGS}, EMBEDDINGS)

    def _ocr(self, _: re.Match[str]) -> None:
        page = {"index": 0, "markdown": "# Fares", "images": [], "dimensions": None}
        body: dict[str, Any] = {
            "pages": [page] * 3,
            "model": "mistral-ocr-2505",
            "document_annotation": None,
            "usage_info": OCR,
        }
        self._answer(body, OCR)

    def _transcription(self, _: re.Match[str]) -> None:
        if self.stream:
            self._log(200, response_model=self.model, usage=TRANSCRIPTION)
            self._send_stream(_transcription_events(self.model))
            return
        body: dict[str, Any] = {"model": self.model, "text": "".join(WORDS), "language": None, "segments": []}
        self._answer({**body, "usage": TRANSCRIPTION}, TRANSCRIPTION)

    def _speech(self, _: re.Match[str]) -> None:
        if self.stream:
            self._log(200, response_model=self.model, usage=SPEECH)
            events: list[Event] = [
                ("speech.audio.delta", {"type": "speech.audio.delta", "audio_data": "SUQz"}),
                ("speech.audio.done", {"type": "speech.audio.done", "usage": SPEECH}),
            ]
            self._send_stream(iter(events))
            return
        self._answer({"audio_data": "SUQz"}, {"input_characters": len(self.body["input"])})


_Handler.routes = (
    (re.compile(r"/fim/completions$"), _Handler._fim),
    (re.compile(r"/(chat|agents)/completions$"), _Handler._chat),
    (re.compile(r"/conversations(/[^/]+(/restart)?)?$"), _Handler._conversation),
    (re.compile(r"/responses$"), _Handler._responses),
    (re.compile(r"/embeddings$"), _Handler._embeddings),
    (re.compile(r"/ocr$"), _Handler._ocr),
    (re.compile(r"/audio/transcriptions$"), _Handler._transcription),
    (re.compile(r"/audio/speech$"), _Handler._speech),
)


class FakeMistral(FakeServer):
    """Mistral's platform."""

    handler = _Handler


def _results(name: str) -> bytes:
    chats = [batches.chat_body(f"{name}-{number}", "mistral-small-latest", CHAT) for number in range(2)]
    pages = {"pages": [], "model": "mistral-ocr-2505", "usage_info": OCR}
    return batches.result_file(name, [*chats, pages])


def _chat_events(head: dict[str, Any], usage: Usage) -> Iterator[Event]:
    for word in WORDS:
        delta = {"role": "assistant", "content": word}
        yield None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    last = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
    yield None, {**head, "choices": [last], "usage": usage}
    yield "[DONE]", {}


def _conversation_events(conversation: str, model: str) -> Iterator[Event]:
    name = "conversation.response.started"
    yield name, {"type": name, "created_at": "2026-11-20T10:00:00Z", "conversation_id": conversation}
    name = "message.output.delta"
    for word in WORDS:
        part = {"type": name, "id": "msg_1", "content": word, "model": model, "role": "assistant"}
        yield name, {**part, "created_at": "2026-11-20T10:00:00Z", "output_index": 0, "content_index": 0}
    name = "conversation.response.done"
    yield name, {"type": name, "created_at": "2026-11-20T10:00:00Z", "usage": CONVERSATION}


def _transcription_events(model: str) -> Iterator[Event]:
    name = "transcription.text.delta"
    for word in WORDS:
        yield name, {"type": name, "text": word}
    name = "transcription.done"
    text = "".join(WORDS)
    yield name, {"type": name, "model": model, "text": text, "language": "en", "usage": TRANSCRIPTION}


def _response(response_id: str, model: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": model,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "usage": RESPONSES,
    }

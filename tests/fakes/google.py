"""Google's models on the loopback: Gemini API and Vertex AI, interactions, live sessions.

Shapes are those of ai.google.dev/api and of the Vertex AI reference (2026-11); the figures stand at the top. Behaviors
on demand stand in `tests.fakes.server`. A live session is a WebSocket (RFC 6455) that takes any message as a turn.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.server import ERRORS, WORDS, Event, FakeServer, Handler

Usage = dict[str, Any]

#: 1000 + 30 read through tools = 1030 in (400 cached; 60 audio, 200 + 10 image, 40 video);
#: 50 + 200 of thoughts = 250 out (20 image).
CONTENT: Usage = {
    "promptTokenCount": 1000,
    "cachedContentTokenCount": 400,
    "candidatesTokenCount": 50,
    "thoughtsTokenCount": 200,
    "toolUsePromptTokenCount": 30,
    "totalTokenCount": 1280,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 700},
        {"modality": "IMAGE", "tokenCount": 200},
        {"modality": "AUDIO", "tokenCount": 60},
        {"modality": "VIDEO", "tokenCount": 40},
    ],
    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 400}],
    "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 30}, {"modality": "IMAGE", "tokenCount": 20}],
    "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}, {"modality": "IMAGE", "tokenCount": 10}],
}
#: Models with figures of their own: one that says no thoughts, and hides 74 of them in the total; a blocked prompt.
CONTENT_BY_MODEL: dict[str, Usage] = {
    "gemini-hidden": {"promptTokenCount": 35, "candidatesTokenCount": 12, "totalTokenCount": 121},
    "gemini-blocked": {"promptTokenCount": 8, "totalTokenCount": 8},
    "gemini-priority": {
        "promptTokenCount": 10,
        "candidatesTokenCount": 4,
        "totalTokenCount": 14,
        "trafficType": "ON_DEMAND_PRIORITY",
    },
}
#: Early chunks overstate the prompt, and the last ones are right.
EARLY: Usage = {"promptTokenCount": 1900, "candidatesTokenCount": 7, "totalTokenCount": 1907}
#: 11 in.
EMBEDDINGS: Usage = {"promptTokenCount": 11, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 11}]}
#: 5 + 4 in.
STATISTICS = (5, 4)
#: An answer in a batch: 200 in, 30 + 20 out.
BATCHED: Usage = {
    "promptTokenCount": 200,
    "candidatesTokenCount": 30,
    "thoughtsTokenCount": 20,
    "totalTokenCount": 250,
}
#: 100 + 6 in (40 cached; 25 audio), 20 + 14 out; three searches.
INTERACTION: Usage = {
    "total_input_tokens": 100,
    "input_tokens_by_modality": [{"modality": "text", "tokens": 75}, {"modality": "audio", "tokens": 25}],
    "total_cached_tokens": 40,
    "total_output_tokens": 20,
    "total_thought_tokens": 14,
    "total_tool_use_tokens": 6,
    "total_tokens": 140,
    "grounding_tool_count": [{"type": "google_search", "count": 3}, {"type": "google_maps", "count": 1}],
}
#: 300 in (250 audio), 90 out (80 audio), in the words of Vertex AI.
LIVE: Usage = {
    "promptTokenCount": 300,
    "candidatesTokenCount": 90,
    "totalTokenCount": 390,
    "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 250}, {"modality": "TEXT", "tokenCount": 50}],
    "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 80}, {"modality": "TEXT", "tokenCount": 10}],
}
WEBSOCKET_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Handler(Handler):
    def do_GET(self) -> None:
        if self.headers.get("upgrade", "").lower() == "websocket":
            self._live()
            return
        self._read_request()
        if match := re.search(r"/interactions/([^/]+)$", urlsplit(self.path).path):
            if parse_qs(urlsplit(self.path).query).get("stream") == ["true"]:
                self.stream = True
            self._stored(match[1])
        elif match := re.search(r"/batches/([\w-]+)$", urlsplit(self.path).path):
            self._send_json(200, _batch(match[1]))
        elif match := re.search(r"/files/([\w-]+):download$", urlsplit(self.path).path):
            self._send_bytes(200, _result_file(match[1]), "application/octet-stream")
        else:
            self._send_error(404, None)

    def _read_request(self) -> None:
        super()._read_request()
        if match := re.search(r"/([^/]+):(\w+)$", urlsplit(self.path).path):
            self.behavior, self.model = self._split_behavior(unquote(match[1]))
            self.stream = match[2].startswith("stream")

    def _send_error(self, status: int, model: str | None) -> None:
        self._log(status)
        message = ERRORS.get(status, ("", f"No route {self.path}."))[1]
        status_name = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
        self._send_json(status, {"error": {"code": status, "message": message, "status": status_name}})

    # -- generateContent

    def _content(self, _: re.Match[str]) -> None:
        usage = CONTENT_BY_MODEL.get(self.model, CONTENT)
        head = {"modelVersion": f"{self.model}-001", "responseId": self.fake.new_id("r")}
        self._log(200, response_model=head["modelVersion"], response_id=head["responseId"], usage=usage)
        if self.stream:
            self._send_stream(self._content_events(head, usage), encode=_content_event)
            return
        candidate = {"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [self._part()]}}
        answer = {"candidates": [candidate | self._grounding()], **head, "usageMetadata": usage}
        if self.behavior == "no-usage":
            del answer["usageMetadata"]
        if self.model == "gemini-blocked":
            answer |= {"candidates": [], "promptFeedback": {"blockReason": "SAFETY"}}
        self._send_json(200, answer)

    def _content_events(self, head: dict[str, Any], usage: Usage) -> Iterator[Event]:
        for word in WORDS:
            content = {"role": "model", "parts": [{"text": word}]}
            yield None, {"candidates": [{"index": 0, "content": content}], **head, "usageMetadata": EARLY}
        content = {"role": "model", "parts": [self._part()]}
        candidate = {"index": 0, "content": content, "finishReason": "STOP"} | self._grounding()
        yield None, {"candidates": [candidate], **head, "usageMetadata": usage}

    def _part(self) -> dict[str, Any]:
        sent = json.dumps(self.body)
        if "functionDeclarations" in sent and sent.count("functionResponse") < 2:
            return {"functionCall": {"name": "fare", "args": {"zone": 1}}}
        return {"text": "".join(WORDS)}

    def _grounding(self) -> dict[str, Any]:
        if "googleSearch" not in json.dumps(self.body):
            return {}
        return {"groundingMetadata": {"webSearchQueries": ["fare", "fare zone 1"]}}

    # -- embeddings, pictures, videos, counting

    def _batch_embeddings(self, _: re.Match[str]) -> None:
        embeddings = [{"values": [0.25, -0.5]} for _ in self.body["requests"]]
        self._log(200, usage=EMBEDDINGS)
        self._send_json(200, {"embeddings": embeddings, "usageMetadata": EMBEDDINGS})

    def _embed_content(self, _: re.Match[str]) -> None:
        self._log(200, usage=EMBEDDINGS)
        self._send_json(200, {"embedding": {"values": [0.25, -0.5]}, "usageMetadata": EMBEDDINGS})

    def _predict(self, _: re.Match[str]) -> None:
        self._log(200)
        if "content" in self.body["instances"][0]:
            counts = STATISTICS[: len(self.body["instances"])]
            embeddings = [{"values": [0.5], "statistics": {"truncated": False, "token_count": n}} for n in counts]
            self._send_json(200, {"predictions": [{"embeddings": embedding} for embedding in embeddings]})
            return
        picture = {"bytesBase64Encoded": base64.b64encode(b"no picture").decode(), "mimeType": "image/png"}
        withheld = {"raiFilteredReason": "The picture was withheld."}
        count = int(self.body.get("parameters", {}).get("sampleCount") or 1)
        self._send_json(200, {"predictions": [*[picture] * (count - 1), withheld if count > 1 else picture]})

    def _predict_long(self, _: re.Match[str]) -> None:
        self._log(200)
        self._send_json(200, {"name": f"models/{self.model}/operations/op1"})

    def _count(self, _: re.Match[str]) -> None:
        self._log(200)
        self._send_json(200, {"totalTokens": 7})

    # -- interactions

    def _interaction(self, _: re.Match[str]) -> None:
        interaction_id = self.fake.new_id("v1_")
        self._answer_interaction(interaction_id, self.model, is_background=bool(self.body.get("background")))

    def _stored(self, interaction_id: str) -> None:
        self._answer_interaction(interaction_id, "gemini-2.5-flash", is_background=False)

    def _answer_interaction(self, interaction_id: str, model: str, *, is_background: bool) -> None:
        continues = model == "gemini-continued" and "continuation_token" not in self.body
        interaction: dict[str, Any] = {
            "id": interaction_id,
            "object": "interaction",
            "model": model,
            "status": "requires_continuation" if continues else "completed",
            "created": "2026-11-21T00:00:00Z",
            "updated": "2026-11-21T00:00:00Z",
            "role": "model",
            "steps": [{"type": "model_output", "content": [{"type": "text", "text": "".join(WORDS)}]}],
            "usage": INTERACTION,
        }
        if continues:
            interaction["continuation_token"] = "dG9rZW4="
        if is_background:
            interaction |= {"status": "in_progress", "steps": []}
            del interaction["usage"]
        self._log(200, response_id=interaction_id, usage=interaction.get("usage"))
        if self.stream:
            self._send_stream(_interaction_events(interaction))
            return
        self._send_json(200, interaction)

    # -- live sessions

    def _live(self) -> None:
        digest = hashlib.sha1(self.headers["sec-websocket-key"].encode() + WEBSOCKET_MAGIC).digest()
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        accept = base64.b64encode(digest).decode()
        self.wfile.write(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        self.close_connection = True
        with contextlib.suppress(OSError, EOFError):
            self._receive_message()
            self._send_message({"setupComplete": {}})
            while self._receive_message():
                self._send_message({"serverContent": {"modelTurn": {"parts": [{"text": "Two"}]}}})
                self._send_message({"serverContent": {"modelTurn": {"parts": [{"text": " cents."}]}}})
                self._send_message({"serverContent": {"turnComplete": True}, "usageMetadata": LIVE})

    def _receive_message(self) -> bytes:
        """The payload of the next message, empty when the client closes."""
        opcode, length = self._read_exactly(2)
        if opcode & 0x0F == 8:
            return b""
        size = length & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._read_exactly(2))
        mask = self._read_exactly(4)
        return bytes(byte ^ mask[index % 4] for index, byte in enumerate(self._read_exactly(size)))

    def _read_exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _send_message(self, message: dict[str, Any]) -> None:
        payload = json.dumps(message).encode()
        size = struct.pack("!B", len(payload)) if len(payload) < 126 else struct.pack("!BH", 126, len(payload))
        self.wfile.write(b"\x82" + size + payload)

    routes = (
        (re.compile(r":(?:stream)?[gG]enerateContent$"), _content),
        (re.compile(r":batchEmbedContents$"), _batch_embeddings),
        (re.compile(r":embedContent$"), _embed_content),
        (re.compile(r":predict$"), _predict),
        (re.compile(r":predictLongRunning$"), _predict_long),
        (re.compile(r":countTokens$"), _count),
        (re.compile(r"/interactions$"), _interaction),
    )


class FakeGoogle(FakeServer):
    handler = _Handler


def _batched(answer_id: str) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": "".join(WORDS)}]}, "finishReason": "STOP"}
    return {
        "candidates": [candidate],
        "responseId": answer_id,
        "modelVersion": "gemini-2.5-flash-001",
        "usageMetadata": BATCHED,
    }


def _batch(name: str) -> dict[str, Any]:
    """A finished batch with its answers in it or in a file, by its name; a running one has none."""
    lines: list[dict[str, Any]] = [{"response": _batched(f"{name}-{number}")} for number in range(2)]
    failed = {"error": {"code": 400, "message": "The prompt is empty."}}
    embeddings = [{"response": {"embedding": {"values": [0.5]}, "tokenCount": "6"}}]
    outputs: dict[str, dict[str, Any]] = {
        "inline": {"inlinedResponses": {"inlinedResponses": [*lines, failed]}},
        "embeddings": {"inlinedEmbedContentResponses": {"inlinedResponses": embeddings}},
        "file": {"responsesFile": f"files/{name}"},
    }
    kind = name.partition("-")[0]
    metadata: dict[str, Any] = {"model": "models/gemini-2.5-flash", "displayName": name, "state": "BATCH_STATE_RUNNING"}
    if kind in outputs:
        metadata |= {"state": "BATCH_STATE_SUCCEEDED", "output": outputs[kind]}
    return {"name": f"batches/{name}", "metadata": metadata, "done": kind in outputs}


def _result_file(name: str) -> bytes:
    lines: list[dict[str, Any]] = [{"key": f"k{n}", "response": _batched(f"{name}-{n}")} for n in range(3)]
    lines.append({"key": "k3", "error": {"code": 400, "message": "The prompt is empty."}})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _content_event(name: str | None, data: dict[str, Any]) -> bytes:
    if name == "error":
        data = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    return f"data: {json.dumps(data)}\r\n\r\n".encode()


def _interaction_events(interaction: dict[str, Any]) -> Iterator[Event]:
    begun = {name: interaction[name] for name in ("id", "object", "model")} | {"status": "in_progress"}
    yield "interaction.created", {"event_type": "interaction.created", "interaction": begun}
    step = {"type": "model_output", "content": []}
    yield "step.start", {"event_type": "step.start", "index": 0, "step": step}
    for word in WORDS:
        delta = {"type": "text", "text": word}
        yield "step.delta", {"event_type": "step.delta", "index": 0, "delta": delta}
    yield "step.stop", {"event_type": "step.stop", "index": 0}
    yield "interaction.completed", {"event_type": "interaction.completed", "interaction": interaction}
    yield "[DONE]", {}

"""OpenAI's WebSockets on the loopback: the Realtime API and Responses, with usage figures known beforehand.

Shapes are those of platform.openai.com/docs/api-reference/realtime-server-events (2026-11). Each `response.create` of
the client is answered by deltas and the event that ends a response; the figures stand at the top.
"""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.sync.server import Server, ServerConnection, serve

Usage = dict[str, Any]

#: 900 in (600 read from the cache, 300 audio, 50 image), 120 out (100 audio).
REALTIME: Usage = {
    "total_tokens": 1020,
    "input_tokens": 900,
    "output_tokens": 120,
    "input_token_details": {
        "text_tokens": 550,
        "audio_tokens": 300,
        "image_tokens": 50,
        "cached_tokens": 600,
        "cached_tokens_details": {"text_tokens": 500, "audio_tokens": 100, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 20, "audio_tokens": 100},
}
#: What the app said, written down by another model: 33 in (30 audio), 9 out.
TRANSCRIPTION: Usage = {
    "type": "tokens",
    "total_tokens": 42,
    "input_tokens": 33,
    "input_token_details": {"text_tokens": 3, "audio_tokens": 30},
    "output_tokens": 9,
}
#: 210 in, 70 out (20 reasoning).
RESPONSES: Usage = {
    "input_tokens": 210,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 70,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 280,
}
#: A Live session of 61.5 s, in which a response (as above) and a decision were asked for: 64 in, 5 out.
LIVE_S = 61.5
DECISION: Usage = {"input_tokens": 64, "output_tokens": 5, "total_tokens": 69}


class FakeRealtime:
    """The server; use it as a context manager. `url` is the base address of the API, with `ws`."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._server: Server = serve(self._talk, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)

    def _talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        address = urlsplit(connection.request.path)
        if "/live/sessions" in address.path:
            self._live(connection)
            return
        is_realtime = address.path.endswith("/realtime")
        model = parse_qs(address.query).get("model", [""])[0]
        if is_realtime:
            _send(connection, _session("session.created", model, transcription=None))
        for message in connection:
            event = json.loads(message)
            if event["type"] == "session.update":
                _send(connection, _session("session.updated", model, transcription="gpt-4o-transcribe"))
            elif event["type"] == "input_audio_buffer.commit":
                _send(connection, _transcript())
            elif event["type"] == "response.create":
                answers = self._realtime() if is_realtime else self._response(event.get("model", ""))
                for answer in answers:
                    _send(connection, answer)

    def _live(self, connection: ServerConnection) -> None:
        """One session, asked to close by its second message."""
        session = {"id": f"live_{id(self)}", "expires_at": 9, "model": "gpt-live-1", "status": "active"}
        json.loads(connection.recv())
        _send(connection, {"type": "session.started", "event_id": "event_0", "session": session})
        for event in self._response("gpt-5"):
            _send(connection, {"type": "response.event", "event_id": "event_1", "event": event})
        decision = {"model": "gpt-decide-1", "answers": [], "usage": DECISION}
        decided = {"type": "decision.completed", "decision": decision}
        _send(connection, {"type": "decision.event", "event_id": f"event_{id(self)}", "event": decided})
        seconds = {"seconds": LIVE_S - 1}
        _send(connection, {"type": "session.usage.updated", "event_id": "event_3", "usage": seconds})
        json.loads(connection.recv())
        closed = {"type": "session.closed", "event_id": "event_4", "reason": "close_requested", "session": session}
        _send(connection, {**closed, "usage": {"seconds": LIVE_S}})

    def _realtime(self) -> list[dict[str, Any]]:
        response_id = f"resp_rt_{id(self)}_{next(self._ids)}"
        place = {"response_id": response_id, "item_id": "item_1", "output_index": 0, "content_index": 0}
        response = {
            "id": response_id, "object": "realtime.response", "status": "completed", "status_details": None,
            "output": [], "conversation_id": "conv_1", "output_modalities": ["audio"], "usage": REALTIME,
        }  # fmt: skip
        begun = {**response, "status": "in_progress", "usage": None}
        return [
            {"type": "response.created", "event_id": "event_1", "response": begun},
            {"type": "response.output_audio.delta", "event_id": "event_2", **place, "delta": "AAAA"},
            {"type": "response.done", "event_id": "event_3", "response": response},
        ]

    def _response(self, model: str) -> list[dict[str, Any]]:
        response = {
            "id": f"resp_ws_{id(self)}_{next(self._ids)}", "object": "response", "created_at": 1, "status": "completed",
            "model": model, "output": [], "tools": [], "parallel_tool_calls": True, "tool_choice": "auto",
            "usage": RESPONSES,
        }  # fmt: skip
        begun = {**response, "status": "in_progress", "usage": None}
        return [
            {"type": "response.created", "sequence_number": 0, "response": begun},
            {"type": "response.completed", "sequence_number": 1, "response": response},
        ]


def _session(kind: str, model: str, transcription: str | None) -> dict[str, Any]:
    heard = {"model": transcription} if transcription else None
    session = {"type": "realtime", "id": "sess_1", "object": "realtime.session", "model": model}
    return {"type": kind, "event_id": "event_0", "session": {**session, "audio": {"input": {"transcription": heard}}}}


def _transcript() -> dict[str, Any]:
    return {
        "type": "conversation.item.input_audio_transcription.completed", "event_id": "event_t", "item_id": "item_0",
        "content_index": 0, "transcript": "What does a ride cost?", "usage": TRANSCRIPTION,
    }  # fmt: skip


def _send(connection: ServerConnection, event: dict[str, Any]) -> None:
    connection.send(json.dumps(event))

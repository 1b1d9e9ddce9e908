"""OpenAI's connections: the Realtime API, Live sessions, and Responses over a WebSocket.

Comes in: each message that a connection has received, as bytes, before the SDK or the app parses it. Goes out: a span
for each response on it, when its usage comes. A Live session is billed by its seconds, which are final when it has
closed; what it delegates to other models comes in events of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

from farebox import counted, spans
from farebox.openai_shape import read_answer, read_usage
from farebox.places import place_at
from farebox.reading import Reading, Request, fields

SESSION_EVENTS = frozenset({"session.created", "session.started", "session.updated", "transcription_session.updated"})
FINAL_EVENTS = frozenset({"response.done", "response.completed", "response.incomplete", "response.failed"})
#: A message around the event of a model that a Live session has asked.
DELEGATED = frozenset({"response.event", "decision.event"})
DECIDED = "decision.completed"
LIVE_CLOSED = "session.closed"
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"

#: Connection → what its session was last set to: `model` and `transcription_model`.
_sessions: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def request_on(connection: Any) -> Request:
    """What is known of a connection that is about to receive a message."""
    handshake = getattr(getattr(connection, "_connection", None), "request", None)
    notes = _sessions.get(connection)
    if notes is None:
        asked = parse_qs(urlsplit(getattr(handshake, "path", "")).query)
        notes = _sessions.setdefault(connection, {"model": next(iter(asked.get("model", ())), None)})
    place = place_at(f"ws://{handshake.headers.get('Host', '')}" if handshake is not None else "")
    request = Request("chat", place.provider or "openai", None)
    request.is_delivery = True
    request.notes = notes
    place.put(request)
    return request


def read_message(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read one message of a connection."""
    kind = inside.get("type")
    if kind in SESSION_EVENTS:
        _read_session(fields(inside.get("session")), reading)
    elif kind in DELEGATED:
        _read_delegated(inside, reading)
    elif kind == LIVE_CLOSED:
        _read_live(inside, reading)
    elif kind in FINAL_EVENTS:
        _read_response(inside.get("response"), reading, reading.notes.get("model"))
    elif kind == TRANSCRIBED and inside.get("usage") is not None:
        item = Reading(reading.request)
        item.attributes[spans.OPERATION] = "transcription"
        item.put(spans.RESPONSE_MODEL, reading.notes.get("transcription_model"))
        read_usage(inside["usage"], item)
        reading.items.append(item.attributes)


def _read_response(response: Any, reading: Reading, model: Any, operation: str = "chat") -> None:
    """Read a response as it stands in the event that ends it; the Realtime API does not name the `model` there."""
    inside = fields(response)
    if inside.get("usage") is None or not counted.is_first(inside.get("id")):
        return
    item = Reading(reading.request)
    item.attributes[spans.OPERATION] = operation
    item.put(spans.RESPONSE_MODEL, model)
    read_answer(inside, item)
    reading.items.append(item.attributes)


def _read_delegated(message: Mapping[str, Any], reading: Reading) -> None:
    """Read the end of what another model did for a Live session, by its own name and price."""
    event = fields(message.get("event"))
    if event.get("type") == DECIDED:
        # A decision has no id of its own; the message that brings it has.
        decision = {"id": message.get("event_id"), **fields(event.get("decision"))}
        _read_response(decision, reading, None, "classify")
    elif event.get("type") in FINAL_EVENTS:
        _read_response(event.get("response"), reading, None)


def _read_live(closed: Mapping[str, Any], reading: Reading) -> None:
    """Read the final word on a Live session; who listens beside it hears it too."""
    session, usage = fields(closed.get("session")), fields(closed.get("usage"))
    if usage.get("seconds") is None or not counted.is_first(session.get("id")):
        return
    item = Reading(reading.request)
    item.put(spans.RESPONSE_ID, session.get("id"))
    item.put(spans.RESPONSE_MODEL, session.get("model") or reading.notes.get("model"))
    item.put_count(spans.INPUT_SECONDS, usage["seconds"])
    reading.items.append(item.attributes)


def _read_session(session: Mapping[str, Any], reading: Reading) -> None:
    heard = fields(fields(session.get("audio")).get("input")).get("transcription")
    transcription = fields(heard or session.get("input_audio_transcription"))  # the second one: before 2025-08
    for name, model in (("model", session.get("model")), ("transcription_model", transcription.get("model"))):
        if isinstance(model, str) and model:
            reading.notes[name] = model

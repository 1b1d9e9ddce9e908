"""Event streams read along as bytes: nothing changes but the events that are hidden, however the bytes are cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.bodies import EventReader
from farebox.reading import Request

TEXT = 'é\n\n[DONE], "usage": null'
EVENTS: list[dict[str, Any]] = [
    {"id": "c-1", "model": "m", "choices": [{"delta": {"content": TEXT}}], "usage": None},
    {"id": "c-1", "model": "m", "choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None},
    {"id": "c-1", "model": "m", "choices": [], "usage": {"prompt_tokens": 1}},
]


def written(*events: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)


END = b": comment\n\ndata: [DONE]\n\n"
SENT = written(*EVENTS) + END
#: What the app would have got, had we not asked for the usage.
SHOWN = written(*({key: value for key, value in event.items() if key != "usage"} for event in EVENTS[:2])) + END


class Seen:
    """What a reader tells its call."""

    scope = "test"

    def __init__(self, is_hiding: bool) -> None:
        self.request = Request("chat", "p", "m", is_stream=True)
        if is_hiding:
            self.request.is_hidden = lambda chunk: chunk.get("choices") == []
        self.chunks: list[Any] = []
        self.ends: list[str] = []

    def read(self, answer: Any) -> None:
        raise AssertionError("an event stream has no whole answer")

    def read_chunk(self, chunk: Any) -> None:
        self.chunks.append(chunk)

    def fail(self, error: BaseException) -> None:
        raise AssertionError(error)

    def end(self, outcome: str = "completed", error: BaseException | None = None) -> None:
        self.ends.append(outcome)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@settings(max_examples=200, deadline=None)
@given(places=st.lists(st.integers(min_value=0, max_value=10_000), max_size=20), is_hiding=st.booleans())
def test_any_cut_gives_the_same_bytes_and_the_same_reading(places: list[int], is_hiding: bool) -> None:
    seen = Seen(is_hiding)
    reader = EventReader(seen, None)

    shown = b"".join(reader.feed(piece) for piece in cut(SENT, places)) + reader.finish()

    assert shown == (SHOWN if is_hiding else SENT)
    assert seen.chunks == EVENTS
    # It ends at `[DONE]`, where some readers stop, and again with its bytes; of a span the first end counts.
    assert seen.ends == ["completed", "completed"]


def test_an_unfinished_event_at_the_end_is_not_swallowed() -> None:
    seen = Seen(is_hiding=True)
    reader = EventReader(seen, None)

    assert reader.feed(b"data: {} \n\ndata: half") + reader.finish() == b"data: {} \n\ndata: half"


def test_bytes_that_cannot_be_read_still_pass() -> None:
    seen = Seen(is_hiding=True)
    reader = EventReader(seen, None)
    pieces = [b'data: {"usage": {"broken\n', b"\n", b"data: more\n\n", b"data: [DONE]\n\n"]

    assert b"".join(map(reader.feed, pieces)) + reader.finish() == b"".join(pieces)

"""A host that answers every request with what a test has put there: odd shapes that no documented provider sends."""

from __future__ import annotations

import re
from typing import Any

from tests.fakes.server import Event, FakeServer, Handler


class _Handler(Handler):
    error_event = None

    def _say(self, _: re.Match[str]) -> None:
        said = self.fake.says
        self._log(200)
        if isinstance(said, dict):
            self._send_json(200, said)
            return
        events: list[Event] = [(self.fake.event_name(chunk), chunk) for chunk in said]
        self._send_stream(iter([*events, ("[DONE]", {})] if self.fake.is_done_said else events))


_Handler.routes = ((re.compile(""), _Handler._say),)


class FakeAnswers(FakeServer):
    """`says` is the next answer: an object, or the chunks of a stream that ends as OpenAI's do, unless told not to."""

    handler = _Handler

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.says: dict[str, Any] | list[dict[str, Any]] = {}
        self.is_done_said = True

    def event_name(self, chunk: dict[str, Any]) -> str | None:
        return str(chunk["type"]) if "type" in chunk else None

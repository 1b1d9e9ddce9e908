"""Take what the real pipeline would send, as it stands on the wire."""

from __future__ import annotations

import time
from typing import Any

from farebox import exporting
from farebox.sending import Reply, Verdict
from tests.fakes.receiver import ReceivedSpan, decode


class Recorder:
    """A sender that keeps the spans. `spans()` flushes first, so that it sees all that have ended, in that order."""

    def __init__(self) -> None:
        self._spans: list[ReceivedSpan] = []

    def send(self, payload: bytes, timeout_s: float) -> Reply:
        self._spans += decode(payload)
        return Reply(Verdict.ACCEPTED)

    def close(self) -> None:
        pass

    def spans(self) -> list[ReceivedSpan]:
        assert exporting.flush(5)
        return sorted(self._spans, key=_sequence)

    def one(self) -> ReceivedSpan:
        spans = self.spans()
        assert len(spans) == 1, [span.name for span in spans]
        return spans[0]

    def usage(self) -> dict[str, Any]:
        """The usage members of the only span, by the end of their names: `input_tokens`, `cache_read.input_tokens`."""
        attributes = self.one().attributes
        prefixes = ("gen_ai.usage.", "farebox.usage.")
        return {
            name.removeprefix(prefix): value
            for name, value in attributes.items()
            for prefix in prefixes
            if name.startswith(prefix)
        }

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[ReceivedSpan]:
        deadline = time.monotonic() + timeout_s
        while len(self.spans()) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.spans()


def _sequence(span: ReceivedSpan) -> int:
    """Which span of the process it is; the export thread and a flush may send at the same time."""
    return int(span.attributes.get("farebox.sequence", 0))

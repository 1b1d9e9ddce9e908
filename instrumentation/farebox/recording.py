"""The spans of the private pipeline: ids, times, attributes.

Comes in: the start and the end of a call. Goes out: one `SpanRecord` to the exporter, which makes an SDK span of it on
its own thread. The app's thread pays for a few slots only: a span of the SDK costs 12 us a call, and its import 20 ms.
Every record is kept: billing is never sampled. Ids come from the operating system. The clock is read at the start; from
there on the time is a monotonic clock's, so that a clock that is set meanwhile changes no duration.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanContext, SpanKind, Status, TraceFlags, get_current_span

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from farebox.reading import Attributes


class SpanRecord:
    """One span; it has the part of OpenTelemetry's span interface that `farebox.spans` uses."""

    __slots__ = (
        "_hand_over", "_offset_ns", "attributes", "end_ns", "kind", "name", "parent", "scope", "span_id", "start_time",
        "status", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        hand_over: Callable[[SpanRecord], None],
        scope: str,
        name: str,
        *,
        kind: SpanKind,
        parent: SpanContext | None,
        start_ns: int | None,
    ) -> None:
        now_ns = time.time_ns()
        self._offset_ns = now_ns - time.perf_counter_ns()
        self._hand_over = hand_over
        self.scope = scope
        self.name = name
        self.kind = kind
        self.parent = parent
        self.trace_id = _new_id(16) if parent is None else parent.trace_id
        self.span_id = _new_id(8)
        self.start_time = now_ns if start_ns is None else start_ns
        self.end_ns = 0
        self.attributes: Attributes = {}
        self.status: Status | None = None

    def is_recording(self) -> bool:
        return not self.end_ns

    def get_span_context(self) -> SpanContext:
        return SpanContext(self.trace_id, self.span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def set_attributes(self, attributes: Attributes) -> None:
        self.attributes = attributes

    def set_status(self, status: Status) -> None:
        self.status = status

    def restart(self) -> None:
        """Start now, not when the record was made."""
        self.start_time = time.time_ns()
        self._offset_ns = self.start_time - time.perf_counter_ns()

    def end(self) -> None:
        self.end_ns = self._offset_ns + time.perf_counter_ns()
        self._hand_over(self)


class RecordingTracer:
    """Starts the records of one instrumentation scope."""

    __slots__ = ("_hand_over", "_scope")

    def __init__(self, scope: str, hand_over: Callable[[SpanRecord], None]) -> None:
        self._scope = scope
        self._hand_over = hand_over

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.CLIENT,
        *,
        start_time: int | None = None,
    ) -> SpanRecord:
        """Start a record below the span of `context` (None: the current one), sampled there or not."""
        parent = get_current_span(context).get_span_context()
        known = parent if parent.is_valid else None
        return SpanRecord(self._hand_over, self._scope, name, kind=kind, parent=known, start_ns=start_time)


def _new_id(size: int) -> int:
    """A random id that is not 0.

    Not from `random`, as in the SDK: an app that seeds it would give the spans of each run the same ids, and the
    collector would take the second run for a repetition of the first.
    """
    return int.from_bytes(os.urandom(size)) or 1

"""The events of one trace and how they hang together, by their links through generative-AI spans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from farebox_collector.billable.likeness import detail, span_id_of
from farebox_ledger.usage import UsageEvent

_Rank: TypeAlias = tuple[bool, int, int, bool, bytes]


class Tree:
    """The events of a trace and how they hang together."""

    def __init__(self, events: Sequence[UsageEvent]) -> None:
        self.events = sorted(events, key=span_id_of)
        self.by_id = {event.span_id: event for event in self.events}
        self.calls = [event for event in self.events if event.kind == "call"]
        self.parents = _links(self.events, self.by_id)
        self.children: dict[bytes, list[UsageEvent]] = defaultdict(list)
        for span_id, parent_id in self.parents.items():
            self.children[parent_id].append(self.by_id[span_id])
        self._depths: dict[bytes, int] = {}
        self._tops: dict[bytes, bytes] = {}

    def depth(self, event: UsageEvent) -> int:
        """Count the generative-AI spans above an event."""
        path: list[bytes] = []
        current: bytes | None = event.span_id
        while current is not None and current not in self._depths:
            path.append(current)
            current = self.parents.get(current)
        depth = -1 if current is None else self._depths[current]
        for span_id in reversed(path):
            depth += 1
            self._depths[span_id] = depth
        return self._depths[event.span_id]

    def above(self, event: UsageEvent) -> Iterator[UsageEvent]:
        """Go through the spans above an event, the nearest first."""
        current = self.parents.get(event.span_id)
        while current is not None:
            yield self.by_id[current]
            current = self.parents.get(current)

    def top(self, event: UsageEvent) -> UsageEvent:
        """Find the span at the top of an event's links, which may be the event itself."""
        path: list[bytes] = []
        current = event.span_id
        while current not in self._tops and current in self.parents:
            path.append(current)
            current = self.parents[current]
        top = self._tops.get(current, current)
        self._tops.update(dict.fromkeys(path, top))
        return self.by_id[top]

    def nearest_calls(self, event: UsageEvent) -> Iterator[UsageEvent]:
        """Find the calls below an event that have no other call between, in a fixed order."""
        waiting = list(self.children.get(event.span_id, ()))
        while waiting:
            child = waiting.pop()
            if child.kind == "call":
                yield child
            else:
                waiting += self.children.get(child.span_id, ())

    def calls_below(self, event: UsageEvent) -> Iterator[UsageEvent]:
        """Find all calls below an event, through other calls as well."""
        waiting = list(self.children.get(event.span_id, ()))
        while waiting:
            child = waiting.pop()
            if child.kind == "call":
                yield child
            waiting += self.children.get(child.span_id, ())

    def seen_by(self, outer: UsageEvent) -> Iterator[UsageEvent]:
        """Find the calls that an outer call may be seeing: the nearest, and past those that report no usage."""
        waiting = list(self.nearest_calls(outer))
        while waiting:
            call = waiting.pop()
            yield call
            if call.usage.is_empty():
                waiting += self.nearest_calls(call)

    def rank(self, event: UsageEvent) -> _Rank:
        """Rank the spans of one physical call, the smallest first.

        Whoever reports usage comes before whoever reports none; then the deepest, the most detailed, the client.
        """
        return (
            event.usage.is_empty(),
            -self.depth(event),
            -detail(event),
            not event.is_client,
            event.span_id,
        )


def _links(events: Sequence[UsageEvent], by_id: dict[bytes, UsageEvent]) -> dict[bytes, bytes]:
    """Answer who hangs on whom. A circle of parents, as a broken emitter sends it, is cut at its smallest span id."""
    parents = {
        event.span_id: event.parent_span_id
        for event in events
        if event.parent_span_id in by_id and event.parent_span_id != event.span_id
    }
    sound: set[bytes] = set()
    for event in events:
        path: dict[bytes, int] = {}
        current: bytes | None = event.span_id
        while current is not None and current not in sound and current not in path:
            path[current] = len(path)
            current = parents.get(current)
        if current is not None and current in path:
            del parents[min(span_id for span_id, position in path.items() if position >= path[current])]
        sound.update(path)
    return parents

"""When dated terms hold: what a change at some moment closes, withdraws and opens. Pure.

The terms of one thing never overlap, and a change leaves no gap: what held before the change ends where the new terms
begin. A term that would begin at or after the change is withdrawn, since it never came to hold. Times are microseconds
since 1970 in UTC; a begin of None is since ever, an end of None until further notice; ends are exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from farebox_ledger.errors import InvalidInput

LAST_US: Final = 32_503_680_000_000_000  # 3000-01-01
"""No date lies further ahead."""


class Span(msgspec.Struct, frozen=True):
    """When one term holds."""

    id: str
    from_us: int | None
    to_us: int | None

    def holds_at(self, at_us: int) -> bool:
        """Say whether the term holds at that moment."""
        return (self.from_us is None or self.from_us <= at_us) and (self.to_us is None or at_us < self.to_us)

    def overlaps(self, from_us: int | None, to_us: int | None) -> bool:
        """Say whether the term shares a moment with a range."""
        begins_before = to_us is None or self.from_us is None or self.from_us < to_us
        ends_behind = from_us is None or self.to_us is None or from_us < self.to_us
        return begins_before and ends_behind


class Redating(msgspec.Struct, frozen=True):
    """What happens to the terms: some end at a moment, some are withdrawn, and one new range may open."""

    closed: dict[str, int] = {}
    withdrawn: tuple[str, ...] = ()
    opened: tuple[int | None, int | None] | None = None


def checked_range(from_us: int | None, to_us: int | None) -> tuple[int | None, int | None]:
    """Refuse an empty or reversed range, and dates outside the years 1970 to 2999.

    Raises:
        InvalidInput: names the end that is wrong.
    """
    for field, time_us in (("effective_from", from_us), ("effective_to", to_us)):
        if time_us is not None and not 0 <= time_us < LAST_US:
            raise InvalidInput(field, "expected a time in the years 1970 to 2999")
    if from_us is not None and to_us is not None and to_us <= from_us:
        raise InvalidInput("effective_to", "must lie after effective_from; the range is half-open")
    return from_us, to_us


def ended(spans: Sequence[Span], at_us: int | None) -> Redating:
    """Let nothing hold from that moment on (None: at any time)."""
    withdrawn = tuple(
        span.id for span in spans if at_us is None or (span.from_us is not None and span.from_us >= at_us)
    )
    kept = (span for span in spans if span.id not in withdrawn)
    closed = {span.id: at_us for span in kept if at_us is not None and (span.to_us is None or span.to_us > at_us)}
    return Redating(closed, withdrawn)


def replaced(spans: Sequence[Span], from_us: int | None, to_us: int | None) -> Redating:
    """Let new terms hold from one moment to another, instead of all that would hold from the first one on."""
    return msgspec.structs.replace(ended(spans, from_us), opened=(from_us, to_us))


def ended_anew(spans: Sequence[Span], to_us: int | None, now_us: int) -> Redating:
    """Move the end of what holds: an earlier end closes, a later one opens the last terms anew behind their old end.

    Terms that ended before now begin again now, not in the past.
    """
    last = max((span.to_us for span in spans if span.to_us is not None), default=None)
    if any(span.to_us is None for span in spans):
        return Redating() if to_us is None else ended(spans, to_us)
    assert last is not None, "there is a term, and it ends"
    if to_us is not None and to_us <= last:
        return ended(spans, to_us)
    return Redating(opened=(max(last, now_us), to_us))

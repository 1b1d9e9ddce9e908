"""Finds the spans that make a booking crash, by halving; the others of their batch can then be booked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from farebox_collector.spans import RejectedSpan, Span

Probe: TypeAlias = Callable[[Sequence[Span]], Exception | None]
"""Tries to book spans without leaving a trace; answers what went wrong."""

MAX_PROBES: Final = 200
"""A batch in which so many spans crash is quarantined in the pieces found so far, not searched for an hour."""


def culprits(spans: Sequence[Span], crash_of: Probe) -> list[tuple[Span, RejectedSpan]]:
    """Answer the spans that crash, each with its quarantine entry; all of them when they crash only together.

    Raises:
        Exception: not even an empty booking works: then no span is to blame.
    """
    blameless = crash_of([])
    if blameless is not None:
        raise blameless
    return _search(spans, crash_of, [MAX_PROBES])


def _search(spans: Sequence[Span], crash_of: Probe, probes_left: list[int]) -> list[tuple[Span, RejectedSpan]]:
    if not spans:
        return []
    probes_left[0] -= 1
    error = crash_of(spans)
    if error is None:
        return []
    if len(spans) == 1 or probes_left[0] <= 0:
        return [(span, _entry(span, error)) for span in spans]
    middle = len(spans) // 2
    found = [
        *_search(spans[:middle], crash_of, probes_left),
        *_search(spans[middle:], crash_of, probes_left),
    ]
    return found or [(span, _entry(span, error)) for span in spans]


def _entry(span: Span, error: Exception) -> RejectedSpan:
    """Name the kind of fault alone: its text may quote values."""
    raw = msgspec.msgpack.encode(span)
    detail = f"booking failed with {type(error).__name__}"
    return RejectedSpan("booking_crashed", detail, blake2b(raw, digest_size=16).digest(), len(raw), span)

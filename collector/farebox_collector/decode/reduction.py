"""What both encodings share: which spans and attributes are kept, and which spans cannot be booked.

Knows no encoding, no money and no dialect; the allow-list is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import msgspec

from farebox_collector.decode.numbering import Numbered, taken_numbers
from farebox_collector.errors import Malformed
from farebox_collector.scrubbing import scrubbed
from farebox_collector.spans import STATUS_ERROR, AttributeValue, Extract, RejectedSpan, RejectReason, Span

MAX_TEXT_CHARACTERS: Final = 4096
"""Longer attribute values are cut; `farebox.metadata`, the longest of the allow-list, may have 4 KiB."""
MAX_LIST_ITEMS: Final = 64
MAX_EXTRACTED_BYTES: Final = 4 * 2**20
"""Longer values are not looked into."""
MAX_SCOPE_CHARACTERS: Final = 200

EARLIEST_US: Final = 1_577_836_800_000_000
"""2020-01-01: no generative-AI call that anybody bills is older, so the sender's clock is not set."""
MAX_AHEAD_US: Final = 24 * 3600 * 1_000_000

_NO_TRACE_ID: Final = bytes(16)
_NO_SPAN_ID: Final = bytes(8)


class Selection(msgspec.Struct, frozen=True):
    """What is kept: a span that contains one of `marks`, of it the attributes named in `keys`.

    Every accepted dialect writes one of the marks into each of its spans: a hit may be false, a miss never is.
    """

    marks: tuple[bytes, ...]
    keys: frozenset[str]
    keeps_error_messages: bool = True
    extracts: Mapping[str, Extract] = {}  # by the instrumentation scope of the spans


class Decoded(msgspec.Struct):
    """The outcome of one request: spans to book, spans of others (counted), and spans that cannot be booked.

    `numbered` says which of the numbered spans have come, the rejected ones among them.
    """

    spans: list[Span]
    rejected: list[RejectedSpan]
    others: int = 0
    numbered: list[Numbered] = msgspec.field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.spans) + len(self.rejected) + self.others

    @property
    def is_unreadable(self) -> bool:
        """Say whether there were spans and none could be parsed: then the request itself is garbage."""
        return bool(self.rejected) and len(self.rejected) == self.total and all(map(_is_malformed, self.rejected))


def _is_malformed(rejected: RejectedSpan) -> bool:
    return rejected.reason == "malformed_span"


class Reduction:
    """One request on its way from bytes to plain spans: what is kept, the receiver's clock, and the outcome so far."""

    __slots__ = ("decoded", "latest_us", "now_us", "selection")

    def __init__(self, selection: Selection, now_us: int) -> None:
        """Start with nothing read; `now_us` is the receiver's clock, by which impossible times are told."""
        self.selection = selection
        self.now_us = now_us
        self.latest_us = now_us + MAX_AHEAD_US
        self.decoded = Decoded([], [])

    def sort_in(self, span: Span, raw: bytes) -> None:
        """Put a parsed span where it belongs: to those that can be booked, or to the rejected ones with the reason."""
        if (
            len(span.trace_id) == 16
            and len(span.span_id) == 8
            and EARLIEST_US <= span.end_us <= self.latest_us
            and span.trace_id != _NO_TRACE_ID
            and span.span_id != _NO_SPAN_ID
        ):
            self.decoded.spans.append(span)
            return
        reason, detail = _fault(span, self.now_us)
        self.decoded.rejected.append(rejected_span(reason, detail, raw, span))

    def reject(self, reason: RejectReason, detail: str, raw: bytes) -> None:
        """Set a span aside that could not be read, or not be told apart from others."""
        self.decoded.rejected.append(rejected_span(reason, detail, raw))

    def count_other(self, trace_id: bytes, span_id: bytes, raw: bytes) -> None:
        """Count a span without generative-AI data, or reject it for ids that no span can have."""
        fault = identity_fault(trace_id, span_id)
        if fault is None:
            self.decoded.others += 1
        else:
            self.reject(*fault, raw)

    def position(self) -> tuple[int, int]:
        """Say how far the sorting is, for `take_numbers`."""
        return len(self.decoded.spans), len(self.decoded.rejected)

    def take_numbers(self, instance: object, since: tuple[int, int]) -> None:
        """Take the numbers off the spans of a process that were sorted in since a position."""
        spans, rejected = since
        numbers = taken_numbers(self.decoded.spans[spans:])
        numbers += taken_numbers(item.span for item in self.decoded.rejected[rejected:])
        if numbers and isinstance(instance, str):
            self.decoded.numbered.append(Numbered(instance, numbers))

    def finish(self) -> Decoded:
        """Answer what was read.

        Raises:
            Malformed: there were spans, and none of them could be parsed.
        """
        decoded = self.decoded
        if decoded.is_unreadable:
            raise Malformed(f"none of the {decoded.total} spans can be parsed: {decoded.rejected[0].detail}")
        return decoded


def _fault(span: Span, now_us: int) -> tuple[RejectReason, str]:
    identity = identity_fault(span.trace_id, span.span_id)
    if identity is not None:
        return identity
    if span.end_us == 0:
        return "clock_skew", "the span has neither a start nor an end time"
    if span.end_us < EARLIEST_US:
        return "clock_skew", "the span ended before 2020"
    return "clock_skew", f"the span ends {(span.end_us - now_us) // 1_000_000} seconds in the future"


def identity_fault(trace_id: bytes, span_id: bytes) -> tuple[RejectReason, str] | None:
    """Say what is wrong with a span's ids, None when they are valid."""
    if len(trace_id) != 16 or trace_id == _NO_TRACE_ID:
        return "bad_trace_id", f"a trace id has 16 bytes, not all zero; this one has {len(trace_id)}"
    if len(span_id) != 8 or span_id == _NO_SPAN_ID:
        return "bad_span_id", f"a span id has 8 bytes, not all zero; this one has {len(span_id)}"
    return None


def rejected_span(reason: RejectReason, detail: str, raw: bytes, span: Span | None = None) -> RejectedSpan:
    """Describe a span for the quarantine: its reduced form, a hash and the size, never its bytes."""
    return RejectedSpan(reason, detail, blake2b(raw, digest_size=16).digest(), len(raw), span)


def parent_of(span_id: bytes) -> bytes | None:
    """Read a parent id; zeros and odd lengths mean a root span, as exporters write them."""
    return span_id if len(span_id) == 8 and span_id != _NO_SPAN_ID else None


def reduced_times(start_ns: int, end_ns: int) -> tuple[int | None, int]:
    """Turn OTLP times into (start, end) in microseconds.

    A missing end is the start. A start that lies behind the end or before 2020 is not known.
    """
    end_us = (end_ns or start_ns) // 1000
    start_us = start_ns // 1000
    return (start_us if EARLIEST_US <= start_us <= end_us else None), end_us


def error_text(message: str, code: int, selection: Selection) -> str | None:
    """Keep the scrubbed message of a failed span; other spans have none, whatever they carry."""
    if code != STATUS_ERROR or not message or not selection.keeps_error_messages:
        return None
    return scrubbed(message)


def keep_extract(extract: Extract, value: bytes, attributes: dict[str, AttributeValue]) -> None:
    """Keep what an extract takes out of a value, and nothing else of it."""
    if value and len(value) <= MAX_EXTRACTED_BYTES and (taken := extract.take(value)) is not None:
        attributes[extract.kept_as] = clean_text(taken)


def clean_text(text: str) -> str:
    """Cut a text and take NUL out, which PostgreSQL refuses."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if len(text) <= MAX_TEXT_CHARACTERS else text[:MAX_TEXT_CHARACTERS]


def bounded_number(number: int) -> int | float:
    """Keep a number within 64 bits, the most that the spool holds; beyond, its size is all that counts."""
    return number if -(2**63) <= number < 2**63 else float(number) if abs(number) < 10**300 else float("inf")


def joined(inherited: dict[str, AttributeValue], own: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Lay a span's attributes over those of its resource."""
    return {**inherited, **own} if inherited else own

"""The plain span: what is left of an OTLP span after the allow-list, in memory and in the spool.

Comes from `decode`, goes through `spool` to `dialects`. It never holds a prompt, a completion or a span's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

AttributeValue: TypeAlias = str | int | float | bool | list[str]
RejectReason: TypeAlias = Literal[
    "bad_trace_id",
    "bad_span_id",
    "clock_skew",
    "malformed_span",
    "booking_crashed",
    "unreadable_batch",
    "refused_by_gateway",
]

RECEIVED_AT: Final = "farebox.forward.received_at_us"
"""On spans that come through `farebox forward`: when it received them, in microseconds since 1970."""
KIND_CLIENT: Final = 3
STATUS_ERROR: Final = 2


class Extract(msgspec.Struct, frozen=True):
    """Something short that is taken out of a value which itself is never kept."""

    key: str  # of the attribute that is read
    kept_as: str  # the attribute under which the answer is kept
    take: Callable[[bytes], str | None]  # from the value's text in UTF-8; None: nothing is kept


class Span(msgspec.Struct, array_like=True, gc=False):
    """One span with its allow-listed attributes, those of its resource among them.

    Times are microseconds since 1970 in UTC; `end_us` falls back to the start when the emitter sent no end.
    `status_message` is scrubbed, and present only on failed spans. Written to the spool as an array: a new field goes
    to the end and has a default.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    scope: str
    kind: int
    start_us: int | None
    end_us: int
    is_error: bool
    status_message: str | None
    attributes: dict[str, AttributeValue]


class Sender(msgspec.Struct, frozen=True):
    """Who sent a request: the organization of the key, and the key's public id (None without a key)."""

    org_id: int
    org: str
    key_id: str | None = None


class RejectedSpan(msgspec.Struct):
    """A span that cannot be booked as it is. `span` is None when not even its attributes could be read."""

    reason: RejectReason
    detail: str
    digest: bytes
    size_bytes: int
    span: Span | None = None


class Batch(msgspec.Struct):
    """The spans of one request as they lie in the spool; the id grows and is never used again."""

    id: int
    sender: Sender
    received_at_us: int
    spans: list[Span]
    size_bytes: int  # of the spans as they are written
    unreadable: int = 0  # spans that the file holds and that cannot be read any more

    @property
    def span_count(self) -> int:
        return len(self.spans) + self.unreadable


def received_at_us(span: Span, batch: Batch) -> int:
    """When a span was first received: by this process, or before by the forwarder that sent it here.

    A sender could claim it as well, of its own spans alone; nobody's claim lies after the batch was received.
    """
    claimed = span.attributes.get(RECEIVED_AT)
    return claimed if type(claimed) is int and 0 < claimed < batch.received_at_us else batch.received_at_us

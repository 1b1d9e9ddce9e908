"""Quarantined spans, as answers and as bodies."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from farebox_api.bodies import Input
from farebox_api.schemas.administration import Moment, moment_us
from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import Count, Timestamp, optional_timestamp, timestamp, usage_id_text
from farebox_ledger.store.quarantine import QuarantinedSpan, QuarantineReason, QuarantineState

_LAST_US = 32_503_680_000_000_000
"""The year 3000: what a span says beyond is no time that can be written."""


class QuarantinedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A span that could not be booked as it came: why, and what is kept of it. Its bytes are kept nowhere.

    `digest` is the hash of the bytes and `size_bytes` their number. `trace_id`, `span_id`, `ended_at` and `attributes`
    are as the sender said, null where nothing could be read. `is_replayable` says whether there is anything to book.
    `outcome` tells how the last replay ended, and `usage_id` the row that the span has.
    """

    id: str
    organization: str
    key: str | None
    received_at: Timestamp
    reason: QuarantineReason
    detail: str
    digest: str
    size_bytes: Count
    trace_id: str | None
    span_id: str | None
    ended_at: Timestamp | None
    attributes: dict[str, Any] | None
    is_replayable: bool
    state: QuarantineState
    stated_end: Timestamp | None
    outcome: str | None
    usage_id: str | None
    changed_at: Timestamp


class QuarantinePageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[QuarantinedAnswer]


class ReplayInput(Input, frozen=True):
    """How a span is to be booked.

    `occurred_at` is when the call ended, for a span whose own time is not to be believed; the start moves with it.
    Without it the span's own time counts.
    """

    occurred_at: Annotated[Moment, Meta(description="When the call ended, RFC 3339 with offset.")] | None = None

    def stated_end_us(self) -> int | None:
        """Read the time.

        Raises:
            InvalidRequest: it is no time with offset.
        """
        return moment_us("occurred_at", self.occurred_at)


def quarantined_answer(one: QuarantinedSpan, organization: str) -> QuarantinedAnswer:
    """Write a quarantined span; `organization` is the slug of its owner."""
    return QuarantinedAnswer(
        id=one.quarantine_id.hex(),
        organization=organization,
        key=one.key_id,
        received_at=timestamp(one.received_at_us),
        reason=msgspec.convert(one.reason, QuarantineReason),
        detail=one.detail,
        digest=one.digest.hex(),
        size_bytes=one.size_bytes,
        trace_id=_hex(one.trace_id),
        span_id=_hex(one.span_id),
        ended_at=None if (one.ended_at_us or 0) >= _LAST_US else optional_timestamp(one.ended_at_us),
        attributes=None if one.attributes is None else msgspec.json.decode(one.attributes, type=dict[str, Any]),
        is_replayable=one.span is not None,
        state=one.state,
        stated_end=optional_timestamp(one.stated_end_us),
        outcome=one.outcome,
        usage_id=None if one.usage_id is None else usage_id_text(one.usage_day or 0, one.usage_id),
        changed_at=timestamp(one.changed_at_us),
    )


def _hex(identity: bytes | None) -> str | None:
    return None if identity is None else identity.hex()

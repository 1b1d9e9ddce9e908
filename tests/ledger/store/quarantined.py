"""Spans in the quarantine of the books, for whoever lists, replays and deletes them."""

from __future__ import annotations

import msgspec

from farebox_ledger.store.quarantine import QuarantinedSpan
from farebox_ledger.usage import org_id_of

MIDNIGHT_US = 1_790_812_800_000_000  # 2026-10-01T00:00:00Z


def span(number: int, organization: str = "acme", **facts: object) -> QuarantinedSpan:
    plain = QuarantinedSpan(
        quarantine_id=number.to_bytes(16, "big"),
        org_id=org_id_of(organization),
        received_at_us=MIDNIGHT_US + number * 1_000_000,
        reason="clock_skew",
        detail="the span ends 90000 seconds in the future",
        digest=bytes(16),
        size_bytes=310,
        key_id="key_1",
        trace_id=bytes(15) + b"\x07",
        span_id=bytes(7) + b"\x07",
        ended_at_us=MIDNIGHT_US + 90_000_000_000,
        attributes='{"gen_ai.request.model": "gpt-4o"}',
        span=b"opaque",
    )
    return msgspec.structs.replace(plain, **facts)

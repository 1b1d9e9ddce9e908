"""Spans as they come out of `decode`, for tests of what the dialects read of them."""

from __future__ import annotations

from typing import Any

from farebox_collector import dialects
from farebox_collector.spans import AttributeValue, Span
from farebox_ledger.usage import UsageEvent

END_US = 1_763_690_000_000_000
START_US = END_US - 2_000_000


def span(
    attributes: dict[str, AttributeValue], *, scope: str, number: int = 1, parent: int | None = None, **fields: Any
) -> Span:
    """A span of two seconds with those of its attributes that the collector keeps."""
    defaults: dict[str, Any] = {
        "kind": 3, "start_us": START_US, "end_us": END_US, "is_error": False, "status_message": None,
    }  # fmt: skip
    return Span(
        trace_id=b"t" * 16,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=None if parent is None else parent.to_bytes(8, "big"),
        scope=scope,
        attributes={key: value for key, value in attributes.items() if key in dialects.KEYS},
        **{**defaults, **fields},
    )


def read(attributes: dict[str, AttributeValue], *, scope: str, **fields: Any) -> UsageEvent:
    event = dialects.read(span(attributes, scope=scope, **fields))
    assert event is not None
    return event

"""What a sender sent, as it sent it: for those who want the original beside what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from farebox_collector.telemetry import Signal


class Original(msgspec.Struct, frozen=True):
    """The body of an acknowledged request and how to read it; nothing of its other headers, least of all its key."""

    signal: Signal
    body: bytes
    content_type: str
    content_encoding: str | None = None


KeepOriginal: TypeAlias = Callable[[Original], None]
"""Takes an original without waiting for anything, and never fails."""

"""The framing of AWS event streams, `application/vnd.amazon.eventstream`."""

from __future__ import annotations

import binascii
import struct


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message: prelude, headers, payload, and a checksum of the prelude and of the whole."""
    named = b"".join(
        struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for key, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(named) + len(payload), len(named))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + named + payload
    return message + struct.pack("!I", binascii.crc32(message))

"""Signs messages by the convention of Standard Webhooks 1.0 (standardwebhooks.com).

The signed text is `id.timestamp.body`; the key is what stands in base64 behind `whsec_`. Pure: no clock, no network.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from hashlib import sha256


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Answer the signature, `v1,` and HMAC-SHA256 in base64."""
    key = b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return f"v1,{b64encode(hmac.digest(key, signed, sha256)).decode()}"


def signed_headers(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Answer the headers by which a receiver knows the message, its age and its sender."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature(secret, message_id, timestamp_s, body),
    }

"""The gateway as the forwarder sees it: takes spans under a key, and says of a key whether it takes it at all.

Its answers become one of three refusals: try again, this key not, these spans not. Anything that a wrong address or a
fault in between could answer counts as "try again", because nothing that was acknowledged may be lost by it.
"""

from __future__ import annotations

import gzip
import logging
from typing import Final

from google.protobuf.message import DecodeError

from farebox_collector.answers_pb2 import ExportResponse
from farebox_collector.config import Endpoint
from farebox_collector.errors import GatewayAway, KeyRefused, SpansRefused
from farebox_collector.sending import FAULTS, Answer, Sender, cause_of

logger = logging.getLogger(__name__)

TRACES: Final = "/v1/traces"
_UNREADABLE: Final = frozenset((400, 413, 422))


class Gateway:
    """Sends to the gateway. Used by one thread at a time."""

    def __init__(self, endpoint: Endpoint, default_key: str | None, timeout_s: float) -> None:
        """Connect nothing yet. `default_key` is sent for senders that have none."""
        self.endpoint = endpoint
        self._default_key = default_key
        self._sender = Sender(endpoint, timeout_s)

    def export(self, key: str | None, body: bytes) -> int:
        """Send a trace request under a sender's key; answers how many of its spans the gateway rejected.

        Raises:
            GatewayAway: there is no answer, or none that a gateway gives; try again.
            KeyRefused: 401 or 403.
            SpansRefused: 400, 413 or 422.
        """
        answer = self._posted(key, body)
        if answer.status == 200:
            return _rejected(answer.body)
        if answer.status in (401, 403):
            raise KeyRefused(answer.status)
        if answer.status in _UNREADABLE:
            raise SpansRefused(f"the gateway refuses the spans ({answer.status})")
        hint = "" if answer.status >= 429 else "; is FAREBOX_GATEWAY_ENDPOINT right?"
        raise GatewayAway(f"the gateway {self.endpoint} answers {answer.status}{hint}", answer.retry_after_s)

    def close(self) -> None:
        self._sender.close()

    def _posted(self, key: str | None, body: bytes) -> Answer:
        headers: dict[str, str | bytes] = {"content-type": "application/x-protobuf"}
        if body:
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["content-encoding"] = "gzip"
        secret = key or self._default_key
        if secret is not None:
            headers["authorization"] = b"Bearer " + secret.encode("latin-1", "replace")
        try:
            return self._sender.post(TRACES, body, headers)
        except FAULTS as error:
            raise GatewayAway(f"the gateway {self.endpoint} does not answer: {cause_of(error)}") from None
        except ValueError:  # a key that no header can carry
            raise KeyRefused(401) from None


def _rejected(body: bytes) -> int:
    """Read the number of rejected spans; what is no such answer rejects none."""
    try:
        return ExportResponse.FromString(body).partial_success.rejected
    except DecodeError:
        return 0

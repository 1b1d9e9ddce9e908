"""Posts OTLP over HTTP to one endpoint, on a connection that stays open. Knows nothing of what it sends.

The forwarder and the tee send with it. It follows no redirect and never reads a long answer; it is used by one thread.
"""

from __future__ import annotations

import http.client
import random
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from farebox_collector.config import Endpoint

MAX_ANSWER_BYTES: Final = 64 * 1024
LONGEST_HINT_S: Final = 300.0
"""A Retry-After beyond this is not waited for: the other side may be well again long before."""

RETRYABLE: Final = frozenset((408, 425, 429, 502, 503, 504))
FAULTS: Final = (OSError, http.client.HTTPException)
"""What a request can end with besides an answer."""


class Answer(NamedTuple):
    """What came back; `retry_after_s` is None without a hint."""

    status: int
    body: bytes
    retry_after_s: float | None


class Sender:
    """Sends to one endpoint."""

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Connect nothing yet; the timeout holds for connecting and for each wait for bytes."""
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if endpoint.is_tls else None
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, headers: Mapping[str, str | bytes]) -> Answer:
        """Send one request and read its answer, whatever it is.

        A connection that stood idle may have been closed by the other side: then a new one is tried at once.

        Raises:
            OSError, http.client.HTTPException: there is no answer.
        """
        was_open = self._connection is not None
        try:
            return self._post(path, body, headers)
        except (ConnectionError, http.client.RemoteDisconnected):
            self.close()
            if not was_open:
                raise
        except BaseException:
            self.close()
            raise
        try:
            return self._post(path, body, headers)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, path: str, body: bytes, headers: Mapping[str, str | bytes]) -> Answer:
        if self._connection is None:
            self._connection = self._connected()
        connection = self._connection
        connection.putrequest("POST", self._endpoint.path + path)
        for name, value in {"user-agent": "farebox", **headers, "content-length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        said = response.read(MAX_ANSWER_BYTES)
        if not response.isclosed():
            self.close()  # the rest of a long answer is not worth reading
        return Answer(response.status, said, retry_after_s(response.headers.get("retry-after")))

    def _connected(self) -> http.client.HTTPConnection:
        endpoint = self._endpoint
        if self._tls is None:
            return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=self._timeout_s, context=self._tls)


class Backoff:
    """How long to wait before the next try: longer each time, never the same for two who wait for one server."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        """Start with the first pause."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._pause_s = first_s

    def reset(self) -> None:
        self._pause_s = self._first_s

    def next_s(self, hint_s: float | None = None) -> float:
        """Answer the next pause, at least what the other side asked for."""
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, self._longest_s)
        return max(pause_s, min(hint_s or 0.0, LONGEST_HINT_S))


def retry_after_s(header: str | None) -> float | None:
    """Read a Retry-After, which is a number of seconds or a date; None when it is neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def cause_of(error: BaseException) -> str:
    """Say why there is no answer, in a few words without anything of the request."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return type(error).__name__

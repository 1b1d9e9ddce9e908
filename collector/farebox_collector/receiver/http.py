"""OTLP over HTTP: a bare ASGI application, which `http_server` carries.

POST /v1/traces, /v1/logs and /v1/metrics in protobuf and JSON; GET /healthz, /readyz and /metrics without a key.
A trailing slash is served, never redirected: the Python exporter takes a redirect for success and loses the batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec

from farebox_collector.config import CollectorConfig
from farebox_collector.errors import LengthRequired, Malformed, Refused, TooSlow, Unavailable, UnsupportedMedia
from farebox_collector.intake import Encoding, Intake
from farebox_collector.logs import where
from farebox_collector.originals import KeepOriginal, Original
from farebox_collector.receiver.answers import RETRY_AFTER, receipt_body, status_body
from farebox_collector.receiver.auth import Senders, presented_key
from farebox_collector.receiver.health import Health
from farebox_collector.receiver.limits import Allowance, Budget, compression_of, decompressed, too_large
from farebox_collector.spans import Sender
from farebox_collector.telemetry import Signal, Telemetry

logger = logging.getLogger(__name__)

Headers: TypeAlias = dict[bytes, bytes]
ExtraHeaders: TypeAlias = tuple[tuple[bytes, bytes], ...]
Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]

_SIGNALS: Final[dict[str, Signal]] = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
_CONTENT_TYPES: Final[dict[Encoding, bytes]] = {"protobuf": b"application/x-protobuf", "json": b"application/json"}
_ENCODINGS: Final[dict[bytes, Encoding]] = {content_type: name for name, content_type in _CONTENT_TYPES.items()}


class _NotFound(Refused):
    """There is nothing at this path."""

    http_status = 404
    grpc_code = 12


class _NotAllowed(Refused):
    """The path takes another method."""

    http_status = 405
    grpc_code = 12


class HttpReceiver:
    """The ASGI application."""

    def __init__(
        self,
        intake: Intake,
        senders: Senders,
        budget: Budget,
        *,
        health: Health,
        telemetry: Telemetry,
        config: CollectorConfig,
        keep_original: KeepOriginal | None = None,
    ) -> None:
        """Everything that is needed is made by `app`."""
        self._keep_original = keep_original
        self._intake = intake
        self._senders = senders
        self._budget = budget
        self._health = health
        self._telemetry = telemetry
        self._max_body_bytes = config.max_body_bytes
        self._body_timeout_s = config.body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"].rstrip("/") or "/"
        signal = _SIGNALS.get(path)
        if signal is None:
            await self._answer_other(path, scope["method"], send)
            return
        started = time.perf_counter()
        headers: Headers = dict(scope["headers"])
        encoding = _encoding_of(headers)
        extra: ExtraHeaders = ()
        try:
            body = await self._export(signal, scope["method"], headers, receive)
            status = 200
        except Refused as refused:
            status, body, extra = _refusal(refused, encoding)
        except asyncio.CancelledError:
            # The grace at the end is over: uvicorn would answer 500, which nobody tries again.
            status, body, extra = _refusal(Unavailable("the collector is stopping; send the request again"), encoding)
        except Exception as error:  # noqa: BLE001 - this is the thread of control of a request
            # Before the commit nothing is lost when the sender tries again, and it only does so for a 503.
            logger.error("a request failed unexpectedly, its sender is asked to try again: %s", where(error))
            status, body, extra = _refusal(Unavailable("the collector failed; send the request again"), encoding)
        self._telemetry.count_request("http", signal, str(status))
        await _send_answer(send, status, _CONTENT_TYPES[encoding or "json"], body, extra)
        self._telemetry.ack_seconds["http"].observe(time.perf_counter() - started)

    async def _export(self, signal: Signal, method: str, headers: Headers, receive: Receive) -> bytes:
        if method != "POST":
            raise _NotAllowed("this path takes POST")
        key = presented_key(headers.get(b"authorization"), headers.get(b"x-api-key"))
        sender = self._senders.known_sender(key) or await self._senders.sender(key)
        encoding = _encoding_of(headers)
        if encoding is None:
            raise UnsupportedMedia("the Content-Type has to be application/x-protobuf or application/json")
        compression = compression_of(headers.get(b"content-encoding"))
        with self._budget.open() as allowance:
            original = body = await self._read_body(headers, receive, allowance)
            if compression is not None:
                body = await decompressed(body, compression, self._max_body_bytes, allowance)
            answer = await self._taken(signal, body, encoding, sender)
        if self._keep_original is not None and body:
            self._keep_original(Original(signal, original, _CONTENT_TYPES[encoding].decode(), compression))
        return answer

    async def _taken(self, signal: Signal, body: bytes, encoding: Encoding, sender: Sender) -> bytes:
        if signal == "traces":
            return receipt_body(await self._intake.take_spans(body, encoding, sender, "http"), encoding)
        if signal == "logs":
            return receipt_body(await self._intake.take_logs(body, encoding, sender, "http"), encoding, signal)
        self._intake.drop_records(body, encoding, signal, "http")
        return b"{}" if encoding == "json" else b""

    async def _read_body(self, headers: Headers, receive: Receive, allowance: Allowance) -> bytes:
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            raise LengthRequired("say how long the body is: send Content-Length, or send it chunked")
        if int(headers.get(b"content-length", b"0")) > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await self._collect(receive, allowance)
        except TimeoutError:
            raise TooSlow(f"the body did not arrive within {self._body_timeout_s:.0f} s") from None

    async def _collect(self, receive: Receive, allowance: Allowance) -> bytes:
        pieces: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Malformed("the sender hung up before the end of the body")
            piece = message["body"]
            allowance.take(len(piece))
            if allowance.taken_bytes > self._max_body_bytes:
                raise too_large(self._max_body_bytes)
            pieces.append(piece)
            if not message["more_body"]:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _answer_other(self, path: str, method: str, send: Send) -> None:
        if path not in ("/healthz", "/readyz", "/metrics"):
            refused: Refused = _NotFound(f"there is nothing here; spans go to /v1/traces{_hint(path)}")
        elif method not in ("GET", "HEAD"):
            refused = _NotAllowed("this path takes GET")
        else:
            status, content_type, body = self._page(path)
            await _send_answer(send, status, content_type, body)  # of a HEAD the server sends the head alone
            return
        body = status_body(refused, "json")
        await _send_answer(send, refused.http_status, b"application/json", body, _extra_headers(refused))

    def _page(self, path: str) -> tuple[int, bytes, bytes]:
        if path == "/metrics":
            return 200, b"text/plain; version=0.0.4; charset=utf-8", self._telemetry.exposition()
        if path == "/healthz":
            return 200, b"application/json", b'{"status":"ok"}'
        report = self._health.report()
        return 200 if report.is_ready else 503, b"application/json", msgspec.json.encode(report)


def _hint(path: str) -> str:
    return " (this is the OTLP/HTTP port; a wrong OTEL_EXPORTER_OTLP_ENDPOINT?)" if path == "/" else ""


def _encoding_of(headers: Headers) -> Encoding | None:
    return _ENCODINGS.get(headers.get(b"content-type", b"").partition(b";")[0].strip().lower())


def _refusal(refused: Refused, encoding: Encoding | None) -> tuple[int, bytes, ExtraHeaders]:
    return refused.http_status, status_body(refused, encoding or "json"), _extra_headers(refused)


def _extra_headers(refused: Refused) -> ExtraHeaders:
    if refused.is_retryable:
        return ((b"retry-after", RETRY_AFTER),)
    if refused.http_status == 401:
        return ((b"www-authenticate", b"Bearer"),)
    if isinstance(refused, _NotAllowed):
        return ((b"allow", b"POST" if "POST" in str(refused) else b"GET, HEAD"),)
    return ()


async def _send_answer(send: Send, status: int, content_type: bytes, body: bytes, extra: ExtraHeaders = ()) -> None:
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

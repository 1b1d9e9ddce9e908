"""OTLP over HTTP: a bare ASGI application, and the uvicorn server that carries it on the collector's event loop.

POST /v1/traces, /v1/logs and /v1/metrics in protobuf and JSON; GET /healthz, /readyz and /metrics without a key.
A trailing slash is served, never redirected: the Python exporter takes a redirect for success and loses the batch.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from farebox_collector.config import Address, CollectorConfig, Tls
from farebox_collector.errors import InvalidSetting, Malformed, Refused, TooSlow, Unavailable, UnsupportedMedia
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

MAX_HEADER_BYTES: Final = 64 * 1024
KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 1024

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
            await _send_answer(send, status, content_type, b"" if method == "HEAD" else body)
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


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with the bounds that it lacks: for headers, and for what follows a refusal."""

    header_timeout_s: float = 10.0
    max_discarded_bytes: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_bytes = 0
        self._discarded_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._header_timer is not None:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        self._expect_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_header_timer()
        self._header_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            # A sender that was refused may finish its upload, so that it comes to read why; but not for ever.
            self._discarded_bytes += len(body)
            if self._discarded_bytes > self.max_discarded_bytes:
                self.transport.close()
        super().on_body(body)

    def _expect_headers(self) -> None:
        self._stop_header_timer()
        self._header_timer = self.loop.call_later(self.header_timeout_s, self.transport.close)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process belongs to the command that runs the collector."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Listens from `start` to `stop`."""

    def __init__(self, receiver: HttpReceiver, config: CollectorConfig) -> None:
        """Bind the socket, so that a taken port is known at once.

        Raises:
            InvalidSetting: the address cannot be bound.
        """
        self._socket = _bound(config.http_listen)
        self.port: int = self._socket.getsockname()[1]
        bounds = {"header_timeout_s": config.header_timeout_s, "max_discarded_bytes": 2 * config.max_body_bytes}
        protocol = type("Protocol", (_Protocol,), bounds)
        self._server = _Server(
            uvicorn.Config(
                receiver,
                http=protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                backlog=BACKLOG,
                **_tls_options(config.tls),
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept connections; returns when the port answers."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0)

    async def stop(self, grace_s: float) -> None:
        """Finish the requests in flight, then close; requests that take longer are asked to be sent again."""
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_s)
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


def _bound(listen: Address) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidSetting("FAREBOX_HTTP_LISTEN", f"{listen} cannot be used: {error}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise InvalidSetting("FAREBOX_HTTP_LISTEN", f"{listen} cannot be bound: {error.strerror}") from None
    bound.setblocking(False)
    return bound


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    options: dict[str, Any] = {"ssl_certfile": str(tls.cert), "ssl_keyfile": str(tls.key)}
    if tls.client_ca is not None:
        options |= {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": 2}  # ssl.CERT_REQUIRED
    return options

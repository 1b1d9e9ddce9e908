"""The uvicorn server that carries the HTTP application on the collector's event loop, and its bounds.

It knows HTTP and nothing of OTLP but how an error looks. What it refuses itself never reaches the application.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from farebox_collector.config import CollectorConfig, Tls
from farebox_collector.errors import Malformed, Refused, Unavailable
from farebox_collector.receiver.answers import RETRY_AFTER, status_body
from farebox_collector.receiver.binding import BACKLOG, listening_socket
from farebox_collector.receiver.handshakes import Handshakes
from farebox_collector.receiver.http import HttpReceiver

MAX_HEADER_BYTES: Final = 64 * 1024
KEEP_ALIVE_S: Final = 75
ACCEPTED_AT_ONCE: Final = 64
"""asyncio takes this many connections before any of them can be refused, each of them an open file."""

_TOO_MANY: Final = Unavailable("too many connections; send the request again")
_HEADERS_TOO_LARGE: Final = Malformed(f"the headers are larger than {MAX_HEADER_BYTES} bytes")


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with the bounds that it lacks: for connections, headers, and what follows a refusal."""

    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    max_discarded_bytes: int = 0
    max_connections: int = 1000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_bytes = 0
        self._discarded_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head: bytes | None = None
        if len(self.connections) > self.max_connections:
            self._refuse(b"503 Service Unavailable", _TOO_MANY, b"retry-after: %b\r\n" % RETRY_AFTER)
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        _stop(self._idle_timer)
        self._idle_timer = None
        _stop(self._write_timer)
        self._write_timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", Malformed("this is no HTTP request"))
        else:
            if self._header_timer is not None:
                self._header_bytes += len(data)
                if self._header_bytes > MAX_HEADER_BYTES:
                    self._refuse(b"431 Request Header Fields Too Large", _HEADERS_TOO_LARGE)
            elif self._idle_timer is None and self.cycle.response_complete:
                # The rest of an upload that was refused, or empty lines: uvicorn has stopped its own timer for them.
                self._idle_timer = self.loop.call_later(self.body_timeout_s, self.transport.close)

    def pause_writing(self) -> None:
        """Somebody sends requests and does not read the answers: that may hold a connection for a while only."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.body_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The answers are read."""
        _stop(self._write_timer)
        self._write_timer = None
        super().resume_writing()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read a request again without its wish for another protocol, which a server may ignore (RFC 9110, 7.8).

        The parser leaves out the body of such a request, and Java's HttpClient wishes for HTTP/2 with each first one.
        """
        head, self._head = self._head, None
        if head is None:  # CONNECT
            self._refuse(b"400 Bad Request", Malformed("this is no HTTP request for a server"))
            return
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(head + rest)

    def on_message_begin(self) -> None:
        _stop(self._idle_timer)
        self._idle_timer = None
        self._expect_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() != b"CONNECT":
                self._head = _head(self.parser, self.url, self.headers)
            return
        self._stop_header_timer()
        self._header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            # A sender that was refused may finish its upload, so that it comes to read why; but not for ever.
            self._discarded_bytes += len(body)
            if self._discarded_bytes > self.max_discarded_bytes:
                self.transport.close()
        super().on_body(body)

    def _refuse(self, status: bytes, refused: Refused, header: bytes = b"") -> None:
        """Answer what cannot reach the application, and hang up."""
        body = status_body(refused, "json")
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b"
            % (status, len(body), header, body)
        )
        self.transport.close()

    def _expect_headers(self) -> None:
        self._stop_header_timer()
        self._header_timer = self.loop.call_later(self.header_timeout_s, self.transport.close)

    def _stop_header_timer(self) -> None:
        _stop(self._header_timer)
        self._header_timer = None


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _head(parser: httptools.HttpRequestParser, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write the head of a request again, without what asks for another protocol."""
    lines = [b"%b %b HTTP/%b" % (parser.get_method(), url, parser.get_http_version().encode())]
    lines += [b"%b: %b" % header for header in headers if header[0] not in (b"upgrade", b"connection")]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process belongs to the command that runs the collector."""

    handshakes: Handshakes | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets, behind TLS where there is a certificate."""
        loop = asyncio.get_running_loop()
        self.handshakes = self._handshakes()
        accept = self._protocol if self.handshakes is None else self.handshakes.accepted
        backlog = self.config.backlog
        self.servers = [
            await loop.create_server(accept, sock=listening, backlog=backlog) for listening in sockets or ()
        ]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners, hang up on unfinished handshakes, and let uvicorn finish the requests."""
        for server in self.servers:
            server.close()
        if self.handshakes is not None:
            self.handshakes.abort()
        await super().shutdown(sockets)

    def _handshakes(self) -> Handshakes | None:
        if self.config.ssl is None:
            return None
        bounds = self.config.http_protocol_class
        assert issubclass(bounds, _Protocol), "the configuration below says so"
        return Handshakes(
            self.config.ssl,
            self._protocol,
            self.server_state.connections,
            max_connections=bounds.max_connections,
            timeout_s=bounds.header_timeout_s,
        )

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg] # as uvicorn itself calls it
            config=self.config, server_state=self.server_state, app_state={}
        )


class HttpServer:
    """Listens from `start` to `stop`."""

    def __init__(self, receiver: HttpReceiver, config: CollectorConfig) -> None:
        """Take the address, so that a taken port is known at once.

        Raises:
            InvalidSetting: the address cannot be bound.
        """
        self._socket = listening_socket(config.http_listen, "FAREBOX_HTTP_LISTEN")
        self.port: int = self._socket.getsockname()[1]
        bounds = {"header_timeout_s": config.header_timeout_s, "max_discarded_bytes": 2 * config.max_body_bytes}
        bounds |= {"max_connections": config.max_connections, "body_timeout_s": config.body_timeout_s}
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
                backlog=ACCEPTED_AT_ONCE,
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
        self._socket.listen(BACKLOG)  # asyncio has set it to what it accepts at once

    async def stop(self, grace_s: float) -> None:
        """Finish the requests in flight, then close; requests that take longer are asked to be sent again."""
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_s)
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    options: dict[str, Any] = {"ssl_certfile": str(tls.cert), "ssl_keyfile": str(tls.key)}
    if tls.client_ca is not None:
        options |= {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": 2}  # ssl.CERT_REQUIRED
    return options

"""A server on the loopback that answers as it is told, for what no real gateway or backend answers on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, TypeAlias


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float


Said: TypeAlias = int | tuple[int, dict[str, str]] | tuple[int, dict[str, str], bytes]
Answer: TypeAlias = Callable[[Request], Said]


class Pretended:
    """Answers each POST by `answer`, which may be replaced at any time, and remembers what came."""

    def __init__(self, answer: Answer = lambda _: 200, port: int = 0) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        pretended = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body, time.monotonic())
                pretended.requests.append(request)
                said = pretended.answer(request)
                status, extra, answered = (*said, b"")[:3] if isinstance(said, tuple) else (said, {}, b"")
                self.send_response(status)
                for name, value in {**extra, "content-length": str(len(answered))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answered)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def spans_requests(self) -> list[Request]:
        """What was sent, without the empty exports that ask for a key."""
        return [request for request in self.requests if request.body]

    def __enter__(self) -> Pretended:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

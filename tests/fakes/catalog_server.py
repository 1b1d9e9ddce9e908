"""A web server on the loopback that hands out a price file the way a test wants: whole, cut off, late, compressed."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class CatalogServer:
    """What the server hands out next, and what it was asked."""

    url: str = ""
    content: bytes = b"{}"
    status: int = 200
    location: str | None = None
    encoding: str | None = None
    has_etag: bool = True
    cut_after: int | None = None  # bytes after which the connection ends
    is_chunked: bool = False
    pause_s: float = 0.0  # before the body
    asked: list[dict[str, str]] = field(default_factory=list)

    def put(self, models: dict[str, Any]) -> None:
        self.content = json.dumps(models).encode()

    @property
    def etag(self) -> str:
        return f'"{sha256(self.content).hexdigest()[:16]}"'


@contextmanager
def catalog_server() -> Iterator[CatalogServer]:
    """Run the server for the length of the block, on a free port."""
    served = CatalogServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.asked.append({name.lower(): value for name, value in self.headers.items()})
            if served.has_etag and self.headers.get("If-None-Match") == served.etag:
                self.send_response(304)
                self.end_headers()
                return
            self._answer(gzip.compress(served.content) if served.encoding == "gzip" else served.content)

        def _answer(self, body: bytes) -> None:
            self.close_connection = True
            self.send_response(served.status)
            if served.location:
                self.send_header("Location", served.location)
            if served.encoding:
                self.send_header("Content-Encoding", served.encoding)
            if served.has_etag:
                self.send_header("ETag", served.etag)
            if served.is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.flush()
            time.sleep(served.pause_s)
            sent = body if served.cut_after is None else body[: served.cut_after]
            try:
                self.wfile.write(b"%x\r\n" % len(body) + sent if served.is_chunked else sent)
                if served.is_chunked and served.cut_after is None:
                    self.wfile.write(b"\r\n0\r\n\r\n")
            except OSError:
                pass  # the client has hung up, as some tests want

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/prices.json"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)

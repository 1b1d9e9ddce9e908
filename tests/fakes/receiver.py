"""An OTLP/HTTP receiver on the loopback: takes spans as a collector does, and can be told to fail.

`spans` are the decoded spans in the order of arrival, `requests` what came on the wire. `status` is what it answers;
`delay_s` is how long it takes to.
"""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(slots=True)
class ReceivedSpan:
    scope: str
    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    message: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass(slots=True)
class ReceivedRequest:
    path: str
    headers: dict[str, str]
    body: bytes
    status: int


def decode(payload: bytes) -> list[ReceivedSpan]:
    """The spans of one serialized request."""
    return [
        _received(span, scope_spans.scope.name, _attributes(resource_spans.resource.attributes))
        for resource_spans in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _received(span: Span, scope: str, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        scope=scope,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=span.status.code,
        message=span.status.message,
        attributes=_attributes(span.attributes),
        resource=resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


class FakeReceiver:
    """The server; use it as a context manager. A `port` given again takes the place of one that was stopped."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.delay_s = 0.0
        self.spans: list[ReceivedSpan] = []
        self.requests: list[ReceivedRequest] = []
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[ReceivedSpan]:
        """Wait until so many spans have come; fails when they do not."""
        deadline = time.monotonic() + timeout_s
        while len(self.spans) < count:
            assert time.monotonic() < deadline, f"{len(self.spans)} of {count} spans came within {timeout_s} s"
            time.sleep(0.01)
        return self.spans

    def __enter__(self) -> FakeReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: senders that leave in the middle are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    fake: ClassVar[FakeReceiver]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass

    def do_POST(self) -> None:
        fake = self.fake
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if fake.delay_s:
            time.sleep(fake.delay_s)
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.requests.append(ReceivedRequest(self.path, headers, body, fake.status))
        if fake.status == 200:
            fake.spans.extend(decode(body))
        answer = f"HTTP/1.1 {fake.status} Status\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
        with contextlib.suppress(OSError):
            self.wfile.write(answer.encode())

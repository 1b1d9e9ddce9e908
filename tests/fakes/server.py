"""The server under the fake providers: requests, a log of what was served, and behaviours on demand.

Behaviour on demand, by a prefix of the model name (`endless:gpt-4o`) or the header `x-fake-behavior`:

  fail-400, fail-401, fail-429, fail-500, fail-529   answer that error (no prefix needed: `fail-429` is a model too)
  refuse-stream-options                              400 naming stream_options when the request has it
  refuse-silently                                    the same without a reason
  flaky                                              500 once for each model name, then the answer
  slow                                               answer after 0.5 s
  hang                                               answer nothing for 30 s
  endless                                            a stream that goes on (for at most 60 s) until the client leaves
  cut                                                a stream whose connection breaks in its middle
  stream-error                                       a stream with an error event in its middle
  no-usage                                           the answer without usage
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self, TypeAlias
from urllib.parse import parse_qsl, urlsplit

BEHAVIORS = (
    "refuse-stream-options",
    "refuse-silently",
    "flaky",
    "slow",
    "hang",
    "endless",
    "cut",
    "stream-error",
    "no-usage",
)
ERRORS = {
    400: ("invalid_request_error", "Invalid value for 'messages'."),
    401: ("authentication_error", "Incorrect API key provided."),
    429: ("rate_limit_error", "Rate limit reached for requests."),
    500: ("api_error", "The server had an error while processing your request."),
    529: ("overloaded_error", "Overloaded"),
}
WORDS = ("The", " fare", " is", " two", " cents", " a", " ride", ".")
ENDLESS_LIMIT_S = 60.0
HANG_LIMIT_S = 30.0

Event = tuple[str | None, dict[str, Any]]
Routes: TypeAlias = Sequence[tuple[re.Pattern[str], Callable[[Any, re.Match[str]], None]]]


@dataclass(slots=True)
class Served:
    """One request as it was answered; `usage` is what the answer bills, None when it bills nothing."""

    path: str
    status: int
    model: str | None
    response_model: str | None = None
    response_id: str | None = None
    stream: bool = False
    usage: dict[str, Any] | None = None
    api_key: str | None = None
    organization: str | None = None
    body: dict[str, Any] = field(default_factory=dict)


class FakeServer:
    """The server; use it as a context manager. `url` is its address without a path, `served` its log."""

    handler: ClassVar[type[Handler]]

    def __init__(self, port: int = 0) -> None:
        self.served: list[Served] = []
        self.flaky_seen: set[str] = set()
        self.ids = itertools.count(1)
        self.stopping = threading.Event()
        handler = type("Handler", (self.handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{next(self.ids):06d}{time.time_ns():x}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave in the middle are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """One request; `routes` pair the end of a path with what answers it, `error_event` names the event of an error."""

    fake: ClassVar[Any]
    routes: ClassVar[Routes] = ()
    error_event: ClassVar[str | None] = "error"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass

    def do_POST(self) -> None:
        self._read_request()
        status = self._failure()
        if status:
            self._send_error(status, self.model)
            return
        if self.behavior == "slow":
            time.sleep(0.5)
        if self.behavior == "hang":
            self.fake.stopping.wait(HANG_LIMIT_S)
        for pattern, method in self.routes:
            if match := pattern.search(urlsplit(self.path).path):
                method(self, match)
                return
        self._send_error(404, None)

    # -- the request

    def _read_request(self) -> None:
        raw = self._read_body()
        kind = self.headers.get("content-type", "")
        if kind.startswith("multipart/"):
            self.body = _multipart_fields(raw)
        elif kind.startswith("application/x-www-form-urlencoded"):
            self.body = dict(parse_qsl(raw.decode()))
        else:
            self.body = json.loads(raw) if raw else {}
        named = str(self.body.get("model") or "")
        self.behavior, self.model = self._split_behavior(named)
        self.stream = self.body.get("stream") in (True, "true")

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(iter(self._read_chunk, b""))
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _read_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _split_behavior(self, model: str) -> tuple[str | None, str]:
        header = self.headers.get("x-fake-behavior")
        prefix, colon, rest = model.partition(":")
        if colon and (prefix in BEHAVIORS or prefix.startswith("fail-")):
            return prefix, rest
        return header or (model if model.startswith("fail-") else None), model

    def _failure(self) -> int | None:
        behavior = self.behavior or ""
        if behavior.startswith("fail-"):
            return int(behavior.removeprefix("fail-"))
        if behavior.startswith("refuse-") and "stream_options" in self.body:
            return 400
        if behavior == "flaky" and self.model not in self.fake.flaky_seen:
            self.fake.flaky_seen.add(self.model)
            return 500
        return None

    # -- the answer

    def _log(self, status: int, **known: Any) -> None:
        authorization = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.fake.served.append(
            Served(
                path=urlsplit(self.path).path,
                status=status,
                model=self.model or None,
                stream=self.stream,
                api_key=self.headers.get("x-api-key") or self.headers.get("api-key") or authorization or None,
                organization=self.headers.get("openai-organization"),
                body=self.body,
                **known,
            )
        )

    def _send_bytes(self, status: int, body: bytes, content_type: str) -> None:
        encoding = ""
        if self.headers.get("x-fake-gzip"):
            body, encoding = gzip.compress(body), "Content-Encoding: gzip\r\n"
        head = (
            f"HTTP/1.1 {status} {self.responses.get(status, ('Status',))[0]}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{encoding}"
            f"x-request-id: {self.fake.new_id('req_')}\r\nrequest-id: {self.fake.new_id('req_')}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            self.wfile.write(head.encode() + body)

    def _send_json(self, status: int, body: dict[str, Any]) -> None:
        self._send_bytes(status, json.dumps(body).encode(), "application/json")

    def _send_error(self, status: int, model: str | None) -> None:
        kind, message = ERRORS.get(status, ("not_found_error", f"No route {self.path}."))
        if self.behavior == "refuse-stream-options":
            message = "Unrecognized request argument supplied: stream_options"
        self._log(status)
        error = {"type": kind, "message": message, "param": None, "code": None}
        self._send_json(status, {"type": "error", "error": error})

    def _answer(self, body: dict[str, Any], usage: dict[str, Any] | None) -> None:
        if self.behavior == "no-usage":
            body, usage = {key: value for key, value in body.items() if key != "usage"}, None
        self._log(200, response_model=body.get("model"), response_id=body.get("id"), usage=usage)
        self._send_json(200, body)

    def _send_stream(
        self,
        events: Iterator[Event],
        content_type: str = "text/event-stream",
        encode: Callable[[str | None, dict[str, Any]], bytes] | None = None,
    ) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
            f"x-request-id: {self.fake.new_id('req_')}\r\n\r\n"
        ).encode()
        encode = encode or sse_event
        try:
            for number, (name, data) in enumerate(self._disturbed(events)):
                payload = encode(name, data)
                self.wfile.write((head if number == 0 else b"") + b"%x\r\n%s\r\n" % (len(payload), payload))
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, _Cut):
            self.close_connection = True

    def _disturbed(self, events: Iterator[Event]) -> Iterator[Event]:
        """Bring in what the behaviour asks for, after the third event."""
        for number, event in enumerate(events):
            yield event
            if number != 2:
                continue
            if self.behavior == "cut":
                raise _Cut
            if self.behavior == "stream-error":
                yield (
                    self.error_event,
                    {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
                )
            if self.behavior == "endless":
                yield from self._endless(event)

    def _endless(self, event: Event) -> Iterator[Event]:
        deadline = time.monotonic() + ENDLESS_LIMIT_S
        while time.monotonic() < deadline and not self.fake.stopping.wait(0.02):
            yield event


class _Cut(Exception):
    pass


def _multipart_fields(raw: bytes) -> dict[str, Any]:
    fields = re.findall(rb'name="(\w+)"\r\n\r\n(.*?)\r\n--', raw, re.DOTALL)
    return {name.decode(): value.decode() for name, value in fields}


def sse_event(name: str | None, data: dict[str, Any]) -> bytes:
    if name == "[DONE]":
        return b"data: [DONE]\n\n"
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(data)}\n\n".encode()

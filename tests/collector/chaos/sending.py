"""Senders that do not give up: each request is repeated until it is acknowledged, whatever happens to the collector.

So the set of spans that were sent ends as the set of those acknowledged, and the books can be compared by equality.
"""

from __future__ import annotations

import http.client
import itertools
import random
import threading
import time
from types import TracebackType
from typing import Any

import grpc
import msgspec

from tests.collector.emitting import CALL, Emitted, protobuf
from tests.collector.running import PROTOBUF, TIMEOUT_S
from tests.collector.test_grpc import EXPORT

PAUSE_S = 0.05
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"}
PAGE = {"http.request.method": "GET", "http.route": "/orders/{id}"}
AGAIN = 0.1
"""The share of acknowledged requests that are sent once more, as by an exporter that missed the answer."""
_numbers = itertools.count(1)


class Told(msgspec.Struct):
    """What all senders together were told."""

    acknowledged: set[bytes] = msgspec.field(default_factory=set)  # ids of the generative-AI spans
    spans: int = 0  # acknowledged ones of any kind, repetitions among them
    failed_tries: int = 0
    slowest_ack_s: float = 0.0
    surprises: list[str] = msgspec.field(default_factory=list)  # answers that lose spans


class Senders:
    """Threads that send while the block runs; at its end each waits for its last acknowledgment."""

    def __init__(
        self, http_port: int, grpc_address: str, *, seed: int, spans_per_s: float | None = None, key: str | None = None
    ) -> None:
        """Prepare two senders over HTTP and one over gRPC. Without a rate they send as fast as is answered, nearly."""
        self.told = Told()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._rate = None if spans_per_s is None else spans_per_s / 3
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        links = [_HttpLink(http_port, headers), _HttpLink(http_port, headers), _GrpcLink(grpc_address, headers)]
        self._threads = [
            threading.Thread(target=self._send_until_stopped, args=(link, random.Random(seed + number)), daemon=True)
            for number, link in enumerate(links)
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._given_up.set()
        self._stopping.set()
        for thread in self._threads:
            thread.join(3 * TIMEOUT_S)
        alive = [thread for thread in self._threads if thread.is_alive()]
        self._given_up.set()
        if error is None:
            assert not alive, "a sender still waits for its acknowledgment"
            assert self.told.surprises == []

    def _send_until_stopped(self, link: _HttpLink | _GrpcLink, chance: random.Random) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            spans = made_spans(chance)
            body = protobuf(*spans)
            for _ in range(1 + (chance.random() < AGAIN)):
                if not self._send(link, body, spans):
                    return
            due += 0.01 if self._rate is None else len(spans) / self._rate
            due = max(due, time.monotonic() - 1.0)  # what an outage held up is not caught up in one burst
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def _send(self, link: _HttpLink | _GrpcLink, body: bytes, spans: list[Emitted]) -> bool:
        """Send one request until it is acknowledged; False when it never will be."""
        while not self._given_up.is_set():
            started = time.monotonic()
            answer = link.post(body)
            took = time.monotonic() - started
            with self._lock:
                if answer == "taken":
                    self.told.acknowledged.update(span.span_id for span in spans if span.attributes is not PAGE)
                    self.told.spans += len(spans)
                    self.told.slowest_ack_s = max(self.told.slowest_ack_s, took)
                    return True
                if answer != "again":
                    self.told.surprises.append(answer)
                    return False
                self.told.failed_tries += 1
            time.sleep(PAUSE_S)
        return False


def made_spans(chance: random.Random) -> list[Emitted]:
    """Make the spans of one request: calls of one trace, often below an agent's span, and spans of others."""
    trace = next(_numbers)
    agent = Emitted(next(_numbers), AGENT, trace=trace) if chance.random() < 0.5 else None
    parent = None if agent is None else agent.number
    now = time.time_ns()
    calls = [  # ends that differ, or they would be twins
        Emitted(next(_numbers), CALL, trace=trace, parent=parent, end_ns=now - number * 10**6)
        for number in range(chance.randint(1, 8))
    ]
    pages = [Emitted(next(_numbers), PAGE, trace=trace, kind=2, name="GET") for _ in range(chance.randint(0, 3))]
    spans = [*([] if agent is None else [agent]), *calls, *pages]
    chance.shuffle(spans)
    return spans


class _HttpLink:
    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._headers = {"content-type": PROTOBUF, **headers}

    def post(self, body: bytes) -> str:
        """Answer `taken`, `again` when it may be tried again, else what was said."""
        try:
            self._connection.request("POST", "/v1/traces", body, self._headers)
            response = self._connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return "again"
        if response.status == 200:
            return "taken" if not said else f"200 {said!r}"
        if response.status == 503 and response.headers["retry-after"] == "2":
            return "again"
        return f"{response.status} {said!r}"


class _GrpcLink:
    def __init__(self, address: str, headers: dict[str, str]) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
        channel: Any = grpc.insecure_channel(address, options)  # the stubs ask for what has defaults
        self._method = channel.unary_unary(EXPORT)
        self._metadata = tuple(headers.items())

    def post(self, body: bytes) -> str:
        try:
            said = self._method(body, timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as error:
            code = error.code()
            again = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            return "again" if code in again else f"{code} {error.details()}"
        return "taken" if not said else f"OK {said!r}"

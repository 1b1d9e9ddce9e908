"""Runs a real collector on free loopback ports, in this process or as one of its own, and talks to it."""

from __future__ import annotations

import asyncio
import atexit
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Engine, text

from farebox_collector.app import Collector
from farebox_collector.config import Address, CollectorConfig
from farebox_ledger.store.engine import owner_transaction

TIMEOUT_S = 60.0  # for what a busy machine does late; no test passes by reaching it
PROTOBUF = "application/x-protobuf"
JSON = "application/json"


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Http:
    """Sends requests to the HTTP port, each on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def post(
        self, body: bytes | Iterator[bytes], content_type: str = PROTOBUF, path: str = "/v1/traces", **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, body, {"content-type": content_type, **named})

    def get(self, path: str) -> Answer:
        return self.request("GET", path, None, {})

    def request(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answer(
                response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}
            )
        finally:
            connection.close()


class Running:
    """A collector on an event loop of its own, in a thread of this process."""

    def __init__(self, config: CollectorConfig) -> None:
        self.collector = Collector(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._run(self.collector.start())
        except BaseException:
            self._end_loop()
            raise
        self.http = Http(self.collector.http_port)
        self.grpc_address = f"127.0.0.1:{self.collector.grpc_port}"

    def counters(self) -> dict[str, int]:
        return self.collector.spool.snapshot().counters

    def wait_until_booked(self) -> None:
        """Wait until nothing is left in the spool, and check the conservation law there."""
        wait_for(lambda: self.collector.spool.snapshot().pending_spans == 0)
        assert self.collector.spool.snapshot().conservation_difference == 0

    def stop(self) -> None:
        self._run(self.collector.stop())
        self._end_loop()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def config_for(folder: Path, **settings: Any) -> CollectorConfig:
    """Settings for a test: free ports, a spool in the folder, no waiting for balancers at the end."""
    defaults = CollectorConfig(
        database_url=f"sqlite:///{folder / 'farebox.db'}",
        spool_dir=folder / "spool",
        grpc_listen=Address("127.0.0.1", 0),
        http_listen=Address("127.0.0.1", 0),
        default_org="acme",
        drain_notice_s=0.0,
        drain_limit_s=5.0,
    )
    return msgspec.structs.replace(defaults, **settings)


@contextmanager
def running(config: CollectorConfig) -> Iterator[Running]:
    """Run a collector until the block ends."""
    collector = Running(config)
    try:
        yield collector
    finally:
        collector.stop()


class Child:
    """A collector as a process of its own, as its user starts it."""

    command = "collector"

    def __init__(self, folder: Path, **environment: str) -> None:
        given = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX_", "OTEL_"))}
        settings = {
            "FAREBOX_DATABASE_URL": f"sqlite:///{folder / 'farebox.db'}",
            "FAREBOX_SPOOL_DIR": str(folder / "spool"),
            "FAREBOX_GRPC_LISTEN": "127.0.0.1:0",
            "FAREBOX_HTTP_LISTEN": "127.0.0.1:0",
            "FAREBOX_DEFAULT_ORG": "acme",
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys, farebox_collector.commands as c; sys.exit(c.{self.command}(sys.argv[1:]))",
            ],
            env={**given, **settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.process.kill)  # a test that fails in the middle leaves nothing running

    def started(self) -> Http:
        """Wait for the start line and answer the HTTP port behind it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        said = rf"farebox {self.command}: grpc 127\.0\.0\.1:(\d+), http 127\.0\.0\.1:(\d+)(, to https?://\S+)?\n"
        match = re.fullmatch(said, line)
        assert match is not None, f"{line!r} {self.end()}"
        self.grpc_address = f"127.0.0.1:{match[1]}"
        return Http(int(match[2]))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT_S)

    def terminate(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode

    def end(self) -> tuple[int, str, str]:
        """Wait for the process to end by itself: exit code, standard output, standard error."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, out, err


class Forward(Child):
    """A forwarder as a process of its own, beside the gateway that it is told."""

    command = "forward"

    def __init__(self, folder: Path, gateway_port: int, **environment: str) -> None:
        gateway = f"http://127.0.0.1:{gateway_port}"
        unused = {"FAREBOX_DATABASE_URL": "", "FAREBOX_DEFAULT_ORG": ""}
        super().__init__(folder, **{**unused, "FAREBOX_GATEWAY_ENDPOINT": gateway, **environment})


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def metric(http: Http, name: str) -> float:
    """The value of a metric, named with its labels as Prometheus writes them; 0 when it is not there."""
    for line in http.get("/metrics").body.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def wait_for(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def rows(engine: Engine, *columns: str) -> list[tuple[Any, ...]]:
    """The usage rows by span id."""
    with owner_transaction(engine) as connection:
        found = connection.execute(text(f"SELECT {', '.join(columns)} FROM usage_rows ORDER BY trace_id, span_id"))
        return [tuple(row) for row in found]

"""Real exporters through a forwarder to a gateway: what they were told is accepted is booked, once, and nothing else.

In the slow ones both processes are restarted every few seconds, in turns, ended or killed.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from sqlalchemy import Engine

from tests.collector.chaos.accounts import audit, settled_rows
from tests.collector.running import Child, Forward, Http, config_for, metric, rows, running, wait_for
from tests.collector.test_exporters import export_for, made_spans
from tests.collector.test_js_exporters import with_exporters

EXPORT_S = 24.0
RESTART_AFTER_S = 3.0
AWAY_S = 0.5  # and the time that a process takes to start


def exporter_of(kind: str, child: Child, http: Http) -> SpanExporter:
    if kind == "grpc":
        return GrpcExporter(endpoint=f"http://{child.grpc_address}", insecure=True)
    compression = Compression.Gzip if kind == "http, gzip" else None
    return HttpExporter(endpoint=f"http://127.0.0.1:{http.port}/v1/traces", compression=compression)


def test_what_an_exporter_was_told_is_accepted_reaches_the_books(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    with running(config_for(tmp_path / "gateway", database_url=sqlite_url)) as gateway:
        forwarder = Forward(tmp_path, gateway.http.port)
        http = forwarder.started()
        for kind in ("grpc", "http", "http, gzip"):
            exporter = exporter_of(kind, forwarder, http)
            assert exporter.export(made_spans(20)) is SpanExportResult.SUCCESS
            exporter.shutdown()
        wait_for(lambda: metric(http, "farebox_forwarded_spans_total") == 60)
        gateway.wait_until_booked()
        assert forwarder.terminate() == 0

    assert rows(sqlite_engine, "billing_status", "service") == [("billed", "shop")] * 60


class Pair:
    """A forwarder and its gateway, on ports that stay while the processes come and go."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._folder = folder
        gateway = folder / "gateway"
        gateway.mkdir()
        self._url = database_url
        self.gateway, self.gateway_at = self._started(Child(gateway, FAREBOX_DATABASE_URL=database_url))
        self.forwarder, self.at = self._started(Forward(folder, self.gateway_at.port))

    @staticmethod
    def _started(child: Child) -> tuple[Child, Http]:
        http = child.started()
        return child, http

    def restart_forwarder(self, end: Callable[[Child], object]) -> None:
        end(self.forwarder)
        time.sleep(AWAY_S)
        again = Forward(self._folder, self.gateway_at.port, **_addresses(self.forwarder, self.at))
        self.forwarder, self.at = self._started(again)

    def restart_gateway(self, end: Callable[[Child], object]) -> None:
        end(self.gateway)
        time.sleep(AWAY_S)
        addresses = _addresses(self.gateway, self.gateway_at)
        again = Child(self._folder / "gateway", FAREBOX_DATABASE_URL=self._url, **addresses)
        self.gateway, self.gateway_at = self._started(again)

    def end(self) -> None:
        """End both once nothing waits in the forwarder, whose counts then have to add up."""
        wait_for(lambda: self.at.get("/readyz").json["pending_spans"] == 0)
        assert metric(self.at, "farebox_conservation_difference") == 0
        assert self.forwarder.terminate() == 0
        assert self.gateway.terminate() == 0


def _addresses(child: Child, http: Http) -> dict[str, str]:
    return {"FAREBOX_GRPC_LISTEN": child.grpc_address, "FAREBOX_HTTP_LISTEN": f"127.0.0.1:{http.port}"}


@pytest.fixture
def pair(tmp_path: Path, sqlite_url: str) -> Iterator[Pair]:
    started = Pair(tmp_path, sqlite_url)
    yield started
    for child in (started.forwarder, started.gateway):
        child.process.kill()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_python_exporters_survive_restarts_of_both(
    pair: Pair, tmp_path: Path, sqlite_engine: Engine, kind: str
) -> None:
    """A request that a kill of the forwarder cuts off may be on its disk although the exporter gave up on it."""
    exporter = exporter_of(kind, pair.forwarder, pair.at)
    accepted: set[bytes] = set()
    failed: set[bytes] = set()
    exporting = threading.Thread(target=export_for, args=(EXPORT_S, exporter, accepted, failed), daemon=True)
    exporting.start()

    steps: Iterator[Callable[[], None]] = itertools.cycle([
        lambda: pair.restart_gateway(Child.kill),
        lambda: pair.restart_forwarder(Child.kill),
        lambda: pair.restart_gateway(Child.terminate),
        lambda: pair.restart_forwarder(Child.terminate),
    ])  # fmt: skip
    restarts = 0
    while exporting.is_alive():
        exporting.join(RESTART_AFTER_S)
        next(steps)()
        restarts += 1
    exporter.shutdown()
    pair.end()

    assert restarts >= 3
    assert len(accepted) > 500
    assert len(failed) < len(accepted) / 10
    booked = {bytes(span_id) for (span_id,) in rows(sqlite_engine, "span_id")}
    audit(sqlite_engine, accepted | (booked & failed), tmp_path / "gateway" / "spool")
    settled_rows(tmp_path / "spool" / "forward")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_exporters(tmp_path_factory.mktemp("js"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="Node.js and npm are not installed")
@pytest.mark.parametrize("kind", ["proto", "grpc"])
def test_javascript_exporters_survive_restarts_of_both(
    pair: Pair, scripts: Path, sqlite_engine: Engine, kind: str
) -> None:
    """The forwarder is never killed here, so that what was told and what is booked can be compared by equality."""
    url = f"http://{pair.forwarder.grpc_address}" if kind == "grpc" else f"http://127.0.0.1:{pair.at.port}/v1/traces"
    exporting = subprocess.Popen(
        ["node", "export.js", kind, url], cwd=scripts, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    for step in (pair.restart_gateway, pair.restart_forwarder) * 3:
        time.sleep(RESTART_AFTER_S)
        step(Child.kill if step == pair.restart_gateway else Child.terminate)
    time.sleep(RESTART_AFTER_S)
    printed, _ = exporting.communicate(timeout=60)  # it closes the exporter's input
    told = [line.split() for line in printed.splitlines()]
    pair.end()

    accepted = sorted(bytes.fromhex(span_id) for outcome, span_id in told if outcome == "accepted")
    assert exporting.returncode == 0
    assert len(accepted) > 100
    assert sorted(span_id for (span_id,) in rows(sqlite_engine, "span_id")) == accepted

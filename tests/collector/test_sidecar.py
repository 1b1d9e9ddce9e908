"""What operators expect of a sidecar, of both roles alike: health on three ways, otelcol's names, a clean end."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.collector.emitting import CALL, Emitted, calls, protobuf
from tests.collector.pretending import Pretended
from tests.collector.running import Child, Forward, wait_for
from tests.collector.test_grpc import EXPORT, HEALTH

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
Start: TypeAlias = Callable[..., Child]
OTELCOL = {
    "otelcol_receiver_accepted_spans_total", "otelcol_receiver_refused_spans_total",
    "otelcol_exporter_sent_spans_total", "otelcol_exporter_send_failed_spans_total",
    "otelcol_exporter_enqueue_failed_spans_total", "otelcol_exporter_queue_size", "otelcol_exporter_queue_capacity",
}  # fmt: skip
OURS = {
    "farebox_accepted_spans_total", "farebox_not_genai_spans_total", "farebox_quarantined_spans_total",
    "farebox_spool_spans", "farebox_spool_bytes", "farebox_spool_oldest_age_seconds", "farebox_conservation_difference",
}  # fmt: skip
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


@pytest.fixture(params=["collector", "forward"])
def start(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str) -> Iterator[Start]:
    """Start one role or the other; a forwarder finds a gateway that takes everything."""
    if request.param == "collector":
        yield lambda **settings: Child(tmp_path, **settings)
        return
    with Pretended() as gateway:
        yield lambda **settings: Forward(tmp_path, gateway.port, **settings)


@contextmanager
def method(child: Child, name: str) -> Iterator[Any]:
    with grpc.insecure_channel(child.grpc_address) as channel:
        call: Any = channel.unary_unary
        yield call(name)


def test_health_is_told_on_three_ways_until_the_end(start: Start) -> None:
    child = start()
    http = child.started()
    with method(child, HEALTH) as check:
        assert check(b"", timeout=5) == SERVING
        assert http.get("/healthz").json == {"status": "ok"}
        wait_for(lambda: http.get("/readyz").json["status"] == "ready")

        child.process.terminate()
        wait_for(lambda: http.get("/readyz").status == 503)
        assert http.get("/readyz").json["not_ready"] == ["the collector is shutting down"]
        assert check(b"", timeout=5) == NOT_SERVING
        assert http.get("/healthz").status == 200
        assert http.post(calls([1])).status == 200  # who does not look at health loses nothing
    assert child.end()[0] == 0


def test_the_metrics_have_the_names_of_otelcol_and_the_law_holds(start: Start) -> None:
    child = start()
    http = child.started()
    assert http.post(protobuf(Emitted(1), Emitted(2, {"http.route": "/"}), Emitted(3, CALL, end_ns=1))).status == 200
    with method(child, EXPORT) as export:
        assert export(calls([4]), timeout=5) == b""
    wait_for(lambda: http.get("/readyz").json["pending_spans"] == 0)
    exposition = http.get("/metrics").body.decode()
    assert child.terminate() == 0

    names = {re.split(r"[ {]", line)[0] for line in exposition.splitlines() if not line.startswith("#")}
    assert names >= OTELCOL | OURS
    assert 'otelcol_receiver_accepted_spans_total{receiver="otlp",transport="http"} 3.0' in exposition
    assert 'otelcol_receiver_accepted_spans_total{receiver="otlp",transport="grpc"} 1.0' in exposition
    assert 'otelcol_exporter_sent_spans_total{exporter="farebox"} 2.0' in exposition
    assert "farebox_accepted_spans_total 4.0" in exposition
    assert "farebox_not_genai_spans_total 1.0" in exposition
    assert "farebox_quarantined_spans_total 1.0" in exposition
    assert "farebox_conservation_difference 0.0" in exposition


def test_every_metric_is_read_by_prometheus_and_told_in_the_documentation(start: Start) -> None:
    with Pretended() as backend:
        child = start(FAREBOX_TEE_ENDPOINTS=f"http://127.0.0.1:{backend.port}")
        http = child.started()
        http.post(calls([1]))
        exposition = http.get("/metrics").body.decode()
        assert child.terminate() == 0

    families = list(text_string_to_metric_families(exposition))

    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(family.type in ("counter", "gauge", "histogram") and family.documentation for family in families)
    documentation = OPERATIONS.read_text()
    told = {name for name in names if not name.startswith("process_")}
    assert {name for name in told if f"`{name}" not in documentation} == set()
    assert "process_resident_memory_bytes" in names


def test_a_request_in_flight_at_the_end_is_finished(start: Start) -> None:
    child = start()
    http = child.started()
    body = calls(range(1, 50))
    statuses = []

    def pieces() -> Iterator[bytes]:
        yield body[:100]
        child.process.terminate()
        time.sleep(1.5)  # the listeners are closed by now
        yield body[100:]

    sending = threading.Thread(target=lambda: statuses.append(http.post(pieces()).status))
    sending.start()
    sending.join(15)

    assert statuses == [200]
    assert child.end()[0] == 0


def test_logs_are_one_json_object_a_line_without_anything_of_a_sender(start: Start) -> None:
    marker = "c4n4ry-7f3a9e"
    child = start(FAREBOX_LOG_FORMAT="json", FAREBOX_LOG_LEVEL="debug")
    http = child.started()
    assert http.post(protobuf(Emitted(1, {**CALL, "gen_ai.prompt": marker}, name=marker))).status == 200
    assert http.post(marker.encode()).status == 400
    http.post(calls([2]), authorization=f"Bearer {marker}")
    child.process.terminate()
    code, out, error = child.end()

    assert code == 0
    assert marker not in out + error
    for line in error.splitlines():
        assert json.loads(line).keys() == {"time", "level", "logger", "message"}

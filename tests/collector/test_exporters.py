"""The real Python exporters against a real collector."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from sqlalchemy import Engine

from tests.collector.chaos.accounts import audit
from tests.collector.emitting import CALL
from tests.collector.running import Child, Running, config_for, rows, running

EXPORT_S = 16.0
RESTART_AFTER_S = 3.0
AWAY_S = 0.5  # and the time that a process takes to start


def made_spans(count: int) -> tuple[ReadableSpan, ...]:
    """Spans as an application's tracer makes them."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("opentelemetry.instrumentation.genai.openai")
    for _ in range(count):
        tracer.start_span("chat gpt-4o-mini", kind=SpanKind.CLIENT, attributes=dict(CALL)).end()
    return memory.get_finished_spans()


def exporters(collector: Running) -> dict[str, SpanExporter]:
    url = f"http://127.0.0.1:{collector.http.port}/v1/traces"
    return {
        "grpc": GrpcExporter(endpoint=f"http://{collector.grpc_address}", insecure=True),
        "http": HttpExporter(endpoint=url),
        "http, gzip": HttpExporter(endpoint=url, compression=Compression.Gzip),
        "http, deflate": HttpExporter(endpoint=url, compression=Compression.Deflate),
    }


@pytest.mark.parametrize("name", ["grpc", "http", "http, gzip", "http, deflate"])
def test_what_an_exporter_was_told_is_accepted_is_booked(collector: Running, sqlite_engine: Engine, name: str) -> None:
    exporter = exporters(collector)[name]

    assert exporter.export(made_spans(50)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    collector.wait_until_booked()

    assert rows(sqlite_engine, "billing_status", "service") == [("billed", "shop")] * 50


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_an_exporter_survives_restarts_every_few_seconds(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine, transport: str
) -> None:
    """The collector is killed and ended in turns; each time it is away for a second or two, which most retries outlast.

    A request that a kill cuts off may be on the disk although the exporter gave up on it: that alone may be booked
    without having been called a success.
    """
    collector = Child(tmp_path)
    http = collector.started()
    addresses = {"FAREBOX_GRPC_LISTEN": collector.grpc_address, "FAREBOX_HTTP_LISTEN": f"127.0.0.1:{http.port}"}
    exporter: SpanExporter
    if transport == "grpc":
        exporter = GrpcExporter(endpoint=f"http://{collector.grpc_address}", insecure=True)
    else:
        exporter = HttpExporter(endpoint=f"http://127.0.0.1:{http.port}/v1/traces")
    accepted: set[bytes] = set()
    failed: set[bytes] = set()
    exporting = threading.Thread(target=export_for, args=(EXPORT_S, exporter, accepted, failed), daemon=True)
    exporting.start()

    restarts = 0
    while exporting.is_alive():
        exporting.join(RESTART_AFTER_S)
        if restarts % 2:
            assert collector.terminate() == 0
        else:
            collector.kill()
        restarts += 1
        time.sleep(AWAY_S)
        collector = Child(tmp_path, **addresses)
        collector.started()
    exporter.shutdown()
    assert collector.terminate() == 0

    assert restarts >= 3
    assert len(accepted) > 500
    assert len(failed) < len(accepted) / 10
    booked = {bytes(span_id) for (span_id,) in rows(sqlite_engine, "span_id")}
    audit(sqlite_engine, accepted | (booked & failed), tmp_path / "spool")


def export_for(seconds: float, exporter: SpanExporter, accepted: set[bytes], failed: set[bytes]) -> None:
    """Export batches one after the other, as the batch processor's one thread does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        spans = made_spans(10)
        told = accepted if exporter.export(spans) is SpanExportResult.SUCCESS else failed
        told.update(span.context.span_id.to_bytes(8, "big") for span in spans if span.context is not None)
        time.sleep(0.01)


def test_an_exporter_obeys_the_hint_of_a_full_spool_and_loses_nothing(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, spool_max_bytes=50)) as collector:
        exporter = GrpcExporter(endpoint=f"http://{collector.grpc_address}", insecure=True)
        spool = collector.collector.spool
        started = time.monotonic()

        threading.Timer(1.0, lambda: setattr(spool, "max_bytes", 10_000_000)).start()
        assert exporter.export(made_spans(3)) is SpanExportResult.SUCCESS

        assert 1.5 < time.monotonic() - started < 6
        exporter.shutdown()
        collector.wait_until_booked()

    assert len(rows(sqlite_engine, "span_id")) == 3

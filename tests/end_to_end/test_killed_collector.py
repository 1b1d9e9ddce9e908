"""Ack means on disk: what was acknowledged before a `kill -9` is in the books after the restart, once."""

from __future__ import annotations

import sqlite3
import time
import urllib.request
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.end_to_end.line import Organization, running_farebox, start_farebox

pytestmark = pytest.mark.timeout(180)


def one_call(number: int) -> bytes:
    """A request with one span of 1000 tokens in and 100 out, as any emitter would send it."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id = number.to_bytes(16, "big"), number.to_bytes(8, "big")
    span.kind = Span.SPAN_KIND_CLIENT
    span.end_time_unix_nano = time.time_ns()
    span.start_time_unix_nano = span.end_time_unix_nano - 1_000_000_000
    texts = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
    counts = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
    span.attributes.extend(KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in texts.items())
    span.attributes.extend(KeyValue(key=key, value=AnyValue(int_value=count)) for key, count in counts.items())
    return request.SerializeToString()


def send(url: str, organization: Organization, body: bytes) -> int:
    headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {organization.ingest_key}"}
    request = urllib.request.Request(f"{url}/v1/traces", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return int(response.status)


def test_an_acknowledged_span_survives_kill_9_and_is_booked_once(tmp_path: Path) -> None:
    killed = start_farebox(tmp_path)
    acme = killed.make_organization("acme")
    send(killed.otlp_http_url, acme, one_call(1))
    assert len(killed.wait_for_rows("acme", 1)) == 1
    # The books are locked, as by a long backup: spans are acknowledged and cannot be booked.
    books = sqlite3.connect(tmp_path / "farebox.db", isolation_level=None, timeout=60)
    books.execute("BEGIN IMMEDIATE")

    statuses = [send(killed.otlp_http_url, acme, one_call(number)) for number in range(2, 12)]
    killed.process.kill()
    books.execute("ROLLBACK")
    booked_before_restart = books.execute("SELECT count(*) FROM usage_rows").fetchone()[0]
    books.close()

    assert statuses == [200] * 10
    assert booked_before_restart == 1
    with running_farebox(tmp_path, FAREBOX_ADMIN_KEY="k" * 40) as restarted:
        restarted.admin_key = "k" * 40
        assert len(restarted.wait_for_rows("acme", 11)) == 11
        assert send(restarted.otlp_http_url, acme, one_call(2)) == 200  # a sender that never saw the first answer
        time.sleep(1)
        rows = restarted.wait_for_rows("acme", 11)
        assert len({row["span_id"] for row in rows}) == len(rows) == 11

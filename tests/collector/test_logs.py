"""Log records through a running collector: over both transports, from the request to the row."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import pytest
from sqlalchemy import Engine

from tests.collector.dialects.test_agent_logs import CLAUDE, CODEX, CODEX_SCOPE, as_json, protobuf
from tests.collector.emitting import Value, calls
from tests.collector.running import JSON, Running, rows

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def over_grpc(collector: Running, body: bytes) -> bytes:
    with grpc.insecure_channel(collector.grpc_address) as channel:
        answer: bytes = channel.unary_unary(LOGS, None, None)(body, timeout=20)
    return answer


def over_http(collector: Running, body: bytes) -> bytes:
    answer = collector.http.post(body, path="/v1/logs")
    assert answer.status == 200
    return answer.body


@pytest.mark.parametrize("send", [over_grpc, over_http])
def test_records_of_agents_become_rows(
    collector: Running, sqlite_engine: Engine, send: Callable[[Running, bytes], bytes]
) -> None:
    now_us = time.time_ns() // 1000
    prompt: dict[str, Value] = {"event.name": "user_prompt", "prompt": "secret"}

    assert send(collector, protobuf(CLAUDE, prompt, end_us=now_us)) == b""
    assert send(collector, protobuf(CODEX, scope=CODEX_SCOPE, end_us=now_us)) == b""
    collector.wait_until_booked()

    found = sorted(rows(sqlite_engine, "dialect", "billing_status", "input_tokens", "output_tokens"))
    assert found == [("claude_code", "billed", 6010, 200), ("codex", "billed", 2006, 300)]
    metrics = collector.http.get("/metrics").body
    transport = b"grpc" if send is over_grpc else b"http"
    accepted = b'otelcol_receiver_accepted_log_records_total{receiver="otlp",transport="%s"} 2.0' % transport
    assert accepted in metrics
    assert b'farebox_dropped_records_total{signal="logs",transport="%s"} 1.0' % transport in metrics
    assert b"farebox_conservation_difference 0.0" in metrics


def test_a_record_that_is_sent_again_writes_no_second_row(collector: Running, sqlite_engine: Engine) -> None:
    for _ in range(2):
        collector.http.post(as_json(CLAUDE), JSON, "/v1/logs")
        collector.http.post(protobuf(CLAUDE), path="/v1/logs")
    collector.wait_until_booked()

    assert rows(sqlite_engine, "dialect") == [("claude_code",)]
    assert collector.counters()["duplicates"] == 3


def test_a_record_of_a_wrong_clock_is_rejected_by_the_name_of_its_signal(collector: Running) -> None:
    body = as_json(CLAUDE).replace(b"17636", b"97636")

    answer = collector.http.post(body, JSON, "/v1/logs")

    assert answer.json["partialSuccess"]["rejectedLogRecords"] == "1"
    assert collector.counters()["quarantined"] == 1


def test_spans_that_are_sent_to_the_logs_path_are_no_records(collector: Running) -> None:
    assert collector.http.post(calls([1]), path="/v1/logs").status == 200
    assert collector.counters().get("accepted", 0) == 0

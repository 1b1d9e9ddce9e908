from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from sqlalchemy import Engine

from tests.collector.emitting import CALL, Emitted, calls, protobuf
from tests.collector.running import Running, config_for, running, wait_for
from tests.collector.test_auth import make_key

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


class Client:
    """Calls methods with raw messages."""

    def __init__(self, address: str, **options: Any) -> None:
        self.channel = grpc.insecure_channel(address, options=list(options.items()))

    def call(self, method: str, message: bytes, **options: Any) -> bytes:
        return bytes(self.channel.unary_unary(method, None, None)(message, timeout=20, **options))

    def refused(self, method: str, message: bytes, **options: Any) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, message, **options)
        return caught.value


def trailers_of(error: grpc.RpcError) -> dict[str, bytes]:
    return {item.key: item.value for item in error.trailing_metadata() or ()}


@pytest.fixture
def client(collector: Running) -> Iterator[Client]:
    opened = Client(collector.grpc_address)
    yield opened
    opened.channel.close()


def test_a_call_is_acknowledged_without_partial_success(client: Client, collector: Running) -> None:
    assert client.call(EXPORT, calls([1])) == b""
    assert client.call(EXPORT, b"") == b""
    collector.wait_until_booked()
    assert collector.counters()["rows"] == 1


def test_gzip_is_read(client: Client, collector: Running) -> None:
    assert client.call(EXPORT, calls([1]), compression=grpc.Compression.Gzip) == b""
    collector.wait_until_booked()
    assert collector.counters()["rows"] == 1


def test_rejected_spans_are_counted_exactly(client: Client) -> None:
    answer = client.call(EXPORT, protobuf(Emitted(1), Emitted(2, end_ns=5, duration_ns=0)))

    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert partial.rejected_spans == 1
    assert "clock_skew" in partial.error_message


def test_garbage_is_an_invalid_argument_without_a_retry_hint(client: Client) -> None:
    error = client.refused(EXPORT, b"\xff\xfe\xfd")

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "google.rpc.retryinfo-bin" not in trailers_of(error)
    assert client.call(EXPORT, calls([1])) == b""


def test_an_unknown_method_is_unimplemented(client: Client) -> None:
    assert client.refused("/farebox.Nothing/Here", b"").code() is grpc.StatusCode.UNIMPLEMENTED


def test_five_mebibytes_pass(client: Client, collector: Running) -> None:
    body = protobuf(Emitted(1, {**CALL, "prompt": "x" * 5 * 2**20}))

    assert client.call(EXPORT, body) == b""


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_beyond_the_limit_the_resource_is_exhausted_without_a_retry_hint(
    tmp_path: Path, sqlite_url: str, compression: grpc.Compression
) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, max_body_bytes=2**20)) as collector:
        client = Client(collector.grpc_address)

        error = client.refused(EXPORT, bytes(20 * 2**20), compression=compression)

        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "google.rpc.retryinfo-bin" not in trailers_of(error)
        assert client.call(EXPORT, calls([1])) == b""
        client.channel.close()


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer fbx_wrong"),), (("x-api-key", "fbx_wrong"),)])
@pytest.mark.parametrize("message", [b"\xff garbage", calls([1])], ids=["garbage", "good"])
def test_the_key_is_looked_at_before_the_message(
    tmp_path: Path, sqlite_url: str, metadata: tuple[tuple[str, str], ...], message: bytes
) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        client = Client(collector.grpc_address)

        error = client.refused(EXPORT, message, metadata=metadata)

        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        client.channel.close()


def test_a_full_spool_is_unavailable_with_both_retry_hints(tmp_path: Path, sqlite_url: str) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, spool_max_bytes=100)) as collector:
        client = Client(collector.grpc_address)

        error = client.refused(EXPORT, calls([1]))

        trailers = trailers_of(error)
        client.channel.close()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    direct = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"])
    status = Status.FromString(trailers["grpc-status-details-bin"])
    in_details = RetryInfo()
    assert status.code == 14
    assert status.details[0].Unpack(in_details)
    assert (direct.retry_delay.seconds, direct.retry_delay.nanos) == (1, 900_000_000)
    assert in_details == direct


def test_thirty_two_calls_are_served_at_once(client: Client, collector: Running) -> None:
    method = client.channel.unary_unary(EXPORT, None, None)

    answers = [method.future(calls([number]), timeout=20) for number in range(1, 33)]

    assert [answer.result() for answer in answers] == [b""] * 32
    collector.wait_until_booked()
    assert collector.counters()["rows"] == 32


def test_a_cancelled_call_leaves_the_server_healthy(client: Client) -> None:
    method = client.channel.unary_unary(EXPORT, None, None)
    for number in range(1, 20):
        method.future(calls([number] * 50), timeout=20).cancel()  # type: ignore[no-untyped-call]  # of grpc-stubs

    assert client.call(EXPORT, calls([99])) == b""


def test_logs_and_metrics_are_accepted_and_counted(client: Client, collector: Running) -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add()

    assert client.call(LOGS, request.SerializeToString()) == b""
    assert client.call(METRICS, b"") == b""
    assert b'farebox_dropped_records_total{signal="logs",transport="grpc"} 1.0' in collector.http.get("/metrics").body


def test_health_needs_no_key_and_says_serving(tmp_path: Path, sqlite_url: str) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        client = Client(collector.grpc_address)

        assert client.call(HEALTH, b"") == b"\x08\x01"
        service = b"opentelemetry.proto.collector.trace.v1.TraceService"
        assert client.call(HEALTH, b"\x0a" + bytes([len(service)]) + service) == b"\x08\x01"
        assert client.refused(HEALTH, b"\x0a\x04nope").code() is grpc.StatusCode.NOT_FOUND
        client.channel.close()


def test_health_says_not_serving_while_draining(client: Client, collector: Running) -> None:
    call = client.channel.unary_stream(WATCH, None, None)(b"", timeout=20)
    watched = iter(call)
    assert next(watched) == b"\x08\x01"

    collector.collector.health.is_draining = True

    assert client.call(HEALTH, b"") == b"\x08\x02"
    assert next(watched) == b"\x08\x02"
    assert collector.http.get("/readyz").status == 503
    assert client.call(EXPORT, calls([1])) == b""  # what still comes is still taken
    call.cancel()  # type: ignore[no-untyped-call]  # of grpc-stubs


def test_a_call_that_outlasts_the_end_is_unavailable_with_a_hint(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    make_key(sqlite_engine, "first")
    collector = Running(config_for(tmp_path, database_url=sqlite_url, grace_s=1.0, keys_refresh_s=3600.0))
    known = collector.collector.spool.known_keys
    wait_for(lambda: len(known()) == 1)
    _, unseen = make_key(sqlite_engine, "second")
    is_over = threading.Event()

    def no_message() -> Iterator[bytes]:
        is_over.wait(30)
        yield from ()

    with grpc.insecure_channel(collector.grpc_address) as channel:
        call = channel.stream_unary(EXPORT, None, None).future(
            no_message(), metadata=(("x-api-key", unseen),), timeout=20
        )
        wait_for(lambda: len(known()) == 2)  # looked up: now the call waits for its message
        started = time.monotonic()
        collector.stop()
        took_s = time.monotonic() - started
        error = call.exception(timeout=10)  # type: ignore[call-arg]  # grpc-stubs knows no time limit here
        is_over.set()

    assert isinstance(error, grpc.RpcError)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "google.rpc.retryinfo-bin" in trailers_of(error)
    assert took_s < 5


def test_connections_are_bounded(tmp_path: Path, sqlite_url: str) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, max_connections=2)) as collector:
        address = ("127.0.0.1", collector.collector.grpc_port)
        held = [socket.create_connection(address, timeout=20) for _ in range(2)]
        assert all(connection.recv(9) for connection in held)  # the server's settings: they are taken
        with socket.create_connection(address, timeout=20) as third:
            assert third.recv(9) == b""
        for connection in held:
            connection.close()
        again = Client(collector.grpc_address)
        wait_for(lambda: _is_serving(again))
        again.channel.close()


def _is_serving(client: Client) -> bool:
    try:
        return client.call(HEALTH, b"") == b"\x08\x01"
    except grpc.RpcError:
        return False


def test_pings_of_exporters_are_allowed(collector: Running) -> None:
    pinging = Client(
        collector.grpc_address,
        **{
            "grpc.keepalive_time_ms": 100,
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.http2.max_pings_without_data": 0,
            "grpc.http2.min_time_between_pings_ms": 100,
        },
    )
    for number in range(1, 4):
        assert pinging.call(EXPORT, calls([number])) == b""
        time.sleep(0.5)
    pinging.channel.close()

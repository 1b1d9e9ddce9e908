"""The tee of a running collector: to servers on the loopback that keep what they get."""

from __future__ import annotations

import gzip
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from farebox_collector.config import Endpoint, TeeDestination
from farebox_collector.originals import Original
from farebox_collector.tee import Tee
from farebox_collector.tee.file import TeeFile
from farebox_collector.tee.tee import MAX_QUEUED_BYTES
from tests.collector.emitting import CALL, Emitted, calls, json_request, protobuf
from tests.collector.pretending import Pretended, Request, Said
from tests.collector.running import JSON, PROTOBUF, Child, Forward, free_port, metric, rows, wait_for
from tests.collector.test_auth import make_key
from tests.collector.test_canary import MARKER, foreign_dialects, log_records, marked_span
from tests.collector.test_grpc import EXPORT

METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


def teed(*backends: Pretended | int, **settings: str) -> dict[str, str]:
    ports = [backend if isinstance(backend, int) else backend.port for backend in backends]
    return {"FAREBOX_TEE_ENDPOINTS": ",".join(f"http://127.0.0.1:{port}/otlp" for port in ports), **settings}


def sent(request: Request) -> tuple[str, str, str | None, bytes]:
    headers = request.headers
    return request.path, headers["content-type"], headers.get("content-encoding"), request.body


@pytest.mark.parametrize("start", [Child, lambda folder, **settings: Forward(folder, free_port(), **settings)])
def test_every_request_arrives_as_it_was_sent(tmp_path: Path, sqlite_url: str, start: Callable[..., Child]) -> None:
    zipped, json_body, logs = gzip.compress(marked_span()), json_request(Emitted(2)), log_records()
    only_others = protobuf(Emitted(3, {"http.route": "/"}))
    with Pretended() as backend:
        child = start(tmp_path, **teed(backend))
        http = child.started()
        assert http.post(zipped, content_encoding="gzip").status == 200
        assert http.post(json_body, JSON).status == 200
        assert http.post(logs, path="/v1/logs").status == 200
        assert http.post(b"", path="/v1/metrics").status == 200  # nothing in it
        assert http.post(b"\xff\xff").status == 400
        assert http.post(only_others).status == 200
        with grpc.insecure_channel(child.grpc_address) as channel:
            call: Any = channel.unary_unary
            assert call(EXPORT)(calls([4]), timeout=20) == b""
            assert call(METRICS)(b"\x0a\x00", timeout=20) == b""
        wait_for(lambda: len(backend.requests) == 6)
        assert child.terminate() == 0

    assert [sent(request) for request in backend.requests] == [
        ("/otlp/v1/traces", PROTOBUF, "gzip", zipped),
        ("/otlp/v1/traces", JSON, None, json_body),
        ("/otlp/v1/logs", PROTOBUF, None, logs),
        ("/otlp/v1/traces", PROTOBUF, None, only_others),
        ("/otlp/v1/traces", PROTOBUF, None, calls_again(backend.requests[4].body)),
        ("/otlp/v1/metrics", PROTOBUF, None, b"\x0a\x00"),
    ]


def calls_again(body: bytes) -> bytes:
    """The body, if it is that of the one call; its time is its own."""
    assert (4).to_bytes(8, "big") in body
    return body


def test_each_backend_gets_its_own_headers_and_never_our_key(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    _, key = make_key(sqlite_engine, "acme")
    with Pretended() as first, Pretended() as second:
        headers = "api-key=first%2Cvendor,x-team=a b;Authorization=Basic%20second"
        child = Child(tmp_path, **teed(first, second, FAREBOX_TEE_HEADERS=headers, FAREBOX_LOG_LEVEL="debug"))
        http = child.started()
        assert http.post(calls([1]), authorization=f"Bearer {key}").status == 200
        assert http.post(calls([2]), x_api_key=key, cookie="of the sender").status == 200
        assert http.post(calls([3]), x_api_key="fbx_wrong").status == 401
        wait_for(lambda: len(first.requests) == len(second.requests) == 2)
        metrics = http.get("/metrics").body.decode()
        child.process.terminate()
        _, out, error = child.end()

    common = {"host", "accept-encoding", "user-agent", "content-type", "content-length"}
    for request in first.requests:
        assert request.headers.keys() <= common | {"api-key", "x-team"}
        assert (request.headers["api-key"], request.headers["x-team"]) == ("first,vendor", "a b")
    for request in second.requests:
        assert request.headers.keys() <= common | {"authorization"}
        assert request.headers["authorization"] == "Basic second"
    everything = str([*first.requests, *second.requests])
    assert key not in everything
    assert not any(secret in metrics + out + error for secret in (key, "first,vendor", "Basic second"))


def test_a_backend_that_is_away_delays_nobody_and_gets_everything_later(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    away = free_port()
    name = f'{{destination="http://127.0.0.1:{away}/otlp"}}'
    with Pretended() as backend:
        child = Child(tmp_path, **teed(away, backend))
        http = child.started()
        started = time.monotonic()
        bodies = [calls([number]) for number in range(1, 21)]
        for body in bodies:
            assert http.post(body).status == 200
        wait_for(lambda: len(backend.requests) == 20)
        assert time.monotonic() - started < 5
        health = http.get("/readyz")
        assert health.json["status"] == "degraded"
        assert f"nothing is sent on to http://127.0.0.1:{away}/otlp" in health.json["degraded"][0]
        assert metric(http, f"farebox_tee_pending_requests{name}") == 20
        assert metric(http, f"farebox_tee_pending_bytes{name}") > sum(map(len, bodies))
        child.kill()

        with Pretended(port=away) as back:
            again = Child(tmp_path, **teed(away, backend))
            http = again.started()
            wait_for(lambda: metric(http, f"farebox_tee_sent_requests_total{name}") == 20)
            assert metric(http, f"farebox_tee_pending_bytes{name}") == 0
            assert again.terminate() == 0

    assert [request.body for request in back.requests] == bodies
    assert len(backend.requests) == 20
    assert len(rows(sqlite_engine, "span_id")) == 20


def test_what_a_backend_refuses_is_dropped_and_what_it_cannot_take_now_is_sent_again(
    tmp_path: Path, sqlite_url: str
) -> None:
    answers: Iterator[Said] = iter([400, 500, (503, {"retry-after": "1"}), 401])
    with Pretended(lambda _: next(answers, 202)) as backend:
        child = Child(tmp_path, **teed(backend))
        http = child.started()
        bodies = [calls([number]) for number in (1, 2)]
        for body in bodies:
            assert http.post(body).status == 200
        destination = f'destination="http://127.0.0.1:{backend.port}/otlp"'
        wait_for(lambda: metric(http, f"farebox_tee_sent_requests_total{{{destination}}}") == 1)
        assert metric(http, f'farebox_tee_dropped_requests_total{{{destination},reason="refused"}}') == 1
        assert metric(http, f'farebox_tee_dropped_requests_total{{{destination},reason="overflow"}}') == 0
        assert child.terminate() == 0

    assert [request.body for request in backend.requests] == [bodies[0], *[bodies[1]] * 4]
    assert backend.requests[3].at_s - backend.requests[2].at_s >= 1.0


def test_prompts_stand_in_the_tee_s_file_alone_and_nowhere_once_they_are_sent(tmp_path: Path, sqlite_url: str) -> None:
    away = free_port()
    child = Child(tmp_path, FAREBOX_ERROR_MESSAGES="off", FAREBOX_LOG_LEVEL="debug", **teed(away))
    http = child.started()
    assert http.post(marked_span()).status == 200
    assert http.post(foreign_dialects()).status == 200
    assert http.post(log_records(), path="/v1/logs").status == 200
    pending = f'farebox_tee_pending_requests{{destination="http://127.0.0.1:{away}/otlp"}}'
    wait_for(lambda: metric(http, pending) == 3)
    pages = [http.get(path).body for path in ("/readyz", "/metrics")]
    while_waiting = files_with_marker(tmp_path)
    child.process.terminate()
    _, out, error = child.end()
    with Pretended(port=away) as backend:
        again = Child(tmp_path, **teed(away))
        http = again.started()
        wait_for(lambda: metric(http, pending) == 0)
        assert again.terminate() == 0

    assert while_waiting
    assert while_waiting <= {"spool/tee.db", "spool/tee.db-wal"}
    assert files_with_marker(tmp_path) == set()
    assert len(backend.requests) == 3
    assert MARKER not in out + error
    assert not any(MARKER.encode() in page for page in pages)


def files_with_marker(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]
    return {str(path.relative_to(folder)) for path in files}


def test_a_collector_does_not_send_to_itself(tmp_path: Path, sqlite_url: str) -> None:
    port = free_port()
    code, _, error = Child(tmp_path, FAREBOX_HTTP_LISTEN=f"127.0.0.1:{port}", **teed(port)).end()

    assert code == 2
    assert error.endswith(
        f"FAREBOX_TEE_ENDPOINTS: http://127.0.0.1:{port}/otlp is the address of this process itself\n"
    )


def test_without_endpoints_there_is_no_file(tmp_path: Path, sqlite_url: str) -> None:
    child = Child(tmp_path)
    http = child.started()
    assert http.post(protobuf(Emitted(1, CALL))).status == 200
    assert child.terminate() == 0

    assert not (tmp_path / "spool" / "tee.db").exists()


@pytest.mark.parametrize(
    ("endpoints", "headers", "said"),
    [
        ("ftp://x", "", "FAREBOX_TEE_ENDPOINTS: expected a base URL such as http://gateway:4318, got 'ftp://x'"),
        ("http://a,http://a", "", "FAREBOX_TEE_ENDPOINTS: expected each endpoint once, got 'http://a,http://a'"),
        (
            "http://a/v1/traces",
            "",
            "FAREBOX_TEE_ENDPOINTS: expected a base URL, to which /v1/traces is added, got 'http://a/v1/traces'",
        ),
        (
            "http://a,http://b",
            "api-key=secret",
            "FAREBOX_TEE_HEADERS: expected one group of headers for each of FAREBOX_TEE_ENDPOINTS, separated by ';' "
            "(a group may be empty): 2 endpoints, 1 groups",
        ),
        (
            "http://a",
            "secret",
            "FAREBOX_TEE_HEADERS: expected NAME=VALUE, several separated by ',', values percent-encoded where needed",
        ),
        ("http://a", "k=secret%0d%0ax", "FAREBOX_TEE_HEADERS: expected values of printable ASCII"),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_shown(tmp_path: Path, endpoints: str, headers: str, said: str) -> None:
    code, _, error = Child(tmp_path, FAREBOX_TEE_ENDPOINTS=endpoints, FAREBOX_TEE_HEADERS=headers).end()

    assert (code, error) == (2, f"farebox collector: {said}\n")


def test_what_waits_for_a_slow_disk_is_bounded_and_counted(tmp_path: Path) -> None:
    file = TeeFile(tmp_path, ["http://127.0.0.1:1"], 2**30)
    tee = Tee(file, [TeeDestination(Endpoint("127.0.0.1", 1))], max_age_s=3600)
    disk = sqlite3.connect(tmp_path / "tee.db", isolation_level=None)
    disk.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        tee.keep(Original("traces", bytes(MAX_QUEUED_BYTES // 2 + 1), PROTOBUF))
    disk.execute("ROLLBACK")
    disk.close()
    tee.close()

    registry = CollectorRegistry()
    again = Tee(
        TeeFile(tmp_path, ["http://127.0.0.1:1"], 2**30), [TeeDestination(Endpoint("127.0.0.1", 1))], max_age_s=3600
    )
    registry.register(again)
    pending = registry.get_sample_value("farebox_tee_pending_requests", {"destination": "http://127.0.0.1:1"})
    again.close()

    assert pending == 1
    assert tee.lost == 2

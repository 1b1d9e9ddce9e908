from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.collector.emitting import Emitted, calls, json_request, protobuf
from tests.collector.receiver_cases import BOMB, CASES, Case
from tests.collector.running import JSON, PROTOBUF, Running, config_for, running, wait_for


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector with small limits, shared by all tests that only look at its answers."""
    folder = tmp_path_factory.mktemp("small")
    config = config_for(folder, max_body_bytes=2 * 2**20, body_timeout_s=1.0, header_timeout_s=1.0)
    with running(config) as started:
        yield started


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.point)
def test_an_odd_request_gets_the_answer_of_the_checklist_and_the_next_good_one_succeeds(
    small: Running, case: Case
) -> None:
    answer = small.http.post(case.body, case.content_type, case.path, **case.headers)

    assert answer.status == case.status
    if answer.status >= 400:
        wants_protobuf = case.content_type == PROTOBUF and case.status != 404
        assert answer.headers["content-type"] == (PROTOBUF if wants_protobuf else JSON)
        message = Status.FromString(answer.body).message if wants_protobuf else answer.json["message"]
        assert message
        assert len(message) < 2100
        assert "retry-after" not in answer.headers
    assert small.http.post(calls([77])).status == 200
    small.wait_until_booked()


@pytest.mark.parametrize("body", [b"garbage", BOMB], ids=["garbage", "bomb"])
@pytest.mark.parametrize("key", [None, "Bearer fbx_wrong", "Basic abc"])
def test_the_key_is_looked_at_before_the_body(tmp_path: Path, sqlite_url: str, body: bytes, key: str | None) -> None:
    headers = {"content-encoding": "gzip"} | ({} if key is None else {"authorization": key})
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        answer = collector.http.post(body, **headers)

    assert answer.status == 401
    assert Status.FromString(answer.body).code == 16
    assert answer.headers["www-authenticate"] == "Bearer"


def test_full_success_leaves_partial_success_unset(collector: Running) -> None:
    in_protobuf = collector.http.post(calls([1]))
    in_json = collector.http.post(json_request(Emitted(2)), JSON)

    assert (in_protobuf.status, in_protobuf.body, in_protobuf.headers["content-type"]) == (200, b"", PROTOBUF)
    assert (in_json.status, in_json.json, in_json.headers["content-type"]) == (200, {}, JSON)


def test_rejected_spans_are_counted_exactly_and_explained(collector: Running) -> None:
    request = ExportTraceServiceRequest.FromString(calls([1, 2, 3]))
    request.resource_spans[0].scope_spans[1].spans[0].span_id = b""
    request.resource_spans[0].scope_spans[2].spans[0].end_time_unix_nano = 1

    answer = collector.http.post(request.SerializeToString())

    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert (answer.status, partial.rejected_spans) == (200, 2)
    assert "1 bad_span_id" in partial.error_message
    assert "1 clock_skew" in partial.error_message
    collector.wait_until_booked()
    assert collector.counters()["rows"] == 1
    assert collector.counters()["quarantined"] == 2


def test_rejected_spans_are_counted_in_json_too(collector: Running) -> None:
    body = json_request(Emitted(1), Emitted(2)).replace((2).to_bytes(8, "big").hex().encode(), b"AAAAAAAAAAI=")

    answer = collector.http.post(body, JSON)

    assert answer.json["partialSuccess"]["rejectedSpans"] == "1"
    assert answer.json["partialSuccess"]["errorMessage"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_not_allowed(collector: Running, method: str) -> None:
    answer = collector.http.request(method, "/v1/traces", None, {})

    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_a_chunked_body_is_read(collector: Running) -> None:
    body = calls([1])

    answer = collector.http.post(iter([body[:10], body[10:]]))

    assert answer.status == 200
    collector.wait_until_booked()
    assert collector.counters()["rows"] == 1


def test_a_chunked_body_beyond_the_limit_is_too_large(small: Running) -> None:
    answer = small.http.post(iter([bytes(2**20)] * 3))

    assert answer.status == 413


def test_a_connection_is_kept_alive_also_after_an_error(collector: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", collector.http.port, timeout=10)
    statuses = []
    for body in (calls([1]), b"\xff\xff", calls([2])):
        connection.request("POST", "/v1/traces", body, {"content-type": PROTOBUF})
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
        first_socket = connection.sock
    assert statuses == [200, 400, 200]
    assert connection.sock is first_socket
    connection.close()


def test_parallel_connections_are_all_served(collector: Running) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda number=number: statuses.append(collector.http.post(calls([number])).status))
        for number in range(1, 33)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert statuses == [200] * 32
    collector.wait_until_booked()
    assert collector.counters()["rows"] == 32


def test_stalled_uploads_hold_up_nobody_and_end(small: Running) -> None:
    head = f"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: 100\r\n\r\n12345"
    stalled = [socket.create_connection(("127.0.0.1", small.http.port), timeout=10) for _ in range(20)]
    for connection in stalled:
        connection.sendall(head.encode())

    started = time.monotonic()
    assert small.http.post(calls([1])).status == 200
    assert time.monotonic() - started < 1

    assert stalled[0].recv(1000).startswith(b"HTTP/1.1 408 ")
    for connection in stalled:
        connection.close()


def test_headers_that_never_end_are_cut_off(small: Running) -> None:
    started = time.monotonic()
    connection = socket.create_connection(("127.0.0.1", small.http.port), timeout=10)
    connection.sendall(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n")

    assert connection.recv(100) == b""
    assert 0.5 < time.monotonic() - started < 5
    connection.close()


def test_headers_without_end_do_not_fill_the_memory(small: Running) -> None:
    connection = socket.create_connection(("127.0.0.1", small.http.port), timeout=10)
    connection.sendall(b"POST /v1/traces HTTP/1.1\r\nx: " + b"y" * 100_000)

    assert connection.recv(100).startswith(b"HTTP/1.1 431 ")
    connection.close()


def test_an_upload_that_was_refused_is_not_read_for_ever(small: Running) -> None:
    connection = socket.create_connection(("127.0.0.1", small.http.port), timeout=10)
    head = f"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {2**40}\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")

    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        send_mebibytes(connection, 200)
    connection.close()


@pytest.mark.parametrize("later", [b"1", b"\r\n"], ids=["a byte of a refused upload", "an empty line"])
def test_who_says_something_and_then_nothing_is_hung_up_on(small: Running, later: bytes) -> None:
    head = b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (0 if later == b"\r\n" else 100)
    with socket.create_connection(("127.0.0.1", small.http.port), timeout=10) as connection:
        connection.sendall(head)
        assert answer_on(connection).startswith(b"HTTP/1.1 404 ")

        started = time.monotonic()
        connection.sendall(later)
        assert connection.recv(1000) == b""
        assert time.monotonic() - started < 5


def test_a_refused_upload_may_go_on_and_the_next_request_is_answered(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.http.port), timeout=10) as connection:
        connection.sendall(b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
        assert answer_on(connection).startswith(b"HTTP/1.1 404 ")
        time.sleep(0.5)
        connection.sendall(b"67890")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer_on(connection).startswith(b"HTTP/1.1 200 ")
        time.sleep(1.2)  # longer than an upload that goes on may take, which is over
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer_on(connection).startswith(b"HTTP/1.1 200 ")


def test_who_reads_no_answer_is_hung_up_on(small: Running) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", small.http.port))
        connection.settimeout(5)
        asked = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 30_000

        with pytest.raises(OSError, match=r"reset|Broken pipe"):  # not a timeout
            send_mebibytes(connection, 100, asked)
    assert small.http.get("/healthz").status == 200


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_request_that_does_not_say_how_long_it_is_is_no_success(small: Running, version: bytes) -> None:
    head = b"POST /v1/traces HTTP/%b\r\nhost: x\r\ncontent-type: %b\r\n\r\n" % (version, PROTOBUF.encode())
    with socket.create_connection(("127.0.0.1", small.http.port), timeout=10) as connection:
        connection.sendall(head)
        answer = answer_on(connection)

    assert answer.startswith(b"HTTP/1.1 411 ")
    assert b"send Content-Length" in answer


def test_many_gzip_files_in_a_row_are_named(small: Running) -> None:
    answer = small.http.post(b"".join(gzip.compress(b"") for _ in range(65)), content_encoding="gzip")

    assert (answer.status, Status.FromString(answer.body).message) == (
        400,
        "the body is more than 64 gzip files in a row; send one",
    )


def answer_on(connection: socket.socket) -> bytes:
    """Read the next answer with its body."""
    answer = b""
    while (found := re.search(rb"content-length: (\d+)\r\n(?:.+\r\n)*\r\n", answer)) is None or len(answer) < (
        found.end() + int(found[1])
    ):
        received = connection.recv(1000)
        assert received, answer
        answer += received
    return answer


def send_mebibytes(connection: socket.socket, count: int, mebibyte: bytes = bytes(2**20)) -> None:
    for _ in range(count):
        connection.sendall(mebibyte)


def test_the_answer_to_a_full_spool_is_a_retry_hint(tmp_path: Path, sqlite_url: str) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, spool_max_bytes=100)) as collector:
        answer = collector.http.post(calls([1]))
        metrics = collector.http.get("/metrics").body.decode()

    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert Status.FromString(answer.body).code == 14
    assert 'otelcol_exporter_enqueue_failed_spans_total{exporter="farebox"} 1.0' in metrics
    assert 'otelcol_receiver_refused_spans_total{receiver="otlp",transport="http"} 1.0' in metrics


def test_too_many_bytes_in_flight_are_a_retry_hint(tmp_path: Path, sqlite_url: str) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url)) as collector:
        answers = []
        bomb = gzip.compress(os.urandom(2**20) + bytes(60 * 2**20), 1)

        def send() -> None:
            answers.append(collector.http.post(bomb, content_encoding="gzip").status)

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert set(answers) <= {400, 503}
        assert 503 in answers
        assert collector.http.post(calls([1])).status == 200


@pytest.mark.parametrize(("unfolded_bytes", "status"), [(2**20, 400), (2**20 + 2**19, 413)])
def test_a_body_that_unfolds_too_far_is_too_large_below_the_size_limit_too(
    small: Running, unfolded_bytes: int, status: int
) -> None:
    answer = small.http.post(gzip.compress(bytes(unfolded_bytes), 9), content_encoding="gzip")

    assert answer.status == status
    assert ("200 times" in Status.FromString(answer.body).message) is (status == 413)
    assert "retry-after" not in answer.headers


def test_an_upload_that_outlasts_the_end_is_unavailable_with_a_hint(tmp_path: Path, sqlite_url: str) -> None:
    collector = Running(config_for(tmp_path, database_url=sqlite_url, grace_s=1.0))
    with socket.create_connection(("127.0.0.1", collector.http.port), timeout=20) as upload:
        head = f"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: 100\r\n\r\n"
        upload.sendall(head.encode() + b"ab")
        assert collector.http.post(calls([1])).status == 200  # so the upload has arrived too
        started = time.monotonic()
        collector.stop()
        took_s = time.monotonic() - started
        answer = http.client.HTTPResponse(upload)
        answer.begin()

    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    assert took_s < 5


def exchanged(collector: Running, *pieces: bytes) -> http.client.HTTPResponse:
    """Write a request as it stands, in pieces, and read the answer."""
    with socket.create_connection(("127.0.0.1", collector.http.port), timeout=20) as opened:
        for piece in pieces:
            opened.sendall(piece)
            time.sleep(0.05)
        answer = http.client.HTTPResponse(opened)
        answer.begin()
        answer.read()
    return answer


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_wish_for_http2_is_ignored_and_the_body_read(collector: Running, is_chunked: bool) -> None:
    """Java's HttpClient, and so OpenTelemetry's JdkHttpSender, wishes for it on each new connection in clear text."""
    body = calls([1, 2])
    head = (
        "POST /v1/traces HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: localhost\r\n"
        "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAABgAGAAA\r\nUpgrade: h2c\r\n"
        f"Content-Type: {PROTOBUF}\r\n"
    ).encode()
    if is_chunked:
        sent = b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body)
    else:
        sent = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    whole = exchanged(collector, sent)
    in_pieces = exchanged(collector, sent[:30], sent[30:150], sent[150:-40], sent[-40:])

    assert (whole.status, in_pieces.status) == (200, 200)
    collector.wait_until_booked()
    assert {name: collector.counters().get(name) for name in ("accepted", "rows", "duplicates")} == {
        "accepted": 4, "rows": 2, "duplicates": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),  # the greeting of TLS
        (b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n{}", 400),
        (b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}", 400),
        (b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 200),
    ],
    ids=["tls", "length", "smuggling", "proxy", "websocket"],
)
def test_what_is_no_request_is_told_so_in_a_status(collector: Running, sent: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", collector.http.port), timeout=20) as opened:
        opened.sendall(sent)
        answer = http.client.HTTPResponse(opened)
        answer.begin()
        said = json.loads(answer.read())

    assert answer.status == status
    assert status == 200 or (said["code"] == 3 and said["message"])
    assert collector.http.post(calls([1])).status == 200


def test_a_head_says_what_a_get_would(collector: Running) -> None:
    head = collector.http.request("HEAD", "/healthz", None, {})

    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "15")


def test_too_many_connections_are_a_retry_hint(tmp_path: Path, sqlite_url: str) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, max_connections=2)) as collector:
        held = [socket.create_connection(("127.0.0.1", collector.http.port), timeout=20) for _ in range(2)]
        wait_for(lambda: collector.http.get("/healthz").status == 503)
        refused = collector.http.get("/healthz")
        for connection in held:
            connection.close()
        wait_for(lambda: collector.http.get("/healthz").status == 200)

        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        assert refused.json == {"code": 14, "message": "too many connections; send the request again"}
        assert collector.http.post(calls([1])).status == 200


def test_where_the_system_allows_few_open_files_fewer_connections_are_taken() -> None:
    program = (
        "import logging, resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, {hard}));"
        "from farebox_collector.reception import _affordable_connections as affordable;"
        "logging.basicConfig(); print(affordable(1000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    said = [
        subprocess.run([sys.executable, "-c", program.format(hard=hard)], check=True, capture_output=True, text=True)
        for hard in (1024, 4096)
    ]

    assert [one.stdout.split() for one in said] == [["384", "1024"], ["1000", "2256"]]
    assert "each port takes 384 connections at once instead of 1000" in said[0].stderr
    assert said[1].stderr == ""


def test_health_readiness_and_metrics_need_no_key(tmp_path: Path, sqlite_url: str) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        alive, ready, metrics = (collector.http.get(path) for path in ("/healthz", "/readyz", "/metrics"))

    assert (alive.status, alive.json) == (200, {"status": "ok"})
    assert (ready.status, ready.json["status"]) == (200, "ready")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"farebox_conservation_difference 0.0" in metrics.body


def test_metrics_carry_otelcol_names(collector: Running) -> None:
    collector.http.post(calls([1, 2]))
    collector.wait_until_booked()
    wait_for(lambda: b'farebox_usage_rows_total{status="billed"} 2.0' in collector.http.get("/metrics").body)

    metrics = collector.http.get("/metrics").body.decode()

    assert 'otelcol_receiver_accepted_spans_total{receiver="otlp",transport="http"} 2.0' in metrics
    assert 'otelcol_exporter_sent_spans_total{exporter="farebox"} 2.0' in metrics
    assert "otelcol_exporter_queue_size 0.0" in metrics
    assert "farebox_booked_spans_total 2.0" in metrics


def test_logs_and_metrics_are_counted_and_dropped(collector: Running) -> None:
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{}, {}]}]}]}).encode()

    assert collector.http.post(body, JSON, "/v1/logs").json == {}
    assert b'farebox_dropped_records_total{signal="logs",transport="http"} 2.0' in collector.http.get("/metrics").body


def test_spans_of_others_are_counted_and_not_kept(collector: Running) -> None:
    collector.http.post(protobuf(Emitted(1, {"http.method": "GET"}), Emitted(2)))
    collector.wait_until_booked()

    assert collector.counters() | {"quarantine_dropped": 0} == {
        "accepted": 2, "not_genai": 1, "quarantined": 0, "rows": 1, "duplicates": 0, "replayed": 0,
        "quarantine_dropped": 0,
    }  # fmt: skip

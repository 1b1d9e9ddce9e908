"""`farebox forward` as its users run it: its own process, beside a real gateway or one that says what it is told."""

from __future__ import annotations

import gzip
import json
import random
import sqlite3
import stat
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import Engine, create_engine

from farebox_collector.commands import forward
from farebox_collector.spool import Spool
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.keys import revoke_key
from farebox_ledger.store.scope import AllOrganizations
from tests.collector.chaos.accounts import audit
from tests.collector.chaos.sending import Senders
from tests.collector.emitting import Emitted, calls, protobuf
from tests.collector.pretending import Pretended, Request
from tests.collector.running import Forward, Http, Running, config_for, free_port, metric, rows, running, wait_for
from tests.collector.test_auth import make_key
from tests.collector.test_grpc import EXPORT

KEY = "fbx_abcdefgh_a-secret-that-nobody-may-read"


def gateway(folder: Path, url: str, **settings: Any) -> Any:
    return running(config_for(folder / "gateway", database_url=url, **settings))


def forwarded(http: Http) -> int:
    return int(metric(http, "farebox_forwarded_spans_total"))


def span_ids(request: Request) -> set[int]:
    """The numbers of the spans in a request to the gateway."""
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    parsed = ExportTraceServiceRequest.FromString(body)
    return {
        int.from_bytes(span.span_id)
        for resource in parsed.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def test_it_loads_no_database_and_no_api(tmp_path: Path, sqlite_url: str) -> None:
    watch = tmp_path / "sitecustomize.py"
    loaded = tmp_path / "loaded"
    watch.write_text(
        "import atexit, pathlib, sys\n"
        f"atexit.register(lambda: pathlib.Path({str(loaded)!r}).write_text(' '.join(sorted(sys.modules))))\n"
    )
    with gateway(tmp_path, sqlite_url) as at:
        forwarder = Forward(tmp_path, at.http.port, PYTHONPATH=str(tmp_path))
        http = forwarder.started()
        assert http.post(calls([1, 2])).status == 200
        wait_for(lambda: forwarded(http) == 2)
        assert forwarder.terminate() == 0

    modules = set(loaded.read_text().split())
    assert {"farebox_collector.forwarder", "grpc", "uvicorn"} <= modules
    heavy = {"sqlalchemy", "alembic", "litestar", "psycopg", "farebox_ledger.store", "farebox_ledger.catalog"}
    assert modules & heavy == set()


def test_the_sender_s_key_is_passed_on_and_the_gateway_judges_it(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    acme_id, acme = make_key(sqlite_engine, "acme")
    zenith_id, zenith = make_key(sqlite_engine, "zenith")
    _, reader = make_key(sqlite_engine, "reader", "usage:read")
    with gateway(tmp_path, sqlite_url, default_org=None) as at:
        forwarder = Forward(tmp_path, at.http.port)
        http = forwarder.started()

        assert http.post(calls([1]), authorization=f"Bearer {acme}").status == 200
        assert http.post(calls([2]), x_api_key=zenith).status == 200
        assert http.post(calls([3]), authorization="Bearer fbx_wrong").status == 401
        assert http.post(calls([4]), authorization=f"Bearer {reader}").status == 403
        assert http.post(calls([5])).status == 401
        with grpc.insecure_channel(forwarder.grpc_address) as opened:
            channel: Any = opened  # the stubs ask for what has defaults
            send = channel.unary_unary(EXPORT)
            assert send(calls([6]), metadata=(("authorization", f"Bearer {acme}"),), timeout=20) == b""
            with pytest.raises(grpc.RpcError) as caught:
                send(calls([7]), metadata=(("x-api-key", "fbx_wrong"),), timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        wait_for(lambda: forwarded(http) == 3)
        at.wait_until_booked()
        assert forwarder.terminate() == 0

    assert [(int.from_bytes(span), key) for span, key in rows(sqlite_engine, "span_id", "key_id")] == [
        (1, acme_id), (2, zenith_id), (6, acme_id)
    ]  # fmt: skip


def test_a_key_of_the_forwarder_s_own_serves_senders_that_have_none(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    key_id, key = make_key(sqlite_engine, "acme")
    with gateway(tmp_path, sqlite_url, default_org=None) as at:
        forwarder = Forward(tmp_path, at.http.port, FAREBOX_INGEST_KEY=key)
        http = forwarder.started()
        assert http.post(calls([1])).status == 200
        wait_for(lambda: forwarded(http) == 1)
        at.wait_until_booked()
        assert forwarder.terminate() == 0

    assert rows(sqlite_engine, "key_id") == [(key_id,)]


def test_beyond_loopback_each_sender_needs_a_key(tmp_path: Path) -> None:
    with Pretended() as at:
        # 127.1 is loopback for the system, and a name like any other for the settings.
        forwarder = Forward(tmp_path, at.port, FAREBOX_HTTP_LISTEN="127.1:0", FAREBOX_INGEST_KEY=KEY)
        assert forwarder.process.stdout is not None
        line = forwarder.process.stdout.readline()
        http = Http(int(line.split("http 127.1:")[1].split(",")[0]))
        assert http.post(calls([1])).status == 401
        assert http.post(calls([1]), x_api_key=KEY).status == 200
        assert forwarder.terminate() == 0


def test_while_the_gateway_is_away_everything_is_taken_and_comes_later_as_it_came(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    _, key = make_key(sqlite_engine, "acme")
    port = free_port()
    forwarder = Forward(tmp_path, port)
    http = forwarder.started()
    before_us = time.time_ns() // 1000
    for number in range(1, 6):
        assert http.post(calls([number]), authorization=f"Bearer {key}").status == 200
    after_us = time.time_ns() // 1000
    wait_for(lambda: http.get("/readyz").json["status"] == "degraded")
    health = http.get("/readyz")
    assert health.status == 200
    assert f"the gateway http://127.0.0.1:{port} does not answer" in health.json["degraded"][0]
    assert health.json["pending_spans"] == 5
    time.sleep(0.1)
    listen = config_for(tmp_path).http_listen
    with gateway(tmp_path, sqlite_url, default_org=None, http_listen=type(listen)("127.0.0.1", port)) as at:
        wait_for(lambda: forwarded(http) == 5)
        at.wait_until_booked()
    assert metric(http, "farebox_conservation_difference") == 0
    assert forwarder.terminate() == 0

    found = rows(sqlite_engine, "received_at_us")
    assert len(found) == 5
    assert all(before_us <= received <= after_us for (received,) in found)


def test_killed_forwarders_lose_and_double_nothing(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    chance = random.Random(20261121)
    port, grpc_port = free_port(), free_port()
    where = {"FAREBOX_HTTP_LISTEN": f"127.0.0.1:{port}", "FAREBOX_GRPC_LISTEN": f"127.0.0.1:{grpc_port}"}
    with gateway(tmp_path, sqlite_url) as at:
        with Senders(port, f"127.0.0.1:{grpc_port}", seed=7, spans_per_s=300) as senders:
            for _ in range(5):
                forwarder = Forward(tmp_path, at.http.port, **where)
                forwarder.started()
                time.sleep(chance.uniform(0.3, 1.0))
                forwarder.kill()
            forwarder = Forward(tmp_path, at.http.port, **where)
            http = forwarder.started()
        wait_for(lambda: http.get("/readyz").json["pending_spans"] == 0)
        assert metric(http, "farebox_conservation_difference") == 0
        assert forwarder.terminate() == 0
        at.wait_until_booked()

    assert len(senders.told.acknowledged) > 100
    audit(sqlite_engine, senders.told.acknowledged)


def test_a_key_that_is_revoked_later_loses_nothing_and_holds_up_nobody(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    revoked_id, revoked = make_key(sqlite_engine, "acme")
    _, good = make_key(sqlite_engine, "zenith")
    with gateway(tmp_path, sqlite_url, default_org=None, keys_refresh_s=0.1) as at:
        forwarder = Forward(tmp_path, at.http.port)
        http = forwarder.started()
        assert http.post(calls([1]), x_api_key=revoked).status == 200
        wait_for(lambda: forwarded(http) == 1)
        with transaction(sqlite_engine, AllOrganizations(), write=True) as connection:
            revoke_key(connection, AllOrganizations(), revoked_id)
        wait_for(lambda: at.http.post(b"", x_api_key=revoked).status == 401)

        assert http.post(calls([2, 3]), x_api_key=revoked).status == 200  # it was good when it was asked for
        assert http.post(calls([4]), x_api_key=good).status == 200
        wait_for(lambda: forwarded(http) == 2)
        wait_for(lambda: metric(http, "farebox_forward_kept_spans") == 2)
        health = http.get("/readyz")
        assert health.status == 200
        assert health.json["degraded"] == [
            "2 spans are kept: the gateway refuses the keys of 1 senders; "
            "let it take them again, or delete them from the spool folder"
        ]
        assert http.post(calls([5]), x_api_key=revoked).status == 401
        assert metric(http, "farebox_conservation_difference") == 0
        at.wait_until_booked()
        assert forwarder.terminate() == 0

    assert [int.from_bytes(span) for (span,) in rows(sqlite_engine, "span_id")] == [1, 4]
    spool = Spool(tmp_path / "spool" / "forward", 2**30)
    assert spool.snapshot().pending_spans == 2
    assert spool.snapshot().conservation_difference == 0
    spool.close()


def test_spans_of_a_refused_key_are_sent_when_it_is_taken_again(tmp_path: Path) -> None:
    refused = True

    def answer(request: Request) -> int:
        return 401 if refused and request.body and request.headers["authorization"] == f"Bearer {KEY}" else 200

    with Pretended(answer) as at:
        forwarder = Forward(tmp_path, at.port)
        http = forwarder.started()
        assert http.post(calls([1]), x_api_key=KEY).status == 200
        assert http.post(calls([2]), x_api_key="another").status == 200
        wait_for(lambda: metric(http, "farebox_forward_kept_spans") == 1 and forwarded(http) == 1)
        assert forwarder.terminate() == 0
        refused = False
        again = Forward(tmp_path, at.port)
        http = again.started()
        wait_for(lambda: forwarded(http) == 2)
        assert metric(http, "farebox_forward_kept_spans") == 0
        assert http.get("/readyz").json["status"] == "ready"
        assert metric(http, "farebox_conservation_difference") == 0
        assert again.terminate() == 0

    assert span_ids(at.spans_requests[-1]) == {1}


def test_a_span_that_the_gateway_cannot_read_is_set_aside_alone(tmp_path: Path) -> None:
    def answer(request: Request) -> int:
        return 400 if request.body and 5 in span_ids(request) else 200

    with Pretended(answer) as at:
        forwarder = Forward(tmp_path, at.port)
        http = forwarder.started()
        assert http.post(calls(range(1, 11))).status == 200
        assert http.post(calls([11])).status == 200
        wait_for(lambda: forwarded(http) == 10)
        assert metric(http, "farebox_quarantined_spans_total") == 1
        assert metric(http, 'farebox_rejected_spans_total{reason="refused_by_gateway"}') == 1
        assert metric(http, "farebox_conservation_difference") == 0
        assert http.get("/readyz").json["pending_spans"] == 0
        assert forwarder.terminate() == 0

    spool = sqlite3.connect(tmp_path / "spool" / "forward" / "spool.db")
    assert spool.execute("SELECT reason, span IS NOT NULL FROM quarantine").fetchall() == [("refused_by_gateway", 1)]
    spool.close()


def test_what_was_set_aside_is_listed_beside_the_forwarder_and_sent_again_when_the_gateway_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAREBOX_SPOOL_DIR", str(tmp_path / "spool"))
    late = Emitted(6, end_ns=time.time_ns() + 30 * 3600 * 10**9)
    with Pretended(lambda request: 400 if request.body and 5 in span_ids(request) else 200) as at:
        forwarder = Forward(tmp_path, at.port)
        http = forwarder.started()
        assert http.post(calls([4, 5]), x_api_key=KEY).status == 200
        assert http.post(protobuf(late), x_api_key=KEY).status == 200  # a partial success
        wait_for(lambda: metric(http, "farebox_quarantine_rows") == 2)

        assert forward(["--list-quarantine", "--json"]) == 0
        said = capsys.readouterr().out
        assert KEY not in said
        refused, rejected = sorted(json.loads(said), key=lambda one: one["span_id"])
        assert (refused["reason"], refused["span_id"], refused["is_sent_again"]) == (
            "refused_by_gateway", "0000000000000005", True
        )  # fmt: skip
        assert (rejected["reason"], rejected["is_sent_again"]) == ("clock_skew", False)
        assert refused["key_prefix"] == rejected["key_prefix"] == "fbx_abcdefgh"
        assert refused["attributes"]["gen_ai.request.model"] == "gpt-4o-mini"
        assert forward(["--retry-quarantine"]) == 1
        assert "belongs to another running collector" in capsys.readouterr().err
        assert forwarder.terminate() == 0

        assert forward(["--retry-quarantine", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"spans": 1}
        at.answer = lambda _: 200
        forwarder = Forward(tmp_path, at.port)
        http = forwarder.started()
        wait_for(lambda: forwarded(http) == 2)
        assert metric(http, "farebox_quarantine_rows") == 1
        assert metric(http, "farebox_conservation_difference") == 0
        assert forwarder.terminate() == 0
        again = at.spans_requests[-1]

    assert (span_ids(again), again.headers["authorization"]) == ({5}, f"Bearer {KEY}")
    assert forward(["--list-quarantine"]) == 0
    assert "clock_skew  fbx_abcdefgh" in capsys.readouterr().out


def test_without_a_spool_there_is_no_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAREBOX_SPOOL_DIR", str(tmp_path))

    assert forward(["--list-quarantine"]) == 2
    assert capsys.readouterr().err == (
        f"farebox forward: FAREBOX_SPOOL_DIR: no forwarder has had its spool in {tmp_path / 'forward'}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_for_the_gateway_is_sent_in_parts(tmp_path: Path) -> None:
    def answer(request: Request) -> int:
        return 413 if request.body and len(span_ids(request)) > 30 else 200

    with Pretended(answer) as at:
        forwarder = Forward(tmp_path, at.port)
        http = forwarder.started()
        assert http.post(calls(range(1, 101))).status == 200
        wait_for(lambda: forwarded(http) == 100)
        assert metric(http, "farebox_quarantined_spans_total") == 0
        assert forwarder.terminate() == 0


@pytest.mark.parametrize("status", [404, 405, 429, 500, 502, 503, 504])
def test_an_answer_of_no_gateway_and_one_that_is_busy_are_waited_out(tmp_path: Path, status: int) -> None:
    answers = iter([200, status, status])

    with Pretended(lambda _: next(answers, 200)) as at:
        forwarder = Forward(tmp_path, at.port)
        http = forwarder.started()
        assert http.post(calls([1])).status == 200
        wait_for(lambda: forwarded(http) == 1)
        assert metric(http, 'otelcol_exporter_send_failed_spans_total{exporter="farebox"}') == 2
        assert forwarder.terminate() == 0

    assert [span_ids(request) for request in at.spans_requests] == [{1}, {1}, {1}]


def test_the_gateway_s_wish_to_be_left_alone_is_honored(tmp_path: Path) -> None:
    answers = iter([(200, {}), (503, {"retry-after": "2"})])

    with Pretended(lambda _: next(answers, 200)) as at:
        forwarder = Forward(tmp_path, at.port)
        http = forwarder.started()
        assert http.post(calls([1])).status == 200
        wait_for(lambda: forwarded(http) == 1)
        assert forwarder.terminate() == 0

    first, second = at.spans_requests
    assert 2.0 <= second.at_s - first.at_s < 4.0


def test_the_key_is_in_the_spool_alone_which_only_its_owner_reads(tmp_path: Path) -> None:
    with Pretended(lambda request: 503 if request.body else 200) as at:
        forwarder = Forward(tmp_path, at.port, FAREBOX_LOG_LEVEL="debug", FAREBOX_LOG_FORMAT="json")
        http = forwarder.started()
        assert http.post(calls([1]), x_api_key=KEY).status == 200
        wait_for(lambda: http.get("/readyz").json["status"] == "degraded")
        pages = [http.get(path).body for path in ("/readyz", "/metrics")]
        files = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
        forwarder.process.terminate()
        code, out, error = forwarder.end()

    assert code == 0
    assert KEY not in out + error
    assert not any(KEY.encode() in page for page in pages)
    folder = tmp_path / "spool" / "forward"
    assert files
    assert set(files) <= {folder / "spool.db", folder / "spool.db-wal"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())


def test_prompts_stay_on_this_side(tmp_path: Path) -> None:
    marker = "c4n4ry-7f3a9e"
    attributes = {"gen_ai.request.model": "gpt-4o", "gen_ai.input.messages": marker, "gen_ai.prompt": marker}

    with Pretended() as at:
        forwarder = Forward(tmp_path, at.port)
        http = forwarder.started()
        assert http.post(protobuf(Emitted(1, attributes, name=marker), resource={"host.name": marker})).status == 200
        wait_for(lambda: forwarded(http) == 1)
        files = [path for path in tmp_path.rglob("*") if path.is_file() and marker.encode() in path.read_bytes()]
        assert forwarder.terminate() == 0

    (request,) = at.spans_requests
    assert marker.encode() not in gzip.decompress(request.body)
    assert files == []


def test_a_signal_to_end_drains(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    with gateway(tmp_path, sqlite_url) as at:
        forwarder = Forward(tmp_path, at.http.port)
        http = forwarder.started()
        for number in range(1, 40):
            assert http.post(calls([number])).status == 200
        stopping = threading.Thread(target=forwarder.process.terminate)
        stopping.start()
        wait_for(lambda: http.get("/readyz").status == 503)
        with grpc.insecure_channel(forwarder.grpc_address) as opened:
            channel: Any = opened  # the stubs ask for what has defaults
            assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5) == b"\x08\x02"
        assert http.get("/healthz").status == 200
        assert forwarder.end()[0] == 0
        at.wait_until_booked()

    assert len(rows(sqlite_engine, "span_id")) == 39


def test_it_ends_in_time_while_the_gateway_is_away(tmp_path: Path) -> None:
    forwarder = Forward(tmp_path, free_port())
    http = forwarder.started()
    assert http.post(calls([1])).status == 200

    started = time.monotonic()
    forwarder.process.terminate()
    code, _, error = forwarder.end()
    assert code == 0
    assert time.monotonic() - started < 5
    assert f"1 spans wait in the spool {tmp_path / 'spool' / 'forward'} for the next start\n" in error


def test_without_a_gateway_it_does_not_start(tmp_path: Path) -> None:
    code, _, error = Forward(tmp_path, 1, FAREBOX_GATEWAY_ENDPOINT="").end()

    assert code == 2
    assert error == (
        "farebox forward: FAREBOX_GATEWAY_ENDPOINT: is not set: where is the gateway, such as http://gateway:4318?\n"
    )


def test_it_does_not_forward_to_itself(tmp_path: Path) -> None:
    port = free_port()
    code, _, error = Forward(tmp_path, port, FAREBOX_HTTP_LISTEN=f"127.0.0.1:{port}").end()

    assert code == 2
    assert error.endswith(f"FAREBOX_GATEWAY_ENDPOINT: http://127.0.0.1:{port} is the address of this process itself\n")


def test_two_forwarders_in_a_row_change_nothing(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    _, key = make_key(sqlite_engine, "acme")
    with gateway(tmp_path, sqlite_url, default_org=None) as at:
        second = Forward(tmp_path / "second", at.http.port)
        first = Forward(tmp_path / "first", second.started().port)
        http = first.started()
        before_us = time.time_ns() // 1000
        assert http.post(calls([1, 2]), x_api_key=key).status == 200
        after_us = time.time_ns() // 1000
        assert http.post(calls([3]), x_api_key="fbx_wrong").status == 401
        wait_for(lambda: forwarded(http) == 2)
        assert [first.terminate(), second.terminate()] == [0, 0]
        at.wait_until_booked()

    found = rows(sqlite_engine, "received_at_us")
    assert len(found) == 2
    assert all(before_us <= received <= after_us for (received,) in found)


def test_a_collector_beside_it_does_not_take_its_spans(tmp_path: Path, collector: Running) -> None:
    forwarder = Forward(tmp_path, collector.http.port)
    http = forwarder.started()
    assert http.post(calls([1])).status == 200
    wait_for(lambda: forwarded(http) == 1)
    assert forwarder.terminate() == 0
    collector.wait_until_booked()

    engine = create_engine(f"sqlite:///{tmp_path / 'farebox.db'}")
    assert len(rows(engine, "span_id")) == 1
    engine.dispose()

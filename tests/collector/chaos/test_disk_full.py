"""The disk fills up under a running collector, for its spool and for its books: refusals that can be repeated, no loss.

The disk is a limit on the size of the files that the process may write, set and lifted from outside: SQLite meets it in
the middle of a write, as it meets a full disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.collector.chaos.accounts import audit
from tests.collector.chaos.sending import Senders
from tests.collector.chaos.test_database_away import locked_file
from tests.collector.emitting import calls
from tests.collector.running import Child, Http, wait_for

if sys.platform == "win32":
    pytest.skip("Windows has no limit on the size of files", allow_module_level=True)
import resource

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process's files"),
]

TOO_MUCH = calls(range(2**62, 2**62 + 400))
"""More than the room that is left to a small request in any of these tests."""


def limit_files(child: Child, size: int) -> None:
    """Let no file of the process grow beyond so many bytes; -1 lifts the limit."""
    resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def metric(http: Http, name: str) -> float:
    lines = http.get("/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def test_a_full_disk_is_refused_and_counted_and_costs_nothing(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    child = Child(tmp_path)
    http = child.started()
    with Senders(http.port, child.grpc_address, seed=4) as senders:
        wait_for(lambda: len(senders.told.acknowledged) > 200)
        for _ in range(3):
            written = max(path.stat().st_size for path in (tmp_path / "spool").glob("spool.db*"))
            limit_files(child, written + 10_000)
            wait_for(lambda: http.get("/readyz").status == 503)
            refusal = http.post(TOO_MUCH)
            ready = http.get("/readyz").json
            limit_files(child, -1)
            assert (refusal.status, refusal.headers["retry-after"]) == (503, "2")
            assert ready["not_ready"] == ["the spool cannot be written"]
            wait_for(lambda: http.get("/readyz").status == 200)
            known = len(senders.told.acknowledged)
            wait_for(lambda known=known: len(senders.told.acknowledged) > known + 200)  # type: ignore[misc]
        assert metric(http, "otelcol_receiver_refused_spans_total") >= 3
        assert metric(http, "otelcol_exporter_enqueue_failed_spans_total") >= 3
    assert child.terminate() == 0

    assert senders.told.failed_tries >= 3
    audit(sqlite_engine, senders.told.acknowledged, tmp_path / "spool")


def test_a_kill_on_a_full_disk_costs_nothing(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    child = Child(tmp_path)
    http = child.started()
    addresses = {"FAREBOX_HTTP_LISTEN": f"127.0.0.1:{http.port}", "FAREBOX_GRPC_LISTEN": child.grpc_address}
    with Senders(http.port, child.grpc_address, seed=5) as senders:
        for _ in range(3):
            wait_for(lambda: http.get("/readyz").status == 200)
            written = max(path.stat().st_size for path in (tmp_path / "spool").glob("spool.db*"))
            limit_files(child, written + 10_000)
            wait_for(lambda: http.get("/readyz").status == 503)
            child.kill()
            child = Child(tmp_path, **addresses)
            child.started()
    assert child.terminate() == 0

    audit(sqlite_engine, senders.told.acknowledged, tmp_path / "spool")


def test_a_spool_at_its_limit_is_refused_and_counted_and_costs_nothing(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    child = Child(tmp_path, FAREBOX_SPOOL_MAX_BYTES="100000")
    http = child.started()
    with Senders(http.port, child.grpc_address, seed=7) as senders:
        wait_for(lambda: len(senders.told.acknowledged) > 100)
        with locked_file(tmp_path / "farebox.db"):
            wait_for(lambda: senders.told.failed_tries > 20)
            refusal = http.post(TOO_MUCH)
            ready = http.get("/readyz")
            refused = metric(http, "otelcol_receiver_refused_spans_total")
        assert (refusal.status, refusal.headers["retry-after"]) == (503, "2")
        assert ready.status == 200
        assert any("% full" in text for text in ready.json["degraded"])
        assert ready.json["pending_bytes"] <= 100_000
        assert refused > 20
        known = len(senders.told.acknowledged)
        wait_for(lambda: len(senders.told.acknowledged) > known + 200)
    assert child.terminate() == 0

    audit(sqlite_engine, senders.told.acknowledged, tmp_path / "spool")


def test_spans_wait_in_the_spool_while_the_disk_of_the_books_is_full(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    books = tmp_path / "farebox.db"
    child = Child(tmp_path)
    http = child.started()
    with Senders(http.port, child.grpc_address, seed=6, spans_per_s=300) as senders:
        wait_for(lambda: len(senders.told.acknowledged) > 200)
        # The books are by far the largest file: the limit that stops them leaves the spool room.
        log = books.with_name("farebox.db-wal")
        limit_files(child, max(books.stat().st_size, log.stat().st_size) + 4096)
        wait_for(lambda: http.get("/readyz").json["status"] == "degraded", 60)
        ready = http.get("/readyz")
        tries_while_full = senders.told.failed_tries
        limit_files(child, -1)
        wait_for(lambda: http.get("/readyz").json["status"] == "ready")
        assert ready.status == 200
        assert "nothing is booked" in ready.json["degraded"][0]
    assert child.terminate() == 0

    assert tries_while_full == 0
    audit(sqlite_engine, senders.told.acknowledged, tmp_path / "spool")

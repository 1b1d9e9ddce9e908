"""The database is locked, stopped, frozen or restarted for a while at 300 spans/s: senders notice nothing.

The acknowledgment waits for the spool alone, `/readyz` says degraded and stays 200, and what waited is booked once.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from farebox_ledger.store.engine import open_engine
from tests.collector.chaos.accounts import audit
from tests.collector.chaos.sending import Senders
from tests.collector.emitting import calls
from tests.collector.running import Child, Http, wait_for
from tests.databases import OwnServer, own_server

SPANS_PER_S = 300.0
AWAY_S = 8.0
LONGEST_ACK_S = 5.0  # exporters give up after ten; two cores are shared by whatever else runs here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def weather(
    folder: Path, url: str, engine: Engine, away: Callable[[], AbstractContextManager[object]], times: int = 1
) -> None:
    """Send steadily while the database goes away and comes back, then compare."""
    child = Child(folder, FAREBOX_DATABASE_URL=url)
    http = child.started()
    wait_for(lambda: pending(http) == 0 and http.get("/readyz").json["status"] == "ready")
    with Senders(http.port, child.grpc_address, seed=11, spans_per_s=SPANS_PER_S) as senders:
        time.sleep(1)
        for _ in range(times):
            with away():
                gone = time.monotonic()
                wait_for(lambda: http.get("/readyz").json["status"] == "degraded")
                time.sleep(max(0.0, gone + AWAY_S - time.monotonic()))
                ready = http.get("/readyz")
                waiting = pending(http)
            back = time.monotonic()
            wait_for(lambda: http.get("/readyz").json["status"] == "ready")
            assert ready.status == 200
            assert "nothing is booked" in ready.json["degraded"][0]
            assert waiting > SPANS_PER_S * AWAY_S / 4
            wait_for(lambda waiting=waiting: pending(http) < waiting / 4)  # type: ignore[misc]
            print(f"{waiting} spans waited, caught up after {time.monotonic() - back:.1f} s")
    assert child.terminate() == 0

    assert senders.told.failed_tries == 0
    assert senders.told.slowest_ack_s < LONGEST_ACK_S
    audit(engine, senders.told.acknowledged, folder / "spool")


def pending(http: Http) -> int:
    return int(http.get("/readyz").json["pending_spans"])


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    lock = sqlite3.connect(path, isolation_level=None, timeout=30)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        lock.execute("ROLLBACK")
        lock.close()


def test_a_locked_sqlite_file(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    weather(tmp_path, sqlite_url, sqlite_engine, lambda: locked_file(tmp_path / "farebox.db"), 2)


def test_a_collector_restarted_while_its_database_is_locked(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    child = Child(tmp_path)
    http = child.started()
    addresses = {"FAREBOX_HTTP_LISTEN": f"127.0.0.1:{http.port}", "FAREBOX_GRPC_LISTEN": child.grpc_address}
    with Senders(http.port, child.grpc_address, seed=12, spans_per_s=SPANS_PER_S) as senders:
        wait_for(lambda: len(senders.told.acknowledged) > 100)
        with locked_file(tmp_path / "farebox.db"):
            known = len(senders.told.acknowledged)
            wait_for(lambda: len(senders.told.acknowledged) > known + 300)
            assert child.terminate() == 0
            started = time.monotonic()
            child = Child(tmp_path, **addresses)
            http = child.started()
            took_s = time.monotonic() - started
            waiting = pending(http)
            known = len(senders.told.acknowledged)
            wait_for(lambda: len(senders.told.acknowledged) > known + 300)
        wait_for(lambda: pending(http) == 0 or http.get("/readyz").json["status"] == "ready")
    assert child.terminate() == 0

    assert waiting > 100
    assert took_s < LONGEST_ACK_S
    audit(sqlite_engine, senders.told.acknowledged, tmp_path / "spool")


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as running:
        yield running


@contextmanager
def without(leave: Callable[[], Any], come_back: Callable[[], Any]) -> Iterator[None]:
    leave()
    try:
        yield
    finally:
        come_back()


@contextmanager
def locked_table(engine: Engine) -> Iterator[None]:
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE usage_rows IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.mark.parametrize("how", ["stopped", "frozen", "locked"])
def test_a_postgresql_server_that_is_away(tmp_path: Path, server: OwnServer, how: str) -> None:
    url = server.url.render_as_string(hide_password=False)
    engine = open_engine(url)
    away: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "stopped": lambda: without(server.stop, server.start),
        "frozen": lambda: without(server.freeze, server.thaw),
        "locked": lambda: locked_table(engine),
    }

    weather(tmp_path, url, engine, away[how], 2 if how == "stopped" else 1)

    engine.dispose()


def test_a_collector_ends_in_time_while_its_database_is_frozen(tmp_path: Path, server: OwnServer) -> None:
    url = server.url.render_as_string(hide_password=False)
    child = Child(tmp_path, FAREBOX_DATABASE_URL=url)
    http = child.started()
    wait_for(lambda: http.get("/readyz").json["status"] == "ready")
    assert http.post(calls([1])).status == 200
    wait_for(lambda: pending(http) == 0)
    with without(server.freeze, server.thaw):
        assert http.post(calls([2])).status == 200
        time.sleep(8)  # the keys have been asked for meanwhile
        started = time.monotonic()
        child.process.terminate()
        child.process.communicate(timeout=60)
        took_s = time.monotonic() - started
    assert child.process.returncode == 0
    assert took_s < 28

    again = Child(tmp_path, FAREBOX_DATABASE_URL=url)
    again.started()
    assert again.terminate() == 0
    engine = open_engine(url)
    audit(engine, [number.to_bytes(8, "big") for number in (1, 2)], tmp_path / "spool")
    engine.dispose()

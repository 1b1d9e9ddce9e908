"""Ack means on disk: how a collector starts and ends, killed or asked to. `chaos/test_kills.py` does it at random."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from sqlalchemy import Engine

from farebox_collector.spool import Spool
from tests.collector.emitting import calls
from tests.collector.running import Child, Http, free_port, rows


def started_within_two_seconds(folder: Path) -> tuple[Child, Http]:
    """Start a collector on what a killed one left; a machine that was busy with something else gets two more tries."""
    took_s = []
    for _ in range(3):
        began = time.monotonic()
        child = Child(folder)
        http = child.started()
        took_s.append(time.monotonic() - began)
        if took_s[-1] < 2:
            return child, http
        child.kill()
    raise AssertionError(f"no start took less than two seconds: {took_s}")


def test_spans_acknowledged_before_a_kill_are_booked_once_after_the_restart(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    first = Child(tmp_path)
    http = first.started()
    assert http.post(calls([1])).status == 200
    # While the books are locked nothing is booked: the kill comes between the acknowledgment and the booking.
    lock = sqlite3.connect(tmp_path / "farebox.db", isolation_level=None, timeout=60)
    lock.execute("BEGIN IMMEDIATE")
    for number in range(2, 22):
        assert http.post(calls([number])).status == 200
    first.kill()
    lock.execute("ROLLBACK")
    lock.close()
    booked_before = len(rows(sqlite_engine, "span_id"))

    second, http = started_within_two_seconds(tmp_path)
    assert http.post(calls([5])).status == 200  # its sender never saw the first answer
    assert second.terminate() == 0

    assert booked_before <= 1
    assert len(rows(sqlite_engine, "span_id")) == 21
    spool = Spool(tmp_path / "spool", 2**30)
    assert spool.snapshot().pending_spans == 0
    assert spool.snapshot().conservation_difference == 0
    spool.close()


def test_a_signal_to_end_drains_and_exits_with_zero(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    child = Child(tmp_path)
    http = child.started()
    for number in range(1, 40):
        assert http.post(calls([number])).status == 200

    assert child.terminate() == 0

    assert len(rows(sqlite_engine, "span_id")) == 39


def test_a_wrong_setting_ends_the_start_with_one_line(tmp_path: Path) -> None:
    code, out, error = Child(tmp_path, FAREBOX_SPOOL_MAX_BYTES="lots").end()

    assert (code, out) == (2, "")
    assert error == (
        "farebox collector: FAREBOX_SPOOL_MAX_BYTES: expected a whole number of bytes above 0, "
        "such as 536870912 or 512MiB, got 'lots'\n"
    )


def test_a_taken_port_ends_the_start_with_one_line(tmp_path: Path) -> None:
    first = Child(tmp_path / "first")
    http = first.started()

    for variable, address in (
        ("FAREBOX_HTTP_LISTEN", f"127.0.0.1:{http.port}"),
        ("FAREBOX_GRPC_LISTEN", first.grpc_address),
    ):
        code, _, error = Child(tmp_path / variable, **{variable: address}).end()
        assert code == 2
        assert f"farebox collector: {variable}: {address} cannot be bound: Address already in use\n" in error
    first.kill()


def test_one_port_for_both_transports_ends_the_start_with_one_line(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"

    code, out, error = Child(tmp_path, FAREBOX_HTTP_LISTEN=address, FAREBOX_GRPC_LISTEN=address).end()

    assert (code, out) == (2, "")
    assert error.endswith(
        f"farebox collector: FAREBOX_GRPC_LISTEN: {address} cannot be bound: Address already in use\n"
    )
    assert "Traceback" not in error

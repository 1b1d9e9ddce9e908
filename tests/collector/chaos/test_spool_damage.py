"""A spool file that was torn by a power cut, or that the disk has damaged: what is lost, what is said, what goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from farebox_collector.spans import AttributeValue, Sender, Span
from farebox_collector.spool import Spool
from farebox_ledger.usage import org_id_of
from tests.collector.chaos.accounts import audit
from tests.collector.emitting import Emitted, calls
from tests.collector.running import Child, config_for, rows, running

ACME = Sender(org_id_of("acme"), "acme", "key_1")
RECEIVED_US = 1_763_690_000_000_000
LIMIT = 10_000_000
ATTRIBUTES: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 9,
}


def span(number: int) -> Span:
    number_bytes = number.to_bytes(8, "big")
    return Span(number_bytes * 2, number_bytes, None, "scope", 3, None, RECEIVED_US, False, None, dict(ATTRIBUTES))


def append(spool: Spool, *numbers: int) -> None:
    asyncio.run(spool.append(ACME, RECEIVED_US, [span(number) for number in numbers], others=2))


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in memory where the system has one: thousands of starts would wait for the disk otherwise."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="farebox-chaos-", dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("tail", ["cut", "zeros"])
def test_a_log_torn_at_any_byte_costs_at_most_the_transaction_that_it_tears(memory_folder: Path, tail: str) -> None:
    """Either the file ends where the power went, or it has its length and the rest of it never came."""
    source = Spool(memory_folder / "whole", LIMIT)
    append(source, 1, 2)
    append(source, 3)
    log = source.folder / "spool.db-wal"
    acknowledged = log.stat().st_size
    append(source, 4, 5)
    whole, database = log.read_bytes(), (source.folder / "spool.db").read_bytes()
    source.close()
    before, after = [[span(1), span(2)], [span(3)]], [[span(1), span(2)], [span(3)], [span(4), span(5)]]

    slowest_s = 0.0
    found = {"before": 0, "after": 0}
    folder = memory_folder / "torn"
    for cut in range(acknowledged, len(whole) + 1):
        folder.mkdir()
        (folder / "spool.db").write_bytes(database)
        (folder / "spool.db-wal").write_bytes(whole[:cut] + bytes(len(whole) - cut if tail == "zeros" else 0))
        started = time.monotonic()
        torn = Spool(folder, LIMIT)
        slowest_s = max(slowest_s, time.monotonic() - started)
        spans = [batch.spans for batch in torn.read(0, 1000)]
        snapshot = torn.snapshot()
        torn.close()
        shutil.rmtree(folder)
        assert spans in (before, after), cut
        found["after" if spans == after else "before"] += 1
        assert snapshot.conservation_difference == 0, cut
        assert snapshot.counters["accepted"] == (11 if spans == after else 7)

    assert len(whole) - acknowledged > 4096
    assert found["after"] >= 1
    assert found["before"] > 4096
    assert slowest_s < 2


def overwritten(at: float) -> Callable[[Path], None]:
    """Overwrite half a page at a share of the file."""

    def damage(path: Path) -> None:
        position = int(path.stat().st_size * at) // 4096 * 4096
        with path.open("r+b") as file:
            file.seek(position)
            file.write(os.urandom(2048))

    return damage


def shortened(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def replaced(path: Path) -> None:
    path.write_bytes(b"this is no database, " * 500)


def stubbed(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


DAMAGES = {
    "its first page": (overwritten(0.0), 0),
    "a page in the middle": (overwritten(0.5), 300),
    "the last page": (overwritten(0.999), 300),
    "half of it gone": (shortened, 100),
    "something else": (replaced, 0),
    "a stub": (stubbed, 0),
}
"""What is done to the file, and how many of its 400 spans have to be readable all the same."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if number % 2 else []) for number, name in enumerate(DAMAGES)]
)
def test_a_damaged_spool_is_set_aside_and_named_and_the_collector_serves(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage, readable = DAMAGES[name]
    config = config_for(tmp_path, database_url=sqlite_url)
    before = Spool(config.spool_dir, LIMIT)
    for number in range(1, 400, 4):
        append(before, *range(number, number + 4))
    before.close()
    damage(config.spool_dir / "spool.db")
    damaged = (config.spool_dir / "spool.db").read_bytes()

    with running(config) as collector:
        assert collector.http.post(calls([1000, 1001])).status == 200
        collector.wait_until_booked()
        ready = collector.http.get("/readyz")

    (aside,) = config.spool_dir.glob("spool-damaged-*.db")
    assert aside.read_bytes() == damaged
    assert aside.name in caplog.text
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert ready.json["degraded"] == [f"a damaged spool was set aside, and spans in it may not be booked: {aside.name}"]
    sent = [Emitted(number).span_id for number in (1000, 1001)]
    salvaged = {bytes(span_id) for (span_id,) in rows(sqlite_engine, "span_id")} - set(sent)
    assert len(salvaged) >= readable
    assert salvaged <= {span(number).span_id for number in range(1, 401)}
    assert f"{len(salvaged)} waiting spans" in caplog.text
    audit(sqlite_engine, [*sent, *salvaged], config.spool_dir)


def test_spans_of_a_damaged_file_are_taken_over_once_also_when_the_start_that_set_it_aside_was_killed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "spool"
    killed = Spool(folder, LIMIT)
    append(killed, 1, 2)
    append(killed, 3)
    killed.close()
    (folder / "spool.db").rename(folder / "spool-damaged-20261121T000000000000.db")  # and there it died

    waiting = []
    for _ in range(2):
        again = Spool(folder, LIMIT)
        waiting.append([span.span_id[-1] for batch in again.read(0, 1000) for span in batch.spans])
        assert again.snapshot().conservation_difference == 0
        again.close()

    assert waiting == [[1, 2, 3], [1, 2, 3]]


def test_readiness_is_whole_again_when_the_damaged_file_is_taken_away(tmp_path: Path, sqlite_url: str) -> None:
    config = config_for(tmp_path, database_url=sqlite_url)
    config.spool_dir.mkdir()
    replaced(config.spool_dir / "spool.db")
    with running(config) as collector:
        collector.wait_until_booked()
        assert collector.http.get("/readyz").json["status"] == "degraded"
        for aside in config.spool_dir.glob("spool-damaged-*"):
            aside.unlink()
        assert collector.http.get("/readyz").json["status"] == "ready"


def test_remembered_keys_that_cannot_be_read_do_not_stop_the_start(tmp_path: Path, sqlite_url: str) -> None:
    config = config_for(tmp_path, database_url=sqlite_url)
    spool = Spool(config.spool_dir, LIMIT)
    spool._connection.execute("INSERT INTO known_keys (hash, record) VALUES (x'00', x'c1c1')")
    spool.close()

    with running(config) as collector:
        assert collector.http.post(calls([1])).status == 200


@pytest.mark.slow
def test_a_collector_of_its_own_names_the_damaged_file_on_its_log(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    (tmp_path / "spool").mkdir()
    replaced(tmp_path / "spool" / "spool.db")
    child = Child(tmp_path)
    assert child.started().post(calls([1])).status == 200
    child.process.terminate()

    code, _, log = child.end()

    (aside,) = (tmp_path / "spool").glob("spool-damaged-*.db")
    assert code == 0
    assert aside.name in log
    assert len(rows(sqlite_engine, "span_id")) == 1

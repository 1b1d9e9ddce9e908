from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from farebox_collector.errors import SpoolBroken, SpoolFull, SpoolInUse
from farebox_collector.spans import RejectedSpan, Sender, Span
from farebox_collector.spool import KnownKey, Spool
from farebox_collector.spool import spool as spool_module
from tests.collector.running import wait_for

ACME = Sender(7, "acme", "key_1")
RECEIVED_US = 1_763_690_000_000_000


def span(number: int) -> Span:
    return Span(
        bytes(15) + b"\1",
        number.to_bytes(8, "big"),
        None,
        "scope",
        3,
        None,
        RECEIVED_US,
        False,
        None,
        {"gen_ai.system": "x"},
    )


def append(spool: Spool, *numbers: int, others: int = 0, rejected: tuple[RejectedSpan, ...] = ()) -> None:
    spans = [span(number) for number in numbers]
    asyncio.run(spool.append(ACME, RECEIVED_US, spans, rejected=rejected, others=others))


def rejected_span(stored: Span | None = None) -> RejectedSpan:
    return RejectedSpan("bad_span_id", "a span id has 8 bytes", b"d" * 16, 99, stored)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool", 10_000_000)
    yield opened
    opened.close()


def test_what_was_appended_is_read_in_order_with_its_sender(spool: Spool) -> None:
    append(spool, 1, 2)
    append(spool, 3)

    first, second = spool.read(0, 1000)

    assert (first.id, second.id) == (1, 2)
    assert first.spans == [span(1), span(2)]
    assert second.spans == [span(3)]
    assert (first.sender, first.received_at_us) == (ACME, RECEIVED_US)
    assert spool.read(2, 1000) == []


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    before = Spool(tmp_path, 10_000_000)
    append(before, 1, 2, others=5)
    collector_id = before.collector_id
    before.close()

    after = Spool(tmp_path, 10_000_000)

    assert after.collector_id == collector_id
    assert [batch.spans for batch in after.read(0, 1000)] == [[span(1), span(2)]]
    assert after.snapshot().pending_spans == 2
    assert after.snapshot().counters["not_genai"] == 5
    assert after.snapshot().conservation_difference == 0
    after.close()


def test_a_batch_id_is_never_used_again(tmp_path: Path) -> None:
    before = Spool(tmp_path, 10_000_000)
    append(before, 1)
    before.settle(before.read(0, 1000), {"rows": 1})
    before.close()

    after = Spool(tmp_path, 10_000_000)
    append(after, 2)

    assert [batch.id for batch in after.read(0, 1000)] == [2]
    after.close()


def test_the_counters_balance_through_every_step(spool: Spool) -> None:
    append(spool, 1, 2, 3, others=4, rejected=(rejected_span(span(9)), rejected_span()))
    assert spool.snapshot().conservation_difference == 0

    batches = spool.read(0, 1000)
    spool.settle(batches, {"rows": 1, "duplicates": 1, "quarantined": 1}, [(batches[0], rejected_span(span(3)))])
    append(spool, 4)

    snapshot = spool.snapshot()
    assert snapshot.counters == {
        "accepted": 10, "not_genai": 4, "quarantined": 3, "rows": 1, "duplicates": 1, "quarantine_dropped": 0,
    }  # fmt: skip
    assert (snapshot.pending_spans, snapshot.quarantine_rows) == (1, 3)
    assert snapshot.conservation_difference == 0


def test_a_lost_span_shows_in_the_balance(spool: Spool) -> None:
    append(spool, 1, 2)
    spool.settle(spool.read(0, 1000), {"rows": 1})
    append(spool, 3)

    assert spool.snapshot().conservation_difference == 1


def test_a_full_spool_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2000)
    with pytest.raises(SpoolFull, match="FAREBOX_SPOOL_MAX_BYTES"):
        append_one_by_one(spool, 100)
    held = spool.snapshot().pending_spans
    assert 5 < held < 50

    spool.settle(spool.read(0, 1000), {"rows": held})
    append(spool)
    spool_is_written(spool)
    append(spool, 100)

    assert spool.snapshot().pending_spans == 1
    assert spool.snapshot().conservation_difference == 0
    spool.close()


def append_one_by_one(spool: Spool, count: int) -> None:
    for number in range(count):
        append(spool, number + 1)


def spool_is_written(spool: Spool) -> None:
    """Wait until everything that was queued is committed."""
    asyncio.run(spool.append(ACME, RECEIVED_US, [], rejected=[rejected_span()]))


def test_concurrent_requests_share_commits(spool: Spool) -> None:
    async def many() -> None:
        await asyncio.gather(*(spool.append(ACME, RECEIVED_US, [span(number)]) for number in range(1, 201)))

    asyncio.run(many())

    batches = spool.read(0, 1000)
    assert [batch.id for batch in batches] == list(range(1, 201))


def test_a_large_request_is_split_into_batches_that_can_be_booked(spool: Spool) -> None:
    append(spool, *range(1, 1252))

    batches = spool.read(0, 10_000)

    assert [len(batch.spans) for batch in batches] == [512, 512, 227]


def test_what_does_not_fit_in_memory_is_read_from_the_file(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_RECENT_BYTES", 400)
    for number in range(1, 30):
        append(spool, number)

    read: list[int] = []
    while batches := spool.read(read[-1] if read else 0, 5):
        read += [batch.id for batch in batches]

    assert read == list(range(1, 30))


def test_two_collectors_cannot_share_a_folder(spool: Spool) -> None:
    with pytest.raises(SpoolInUse, match=f"process {os.getpid()}"):
        Spool(spool.folder, 10_000_000)


def test_only_the_owner_can_read_the_spool(spool: Spool) -> None:
    append(spool, 1)

    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    files = [path for path in spool.folder.iterdir() if path.name.startswith("spool.db")]
    assert len(files) == 3  # with the log and its index
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_commit_is_in_the_file_before_the_append_returns(spool: Spool, tmp_path: Path) -> None:
    append(spool, 1)

    copy = tmp_path / "as after a power cut"
    shutil.copytree(spool.folder, copy)

    found = sqlite3.connect(copy / "spool.db").execute("SELECT count(*) FROM batches").fetchone()
    assert found == (1,)


def test_a_torn_tail_of_the_log_costs_only_what_was_not_acknowledged(spool: Spool, tmp_path: Path) -> None:
    append(spool, 1)
    acknowledged = (spool.folder / "spool.db-wal").stat().st_size
    append(spool, 2)
    whole = (spool.folder / "spool.db-wal").read_bytes()

    for cut in range(acknowledged, len(whole), 97):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        shutil.copy(spool.folder / "spool.db", folder)
        (folder / "spool.db-wal").write_bytes(whole[:cut])
        after = Spool(folder, 10_000_000)
        assert [batch.spans for batch in after.read(0, 1000)] in ([[span(1)]], [[span(1)], [span(2)]])
        assert after.snapshot().conservation_difference == 0
        after.close()


def test_a_damaged_spool_is_set_aside_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool.db").write_bytes(b"this is no database, " * 500)

    spool = Spool(tmp_path, 10_000_000)
    append(spool, 1)

    assert spool.snapshot().pending_spans == 1
    assert len(list(tmp_path.glob("spool-damaged-*.db"))) == 1
    assert "spool-damaged-" in caplog.text
    spool.close()


def test_a_spool_that_cannot_be_written_refuses_and_recovers(spool: Spool) -> None:
    other = sqlite3.connect(spool.folder / "spool.db", isolation_level=None)
    spool._connection.execute("PRAGMA busy_timeout = 10")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolBroken):
        append(spool, 1)
    assert not spool.snapshot().is_writable
    other.execute("ROLLBACK")
    other.close()
    wait_for(lambda: spool.snapshot().is_writable)  # without anybody having to send first

    append(spool, 2)

    assert [batch.spans for batch in spool.read(0, 1000)] == [[span(2)]]
    assert spool.snapshot().conservation_difference == 0


def test_a_settlement_survives_a_failed_commit(spool: Spool) -> None:
    append(spool, 1)
    batches = spool.read(0, 1000)
    other = sqlite3.connect(spool.folder / "spool.db", isolation_level=None)
    spool._connection.execute("PRAGMA busy_timeout = 10")
    other.execute("BEGIN IMMEDIATE")
    spool.settle(batches, {"rows": 1})
    with pytest.raises(SpoolBroken):
        append(spool, 2)
    other.execute("ROLLBACK")
    other.close()

    spool_is_written(spool)
    spool_is_written(spool)

    assert spool.snapshot().pending_spans == 0
    assert spool.snapshot().counters["rows"] == 1
    assert spool.snapshot().conservation_difference == 0


def test_what_nobody_sends_again_is_kept_in_order_while_the_spool_cannot_be_written(spool: Spool) -> None:
    older, newer = (KnownKey(b"h" * 32, f"key_{number}", 7, "acme", ("ingest",), None, None) for number in (1, 2))
    other = sqlite3.connect(spool.folder / "spool.db", isolation_level=None)
    spool._connection.execute("PRAGMA busy_timeout = 10")
    other.execute("BEGIN IMMEDIATE")
    spool.remember_keys([older])
    wait_for(lambda: not spool.snapshot().is_writable)
    for _ in range(2000):
        append(spool, others=1)
    spool.remember_keys([newer])
    wait_for(spool._queue.empty)
    other.execute("ROLLBACK")
    other.close()

    wait_for(lambda: spool.snapshot().counters.get("not_genai") == 2000)

    assert spool.known_keys() == [newer]
    assert spool.snapshot().conservation_difference == 0


def test_spans_set_aside_leave_the_rest_of_their_batch(tmp_path: Path) -> None:
    before = Spool(tmp_path, 10_000_000)
    append(before, 1, 2, 3)
    (batch,) = before.read(0, 1000)
    rest = before.set_spans_aside(batch, [span(1), span(3)], [rejected_span(span(2))])
    assert before.snapshot().pending_spans == 2
    assert before.snapshot().conservation_difference == 0
    before.close()

    after = Spool(tmp_path, 10_000_000)
    assert after.read(0, 1000) == [rest]
    after.settle([rest], {"rows": 2})
    spool_is_written(after)

    assert (after.snapshot().pending_spans, after.snapshot().pending_bytes) == (0, 0)
    assert after.snapshot().quarantine_rows == 2
    assert after.snapshot().conservation_difference == 0
    after.close()


def test_a_closed_spool_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000_000)
    spool.close()

    with pytest.raises(SpoolBroken, match="shutting down"):
        append(spool, 1)


def test_counts_of_requests_without_any_call_are_written_soon(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000_000)
    append(spool, others=3)
    append(spool, others=4)
    spool.close()

    after = Spool(tmp_path, 10_000_000)

    assert after.snapshot().counters == {"accepted": 7, "not_genai": 7}
    after.close()


def test_the_quarantine_forgets_the_oldest_rejected_spans_and_counts_them(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_QUARANTINE_ROWS", 3)
    append(spool, 1)
    batches = spool.read(0, 1000)
    crashed = RejectedSpan("booking_crashed", "booking failed", b"d" * 16, 99, span(1))
    spool.settle(batches, {"quarantined": 1}, [(batches[0], crashed)])
    for _ in range(5):
        append(spool, rejected=(rejected_span(),))

    snapshot = spool.snapshot()
    assert (snapshot.quarantine_rows, snapshot.counters["quarantine_dropped"]) == (3, 3)
    left = sqlite3.connect(spool.folder / "spool.db").execute("SELECT reason FROM quarantine ORDER BY id").fetchall()
    assert left == [("booking_crashed",), ("bad_span_id",), ("bad_span_id",)]
    assert snapshot.conservation_difference == 0


def test_known_keys_are_there_after_a_restart(tmp_path: Path) -> None:
    key = KnownKey(b"h" * 32, "key_1", 7, "acme", ("ingest",), None, None)
    before = Spool(tmp_path, 10_000_000)
    before.remember_keys([key])
    before.close()

    after = Spool(tmp_path, 10_000_000)

    assert after.known_keys() == [key]
    after.close()


def test_a_full_disk_refuses_and_recovers(spool: Spool) -> None:
    pages = spool._connection.execute("PRAGMA page_count").fetchone()[0]
    spool._connection.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(SpoolBroken, match="full"):
        append_one_by_one(spool, 1000)
    held = spool.snapshot().pending_spans
    assert not spool.snapshot().is_writable

    spool._connection.execute("PRAGMA max_page_count = 1000000")
    wait_for(lambda: spool.snapshot().is_writable)
    append(spool, 2000)

    assert spool.snapshot().pending_spans == held + 1
    assert spool.snapshot().conservation_difference == 0

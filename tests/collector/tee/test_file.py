from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from farebox_collector.originals import Original
from farebox_collector.tee.file import ROW_BYTES, Progress, TeeFile

NOW_S = 1_763_690_000
MAX_BYTES = 10 * (100 + ROW_BYTES)  # ten bodies of 100 bytes


def original(number: int, size_bytes: int = 100) -> Original:
    return Original("traces", bytes([number]) * size_bytes, "application/x-protobuf", "gzip")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[TeeFile]:
    """Open a file with two destinations."""
    opened = TeeFile(tmp_path, ["a", "b"], MAX_BYTES)
    yield opened
    opened.close()


def seen(file: TeeFile, destination: str) -> Progress:
    return msgspec.structs.replace(file.progress(destination), position=0)


def drain(file: TeeFile, destination: str) -> list[int]:
    """Send all that waits; answers the numbers of the bodies."""
    numbers = []
    while (stored := file.next(destination)) is not None:
        numbers.append(stored.original.body[0])
        file.settle(destination, stored, is_sent=True)
    return numbers


def test_each_destination_gets_each_original_in_order(file: TeeFile) -> None:
    file.append([original(1), original(2)], NOW_S)

    assert drain(file, "a") == [1, 2]
    file.append([original(3)], NOW_S)
    assert drain(file, "b") == [1, 2, 3]
    assert drain(file, "a") == [3]
    assert seen(file, "a") == seen(file, "b") == Progress(3, 0, 0, 0, 0)


def test_what_everybody_got_is_no_longer_in_the_file(file: TeeFile, tmp_path: Path) -> None:
    file.append([Original("logs", b"secret" * 100, "application/json")], NOW_S)
    assert seen(file, "a") == Progress(0, 0, 0, 1, 600 + ROW_BYTES)
    for destination in ("a", "b"):
        drain(file, destination)
    file.close()

    assert [path.name for path in tmp_path.iterdir()] == ["tee.db"]
    assert b"secret" not in (tmp_path / "tee.db").read_bytes()


def test_beyond_its_size_the_oldest_go_and_are_counted_where_they_were_missed(file: TeeFile) -> None:
    file.append([original(number) for number in range(1, 11)], NOW_S)
    for _ in range(4):
        stored = file.next("a")
        assert stored is not None
        file.settle("a", stored, is_sent=True)

    file.append([original(number) for number in range(11, 17)], NOW_S)

    assert seen(file, "a") == Progress(4, 0, 2, 10, MAX_BYTES)
    assert seen(file, "b") == Progress(0, 0, 6, 10, MAX_BYTES)
    assert drain(file, "b") == list(range(7, 17))


def test_an_original_larger_than_the_file_may_be_is_dropped_with_all_before_it(file: TeeFile) -> None:
    file.append([original(1), original(2, MAX_BYTES)], NOW_S)

    assert file.next("a") is None
    assert seen(file, "a") == Progress(0, 0, 2, 0, 0)
    file.append([original(3)], NOW_S)
    assert drain(file, "a") == [3]


def test_what_is_too_old_goes(file: TeeFile) -> None:
    file.append([original(1), original(2)], NOW_S)
    file.append([original(3)], NOW_S + 10)

    file.expire(NOW_S)
    assert file.progress("a").dropped == 0
    file.expire(NOW_S + 1)
    assert seen(file, "a") == Progress(0, 0, 2, 1, 100 + ROW_BYTES)
    file.expire(NOW_S + 11)
    assert seen(file, "a") == Progress(0, 0, 3, 0, 0)


def test_what_was_dropped_while_it_was_sent_counts_as_dropped_alone(file: TeeFile) -> None:
    file.append([original(1)], NOW_S)
    stored = file.next("a")
    assert stored is not None
    file.expire(NOW_S + 1)

    file.settle("a", stored, is_sent=True)

    assert seen(file, "a") == Progress(0, 0, 1, 0, 0)


def test_a_restart_goes_on_where_each_destination_was(tmp_path: Path) -> None:
    first = TeeFile(tmp_path, ["a", "b"], MAX_BYTES)
    first.append([original(1), original(2)], NOW_S)
    assert drain(first, "a") == [1, 2]
    first.close()

    second = TeeFile(tmp_path, ["a", "b"], MAX_BYTES)

    assert drain(second, "a") == []
    assert drain(second, "b") == [1, 2]
    assert seen(second, "a") == Progress(2, 0, 0, 0, 0)
    second.close()


def test_a_new_destination_gets_what_comes_from_now_on_and_a_removed_one_holds_nothing_back(tmp_path: Path) -> None:
    first = TeeFile(tmp_path, ["a", "b"], MAX_BYTES)
    first.append([original(1)], NOW_S)
    assert drain(first, "a") == [1]
    first.close()

    second = TeeFile(tmp_path, ["a", "c"], MAX_BYTES)

    assert second.next("c") is None
    second.append([original(2)], NOW_S)
    assert drain(second, "c") == [2]
    assert seen(second, "a") == Progress(1, 0, 0, 1, 100 + ROW_BYTES)
    second.close()


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "tee.db").write_bytes(b"no database at all" * 1000)

    file = TeeFile(tmp_path, ["a"], MAX_BYTES)
    file.append([original(1)], NOW_S)

    assert drain(file, "a") == [1]
    file.close()


def test_only_its_owner_reads_it(file: TeeFile, tmp_path: Path) -> None:
    file.append([original(1)], NOW_S)

    assert {path.name for path in tmp_path.iterdir()} == {"tee.db", "tee.db-wal", "tee.db-shm"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())


def test_a_file_that_cannot_be_written_says_so_and_works_again(file: TeeFile, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "tee.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        file.append([original(1)], NOW_S)
    other.execute("ROLLBACK")
    other.close()

    file.append([original(2)], NOW_S)

    assert drain(file, "a") == [2]


def test_how_far_it_got_is_told_while_the_file_is_in_use(file: TeeFile) -> None:
    file.append([original(1)], NOW_S)

    with file._lock:  # as whoever writes to a slow disk holds it
        assert seen(file, "a") == Progress(0, 0, 0, 1, 100 + ROW_BYTES)

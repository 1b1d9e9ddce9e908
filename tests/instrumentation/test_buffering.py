"""Requests on disk: whole files, one owner, a bound."""

from __future__ import annotations

from pathlib import Path

from farebox import safety
from farebox.buffering import Buffer


def buffer(folder: Path, max_bytes: int = 1 << 20, identity: str = "here") -> Buffer:
    return Buffer(folder, max_bytes, identity)


def test_requests_come_back_oldest_first(tmp_path: Path) -> None:
    kept = buffer(tmp_path)
    for payload in (b"one", b"two", b"three"):
        assert kept.keep(payload, 1)

    assert [file.read_bytes() for file in kept.waiting()] == [b"one", b"two", b"three"]


def test_a_removed_request_is_gone_and_an_empty_buffer_leaves_no_folder(tmp_path: Path) -> None:
    kept = buffer(tmp_path)
    kept.keep(b"one", 1)
    for file in kept.waiting():
        kept.remove(file)
    kept.close()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_left_is_taken_over(tmp_path: Path) -> None:
    first, second, third = buffer(tmp_path), buffer(tmp_path), buffer(tmp_path)
    first.keep(b"one", 1)
    assert second.waiting() == []
    first.close()

    assert [file.read_bytes() for file in second.waiting()] == [b"one"]
    assert third.waiting() == []


def test_another_sender_has_another_shelf(tmp_path: Path) -> None:
    first = buffer(tmp_path, identity="http://a\nkey-1")
    first.keep(b"one", 1)
    first.close()

    assert buffer(tmp_path, identity="http://a\nkey-2").waiting() == []


def test_an_unfinished_file_is_no_request(tmp_path: Path) -> None:
    kept = buffer(tmp_path)
    kept.keep(b"one", 1)
    (kept.waiting()[0].parent / "00000000000000000000-000000.part").write_bytes(b"half")

    assert len(kept.waiting()) == 1


def test_the_bound_holds_over_all_processes(tmp_path: Path) -> None:
    first, second = buffer(tmp_path, 10), buffer(tmp_path, 10)
    assert first.keep(b"12345678", 1)
    assert not second.keep(b"123", 7)
    assert second.keep(b"12", 1)

    assert safety.losses == {"buffer_full": 7}


def test_a_key_is_not_on_disk(tmp_path: Path) -> None:
    kept = buffer(tmp_path, identity="http://a\nfbk_secret")
    kept.keep(b"one", 1)

    assert "secret" not in "".join(str(path) for path in tmp_path.rglob("*"))
    assert (kept.waiting()[0].parent.stat().st_mode & 0o777) == 0o700

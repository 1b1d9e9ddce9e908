"""The tee's own SQLite file: originals in the order they came, and how far each destination has got.

It is the one file of farebox that may hold prompts: mode 0600, bounded in bytes and in age, and what is sent or too old
is overwritten. Whatever goes is the oldest, and is counted for each destination that had not got it yet.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from farebox_collector.originals import Original

logger = logging.getLogger(__name__)

FILE_NAME: Final = "tee.db"
ROW_BYTES: Final = 64  # what a request takes beside its body, about

# Nothing here is worth an fsync of its own: a crash of the machine may cost the newest requests, never the file.
_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA secure_delete = ON;
PRAGMA journal_size_limit = 16777216;
CREATE TABLE IF NOT EXISTS originals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at_s INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    signal TEXT NOT NULL,
    content_type TEXT NOT NULL,
    content_encoding TEXT,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS destinations (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,  -- the newest request that was sent, refused or dropped
    sent INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""


class Stored(msgspec.Struct, frozen=True):
    """An original and its place in the file."""

    id: int
    original: Original


class Progress(msgspec.Struct, frozen=True):
    """Requests by what became of them at one destination, and what still waits."""

    sent: int
    refused: int
    dropped: int
    pending_requests: int
    pending_bytes: int
    position: int = 0  # the newest request that was sent, refused or dropped


class TeeFile:
    """Owns the file from construction to `close`; every method may be called from any thread."""

    def __init__(self, folder: Path, destinations: Sequence[str], max_bytes: int) -> None:
        """Open the file, made anew when it is damaged. A destination that is new gets what comes from now on.

        Raises:
            OSError, sqlite3.OperationalError: it cannot be made or opened.
        """
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = _open(folder / FILE_NAME)
        with self._lock, self._connection as connection:
            newest = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence").fetchone()[0]
            connection.executemany(
                "INSERT INTO destinations (name, position) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(name, newest) for name in destinations],
            )
            gone = {name for (name,) in connection.execute("SELECT name FROM destinations")} - set(destinations)
            connection.executemany("DELETE FROM destinations WHERE name = ?", [(name,) for name in gone])
            _forget_finished(connection)
            total = connection.execute("SELECT COALESCE(SUM(size_bytes), 0) FROM originals").fetchone()
        self._held_bytes = int(total[0])
        self._progress = {name: _stored_progress(connection, name) for name in destinations}

    def append(self, originals: Iterable[Original], now_s: int) -> None:
        """Write originals; what is too much then goes, oldest first.

        Raises:
            sqlite3.Error: they were not written.
        """
        rows = [
            (now_s, len(o.body) + ROW_BYTES, o.signal, o.content_type, o.content_encoding, o.body) for o in originals
        ]
        with self._lock:
            connection = self._connection
            if connection is None:
                return
            with connection:
                connection.executemany(
                    "INSERT INTO originals (received_at_s, size_bytes, signal, content_type, content_encoding, body)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    rows,
                )
            size_bytes = sum(row[1] for row in rows)
            self._held_bytes += size_bytes
            for name, now in self._progress.items():
                self._progress[name] = msgspec.structs.replace(
                    now,
                    pending_requests=now.pending_requests + len(rows),
                    pending_bytes=now.pending_bytes + size_bytes,
                )
            if self._held_bytes > self._max_bytes:
                self._drop_up_to(connection, self._last_to_drop(connection))

    def expire(self, before_s: int) -> None:
        """Drop what came before a time."""
        with self._lock:
            connection = self._connection
            if connection is None:
                return
            oldest = connection.execute("SELECT received_at_s FROM originals ORDER BY id LIMIT 1").fetchone()
            if oldest is None or oldest[0] >= before_s:
                return
            kept = connection.execute("SELECT MIN(id) FROM originals WHERE received_at_s >= ?", (before_s,)).fetchone()
            newest = connection.execute("SELECT MAX(id) FROM originals").fetchone()
            self._drop_up_to(connection, newest[0] if kept[0] is None else kept[0] - 1)

    def next(self, destination: str) -> Stored | None:
        """Answer the oldest original that a destination has not got, None when there is none."""
        with self._lock:
            if self._connection is None:
                return None
            row = self._connection.execute(
                "SELECT id, signal, body, content_type, content_encoding FROM originals"
                " WHERE id > ? ORDER BY id LIMIT 1",
                (self._progress[destination].position,),
            ).fetchone()
        return None if row is None else Stored(row[0], Original(row[1], row[2], row[3], row[4]))

    def settle(self, destination: str, stored: Stored, *, is_sent: bool) -> None:
        """Go on to the next original: this one was sent, or refused for good.

        One that was dropped meanwhile is counted as dropped, and as nothing else.
        """
        with self._lock:
            now = self._progress[destination]
            connection = self._connection
            if connection is None or now.position >= stored.id:
                return
            after = msgspec.structs.replace(
                now,
                sent=now.sent + is_sent,
                refused=now.refused + (not is_sent),
                pending_requests=now.pending_requests - 1,
                pending_bytes=now.pending_bytes - len(stored.original.body) - ROW_BYTES,
                position=stored.id,
            )
            self._go_on(connection, {destination: after})

    def progress(self, destination: str) -> Progress:
        """Say how far a destination has got, since the file was made; waits for nobody who uses the file."""
        return self._progress[destination]

    def close(self) -> None:
        """Close the file; whoever comes later finds nothing and changes nothing."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _last_to_drop(self, connection: sqlite3.Connection) -> int:
        held, last = self._held_bytes, 0
        rows = connection.execute("SELECT id, size_bytes FROM originals ORDER BY id")
        while held > self._max_bytes and (row := rows.fetchone()) is not None:
            last = row[0]
            held -= row[1]
        rows.close()
        return last

    def _drop_up_to(self, connection: sqlite3.Connection, last_id: int) -> None:
        after = {}
        for name, now in self._progress.items():
            if now.position < last_id:
                requests, size_bytes = connection.execute(
                    "SELECT COUNT(*), COALESCE(SUM(size_bytes), 0) FROM originals WHERE id > ? AND id <= ?",
                    (now.position, last_id),
                ).fetchone()
                after[name] = msgspec.structs.replace(
                    now,
                    dropped=now.dropped + requests,
                    pending_requests=now.pending_requests - requests,
                    pending_bytes=now.pending_bytes - size_bytes,
                    position=last_id,
                )
        self._go_on(connection, after)

    def _go_on(self, connection: sqlite3.Connection, progress: dict[str, Progress]) -> None:
        """Write how far some destinations have got, and delete what nobody waits for any more."""
        with connection:
            connection.executemany(
                "UPDATE destinations SET position = ?, sent = ?, refused = ?, dropped = ? WHERE name = ?",
                [(now.position, now.sent, now.refused, now.dropped, name) for name, now in progress.items()],
            )
            freed_bytes = _forget_finished(connection)
        self._held_bytes -= freed_bytes
        self._progress.update(progress)


def _stored_progress(connection: sqlite3.Connection, name: str) -> Progress:
    position, sent, refused, dropped = connection.execute(
        "SELECT position, sent, refused, dropped FROM destinations WHERE name = ?", (name,)
    ).fetchone()
    requests, size_bytes = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(size_bytes), 0) FROM originals WHERE id > ?", (position,)
    ).fetchone()
    return Progress(sent, refused, dropped, requests, size_bytes, position)


def _forget_finished(connection: sqlite3.Connection) -> int:
    """Delete what no destination waits for; answers the bytes."""
    lowest = connection.execute("SELECT MIN(position) FROM destinations").fetchone()[0]
    rows = connection.execute("SELECT id, size_bytes FROM originals WHERE id <= ?", (lowest,)).fetchall()
    connection.executemany("DELETE FROM originals WHERE id = ?", [(row[0],) for row in rows])
    return sum(row[1] for row in rows)


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _opened(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        logger.error("the tee file %s is damaged (%s); a new one is made, what it held is not sent", path, error)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _opened(path)


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # the log files beside it inherit this mode
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection

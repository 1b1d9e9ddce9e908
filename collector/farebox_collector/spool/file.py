"""The spool's SQLite file: its tables, how it is opened, and the plain statements on it. No thread, no waiting.

WAL with synchronous=FULL: a commit that returned is on the disk, and a torn tail of the log is cut off at the next
start. The file holds reduced spans and hashed keys, never raw bytes; it is readable by its owner only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from farebox_collector.spans import Batch, RejectedSpan, Sender, Span

logger = logging.getLogger(__name__)

FILE_NAME: Final = "spool.db"
_DAMAGED: Final = "spool-damaged-"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, also after the newest batch is deleted
    org_id INTEGER NOT NULL,
    org TEXT NOT NULL,
    key_id TEXT,
    received_at_us INTEGER NOT NULL,
    spans INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id INTEGER NOT NULL,
    org TEXT NOT NULL,
    key_id TEXT,
    received_at_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    digest BLOB NOT NULL,
    span_bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    span BLOB  -- the reduced span, NULL when nothing of it could be read
);
CREATE TABLE IF NOT EXISTS known_keys (hash BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
"""

_SMALL_CACHE: Final = "PRAGMA cache_size = -256"
"""In KiB. What is written is read once, if at all; SQLite would keep 2 MiB of it for each connection."""

_QUARANTINE_ROW_BYTES: Final = 256  # what a row without a span takes, about

_encoder: Final = msgspec.msgpack.Encoder()
_spans_decoder: Final = msgspec.msgpack.Decoder(list[Span])


class KnownKey(msgspec.Struct, frozen=True):
    """A sender's key as the collector remembers it: the hash, whose it is and what it may do. Never the key."""

    hash: bytes
    id: str
    org_id: int | None
    org: str | None
    scopes: tuple[str, ...]
    expires_at_us: int | None = None
    revoked_at_us: int | None = None


_key_decoder: Final = msgspec.msgpack.Decoder(KnownKey)


class BatchRow(msgspec.Struct):
    """A batch ready to be written."""

    sender: Sender
    received_at_us: int
    spans: list[Span]
    payload: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.payload)


class QuarantineRow(msgspec.Struct):
    """A rejected span ready to be written."""

    sender: Sender
    received_at_us: int
    rejected: RejectedSpan
    payload: bytes | None

    @property
    def stored_bytes(self) -> int:
        return _QUARANTINE_ROW_BYTES + len(self.payload or b"")


class QuarantineEntry(msgspec.Struct, frozen=True):
    """A rejected span as the file holds it; `payload` is the reduced span as written, None where there is none."""

    id: int
    sender: Sender
    received_at_us: int
    reason: str
    detail: str
    digest: bytes
    size_bytes: int
    payload: bytes | None


def batch_row(sender: Sender, received_at_us: int, spans: list[Span]) -> BatchRow:
    return BatchRow(sender, received_at_us, spans, _encoder.encode(spans))


def quarantine_row(sender: Sender, received_at_us: int, rejected: RejectedSpan) -> QuarantineRow:
    payload = None if rejected.span is None else _encoder.encode(rejected.span)
    return QuarantineRow(sender, received_at_us, rejected, payload)


def open_spool_file(folder: Path) -> sqlite3.Connection:
    """Open the file for writing, and make it when it is not there.

    A file that SQLite cannot read, or whose pages do not fit together, is set aside under a name that says so, with an
    error in the log: the collector starts, because refusing every sender would lose more. The batches that can still
    be read go into the new file, at the next start when this one ends before. Looking at all pages takes an eighth of
    a second for 512 MiB that the system has in memory.
    """
    path = folder / FILE_NAME
    try:
        connection = _opened(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        aside = _set_aside(path)
        logger.error("the spool %s is damaged (%s); it is set aside as %s and a new one is made", path, error, aside)
        connection = _opened(path)
    for name in damaged_files(folder):
        salvaged = _salvage(folder / name, connection)
        if salvaged is not None:
            logger.error("%d waiting spans of %s can be read and are in the new one", salvaged, folder / name)
    return connection


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """Open a second connection that only reads; it may be used by any one thread at a time."""
    connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(_SMALL_CACHE)
    return connection


def _opened(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # the log files beside it inherit this mode
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(" ".join(str(verdict).split()))
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        connection.execute(_SMALL_CACHE)
        connection.executescript(_SCHEMA)
        connection.execute(
            "INSERT INTO facts (name, value) VALUES ('collector_id', ?) ON CONFLICT DO NOTHING", (str(uuid.uuid4()),)
        )
    except BaseException:
        connection.close()
        raise
    return connection


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{_DAMAGED}{datetime.now(UTC):%Y%m%dT%H%M%S%f}.db")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _salvage(damaged: Path, connection: sqlite3.Connection) -> int | None:
    """Take over the batches that can be read, and answer how many spans they hold; None when that was done before.

    That it was done is written with them: a process that dies between the two files does it at its next start. They get
    new ids, since those of a damaged file are no facts; what of them is booked already, the books know.
    """
    salvaged = 0
    connection.execute("BEGIN IMMEDIATE")
    noted = connection.execute(
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (f"salvaged {damaged.name}", "yes")
    )
    if not noted.rowcount:
        connection.execute("ROLLBACK")
        return None
    for sender, received_at_us, spans in _legible_batches(damaged):
        insert_batches(connection, last_batch_id(connection) + 1, [batch_row(sender, received_at_us, spans)])
        salvaged += len(spans)
    add_to_counters(connection, {"accepted": salvaged})
    connection.execute("COMMIT")
    return salvaged


def _legible_batches(damaged: Path) -> Iterator[tuple[Sender, int, list[Span]]]:
    """Read from each end of the table up to the damage."""
    source = sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)
    source.execute("PRAGMA writable_schema = ON")  # lets SQLite read a file that is shorter than it says
    seen: set[int] = set()
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.DatabaseError):
            for batch_id, org_id, org, key_id, received_at_us, payload in source.execute(
                f"SELECT id, org_id, org, key_id, received_at_us, payload FROM batches ORDER BY id {order}"
            ):
                known = (org_id, received_at_us, org, payload)
                if batch_id in seen or tuple(map(type, known)) != (int, int, str, bytes):
                    continue
                seen.add(batch_id)
                if spans := _readable_spans(payload):
                    yield Sender(org_id, org, key_id), received_at_us, spans
    source.close()


def damaged_files(folder: Path) -> list[str]:
    """Name the files that were set aside and that nobody has taken away yet."""
    return sorted(path.name for path in folder.glob(f"{_DAMAGED}*.db"))


def collector_id(connection: sqlite3.Connection) -> str:
    """The name under which this spool's batches are booked: random, made with the file."""
    return str(connection.execute("SELECT value FROM facts WHERE name = 'collector_id'").fetchone()[0])


def last_batch_id(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batches'").fetchone()
    return int(row[0]) if row else 0


def pending_totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Spans and bytes that wait to be booked."""
    row = connection.execute("SELECT COALESCE(SUM(spans), 0), COALESCE(SUM(size_bytes), 0) FROM batches").fetchone()
    return int(row[0]), int(row[1])


def oldest_received_at_us(connection: sqlite3.Connection) -> int | None:
    row = connection.execute("SELECT received_at_us FROM batches ORDER BY id LIMIT 1").fetchone()
    return None if row is None else int(row[0])


def read_counters(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT name, value FROM counters").fetchall())


def add_to_counters(connection: sqlite3.Connection, counts: dict[str, int]) -> None:
    connection.executemany(
        "INSERT INTO counters (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        list(counts.items()),
    )


def insert_batches(connection: sqlite3.Connection, first_id: int, rows: Sequence[BatchRow]) -> None:
    """Write batches under consecutive ids; gaps would look like lost batches to the reader."""
    connection.executemany(
        "INSERT INTO batches (id, org_id, org, key_id, received_at_us, spans, size_bytes, payload)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                first_id + offset,
                row.sender.org_id,
                row.sender.org,
                row.sender.key_id,
                row.received_at_us,
                len(row.spans),
                row.size_bytes,
                row.payload,
            )
            for offset, row in enumerate(rows)
        ],
    )


def replace_batch(connection: sqlite3.Connection, batch_id: int, row: BatchRow) -> None:
    """Write what is left of a batch over it."""
    connection.execute(
        "UPDATE batches SET spans = ?, size_bytes = ?, payload = ? WHERE id = ?",
        (len(row.spans), row.size_bytes, row.payload, batch_id),
    )


def delete_batches(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    connection.executemany("DELETE FROM batches WHERE id BETWEEN ? AND ?", _ranges(sorted(ids)))


def _ranges(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Join ids that follow each other, as those of one booking do, to (first, last)."""
    ranges: list[tuple[int, int]] = []
    for batch_id in ids:
        if ranges and ranges[-1][1] == batch_id - 1:
            ranges[-1] = (ranges[-1][0], batch_id)
        else:
            ranges.append((batch_id, batch_id))
    return ranges


def read_batches(connection: sqlite3.Connection, after_id: int, max_spans: int) -> list[Batch]:
    """Read the next batches in order, at least one when there is one, about `max_spans` spans at most."""
    batches: list[Batch] = []
    spans = 0
    cursor = connection.execute(
        "SELECT id, org_id, org, key_id, received_at_us, size_bytes, spans, payload FROM batches"
        " WHERE id > ? ORDER BY id",
        (after_id,),
    )
    for batch_id, org_id, org, key_id, received_at_us, size_bytes, count, payload in cursor:
        batch = Batch(batch_id, Sender(org_id, org, key_id), received_at_us, _readable_spans(payload), size_bytes)
        batch.unreadable = count - len(batch.spans)
        batches.append(batch)
        spans += count
        if spans >= max_spans:
            break
    cursor.close()
    return batches


def _readable_spans(payload: bytes) -> list[Span]:
    """Read a batch's spans; none when the payload is damaged, so that one batch does not stop all others."""
    try:
        return _spans_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def quarantine_totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Rows and bytes in the quarantine."""
    row = connection.execute("SELECT COUNT(*), COALESCE(SUM(stored_bytes), 0) FROM quarantine").fetchone()
    return int(row[0]), int(row[1])


def insert_quarantined(connection: sqlite3.Connection, rows: Sequence[QuarantineRow]) -> None:
    connection.executemany(
        "INSERT INTO quarantine (org_id, org, key_id, received_at_us, reason, detail, digest, span_bytes, stored_bytes,"
        " span) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                row.sender.org_id,
                row.sender.org,
                row.sender.key_id,
                row.received_at_us,
                row.rejected.reason,
                row.rejected.detail[:500],
                row.rejected.digest,
                row.rejected.size_bytes,
                row.stored_bytes,
                row.payload,
            )
            for row in rows
        ],
    )


def read_quarantined(connection: sqlite3.Connection, after_id: int, limit: int) -> list[QuarantineEntry]:
    """Read the next rejected spans in order."""
    found = connection.execute(
        "SELECT id, org_id, org, key_id, received_at_us, reason, detail, digest, span_bytes, span FROM quarantine"
        " WHERE id > ? ORDER BY id LIMIT ?",
        (after_id, limit),
    ).fetchall()
    return [
        QuarantineEntry(entry_id, Sender(org_id, org, key_id), *rest) for entry_id, org_id, org, key_id, *rest in found
    ]


def delete_quarantined(connection: sqlite3.Connection, ids: Iterable[int]) -> tuple[int, int]:
    """Forget rejected spans that stand in the books; answers rows and bytes that were there."""
    sizes = [
        size_bytes
        for entry_id in ids
        for (size_bytes,) in connection.execute(
            "DELETE FROM quarantine WHERE id = ? RETURNING stored_bytes", (entry_id,)
        ).fetchall()
    ]
    return len(sizes), sum(sizes)


def drop_oldest_rejected(connection: sqlite3.Connection, rows: int) -> tuple[int, int]:
    """Forget the oldest spans that senders were told are rejected; answers rows and bytes.

    A span whose booking crashed, or that the gateway refused, was acknowledged: it stays until somebody deletes it.
    """
    doomed = connection.execute(
        "SELECT id, stored_bytes FROM quarantine WHERE reason NOT IN ('booking_crashed', 'refused_by_gateway')"
        " ORDER BY id LIMIT ?",
        (rows,),
    ).fetchall()
    connection.executemany("DELETE FROM quarantine WHERE id = ?", [(row[0],) for row in doomed])
    return len(doomed), sum(row[1] for row in doomed)


def read_keys(connection: sqlite3.Connection) -> list[KnownKey]:
    """Read the remembered keys; none when one is damaged, since they are asked for anew and a start must not fail."""
    try:
        return [_key_decoder.decode(record) for (record,) in connection.execute("SELECT record FROM known_keys")]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def replace_keys(connection: sqlite3.Connection, keys: Sequence[KnownKey]) -> None:
    connection.execute("DELETE FROM known_keys")
    connection.executemany(
        "INSERT INTO known_keys (hash, record) VALUES (?, ?)", [(key.hash, _encoder.encode(key)) for key in keys]
    )

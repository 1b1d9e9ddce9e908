"""The spool as the collector uses it: append and wait for the disk, read in order, settle what is booked.

`intake` appends on the event loop and acknowledges when the commit stands; `pipeline` reads and settles on its own
thread. One writer thread commits for all of them: whoever waits at the same moment shares one fsync. The counters of
the conservation law change in the same commits as the spans they count.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

import msgspec

from farebox_collector.errors import SpoolBroken, SpoolFull
from farebox_collector.locking import FileLock
from farebox_collector.logs import where
from farebox_collector.spans import Batch, RejectedSpan, Sender, Span
from farebox_collector.spool import file
from farebox_collector.spool.file import BatchRow, KnownKey, QuarantineEntry, QuarantineRow

logger = logging.getLogger(__name__)

MAX_GROUP: Final = 512
"""Requests in one commit; more wait for the next."""
MAX_BATCH_SPANS: Final = 512
"""What OpenTelemetry's exporters send at once: a few less would leave a dozen spans to a transaction of their own."""
MAX_RECENT_BYTES: Final = 2**20
"""Batches handed to the pipeline in memory, as written bytes; what is beyond is read back from the file."""
MAX_QUARANTINE_ROWS: Final = 10_000
QUARANTINE_SHARE: Final = 8
"""Rejected spans take at most one part in this many of the spool's size."""
LAZY_FLUSH_S: Final = 1.0
"""Counts of requests without any span to book are written within this time; nothing but the count hangs on it."""
RETRY_PAUSE_S: Final = 0.1
"""After a failed commit, before the next try: a full disk must not keep a core busy."""
PROBE_S: Final = 1.0
"""While the spool cannot be written: how often to try, without anything to write."""


class _Work(msgspec.Struct):
    """One piece of a commit. `waiter` learns how the commit ended; a piece without one is tried until it is written."""

    counts: dict[str, int]
    batches: Sequence[BatchRow] = ()
    quarantined: Sequence[QuarantineRow] = ()
    reduced: Sequence[tuple[Batch, BatchRow]] = ()  # batches, and what is left of them
    settled: Sequence[Batch] = ()
    released: Sequence[int] = ()  # entries of the quarantine that stand in the books
    keys: Sequence[KnownKey] | None = None
    written: Sequence[threading.Event] = ()
    waiter: asyncio.Future[None] | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """The spool at one moment, between two commits. Counts are of spans unless they say otherwise."""

    counters: dict[str, int]
    pending_spans: int
    pending_bytes: int
    max_bytes: int
    quarantine_rows: int
    is_writable: bool

    @property
    def conservation_difference(self) -> int:
        """Accepted spans minus all places where they can be; anything but 0 is a span lost or counted twice."""
        places = ("not_genai", "quarantined", "rows", "duplicates", "replayed", "forwarded")
        return (
            self.counters.get("accepted", 0) - sum(self.counters.get(name, 0) for name in places) - self.pending_spans
        )


class Spool:
    """Owns the spool folder from construction to `close`."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Lock the folder, open the file and read its totals; the writer thread runs from here on.

        Raises:
            SpoolInUse: another collector owns the folder.
            OSError, sqlite3.OperationalError: the folder or the file cannot be made or opened.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._lock_file = FileLock(folder / "spool.lock", owned=f"the spool folder {folder}")
        try:
            self._connection = file.open_spool_file(folder)
            self._reader = file.open_for_reading(folder)
        except BaseException:
            self._lock_file.close()
            raise
        self.folder = folder
        self.max_bytes = max_bytes
        self.collector_id = file.collector_id(self._connection)
        self.arrived = threading.Event()
        self._reader_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._counters = Counter(file.read_counters(self._connection))
        self._pending_spans, self._pending_bytes = file.pending_totals(self._connection)
        self._reserved_bytes = 0  # waiting for their commit
        self._quarantine_rows, self._quarantine_bytes = file.quarantine_totals(self._connection)
        self._last_id = file.last_batch_id(self._connection)
        self._recent: dict[int, Batch] = {}
        self._recent_bytes = 0
        self._read_up_to = 0
        self._is_closed = False
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._write_until_closed, name="farebox-spool", daemon=True)
        self._thread.start()

    async def append(
        self,
        sender: Sender,
        received_at_us: int,
        spans: list[Span],
        *,
        rejected: Sequence[RejectedSpan] = (),
        others: int = 0,
    ) -> None:
        """Write the spans of one request and return when they are on the disk. `others` are counted alone.

        Raises:
            SpoolFull: the spool has reached its size limit; nothing was written.
            SpoolBroken: the commit failed; nothing was written.
        """
        if self._is_closed:
            raise SpoolBroken("the collector is shutting down; send the request again")
        counts = {"accepted": len(spans) + len(rejected) + others, "not_genai": others, "quarantined": len(rejected)}
        if not spans and not rejected:
            self._queue.put(_Work(counts))
            return
        rows = [file.batch_row(sender, received_at_us, part) for part in _parts(spans)]
        quarantined = [file.quarantine_row(sender, received_at_us, span) for span in rejected]
        self._reserve(sum(row.size_bytes for row in rows))
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(_Work(counts, rows, quarantined, waiter=waiter))
        await waiter

    def settle(
        self,
        batches: Sequence[Batch],
        counts: dict[str, int],
        quarantined: Sequence[tuple[Batch, RejectedSpan]] = (),
    ) -> None:
        """Forget batches that stand in the books, and count where their spans went; written with the next commit.

        A process that dies before that commit meets the batches again, and the books say that they are there.
        """
        rows = [file.quarantine_row(batch.sender, batch.received_at_us, span) for batch, span in quarantined]
        self._queue.put(_Work(counts, quarantined=rows, settled=batches))

    def set_spans_aside(self, batch: Batch, rest: list[Span], rejected: Sequence[RejectedSpan]) -> Batch:
        """Move spans of a batch to the quarantine, and answer what is left of it once that is on the disk.

        It has to be there before the rest is booked: the books know batches, not spans, and a process that died in
        between would take the whole batch for booked.

        Raises:
            SpoolBroken: the spool was closed before it could be written.
        """
        row = file.batch_row(batch.sender, batch.received_at_us, rest)
        entries = [file.quarantine_row(batch.sender, batch.received_at_us, span) for span in rejected]
        written = threading.Event()
        counts = {"quarantined": len(rejected)}
        self._queue.put(_Work(counts, quarantined=entries, reduced=[(batch, row)], written=[written]))
        while not written.wait(PROBE_S):
            if self._is_closed:
                raise SpoolBroken("the collector is shutting down")
        return Batch(batch.id, batch.sender, batch.received_at_us, rest, row.size_bytes)

    def quarantined(self, after_id: int, limit: int) -> list[QuarantineEntry]:
        """Answer the next spans that were set aside, in order."""
        with self._reader_lock:
            return file.read_quarantined(self._reader, after_id, limit)

    def release_quarantined(self, ids: Sequence[int]) -> None:
        """Forget spans that were set aside and that stand in the books' quarantine; written with the next commit."""
        self._queue.put(_Work({}, released=ids))

    def read(self, after_id: int, max_spans: int) -> list[Batch]:
        """Answer the batches after `after_id` in order, about `max_spans` spans of them; empty when there are none."""
        batches: list[Batch] = []
        spans = 0
        with self._state_lock:
            while spans < max_spans and (batch := self._recent.pop(after_id + len(batches) + 1, None)) is not None:
                self._recent_bytes -= batch.size_bytes
                batches.append(batch)
                spans += len(batch.spans)
            if batches:
                self._read_up_to = batches[-1].id
                return batches
        with self._reader_lock:
            batches = file.read_batches(self._reader, after_id, max_spans)
        with self._state_lock:
            for batch in batches:
                self._read_up_to = batch.id  # a batch read before its hand-over must not be handed over any more
                if self._recent.pop(batch.id, None) is not None:
                    self._recent_bytes -= batch.size_bytes
        return batches

    def snapshot(self) -> Snapshot:
        with self._state_lock:
            return Snapshot(
                dict(self._counters),
                self._pending_spans,
                self._pending_bytes,
                self.max_bytes,
                self._quarantine_rows,
                self._fault is None,
            )

    def degradation(self) -> str | None:
        """Say in a sentence which damaged files wait for somebody to look at them, None when there are none."""
        names = file.damaged_files(self.folder)
        if not names:
            return None
        return f"a damaged spool was set aside, and spans in it may not be booked: {', '.join(names)}"

    def oldest_received_at_us(self) -> int | None:
        """When the oldest span that still waits was received; None when nothing waits."""
        with self._reader_lock:
            return file.oldest_received_at_us(self._reader)

    def known_keys(self) -> list[KnownKey]:
        with self._reader_lock:
            return file.read_keys(self._reader)

    def remember_keys(self, keys: Sequence[KnownKey]) -> None:
        """Replace the remembered keys, so that a restart without the database still knows its senders."""
        self._queue.put(_Work({}, keys=keys))

    def close(self) -> None:
        """Write what is queued, close the file and give the folder back."""
        self._is_closed = True
        self._queue.put(None)
        self._thread.join()
        self._reader.close()
        self._connection.close()
        self._lock_file.close()

    def _reserve(self, size_bytes: int) -> None:
        with self._state_lock:
            held = self._pending_bytes + self._reserved_bytes + self._quarantine_bytes
            if held + size_bytes > self.max_bytes:
                raise SpoolFull(
                    f"the spool holds {held} of {self.max_bytes} bytes (FAREBOX_SPOOL_MAX_BYTES) that wait for the "
                    "database; the request is not taken, send it again"
                )
            self._reserved_bytes += size_bytes

    # From here on: the writer thread.

    def _write_until_closed(self) -> None:
        held: list[_Work] = []  # counts alone, which nobody waits for, and what could not be written before
        flush_at = 0.0
        is_open = True
        while is_open:
            works, is_open = self._next_works(self._patience_s(flush_at if held else None))
            if not works and not held and self._fault is not None:
                works = [_Work({"probes": 1})]  # who is told not to send sends nothing that would show the cure
            if not held:
                flush_at = time.monotonic() + (LAZY_FLUSH_S if self._fault is None else 0.0)
            held += works
            if is_open and time.monotonic() < flush_at and len(held) < MAX_GROUP and all(map(_is_lazy, held)):
                continue
            error = self._commit(held) if held else None
            held = self._release(held, error)
            if error is not None:
                time.sleep(RETRY_PAUSE_S)

    def _patience_s(self, flush_at: float | None) -> float | None:
        """How long to wait for something to write: until the held counts are due, or the next probe of a full disk."""
        if flush_at is not None:
            return max(0.0, flush_at - time.monotonic())
        return None if self._fault is None else PROBE_S

    def _next_works(self, timeout_s: float | None) -> tuple[list[_Work], bool]:
        """Collect what waits, at most `MAX_GROUP` pieces; the second answer is False once the spool is being closed."""
        works: list[_Work] = []
        try:
            work = self._queue.get(timeout=timeout_s)
            while work is not None:
                works.append(work)
                if len(works) >= MAX_GROUP:
                    return works, True
                work = self._queue.get_nowait()
        except Empty:
            return works, True
        return works, False

    def _commit(self, group: list[_Work]) -> Exception | None:
        rows = [row for work in group for row in work.batches]
        quarantined = [row for work in group for row in work.quarantined]
        settled = [batch.id for work in group for batch in work.settled]
        counts: Counter[str] = Counter()
        for work in group:
            for name, count in work.counts.items():  # `Counter.update` takes ten times as long
                counts[name] += count
        keys = [work.keys for work in group if work.keys is not None]
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            if rows:
                file.insert_batches(connection, self._last_id + 1, rows)
            for work in group:
                for batch, row in work.reduced:
                    file.replace_batch(connection, batch.id, row)
            if settled:
                file.delete_batches(connection, settled)
            if keys:
                file.replace_keys(connection, keys[-1])
            gone = file.delete_quarantined(connection, [entry_id for work in group for entry_id in work.released])
            dropped = self._quarantine(quarantined) if quarantined else (0, 0)
            counts["quarantine_dropped"] += dropped[0]
            file.add_to_counters(connection, {name: count for name, count in counts.items() if count})
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - a writer that died would leave every sender waiting
            self._roll_back(error)
            return error
        self._take_over(group, rows, counts, (dropped[0] + gone[0], dropped[1] + gone[1]))
        return None

    def _quarantine(self, rows: list[QuarantineRow]) -> tuple[int, int]:
        file.insert_quarantined(self._connection, rows)
        held_rows = self._quarantine_rows + len(rows)
        held_bytes = self._quarantine_bytes + sum(row.stored_bytes for row in rows)
        excess_rows = max(0, held_rows - MAX_QUARANTINE_ROWS)
        if held_bytes > self.max_bytes // QUARANTINE_SHARE:
            excess_rows = max(excess_rows, held_rows // QUARANTINE_SHARE + 1)
        return file.drop_oldest_rejected(self._connection, excess_rows) if excess_rows else (0, 0)

    def _roll_back(self, error: Exception) -> None:
        if self._fault is None:
            cause = str(error) if isinstance(error, sqlite3.Error) else where(error)
            logger.error("the spool %s cannot be written: %s", self.folder, cause)
        self._fault = str(error)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("the spool %s cannot roll back", self.folder)

    def _take_over(self, group: list[_Work], rows: list[BatchRow], counts: Counter[str], left: tuple[int, int]) -> None:
        """Bring the totals in memory to where the commit brought the file, in one step for those who look."""
        if self._fault is not None:
            logger.warning("the spool %s can be written again", self.folder)
        with self._state_lock:
            self._fault = None
            self._counters.update(counts)
            for row in rows:
                self._last_id += 1
                self._pending_spans += len(row.spans)
                self._pending_bytes += row.size_bytes
                self._hand_over(row)
            for work in group:
                for batch, rest in work.reduced:
                    self._pending_spans -= batch.span_count - len(rest.spans)
                    self._pending_bytes -= batch.size_bytes - rest.size_bytes
                for batch in work.settled:
                    self._pending_spans -= batch.span_count
                    self._pending_bytes -= batch.size_bytes
                self._quarantine_rows += len(work.quarantined)
                self._quarantine_bytes += sum(row.stored_bytes for row in work.quarantined)
            self._quarantine_rows -= left[0]  # rows and bytes that left the quarantine
            self._quarantine_bytes -= left[1]
        if rows:
            self.arrived.set()

    def _hand_over(self, row: BatchRow) -> None:
        if self._last_id > self._read_up_to and self._recent_bytes + row.size_bytes <= MAX_RECENT_BYTES:
            self._recent[self._last_id] = Batch(
                self._last_id, row.sender, row.received_at_us, row.spans, row.size_bytes
            )
            self._recent_bytes += row.size_bytes

    def _release(self, group: list[_Work], error: Exception | None) -> list[_Work]:
        """Tell everybody who waited; answers what nobody can send again and the next commit has to begin with."""
        with self._state_lock:
            self._reserved_bytes -= sum(row.size_bytes for work in group for row in work.batches)
        waiters = [work.waiter for work in group if work.waiter is not None]
        for written in (written for work in group for written in work.written if error is None):
            written.set()
        if waiters:
            failure = None if error is None else SpoolBroken(f"the spool cannot be written: {error}")
            loop = waiters[0].get_loop()
            try:
                loop.call_soon_threadsafe(_wake, waiters, failure)
            except RuntimeError:
                logger.warning("the event loop is closed; %d senders were not answered", len(waiters))
        return [] if error is None else _joined([work for work in group if work.waiter is None])


def _parts(spans: list[Span]) -> list[list[Span]]:
    """Split a large request: a batch is booked in one transaction, which has to stay short."""
    if len(spans) <= MAX_BATCH_SPANS:
        return [spans] if spans else []
    return [spans[start : start + MAX_BATCH_SPANS] for start in range(0, len(spans), MAX_BATCH_SPANS)]


def _joined(works: Sequence[_Work]) -> list[_Work]:
    """Make one piece of several, in their order: while a disk is full for hours they must not pile up."""
    if len(works) < 2:
        return list(works)
    counts: Counter[str] = Counter()
    for work in works:
        counts.update(work.counts)
    joined = _Work(
        dict(counts),
        quarantined=[row for work in works for row in work.quarantined],
        reduced=[pair for work in works for pair in work.reduced],
        settled=[batch for work in works for batch in work.settled],
        released=[entry_id for work in works for entry_id in work.released],
        keys=next((work.keys for work in reversed(works) if work.keys is not None), None),
        written=[written for work in works for written in work.written],
    )
    return [joined]


def _is_lazy(work: _Work) -> bool:
    return work.waiter is None and work.keys is None and not work.settled and not work.written


def _wake(waiters: list[asyncio.Future[None]], failure: SpoolBroken | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue  # the request was cancelled; its spans are on the disk all the same
        if failure is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(failure)

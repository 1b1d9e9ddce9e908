"""The one thread that moves spans from the spool into the books, in order, and never loses one.

A database that is away is waited for. A batch whose booking crashes is tried three times alone; then the spans that
crash it go to the quarantine and the rest is booked. Nothing is forgotten before it stands in the books.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from farebox_collector.booking import Outcome, book_batches
from farebox_collector.database import Books, is_trouble
from farebox_collector.logs import where
from farebox_collector.quarantining import Probe, culprits
from farebox_collector.replaying import Quarantine
from farebox_collector.spans import Batch, RejectedSpan, Span
from farebox_collector.spool import Spool
from farebox_collector.telemetry import Telemetry
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.scope import AllOrganizations

logger = logging.getLogger(__name__)

MAX_SPANS: Final = 512
"""Spans in one transaction, about: PostgreSQL locks each trace, and while SQLite is written all others wait."""
MAX_CRASHES: Final = 3
IDLE_S: Final = 1.0
SETTLING_S: Final = 0.005
"""While stopping: the last settlement is on its way to the disk."""
STALLED_S: Final = 5.0
"""A step that takes longer waits for a database that neither answers nor refuses."""
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0


class _TrialOver(Exception):
    """Rolls a trial back."""


class Pipeline:
    """Runs from `start` to `stop`."""

    def __init__(self, spool: Spool, books: Books, telemetry: Telemetry) -> None:
        """Everything that is needed is made by `app`."""
        self._spool = spool
        self._books = books
        self._telemetry = telemetry
        self._quarantine = Quarantine(spool, books)
        self._cursor = 0  # the newest batch that was read
        self._waiting: list[Batch] = []  # read and not yet booked
        self._trouble: str | None = None
        self._trouble_since = 0.0
        self._step_began = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._stopping = threading.Event()
        self._stop_at = 0.0
        self._thread = threading.Thread(target=self._run, name="farebox-pipeline", daemon=True)

    def start(self) -> None:
        self._step_began = time.monotonic()
        self._thread.start()

    def stop(self, limit_s: float) -> None:
        """Book what lies in the spool for at most `limit_s`, and end. The rest waits there for the next start."""
        self._stop_at = time.monotonic() + limit_s
        self._stopping.set()
        self._spool.arrived.set()
        self._thread.join(limit_s + 1.0)

    def degradation(self) -> str | None:
        """Say in a sentence why nothing is being booked, None while all is well."""
        now = time.monotonic()
        trouble = self._trouble
        if trouble is not None:
            return f"nothing is booked since {now - self._trouble_since:.0f} s: {trouble}"
        stalled_s = now - self._step_began
        if self._thread.is_alive() and stalled_s > STALLED_S:
            return f"nothing is booked since {stalled_s:.0f} s: the database does not answer"
        return None

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._step()
                self._quarantine.tend()
            except Exception as error:  # noqa: BLE001 - this thread has to outlive every fault
                self._note(error)
                self._wait(self._pause_s)
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _is_over(self) -> bool:
        if not self._stopping.is_set():
            return False
        is_drained = not self._waiting and self._spool.snapshot().pending_spans == 0
        return is_drained or self._trouble is not None or time.monotonic() >= self._stop_at

    def _step(self) -> None:
        self._step_began = time.monotonic()
        self._books.ledger()  # makes an empty database before the first span comes
        if not self._waiting:
            self._spool.arrived.clear()
            self._waiting = self._spool.read(self._cursor, MAX_SPANS)
        if not self._waiting:
            self._recover()
            self._spool.arrived.wait(SETTLING_S if self._stopping.is_set() else IDLE_S)
            return
        self._cursor = self._waiting[-1].id
        self._set_unreadable_aside()
        self._book_waiting()
        self._recover()

    def _set_unreadable_aside(self) -> None:
        """Count the spans of damaged batches as quarantined; nothing of them is left to keep."""
        damaged = [batch for batch in self._waiting if batch.unreadable]
        if not damaged:
            return
        entries = []
        for batch in damaged:
            logger.error("batch %d of the spool is damaged; %d spans are lost", batch.id, batch.unreadable)
            detail = f"batch {batch.id} with {batch.unreadable} spans cannot be read"
            entries.append((batch, RejectedSpan("unreadable_batch", detail, b"", batch.size_bytes)))
        self._spool.settle(damaged, {"quarantined": sum(batch.unreadable for batch in damaged)}, entries)
        self._waiting = [batch for batch in self._waiting if not batch.unreadable]

    def _book_waiting(self) -> None:
        """Book all that waits in one transaction; when that crashes, each batch alone."""
        try:
            self._book(self._waiting)
        except Exception as error:
            if is_trouble(error):
                raise
            self._note_crash(self._waiting, error)
        else:
            self._waiting = []
        while self._waiting:
            self._book_alone(self._waiting[0])
            self._waiting.pop(0)

    def _book_alone(self, batch: Batch) -> None:
        for attempt in range(MAX_CRASHES):
            try:
                self._book([batch])
            except Exception as error:
                if is_trouble(error):
                    raise
                self._note_crash([batch], error)
                self._wait(FIRST_PAUSE_S * 2**attempt)
            else:
                return
        self._book_without_culprits(batch)

    def _book_without_culprits(self, batch: Batch) -> None:
        found = culprits(batch.spans, self._probe(batch))
        logger.error("%d spans of batch %d cannot be booked and go to the quarantine", len(found), batch.id)
        crashing = {id(span) for span, _ in found}
        rest = [span for span in batch.spans if id(span) not in crashing]
        self._waiting[0] = self._spool.set_spans_aside(batch, rest, [rejected for _, rejected in found])
        self._telemetry.rejected_spans.labels("booking_crashed").inc(len(found))
        self._book(self._waiting[:1])

    def _probe(self, batch: Batch) -> Probe:
        def crash_of(spans: Sequence[Span]) -> Exception | None:
            """Book some spans of the batch in a transaction that is rolled back; answers what went wrong."""
            part = Batch(batch.id, batch.sender, batch.received_at_us, list(spans), 0)
            ledger = self._books.ledger()  # before the transaction: it may need one of its own
            try:
                with transaction(self._books.engine, AllOrganizations(), write=True) as connection:
                    book_batches(connection, [part], ledger)
                    raise _TrialOver
            except _TrialOver:
                return None
            except Exception as error:
                if is_trouble(error):
                    raise
                return error

        return crash_of

    def _book(self, batches: Sequence[Batch]) -> None:
        ledger = self._books.ledger()
        spans = sum(len(batch.spans) for batch in batches)
        started = time.perf_counter()
        try:
            with transaction(self._books.engine, AllOrganizations(), write=True) as connection:
                outcome = book_batches(connection, batches, ledger)
        except Exception:
            self._telemetry.send_failures.labels("farebox").inc(spans)
            raise
        self._telemetry.commit_seconds.observe(time.perf_counter() - started)
        self._spool.settle(batches, outcome.counts)
        self._books.key_uses.note({batch.sender.key_id for batch in batches if batch.sender.key_id is not None})
        self._count(outcome, spans)
        where_to = ", ".join(f"{count} {name}" for name, count in outcome.counts.items() if count)
        logger.debug("booked batches %d to %d: %s", batches[0].id, batches[-1].id, where_to)

    def _count(self, outcome: Outcome, spans: int) -> None:
        telemetry = self._telemetry
        telemetry.sent_spans.labels("farebox").inc(spans)
        telemetry.changed.inc(outcome.changed)
        telemetry.missing_children.inc(outcome.missing_children)
        for (status, reason), count in outcome.charges.items():
            telemetry.rows.labels(status).inc(count)
            if status == "suppressed":
                telemetry.suppressed.labels(reason).inc(count)
            elif reason is not None:
                telemetry.unbilled.labels(reason).inc(count)

    def _note_crash(self, batches: Sequence[Batch], error: Exception) -> None:
        self._telemetry.crashes.inc()
        logger.error("booking crashed for batches %d to %d: %s", batches[0].id, batches[-1].id, where(error))

    def _note(self, error: Exception) -> None:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        if self._trouble is None:
            self._trouble_since = time.monotonic()
            cause = text if is_trouble(error) else where(error)
            logger.warning("nothing is booked for now, spans are kept: %s", cause)
        self._trouble = text

    def _recover(self) -> None:
        if self._trouble is not None:
            logger.warning("booking works again after %.0f s", time.monotonic() - self._trouble_since)
        self._trouble = None
        self._pause_s = FIRST_PAUSE_S

    def _wait(self, pause_s: float) -> None:
        if not self._stopping.is_set():
            self._stopping.wait(pause_s)

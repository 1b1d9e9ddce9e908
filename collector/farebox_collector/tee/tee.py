"""Takes originals off the receivers' hands, writes them to the tee's file, and sends them to each destination.

One thread writes, one per destination sends: a destination that is away holds up neither the others nor a sender of
ours, and what it does not get in time is dropped and counted. Nothing of this touches the spool or an answer.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from farebox_collector.config import MIB, CollectorConfig, TeeDestination
from farebox_collector.errors import InvalidSetting
from farebox_collector.logs import where
from farebox_collector.originals import KeepOriginal, Original
from farebox_collector.sending import FAULTS, Backoff, Sender, cause_of
from farebox_collector.tee.file import TeeFile
from farebox_collector.telemetry import Telemetry

logger = logging.getLogger(__name__)

MAX_QUEUED_BYTES: Final = 32 * MIB
"""Originals on their way to the file; beyond, the disk is too slow and new ones are dropped."""
MAX_GROUP: Final = 256
"""Originals in one transaction."""
TIMEOUT_S: Final = 10.0
EXPIRY_CHECK_S: Final = 30.0
IDLE_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
END_S: Final = 2.0
"""How long a request in flight may take at the end; it is sent again after the next start."""

_REFUSED: Final = frozenset((400, 413, 415, 422))
"""Answers that the same bytes would get again."""


class AnyTee(Protocol):
    """What `app` and `forwarder` need of a tee, be it there or not."""

    @property
    def keep(self) -> KeepOriginal | None: ...

    @property
    def degradations(self) -> Sequence[Callable[[], str | None]]: ...

    def close(self) -> None: ...


class NoTee:
    """Nobody wants the originals."""

    keep: KeepOriginal | None = None
    degradations: Sequence[Callable[[], str | None]] = ()

    def close(self) -> None:
        """Do nothing."""


NO_TEE: Final = NoTee()


def open_tee(config: CollectorConfig, folder: Path, telemetry: Telemetry) -> AnyTee:
    """Start what the settings ask for.

    Raises:
        InvalidSetting: the file cannot be made in the folder.
    """
    if not config.tee:
        return NO_TEE
    names = [str(destination.endpoint) for destination in config.tee]
    try:
        file = TeeFile(folder, names, config.tee_max_bytes)
    except (OSError, sqlite3.OperationalError) as error:
        raise InvalidSetting("FAREBOX_SPOOL_DIR", f"the tee file cannot be made in {folder}: {error}") from None
    tee = Tee(file, config.tee, max_age_s=config.tee_max_age_s)
    telemetry.registry.register(tee)
    return tee


class Tee:
    """Runs from construction to `close`."""

    def __init__(self, file: TeeFile, destinations: Sequence[TeeDestination], *, max_age_s: float) -> None:
        """Start to send what the file still holds."""
        self._file = file
        self._max_age_s = max_age_s
        self._queue: SimpleQueue[Original | None] = SimpleQueue()
        self._state_lock = threading.Lock()
        self._queued_bytes = 0
        self.lost = 0  # originals that never came into the file
        self._is_closed = False
        self._senders = [_DestinationSender(file, destination) for destination in destinations]
        self._writer = threading.Thread(target=self._write_until_closed, name="farebox-tee", daemon=True)
        self._writer.start()
        for sender in self._senders:
            sender.start()

    @property
    def degradations(self) -> Sequence[Callable[[], str | None]]:
        """One sentence for each destination that gets nothing now."""
        return [sender.degradation for sender in self._senders]

    def keep(self, original: Original) -> None:
        """Take an original without waiting; it is dropped when too many wait for the disk."""
        with self._state_lock:
            if self._is_closed or self._queued_bytes + len(original.body) > MAX_QUEUED_BYTES:
                self.lost += 1
                return
            self._queued_bytes += len(original.body)
        self._queue.put(original)

    def close(self) -> None:
        """Write what was taken, and end. What is not sent by now waits in the file for the next start."""
        with self._state_lock:
            self._is_closed = True
        self._queue.put(None)
        self._writer.join()
        for sender in self._senders:
            sender.stop()
        deadline = time.monotonic() + END_S
        for sender in self._senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        self._file.close()

    def collect(self) -> Iterator[Metric]:
        """Read the totals when Prometheus asks; they survive restarts."""
        sent = CounterMetricFamily("farebox_tee_sent_requests", "Requests that were sent on.", labels=["destination"])
        dropped = CounterMetricFamily(
            "farebox_tee_dropped_requests",
            "Requests that were not sent on: no room or too old, or refused for good.",
            labels=["destination", "reason"],
        )
        requests = GaugeMetricFamily("farebox_tee_pending_requests", "Requests that wait.", labels=["destination"])
        pending = GaugeMetricFamily("farebox_tee_pending_bytes", "Bytes that wait.", labels=["destination"])
        for sender in self._senders:
            progress = self._file.progress(sender.name)
            sent.add_metric([sender.name], progress.sent)
            dropped.add_metric([sender.name, "overflow"], progress.dropped + self.lost)
            dropped.add_metric([sender.name, "refused"], progress.refused)
            requests.add_metric([sender.name], progress.pending_requests)
            pending.add_metric([sender.name], progress.pending_bytes)
        yield from (sent, dropped, requests, pending)

    # From here on: the writer thread.

    def _write_until_closed(self) -> None:
        is_open = True
        is_failing = False
        while is_open:
            originals, is_open = self._next_originals()
            try:
                if originals:
                    self._file.append(originals, int(time.time()))
                self._file.expire(int(time.time() - self._max_age_s))
                is_failing = False
            except Exception as error:  # noqa: BLE001 - this thread has to outlive every fault
                if not is_failing:
                    logger.error("the tee file cannot be written, requests are not sent on: %s", where(error))
                is_failing = True
            with self._state_lock:
                self._queued_bytes -= sum(len(original.body) for original in originals)
                self.lost += len(originals) if is_failing else 0
            if originals:
                for sender in self._senders:
                    sender.wake()

    def _next_originals(self) -> tuple[list[Original], bool]:
        """Collect what waits; the second answer is False once the tee is being closed."""
        originals: list[Original] = []
        try:
            original = self._queue.get(timeout=EXPIRY_CHECK_S)
            while original is not None:
                originals.append(original)
                if len(originals) >= MAX_GROUP:
                    return originals, True
                original = self._queue.get_nowait()
        except Empty:
            return originals, True
        return originals, False


class _DestinationSender:
    """Sends the originals to one destination, in order."""

    def __init__(self, file: TeeFile, destination: TeeDestination) -> None:
        self.name = str(destination.endpoint)
        self._file = file
        self._headers = dict(destination.headers)
        self._sender = Sender(destination.endpoint, TIMEOUT_S)
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._arrived = threading.Event()
        self._stopping = threading.Event()
        self._trouble: str | None = None
        self._trouble_since = 0.0
        self._thread = threading.Thread(target=self._run, name="farebox-tee-sender", daemon=True)
        if not destination.endpoint.is_private:
            logger.warning("prompts and headers travel in clear text to %s; use https", self.name)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._arrived.set()

    def stop(self) -> None:
        self._stopping.set()
        self._arrived.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def degradation(self) -> str | None:
        trouble = self._trouble
        if trouble is None:
            return None
        return f"nothing is sent on to {self.name} since {time.monotonic() - self._trouble_since:.0f} s: {trouble}"

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - this thread has to outlive every fault
                self._note(where(error))
                self._stopping.wait(self._backoff.next_s())
        self._sender.close()

    def _step(self) -> None:
        self._arrived.clear()
        stored = self._file.next(self.name)
        if stored is None:
            self._arrived.wait(IDLE_S)
            return
        original = stored.original
        headers: dict[str, str | bytes] = {**self._headers, "content-type": original.content_type}
        if original.content_encoding is not None:
            headers["content-encoding"] = original.content_encoding
        try:
            answer = self._sender.post(f"/v1/{original.signal}", original.body, headers)
        except FAULTS as error:
            self._wait(cause_of(error), None)
            return
        if 200 <= answer.status < 300 or answer.status in _REFUSED:
            self._file.settle(self.name, stored, is_sent=answer.status < 300)
            self._recover()
        else:
            self._wait(f"it answers {answer.status}", answer.retry_after_s)

    def _wait(self, trouble: str, hint_s: float | None) -> None:
        self._note(trouble)
        self._stopping.wait(self._backoff.next_s(hint_s))

    def _note(self, trouble: str) -> None:
        if self._trouble is None:
            self._trouble_since = time.monotonic()
            logger.warning("nothing is sent on to %s for now: %s", self.name, trouble)
        self._trouble = trouble

    def _recover(self) -> None:
        if self._trouble is not None:
            logger.warning("requests are sent on to %s again", self.name)
        self._trouble = None
        self._backoff.reset()

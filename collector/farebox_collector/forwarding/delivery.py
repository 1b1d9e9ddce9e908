"""The one thread that moves spans from the spool to the gateway, in order, and never loses one.

A gateway that is away is waited for. Spans whose key it refuses stay in the spool and are counted, until it takes the
key again; spans that it cannot read go to the quarantine one by one. Neither holds up the others. Nothing is forgotten
before the gateway has acknowledged it, which keeps one row of what it gets twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from farebox_collector.errors import GatewayAway, KeyRefused, SpansRefused
from farebox_collector.forwarding.encoding import encoded
from farebox_collector.forwarding.gateway import Gateway
from farebox_collector.logs import where
from farebox_collector.sending import Backoff
from farebox_collector.spans import Batch, RejectedSpan, Span
from farebox_collector.spool import Spool
from farebox_collector.telemetry import Telemetry

logger = logging.getLogger(__name__)

MAX_SPANS: Final = 512
"""Spans in one request to the gateway, about, which books as many in one transaction."""
MAX_SPLITS: Final = 200
"""A batch in which so many spans are refused is set aside in the pieces found so far."""
IDLE_S: Final = 1.0
SETTLING_S: Final = 0.005
"""While stopping: the last settlement is on its way to the disk."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
_SETTLED: Final = "settled"
"""A counter in the spool's file; the conservation law has no use for it."""

Pairs: TypeAlias = list[tuple[Batch, Span]]


class Delivery:
    """Runs from `start` to `stop`."""

    def __init__(
        self,
        spool: Spool,
        gateway: Gateway,
        telemetry: Telemetry,
        *,
        forget_key: Callable[[str | None], None],
        refused_retry_s: float,
    ) -> None:
        """Everything that is needed is made by `forwarder`; `forget_key` is told which keys the gateway refuses."""
        self._spool = spool
        self._gateway = gateway
        self._telemetry = telemetry
        self._forget_key = forget_key
        self._refused_retry_s = refused_retry_s
        self._cursor = 0  # the newest batch that was read
        self._waiting: list[Batch] = []  # read and neither delivered nor kept
        self._refused_keys: dict[str | None, float] = {}  # when to ask for each of them again
        self._kept: Counter[str | None] = Counter()  # spans below the cursor whose key is refused
        self._settled = _settled_spans(spool)  # including what has not reached the disk yet
        self._trouble: str | None = None
        self._trouble_since = 0.0
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._stopping = threading.Event()
        self._stop_at = 0.0
        self._thread = threading.Thread(target=self._run, name="farebox-delivery", daemon=True)

    @property
    def kept_spans(self) -> int:
        """Spans that wait because the gateway refuses the keys of their senders."""
        return self._kept.total()

    def start(self) -> None:
        self._thread.start()

    def stop(self, limit_s: float) -> None:
        """Deliver what lies in the spool for at most `limit_s`, and end. The rest waits there for the next start."""
        self._stop_at = time.monotonic() + limit_s
        self._stopping.set()
        self._spool.arrived.set()
        self._thread.join(limit_s + 1.0)

    def degradation(self) -> str | None:
        """Say in a sentence what is not delivered and why, None while all is well."""
        trouble = self._trouble
        if trouble is not None:
            return f"nothing is forwarded since {time.monotonic() - self._trouble_since:.0f} s: {trouble}"
        if self._refused_keys:
            return (
                f"{self.kept_spans} spans are kept: the gateway refuses the keys of {len(self._refused_keys)} senders; "
                "let it take them again, or delete them from the spool folder"
            )
        return None

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._step()
            except GatewayAway as away:
                self._note(str(away), str(away))
                self._stopping.wait(self._backoff.next_s(away.retry_after_s))
            except Exception as error:  # noqa: BLE001 - this thread has to outlive every fault
                self._note(type(error).__name__, where(error))
                self._stopping.wait(self._backoff.next_s())
        self._gateway.close()

    def _is_over(self) -> bool:
        if not self._stopping.is_set():
            return False
        is_drained = not self._waiting and self._spool.snapshot().pending_spans == self.kept_spans
        return is_drained or self._trouble is not None or time.monotonic() >= self._stop_at

    def _step(self) -> None:
        if not self._waiting:
            self._ask_for_refused_keys()
            self._spool.arrived.clear()
            self._waiting = self._spool.read(self._cursor, MAX_SPANS)
        if not self._waiting:
            if self._trouble is not None and self._is_reachable():
                self._recover()
            self._spool.arrived.wait(SETTLING_S if self._stopping.is_set() else IDLE_S)
            return
        self._cursor = self._waiting[-1].id
        self._set_unreadable_aside()
        while self._waiting:
            key = self._waiting[0].sender.key_id
            if self._deliver(key, [batch for batch in self._waiting if batch.sender.key_id == key]):
                self._recover()
            self._waiting = [batch for batch in self._waiting if batch.sender.key_id != key]

    def _is_reachable(self) -> bool:
        """Ask the gateway for nothing; a refused key is an answer, too."""
        try:
            self._gateway.export(None, b"")
        except GatewayAway:
            return False
        except (KeyRefused, SpansRefused):
            return True
        return True

    def _deliver(self, key: str | None, group: Sequence[Batch]) -> bool:
        """Send the batches of one key, or keep them; answers whether the gateway was asked at all.

        Raises:
            GatewayAway: nothing of it is settled; try again.
        """
        if key in self._refused_keys:
            self._kept[key] += sum(batch.span_count for batch in group)
            return False
        try:
            rejected, refused = self._sent(group)
        except KeyRefused as error:
            self._keep(key, group, error)
        else:
            self._settle(group, rejected, refused)
        return True

    def _sent(self, group: Sequence[Batch]) -> tuple[int, Pairs]:
        """Send batches: (how many spans the gateway rejected, and which it refused to read at all)."""
        spans = sum(len(batch.spans) for batch in group)
        try:
            rejected = self._gateway.export(group[0].sender.key_id, encoded(group))
        except SpansRefused as error:
            logger.warning("%d spans in one request: %s; they are sent in parts", spans, error)
            return self._sent_in_parts([(batch, span) for batch in group for span in batch.spans], [MAX_SPLITS])
        except (GatewayAway, KeyRefused):
            self._telemetry.send_failures.labels("farebox").inc(spans)
            raise
        return rejected, []

    def _sent_in_parts(self, pairs: Pairs, splits_left: list[int]) -> tuple[int, Pairs]:
        """Halve what was refused until the spans stand alone that the gateway does not read."""
        if len(pairs) == 1 or splits_left[0] <= 0:
            return 0, pairs
        splits_left[0] -= 1
        middle = len(pairs) // 2
        rejected = 0
        refused: Pairs = []
        for half in (pairs[:middle], pairs[middle:]):
            try:
                rejected += self._gateway.export(half[0][0].sender.key_id, encoded(_regrouped(half)))
            except SpansRefused:
                more_rejected, more_refused = self._sent_in_parts(half, splits_left)
                rejected += more_rejected
                refused += more_refused
        return rejected, refused

    def _settle(self, group: Sequence[Batch], rejected: int, refused: Pairs) -> None:
        spans = sum(len(batch.spans) for batch in group)
        rejected = min(max(rejected, 0), spans - len(refused))
        if rejected:
            logger.warning("the gateway took a request and rejected %d of its %d spans", rejected, spans)
        if refused:
            logger.error("%d spans are refused by the gateway and go to the quarantine", len(refused))
            self._telemetry.rejected_spans.labels("refused_by_gateway").inc(len(refused))
        quarantined = rejected + len(refused)
        entries = [(batch, _entry(span)) for batch, span in refused]
        self._forget(group, {"forwarded": spans - quarantined, "quarantined": quarantined}, entries)
        self._telemetry.sent_spans.labels("farebox").inc(spans - quarantined)

    def _forget(
        self, batches: Sequence[Batch], counts: dict[str, int], entries: Sequence[tuple[Batch, RejectedSpan]]
    ) -> None:
        spans = sum(counts.values())
        self._settled += spans
        self._spool.settle(batches, counts | {_SETTLED: spans}, entries)

    def _set_unreadable_aside(self) -> None:
        """Count the spans of damaged batches as quarantined; nothing of them is left to keep."""
        for batch in [batch for batch in self._waiting if batch.unreadable]:
            logger.error("batch %d of the spool is damaged; %d spans are lost", batch.id, batch.unreadable)
            detail = f"batch {batch.id} with {batch.unreadable} spans cannot be read"
            entry = RejectedSpan("unreadable_batch", detail, b"", batch.size_bytes)
            self._forget([batch], {"quarantined": batch.unreadable}, [(batch, entry)])
            self._waiting.remove(batch)

    # Keys that the gateway refuses.

    def _keep(self, key: str | None, group: Sequence[Batch], error: KeyRefused) -> None:
        logger.error("%s of spans that were acknowledged; they are kept in the spool", error)
        self._refused_keys[key] = time.monotonic() + self._refused_retry_s
        self._kept[key] += sum(batch.span_count for batch in group)
        self._forget_key(key)

    def _ask_for_refused_keys(self) -> None:
        """Ask for the keys whose time has come, and go back to the first batch when one of them is taken again."""
        now = time.monotonic()
        due = [key for key, at in self._refused_keys.items() if at <= now]
        if not due or _settled_spans(self._spool) != self._settled:
            return  # what is settled and still in the file would be read, sent and settled a second time
        taken = [key for key in due if self._is_taken(key)]
        for key in due:
            self._refused_keys[key] = now + self._refused_retry_s
        for key in taken:
            del self._refused_keys[key]
        if taken:
            logger.warning("the gateway takes %d keys again; the spans that were kept are sent", len(taken))
            self._kept.clear()
            self._cursor = 0

    def _is_taken(self, key: str | None) -> bool:
        try:
            self._gateway.export(key, b"")
        except (KeyRefused, SpansRefused):
            return False
        return True

    def _note(self, trouble: str, cause: str) -> None:
        if self._trouble is None:
            self._trouble_since = time.monotonic()
            logger.warning("nothing is forwarded for now, spans are kept: %s", cause)
        self._trouble = trouble

    def _recover(self) -> None:
        if self._trouble is not None:
            logger.warning("forwarding works again after %.0f s", time.monotonic() - self._trouble_since)
        self._trouble = None
        self._backoff.reset()


def _settled_spans(spool: Spool) -> int:
    """Spans that left the spool through a delivery, as its file says."""
    return spool.snapshot().counters.get(_SETTLED, 0)


def _regrouped(pairs: Iterable[tuple[Batch, Span]]) -> list[Batch]:
    """Make batches of single spans, so that each keeps its time of receipt."""
    return [Batch(batch.id, batch.sender, batch.received_at_us, [span], 0) for batch, span in pairs]


def _entry(span: Span) -> RejectedSpan:
    raw = msgspec.msgpack.encode(span)
    digest = blake2b(raw, digest_size=16).digest()
    return RejectedSpan("refused_by_gateway", "the gateway cannot read the span", digest, len(raw), span)

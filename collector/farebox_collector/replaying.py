"""Moves the spool's quarantine into the books, and books the spans whose replay was asked for there (ADR 010).

Spans come in as the spool set them aside, and go out as rows of the ledger's quarantine; what somebody asks for comes
back and goes through the same booking as every span, with the outcome noted in the same transaction. Nothing here
counts in the conservation law: a quarantined span was accounted for when it was set aside.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec
from sqlalchemy import Connection

from farebox_collector.booking import Ledger, book_batches
from farebox_collector.database import Books, is_trouble
from farebox_collector.decode import EARLIEST_US, MAX_AHEAD_US
from farebox_collector.logs import where
from farebox_collector.spans import Batch, Sender, Span
from farebox_collector.spool import QuarantineEntry, Spool
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.quarantine import (
    QuarantinedSpan,
    ReplayOutcome,
    booked_day,
    bring_in,
    note_replay,
    requested_replay,
)
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.usage import usage_id

logger = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""How often somebody's requests are looked for."""
MAX_MOVED: Final = 100
MAX_REPLAYS: Final = 50
"""At a time, each in a transaction of its own; then spans that have arrived meanwhile are booked first."""

_EVERYBODY: Final = AllOrganizations()
_BATCH_ID: Final = 1

_decoder: Final = msgspec.msgpack.Decoder(Span)


class Quarantine:
    """The quarantine as the pipeline's thread tends it, between two bookings."""

    def __init__(self, spool: Spool, books: Books) -> None:
        """Touch nothing yet."""
        self._spool = spool
        self._books = books
        self._moved_up_to = 0  # the newest entry of the spool that was looked at
        self._due_at = 0.0

    def tend(self) -> None:
        """Move what was set aside into the books, and replay what was asked for; about once a second.

        Raises what is the database's fault; the rest is logged and passed over.
        """
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + POLL_S
        entries = self._spool.quarantined(self._moved_up_to, MAX_MOVED)
        if entries:
            self._move(entries)
            self._moved_up_to = entries[-1].id
        for _ in range(MAX_REPLAYS):
            ledger = self._books.ledger()  # before the transaction: it may need one of its own
            with transaction(self._books.engine, _EVERYBODY, write=True) as connection:
                if replay_next(connection, ledger, time.time_ns() // 1000) is None:
                    return

    def _move(self, entries: Sequence[QuarantineEntry]) -> None:
        """Move all at once, or each alone when one of them cannot be written; that one stays in the spool."""
        try:
            self._move_together(entries)
        except Exception as error:
            if is_trouble(error):
                raise
            logger.error("%d spans of the quarantine cannot be moved: %s", len(entries), where(error))
            if len(entries) > 1:
                for entry in entries:
                    self._move([entry])

    def _move_together(self, entries: Sequence[QuarantineEntry]) -> None:
        spans = [published(self._spool.collector_id, entry) for entry in entries]
        with transaction(self._books.engine, _EVERYBODY, write=True) as connection:
            bring_in(connection, _EVERYBODY, spans)
        # Whoever dies before this meets the entries again, and the books know them by their ids.
        self._spool.release_quarantined([entry.id for entry in entries])


class _NothingBooked(Exception):
    """Rolls a replay back that would have left a batch id and no row."""


def published(collector_id: str, entry: QuarantineEntry) -> QuarantinedSpan:
    """Describe an entry of the spool for the books. The same entry always has the same id there."""
    span = _decoded(entry.payload)
    return QuarantinedSpan(
        quarantine_id=blake2b(f"{collector_id} {entry.id}".encode(), digest_size=16).digest(),
        org_id=entry.sender.org_id,
        key_id=entry.sender.key_id,
        received_at_us=entry.received_at_us,
        reason=entry.reason,
        detail=entry.detail.replace("\0", ""),
        digest=entry.digest,
        size_bytes=entry.size_bytes,
        trace_id=None if span is None else span.trace_id,
        span_id=None if span is None else span.span_id,
        ended_at_us=None if span is None or not 0 < span.end_us < 2**62 else span.end_us,
        # Escaped throughout: PostgreSQL takes neither a NUL nor half of a surrogate pair in a text.
        attributes=None if span is None else json.dumps(span.attributes),
        span=None if span is None else entry.payload,
    )


def replay_next(connection: Connection, ledger: Ledger, now_us: int) -> ReplayOutcome | None:
    """Book one span whose replay was asked for and note how that ended; None when none is asked for.

    A span whose booking crashes again is refused. Raises what is the database's fault.
    """
    one = requested_replay(connection)
    if one is None:
        return None
    ended = _replayed(connection, ledger, one, now_us)
    note_replay(connection, one, ended)
    return ended


def _replayed(connection: Connection, ledger: Ledger, one: QuarantinedSpan, now_us: int) -> ReplayOutcome:
    span = _decoded(one.span)
    if span is None:
        return ReplayOutcome(state="refused", outcome="what is kept of the span cannot be read")
    span = bookable(span, one)
    fault = _time_fault(span.end_us, now_us)
    if fault is not None:
        return ReplayOutcome(state="refused", outcome=fault)
    standing = _row_of(connection, one.org_id, span)
    if standing is not None:
        return ReplayOutcome(state="duplicate", outcome="the span had a row already", usage=standing)
    sender = Sender(one.org_id, "", one.key_id)
    batch = Batch(_BATCH_ID, sender, one.received_at_us, [span], 0)
    # A batch id of its own: that a replay is met twice is found out as for every other batch.
    own = msgspec.structs.replace(ledger, collector_id=f"quarantine:{one.org_id}:{one.quarantine_id.hex()}")
    return _booked(connection, own, batch)


def _booked(connection: Connection, ledger: Ledger, batch: Batch) -> ReplayOutcome:
    (span,) = batch.spans
    try:
        with connection.begin_nested():
            book_batches(connection, [batch], ledger)
            row = _row_of(connection, batch.sender.org_id, span)
            if row is None:
                raise _NothingBooked
    except _NothingBooked:
        return ReplayOutcome(state="refused", outcome="the span says nothing of a call to a model")
    except Exception as error:
        if is_trouble(error):
            raise
        logger.error("a replay crashed: %s", where(error))
        # The kind of fault alone, as in the spool: its text may quote values.
        return ReplayOutcome(state="refused", outcome=f"booking failed with {type(error).__name__}")
    return ReplayOutcome(state="replayed", outcome="booked", usage=row)


def bookable(span: Span, one: QuarantinedSpan) -> Span:
    """Give a span what it lacked: the time that somebody stated for it, and ids by its content for those it had not.

    Ids made of the digest are the same for the same bytes, so a span that was sent and rejected twice is one row. A
    stated end moves the start with it, so that the duration stays.
    """
    end_us, start_us = span.end_us, span.start_us
    if one.stated_end_us is not None:
        start_us = None if start_us is None else one.stated_end_us - (end_us - start_us)
        end_us = one.stated_end_us
    identity = blake2b(one.digest, digest_size=24, person=b"fbx-quarantine").digest()
    has_trace = len(span.trace_id) == 16 and any(span.trace_id)
    return msgspec.structs.replace(
        span,
        trace_id=span.trace_id if has_trace else identity[:16],
        span_id=span.span_id if len(span.span_id) == 8 and any(span.span_id) else identity[16:],
        parent_span_id=span.parent_span_id if has_trace else None,
        start_us=start_us,
        end_us=end_us,
    )


def _time_fault(end_us: int, now_us: int) -> str | None:
    cure = "replay it with `occurred_at`, the time at which the call ended"
    if end_us < EARLIEST_US:
        return f"the span has no time after 2020; {cure}"
    if end_us > now_us + MAX_AHEAD_US:
        return f"the span still ends more than a day in the future; wait, or {cure}"
    return None


def _row_of(connection: Connection, org_id: int, span: Span) -> tuple[int, bytes] | None:
    """Find the span's row, whatever its day: a stated time must not make a second one."""
    identity = usage_id(org_id, span.trace_id, span.span_id)
    day = booked_day(connection, org_id, span.trace_id, identity)
    return None if day is None else (day, identity)


def _decoded(payload: bytes | None) -> Span | None:
    if payload is None:
        return None
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

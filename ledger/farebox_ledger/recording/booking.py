"""Books told calls, each once: what stands is answered as it stands, what does not is priced and written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Final, NamedTuple, TypeAlias
from uuid import uuid4

from sqlalchemy import Connection, Engine

from farebox_ledger.pricing import Charge, PriceBook
from farebox_ledger.pricing.events import charge_event
from farebox_ledger.store.querying import UsageRow, rows_near
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.writing import LEASE_US, Booking, book, lease_writer_slot, lock_traces
from farebox_ledger.usage import UsageEvent

MAX_CALLS: Final = 500
"""The most that one transaction books; SQLite's other writers wait for it."""

_Key: TypeAlias = tuple[int, bytes]


class Recorded(NamedTuple):
    """Where a told call stands: its row, that row's charge, and whether it was new."""

    day: int
    usage_id: bytes
    charge: Charge
    is_new: bool


class WriterSlot:
    """The slot that one process writes its sums in, leased when it is first needed and renewed in time."""

    def __init__(self, engine: Engine, kind: str) -> None:
        """Lease nothing yet; `kind` names the process in the table of writers."""
        self._engine = engine
        self._holder = f"{kind}-{uuid4().hex}"
        self._lock = Lock()
        self._slot = 0
        self._renew_at = 0.0

    def number(self) -> int:
        """Answer the slot. Opens a transaction of its own from time to time, so call it outside of one."""
        with self._lock:
            if time.monotonic() >= self._renew_at:
                self._slot = lease_writer_slot(self._engine, self._holder)
                self._renew_at = time.monotonic() + LEASE_US / 4_000_000
            return self._slot


def record(
    connection: Connection, scope: Scope, events: Sequence[UsageEvent], *, prices: PriceBook, writer_slot: int
) -> list[Recorded]:
    """Book what does not stand yet and answer for every event, in their order, where it stands.

    One call in a transaction, with at most `MAX_CALLS` events. An event that stands is not changed, whatever it says.

    Raises:
        InvalidInput: an event is outside the scope, or holds what no row can hold.
    """
    assert len(events) <= MAX_CALLS
    lock_traces(connection, scope, {(event.org_id, event.trace_id) for event in events})
    standing = _standing(connection, scope, events)
    new = _bookings(events, standing, prices)
    if new:
        book(
            connection,
            scope,
            list(new.values()),
            collector_id=None,
            batch_ids=(),
            writer_slot=writer_slot,
            are_new=True,
        )
    return _recorded(events, standing, new)


def preview(connection: Connection, scope: Scope, events: Sequence[UsageEvent], *, prices: PriceBook) -> list[Recorded]:
    """Answer what `record` would, and write nothing."""
    standing = _standing(connection, scope, events)
    return _recorded(events, standing, _bookings(events, standing, prices))


def _standing(connection: Connection, scope: Scope, events: Sequence[UsageEvent]) -> dict[_Key, UsageRow]:
    return rows_near(connection, scope, {(event.org_id, event.day, event.usage_id) for event in events})


def _bookings(
    events: Sequence[UsageEvent], standing: Mapping[_Key, UsageRow], prices: PriceBook
) -> dict[_Key, Booking]:
    """Price what does not stand; of an identity that is told twice the first one counts."""
    new: dict[_Key, Booking] = {}
    for event in events:
        key = (event.org_id, event.usage_id)
        if key not in standing and key not in new:
            event.model_config = prices.configurations.of_call(
                event.org_id,
                explicit=event.model_config,
                provider=event.provider,
                request_model=event.request_model,
                at_us=event.occurred_at_us,
            )
            new[key] = Booking(event, charge_event(prices, event))
    return new


def _recorded(
    events: Sequence[UsageEvent], standing: Mapping[_Key, UsageRow], new: Mapping[_Key, Booking]
) -> list[Recorded]:
    met: set[_Key] = set()
    answers = []
    for event in events:
        key = (event.org_id, event.usage_id)
        row = standing.get(key)
        if row is not None:
            answers.append(Recorded(row.day, row.usage_id, row.charge, is_new=False))
        else:
            booking = new[key]
            answers.append(Recorded(booking.event.day, event.usage_id, booking.charge, is_new=key not in met))
        met.add(key)
    return answers

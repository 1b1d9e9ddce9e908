"""Books spooled batches in one ledger transaction: spans → events → verdicts → charges → rows.

The rows, their sums and the batch ids stand or fall together, so a batch that is met again after a crash is skipped
whole. Runs inside the caller's transaction and touches nothing but the ledger.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import Connection

from farebox_collector import dialects
from farebox_collector.billable import Verdict, is_missing_children, judge, winner
from farebox_collector.charging import charge_of, covering_row
from farebox_collector.spans import Batch, received_at_us
from farebox_ledger.charges import change_charges
from farebox_ledger.pricing import PriceBook
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.timeline import nearby_days
from farebox_ledger.store.writing import BookedEvent, Booking, book, booked_events, lock_traces, seen_batches
from farebox_ledger.usage import UsageEvent

_EVERYBODY: Final = AllOrganizations()
_TraceKey: TypeAlias = tuple[int, bytes]


class Outcome(msgspec.Struct):
    """Where the spans of some batches went; the counts are of spans and sum to all of them."""

    rows: int = 0
    duplicates: int = 0
    not_genai: int = 0
    replayed: int = 0
    changed: int = 0
    missing_children: int = 0  # containers that say more than the calls below them, as of now
    charges: Counter[tuple[str, str | None]] = msgspec.field(default_factory=Counter)

    @property
    def counts(self) -> dict[str, int]:
        """The counts of the conservation law, as the spool keeps them."""
        return {
            "rows": self.rows,
            "duplicates": self.duplicates,
            "not_genai": self.not_genai,
            "replayed": self.replayed,
        }


class Ledger(msgspec.Struct, frozen=True):
    """What booking needs to know of the books, besides a transaction."""

    collector_id: str
    writer_slot: int
    prices: PriceBook


def book_batches(connection: Connection, batches: Sequence[Batch], ledger: Ledger) -> Outcome:
    """Book what the books do not hold yet, and change booked charges that the new spans put in another light."""
    outcome = Outcome()
    seen = seen_batches(connection, ledger.collector_id, [batch.id for batch in batches])
    outcome.replayed = sum(len(batch.spans) for batch in batches if batch.id in seen)
    fresh = [batch for batch in batches if batch.id not in seen]
    events = _events(fresh, outcome)
    _configure(events, ledger.prices)
    traces: dict[_TraceKey, list[UsageEvent]] = defaultdict(list)
    for event in events:
        traces[event.org_id, event.trace_id].append(event)
    lock_traces(connection, _EVERYBODY, traces)
    standing = _standing(connection, events)
    new: list[Booking] = []
    changed: list[Booking] = []
    for key, trace in traces.items():
        for arrived, booked in _stretches(trace, standing.get(key, {})):
            _decide(arrived, booked, ledger.prices, new, changed)
    outcome.rows = book(
        connection,
        _EVERYBODY,
        new,
        collector_id=ledger.collector_id,
        batch_ids=[batch.id for batch in fresh],
        writer_slot=ledger.writer_slot,
        are_new=True,
    )
    outcome.duplicates = len(events) - outcome.rows
    if changed:
        outcome.changed = change_charges(
            connection, _EVERYBODY, changed, cause="later_span", writer_slot=ledger.writer_slot
        )
    outcome.charges.update((booking.charge.status, booking.charge.reason) for booking in new)
    outcome.missing_children = sum(is_missing_children(booking.charge.detail) for booking in (*new, *changed))
    return outcome


def _events(batches: Iterable[Batch], outcome: Outcome) -> list[UsageEvent]:
    events: list[UsageEvent] = []
    for batch in batches:
        sender = batch.sender
        for span in batch.spans:
            event = dialects.read(span)
            if event is None:
                outcome.not_genai += 1
                continue
            event.org_id = sender.org_id
            event.key = sender.key_id
            event.received_at_us = received_at_us(span, batch)
            events.append(event)
    return events


def _configure(events: Iterable[UsageEvent], prices: PriceBook) -> None:
    """Say of each call which of the organization's model configurations it belongs to."""
    for event in events:
        event.model_config = prices.configurations.of_call(
            event.org_id,
            explicit=event.model_config,
            provider=event.provider,
            request_model=event.request_model,
            at_us=event.occurred_at_us,
        )


def _standing(connection: Connection, events: Iterable[UsageEvent]) -> dict[_TraceKey, dict[bytes, BookedEvent]]:
    """Read what is booked of the traces: by trace, by span.

    A look-up reaches one day to each side. Where it finds another day's rows, it goes on from there: a session that
    lasts for days is one trace, whichever of its days came last.
    """
    standing: dict[_TraceKey, dict[bytes, BookedEvent]] = defaultdict(dict)
    asked: set[tuple[int, int, bytes]] = set()
    wanted = {(event.org_id, event.day, event.trace_id) for event in events}
    while wanted:
        asked |= wanted
        found = booked_events(connection, _EVERYBODY, wanted)
        for booked in found:
            event = booked.event
            standing[event.org_id, event.trace_id][event.span_id] = booked
        wanted = {(booked.event.org_id, booked.day, booked.event.trace_id) for booked in found} - asked
    return standing


def _stretches(
    arrived: list[UsageEvent], standing: dict[bytes, BookedEvent]
) -> Iterable[tuple[list[UsageEvent], dict[bytes, BookedEvent]]]:
    """Cut a trace wherever a whole day passes without a span of it.

    What comes alone is not looked up beyond such a day, so what comes together must not be judged across it.
    """
    days = {event.day for event in arrived} | {booked.day for booked in standing.values()}
    if len(days) == 1:
        return [(arrived, standing)]
    stretches = [{min(days)}]
    for before, day in pairwise(sorted(days)):
        if day in nearby_days(before):
            stretches[-1].add(day)
        else:
            stretches.append({day})
    return [
        (
            [event for event in arrived if event.day in stretch],
            {span_id: booked for span_id, booked in standing.items() if booked.day in stretch},
        )
        for stretch in stretches
    ]


def _decide(
    arrived: list[UsageEvent],
    standing: dict[bytes, BookedEvent],
    prices: PriceBook,
    new: list[Booking],
    changed: list[Booking],
) -> None:
    """Judge one trace, or a stretch of days of it, anew and put what has to be written into `new` and `changed`."""
    versions: dict[bytes, list[UsageEvent]] = {span_id: [booked.event] for span_id, booked in standing.items()}
    for event in arrived:
        versions.setdefault(event.span_id, []).append(event)
    chosen = [winner(events) for events in versions.values()]
    verdicts = judge(chosen)
    for event in chosen:
        verdict = verdicts[event.span_id]
        booked = standing.get(event.span_id)
        if booked is None:
            new.append(Booking(event, charge_of(event, verdict, prices)))
        elif event is not booked.event or not _stands(booked, verdict):
            changed.append(Booking(event, charge_of(event, verdict, prices)))


def _stands(booked: BookedEvent, verdict: Verdict) -> bool:
    """Say whether a booked charge agrees with the verdict; a billed one is not priced anew, whatever prices are now."""
    if verdict.is_billed:
        return booked.charge_status != "suppressed" and booked.reason not in ("needs_review", "aggregate_only")
    return (booked.charge_status, booked.reason, booked.detail, booked.covered_by) == (
        verdict.status,
        verdict.reason,
        verdict.detail,
        covering_row(booked.event, verdict),
    )

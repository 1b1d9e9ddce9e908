"""Books spooled batches in one ledger transaction: spans → events → verdicts → charges → rows.

The rows, their sums and the batch ids stand or fall together, so a batch that is met again after a crash is skipped
whole. Runs inside the caller's transaction and touches nothing but the ledger.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import Connection

from farebox_collector import dialects
from farebox_collector.billable import (
    Verdict,
    Verdicts,
    is_missing_children,
    judge,
    judge_across,
    response_of,
    span_key,
    winner,
)
from farebox_collector.charging import charge_of, covering_row
from farebox_collector.spans import Batch, received_at_us
from farebox_ledger.charges import change_charges
from farebox_ledger.pricing import PriceBook
from farebox_ledger.store.responses import ResponseKey, lock_responses, traces_of_responses
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


class _Judged(msgspec.Struct):
    """A trace, or a stretch of days of it: what stands, the chosen version of each span, and the verdicts on them.

    `responses_asked` is set where nothing of the trace has arrived: (organization, response id) of what may change.
    """

    chosen: list[UsageEvent]
    standing: dict[bytes, BookedEvent]
    verdicts: Verdicts
    responses_asked: set[tuple[int, str]] | None = None

    def responses(self) -> Iterator[tuple[UsageEvent, str]]:
        """List the calls that other traces may tell of as well, with their response ids."""
        for event in self.chosen:
            name = response_of(event)
            if name is not None and (self.responses_asked is None or (event.org_id, name) in self.responses_asked):
                yield event, name

    def write(self, prices: PriceBook, new: list[Booking], changed: list[Booking]) -> None:
        """Put what has to be written into `new` and `changed`."""
        concerned = self.chosen if self.responses_asked is None else [event for event, _ in self.responses()]
        for event in concerned:
            verdict = self.verdicts[event.span_id]
            booked = self.standing.get(event.span_id)
            if booked is None:
                new.append(Booking(event, charge_of(event, verdict, prices)))
            elif event is not booked.event or not _stands(booked, verdict):
                changed.append(Booking(event, charge_of(event, verdict, prices)))


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
    new, changed = _decided(connection, events, ledger.prices)
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


def _decided(
    connection: Connection, events: Sequence[UsageEvent], prices: PriceBook
) -> tuple[list[Booking], list[Booking]]:
    """Answer what is to be written for spans that have arrived: new rows, and rows whose charge changes."""
    traces: dict[_TraceKey, list[UsageEvent]] = defaultdict(list)
    for event in events:
        traces[event.org_id, event.trace_id].append(event)
    lock_traces(connection, _EVERYBODY, traces)
    standing = _standing(connection, events)
    judged = [
        _judged(arrived, booked)
        for key, trace in traces.items()
        for arrived, booked in _stretches(trace, standing.get(key, {}))
    ]
    _judge_across(connection, judged)
    new: list[Booking] = []
    changed: list[Booking] = []
    for one in judged:
        one.write(prices, new, changed)
    return new, changed


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
    """Read what is booked of the events' traces: by trace, by span."""
    standing: dict[_TraceKey, dict[bytes, BookedEvent]] = defaultdict(dict)
    for booked in _with_days_around(connection, {(event.org_id, event.day, event.trace_id) for event in events}):
        standing[booked.event.org_id, booked.event.trace_id][booked.event.span_id] = booked
    return standing


def _with_days_around(connection: Connection, wanted: set[tuple[int, int, bytes]]) -> Iterator[BookedEvent]:
    """Read what is booked of traces, given as (organization, day, trace id).

    A look-up reaches one day to each side. Where it finds another day's rows, it goes on from there: a session that
    lasts for days is one trace, whichever of its days came last.
    """
    asked: set[tuple[int, int, bytes]] = set()
    while wanted:
        asked |= wanted
        found = booked_events(connection, _EVERYBODY, wanted)
        yield from found
        wanted = {(booked.event.org_id, booked.day, booked.event.trace_id) for booked in found} - asked


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


def _judged(arrived: list[UsageEvent], standing: dict[bytes, BookedEvent]) -> _Judged:
    """Judge one trace, or a stretch of days of it, anew."""
    versions: dict[bytes, list[UsageEvent]] = {span_id: [booked.event] for span_id, booked in standing.items()}
    for event in arrived:
        versions.setdefault(event.span_id, []).append(event)
    chosen = [winner(events) for events in versions.values()]
    return _Judged(chosen, standing, judge(chosen))


def _judge_across(connection: Connection, judged: list[_Judged]) -> None:
    """Judge calls that are told in several traces, those of other traces in the books among them.

    Those are judged anew themselves, but only as far as it is about these responses.
    """
    judged += _others_that_tell(connection, judged)
    groups: dict[tuple[int, str], list[tuple[_Judged, UsageEvent]]] = defaultdict(list)
    for one in judged:
        for event, name in one.responses():
            if one.verdicts[event.span_id].is_billed:
                groups[event.org_id, name].append((one, event))
    for group in groups.values():
        losers = judge_across([event for _, event in group]) if len(group) > 1 else {}
        for one, event in group:
            one.verdicts[event.span_id] = losers.get(span_key(event), one.verdicts[event.span_id])


def _others_that_tell(connection: Connection, judged: Sequence[_Judged]) -> list[_Judged]:
    """Read and judge the traces in the books that tell of the same responses, and those that tell of theirs again."""
    touched = {(event.org_id, event.trace_id) for one in judged for event in one.chosen}
    wanted = {_response_key(event, name) for one in judged for event, name in one.responses()}
    names = {(org_id, name) for org_id, _, name in wanted}
    asked: set[ResponseKey] = set()
    others: list[_Judged] = []
    while wanted:
        asked |= wanted
        lock_responses(connection, _EVERYBODY, wanted)
        traces = traces_of_responses(connection, _EVERYBODY, wanted)
        found = _judged_again(connection, {key for key in traces if (key[0], key[2]) not in touched}, names)
        touched |= {(event.org_id, event.trace_id) for one in found for event in one.chosen}
        others += found
        wanted = {_response_key(event, name) for one in found for event, name in one.responses()} - asked
    return others


def _judged_again(
    connection: Connection, traces: set[tuple[int, int, bytes]], names: set[tuple[int, str]]
) -> list[_Judged]:
    """Judge traces of which nothing has arrived now; of them only calls with these responses may change."""
    if not traces:
        return []
    lock_traces(connection, _EVERYBODY, {(org_id, trace_id) for org_id, _, trace_id in traces})
    standing: dict[_TraceKey, dict[bytes, BookedEvent]] = defaultdict(dict)
    for booked in _with_days_around(connection, traces):
        standing[booked.event.org_id, booked.event.trace_id][booked.event.span_id] = booked
    found = [_judged([], booked) for trace in standing.values() for _, booked in _stretches([], trace)]
    for one in found:
        one.responses_asked = names
    return found


def _response_key(event: UsageEvent, response_id: str) -> ResponseKey:
    return event.org_id, event.occurred_at_us, response_id


def _stands(booked: BookedEvent, verdict: Verdict) -> bool:
    """Say whether a booked charge agrees with the verdict; a billed one is not priced anew, whatever prices are now.

    Nor does a policy of today reach a row that stands: re-pricing does.
    """
    if verdict.is_left_to_policy:
        return booked.charge_status != "suppressed" and booked.covered_by is None
    if verdict.is_billed:
        return booked.charge_status != "suppressed" and booked.reason not in ("needs_review", "aggregate_only")
    return (booked.charge_status, booked.reason, booked.detail, booked.covered_by) == (
        verdict.status,
        verdict.reason,
        verdict.detail,
        covering_row(booked.event, verdict),
    )

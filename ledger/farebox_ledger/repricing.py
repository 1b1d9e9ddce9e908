"""Re-pricing: what rows would cost by the prices of today's catalog for the time of the call, and making it so.

A filter comes in, an outcome goes out: how many rows were looked at, how many changed, from which status to which, and
the amounts before and after. It runs as a job in steps of a bounded size; each step commits its rows, their sums, their
old versions and how far the job is in one transaction, so that a job goes on where it ended, and a second run of the
same filter changes nothing. Rows change through `charges` alone; catalog and policy are not touched.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import Connection, Engine

from farebox_ledger.charges import change_charges
from farebox_ledger.money import from_pico
from farebox_ledger.pricing import Charge, PriceBook
from farebox_ledger.pricing.events import charge_event
from farebox_ledger.store import jobs
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Interrupted, Job
from farebox_ledger.store.prices import catalog_version, load_book
from farebox_ledger.store.repricing_rows import (
    RowsToPrice,
    StandingCharge,
    changed_since,
    checked,
    expected_rows,
    organizations_with_rows,
    page_of_rows,
)
from farebox_ledger.store.rows import charge_of, row_values
from farebox_ledger.store.schema import BOOKED_COLUMNS
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.store.writing import Booking, lease_writer_slot, lock_traces
from farebox_ledger.usage import BillingStatus, Reason

KIND: Final = "reprice"

CHUNK: Final = 250
"""Rows in one step: SQLite's other writers wait while they are written, at most some 50 ms."""

MAX_EXAMPLES: Final = 10
PREVIEW_ROWS: Final = 5000
"""Rows that a preview looks at; it answers a request, so it is bounded."""

_QUIET_US: Final = 1_000_000
_SLOT_RENEWAL_US: Final = 900_000_000


class RepriceArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What a job does; a dry run computes the same and changes nothing."""

    rows: RowsToPrice
    dry_run: bool = False


class Transition(msgspec.Struct, frozen=True):
    """How many of the changed rows went from one status to another."""

    before: BillingStatus
    after: BillingStatus
    rows: int


class AmountChange(msgspec.Struct, frozen=True):
    """What the changed rows cost before and after, in units of the currency; what had no cost adds nothing."""

    currency: str
    before: Decimal
    after: Decimal


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One of the rows that change, before and after."""

    org_id: int
    day: int
    usage_id: str
    provider: str | None
    model: str | None
    status_before: BillingStatus
    reason_before: Reason | None
    currency_before: str | None
    cost_before_pico: int | None
    status_after: BillingStatus
    reason_after: Reason | None
    currency_after: str | None
    cost_after_pico: int | None
    price_id_after: str | None


class Cursor(msgspec.Struct, frozen=True):
    """The last row that was looked at."""

    org_id: int
    occurred_at_us: int
    usage_id: str


class RepriceOutcome(msgspec.Struct, kw_only=True):
    """What a run has found and done so far; at its end, all of it."""

    dry_run: bool
    catalog_version: int = 0
    rows_expected: int = 0
    rows_seen: int = 0
    rows_changed: int = 0
    transitions: list[Transition] = []
    amounts: list[AmountChange] = []
    examples: list[Example] = []
    is_complete: bool = False
    cursor: Cursor | None = None


Pricing: TypeAlias = tuple[StandingCharge, Charge]
"""A row and the charge that it should have instead of its own."""

Progress: TypeAlias = Callable[[RepriceOutcome], None]


def enqueue_reprice(
    connection: Connection, scope: Scope, rows: RowsToPrice, *, dry_run: bool = False, holder: str | None = None
) -> Job:
    """Order a re-pricing of the scope's rows; the job belongs to the scope. `holder` is who runs it at once.

    Raises:
        InvalidInput: the filter could choose nothing; names the field.
    """
    arguments = RepriceArguments(rows=checked(rows), dry_run=dry_run)
    return jobs.enqueue(connection, scope, KIND, arguments, holder=holder)


def arguments_of(job: Job) -> RepriceArguments:
    """Read what a job was ordered to do."""
    return msgspec.json.decode(job.arguments, type=RepriceArguments)


def outcome_of(job: Job) -> RepriceOutcome | None:
    """Read what a job has done, or has done so far; None before its first step."""
    said = job.result or job.progress
    return None if said is None else msgspec.json.decode(said, type=RepriceOutcome)


def reprice(engine: Engine, job: Job, stop: threading.Event, progress: Progress | None = None) -> RepriceOutcome:
    """Run a job from where it stands to its end; the caller ends it with the outcome.

    Raises:
        Interrupted: `stop` was set; what was done stands, and the job goes on from there.
        LeaseLost: another process has the job by now.
    """
    run = _Run(engine, job)
    while run.step():
        if progress is not None:
            progress(run.outcome)
        if stop.is_set():
            run.keep()
            raise Interrupted
    return run.outcome


def preview(
    connection: Connection, scope: Scope, rows: RowsToPrice, book: PriceBook, *, limit: int = PREVIEW_ROWS
) -> RepriceOutcome:
    """Compute what a book would change, without a job; beyond `limit` rows the outcome is not complete."""
    outcome = RepriceOutcome(
        dry_run=True, catalog_version=book.version, rows_expected=expected_rows(connection, scope, checked(rows))
    )
    for org_id in organizations_with_rows(connection, scope):
        after: tuple[int, bytes] | None = None
        while page := page_of_rows(connection, org_id, rows, after=after, limit=min(CHUNK, limit - outcome.rows_seen)):
            outcome = _counted(outcome, page, repriced(page, book))
            after = page[-1].position[1:]
            if outcome.rows_seen >= limit:
                return outcome
    outcome.is_complete = True
    return outcome


def repriced(rows: Iterable[StandingCharge], book: PriceBook) -> list[Pricing]:
    """Compute the charges that rows should have, for those that have another one.

    What else was considered for a price is no part of a charge: it alone gives no new version.
    """
    priced = ((row, charge_event(book, row.event)) for row in rows)
    return [(row, charge) for row, charge in priced if _as_stored(row, charge) != _plain(row.charge)]


class _Run:
    """One job on its way."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job
        self._arguments = arguments_of(job)
        self._scope: Scope = AllOrganizations() if job.org_id is None else OrgScope(job.org_id)
        self._book: PriceBook | None = None
        self._slot = 0
        self._slot_until_us = 0
        self._kept_at_us = 0
        with transaction(engine, self._scope) as connection:
            self._organizations = organizations_with_rows(connection, self._scope)
            self.outcome = outcome_of(job) or RepriceOutcome(
                dry_run=self._arguments.dry_run,
                rows_expected=expected_rows(connection, self._scope, self._arguments.rows),
            )

    def step(self) -> bool:
        """Look at the next rows and commit what that brings; False at the end."""
        with transaction(self._engine, self._scope) as connection:
            self.outcome.catalog_version = self._current_book(connection).version
            page = self._next_page(connection)
        if not page:
            self.outcome.is_complete = True
            self.outcome.cursor = None
            return False
        pricings = repriced(page, self._current)
        if pricings and not self._arguments.dry_run:
            self._apply(page, pricings)
        else:
            self.outcome = _counted(self.outcome, page, pricings)
            if time.time_ns() // 1000 >= self._kept_at_us + _QUIET_US:
                self.keep()
        return True

    def keep(self) -> None:
        """Extend the lease and keep how far the job is."""
        with transaction(self._engine, self._scope, write=True) as connection:
            self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        jobs.heartbeat(connection, self._job, progress=self.outcome)
        self._kept_at_us = time.time_ns() // 1000

    def _apply(self, page: Sequence[StandingCharge], pricings: list[Pricing]) -> None:
        """Write a step: rows, versions, sums and progress stand or fall together."""
        slot = self._writer_slot()
        before = self.outcome
        try:
            with transaction(self._engine, self._scope, write=True) as connection:
                traces = {(row.event.org_id, row.event.trace_id) for row, _ in pricings}
                lock_traces(connection, self._scope, traces)
                pricings = self._still_right(connection, pricings)
                changes = [Booking(row.event, charge) for row, charge in pricings]
                cause = f"{KIND}:{self._job.id}"
                changed = change_charges(connection, self._scope, changes, cause=cause, writer_slot=slot)
                assert changed == len(changes), "what was compared is what is written"
                self.outcome = _counted(before, page, pricings)
                self._keep(connection)
        except BaseException:
            self.outcome = before
            raise

    def _still_right(self, connection: Connection, pricings: list[Pricing]) -> list[Pricing]:
        """Price those rows again that somebody has changed since they were read; now they are held."""
        rows = [row for row, _ in pricings]
        untouched, others = changed_since(connection, rows, self._arguments.rows)
        kept = [one for one in pricings if (one[0].event.org_id, one[0].event.usage_id) in untouched]
        return kept + repriced(others, self._current)

    def _next_page(self, connection: Connection) -> list[StandingCharge]:
        cursor = self.outcome.cursor
        for org_id in self._organizations:
            if cursor is not None and org_id < cursor.org_id:
                continue
            after = None
            if cursor is not None and org_id == cursor.org_id:
                after = (cursor.occurred_at_us, bytes.fromhex(cursor.usage_id))
            page = page_of_rows(connection, org_id, self._arguments.rows, after=after, limit=CHUNK)
            if page:
                return page
        return []

    @property
    def _current(self) -> PriceBook:
        assert self._book is not None, "a step reads the book first"
        return self._book

    def _current_book(self, connection: Connection) -> PriceBook:
        if self._book is None or self._book.version != catalog_version(connection):
            self._book = load_book(connection)
        return self._book

    def _writer_slot(self) -> int:
        now_us = time.time_ns() // 1000
        if now_us >= self._slot_until_us:
            assert self._job.holder is not None, "a job that runs has a holder"
            self._slot = lease_writer_slot(self._engine, self._job.holder)
            self._slot_until_us = now_us + _SLOT_RENEWAL_US
        return self._slot


def _counted(outcome: RepriceOutcome, page: Sequence[StandingCharge], pricings: Sequence[Pricing]) -> RepriceOutcome:
    """Add a step to an outcome; the given one is left as it is."""
    last = page[-1]
    room = MAX_EXAMPLES - len(outcome.examples)
    return msgspec.structs.replace(
        outcome,
        rows_seen=outcome.rows_seen + len(page),
        rows_changed=outcome.rows_changed + len(pricings),
        transitions=_transitions(outcome.transitions, pricings),
        amounts=_amounts(outcome.amounts, pricings),
        examples=[*outcome.examples, *(_example(row, charge) for row, charge in pricings[:room])],
        cursor=Cursor(last.event.org_id, last.event.occurred_at_us, last.event.usage_id.hex()),
    )


def _transitions(standing: Sequence[Transition], pricings: Sequence[Pricing]) -> list[Transition]:
    counts = {(one.before, one.after): one.rows for one in standing}
    for row, charge in pricings:
        key = (row.charge.status, charge.status)
        counts[key] = counts.get(key, 0) + 1
    return [Transition(*key, rows) for key, rows in sorted(counts.items())]


def _amounts(standing: Sequence[AmountChange], pricings: Sequence[Pricing]) -> list[AmountChange]:
    before = {one.currency: one.before for one in standing}
    after = {one.currency: one.after for one in standing}
    for row, charge in pricings:
        _add(before, row.charge)
        _add(after, charge)
    nothing = Decimal(0)
    currencies = sorted(before.keys() | after.keys())
    return [AmountChange(name, before.get(name, nothing), after.get(name, nothing)) for name in currencies]


def _add(sums: dict[str, Decimal], charge: Charge) -> None:
    if charge.cost_pico is not None and charge.currency is not None:
        sums[charge.currency] = sums.get(charge.currency, Decimal(0)) + from_pico(charge.cost_pico)


def _example(row: StandingCharge, charge: Charge) -> Example:
    return Example(
        org_id=row.event.org_id,
        day=row.day,
        usage_id=row.event.usage_id.hex(),
        provider=row.charge.provider,
        model=row.charge.model,
        status_before=row.charge.status,
        reason_before=row.charge.reason,
        currency_before=row.charge.currency,
        cost_before_pico=row.charge.cost_pico,
        status_after=charge.status,
        reason_after=charge.reason,
        currency_after=charge.currency,
        cost_after_pico=charge.cost_pico,
        price_id_after=None if charge.price is None else charge.price.id,
    )


def _as_stored(row: StandingCharge, charge: Charge) -> Charge:
    """Read a new charge as it would come back from the row."""
    values = row_values(row.event, charge, row.day)
    return _plain(charge_of(dict(zip(BOOKED_COLUMNS, values, strict=True))))


def _plain(charge: Charge) -> Charge:
    return msgspec.structs.replace(charge, rejected=())

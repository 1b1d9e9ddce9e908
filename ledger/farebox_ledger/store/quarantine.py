"""The quarantine of the books: spans that could not be booked as they came, until somebody replays or deletes them.

Collectors bring in what lies in their spools; the API lists, asks for replays and deletes; a collector books what is
asked for and notes how it ended. What a span holds is the collector's own encoding and is opaque here. Raw bytes never
come this far.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    and_,
    delete,
    func,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from farebox_ledger.errors import Conflict, NotFound
from farebox_ledger.store.audit import note, nothing_changed
from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.schema import Big, checked_one_of, key, metadata, required, usage_rows
from farebox_ledger.store.scope import Scope, require, within

QuarantineReason: TypeAlias = Literal[
    "bad_trace_id",
    "bad_span_id",
    "clock_skew",
    "malformed_span",
    "booking_crashed",
    "unreadable_batch",
]
QuarantineState: TypeAlias = Literal["held", "requested", "replayed", "duplicate", "refused"]
"""`held`: waits for somebody. `requested`: a collector is to book it. `replayed`: it is a usage row. `duplicate`: its
span had a row already. `refused`: it still cannot be booked; the outcome says why, and it may be asked for again."""

MAX_ROWS: Final = 10_000
"""Per organization. Beyond, the oldest that their senders were told of are forgotten."""
_ACKNOWLEDGED: Final = ("booking_crashed", "unreadable_batch")
"""Senders were told that these are accepted: only somebody's word deletes them."""
_SETTLED: Final = ("replayed", "duplicate")
_REQUESTED: Final = text("state = 'requested'")

quarantined_spans = Table(
    "quarantined_spans",
    metadata,
    key("org_id", Big),
    key("quarantine_id", LargeBinary),
    Column("key_id", Text),
    required("received_at_us", Big),
    required("reason", Text),
    required("detail", Text),
    required("digest", LargeBinary),  # of the bytes as they came, which are nowhere
    required("size_bytes", Integer),
    Column("trace_id", LargeBinary),
    Column("span_id", LargeBinary),
    Column("ended_at_us", Big),  # as the span says; NULL: it does not
    Column("attributes", Text),  # the reduced ones, as a JSON object
    Column("span", LargeBinary),  # NULL: nothing of it could be read, and it cannot be replayed
    required("state", Text, default="'held'"),
    Column("stated_end_us", Big),  # when the call ended, as whoever asked for the replay knows
    Column("outcome", Text),
    Column("usage_day", Integer),
    Column("usage_id", LargeBinary),
    required("changed_at_us", Big),
    checked_one_of("reason", QuarantineReason),
    checked_one_of("state", QuarantineState),
    CheckConstraint("length(quarantine_id) = 16", name="quarantine_id_is_128_bits"),
    CheckConstraint("span IS NOT NULL OR state = 'held'", name="nothing_is_replayed_from_nothing"),
    CheckConstraint("(usage_id IS NULL) = (usage_day IS NULL)", name="usage_is_named_whole"),
    Index("ix_quarantined_spans_received", "org_id", "received_at_us", "quarantine_id"),
    Index(
        "ix_quarantined_spans_requested",
        "org_id",
        "quarantine_id",
        sqlite_where=_REQUESTED,
        postgresql_where=_REQUESTED,
    ),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

_TABLE: Final = quarantined_spans
_INSERTS: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

_NOTED: Final = ("reason", "detail", "received_at_us", "ended_at_us", "state", "stated_end_us", "outcome", "usage_day")
"""What the audit log keeps of a span."""

Place: TypeAlias = tuple[int, bytes]
"""Where a list goes on: time of arrival and id of the last one shown."""


class QuarantinedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span in the quarantine. Times are microseconds since 1970; ids are as they came, of any length."""

    quarantine_id: bytes
    org_id: int
    received_at_us: int
    reason: str
    detail: str
    digest: bytes
    size_bytes: int
    key_id: str | None = None
    trace_id: bytes | None = None
    span_id: bytes | None = None
    ended_at_us: int | None = None
    attributes: str | None = None
    span: bytes | None = None
    state: QuarantineState = "held"
    stated_end_us: int | None = None
    outcome: str | None = None
    usage_day: int | None = None
    usage_id: bytes | None = None
    changed_at_us: int = 0


class QuarantineFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which spans are listed; None asks for nothing. The range is of arrival, half-open."""

    reason: str | None = None
    state: str | None = None
    trace_id: bytes | None = None
    start_us: int | None = None
    end_us: int | None = None


class ReplayOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay ended; `usage` is (day, usage id) of the row that the span has in the books."""

    state: Literal["replayed", "duplicate", "refused"]
    outcome: str
    usage: tuple[int, bytes] | None = None


def bring_in(connection: Connection, scope: Scope, spans: Sequence[QuarantinedSpan]) -> int:
    """Write spans that a collector sets aside and say how many are new; one that stands already is left as it is.

    Raises:
        InvalidInput: a span is outside the scope.
    """
    for one in spans:
        require(scope, one.org_id)
    fresh = 0
    add = _INSERTS[connection.dialect.name](_TABLE).on_conflict_do_nothing().returning(_TABLE.c.quarantine_id)
    for one in spans:
        row = {**msgspec.structs.asdict(one), "changed_at_us": _now_us()}
        fresh += connection.execute(add, row).first() is not None
    for org_id in sorted({one.org_id for one in spans}):
        _forget_oldest(connection, org_id)
    return fresh


def list_quarantined(
    connection: Connection, scope: Scope, wanted: QuarantineFilter, *, limit: int, after: Place | None = None
) -> list[QuarantinedSpan]:
    """List spans, the newest arrival first, those behind `after`."""
    conditions = [within(scope, _TABLE.c.org_id), *_conditions(wanted)]
    if after is not None:
        conditions.append(tuple_(_TABLE.c.received_at_us, _TABLE.c.quarantine_id) < tuple_(*after))
    newest_first = (_TABLE.c.received_at_us.desc(), _TABLE.c.quarantine_id.desc())
    found = connection.execute(select(_TABLE).where(*conditions).order_by(*newest_first).limit(limit))
    return [_span(row) for row in found]


def quarantined_span(connection: Connection, scope: Scope, quarantine_id: bytes) -> QuarantinedSpan:
    """Read one span.

    Raises:
        NotFound: it does not exist in the scope.
    """
    row = connection.execute(select(_TABLE).where(*_is(scope, quarantine_id))).first()
    if row is None:
        raise NotFound("quarantined span", quarantine_id.hex())
    return _span(row)


def request_replay(
    connection: Connection, scope: Scope, quarantine_id: bytes, *, stated_end_us: int | None = None
) -> QuarantinedSpan:
    """Ask that a span be booked; what has been booked stays as it is. Asking again changes nothing but a stated time.

    Args:
        connection: a write transaction.
        scope: whose spans may be asked for.
        quarantine_id: the span.
        stated_end_us: when the call ended, for a span whose own time cannot be believed; None: as it says itself.

    Raises:
        NotFound: it does not exist in the scope.
        Conflict: nothing of the span could be read, so there is nothing to book.
    """
    found = quarantined_span(connection, scope, quarantine_id)
    if found.state in _SETTLED:
        nothing_changed()
        return found
    if found.span is None:
        raise Conflict("nothing of this span could be read, so there is nothing to replay; it can only be deleted")
    connection.execute(
        update(_TABLE)
        .where(*_is(scope, quarantine_id), _TABLE.c.state.not_in(_SETTLED))
        .values(state="requested", stated_end_us=stated_end_us, outcome=None, changed_at_us=_now_us())
    )
    asked = quarantined_span(connection, scope, quarantine_id)
    _note(connection, "replay", before=found, after=asked)
    return asked


def delete_quarantined(connection: Connection, scope: Scope, quarantine_id: bytes) -> None:
    """Forget a span for good; a usage row that came of it stays.

    Raises:
        NotFound: it does not exist in the scope.
    """
    found = quarantined_span(connection, scope, quarantine_id)
    if connection.execute(delete(_TABLE).where(*_is(scope, quarantine_id))).rowcount == 0:
        raise NotFound("quarantined span", quarantine_id.hex())
    _note(connection, "delete", before=found)


def _note(
    connection: Connection, action: str, *, before: QuarantinedSpan, after: QuarantinedSpan | None = None
) -> None:
    """Note what somebody decided about a span, without what it holds."""
    states = [None if one is None else {name: getattr(one, name) for name in _NOTED} for one in (before, after)]
    identity = before.quarantine_id.hex()
    note(
        connection,
        f"quarantine.{action}",
        "quarantined_span",
        identity,
        org_id=before.org_id,
        before=states[0],
        after=states[1],
    )


def requested_replay(connection: Connection) -> QuarantinedSpan | None:
    """Take one span that is to be booked, until the transaction ends; another collector passes over it."""
    wanted = select(_TABLE).where(_REQUESTED).order_by(_TABLE.c.org_id, _TABLE.c.quarantine_id).limit(1)
    if not is_sqlite(connection):
        wanted = wanted.with_for_update(skip_locked=True)
    row = connection.execute(wanted).first()
    return None if row is None else _span(row)


def booked_day(connection: Connection, org_id: int, trace_id: bytes, usage_id: bytes) -> int | None:
    """Find the day of a span's row, whichever it is: a stated time must not make a second row. None: it has none."""
    rows = usage_rows.c
    wanted = select(rows.day).where(rows.org_id == org_id, rows.trace_id == trace_id, rows.usage_id == usage_id)
    return connection.scalar(wanted)


def note_replay(connection: Connection, one: QuarantinedSpan, ended: ReplayOutcome) -> None:
    """Write how a replay ended, in the transaction that booked it."""
    day, usage_id = ended.usage or (None, None)
    connection.execute(
        update(_TABLE)
        .where(_TABLE.c.org_id == one.org_id, _TABLE.c.quarantine_id == one.quarantine_id)
        .values(state=ended.state, outcome=ended.outcome, usage_day=day, usage_id=usage_id, changed_at_us=_now_us())
    )


def _forget_oldest(connection: Connection, org_id: int) -> None:
    held = connection.scalar(select(func.count()).select_from(_TABLE).where(_TABLE.c.org_id == org_id)) or 0
    if held <= MAX_ROWS:
        return
    may_go = or_(
        _TABLE.c.state.in_(_SETTLED),
        and_(_TABLE.c.reason.not_in(_ACKNOWLEDGED), _TABLE.c.state != "requested"),
    )
    oldest = (
        select(_TABLE.c.quarantine_id)
        .where(_TABLE.c.org_id == org_id, may_go)
        .order_by(_TABLE.c.received_at_us, _TABLE.c.quarantine_id)
        .limit(held - MAX_ROWS)
    )
    connection.execute(delete(_TABLE).where(_TABLE.c.org_id == org_id, _TABLE.c.quarantine_id.in_(oldest)))


def _conditions(wanted: QuarantineFilter) -> list[ColumnElement[bool]]:
    columns = _TABLE.c
    conditions = [
        columns[name] == value
        for name in ("reason", "state", "trace_id")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.start_us is not None:
        conditions.append(columns.received_at_us >= wanted.start_us)
    if wanted.end_us is not None:
        conditions.append(columns.received_at_us < wanted.end_us)
    return conditions


def _is(scope: Scope, quarantine_id: bytes) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return within(scope, _TABLE.c.org_id), _TABLE.c.quarantine_id == quarantine_id


def _span(row: Row[Any]) -> QuarantinedSpan:
    return QuarantinedSpan(**row._mapping)


def _now_us() -> int:
    return time.time_ns() // 1000

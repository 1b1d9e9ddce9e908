"""The one way to change what a row costs: re-pricing, reversal, a better version of the same span (law 6).

New events and charges come in for rows that stand. Each row's old charge goes to the append-only `charge_versions`,
its version grows by one and the rollups get the difference. Keys never change, and nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from farebox_ledger.store.changing import StoredRow, replace_rows, stored_rows
from farebox_ledger.store.rows import POSITION, RowValues, row_values
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.timeline import day_start_us, next_day
from farebox_ledger.store.users import note_users
from farebox_ledger.store.writing import Booking, lock_traces


def change_charges(
    connection: Connection, scope: Scope, changes: Sequence[Booking], *, cause: str, writer_slot: int
) -> int:
    """Rewrite rows' facts and charges and say how many changed; what is as it was gets no new version.

    A row keeps its day and its first time of arrival. An end that falls on another day is not taken over either: the
    month of a row is the month in which it was booked first. When a row is named twice, the last change counts.

    Args:
        connection: a write transaction.
        scope: whose rows may be changed.
        changes: the events as they shall stand, with the charges that were computed for them.
        cause: why, for whoever asks later, such as `reprice:<job id>` or `covered_by_child`.
        writer_slot: the writer's own slot (`writing.lease_writer_slot`).

    Raises:
        NotFound: an event has no row.
        InvalidInput: an event is outside the scope, or holds what no row can hold.
    """
    latest = {(change.event.org_id, change.event.usage_id): change for change in changes}
    events = [change.event for change in latest.values()]
    lock_traces(connection, scope, {(event.org_id, event.trace_id) for event in events})
    standing = stored_rows(connection, scope, events)
    replaced: list[tuple[StoredRow, RowValues]] = []
    for key, change in latest.items():
        values = _in_place_of(standing[key], change)
        if values != standing[key].values:
            replaced.append((standing[key], values))
    replace_rows(connection, replaced, cause=cause, writer_slot=writer_slot)
    note_users(connection, events)
    return len(replaced)


def _in_place_of(old: StoredRow, change: Booking) -> RowValues:
    """Lay out the change with what a row keeps: its day, its arrival and, where the end left the day, its end."""
    day = old.values[POSITION["day"]]
    event = msgspec.structs.replace(change.event, received_at_us=old.values[POSITION["received_at_us"]])
    if not day_start_us(day) <= event.occurred_at_us < day_start_us(next_day(day)):
        event.occurred_at_us = old.values[POSITION["occurred_at_us"]]
    return row_values(event, change.charge, day)

"""Finds calls of other traces that tell of the same response of a provider, and lets nobody else decide about them.

Only calls that begin a trace are looked at; the partial index holds no others.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection

from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.scope import Scope, require
from farebox_ledger.store.statements import among, chunks, marks

ResponseKey: TypeAlias = tuple[int, int, str]
"""Organization, end of the call in microseconds, response id."""

TOLD_WITHIN_US: Final = 60_000_000
"""How far apart the ends may lie that two libraries tell of one call."""
MAX_TOLD: Final = 64
"""More libraries than these see no call; a server that gives all its responses one id has more."""

_RESPONSE_LOCKS: Final = 0x6662_7273  # "fbrs": the class of advisory locks that responses are locked in
_RESPONSE_BUCKETS: Final = 1 << 20


def lock_responses(connection: Connection, scope: Scope, responses: Collection[ResponseKey]) -> None:
    """Let nobody else decide about calls with these responses until the transaction ends, as `lock_traces` of traces.

    A writer takes them after those of its traces. Two that meet in both stop each other, which PostgreSQL notices and
    ends for one of them; its batch is booked again.
    """
    if is_sqlite(connection):
        return
    buckets = set()
    for org_id, _, response_id in responses:
        require(scope, org_id)
        buckets.add(zlib.crc32(response_id.encode(), org_id & 0xFFFFFFFF) % _RESPONSE_BUCKETS)
    if buckets:
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(%s, bucket) FROM unnest(%s::int[]) AS bucket",
            (_RESPONSE_LOCKS, sorted(buckets)),
        )


def traces_of_responses(
    connection: Connection, scope: Scope, responses: Collection[ResponseKey]
) -> set[tuple[int, int, bytes]]:
    """Find booked calls that begin a trace and have one of these responses: (organization, day, trace id).

    Those that ended within `TOLD_WITHIN_US` of the moment are found. A response id that more than `MAX_TOLD` calls have
    at that time is no identity, and finds none.
    """
    asked: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for org_id, occurred_at_us, response_id in responses:
        require(scope, org_id)
        asked[org_id][response_id].append(occurred_at_us)
    found: set[tuple[int, int, bytes]] = set()
    for org_id, moments in sorted(asked.items()):
        for part in chunks(sorted(moments)):
            found |= _told(connection, org_id, {response_id: moments[response_id] for response_id in part})
    return found


def _told(connection: Connection, org_id: int, moments: Mapping[str, list[int]]) -> set[tuple[int, int, bytes]]:
    """Read at most `MAX_TOLD` calls of each response id, and one more that shows that there are too many."""
    rows = _rows_told(connection, org_id, moments)
    if len(rows) > MAX_TOLD * len(moments):
        # One of them at least is no identity. Each by itself is read no further than it takes to see that.
        rows = [row for name, each in moments.items() for row in _rows_told(connection, org_id, {name: each})]
    told: dict[str, list[tuple[int, int, bytes]]] = defaultdict(list)
    for response_id, day, trace_id in rows:
        told[response_id].append((org_id, day, bytes(trace_id)))
    return {trace for traces in told.values() if len(traces) <= MAX_TOLD for trace in traces}


def _rows_told(connection: Connection, org_id: int, moments: Mapping[str, list[int]]) -> Sequence[Sequence[Any]]:
    """Read the rows, one more than all the ids may have together at most.

    That a response id in a list is not NULL goes without saying; said all the same, it leads SQLite to walk all ids
    of the organization where the list is long.
    """
    database = connection.dialect.name
    is_asked, values = among("response_id", list(moments), database)
    ends = [moment for each in moments.values() for moment in each]
    mark = marks(1, database)
    return connection.exec_driver_sql(
        f"SELECT response_id, day, trace_id FROM usage_rows WHERE org_id = {mark} AND {is_asked} "
        f"AND occurred_at_us BETWEEN {mark} AND {mark} AND parent_span_id IS NULL LIMIT {mark}",
        (org_id, *values, min(ends) - TOLD_WITHIN_US, max(ends) + TOLD_WITHIN_US, MAX_TOLD * len(moments) + 1),
    ).all()

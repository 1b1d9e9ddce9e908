"""Counts the requests of keys by the minute, shared by all processes that work on one database.

On PostgreSQL the counts stand in a table, beside SQLite's file in a `state.db` of their own: counting must not take the
books' one write lock, and what is lost of it in a crash is a minute's count.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import Engine, text

from farebox_ledger.store.engine import is_sqlite, transaction
from farebox_ledger.store.scope import AllOrganizations

WINDOW_US: Final = 60_000_000

Counter: TypeAlias = Callable[[str, int], int]
"""Counts one request of a key (id, start of the window in microseconds) and answers how many the window has."""

_COUNT: Final = """
INSERT INTO rate_counts (key_id, window_us, used) VALUES (:key_id, :window_us, 1)
ON CONFLICT (key_id) DO UPDATE SET
    used = CASE WHEN rate_counts.window_us = excluded.window_us THEN rate_counts.used + 1 ELSE 1 END,
    window_us = excluded.window_us
RETURNING used
"""


class Allowance(msgspec.Struct, frozen=True):
    """What a key has left in this minute. `used` counts this request; `reset_s` until the next minute begins."""

    limit: int
    used: int
    reset_s: int

    @property
    def is_exceeded(self) -> bool:
        """Say whether this request is one too many."""
        return self.used > self.limit

    @property
    def remaining(self) -> int:
        """Answer how many more requests the minute has."""
        return max(0, self.limit - self.used)


class RateLimits:
    """Counts against the limits of keys."""

    def __init__(self, engine: Engine, *, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        """Count nothing yet; SQLite's file of counts is made at the first request."""
        self._now_us = now_us
        self._count = _beside(engine) if is_sqlite(engine) else _in_table(engine)

    def use(self, key_id: str, requests_per_minute: int) -> Allowance:
        """Count one request of a key and say what that leaves."""
        now_us = self._now_us()
        window_us = now_us // WINDOW_US * WINDOW_US
        used = self._count(key_id, window_us)
        return Allowance(requests_per_minute, used, -((now_us - window_us - WINDOW_US) // 1_000_000))


def _in_table(engine: Engine) -> Counter:
    def count(key_id: str, window_us: int) -> int:
        with transaction(engine, AllOrganizations(), write=True) as connection:
            counted = connection.execute(text(_COUNT), {"key_id": key_id, "window_us": window_us})
            return int(counted.scalar_one())

    return count


def _beside(engine: Engine) -> Counter:
    file = Path(str(engine.url.database)).with_name("state.db")

    def count(key_id: str, window_us: int) -> int:
        with closing(sqlite3.connect(file, timeout=10, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS rate_counts (key_id TEXT PRIMARY KEY, window_us INTEGER NOT NULL, "
                "used INTEGER NOT NULL) WITHOUT ROWID"
            )
            values = {"key_id": key_id, "window_us": window_us}
            # All rows are fetched, because the statement commits only when it has been stepped to its end.
            ((used,),) = connection.execute(_COUNT, values).fetchall()
            return int(used)

    return count

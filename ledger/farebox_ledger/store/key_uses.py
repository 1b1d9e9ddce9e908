"""When keys were last used, within a minute: noted by whoever has checked a key, read by whoever lists keys.

As with `rate_limits`, on PostgreSQL it stands in a table, beside SQLite's file in `state.db`: noting must not take the
books' one write lock. A use that cannot be noted is left out; nobody is refused for it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

from sqlalchemy import Engine, bindparam, text
from sqlalchemy.exc import DBAPIError

from farebox_ledger.errors import DatabaseNotReady
from farebox_ledger.store.engine import is_sqlite, transaction
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.statements import chunks, marks

NOTED_EVERY_US: Final = 60_000_000
"""How often one process notes the use of one key."""

_NOTE: Final = """
INSERT INTO key_uses (key_id, used_at_us) VALUES (:key_id, :used_at_us)
ON CONFLICT (key_id) DO UPDATE SET used_at_us = excluded.used_at_us
WHERE key_uses.used_at_us < excluded.used_at_us
"""
_READ: Final = "SELECT key_id, used_at_us FROM key_uses WHERE key_id IN "

_Note: TypeAlias = dict[str, str | int]


class KeyUses:
    """Notes uses for one process, and reads those of all."""

    def __init__(self, engine: Engine, *, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        """Note nothing yet; SQLite's file is made at the first use."""
        self._engine = engine
        self._now_us = now_us
        self._noted: dict[str, int] = {}

    def is_due(self, key_id: str) -> bool:
        """Say whether `note` would write: this process has noted no use of the key within the last minute."""
        return self._now_us() - self._noted.get(key_id, 0) >= NOTED_EVERY_US

    def note(self, key_ids: Iterable[str]) -> None:
        """Note that keys are used now, as far as that is due."""
        now_us = self._now_us()
        notes: list[_Note] = [{"key_id": one, "used_at_us": now_us} for one in sorted(key_ids) if self.is_due(one)]
        if not notes:
            return
        self._noted.update((str(note["key_id"]), now_us) for note in notes)
        try:
            self._write(notes)
        except (sqlite3.Error, DBAPIError, DatabaseNotReady):
            return  # the next use, a minute later, is noted instead

    def last_used_us(self, key_ids: Collection[str]) -> dict[str, int]:
        """Answer when keys were last used; those that never were, or not since they are noted, are left out."""
        return {key_id: used_us for part in chunks(sorted(key_ids)) for key_id, used_us in self._read(part)}

    def _write(self, notes: list[_Note]) -> None:
        if not is_sqlite(self._engine):
            with transaction(self._engine, AllOrganizations(), write=True) as connection:
                connection.execute(text(_NOTE), notes)
            return
        with closing(self._beside()) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.executemany(_NOTE, notes)

    def _read(self, key_ids: Sequence[str]) -> list[tuple[str, int]]:
        if not is_sqlite(self._engine):
            asked = text(f"{_READ} :ids").bindparams(bindparam("ids", key_ids, expanding=True))
            with transaction(self._engine, AllOrganizations()) as connection:
                return [(key_id, int(used_at_us)) for key_id, used_at_us in connection.execute(asked)]
        with closing(self._beside()) as connection:
            return connection.execute(f"{_READ} ({marks(len(key_ids), 'sqlite')})", key_ids).fetchall()

    def _beside(self) -> sqlite3.Connection:
        file = Path(str(self._engine.url.database)).with_name("state.db")
        connection = sqlite3.connect(file, timeout=10, isolation_level=None)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS key_uses (key_id TEXT PRIMARY KEY, used_at_us INTEGER NOT NULL) WITHOUT ROWID"
        )
        return connection

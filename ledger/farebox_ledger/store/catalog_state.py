"""The version of the catalog and the lock of those who change it.

Every change of prices, aliases, multipliers, policies or configurations takes the lock, and raises the version in the
same transaction; running processes poll the version and read their book anew.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, insert, select, text, update

from farebox_ledger.store.engine import is_sqlite
from farebox_ledger.store.schema import catalog_state

_CATALOG_LOCK: Final = 0x6661_7265_626F_7802  # "farebox" and 2: the advisory lock of everyone who changes the catalog


def catalog_version(connection: Connection) -> int:
    """Answer the number that every change of prices raises; 0 before the first one."""
    return connection.execute(select(catalog_state.c.version)).scalar() or 0


def lock_catalog(connection: Connection) -> None:
    """Let nobody else change the catalog until this transaction ends; on SQLite a write transaction is alone anyway."""
    if not is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CATALOG_LOCK})


def raise_catalog_version(connection: Connection) -> int:
    """Tell every process that prices have changed; part of the transaction that changes them."""
    version = catalog_version(connection) + 1
    changed = connection.execute(update(catalog_state).where(catalog_state.c.id == 1).values(version=version))
    if not changed.rowcount:
        connection.execute(insert(catalog_state).values(id=1, version=version))
    return version

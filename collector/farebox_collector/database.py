"""The collector's side of the database: what is made at the start, what is polled, and which faults mean "not now"."""

from __future__ import annotations

import gc
import logging
import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from farebox_collector.booking import Ledger
from farebox_collector.spool import KnownKey
from farebox_ledger.errors import Conflict, DatabaseNotReady
from farebox_ledger.pricing import PriceBook
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.key_uses import KeyUses
from farebox_ledger.store.keys import KeyRecord, all_keys, key_by_hash
from farebox_ledger.store.migrations import ensure_schema
from farebox_ledger.store.organizations import create_organization, organization_by_slug
from farebox_ledger.store.prices import catalog_version, ensure_shipped_prices, load_book
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.writing import lease_writer_slot

logger = logging.getLogger(__name__)

LEASE_RENEWAL_S: Final = 900.0
GARBAGE_OBJECTS: Final = 10_000
"""How many objects more than before there have to be for a look at the youngest; Python's own setting is 700."""

# PostgreSQL's documentation, appendix A: connection, transaction state (read-only), authorization, catalog, rollback,
# resources, object state, operator, system, internal; and tables, columns, functions or rights that are not there.
_TROUBLED_CLASSES: Final = ("08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX")
_TROUBLED_STATES: Final = frozenset(("42501", "42703", "42883", "42P01", "3F000"))
_EVERYBODY: Final = AllOrganizations()


def is_trouble(error: Exception) -> bool:
    """Say whether a fault is the database's (away, locked, full, not migrated, damaged), so that waiting cures it.

    Everything else is the fault of what was to be booked, or ours.
    """
    if isinstance(error, DatabaseNotReady | OperationalError | InterfaceError | PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and (error.connection_invalidated or _is_of_the_database(error.orig))


def _is_of_the_database(fault: BaseException | None) -> bool:
    """Tell by the codes what the classes of errors do not: no span makes a table disappear or a server read-only."""
    state = getattr(fault, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_TROUBLED_CLASSES) or state in _TROUBLED_STATES
    code = getattr(fault, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Books:
    """The ledger as the pipeline uses it. Used by one thread."""

    def __init__(self, engine: Engine, *, collector_id: str, default_org: str | None, catalog_poll_s: float) -> None:
        """Remember what to open; nothing is connected before `ledger`."""
        self.engine = engine
        self._collector_id = collector_id
        self._default_org = default_org
        self._catalog_poll_s = catalog_poll_s
        self.key_uses = KeyUses(engine)
        self._ledger: Ledger | None = None
        self._renew_at = 0.0
        self._poll_at = 0.0

    def ledger(self) -> Ledger:
        """Answer slot and prices as they hold now; an empty database is made at the first call.

        Raises:
            DatabaseNotReady, sqlalchemy errors: the database cannot be used now.
        """
        now = time.monotonic()
        if self._ledger is None:
            ensure_schema(self.engine)
            ensure_shipped_prices(self.engine)
            self._ensure_default_org()
        if now >= self._renew_at:
            slot = lease_writer_slot(self.engine, self._collector_id)
            self._renew_at = now + LEASE_RENEWAL_S
        else:
            assert self._ledger is not None
            slot = self._ledger.writer_slot
        if self._ledger is None or now >= self._poll_at:
            self._ledger = Ledger(self._collector_id, slot, self._current_prices())
            self._poll_at = now + self._catalog_poll_s
        return self._ledger

    def _current_prices(self) -> PriceBook:
        with transaction(self.engine, _EVERYBODY) as connection:
            if self._ledger is not None and catalog_version(connection) == self._ledger.prices.version:
                return self._ledger.prices
            book = load_book(connection)
        # A book is tens of thousands of objects that live on: the collector of garbage cycles need not walk through
        # them while spans are booked, which was a tenth of the cost of booking. Nor need it look for cycles several
        # times in each batch: what booking makes has none and goes with the batch.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS)
        return book

    def _ensure_default_org(self) -> None:
        if self._default_org is None:
            return
        with transaction(self.engine, _EVERYBODY, write=True) as connection:
            _ensure_organization(connection, self._default_org)


def _ensure_organization(connection: Connection, slug: str) -> None:
    if organization_by_slug(connection, slug) is not None:
        return
    try:
        create_organization(connection, slug)
    except Conflict:
        logger.info("the organization %s was made by another process", slug)


class LedgerKeys:
    """Looks senders' keys up in the ledger; every call may fail while the database is away."""

    def __init__(self, engine: Engine) -> None:
        """Connect nothing yet."""
        self._engine = engine

    def all_keys(self) -> Sequence[KnownKey]:
        with transaction(self._engine, _EVERYBODY) as connection:
            return [_known(record) for record in all_keys(connection, _EVERYBODY)]

    def key_by_hash(self, hashed: bytes) -> KnownKey | None:
        with transaction(self._engine, _EVERYBODY) as connection:
            record = key_by_hash(connection, hashed)
            return None if record is None else _known(record)


def _known(record: KeyRecord) -> KnownKey:
    return KnownKey(
        hash=record.hash,
        id=record.id,
        org_id=record.org_id,
        org=record.org_slug,
        scopes=record.scopes,
        expires_at_us=record.expires_at_us,
        revoked_at_us=record.revoked_at_us,
    )

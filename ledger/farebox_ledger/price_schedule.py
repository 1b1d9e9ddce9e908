"""Syncs prices on a schedule: when the newest sync, however it ended, is older than the interval.

A recurring job looks once a minute. The syncs themselves are the schedule's memory, so a restart begins no new one and
any number of processes share one schedule: under the catalog's lock the first to find it due begins, the others see
that it runs.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Engine

from farebox_ledger.catalog.download import checked_origin
from farebox_ledger.errors import Conflict, InvalidInput
from farebox_ledger.price_sync import DEFAULT_URL, URL_VARIABLE, run_sync
from farebox_ledger.store import subjects
from farebox_ledger.store.catalog_state import lock_catalog
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Job
from farebox_ledger.store.price_syncs import PriceSync, begin_sync, list_syncs
from farebox_ledger.store.price_tables import SyncStatus
from farebox_ledger.store.scope import AllOrganizations

logger = logging.getLogger(__name__)

SYNC: Final = "sync_prices"

INTERVAL_VARIABLE: Final = "FAREBOX_PRICE_SYNC_INTERVAL"
SHORTEST_INTERVAL_S: Final = 300
"""A price file changes a few times a day; asking more often is of no use to anybody."""

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EVERYBODY: Final = AllOrganizations()


class Looked(msgspec.Struct, frozen=True):
    """What a look at the schedule came to: the sync that was due and how it ended, None when none was."""

    sync: str | None = None
    status: SyncStatus | None = None


class PriceSchedule(msgspec.Struct, frozen=True):
    """Sync from `origin` whenever the newest sync is older than `every_s` seconds."""

    origin: str
    every_s: int

    def sync(self, engine: Engine, job: Job, stop: threading.Event) -> Looked:
        """Sync if it is due; the work of the job `sync_prices`."""
        sync = sync_when_due(engine, self.origin, self.every_s)
        if sync is None:
            return Looked()
        logger.info("scheduled price sync %s: %s %s", sync.id, sync.status, sync.detail or "")
        return Looked(sync.id, sync.status)


def schedule_of(environ: Mapping[str, str]) -> PriceSchedule | None:
    """Read the schedule from FAREBOX_PRICE_SYNC_INTERVAL and FAREBOX_PRICE_SYNC_URL; None without an interval.

    Raises:
        InvalidInput: one of them cannot be used; names it.
    """
    interval = environ.get(INTERVAL_VARIABLE, "").strip()
    if not interval:
        return None
    try:
        origin = checked_origin(environ.get(URL_VARIABLE, "").strip() or DEFAULT_URL)
    except InvalidInput as error:
        raise InvalidInput(URL_VARIABLE, error.detail) from None
    return PriceSchedule(origin, interval_s(interval))


def interval_s(value: str) -> int:
    """Read an interval such as `6h`, `30m` or `1d`, in seconds.

    Raises:
        InvalidInput: it is no such interval, or shorter than five minutes; names FAREBOX_PRICE_SYNC_INTERVAL.
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", value.strip())
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if seconds < SHORTEST_INTERVAL_S:
        raise InvalidInput(INTERVAL_VARIABLE, f"expected five minutes or more, such as 30m, 6h or 1d, got {value!r}")
    return seconds


def sync_when_due(engine: Engine, origin: str, every_s: int) -> PriceSync | None:
    """Sync if the newest sync is older than `every_s` seconds or there is none; None when it is not due yet."""
    with transaction(engine, _EVERYBODY) as connection:
        if not _is_due(connection, every_s):
            return None
    with transaction(engine, _EVERYBODY, write=True) as connection:
        lock_catalog(connection)
        if not _is_due(connection, every_s):
            return None  # another process was quicker
        try:
            sync = begin_sync(connection, checked_origin(origin))
        except Conflict:
            return None  # one that somebody began by hand takes its time
    return run_sync(engine, sync)


def _is_due(connection: Connection, every_s: int) -> bool:
    newest = list_syncs(connection, limit=1)
    return not newest or newest[0].requested_at_us <= subjects.now_us() - every_s * 1_000_000

"""Syncs prices on a schedule: when the newest sync, however it ended, is older than the interval.

The syncs themselves are the schedule's memory, so a restart begins no new one and any number of processes share one
schedule: the first to find it due begins, the others see that it runs.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from farebox_ledger.errors import Conflict, DatabaseNotReady, InvalidInput
from farebox_ledger.price_sync import sync_prices
from farebox_ledger.store.engine import first_line, transaction
from farebox_ledger.store.price_syncs import PriceSync, list_syncs
from farebox_ledger.store.scope import AllOrganizations

logger = logging.getLogger(__name__)

INTERVAL_VARIABLE: Final = "FAREBOX_PRICE_SYNC_INTERVAL"
SHORTEST_INTERVAL_S: Final = 300
"""A price file changes a few times a day; asking more often is of no use to anybody."""
LOOK_EVERY_S: Final = 30.0

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EVERYBODY: Final = AllOrganizations()


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
        newest = list_syncs(connection, limit=1)
    if newest and newest[0].requested_at_us > time.time_ns() // 1000 - every_s * 1_000_000:
        return None
    try:
        return sync_prices(engine, origin)
    except Conflict:
        return None  # another process, or somebody by hand, was quicker


class PriceSchedule:
    """A thread that keeps the schedule from `start` to `stop`."""

    def __init__(self, engine: Engine, origin: str, every_s: int) -> None:
        """Start nothing yet; `origin` is the address of the price file."""
        self._engine = engine
        self._origin = origin
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="farebox-price-schedule", daemon=True)

    def start(self) -> None:
        """Begin with a first look at once."""
        self._thread.start()

    def stop(self, limit_s: float = 1.0) -> None:
        """Look no more; a sync under way that takes longer than `limit_s` ends with the process and changes nothing."""
        self._stopping.set()
        self._thread.join(limit_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except (DBAPIError, DatabaseNotReady) as error:
                said = first_line(error) if isinstance(error, DBAPIError) else str(error)
                logger.warning("the price sync waits for the database: %s", said)
            except Exception:
                logger.exception("a scheduled price sync failed")
            self._stopping.wait(LOOK_EVERY_S)

    def _look(self) -> None:
        sync = sync_when_due(self._engine, self._origin, self._every_s)
        if sync is not None:
            logger.info("scheduled price sync %s: %s %s", sync.id, sync.status, sync.detail or "")

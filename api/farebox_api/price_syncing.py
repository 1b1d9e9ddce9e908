"""Starts price syncs beside the requests: a route asks, a thread does the work, the run's row tells how it went."""

from __future__ import annotations

import logging
from threading import Thread

from sqlalchemy import Engine

from farebox_ledger.price_sync import request_sync, run_sync
from farebox_ledger.store.price_syncs import PriceSync

logger = logging.getLogger(__name__)


class PriceSyncing:
    """Syncs from the one address of the settings; callers cannot make the server fetch another one."""

    def __init__(self, engine: Engine, origin: str) -> None:
        """Fetch nothing yet."""
        self._engine = engine
        self._origin = origin

    def start(self) -> PriceSync:
        """Write down a sync and begin it; answers it as it begins.

        Raises:
            Conflict: another one is running; carries its id.
        """
        sync = request_sync(self._engine, self._origin)
        # A process that ends meanwhile leaves the run behind, which the next sync then marks as failed.
        Thread(target=self._run, args=(sync,), name="price-sync", daemon=True).start()
        return sync

    def _run(self, sync: PriceSync) -> None:
        try:
            run_sync(self._engine, sync)
        except Exception:
            logger.exception("price sync %s failed", sync.id)

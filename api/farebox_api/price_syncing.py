"""Starts price syncs beside the requests: a route asks, a thread begins the job, the run's row tells how it went.

The job is in the queue like any other: should this process end before it is done, the next one does it.
"""

from __future__ import annotations

from threading import Event, Thread

from sqlalchemy import Engine

from farebox_ledger.jobs import holder_name, run_job
from farebox_ledger.price_sync import order_sync, run_ordered_sync
from farebox_ledger.store.price_syncs import PriceSync


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
        sync, job = order_sync(self._engine, self._origin, holder=holder_name())
        work = (self._engine, job, run_ordered_sync, Event())
        Thread(target=run_job, args=work, name="price-sync", daemon=True).start()
        return sync

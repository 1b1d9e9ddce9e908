"""What runs beside the requests in `farebox api` and `farebox up`: the jobs of the queue."""

from __future__ import annotations

import asyncio

from sqlalchemy import Engine

from farebox_api.config import ApiConfig
from farebox_ledger.jobs import Worker, kinds_with
from farebox_ledger.price_schedule import PriceSchedule


class Background:
    """A worker from `start` to `stop`; any number of processes may run one over one database."""

    def __init__(self, config: ApiConfig, engine: Engine) -> None:
        """Start nothing yet. Without FAREBOX_PRICE_SYNC_INTERVAL prices are synced on demand alone."""
        every_s = config.price_sync_interval_s
        schedule = None if every_s is None else PriceSchedule(config.price_sync_url, every_s)
        self._worker = Worker(engine, kinds_with(schedule))

    def start(self) -> None:
        """Begin with what waits."""
        self._worker.start()

    async def stop(self) -> None:
        """Let what is under way end its step, without holding up the event loop."""
        await asyncio.to_thread(self._worker.stop)

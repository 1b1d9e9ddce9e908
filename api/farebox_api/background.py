"""What runs beside the requests in `farebox api` and `farebox up`: the jobs of the queue, and the price schedule."""

from __future__ import annotations

import asyncio

from sqlalchemy import Engine

from farebox_api.config import ApiConfig
from farebox_ledger.jobs import Worker
from farebox_ledger.price_schedule import PriceSchedule


class Background:
    """Threads from `start` to `stop`; any number of processes may run them over one database."""

    def __init__(self, config: ApiConfig, engine: Engine) -> None:
        """Start nothing yet. Without FAREBOX_PRICE_SYNC_INTERVAL prices are synced on demand alone."""
        every_s = config.price_sync_interval_s
        schedule = None if every_s is None else PriceSchedule(engine, config.price_sync_url, every_s)
        self._threads: list[Worker | PriceSchedule] = [Worker(engine), *([schedule] if schedule else [])]

    def start(self) -> None:
        """Begin with what waits."""
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Let what is under way end its step, without holding up the event loop."""
        for thread in self._threads:
            await asyncio.to_thread(thread.stop)

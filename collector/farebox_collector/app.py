"""Puts the collector together: it alone makes things and passes them down.

`farebox collector` runs it by itself, `farebox up` beside the API on the same event loop and, if it likes, the same
engine. The order of the start is the order of what senders need: spool, listeners, and only then the database.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from sqlalchemy import Engine

from farebox_collector.config import CollectorConfig
from farebox_collector.database import Books, LedgerKeys
from farebox_collector.errors import CollectorError, InvalidSetting
from farebox_collector.locking import FileLock
from farebox_collector.pipeline import Pipeline
from farebox_collector.receiver.auth import Authenticator
from farebox_collector.receiver.health import Health
from farebox_collector.reception import Reception, check_tls, open_spool, tell_what_waits
from farebox_collector.spans import Sender
from farebox_collector.tee import open_tee
from farebox_collector.telemetry import Telemetry
from farebox_ledger.store.engine import default_database_url, open_engine
from farebox_ledger.usage import org_id_of

__all__ = ["Collector", "CollectorConfig", "CollectorError"]  # all that `farebox up` needs of the collector


class Collector:
    """Receives on two ports and books, from `start` to `stop`.

    Raises on construction:
        InvalidSetting: the spool folder or a TLS file cannot be used; on `start`, an address cannot be bound.
        SpoolInUse: another collector owns the spool folder or the SQLite file.
        InvalidInput, DatabaseNotReady (of the ledger): the database URL cannot be used at all.
    """

    def __init__(self, config: CollectorConfig, engine: Engine | None = None) -> None:
        """Open the spool; no port is bound and no database is touched yet. A given engine stays the caller's."""
        check_tls(config.tls)
        self._config = config
        self._owns_engine = engine is None
        self.engine = engine if engine is not None else open_engine(config.database_url or default_database_url())
        self._database_lock = _lock_database(self.engine)
        try:
            self.spool = open_spool(config.spool_dir, config.spool_max_bytes)
        except BaseException:
            self._release_database()
            raise
        self.telemetry = Telemetry()
        self.telemetry.watch_spool(self.spool)
        books = Books(
            self.engine,
            collector_id=self.spool.collector_id,
            default_org=config.default_org,
            catalog_poll_s=config.catalog_poll_s,
        )
        self._pipeline = Pipeline(self.spool, books, self.telemetry)
        self._authenticator = Authenticator(
            LedgerKeys(self.engine),
            remembered=self.spool.known_keys(),
            remember=self.spool.remember_keys,
            default_sender=_default_sender(config.default_org),
            refresh_s=config.keys_refresh_s,
        )
        try:
            self._tee = open_tee(config, config.spool_dir, self.telemetry)
        except BaseException:
            self.spool.close()
            self._release_database()
            raise
        self.health = Health(self.spool, [self._pipeline.degradation, self.spool.degradation, *self._tee.degradations])
        self._reception = Reception(
            config,
            self.spool,
            self._authenticator,
            health=self.health,
            telemetry=self.telemetry,
            keep_original=self._tee.keep,
        )
        self._keys_task: asyncio.Task[None] | None = None

    @property
    def grpc_port(self) -> int:
        """The port that gRPC is bound to, once started."""
        return self._reception.grpc_port

    @property
    def http_port(self) -> int:
        """The port that HTTP is bound to, once started."""
        return self._reception.http_port

    @property
    def start_line(self) -> str:
        """What the command says when senders may come."""
        return f"farebox collector: {self._reception.addresses}"

    async def start(self) -> None:
        """Bind both ports, take spans, and begin to book what lies in the spool.

        Raises:
            InvalidSetting: an address cannot be bound; nothing is left running.
        """
        try:
            await self._reception.start()
        except BaseException:
            self._close_storage()
            raise
        self._keys_task = asyncio.get_running_loop().create_task(self._authenticator.keep_current())
        self._pipeline.start()

    async def stop(self) -> None:
        """Drain: say NOT_SERVING, finish what is in flight, book what can be booked in time, close."""
        await self._reception.drain()
        if self._keys_task is not None:
            self._keys_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keys_task
        await asyncio.to_thread(self._pipeline.stop, self._config.drain_limit_s)
        tell_what_waits(self.spool)
        await asyncio.to_thread(self._close_storage)

    async def serve(self, stop: asyncio.Event) -> None:
        """Run until the event is set; for those who started the collector already, wait and stop."""
        if not self._reception.is_started:
            await self.start()
        await stop.wait()
        await self.stop()

    def _close_storage(self) -> None:
        self._tee.close()
        self.spool.close()
        self._release_database()

    def _release_database(self) -> None:
        if self._database_lock is not None:
            self._database_lock.close()
        if self._owns_engine:
            self.engine.dispose()


def _lock_database(engine: Engine) -> FileLock | None:
    """Two collectors on one SQLite file would wait for each other more than they write; the second one refuses."""
    file = engine.url.database
    if engine.dialect.name != "sqlite" or file is None:
        return None
    path = Path(file)
    try:
        return FileLock(path.with_name(f"{path.name}.collector.lock"), owned=f"the database file {path}")
    except OSError as error:
        raise InvalidSetting("FAREBOX_DATABASE_URL", f"{path.parent} cannot be written: {error.strerror}") from None


def _default_sender(slug: str | None) -> Sender | None:
    return None if slug is None else Sender(org_id_of(slug), slug)

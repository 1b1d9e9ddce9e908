"""Puts the collector together: it alone makes things and passes them down.

`farebox collector` runs it by itself, `farebox up` beside the API on the same event loop and, if it likes, the same
engine. The order of the start is the order of what senders need: spool, listeners, and only then the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import ssl
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from farebox_collector import dialects
from farebox_collector.config import CollectorConfig, Tls
from farebox_collector.database import Books, LedgerKeys
from farebox_collector.decode import Selection
from farebox_collector.errors import CollectorError, InvalidSetting
from farebox_collector.intake import Intake, LogSelection
from farebox_collector.locking import FileLock
from farebox_collector.pipeline import Pipeline
from farebox_collector.receiver.auth import Authenticator
from farebox_collector.receiver.grpc import GrpcReceiver, GrpcServer
from farebox_collector.receiver.health import Health
from farebox_collector.receiver.http import HttpReceiver, HttpServer
from farebox_collector.receiver.limits import Budget
from farebox_collector.sequence import Sequences
from farebox_collector.spans import Sender
from farebox_collector.spool import Spool
from farebox_collector.telemetry import Telemetry
from farebox_ledger.store.engine import default_database_url, open_engine
from farebox_ledger.usage import org_id_of

__all__ = ["Collector", "CollectorConfig", "CollectorError"]  # all that `farebox up` needs of the collector

__all__ = ["Collector", "CollectorConfig", "CollectorError"]

logger = logging.getLogger(__name__)

GRPC_GRACE_S: Final = 5.0


class Collector:
    """Receives on two ports and books, from `start` to `stop`.

    Raises on construction:
        InvalidSetting: the spool folder or a TLS file cannot be used; on `start`, an address cannot be bound.
        SpoolInUse: another collector owns the spool folder or the SQLite file.
        InvalidInput, DatabaseNotReady (of the ledger): the database URL cannot be used at all.
    """

    def __init__(self, config: CollectorConfig, engine: Engine | None = None) -> None:
        """Open the spool; no port is bound and no database is touched yet. A given engine stays the caller's."""
        _check_tls(config.tls)
        self._config = config
        self._owns_engine = engine is None
        self.engine = engine if engine is not None else open_engine(config.database_url or default_database_url())
        self._database_lock = _lock_database(self.engine)
        try:
            self.spool = _open_spool(config)
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
        self.health = Health(self.spool, [self._pipeline.degradation, self.spool.degradation])
        selection = Selection(dialects.MARKS, dialects.KEYS, config.keeps_error_messages)
        logs = LogSelection(Selection(dialects.LOG_MARKS, dialects.LOG_KEYS), dialects.identify_record)
        sequences = Sequences()
        self.telemetry.watch_sequences(sequences)
        self._intake = Intake(self.spool, selection, self.telemetry, logs, sequences)
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._keys_task: asyncio.Task[None] | None = None

    @property
    def grpc_port(self) -> int:
        """The port that gRPC is bound to, once started."""
        assert self._grpc is not None, "the collector is not started"
        return self._grpc.port

    @property
    def http_port(self) -> int:
        """The port that HTTP is bound to, once started."""
        assert self._http is not None, "the collector is not started"
        return self._http.port

    @property
    def start_line(self) -> str:
        """What the command says when senders may come."""
        grpc_address = _with_port(str(self._config.grpc_listen), self.grpc_port)
        http_address = _with_port(str(self._config.http_listen), self.http_port)
        return f"farebox collector: grpc {grpc_address}, http {http_address}"

    async def start(self) -> None:
        """Bind both ports, take spans, and begin to book what lies in the spool.

        Raises:
            InvalidSetting: an address cannot be bound; nothing is left running.
        """
        budget = Budget(self._config.max_inflight_bytes)
        try:
            self._start_http(budget)
            self._start_grpc(budget)
            assert self._http is not None
            assert self._grpc is not None
            await self._http.start()
            await self._grpc.start()
        except BaseException:
            await self._close_listeners()
            self._close_storage()
            raise
        self._keys_task = asyncio.get_running_loop().create_task(self._authenticator.keep_current())
        self._pipeline.start()
        self._warn_of_clear_text()

    async def stop(self) -> None:
        """Drain: say NOT_SERVING, finish what is in flight, book what can be booked in time, close."""
        self.health.is_draining = True
        if self._config.drain_notice_s:
            await asyncio.sleep(self._config.drain_notice_s)
        await self._close_listeners()
        if self._keys_task is not None:
            self._keys_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keys_task
        await asyncio.to_thread(self._pipeline.stop, self._config.drain_limit_s)
        await asyncio.to_thread(self._close_storage)

    async def serve(self, stop: asyncio.Event) -> None:
        """Run until the event is set; for those who started the collector already, wait and stop."""
        if self._http is None:
            await self.start()
        await stop.wait()
        await self.stop()

    def _start_http(self, budget: Budget) -> None:
        receiver = HttpReceiver(
            self._intake,
            self._authenticator,
            budget,
            health=self.health,
            telemetry=self.telemetry,
            config=self._config,
        )
        self._http = HttpServer(receiver, self._config)

    def _start_grpc(self, budget: Budget) -> None:
        receiver = GrpcReceiver(self._intake, self._authenticator, budget, health=self.health, telemetry=self.telemetry)
        self._grpc = GrpcServer(receiver, self._config)

    async def _close_listeners(self) -> None:
        closing = []
        if self._grpc is not None:
            closing.append(self._grpc.stop(GRPC_GRACE_S))
        if self._http is not None:
            closing.append(self._http.stop())
        await asyncio.gather(*closing)

    def _close_storage(self) -> None:
        self.spool.close()
        self._release_database()

    def _release_database(self) -> None:
        if self._database_lock is not None:
            self._database_lock.close()
        if self._owns_engine:
            self.engine.dispose()

    def _warn_of_clear_text(self) -> None:
        for variable, listen in (
            ("FAREBOX_GRPC_LISTEN", self._config.grpc_listen),
            ("FAREBOX_HTTP_LISTEN", self._config.http_listen),
        ):
            if self._config.tls is None and not listen.is_loopback:
                logger.warning(
                    "%s is %s without TLS: keys travel in clear text unless something in front encrypts "
                    "(set FAREBOX_TLS_CERT and FAREBOX_TLS_KEY)",
                    variable,
                    listen,
                )


def _open_spool(config: CollectorConfig) -> Spool:
    try:
        return Spool(config.spool_dir, config.spool_max_bytes)
    except (OSError, sqlite3.OperationalError) as error:
        raise InvalidSetting("FAREBOX_SPOOL_DIR", f"{config.spool_dir} cannot be used: {error}") from None


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


def _check_tls(tls: Tls | None) -> None:
    """Read the PEM files once before the two servers do, which would each say less of what is wrong with them."""
    if tls is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSetting("FAREBOX_TLS_CERT", f"{tls.cert} and {tls.key} are no pair in PEM form: {error}") from None
    try:
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSetting("FAREBOX_TLS_CLIENT_CA", f"{tls.client_ca} is no certificate: {error}") from None


def _default_sender(slug: str | None) -> Sender | None:
    return None if slug is None else Sender(org_id_of(slug), slug)


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"

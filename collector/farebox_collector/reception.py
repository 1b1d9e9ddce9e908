"""Takes requests on two ports into the spool: all that `farebox collector` and `farebox forward` have in common.

What happens behind the spool, and who knows the senders, is passed in by `app` and `forwarder`.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import ssl
import sys
from pathlib import Path
from typing import Final

import msgspec

from farebox_collector import dialects
from farebox_collector.config import CollectorConfig, Tls
from farebox_collector.decode import Selection
from farebox_collector.errors import InvalidSetting
from farebox_collector.intake import Intake, LogSelection
from farebox_collector.originals import KeepOriginal
from farebox_collector.receiver.auth import Senders
from farebox_collector.receiver.grpc import GrpcReceiver, GrpcServer
from farebox_collector.receiver.health import Health
from farebox_collector.receiver.http import HttpReceiver
from farebox_collector.receiver.http_server import HttpServer
from farebox_collector.receiver.limits import Budget
from farebox_collector.receiver.places import Places
from farebox_collector.sequence import Sequences
from farebox_collector.spans import RECEIVED_AT
from farebox_collector.spool import Spool
from farebox_collector.telemetry import Telemetry

if sys.platform != "win32":
    import resource

logger = logging.getLogger(__name__)

OTHER_FILES: Final = 256
"""Beside connections of senders: spool, tee, database, look-ups."""


class Reception:
    """Listens from `start` to `close`."""

    def __init__(
        self,
        config: CollectorConfig,
        spool: Spool,
        senders: Senders,
        *,
        health: Health,
        telemetry: Telemetry,
        keep_original: KeepOriginal | None = None,
    ) -> None:
        """Bind nothing yet. `keep_original` gets what senders sent, as they sent it, once it is acknowledged."""
        self._config = config
        self._senders = senders
        self._health = health
        self._telemetry = telemetry
        self._keep_original = keep_original
        keys = dialects.KEYS | {RECEIVED_AT}
        selection = Selection(dialects.MARKS, keys, config.keeps_error_messages, dialects.EXTRACTS)
        logs = LogSelection(Selection(dialects.LOG_MARKS, dialects.LOG_KEYS), dialects.identify_record)
        sequences = Sequences()
        telemetry.watch_sequences(sequences)
        self._intake = Intake(spool, selection, telemetry, logs, sequences)
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None

    @property
    def is_started(self) -> bool:
        return self._http is not None

    @property
    def grpc_port(self) -> int:
        """The port that gRPC is bound to, once started."""
        assert self._grpc is not None, "nothing is started"
        return self._grpc.port

    @property
    def http_port(self) -> int:
        """The port that HTTP is bound to, once started."""
        assert self._http is not None, "nothing is started"
        return self._http.port

    @property
    def addresses(self) -> str:
        """Where senders may come, once started."""
        grpc_address = _with_port(str(self._config.grpc_listen), self.grpc_port)
        http_address = _with_port(str(self._config.http_listen), self.http_port)
        return f"grpc {grpc_address}, http {http_address}"

    async def start(self) -> None:
        """Bind both ports and take spans.

        Raises:
            InvalidSetting: an address cannot be bound, or is one to which something is sent; nothing is left listening.
        """
        budget = Budget(self._config.max_inflight_bytes)
        affordable = _affordable_connections(self._config.max_connections)
        self._config = msgspec.structs.replace(self._config, max_connections=affordable)
        try:
            self._start_http(budget)
            self._start_grpc(budget)
            assert self._http is not None
            assert self._grpc is not None
            self._refuse_circles()
            await self._http.start()
            await self._grpc.start()
        except BaseException:
            await self.close()
            raise
        self._warn_of_clear_text()

    async def drain(self) -> None:
        """Say NOT_SERVING, give balancers a moment, finish what is in flight and close the ports."""
        self._health.is_draining = True
        if self._config.drain_notice_s:
            await asyncio.sleep(self._config.drain_notice_s)
        await self.close()

    async def close(self) -> None:
        """Finish what is in flight and close the ports."""
        closing = []
        if self._grpc is not None:
            closing.append(self._grpc.stop(self._config.grace_s))
        if self._http is not None:
            closing.append(self._http.stop(self._config.grace_s))
        await asyncio.gather(*closing)

    def _start_http(self, budget: Budget) -> None:
        receiver = HttpReceiver(
            self._intake,
            self._senders,
            budget,
            health=self._health,
            telemetry=self._telemetry,
            config=self._config,
            keep_original=self._keep_original,
        )
        self._http = HttpServer(receiver, self._config)

    def _start_grpc(self, budget: Budget) -> None:
        receiver = GrpcReceiver(
            self._intake,
            self._senders,
            budget,
            places=Places(self._config.max_body_bytes, self._config.body_timeout_s),
            health=self._health,
            telemetry=self._telemetry,
            keep_original=self._keep_original,
        )
        self._grpc = GrpcServer(receiver, self._config)

    def _refuse_circles(self) -> None:
        """What is sent to its own sender comes back for ever."""
        config = self._config
        sent_to = [("FAREBOX_TEE_ENDPOINTS", destination.endpoint) for destination in config.tee]
        if config.gateway is not None:
            sent_to.append(("FAREBOX_GATEWAY_ENDPOINT", config.gateway))
        for variable, endpoint in sent_to:
            if endpoint.is_here and endpoint.port == self.http_port:
                raise InvalidSetting(variable, f"{endpoint} is the address of this process itself")

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


def _affordable_connections(wanted: int) -> int:
    """Answer how many connections each port may hold, `wanted` or as many as the system lets this process open files.

    Many systems start a process with a limit of 1,024 that it may raise. Where it may not, fewer are taken: a process
    that cannot open a file any more cannot book either.
    """
    if sys.platform == "win32":
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 2 * wanted + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= files:
        return wanted
    allowed = files if hard == resource.RLIM_INFINITY else min(files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    affordable = max(1, (allowed - OTHER_FILES) // 2)
    if affordable < wanted:
        logger.warning(
            "each port takes %d connections at once instead of %d: the system allows %d open files (ulimit -n)",
            affordable,
            wanted,
            allowed,
        )
    return affordable


def open_spool(folder: Path, max_bytes: int) -> Spool:
    """Open the spool.

    Raises:
        InvalidSetting: the folder cannot be used.
        SpoolInUse: another process owns it.
    """
    try:
        return Spool(folder, max_bytes)
    except (OSError, sqlite3.OperationalError) as error:
        raise InvalidSetting("FAREBOX_SPOOL_DIR", f"{folder} cannot be used: {error}") from None


def tell_what_waits(spool: Spool) -> None:
    """Log what an end leaves in the spool, so that nobody takes it for lost."""
    waiting = spool.snapshot().pending_spans
    if waiting:
        logger.warning("%d spans wait in the spool %s for the next start", waiting, spool.folder)


def check_tls(tls: Tls | None) -> None:
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


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"

"""Puts the forwarder together: receivers and spool as the collector has them, and a gateway behind the spool.

`farebox forward` runs it. It needs no database: neither SQLAlchemy nor anything of the API is ever imported.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from farebox_collector.config import CollectorConfig, Endpoint
from farebox_collector.errors import InvalidSetting
from farebox_collector.forwarding import Delivery, Gateway, PassedOnSenders
from farebox_collector.receiver.health import Health
from farebox_collector.reception import Reception, check_tls, open_spool, tell_what_waits
from farebox_collector.tee import open_tee
from farebox_collector.telemetry import Telemetry

logger = logging.getLogger(__name__)

FOLDER: Final = "forward"
"""Below FAREBOX_SPOOL_DIR: a collector must never take spans for its own whose organization nobody knows yet."""
SEND_TIMEOUT_S: Final = 15.0
CHECK_TIMEOUT_S: Final = 2.0


class Forwarder:
    """Receives on two ports and sends on, from `start` to `stop`.

    Raises on construction:
        InvalidSetting: no gateway is named, or the spool folder or a TLS file cannot be used; on `start`, an address
            cannot be bound.
        SpoolInUse: another forwarder owns the spool folder.
    """

    def __init__(self, config: CollectorConfig) -> None:
        """Open the spool; no port is bound and nothing is sent yet."""
        gateway = _gateway_of(config)
        check_tls(config.tls)
        self._config = config
        folder = config.spool_dir / FOLDER
        self.spool = open_spool(folder, config.spool_max_bytes)
        self.telemetry = Telemetry()
        self.telemetry.watch_spool(self.spool)
        self._senders = PassedOnSenders(
            lambda: Gateway(gateway, config.ingest_key, CHECK_TIMEOUT_S),
            takes_keyless=config.grpc_listen.is_loopback and config.http_listen.is_loopback,
        )
        self._delivery = Delivery(
            self.spool,
            Gateway(gateway, config.ingest_key, SEND_TIMEOUT_S),
            self.telemetry,
            forget_key=self._senders.forget,
            refused_retry_s=config.refused_retry_s,
        )
        self.telemetry.watch_kept_spans(lambda: self._delivery.kept_spans)
        try:
            self._tee = open_tee(config, folder, self.telemetry)
        except BaseException:
            self.spool.close()
            raise
        self.health = Health(self.spool, [self._delivery.degradation, self.spool.degradation, *self._tee.degradations])
        self._reception = Reception(
            config,
            self.spool,
            self._senders,
            health=self.health,
            telemetry=self.telemetry,
            keep_original=self._tee.keep,
        )

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
        return f"farebox forward: {self._reception.addresses}, to {self._config.gateway}"

    async def start(self) -> None:
        """Bind both ports, take spans, and begin to send what lies in the spool.

        Raises:
            InvalidSetting: an address cannot be bound, or is the gateway's; nothing is left running.
        """
        try:
            await self._reception.start()
        except BaseException:
            self._close_storage()
            raise
        self._delivery.start()

    async def stop(self) -> None:
        """Drain: say NOT_SERVING, finish what is in flight, send what can be sent in time, close."""
        await self._reception.drain()
        await asyncio.to_thread(self._delivery.stop, self._config.drain_limit_s)
        tell_what_waits(self.spool)
        await asyncio.to_thread(self._close_storage)

    async def serve(self, stop: asyncio.Event) -> None:
        """Run until the event is set."""
        if not self._reception.is_started:
            await self.start()
        await stop.wait()
        await self.stop()

    def _close_storage(self) -> None:
        self._senders.close()
        self._tee.close()
        self.spool.close()


def _gateway_of(config: CollectorConfig) -> Endpoint:
    gateway = config.gateway
    if gateway is None:
        raise InvalidSetting(
            "FAREBOX_GATEWAY_ENDPOINT", "is not set: where is the gateway, such as http://gateway:4318?"
        )
    if not gateway.is_private:
        logger.warning("keys travel to %s in clear text; use https", gateway)
    return gateway

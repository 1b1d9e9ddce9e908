"""Runs an ASGI application on one address inside a running event loop, and drains it when told to stop.

Signals are not its business: `commands` and `standalone` decide when to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from litestar import Litestar

from farebox_api.config import Address, Tls
from farebox_api.errors import ConfigError

logger = logging.getLogger(__name__)

DRAIN_S: Final = 10
"""How long requests that are under way may take to end after a stop."""


class Server:
    """One application on one address; `start`, then `stop`."""

    def __init__(self, app: Litestar, address: Address, tls: Tls | None = None) -> None:
        """Bind nothing yet."""
        self._address = address
        self._scheme = "http" if tls is None else "https"
        self._uvicorn = _Uvicorn(_uvicorn_config(app, tls))
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen, and answer the address as a URL with the real port.

        Raises:
            ConfigError: the address cannot be listened on, or the TLS files cannot be used; names the variable.
        """
        self._load()
        self._warn_of_clear_text()
        listener = bound_socket("FAREBOX_API_LISTEN", self._address)
        port: int = listener.getsockname()[1]
        self._task = asyncio.create_task(self._uvicorn.serve(sockets=[listener]))
        while not self._uvicorn.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the API server ended while starting")
            await asyncio.sleep(0.01)
        return f"{self._scheme}://{Address(self._address.host, port)}"

    def _load(self) -> None:
        try:
            self._uvicorn.config.load()
        except (ssl.SSLError, OSError) as error:
            raise ConfigError("FAREBOX_TLS_CERT", f"the TLS files cannot be used: {error}") from None

    def _warn_of_clear_text(self) -> None:
        if self._scheme == "http" and not self._address.is_loopback:
            logger.warning(
                "FAREBOX_API_LISTEN is %s without TLS: keys travel in clear text unless something in front encrypts "
                "(set FAREBOX_TLS_CERT and FAREBOX_TLS_KEY)",
                self._address,
            )

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain; a server that ends by itself ends this too and raises its reason."""
        assert self._task is not None, "start comes first"
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await self.stop()

    async def stop(self) -> None:
        """Take no more requests and end those under way, within `DRAIN_S`."""
        self._uvicorn.should_exit = True
        if self._task is not None:
            await self._task


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone; uvicorn would raise them again at the end, and the exit code would not be 0."""
        yield


def _uvicorn_config(app: Litestar, tls: Tls | None) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=DRAIN_S,
    )
    if tls is not None:
        config.ssl_certfile, config.ssl_keyfile = tls.cert, str(tls.key)
        config.ssl_ca_certs = None if tls.client_ca is None else str(tls.client_ca)
        config.ssl_cert_reqs = ssl.CERT_NONE if tls.client_ca is None else ssl.CERT_REQUIRED
    return config


def bound_socket(variable: str, address: Address) -> socket.socket:
    """Bind a TCP socket, so that a taken port is one clear line before anything has started.

    Raises:
        ConfigError: the address is taken or not ours; names the variable.
    """
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(variable, f"{address} is no address of this machine: {error.strerror}") from None
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
    except OSError as error:
        listener.close()
        raise ConfigError(variable, f"cannot listen on {address}: {error.strerror}; choose another port") from None
    return listener

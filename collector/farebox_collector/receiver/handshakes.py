"""TLS in front of the HTTP port, with bounds: a connection counts from the moment at which it is accepted.

asyncio's own TLS server tells nobody of connections whose handshake has not ended, and waits a minute for it. Here a
plain connection comes in, takes its place among all others, and gets the protocol behind TLS once the handshake ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection
from typing import Final, TypeAlias

NewProtocol: TypeAlias = Callable[[], asyncio.Protocol]


class Handshakes:
    """The connections whose handshake goes on, and what begins one for each that is accepted."""

    def __init__(
        self,
        context: ssl.SSLContext,
        new_protocol: NewProtocol,
        established: Collection[object],
        *,
        max_connections: int,
        timeout_s: float,
    ) -> None:
        """`established` holds the connections behind TLS, which count as well."""
        self._context: Final = context
        self._new_protocol: Final = new_protocol
        self._established: Final = established
        self._max_connections: Final = max_connections
        self._timeout_s: Final = timeout_s
        self._going_on: dict[asyncio.Transport, asyncio.Task[None]] = {}

    def accepted(self) -> asyncio.Protocol:
        """Make the protocol of a connection that has just been accepted."""
        return _Accepted(self)

    def begin(self, transport: asyncio.Transport) -> None:
        """Hang up where there are too many connections, since nothing can be said without TLS; else shake hands."""
        transport.pause_reading()
        if len(self._established) + len(self._going_on) >= self._max_connections:
            transport.abort()
            return
        self._going_on[transport] = asyncio.get_running_loop().create_task(self._shake_hands(transport))

    def abort(self) -> None:
        """Hang up on whoever has not come so far."""
        for transport, task in list(self._going_on.items()):
            task.cancel()
            transport.abort()

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        early = _Early()
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, early, self._context, server_side=True, ssl_handshake_timeout=self._timeout_s
            )
        except OSError:  # failed handshakes and timeouts are of this kind
            transport.abort()
            return
        finally:
            del self._going_on[transport]
        if secured is not None and not early.is_lost:
            early.hand_over(secured, self._new_protocol())


class _Accepted(asyncio.Protocol):
    """A connection before TLS. Nothing is read here: what comes belongs to the handshake."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a server of streams makes no others"
        self._handshakes.begin(transport)


class _Early(asyncio.Protocol):
    """Keeps what comes with the last words of a handshake, before the protocol behind it has been made."""

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self._data.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for data in self._data:
            protocol.data_received(data)

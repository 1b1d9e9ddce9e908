"""Sends one message over HTTP, and only to where it may go.

A URL, headers and a body come in; the status of the answer goes out, or why there was none. The name is resolved once
and every address it has must be allowed; the connection is made to that very address, so that a second answer of the
name server leads nowhere else. No proxy, no redirect, no answer's body, and an end to everything in time.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from farebox_ledger.webhook_addresses import is_public

TIMEOUT_S: Final = 5.0
"""How long one attempt may take in all; looking up the name comes on top."""


class NotSent(Exception):
    """There was no answer; the message says why, in words that may be shown to whoever owns the webhook."""


def post(
    url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool, timeout_s: float = TIMEOUT_S
) -> int:
    """Send a body and answer the status of the answer, whatever it is.

    Raises:
        NotSent: the address may not be told, or nobody answered in time.
    """
    parts = urlsplit(url)
    host, is_secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_secure else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    address = _resolved(host, port, allow_private=allow_private)
    deadline = _Deadline(timeout_s)
    try:
        with deadline, socket.create_connection((address, port), timeout_s) as plain:
            deadline.watch(plain)
            connection = HTTPConnection(host, port, timeout=timeout_s)
            connection.sock = deadline.watch(_secured(plain, host)) if is_secure else plain
            with closing(connection):
                connection.request("POST", target, body, dict(headers))
                return connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        raise NotSent(f"the certificate is not trusted: {error.verify_message}") from None
    except (OSError, HTTPException) as error:
        if deadline.is_over or isinstance(error, TimeoutError):
            raise NotSent(f"no answer within {timeout_s:g} seconds") from None
        raise NotSent(f"the connection failed: {type(error).__name__}") from None


class _Deadline:
    """Cuts the connection when the time is over: a peer that sends byte by byte is no exception."""

    def __init__(self, timeout_s: float) -> None:
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(timeout_s, self._cut)
        self._timer.daemon = True
        self.is_over = False

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, connected: socket.socket) -> socket.socket:
        """Cut this one from now on."""
        self._socket = connected
        return connected

    def _cut(self) -> None:
        self.is_over = True
        if self._socket is not None:
            with suppress(OSError):
                # The plain socket's own method: that of TLS would change what the other thread reads with.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _secured(plain: socket.socket, host: str) -> socket.socket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _resolved(host: str, port: int, *, allow_private: bool) -> str:
    """Answer one address of a host, once all of them may be told."""
    try:
        found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise NotSent(f"the name {host} is not known") from None
    if not allow_private and not all(is_public(ip_address(address.partition("%")[0])) for address in found):
        raise NotSent(f"{host} leads to an address that is not public")
    return found[0]

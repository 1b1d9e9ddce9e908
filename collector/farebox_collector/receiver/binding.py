"""Takes an address for listening, or says why it cannot be had."""

from __future__ import annotations

import socket
from typing import Final

from farebox_collector.config import Address
from farebox_collector.errors import InvalidSetting

BACKLOG: Final = 1024


def listening_socket(listen: Address, variable: str) -> socket.socket:
    """Bind an address and listen on it at once, so that nobody else can take it; connections wait to be accepted.

    Raises:
        InvalidSetting: the address cannot be bound; `variable` is what set it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidSetting(variable, f"{listen} cannot be used: {error.strerror}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise InvalidSetting(variable, f"{listen} cannot be bound: {error.strerror}") from None
    bound.setblocking(False)
    return bound

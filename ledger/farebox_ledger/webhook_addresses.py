"""Where webhooks may be sent: to the public internet by https, elsewhere only where an operator allows it.

Addresses come in as text, or as what a name was resolved to; they are refused or pass. Pure: nothing is resolved here.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from farebox_ledger.errors import InvalidInput

MAX_URL: Final = 2000

_NAT64: Final = IPv6Network("64:ff9b::/96")
_EXPECTED: Final = "expected https://…, or http:// on this very machine, without a password or a fragment"


def checked_url(url: str, *, allow_private: bool) -> str:
    """Answer an address that may be told.

    Raises:
        InvalidInput: it is no such address, or names a private one that is not allowed.
    """
    parts = _parts(url)
    if parts is None or len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput("url", f"{_EXPECTED}, at most {MAX_URL} characters; got {url[:200]!r}")
    host = parts.hostname or ""
    is_loopback = _is_loopback(host)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback):
        raise InvalidInput("url", f"{_EXPECTED}; got {url[:200]!r}")
    if not allow_private and (is_loopback or not _may_be_public(host)):
        raise InvalidInput(
            "url", f"{host} is no public address: only a system key may allow that, with `allow_private`"
        )
    return url


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address belongs to the public internet, also where it wraps another one."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_whole = parts.hostname and parts.port != 0 and parts.username is None and not parts.fragment
    except ValueError:
        return None
    return parts if is_whole else None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _may_be_public(host: str) -> bool:
    """Say whether a host is a public address, or a name, which is looked at when it is resolved."""
    try:
        return is_public(ip_address(host))
    except ValueError:
        return True

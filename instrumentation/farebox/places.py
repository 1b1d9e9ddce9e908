"""Where a call goes: host, port, and the provider that runs the host.

Comes in: base addresses as the SDKs hold them, URL objects of httpx or plain text. Goes out: a `Place`, and its
attributes on a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from farebox import spans
from farebox.providers import provider_of
from farebox.reading import Request

_PLACES_MAX = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client sends: `provider` None means that the host is nobody's."""

    provider: str | None
    address: str
    port: int | None

    def put(self, request: Request) -> None:
        """Say on the request where it goes."""
        if self.address:
            request.attributes[spans.SERVER_ADDRESS] = self.address
        if self.port:
            request.attributes[spans.SERVER_PORT] = self.port


_places: dict[int, tuple[Any, Place]] = {}


def place_of(base_url: Any) -> Place:
    """Where a URL object leads; remembered by the object, because taking it apart costs more than the rest.

    Only for addresses that live as long as their client; those of single requests go to `place_at`.
    """
    known = _places.get(id(base_url))
    if known is not None and known[0] is base_url:
        return known[1]
    place = _place(str(base_url.host), base_url.port)
    if len(_places) >= _PLACES_MAX:
        _places.clear()
    _places[id(base_url)] = (base_url, place)
    return place


@lru_cache(maxsize=_PLACES_MAX)
def place_at(address: str) -> Place:
    """Where an address in text leads, with or without a path; nowhere for what is no address."""
    try:
        parts = urlsplit(address)
        return _place(parts.hostname or "", parts.port)
    except ValueError:
        return Place(None, "", None)


def _place(host: str, port: int | None) -> Place:
    return Place(provider_of(host, "") or None, host, port)

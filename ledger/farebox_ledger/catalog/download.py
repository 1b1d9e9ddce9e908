"""Fetches a price catalog from an address or a file, whole or not at all.

Comes in: the address, and the ETag of what is known already. Goes out: the content, decompressed, or that it has not
changed. Bounded in size and time; encrypted except on this very machine; never half a file.
"""

from __future__ import annotations

import http.client
import time
import zlib
from email.message import Message
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener, url2pathname

import msgspec

from farebox_ledger.errors import CatalogUnusable, InvalidInput

_CHUNK: Final = 64 * 1024
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS  # zlib's way to say: with gzip's header
_NOT_MODIFIED: Final = 304


class Limits(msgspec.Struct, frozen=True):
    """How much and how long: bytes after decompression, seconds without a byte, seconds in all.

    LiteLLM's file has 3.2 MB (November 2026).
    """

    max_bytes: int = 32 * 1024 * 1024
    idle_s: float = 15.0
    total_s: float = 120.0


class Download(msgspec.Struct, frozen=True):
    """What came. `content` None: it is what the ETag stands for. `etag` None: the server names none."""

    content: bytes | None
    etag: str | None = None


def checked_origin(origin: str) -> str:
    """Answer an address from which a catalog may be fetched: https, a file, or http on this machine.

    Raises:
        InvalidInput: another kind of address.
    """
    parts = _parts(origin)
    if parts is not None and parts.scheme == "file" and parts.path and parts.netloc in ("", "localhost"):
        return origin
    is_named = parts is not None and parts.hostname and not parts.username
    if is_named and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        return origin
    raise InvalidInput(
        "url", f"expected https://…, file:///… or http:// on this machine, without a password, got {origin[:200]!r}"
    )


def fetch(origin: str, *, etag: str | None = None, limits: Limits | None = None) -> Download:
    """Fetch a catalog.

    Raises:
        InvalidInput: the address is of another kind.
        CatalogUnusable: it cannot be fetched whole, in time, within the limits; says why.
    """
    limits = limits or Limits()
    if _parts(checked_origin(origin)).scheme == "file":
        return Download(_from_file(origin, limits))
    return _from_web(origin, etag, limits)


def _parts(origin: str) -> Any:
    try:
        return urlsplit(origin)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _from_file(origin: str, limits: Limits) -> bytes:
    path = Path(url2pathname(urlsplit(origin).path))
    try:
        with path.open("rb") as file:
            content = file.read(limits.max_bytes + 1)
    except OSError as error:
        raise CatalogUnusable(f"{path} cannot be read: {error.strerror or error}") from error
    return _unpacked([content], limits, is_gzip=content.startswith(_GZIP))


class _CheckedRedirects(HTTPRedirectHandler):
    """Follows a redirect only to where a catalog may come from."""

    def redirect_request(  # noqa: PLR0917  # the standard library's signature
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if _parts(newurl).scheme not in ("http", "https"):
            raise CatalogUnusable(f"{req.full_url} redirects to {newurl[:200]!r}, which is no address of the web")
        try:
            checked_origin(newurl)
        except InvalidInput as error:
            raise CatalogUnusable(f"{req.full_url} redirects to where no catalog may come from: {error}") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # typeshed asks for a narrower message


def _from_web(origin: str, etag: str | None, limits: Limits) -> Download:
    headers = {"User-Agent": "farebox", "Accept": "application/json", "Accept-Encoding": "gzip"}
    if etag is not None:
        headers["If-None-Match"] = etag
    deadline = time.monotonic() + limits.total_s
    try:
        with _opener(origin).open(Request(origin, headers=headers), timeout=limits.idle_s) as response:
            return Download(_body(origin, response, limits, deadline), response.headers.get("ETag"))
    except HTTPError as error:
        error.close()
        if error.code == _NOT_MODIFIED:
            return Download(None, etag)
        raise CatalogUnusable(f"{origin} answers {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise CatalogUnusable(f"{origin} sent nothing for {limits.idle_s:g} seconds") from error
    except URLError as error:
        raise CatalogUnusable(f"{origin} cannot be reached: {error.reason}") from error
    except http.client.IncompleteRead as error:
        raise CatalogUnusable(f"{origin} sent a truncated file") from error
    except (OSError, http.client.HTTPException) as error:
        raise CatalogUnusable(f"{origin} cannot be read: {str(error) or type(error).__name__}") from error


def _opener(origin: str) -> OpenerDirector:
    """Go through the system's proxy, but not to this very machine."""
    host = urlsplit(origin).hostname or ""
    return build_opener(_CheckedRedirects(), *([ProxyHandler({})] if _is_loopback(host) else []))


def _body(origin: str, response: Any, limits: Limits, deadline: float) -> bytes:
    encoding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise CatalogUnusable(f"{origin} sends it as {encoding[:32]!r}, which nobody asked for")
    chunks: list[bytes] = []
    received = 0
    while chunk := response.read1(_CHUNK):
        chunks.append(chunk)
        received += len(chunk)
        if received > limits.max_bytes:
            raise _too_large(limits)
        if time.monotonic() > deadline:
            raise CatalogUnusable(f"{origin} took longer than {limits.total_s:g} seconds")
    announced = response.headers.get("Content-Length")
    if announced is not None and announced.isdecimal() and received < int(announced):
        raise CatalogUnusable(f"{origin} sent a truncated file: {received} of {announced} bytes")
    return _unpacked(chunks, limits, is_gzip=encoding != "identity")


def _unpacked(chunks: list[bytes], limits: Limits, *, is_gzip: bool) -> bytes:
    """Decompress within the limit; a small file may hold a large one."""
    if is_gzip:
        unzip = zlib.decompressobj(_GZIP_WINDOW)
        try:
            content = unzip.decompress(b"".join(chunks), limits.max_bytes + 1)
        except zlib.error as error:
            raise CatalogUnusable(f"the file is no gzip: {error}") from error
        if len(content) <= limits.max_bytes and not unzip.eof:
            raise CatalogUnusable("the gzip file is truncated")
    else:
        content = b"".join(chunks)
    if len(content) > limits.max_bytes:
        raise _too_large(limits)
    return content


def _too_large(limits: Limits) -> CatalogUnusable:
    return CatalogUnusable(f"the file is larger than {limits.max_bytes} bytes; LiteLLM's has about 3 million")

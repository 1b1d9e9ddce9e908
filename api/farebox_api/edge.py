"""Wraps the whole application, routing included: what must hold for every answer, 404 and 405 too.

A request comes in and gets an id; the answer goes out with it, with the security headers, one access-log line and one
observation. Neither the log nor the figures hold a key, a query string or a body.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from farebox_api.auth import ALLOWANCE
from farebox_api.parameters import HELD_SLASH
from farebox_api.problems import allowed_methods
from farebox_api.telemetry import Telemetry
from farebox_ledger.store.rate_limits import Allowance

logger = logging.getLogger("farebox.access")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{8,128}")
_KNOWN_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # answers hold tenants' figures; a route that may be cached says so itself
}


class Edge:
    """The outermost ASGI application."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        """Wrap `app`, which has already turned every fault into an answer."""
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        scope["path"] = _path_with_held_slashes(scope)
        method = scope["method"]
        if method == "HEAD":  # as GET, whose body the server then leaves out (RFC 9110 §9.3.2)
            scope = {**scope, "method": HttpMethod.GET}
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope["state"]["request_id"] = request_id
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, request_id, scope["state"].get(ALLOWANCE))
                if method == "OPTIONS" and status == 204:  # each route of an address knows its own methods alone
                    allowed = allowed_methods(scope["litestar_app"], scope["path"])
                    MutableScopeHeaders.from_message(message)["Allow"] = ", ".join(allowed)
            await send(message)

        self._telemetry.request_started()
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._record(scope, method if method in _KNOWN_METHODS else "_OTHER", status, time.perf_counter() - started)

    def _record(self, scope: Any, method: str, status: int, duration_s: float) -> None:
        route = scope.get("path_template") or "unmatched"
        self._telemetry.request_ended(method, route, status, duration_s)
        caller = scope.get("user")
        logger.info(
            "request",
            extra={
                "request_id": scope["state"]["request_id"],
                "method": method,
                "route": route,
                "status": status,
                "duration_ms": round(duration_s * 1000, 1),
                "key": getattr(caller, "key_id", None),
                "organization": getattr(caller, "org_slug", None),
            },
        )


def _path_with_held_slashes(scope: Any) -> str:
    """Keep slashes that belong to a name, such as a user's, apart from those between names, until routes are found.

    The server has decoded both alike; the first ones become `HELD_SLASH`, which `StrictParameters` turns back.
    """
    raw: bytes = (scope.get("raw_path") or b"").partition(b"?")[0]
    if b"%2f" not in raw.lower():
        return str(scope["path"])
    held = re.sub("%2f", HELD_SLASH, raw.decode("latin-1"), flags=re.IGNORECASE)
    return unquote(held)


def _request_id(scope: Any) -> str:
    """Take the caller's id when it is a harmless one, so that a request can be followed through a proxy's log."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(text := value.decode("latin-1")):
            return str(text)
    return uuid4().hex


def _add_headers(message: Any, request_id: str, allowance: Allowance | None) -> None:
    headers = MutableScopeHeaders.from_message(message)
    headers["X-Request-Id"] = request_id
    if allowance is not None:  # draft-ietf-httpapi-ratelimit-headers-10
        headers["RateLimit-Policy"] = f'"key";q={allowance.limit};w=60'
        headers["RateLimit"] = f'"key";r={allowance.remaining};t={allowance.reset_s}'
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)

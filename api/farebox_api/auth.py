"""Who is asking: the key in the request's headers becomes a `Caller`, and routes ask it for a scope.

Keys are looked up by their hash; the bootstrap key of the settings is compared in constant time and stored nowhere. A
key of an organization sees that organization alone, `admin` included; a system key sees all.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import msgspec
from anyio import to_thread
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy import Engine

from farebox_api.errors import MissingScope, TooManyRequests, Unauthenticated
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.key_uses import KeyUses
from farebox_ledger.store.keys import KeyRecord, hash_key, key_by_hash, key_limit
from farebox_ledger.store.rate_limits import RateLimits
from farebox_ledger.store.scope import AllOrganizations

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
Guard: TypeAlias = Callable[[Connection, BaseRouteHandler], None]

MAX_KEY_LENGTH: Final = 512
"""A longer key is refused unread; ours have 56 characters, a bootstrap key is an operator's choice."""

PUBLIC: Final = "is_public"
"""The option of a route that answers without a key."""

ALLOWANCE: Final = "allowance"
"""Where a request's state says what its key has left in this minute."""

_HINT: Final = "send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"


class Caller(msgspec.Struct, frozen=True):
    """The holder of a valid key. `org_id` and `org_slug` are None for a system key."""

    key_id: str
    scopes: frozenset[str]
    org_id: int | None = None
    org_slug: str | None = None
    requests_per_minute: int | None = None

    def may(self, scope: str) -> bool:
        """Say whether the key opens `scope`; `admin` opens all of the API, sending is none of it."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def is_system(self) -> bool:
        """Say whether the key sees every organization."""
        return self.org_id is None


BOOTSTRAP: Final = Caller(key_id="bootstrap", scopes=frozenset(("admin",)))
"""The holder of `FAREBOX_ADMIN_KEY`."""


class Authentication(ASGIMiddleware):
    """Lets a request through with its `Caller` in `scope["user"]`, or raises `Unauthenticated`.

    Every route needs a key unless it says `opt={PUBLIC: True}`.
    """

    exclude_opt_key = PUBLIC

    def __init__(
        self,
        engine: Engine,
        admin_key: str | None,
        limits: RateLimits,
        uses: KeyUses,
        requests_per_minute: int | None,
    ) -> None:
        """Keep the digest of the bootstrap key, not the key. `requests_per_minute` limits keys without a limit."""
        self._engine = engine
        self._limits = limits
        self._uses = uses
        self._requests_per_minute = requests_per_minute
        self._admin_digest = None if admin_key is None else _digest(admin_key.encode())

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Find out who asks before anything else is looked at."""
        scope["user"] = caller = await self._caller(presented_key(Connection(scope)))
        if caller is not BOOTSTRAP and self._uses.is_due(caller.key_id):
            await to_thread.run_sync(self._uses.note, (caller.key_id,))
        limit = caller.requests_per_minute or self._requests_per_minute
        if limit is not None and caller is not BOOTSTRAP:
            allowance = await to_thread.run_sync(self._limits.use, caller.key_id, limit)
            scope["state"][ALLOWANCE] = allowance
            if allowance.is_exceeded:
                raise TooManyRequests(allowance.limit, allowance.reset_s)
        await next_app(scope, receive, send)

    async def _caller(self, key: str) -> Caller:
        if self._admin_digest and hmac.compare_digest(_digest(key.encode("latin-1")), self._admin_digest):
            return BOOTSTRAP
        record, limit = await to_thread.run_sync(self._look_up, key)
        if record is None or not record.is_active(time.time_ns() // 1000):
            raise Unauthenticated("The key is unknown, expired or revoked.")
        return Caller(str(record.id), frozenset(record.scopes), record.org_id, record.org_slug, limit)

    def _look_up(self, key: str) -> tuple[KeyRecord | None, int | None]:
        with transaction(self._engine, AllOrganizations()) as connection:
            record = key_by_hash(connection, hash_key(key))
            return record, None if record is None else key_limit(connection, record.id)


def presented_key(connection: Connection) -> str:
    """Read the key of a request, as latin-1 text just as it came.

    Raises:
        Unauthenticated: there is none, it has another form, or two headers carry different ones.
    """
    authorization, api_key = connection.headers.get("authorization"), connection.headers.get("x-api-key")
    if authorization is None and api_key is None:
        raise Unauthenticated(f"This needs a key; {_HINT}.")
    if authorization is not None:
        scheme, _, bearer = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(f"The Authorization header holds no bearer key; {_HINT}.")
        if api_key is not None and api_key.strip() != bearer.strip():
            raise Unauthenticated("Authorization and x-api-key hold different keys; send one.")
        api_key = bearer
    key = (api_key or "").strip()
    if not key or len(key) > MAX_KEY_LENGTH:
        raise Unauthenticated(f"The key is empty or too long; {_HINT}.")
    return key


def requires(scope: str, *wider: str) -> Guard:
    """Make a guard that lets a caller with `scope` pass, or with a wider one that includes it."""

    def guard(connection: Connection, _: BaseRouteHandler) -> None:
        if not any(map(connection.user.may, (scope, *wider))):
            raise MissingScope(scope)

    return guard


def _digest(key: bytes) -> bytes:
    """Make two keys comparable in constant time, whatever their lengths."""
    return blake2b(key, digest_size=32).digest()

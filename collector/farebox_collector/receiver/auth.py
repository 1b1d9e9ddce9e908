"""Whose request is it? The organization comes from the sender's key alone, never from anything in the request.

Hashed keys are kept in memory and in the spool folder. A key that is not among them is looked up at once; when that
is impossible the sender is asked to try again, because a 401 would lose its spans for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, Protocol, TypeVar, cast

from farebox_collector.errors import PermissionDenied, Refused, Unauthenticated, Unavailable
from farebox_collector.spans import Sender
from farebox_collector.spool import KnownKey

logger = logging.getLogger(__name__)

SCOPE: Final = "ingest"
MAX_KEY_BYTES: Final = 256
LOOKUP_TIMEOUT_S: Final = 2.0
"""A sender waits at most 10 s in all, and its next try comes after two."""
MAX_LOOKUPS: Final = 2
"""Look-ups that wait for the database at once."""
REFUSALS_EVERY_S: Final = 10.0
_PREFIX: Final = re.compile(rb"fbx_[A-Za-z0-9]{8}(?=_)")
UNKNOWN_FOR_S: Final = 1.0
MAX_UNKNOWN: Final = 10_000

_T = TypeVar("_T")


class KeyDirectory(Protocol):
    """Where keys are looked up; each call may block and may fail with any error when the database is away."""

    def all_keys(self) -> Sequence[KnownKey]: ...

    def key_by_hash(self, hashed: bytes) -> KnownKey | None: ...


def hash_key(text: bytes) -> bytes:
    """Hash a key as the ledger does."""
    return sha256(text).digest()


def presented_key(authorization: bytes | None, api_key: bytes | None) -> bytes | None:
    """Read the key of a request from `Authorization: Bearer KEY` or `x-api-key: KEY`; None when there is neither."""
    if authorization is not None:
        scheme, _, key = authorization.strip().partition(b" ")
        if scheme.lower() == b"bearer" and key.strip():
            return key.strip()
    return api_key.strip() or None if api_key is not None else None


class Senders(Protocol):
    """Who may send, as the receivers ask it; used on the event loop."""

    def known_sender(self, key: bytes | None) -> Sender | None:
        """Answer the sender when nothing has to be looked up, else None."""

    async def sender(self, key: bytes | None) -> Sender:
        """Answer whose request this is, or raise the Refused that its sender is to be told."""


class Authenticator:
    """Knows the senders. Used on the event loop; lookups run on threads of their own."""

    def __init__(
        self,
        directory: KeyDirectory,
        *,
        remembered: Iterable[KnownKey],
        remember: Callable[[Sequence[KnownKey]], None],
        default_sender: Sender | None,
        refresh_s: float,
    ) -> None:
        """Start with the remembered keys. `default_sender` is taken for requests without a key; None asks for one."""
        self._directory = directory
        self._keys = {key.hash: key for key in remembered}
        self._remember = remember
        self._default_sender = default_sender
        self._refresh_s = refresh_s
        self._unknown: dict[bytes, float] = {}
        self._lookups: dict[bytes, asyncio.Future[KnownKey | None]] = {}
        self._free_threads = asyncio.Semaphore(MAX_LOOKUPS)
        self._refusals = _Refusals()
        self.is_current = False

    def known_sender(self, key: bytes | None) -> Sender | None:
        """Answer the sender when nothing has to be looked up, else None."""
        if key is None:
            return self._default_sender
        known = self._keys.get(hash_key(key))
        return None if known is None or not _may_send(known) else Sender(known.org_id or 0, known.org or "", known.id)

    async def sender(self, key: bytes | None) -> Sender:
        """Answer whose request this is.

        Raises:
            Unauthenticated: no key, or one that does not exist, is revoked or has expired.
            PermissionDenied: the key may not send spans, or belongs to no organization.
            Unavailable: the key is not known here and cannot be looked up now.
        """
        try:
            return await self._judged(key)
        except (Unauthenticated, PermissionDenied) as refused:
            self._refusals.note(refused, key, self._keys.get(hash_key(key)) if key else None)
            raise

    async def _judged(self, key: bytes | None) -> Sender:
        if key is None:
            if self._default_sender is None:
                raise Unauthenticated("a key is required: send Authorization: Bearer KEY or x-api-key: KEY")
            return self._default_sender
        if len(key) > MAX_KEY_BYTES:
            raise Unauthenticated("this key is not one of ours")
        hashed = hash_key(key)
        known = self._keys.get(hashed) or await self._looked_up(hashed)
        if known is None:
            raise Unauthenticated("this key is unknown; make one with: farebox keys create --org SLUG --scope ingest")
        return _sender_of(known)

    async def keep_current(self) -> None:
        """Refresh the keys until cancelled, so that a revoked key is refused within five seconds."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._refresh_s)

    async def refresh(self) -> None:
        """Load all keys once; when the database is away the known ones stay valid."""
        try:
            keys = await self._in_thread(self._directory.all_keys)
        except Exception as error:  # noqa: BLE001 - any fault of the database means the same: not now
            if self.is_current:
                logger.warning("the keys cannot be refreshed, those known stay valid: %s", _first_line(error))
            self.is_current = False
            return
        self.is_current = True
        self._unknown.clear()
        fresh = {key.hash: key for key in keys}
        if fresh != self._keys:
            self._keys = fresh
            self._remember(list(keys))

    async def _looked_up(self, hashed: bytes) -> KnownKey | None:
        if self._unknown.get(hashed, 0.0) > time.monotonic():
            return None
        lookup = self._lookups.get(hashed)
        if lookup is None:
            lookup = asyncio.ensure_future(self._in_thread(lambda: self._directory.key_by_hash(hashed)))
            self._lookups[hashed] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(hashed, None))
        try:
            known = await asyncio.shield(lookup)
        except Exception as error:  # noqa: BLE001 - any fault of the database means the same: not now
            logger.warning("a key cannot be looked up now: %s", _first_line(error))
            raise Unavailable("the key cannot be checked now; send the request again") from None
        if known is None:
            self._forget_some_unknown()
            self._unknown[hashed] = time.monotonic() + UNKNOWN_FOR_S
        else:
            self._keys[hashed] = known
            self._remember(list(self._keys.values()))
        return known

    def _forget_some_unknown(self) -> None:
        if len(self._unknown) >= MAX_UNKNOWN:
            self._unknown.clear()

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        """Wait for a look-up on a daemon thread: one that a frozen database holds must not keep the process alive."""
        async with asyncio.timeout(LOOKUP_TIMEOUT_S):
            await self._free_threads.acquire()
            answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
            threading.Thread(target=self._look_up, args=(call, answer), name="farebox-keys", daemon=True).start()
            return await answer

    def _look_up(self, call: Callable[[], _T], answer: asyncio.Future[_T]) -> None:
        """Run on a thread of its own; the answer may come when nobody waits for it any more."""
        result: _T | None = None
        fault: Exception | None = None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - whoever waits judges it
            fault = error

        def deliver() -> None:
            self._free_threads.release()
            if answer.done():
                return
            if fault is not None:
                answer.set_exception(fault)
            else:
                answer.set_result(cast(_T, result))

        with contextlib.suppress(RuntimeError):  # the event loop is closed
            answer.get_loop().call_soon_threadsafe(deliver)


class _Refusals:
    """Logs refused requests, whose spans are lost for ever: at once, and in a flood one line for all of ten seconds."""

    def __init__(self) -> None:
        self._refused = 0
        self._quiet_until = 0.0

    def note(self, refused: Refused, key: bytes | None, known: KnownKey | None) -> None:
        self._refused += 1
        now = time.monotonic()
        if now < self._quiet_until:
            return
        logger.warning(
            "%d requests were refused, and their spans are lost to the senders; the last one: %s (%s)",
            self._refused,
            refused,
            _name_of(key, known),
        )
        self._refused = 0
        self._quiet_until = now + REFUSALS_EVERY_S


def _name_of(key: bytes | None, known: KnownKey | None) -> str:
    """Name a key for the log by its id or, unknown, by what `farebox keys list` would show of it; never the key."""
    if known is not None:
        return known.id
    prefix = _PREFIX.match(key or b"")
    return "no key" if key is None else "not a key of farebox" if prefix is None else f"{prefix[0].decode()}…"


def _may_send(key: KnownKey) -> bool:
    return (
        key.revoked_at_us is None
        and key.org_id is not None
        and SCOPE in key.scopes
        and (key.expires_at_us is None or key.expires_at_us > time.time_ns() // 1000)
    )


def _sender_of(key: KnownKey) -> Sender:
    if key.revoked_at_us is not None:
        raise Unauthenticated("this key is revoked")
    if key.expires_at_us is not None and key.expires_at_us <= time.time_ns() // 1000:
        raise Unauthenticated("this key has expired")
    if SCOPE not in key.scopes:
        raise PermissionDenied("this key lacks the scope ingest")
    if key.org_id is None or key.org is None:
        raise PermissionDenied("this key belongs to no organization; send with a key of one")
    return Sender(key.org_id, key.org, key.id)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

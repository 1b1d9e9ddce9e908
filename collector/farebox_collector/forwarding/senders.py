"""Whose request is it? Of a forwarder's senders the gateway alone knows, so it is asked by an empty export.

A key is asked for once. While the gateway is away every key is taken, since a 401 would lose the spans for ever; one
that the gateway refuses later is asked for anew, and its spans wait in the spool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, TypeAlias

from farebox_collector.errors import GatewayAway, KeyRefused, NotDelivered, PermissionDenied, Unauthenticated
from farebox_collector.forwarding.gateway import Gateway
from farebox_collector.spans import Sender

logger = logging.getLogger(__name__)

MAX_KEY_BYTES: Final = 256
MAX_KNOWN: Final = 10_000
REFUSED_FOR_S: Final = 1.0
CHECK_TIMEOUT_S: Final = 3.0
AWAY_FOR_S: Final = 1.0
"""After a check without an answer, keys are taken unasked for this time: nobody waits for the same silence again."""

Verdict: TypeAlias = Literal["taken", "unauthenticated", "forbidden", "away"]


class PassedOnSenders:
    """Knows the senders by their keys. Used on the event loop; checks run on threads of their own."""

    def __init__(self, connect: Callable[[], Gateway], *, takes_keyless: bool) -> None:
        """`connect` makes a gateway for one check; without `takes_keyless` each sender needs a key of its own."""
        self._connect = connect
        self._takes_keyless = takes_keyless
        self._known: dict[bytes | None, Sender] = {}
        self._refused: dict[bytes | None, tuple[Verdict, float]] = {}
        self._away_until = 0.0
        self._checks: dict[bytes | None, asyncio.Future[Verdict]] = {}
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="farebox-keys")

    def known_sender(self, key: bytes | None) -> Sender | None:
        """Answer the sender when the gateway has taken its key before, else None."""
        return self._known.get(key)

    async def sender(self, key: bytes | None) -> Sender:
        """Answer whose request this is; the sender's `key_id` is the key itself, which the gateway needs.

        Raises:
            Unauthenticated: no key where one is needed, or one that the gateway does not know.
            PermissionDenied: the gateway knows the key, which may not send.
        """
        if key is None and not self._takes_keyless:
            raise Unauthenticated("a key is required: send Authorization: Bearer KEY or x-api-key: KEY")
        if key is not None and len(key) > MAX_KEY_BYTES:
            raise Unauthenticated("this key is not one of ours")
        verdict = await self._verdict(key)
        if verdict == "unauthenticated":
            raise Unauthenticated("the gateway does not know this key; make one with: farebox keys create")
        if verdict == "forbidden":
            raise PermissionDenied("the gateway does not let this key send spans")
        sender = Sender(0, "", None if key is None else key.decode("latin-1"))
        if verdict == "taken":
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = sender
        return sender

    def forget(self, key: str | None) -> None:
        """Ask anew for a key that the gateway has refused; may be called from any thread."""
        self._known.pop(None if key is None else key.encode("latin-1"), None)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _verdict(self, key: bytes | None) -> Verdict:
        now = time.monotonic()
        verdict, until = self._refused.get(key, ("away", 0.0))
        if until > now:
            return verdict
        if self._away_until > now:
            return "away"
        check = self._checks.get(key)
        if check is None:
            check = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(self._threads, self._asked, key))
            self._checks[key] = check
            check.add_done_callback(lambda _: self._checks.pop(key, None))
        try:
            verdict = await asyncio.wait_for(asyncio.shield(check), CHECK_TIMEOUT_S)
        except TimeoutError:
            verdict = "away"
        if verdict == "away":
            self._away_until = time.monotonic() + AWAY_FOR_S
        elif verdict != "taken":
            if len(self._refused) >= MAX_KNOWN:
                self._refused.clear()
            self._refused[key] = (verdict, time.monotonic() + REFUSED_FOR_S)
        return verdict

    def _asked(self, key: bytes | None) -> Verdict:
        gateway = self._connect()
        try:
            gateway.export(None if key is None else key.decode("latin-1"), b"")
        except KeyRefused as refused:
            logger.warning("a request was refused as the gateway refuses its key; its spans are lost to the sender")
            return "forbidden" if refused.http_status == 403 else "unauthenticated"
        except GatewayAway as away:
            logger.warning("a key cannot be checked now and is taken: %s", away)
            return "away"
        except NotDelivered:
            return "taken"
        finally:
            gateway.close()
        return "taken"

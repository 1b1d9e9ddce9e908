"""Requests with an Idempotency-Key act once: the answer is kept with the change, and repeated for the same request.

Stands between authentication and the routes. A route that changes something does so in `Books.writing`, whose
transaction then stays open until the answer is complete: change and answer are committed together. A request that was
refused changed nothing and frees its key. Rules of draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from typing import Any, Final

from anyio import to_thread
from litestar.datastructures import Headers
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy import Connection, Engine

from farebox_api.auth import PUBLIC, Caller
from farebox_api.errors import invalid_parameter
from farebox_ledger.errors import Conflict
from farebox_ledger.store import idempotency
from farebox_ledger.store import scope as scopes
from farebox_ledger.store.administration_tables import NOBODYS
from farebox_ledger.store.engine import take_scope, transaction
from farebox_ledger.store.idempotency import Answered, Claim

HEADER: Final = "Idempotency-Key"
PATTERN: Final = r"^[!-~]{1,255}$"
METHODS: Final = frozenset(("POST", "PUT", "PATCH", "DELETE"))
SHOWN_ONCE: Final = "is_shown_once"
"""The option of a route whose answer holds a secret: it is not kept, and a repetition is told so."""

_KEPT_HEADERS: Final = frozenset(("content-type", "location", "etag"))
_STATE: Final = "idempotent"


class Change:
    """The transaction of one idempotent request: opened by the first write, ended by the answer."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._stack = ExitStack()
        self.connection: Connection | None = None

    @contextmanager
    def writing(self, engine: Engine, scope: scopes.Scope) -> Iterator[Connection]:
        """Run a block in the request's transaction; one that raises takes everything back."""
        if self.connection is None:
            self.connection = self._stack.enter_context(transaction(engine, scope, write=True))
        else:
            take_scope(self.connection, scope)
        try:
            yield self.connection
        except BaseException:
            self.abandon()
            raise

    def commit(self) -> None:
        """Make it so."""
        self.connection = None
        self._stack.close()

    def abandon(self) -> None:
        """Take everything back."""
        self.connection = None
        stack, self._stack = self._stack, ExitStack()
        with suppress(_Abandoned):
            try:
                raise _Abandoned
            except _Abandoned:
                stack.__exit__(*sys.exc_info())


class _Abandoned(Exception):
    """Ends a transaction from outside."""


def change_of(scope: Any) -> Change | None:
    """Answer the transaction of a request that came with an Idempotency-Key."""
    found = scope["state"].get(_STATE)
    return found if isinstance(found, Change) else None


class Idempotency(ASGIMiddleware):
    """Answers a repeated request as it was answered before."""

    exclude_opt_key = PUBLIC

    def __init__(self, engine: Engine, max_body_bytes: int) -> None:
        """Keep the database; a body beyond the limit is left to the route, which refuses it."""
        self._engine = engine
        self._max_body_bytes = max_body_bytes

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass a request without the header on; claim the key of one that has it."""
        key = Headers.from_scope(scope).get(HEADER)
        if key is None or scope.get("method") not in METHODS:
            await next_app(scope, receive, send)
            return
        if not re.fullmatch(PATTERN, key):
            raise invalid_parameter(HEADER, "expected 1 to 255 visible ASCII characters")
        messages = await _body_messages(receive, self._max_body_bytes)
        if not messages or messages[-1].get("more_body", False):
            await next_app(scope, _replayed(messages, receive), send)
            return
        claimed = await to_thread.run_sync(self._claim, scope, key, messages)
        if isinstance(claimed, Answered):
            await _repeat(claimed, send)
            return
        await self._answer(scope, _replayed(messages, receive), send, next_app, claimed)

    def _claim(self, scope: Any, key: str, messages: list[Any]) -> Claim | Answered:
        caller: Caller = scope["user"]
        with transaction(self._engine, _view(caller), write=True) as connection:
            owner = idempotency.Caller(NOBODYS if caller.org_id is None else caller.org_id, caller.key_id)
            return idempotency.claim(connection, owner, key, _hash(scope, messages))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp, claimed: Claim) -> None:
        """Let the route answer, hold the answer back until it is kept, and send it."""
        change = Change()
        scope["state"][_STATE] = change
        answer: list[Message] = []

        async def collect(message: Message) -> None:
            answer.append(message)

        try:
            await next_app(scope, receive, collect)
            await to_thread.run_sync(self._keep, scope, change, claimed, answer)
        except BaseException:
            await to_thread.run_sync(self._give_up, scope, change, claimed)
            raise
        for message in answer:
            await send(message)

    def _keep(self, scope: Any, change: Change, claimed: Claim, answer: list[Any]) -> None:
        """Commit the change with its answer; a refusal takes the change back and frees the key."""
        answered = _answered(scope, answer)
        if answered.status >= 400:
            self._give_up(scope, change, claimed)
        elif change.connection is not None:
            idempotency.answer(change.connection, claimed, answered)
            change.commit()
        else:  # the route changed nothing here, or not in its own transaction
            with transaction(self._engine, _view(scope["user"]), write=True) as connection:
                idempotency.answer(connection, claimed, answered)

    def _give_up(self, scope: Any, change: Change, claimed: Claim) -> None:
        change.abandon()
        with transaction(self._engine, _view(scope["user"]), write=True) as connection:
            idempotency.give_back(connection, claimed)


def _view(caller: Caller) -> scopes.Scope:
    return scopes.AllOrganizations() if caller.org_id is None else scopes.OrgScope(caller.org_id)


async def _body_messages(receive: Receive, most: int) -> list[Any]:
    """Read the body, up to the first piece beyond `most` bytes."""
    messages: list[Any] = []
    size = 0
    while size <= most:
        message: Any = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return messages


def _replayed(messages: list[Any], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replay() -> Any:
        message = next(waiting, None)
        return await receive() if message is None else message

    return replay


def _hash(scope: Any, messages: list[Any]) -> bytes:
    digest = blake2b(digest_size=32)
    for part in (scope["method"].encode(), scope["path"].encode(), scope["query_string"]):
        digest.update(len(part).to_bytes(8) + part)
    for message in messages:
        digest.update(message.get("body", b""))
    return digest.digest()


def _answered(scope: Any, answer: list[Any]) -> Answered:
    start = next(message for message in answer if message["type"] == "http.response.start")
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]]
    is_shown_once = scope["route_handler"].opt.get(SHOWN_ONCE, False)
    body = b"".join(message.get("body", b"") for message in answer if message["type"] == "http.response.body")
    if dict(headers).get("content-encoding") == "gzip":  # the one who repeats the request may not read it
        body = gzip.decompress(body)
    kept = [(name, value) for name, value in headers if name in _KEPT_HEADERS]
    return Answered(start["status"], kept, None if is_shown_once else body)


async def _repeat(answered: Answered, send: Send) -> None:
    if answered.body is None:
        raise Conflict("this request was carried out; its answer holds a secret that is shown once and not kept")
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answered.headers]
    headers += [(b"content-length", str(len(answered.body)).encode()), (b"idempotency-replayed", b"true")]
    start: Any = {"type": "http.response.start", "status": answered.status, "headers": headers}
    body: Any = {"type": "http.response.body", "body": answered.body, "more_body": False}
    await send(start)
    await send(body)

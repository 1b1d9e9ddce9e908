"""The audit log: who changed what, in which way, when. Entries are only ever added, in the transaction of the change.

`acting` says once who acts: the API for a request, a command for its run; whoever is silent is the system. Functions
that change something call `note`, or carry one of the decorators; none of them knows who asked. Secrets and addresses
of people are left out of what is kept, so that erasing a person never has to touch the log.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeAlias, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, insert, select, tuple_

from farebox_ledger.store.administration_tables import NOBODYS, ActorKind, audit_log
from farebox_ledger.store.scope import OrgScope, Scope
from farebox_ledger.store.statements import organizations_in

LEFT_OUT: Final = frozenset({"key", "hash", "secret", "signing_secret", "password", "email", "user_email", "content"})
"""Members that never reach the log, at any depth."""

KEY_ID: Final = "key_"
"""How the ids of keys begin; keys themselves begin otherwise."""

MAX_JSON: Final = 20_000
"""Longer states are cut to what they begin with; a bill's origin is in the books, not here."""

Position: TypeAlias = tuple[int, str]
Parameters = ParamSpec("Parameters")


class Identified(Protocol):
    """A thing that was made or changed."""

    @property
    def id(self) -> str: ...


Thing = TypeVar("Thing", bound=Identified)


class Actor(msgspec.Struct, frozen=True):
    """Who acts: a key by its id, a command's user by name, or the system; `via` is the operation or the command."""

    kind: ActorKind
    name: str
    via: str | None = None
    request_id: str | None = None


class Acting:
    """An actor at work, and how much of it is in the log."""

    def __init__(self, actor: Actor) -> None:
        """Begin with nothing noted."""
        self.actor = actor
        self.noted = 0


class Entry(msgspec.Struct, frozen=True):
    """One entry; `before` and `after` are JSON, None where there is no such state. `org_id` 0 is the system's."""

    org_id: int
    at_us: int
    id: str
    actor_kind: ActorKind
    actor: str
    via: str | None
    action: str
    object_kind: str
    object_id: str | None
    before: str | None
    after: str | None
    request_id: str | None


class EntryFilter(msgspec.Struct, frozen=True):
    """What is looked for; None asks for nothing."""

    actor: str | None = None
    action: str | None = None
    object_kind: str | None = None
    object_id: str | None = None
    request_id: str | None = None
    start_us: int | None = None
    end_us: int | None = None


_SYSTEM: Final = Actor("system", "farebox")
_ACTING: Final[ContextVar[Acting | None]] = ContextVar("farebox_acting", default=None)


@contextmanager
def acting(actor: Actor) -> Iterator[Acting]:
    """Let all that is noted in a block be this actor's."""
    state = Acting(actor)
    token = _ACTING.set(state)
    try:
        yield state
    finally:
        _ACTING.reset(token)


def note(
    connection: Connection,
    action: str,
    object_kind: str,
    object_id: str | None,
    *,
    org_id: int | None = None,
    before: object = None,
    after: object = None,
) -> None:
    """Add an entry to the caller's transaction: `action` such as `price_override.change`, states as they were and are.

    Whose entry it is, the connection's scope says; without one organization's, `org_id` does, None for the system.
    """
    state = _ACTING.get() or Acting(_SYSTEM)
    scope = connection.get_execution_options().get("farebox_scope")
    owner = scope.org_id if isinstance(scope, OrgScope) else org_id
    actor = state.actor
    connection.execute(
        insert(audit_log).values(
            org_id=NOBODYS if owner is None else owner,
            at_us=time.time_ns() // 1000,
            id=f"aud_{secrets.token_hex(12)}",
            actor_kind=actor.kind,
            actor=actor.name,
            via=actor.via,
            action=action,
            object_kind=object_kind,
            object_id=object_id,
            before=_json(before),
            after=_json(after),
            request_id=actor.request_id,
        )
    )
    state.noted += 1


def nothing_changed() -> None:
    """Say that what was asked for stands already, so that no entry is due for it."""
    state = _ACTING.get()
    if state is not None:
        state.noted += 1


def makes(kind: str) -> Callable[[Callable[Parameters, Thing]], Callable[Parameters, Thing]]:
    """Note what a function makes; its first argument is the connection."""

    def decorated(make: Callable[Parameters, Thing]) -> Callable[Parameters, Thing]:
        @wraps(make)
        def noted(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Thing:
            made = make(*args, **kwargs)
            connection: Any = args[0]
            note(connection, f"{kind}.create", kind, made.id, org_id=getattr(made, "org_id", None), after=made)
            return made

        return noted

    return decorated


Result = TypeVar("Result")
Change: TypeAlias = Callable[Concatenate[Connection, Scope, str, Parameters], Result]
"""Changes the thing of an id, given by position."""


def changes(
    kind: str, find: Callable[[Connection, Scope, str], object], action: str = "change"
) -> Callable[[Change[Parameters, Result]], Change[Parameters, Result]]:
    """Note what a function changes or deletes, with the state before and, where it answers one, the state after.

    What it leaves as it was is not noted.
    """

    def decorated(change: Change[Parameters, Result]) -> Change[Parameters, Result]:
        @wraps(change)
        def noted(
            connection: Connection, scope: Scope, identity: str, /, *args: Parameters.args, **kwargs: Parameters.kwargs
        ) -> Result:
            before = find(connection, scope, identity)
            result = change(connection, scope, identity, *args, **kwargs)
            if result is not None and result == before:
                nothing_changed()
                return result
            org_id = getattr(before, "org_id", None)
            note(connection, f"{kind}.{action}", kind, identity, org_id=org_id, before=before, after=result)
            return result

        return noted

    return decorated


def list_entries(
    connection: Connection, scope: Scope, asked: EntryFilter, *, limit: int, after: Position | None = None
) -> list[Entry]:
    """List entries, newest first, those behind `after` when it is given.

    Over all organizations each one's newest are read through its key and merged.
    """
    if isinstance(scope, OrgScope):
        return _entries(connection, scope.org_id, asked, limit, after)
    owners = connection.scalars(organizations_in(audit_log)).all()
    found = [entry for owner in owners for entry in _entries(connection, owner, asked, limit, after)]
    return sorted(found, key=lambda entry: (entry.at_us, entry.id), reverse=True)[:limit]


def _entries(
    connection: Connection, org_id: int, asked: EntryFilter, limit: int, after: Position | None
) -> list[Entry]:
    table = audit_log.c
    listed = select(audit_log).where(table.org_id == org_id, *_conditions(asked))
    if after is not None:
        listed = listed.where(tuple_(table.at_us, table.id) < tuple_(*after))
    listed = listed.order_by(table.at_us.desc(), table.id.desc()).limit(limit)
    return [_entry(row) for row in connection.execute(listed)]


def _conditions(asked: EntryFilter) -> Iterator[ColumnElement[bool]]:
    for name in ("actor", "action", "object_kind", "object_id", "request_id"):
        wanted = getattr(asked, name)
        if wanted is not None:
            yield audit_log.c[name] == wanted
    if asked.start_us is not None:
        yield audit_log.c.at_us >= asked.start_us
    if asked.end_us is not None:
        yield audit_log.c.at_us < asked.end_us


def _entry(row: Row[Any]) -> Entry:
    return Entry(**row._mapping)


def _json(state: object) -> str | None:
    if state is None:
        return None
    plain = _without_secrets(msgspec.to_builtins(state, str_keys=True, enc_hook=str))
    text = msgspec.json.encode(plain).decode()
    return text if len(text) <= MAX_JSON else msgspec.json.encode({"cut": text[:MAX_JSON]}).decode()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(inner) for name, inner in value.items() if not _is_left_out(name, inner)}
    if isinstance(value, list | tuple):
        return [_without_secrets(inner) for inner in value]
    return value


def _is_left_out(name: str, value: Any) -> bool:
    """Say whether a member stays out of the log; the id of a key, unlike the key, tells whom a budget is for."""
    return name in LEFT_OUT and not (name == "key" and isinstance(value, str) and value.startswith(KEY_ID))

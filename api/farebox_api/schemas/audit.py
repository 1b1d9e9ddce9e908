"""Entries of the audit log, as answers."""

from __future__ import annotations

from typing import Any

import msgspec

from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import Timestamp, timestamp
from farebox_ledger.store.administration_tables import ActorKind
from farebox_ledger.store.audit import Entry


class AuditEntryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One change: who made it (`actor`: a key's id, or the user of a command), by which operation, and the states.

    `organization` null is the system's own. `before` and `after` hold neither keys nor addresses of people.
    """

    id: str
    at: Timestamp
    organization: str | None
    actor_kind: ActorKind
    actor: str
    via: str | None
    action: str
    object_kind: str
    object_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str | None


class AuditPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the log, newest first."""

    items: list[AuditEntryAnswer]


def entry_answer(entry: Entry, organization: str | None) -> AuditEntryAnswer:
    """Write an entry."""
    return AuditEntryAnswer(
        id=entry.id,
        at=timestamp(entry.at_us),
        organization=organization,
        actor_kind=entry.actor_kind,
        actor=entry.actor,
        via=entry.via,
        action=entry.action,
        object_kind=entry.object_kind,
        object_id=entry.object_id,
        before=_state(entry.before),
        after=_state(entry.after),
        request_id=entry.request_id,
    )


def _state(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    state = msgspec.json.decode(text)
    return state if isinstance(state, dict) else {"value": state}

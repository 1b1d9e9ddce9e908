"""Webhooks: who is told of what happens, and where.

A webhook belongs to one organization, or to the system, which then hears of all of them. Its secret signs every
message, so it is kept as it is, in the database alone; whoever can read that table can sign. It is shown once.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, Select, insert, select, tuple_, update

from farebox_ledger.errors import InvalidInput, NotFound, Outdated
from farebox_ledger.store import audit, subjects
from farebox_ledger.store.budget_tables import SYSTEM, webhooks
from farebox_ledger.store.scope import OrgScope, Scope, within
from farebox_ledger.store.subjects import Position, Subject
from farebox_ledger.webhook_addresses import checked_url

WebhookEvent: TypeAlias = Literal[
    "budget.alert",
    "credits.low_balance",
    "price_sync.awaiting_approval",
    "price_sync.failed",
    "usage.unpriced_found",
    "webhook.ping",
]
"""What is told; `webhook.ping` is sent on demand to any webhook."""

SUBSCRIBABLE: Final = tuple(event for event in get_args(WebhookEvent) if event != "webhook.ping")

_NOUN: Final = "webhook"


class Webhook(Subject, frozen=True, kw_only=True):
    """One address that is told. `org_id` None is the system's; `allow_private` lets it be in a private network."""

    url: str
    events: tuple[WebhookEvent, ...]
    allow_private: bool


class Signed(msgspec.Struct, frozen=True):
    """A webhook with the secret that signs its messages."""

    webhook: Webhook
    secret: str


class WebhookDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook to be made."""

    url: str
    events: tuple[str, ...]
    allow_private: bool = False
    notes: str | None = None
    is_active: bool = True


class WebhookChange(msgspec.Struct, frozen=True, kw_only=True):
    """What changes of a webhook; whether it may be in a private network stays."""

    url: str | UnsetType = UNSET
    events: tuple[str, ...] | UnsetType = UNSET
    notes: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


def create_webhook(connection: Connection, scope: Scope, draft: WebhookDraft, *, now_us: int | None = None) -> Signed:
    """Make a webhook of the scope's organization, or of the system, with a secret of 256 bits.

    Raises:
        InvalidInput: a field cannot be used; names it.
    """
    identity, secret = subjects.new_id("whk"), f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
    values = {
        "org_id": owner_number(scope),
        "id": identity,
        "secret": secret,
        "url": checked_url(draft.url, allow_private=draft.allow_private),
        "events": _checked_events(draft.events),
        "allow_private": int(draft.allow_private),
        "notes": subjects.checked_notes(draft.notes),
        "is_active": int(draft.is_active),
    }
    at_us = subjects.now_us() if now_us is None else now_us
    connection.execute(insert(webhooks).values(**values, created_at_us=at_us, updated_at_us=at_us))
    made = get_webhook(connection, scope, identity)
    audit.note(connection, f"{_NOUN}.create", _NOUN, made.id, org_id=made.org_id, after=made)
    return Signed(made, secret)


def _before(connection: Connection, scope: Scope, identity: str) -> Webhook:
    """Read what the audit log keeps of the time before a change, which nobody else makes until this one is done."""
    return get_webhook(connection, scope, identity, hold=True)


@audit.changes(_NOUN, _before)
def change_webhook(
    connection: Connection,
    scope: Scope,
    identity: str,
    wanted: WebhookChange,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> Webhook:
    """Change a webhook; messages that wait go to where it is then.

    Raises:
        InvalidInput: as `create_webhook`.
        NotFound: it does not exist, or not for this scope.
        Outdated: it is not at `expected_version`.
    """
    stands = _expected(connection, scope, identity, expected_version)
    values: dict[str, Any] = {}
    if not isinstance(wanted.url, UnsetType):
        values["url"] = checked_url(wanted.url, allow_private=stands.allow_private)
    if not isinstance(wanted.events, UnsetType):
        values["events"] = _checked_events(wanted.events)
    if not isinstance(wanted.notes, UnsetType):
        values["notes"] = subjects.checked_notes(wanted.notes)
    if not isinstance(wanted.is_active, UnsetType):
        values["is_active"] = int(wanted.is_active)
    _touch(connection, stands, now_us, **values)
    return get_webhook(connection, scope, identity)


@audit.changes(_NOUN, _before, "delete")
def delete_webhook(
    connection: Connection,
    scope: Scope,
    identity: str,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> None:
    """Tell an address no more; messages that wait for it are given up, and its secret is forgotten.

    Raises:
        NotFound, Outdated: as `change_webhook`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    stands = _expected(connection, scope, identity, expected_version)
    _touch(connection, stands, at_us, deleted_at_us=at_us, is_active=0, secret="")


def get_webhook(connection: Connection, scope: Scope, identity: str, *, hold: bool = False) -> Webhook:
    """Find a webhook of the scope. `hold` keeps it from others who would change it until the transaction ends.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    one = _live(scope).where(webhooks.c.id == identity)
    row = connection.execute(one.with_for_update() if hold else one).one_or_none()
    if row is None:
        raise NotFound(_NOUN, identity)
    return webhook_of(row)


def list_webhooks(
    connection: Connection, scope: Scope, *, limit: int = 100, after: Position | None = None
) -> list[Webhook]:
    """List webhooks, oldest first: an organization's own, for the system all."""
    listed = _live(scope).order_by(webhooks.c.created_at_us, webhooks.c.id).limit(limit)
    if after is not None:
        listed = listed.where(tuple_(webhooks.c.created_at_us, webhooks.c.id) > after)
    return [webhook_of(row) for row in connection.execute(listed)]


def listeners(connection: Connection, scope: Scope, event: WebhookEvent) -> list[Webhook]:
    """List the active webhooks that hear of an event: those of the scope's organization and of the system."""
    owners = {SYSTEM, owner_number(scope)}
    found = connection.execute(
        select(webhooks).where(
            webhooks.c.org_id.in_(sorted(owners)), webhooks.c.deleted_at_us.is_(None), webhooks.c.is_active == 1
        )
    )
    return [webhook for webhook in map(webhook_of, found) if event in webhook.events]


def owner_number(scope: Scope) -> int:
    """Answer the number under which the scope's webhooks stand."""
    return scope.org_id if isinstance(scope, OrgScope) else SYSTEM


def webhook_of(row: Row[Any]) -> Webhook:
    """Read a row of `webhooks`."""
    fields = {**subjects.subject_fields(row), "org_id": row.org_id or None}
    events = msgspec.json.decode(row.events, type=tuple[WebhookEvent, ...])
    return Webhook(**fields, url=row.url, events=events, allow_private=bool(row.allow_private))


def _live(scope: Scope) -> Select[Any]:
    return select(webhooks).where(within(scope, webhooks.c.org_id), webhooks.c.deleted_at_us.is_(None))


def _expected(connection: Connection, scope: Scope, identity: str, version: int | None) -> Webhook:
    stands = get_webhook(connection, scope, identity)
    if version is not None and stands.row_version != version:
        raise Outdated(_NOUN, identity, expected=version, current=stands.row_version)
    return stands


def _touch(connection: Connection, stands: Webhook, now_us: int | None, **values: Any) -> None:
    at_us = subjects.now_us() if now_us is None else now_us
    mine = (
        webhooks.c.org_id == (stands.org_id or SYSTEM),
        webhooks.c.id == stands.id,
        webhooks.c.row_version == stands.row_version,
    )
    changed = connection.execute(
        update(webhooks).where(*mine).values(row_version=stands.row_version + 1, updated_at_us=at_us, **values)
    )
    if not changed.rowcount:
        raise Outdated(_NOUN, stands.id, expected=stands.row_version, current=stands.row_version + 1)


def _checked_events(events: Iterable[str]) -> str:
    asked = sorted(set(events))
    if not asked:
        raise InvalidInput("events", f"expected some of {', '.join(SUBSCRIBABLE)}")
    for event in asked:
        if event not in SUBSCRIBABLE:
            raise InvalidInput("events", f"{event!r} is none of {', '.join(SUBSCRIBABLE)}")
    return msgspec.json.encode(asked).decode()

"""Webhooks and the messages to them, as answers and as bodies."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from farebox_api.bodies import Input
from farebox_api.schemas.administration import AdministeredAnswer, Notes, Slug, administered
from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import Count, Timestamp, optional_timestamp, timestamp
from farebox_ledger.store.budget_tables import DeliveryStatus
from farebox_ledger.store.webhook_deliveries import Delivery
from farebox_ledger.store.webhooks import Signed, Webhook, WebhookChange, WebhookDraft, WebhookEvent
from farebox_ledger.webhook_addresses import MAX_URL

Subscribable: TypeAlias = Literal[
    "budget.alert", "price_sync.awaiting_approval", "price_sync.failed", "usage.unpriced_found"
]
Url: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_URL, description="https, or http on this machine.")]
Events: TypeAlias = Annotated[list[Subscribable], Meta(min_length=1, max_length=16)]


class WebhookAnswer(AdministeredAnswer, frozen=True, kw_only=True):
    """An address that is told what happens. `organization` null: the system's, which hears of all organizations."""

    url: str
    events: list[WebhookEvent]
    allow_private: bool


class NewWebhookAnswer(WebhookAnswer, frozen=True, kw_only=True):
    """A webhook that was made now; `secret`, which signs its messages, is shown this once."""

    secret: str


class WebhookPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[WebhookAnswer]


class DeliveryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One message to a webhook. `message_id` is its `webhook-id`; `dead` messages are tried no more.

    `answer_status` is the HTTP status of the last attempt, null when nobody answered; `error` says what was wrong.
    """

    id: str
    message_id: str
    event: WebhookEvent
    status: DeliveryStatus
    attempts: Count
    created_at: Timestamp
    attempted_at: Timestamp | None
    next_attempt_at: Timestamp | None
    ended_at: Timestamp | None
    answer_status: int | None
    error: str | None


class DeliveryPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[DeliveryAnswer]


class WebhookInput(Input, frozen=True):
    """A webhook to be made; `organization` is whose it is, a system key means the system without it.

    Only a system key may set `allow_private`, which lets the address be in a private network or on this machine.
    """

    url: Url
    events: Events
    organization: Slug | None = None
    allow_private: bool = False
    notes: Notes | None = None
    is_active: bool = True

    def draft(self) -> WebhookDraft:
        """Hand it to the ledger, which checks it."""
        return WebhookDraft(
            url=self.url,
            events=tuple(self.events),
            allow_private=self.allow_private,
            notes=self.notes,
            is_active=self.is_active,
        )


class WebhookChangeInput(Input, frozen=True):
    """What changes of a webhook; what is left out stays. `allow_private` never changes."""

    url: Url | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    notes: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET

    def change(self) -> WebhookChange:
        """Hand it to the ledger, which checks it."""
        events = UNSET if isinstance(self.events, UnsetType) else tuple(self.events)
        return WebhookChange(url=self.url, events=events, notes=self.notes, is_active=self.is_active)


def webhook_answer(webhook: Webhook, organization: str | None) -> WebhookAnswer:
    """Write a webhook; `organization` is the slug of its owner."""
    return WebhookAnswer(
        **administered(webhook, organization),
        url=webhook.url,
        events=list(webhook.events),
        allow_private=webhook.allow_private,
    )


def new_webhook_answer(made: Signed, organization: str | None) -> NewWebhookAnswer:
    """Write a webhook that was made now, with its secret."""
    shown = webhook_answer(made.webhook, organization)
    return NewWebhookAnswer(**msgspec.structs.asdict(shown), secret=made.secret)


def delivery_answer(delivery: Delivery) -> DeliveryAnswer:
    """Write a message; what it says stands nowhere but at its receiver."""
    return DeliveryAnswer(
        id=delivery.id,
        message_id=delivery.message_id,
        event=delivery.event,
        status=delivery.status,
        attempts=delivery.attempts,
        created_at=timestamp(delivery.created_at_us),
        attempted_at=optional_timestamp(delivery.attempted_at_us),
        next_attempt_at=optional_timestamp(delivery.next_attempt_us),
        ended_at=optional_timestamp(delivery.ended_at_us),
        answer_status=delivery.answer_status,
        error=delivery.error,
    )

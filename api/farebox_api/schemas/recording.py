"""Calls that are told, as a body, and what became of them, as an answer."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from farebox_api.bodies import Input, read
from farebox_api.schemas.values import Money, money, usage_id_text
from farebox_ledger.recording import MAX_CALLS, Recorded, RecordedCall
from farebox_ledger.usage import BillingStatus, Reason


class UsageInput(RecordedCall, Input, frozen=True, kw_only=True):
    """One call, told by the names of a usage row."""


class UsageItemsInput(Input, frozen=True):
    """Calls of one organization, booked together or not at all."""

    items: Annotated[list[UsageInput], Meta(min_length=1, max_length=MAX_CALLS)]


UsageBody: TypeAlias = UsageInput | UsageItemsInput


class RecordedAnswer(msgspec.Struct, frozen=True):
    """Where a call stands and what it costs; `is_new` is false where the call stood already and nothing was written."""

    id: str
    is_new: bool
    billing_status: BillingStatus
    reason: Reason | None
    currency: str | None
    cost: Money | None
    list_cost: Money | None


class RecordedItemsAnswer(msgspec.Struct, frozen=True):
    """What became of the calls, in their order."""

    items: list[RecordedAnswer]


def told_calls(body: bytes) -> tuple[list[UsageInput], bool]:
    """Read a body as calls: (calls, do they stand in `items`).

    Raises:
        InvalidRequest: it is no JSON, or has another shape; points at the first place.
    """
    members = read(body, dict[str, msgspec.Raw])
    if "items" in members:
        return read(body, UsageItemsInput).items, True
    return [read(body, UsageInput)], False


def recorded_answer(recorded: Recorded) -> RecordedAnswer:
    """Write what became of a call."""
    charge = recorded.charge
    return RecordedAnswer(
        id=usage_id_text(recorded.day, recorded.usage_id),
        is_new=recorded.is_new,
        billing_status=charge.status,
        reason=charge.reason,
        currency=charge.currency,
        cost=money(charge.cost_pico),
        list_cost=money(charge.list_cost_pico),
    )

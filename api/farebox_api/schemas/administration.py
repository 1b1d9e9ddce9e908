"""What the things of price administration have in common, as answers and as bodies: owner, dates, version, notes."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, UnsetType

from farebox_api.errors import Fault, InvalidRequest
from farebox_api.parameters import SLUG_PATTERN, TIME_PATTERN, time_us
from farebox_api.schemas.values import Timestamp, optional_timestamp, timestamp
from farebox_ledger.store.subjects import Subject, Term

Slug: TypeAlias = Annotated[str, Meta(pattern=SLUG_PATTERN, max_length=64)]
Notes: TypeAlias = Annotated[str, Meta(max_length=2000)]
Moment: TypeAlias = Annotated[
    str,
    Meta(
        max_length=64,
        description="RFC 3339 with offset.",
        extra_json_schema={"format": "date-time", "pattern": TIME_PATTERN},
    ),
]
Standing: TypeAlias = Literal["active", "scheduled", "ended", "inactive"]
RowVersion: TypeAlias = Annotated[int, Meta(ge=1, description="Counts the changes; the ETag is this in quotes.")]


class AdministeredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What every administered thing has. `organization` null: everybody's."""

    id: str
    organization: str | None
    notes: str | None
    is_active: bool
    row_version: RowVersion
    created_at: Timestamp
    updated_at: Timestamp


class DatedAnswer(AdministeredAnswer, frozen=True, kw_only=True):
    """What a thing with dates has: the dates of the terms shown, which hold now, or next, or held last.

    `effective_from` null is since ever, `effective_to` null until further notice.
    """

    status: Standing
    effective_from: Timestamp | None
    effective_to: Timestamp | None


class TermAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """When terms hold. Withdrawn ones never came to hold, or were taken back as a whole."""

    id: str
    effective_from: Timestamp | None
    effective_to: Timestamp | None
    created_at: Timestamp
    withdrawn_at: Timestamp | None


def administered(subject: Subject, organization: str | None) -> dict[str, Any]:
    """Write what every administered thing has; `organization` is the slug of its owner."""
    return {
        "id": subject.id,
        "organization": organization,
        "notes": subject.notes,
        "is_active": subject.is_active,
        "row_version": subject.row_version,
        "created_at": timestamp(subject.created_at_us),
        "updated_at": timestamp(subject.updated_at_us),
    }


def dated(subject: Subject, term: Term, organization: str | None) -> dict[str, Any]:
    """Write what a thing with dates has, by the term that is shown."""
    return {
        **administered(subject, organization),
        "status": _standing(subject, term),
        "effective_from": optional_timestamp(term.effective_from_us),
        "effective_to": optional_timestamp(term.effective_to_us),
    }


def term_dates(term: Term) -> dict[str, Any]:
    """Write when terms hold."""
    return {
        "id": term.id,
        "effective_from": optional_timestamp(term.effective_from_us),
        "effective_to": optional_timestamp(term.effective_to_us),
        "created_at": timestamp(term.created_at_us),
        "withdrawn_at": optional_timestamp(term.withdrawn_at_us),
    }


def moment_us(member: str, text: str | None) -> int | None:
    """Read a time of a body.

    Raises:
        InvalidRequest: it is no time with offset; points at the member.
    """
    try:
        return time_us(member, text)
    except InvalidRequest as error:
        raise InvalidRequest(*(Fault(fault.detail, pointer=f"/{member}") for fault in error.faults)) from None


def changed_moment_us(member: str, text: str | UnsetType | None) -> int | UnsetType | None:
    """Read a time of a change, which may leave it as it is."""
    return text if isinstance(text, UnsetType) else moment_us(member, text)


def now_us() -> int:
    """Answer the present in microseconds since 1970 in UTC."""
    return time.time_ns() // 1000


def _standing(subject: Subject, term: Term) -> Standing:
    if not subject.is_active:
        return "inactive"
    if term.span.holds_at(at_us := now_us()):
        return "active"
    return "scheduled" if (term.effective_from_us or 0) > at_us else "ended"

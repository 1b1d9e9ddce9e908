"""Usage rows without OpenTelemetry: calls that the caller tells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from litestar import post
from litestar.di import NamedDependency
from litestar.params import RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.catalog import Catalog
from farebox_api.problems import problem_responses
from farebox_api.schemas.recording import (
    RecordedItemsAnswer,
    UsageBody,
    UsageInput,
    recorded_answer,
    told_calls,
)
from farebox_ledger.errors import InvalidInput
from farebox_ledger.recording import WriterSlot, event_of, record
from farebox_ledger.usage import UsageEvent


@post(
    "/usage",
    operation_id="record_usage",
    summary="Tell calls",
    tags=["usage"],
    guards=[requires("usage:write")],
    status_code=200,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def recorded(
    *,
    books: NamedDependency[SkipValidation[Books]],
    catalog: NamedDependency[SkipValidation[Catalog]],
    slot: NamedDependency[SkipValidation[WriterSlot]],
    data: SkipValidation[UsageBody],
    body: RawBody,
) -> RecordedItemsAnswer:
    """Book one call, or `items`: at most 500 calls of one organization, all of them or none.

    A call has one identity: `external_id`, or `trace_id` with `span_id`. Telling it again writes nothing and answers
    the id and the charge that stand, so a request can be repeated without fear; `occurred_at` has to be the same. Calls
    are priced as if they had come as spans. The rows belong to the key that told them.
    """
    calls, are_items = told_calls(body)
    organization = _organization(books, calls, are_items=are_items)
    org_id = books.org_id(organization)
    assert org_id is not None
    events = _events(calls, org_id, books.caller.key_id, are_items=are_items)
    prices, number = catalog.book(), slot.number()
    with books.writing(organization) as (connection, scope):
        answers = record(connection, scope, events, prices=prices, writer_slot=number)
    return RecordedItemsAnswer([recorded_answer(answer) for answer in answers])


def _organization(books: Books, calls: Sequence[UsageInput], *, are_items: bool) -> str:
    """Name the one organization of the calls: the key's own, or the one that a system key says in each of them."""
    first = calls[0].organization or books.caller.org_slug
    for number, call in enumerate(calls):
        said = call.organization or books.caller.org_slug
        if said is None:
            raise InvalidInput(_place("organization", number, are_items), "required, because the key is of none")
        if said != first:
            raise InvalidInput(
                _place("organization", number, are_items), f"{said!r} beside {first!r}: one request, one organization"
            )
    assert first is not None
    return first


def _events(calls: Sequence[UsageInput], org_id: int, key: str, *, are_items: bool) -> list[UsageEvent]:
    now_us = time.time_ns() // 1000
    events = []
    for number, call in enumerate(calls):
        try:
            events.append(event_of(call, org_id=org_id, key=key, received_at_us=now_us))
        except InvalidInput as error:
            raise InvalidInput(_place(error.field, number, are_items), error.detail) from None
    return events


def _place(field: str, number: int, are_items: bool) -> str:
    return f"items.{number}.{field}" if are_items else field


ROUTES: tuple[Any, ...] = (recorded,)

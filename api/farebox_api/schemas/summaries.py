"""Sums over usage rows, as answers: groups, and totals of a time.

Money of different currencies is never added: groups are one per currency, and totals of several currencies have none of
their own but list each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from farebox_api.schemas.price_syncs import SyncAnswer
from farebox_api.schemas.values import Count, DecimalText, Money, Timestamp, decimal, money, optional_timestamp
from farebox_ledger.store.summaries import Rest, SummaryGroup
from farebox_ledger.usage import QUANTITIES

_QUANTITIES: Final = tuple(name for name in QUANTITIES if name != "requests")
"""The usage members that sums show; `requests` counts rows here."""

_COUNTS: Final = ("requests", "errors", "total_tokens", "priced_rows", "unpriced_rows", "assumed_rows", "partial_rows")


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of rows adds up to. `requests` counts rows, and the members count what was said in them.

    `success_rate` is in percent, to one decimal, 0 without requests. `cost` is null where no row has a known one.
    """

    requests: Count
    errors: Count
    success_rate: Annotated[float, Meta(ge=0, le=100)]
    input_tokens: Count
    cache_read_input_tokens: Count
    cache_write_input_tokens: Count
    audio_input_tokens: Count
    image_input_tokens: Count
    video_input_tokens: Count
    output_tokens: Count
    reasoning_output_tokens: Count
    audio_output_tokens: Count
    image_output_tokens: Count
    input_images: Count
    output_images: Count
    input_seconds: DecimalText
    output_seconds: DecimalText
    input_characters: Count
    output_characters: Count
    pages: Count
    search_units: Count
    web_searches: Count
    total_tokens: Count
    currency: str | None
    cost: Money | None
    list_cost: Money | None
    unpriced_rows: Count
    assumed_rows: Count
    partial_rows: Count


class GroupAnswer(Sums, frozen=True, kw_only=True):
    """One group: the dimensions that were asked for (null: the rows have no value), and its sums in one currency."""

    bucket_start: Timestamp | UnsetType = UNSET
    organization: str | UnsetType = UNSET
    project: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    key: str | UnsetType | None = UNSET
    provider: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    request_model: str | UnsetType | None = UNSET
    response_model: str | UnsetType | None = UNSET
    model_config: str | UnsetType | None = UNSET
    operation: str | UnsetType | None = UNSET
    service: str | UnsetType | None = UNSET
    action: str | UnsetType | None = UNSET
    category: str | UnsetType | None = UNSET
    task_type: str | UnsetType | None = UNSET
    task_id: str | UnsetType | None = UNSET
    content_type: str | UnsetType | None = UNSET
    content_ref: str | UnsetType | None = UNSET
    session: str | UnsetType | None = UNSET
    upstream: str | UnsetType | None = UNSET
    status: str | UnsetType = UNSET
    error_code: str | UnsetType | None = UNSET
    service_tier: str | UnsetType | None = UNSET
    dialect: str | UnsetType = UNSET
    billing_status: str | UnsetType = UNSET
    reason: str | UnsetType | None = UNSET
    trace_id: str | UnsetType = UNSET
    tag: str | UnsetType | None = UNSET


class SummaryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Groups, the most expensive first within each bucket, and how far they can be trusted.

    `is_complete`: no row of the range is unpriced or partly priced. `data_through`: end of the newest call in the
    books. `is_truncated`: there are more groups than `limit`.
    """

    groups: list[GroupAnswer]
    start: Timestamp | None
    end: Timestamp | None
    is_complete: bool
    is_truncated: bool
    data_through: Timestamp | None


class TotalsAnswer(Sums, frozen=True, kw_only=True):
    """The sums of a time. With several currencies `currency` and `cost` are null and `by_currency` has each."""

    start: Timestamp | None
    end: Timestamp | None
    is_complete: bool
    data_through: Timestamp | None
    by_currency: list[Sums]


class MonthTotalsAnswer(TotalsAnswer, frozen=True, kw_only=True):
    """The sums of a calendar month in UTC."""

    month: str


class OrganizationSummaryAnswer(msgspec.Struct, frozen=True):
    """What an organization spent in the current month (UTC) and in all time."""

    organization: str
    month: MonthTotalsAnswer
    total: TotalsAnswer


class RestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of a month leaves out: how many values of its dimension those are, and what they come to."""

    left_out: Count
    by_currency: list[Sums]


class MonthRestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What each list of a month leaves out, null where all is in it."""

    by_model: RestAnswer | None = None
    by_service: RestAnswer | None = None
    by_category: RestAnswer | None = None
    by_user: RestAnswer | None = None


class MonthAnswer(MonthTotalsAnswer, frozen=True, kw_only=True):
    """One month of one organization, and its parts, the most expensive first.

    Each list tells the 500 most expensive apart; with what `rest` says under its name it sums to the totals.
    """

    organization: str
    by_model: list[GroupAnswer]
    by_service: list[GroupAnswer]
    by_category: list[GroupAnswer]
    by_user: list[GroupAnswer]
    is_truncated: bool
    rest: MonthRestAnswer


class WindowAnswer(TotalsAnswer, frozen=True, kw_only=True):
    """The last days up to and with today (UTC), and its parts; where a row names no provider or service, `unknown`."""

    days: int
    by_provider: list[GroupAnswer]
    by_service: list[GroupAnswer]


class OverviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an administrator looks at first. `organization` null: all that the key sees."""

    organization: str | None
    today: TotalsAnswer
    this_month: MonthTotalsAnswer
    last_month: MonthTotalsAnswer
    window: WindowAnswer
    unpriced_rows: Annotated[Count, Meta(description="Rows of all time that wait for a price.")]
    unpriced_models: Annotated[Count, Meta(description="Models, by provider, that those rows name.")]
    last_sync: Annotated[
        SyncAnswer | None,
        Meta(description="The newest sync of the price catalog, however it ended; null before the first."),
    ]


def group_answer(group: SummaryGroup) -> GroupAnswer:
    """Write one group."""
    dimensions: dict[str, Any] = {name: value for name, value in group.dimensions.items() if name != "currency"}
    if group.bucket_start_us is not None:
        dimensions["bucket_start"] = optional_timestamp(group.bucket_start_us)
    return GroupAnswer(**_sums(group), **dimensions)


def month_rest(rest: Mapping[str, Rest]) -> MonthRestAnswer:
    """Write what the lists of a month leave out."""
    return MonthRestAnswer(
        **{
            part: RestAnswer(left_out=one.left_out, by_currency=[Sums(**_sums(group)) for group in one.sums])
            for part, one in rest.items()
        }
    )


def totals(groups: list[SummaryGroup], **described: Any) -> dict[str, Any]:
    """Write the members of a totals answer: all currencies together, then each by itself."""
    return {**_sums(_added(groups)), "by_currency": [Sums(**_sums(group)) for group in groups], **described}


def _added(groups: list[SummaryGroup]) -> SummaryGroup:
    """Add up groups of all currencies; their money only when it is in one.

    Where every row is accounted for and none has a cost, nothing was spent; where one is not, that is not known.
    """
    priced = [group for group in groups if group.cost_pico is not None]
    is_known = not any(group.unpriced_rows or group.partial_rows for group in groups)
    nothing = 0 if is_known and not priced else None
    return SummaryGroup(
        dimensions={},
        bucket_start_us=None,
        currency=priced[0].currency if len(priced) == 1 else None,
        usage=_added_usage(group.usage for group in groups),
        cost_pico=priced[0].cost_pico if len(priced) == 1 else nothing,
        list_cost_pico=priced[0].list_cost_pico if len(priced) == 1 else nothing,
        **{name: sum(getattr(group, name) for group in groups) for name in _COUNTS},
    )


def _added_usage(usages: Iterable[Mapping[str, int | Decimal]]) -> dict[str, int | Decimal]:
    added: dict[str, int | Decimal] = {}
    for usage in usages:
        for name, quantity in usage.items():
            added[name] = added.get(name, 0) + quantity
    return added


def _sums(group: SummaryGroup) -> dict[str, Any]:
    quantities = {name: group.usage.get(name, 0) for name in _QUANTITIES}
    return {
        **quantities,
        "input_seconds": decimal(Decimal(quantities["input_seconds"])),
        "output_seconds": decimal(Decimal(quantities["output_seconds"])),
        "requests": group.requests,
        "errors": group.errors,
        "success_rate": _success_rate(group),
        "total_tokens": group.total_tokens,
        "currency": group.currency,
        "cost": money(group.cost_pico),
        "list_cost": money(group.list_cost_pico),
        "unpriced_rows": group.unpriced_rows,
        "assumed_rows": group.assumed_rows,
        "partial_rows": group.partial_rows,
    }


def _success_rate(group: SummaryGroup) -> float:
    """Percent to one decimal; 0 without requests."""
    return round(1000 * (group.requests - group.errors) / group.requests) / 10 if group.requests else 0.0

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine
from sqlalchemy.event import listen, remove

from farebox_ledger.errors import InvalidInput
from farebox_ledger.store import summaries, summary_cells
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.filtering import UsageFilter
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.scope import OrgScope, Scope
from farebox_ledger.store.summaries import (
    MonthSummary,
    Summary,
    SummaryGroup,
    SummaryQuery,
    month_summary,
    organization_totals,
    summarize,
)
from farebox_ledger.store.timeline import bucket_bounds
from farebox_ledger.store.writing import Booking, book
from farebox_ledger.usage import Usage
from tests.ledger.store.bookings import (
    ACME,
    COUNTS,
    EVERYBODY,
    NOON,
    ZENITH,
    at,
    booking,
    priced,
    random_booking,
    suppressed,
    unpriced,
)

DAYS = (at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"))


def write(engine: Engine, *bookings: Booking) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def summary(
    engine: Engine,
    scope: Scope = EVERYBODY,
    *,
    span: tuple[int, int] | None = DAYS,
    bucket: Any = "none",
    group_by: tuple[str, ...] = (),
    tz: str = "UTC",
    limit: int | None = None,
    **asked: Any,
) -> Summary:
    query = SummaryQuery(
        filter=UsageFilter(**asked),
        start_us=span and span[0],
        end_us=span and span[1],
        group_by=group_by,
        bucket=bucket,
        tz=tz,
        limit=limit,
    )
    with transaction(engine, scope) as connection:
        return summarize(connection, scope, query)


def costs(found: Summary) -> dict[tuple[str | None, ...], tuple[int, int | None]]:
    return {tuple(group.dimensions.values()): (group.requests, group.cost_pico) for group in found.groups}


def test_a_summary_counts_everything_but_what_is_suppressed(engine: Engine) -> None:
    write(
        engine,
        booking(1, usage=Usage(input_tokens=1000, output_tokens=200, input_seconds=Decimal("1.5"), requests=2)),
        booking(2, status="error", usage=Usage(input_tokens=7, cache_write_input_tokens={"5m": 2, "1h": 3})),
        booking(3, suppressed()),
        booking(4, priced(status="partial", reason="no_rate_for_dimension")),
        booking(5, priced(1, 2, status="assumed", reason="archived", list_cost_pico=30)),
        booking(6, unpriced()),
    )

    (group,) = summary(engine).groups

    assert group.usage == dict.fromkeys(Usage.__struct_fields__[:-1], 0) | {
        "input_tokens": 1000 + 7 + 3 * 1000,
        "output_tokens": 800,
        "cache_write_input_tokens": 5,
        "input_seconds": Decimal("1.5"),
        "requests": 2,
    }
    assert (group.requests, group.errors, group.success_rate, group.total_tokens) == (5, 1, 0.8, 4807)
    assert (group.currency, group.cost_pico, group.list_cost_pico) == ("USD", 13_500_000_003, 13_500_000_030)
    assert (group.priced_rows, group.unpriced_rows, group.assumed_rows, group.partial_rows) == (4, 1, 1, 1)


def test_unknown_is_not_zero_and_free_is_not_unknown(engine: Engine) -> None:
    write(
        engine,
        booking(1, unpriced(), service="a"),
        booking(2, priced(0, 0, status="free"), service="b"),
    )

    assert costs(summary(engine, group_by=("service",))) == {("b",): (1, 0), ("a",): (1, None)}


def test_completeness_is_that_of_the_whole_range_also_behind_the_limit(engine: Engine) -> None:
    write(engine, booking(1, service="a"), booking(2, unpriced(), service="b"))

    found = summary(engine, group_by=("service",), limit=1)

    assert [group.dimensions for group in found.groups] == [{"service": "a"}]
    assert (found.is_complete, found.is_truncated) == (False, True)
    assert summary(engine, service="a").is_complete


def test_currencies_are_never_added(engine: Engine) -> None:
    write(engine, booking(1), booking(2, priced(currency="EUR")), booking(3, unpriced()))

    found = {group.currency: (group.requests, group.cost_pico) for group in summary(engine).groups}

    assert found == {"USD": (1, 4_500_000_000), "EUR": (1, 4_500_000_000), None: (1, None)}


def test_data_through_is_the_end_of_the_newest_call(engine: Engine) -> None:
    assert summary(engine).data_through_us is None
    write(engine, booking(1), booking(2, occurred_at_us=NOON + 5, org_id=ZENITH))

    assert summary(engine).data_through_us == NOON + 5
    assert summary(engine, OrgScope(ACME)).data_through_us == NOON


def test_organizations_are_named_by_slug(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
    write(engine, booking(1), booking(2, org_id=7))

    assert costs(summary(engine, group_by=("organization",))) == {
        ("acme",): (1, 4_500_000_000),
        ("7",): (1, 4_500_000_000),
    }


def test_sums_by_tag_count_a_row_for_each_of_its_tags(engine: Engine) -> None:
    write(engine, booking(1, tags=["a", "b"]), booking(2, tags=["a"], action="x"), booking(3))
    cost = 4_500_000_000
    by_tag = {("a",): (2, 2 * cost), ("b",): (1, cost), (None,): (1, cost)}

    assert costs(summary(engine, group_by=("tag",))) == by_tag
    edge = (DAYS[0] + 1, DAYS[1] - 1)
    assert costs(summary(engine, group_by=("tag",), span=edge)) == by_tag
    for span in (DAYS, edge):
        assert costs(summary(engine, group_by=("tag",), tag="a", span=span)) == {("a",): (2, 2 * cost)}
    assert costs(summary(engine, group_by=("tag", "action"))) == {
        ("a", None): (1, cost),
        ("a", "x"): (1, cost),
        ("b", None): (1, cost),
        (None, None): (1, cost),
    }


def test_a_month_is_summed_by_model_service_category_and_user(engine: Engine) -> None:
    write(
        engine,
        booking(1, service="chatbot", category="rag", user="ann"),
        booking(2, priced(model="m"), service="chatbot", user="bob"),
        booking(3, unpriced(), occurred_at_us=at("2026-03-31T23:59:59.999999Z")),
        booking(4, occurred_at_us=at("2026-04-01T00:00:00Z")),
        booking(5, occurred_at_us=at("2026-02-28T23:59:59.999999Z")),
        booking(6, org_id=ZENITH),
    )

    with transaction(engine, OrgScope(ACME)) as connection:
        found = month_summary(connection, OrgScope(ACME), ACME, 202603)

    cost = 4_500_000_000
    assert isinstance(found, MonthSummary)
    assert _values(found.totals) == {(): (3, 2 * cost)}
    assert _values(found.by_model) == {("openai", "gpt-4o"): (2, cost), ("openai", "m"): (1, cost)}
    assert _values(found.by_service) == {("chatbot",): (2, 2 * cost), (None,): (1, None)}
    assert _values(found.by_category) == {("rag",): (1, cost), (None,): (2, cost)}
    assert _values(found.by_user) == {("ann",): (1, cost), ("bob",): (1, cost), (None,): (1, None)}
    assert (found.is_complete, found.data_through_us) == (False, at("2026-04-01T00:00:00Z"))


def test_totals_are_those_of_the_current_month_and_of_all_time(engine: Engine) -> None:
    write(engine, booking(1), booking(2, occurred_at_us=at("2025-01-01T00:00:00Z")), booking(3, org_id=ZENITH))

    with transaction(engine, EVERYBODY) as connection:
        found = organization_totals(connection, EVERYBODY, ACME, now_us=NOON)
        nothing = organization_totals(connection, EVERYBODY, 7, now_us=NOON)

    assert [group.requests for group in found.month.groups] == [1]
    assert [group.requests for group in found.total.groups] == [2]
    assert (nothing.month.groups, nothing.total.groups) == ([], [])


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"group_by": ("color",)}, "group_by"),
        ({"group_by": ("model", "model")}, "group_by"),
        ({"tz": "Mars/Olympus", "bucket": "day"}, "tz"),
        ({"span": (5, 5)}, "end"),
        ({"span": None, "bucket": "day"}, "start"),
        ({"span": (0, 86_400_000_000 * 3000), "bucket": "hour"}, "bucket"),
        ({"span": (DAYS[0], DAYS[1] + 86_400_000_000), "group_by": ("action",)}, "start"),
        ({"span": None, "task_type": "x"}, "start"),
        ({"span": (DAYS[0], DAYS[1] * 2), "group_by": ("user", "model")}, "start"),
    ],
)
def test_what_cannot_be_answered_is_refused_and_named(sqlite_engine: Engine, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        summary(sqlite_engine, **wrong)

    assert refused.value.field == field


def test_an_organization_outside_the_scope_is_refused(sqlite_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="outside the scope"):
        summary(sqlite_engine, OrgScope(ACME), org_id=ZENITH)
    with transaction(sqlite_engine, OrgScope(ACME)) as connection, pytest.raises(InvalidInput, match="outside"):
        month_summary(connection, OrgScope(ACME), ZENITH, 202603)


def test_a_month_that_is_none_is_refused(sqlite_engine: Engine) -> None:
    for month in (202613, 202600, 3):
        with transaction(sqlite_engine, EVERYBODY) as connection, pytest.raises(InvalidInput, match="month"):
            month_summary(connection, EVERYBODY, ACME, month)


def test_the_hour_that_comes_twice_is_two_buckets(engine: Engine) -> None:
    first, second = at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z")  # both 02:30 in Berlin
    write(engine, booking(1, occurred_at_us=first), booking(2, occurred_at_us=second))

    span = (at("2026-10-25T00:00:00+02:00"), at("2026-10-26T00:00:00+01:00"))
    found = summary(engine, span=span, bucket="hour", tz="Europe/Berlin").groups

    assert [(group.bucket_start_us, group.requests) for group in found] == [
        (at("2026-10-25T00:00:00Z"), 1),
        (at("2026-10-25T01:00:00Z"), 1),
    ]


@pytest.mark.parametrize("tz", ["UTC", "Africa/Monrovia"])
def test_a_range_of_decades_is_as_cheap_as_what_stands_in_it(engine: Engine, tz: str) -> None:
    write(engine, booking(1), booking(2, occurred_at_us=at("2026-04-20T12:00:00Z")))
    decades = (at("1970-01-01T00:00:00Z"), at("2150-01-01T00:00:00Z"))

    with counted(engine) as statements:
        groups = summary(engine, span=decades, bucket="week", tz=tz).groups

    assert [group.requests for group in groups] == [1, 1]
    assert len(statements) < 1000
    with pytest.raises(InvalidInput, match="more than 10000 buckets"):
        summary(engine, span=(decades[0], at("2999-01-01T00:00:00Z")), bucket="week", tz=tz)


def test_days_of_a_year_are_one_statement(engine: Engine) -> None:
    write(engine, booking(1))

    with counted(engine) as statements:
        summary(engine, span=(at("2025-06-01T00:00:00Z"), at("2026-06-01T00:00:00Z")), bucket="day")

    assert len([statement for statement in statements if "FROM rollup_day" in statement]) == 1


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements of a block."""
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(" ".join(statement.split()))

    listen(engine, "before_cursor_execute", note)
    yield seen
    remove(engine, "before_cursor_execute", note)


def test_a_zone_that_was_off_by_seconds_has_its_days(engine: Engine) -> None:
    span = (at("1971-01-01T00:00:00Z"), at("1971-01-03T00:00:00Z"))

    assert summary(engine, span=span, bucket="day", tz="Africa/Monrovia", group_by=("action",)).groups == []


@pytest.mark.parametrize("by", ["model", "task_id"], ids=["rollups", "rows"])
def test_more_groups_than_can_be_held_are_refused(engine: Engine, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_cells, "MAX_CELLS", 2)
    write(engine, *(booking(n, priced(model=f"m{n}"), task_id=f"t{n}") for n in range(3)))
    march = (at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"))

    assert len(summary(engine, span=march, group_by=("provider",)).groups) == 1
    with pytest.raises(InvalidInput, match="more than 2 groups") as refused:
        summary(engine, span=march, group_by=(by,))
    assert refused.value.field == "group_by"


CASES: list[dict[str, Any]] = [
    {},
    {"group_by": ("organization", "provider", "model")},
    {"group_by": ("service", "category"), "bucket": "day"},
    {"group_by": ("billing_status", "currency"), "bucket": "week", "tz": "America/New_York"},
    {"group_by": ("project",), "bucket": "hour", "tz": "Asia/Kathmandu"},
    {"bucket": "month", "tz": "Europe/Istanbul", "category": "rag"},
    {"bucket": "day", "tz": "Europe/Istanbul", "org_id": ACME},
    {"group_by": ("user",), "bucket": "day"},
    {"group_by": ("key",), "bucket": "day", "tz": "Asia/Kolkata"},
    {"group_by": ("currency",), "user": "ann"},
    {"user_email": "ann@example.com", "bucket": "day"},
    {"group_by": ("status", "model"), "tag": "a"},
    {"group_by": ("reason",), "bucket": "hour", "billing_status": "unpriced"},
    {"group_by": ("user", "model"), "status": "error", "bucket": "day", "tz": "Pacific/Chatham"},
    {"group_by": ("service",), "min_cost": Decimal("0.001")},
]
SPANS = {
    "days": (at("2026-03-15T00:00:00Z"), at("2026-04-15T00:00:00Z")),
    "quarters": (at("2026-03-30T20:15:00Z"), at("2026-04-01T13:45:00Z")),
    "microseconds": (at("2026-03-30T20:20:20.000001Z"), at("2026-04-01T13:43:21.123456Z")),
    "less than a quarter": (at("2026-03-31T12:01:00Z"), at("2026-03-31T12:14:00Z")),
}


@pytest.fixture
def drawn(engine: Engine) -> list[Booking]:
    random = Random(11)
    bookings = [random_booking(random, number) for number in range(400)]
    for number, one in enumerate(bookings[:40]):
        one.event.occurred_at_us = SPANS["less than a quarter"][0] + number * 30_000_000
    write(engine, *bookings)
    return bookings


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_source_gives_the_sums_of_the_rows(engine: Engine, drawn: list[Booking], case: dict[str, Any]) -> None:
    for span in SPANS.values():
        found = {
            (*group.dimensions.values(), group.bucket_start_us, group.currency): _sums(group)
            for group in summary(engine, span=span, **case).groups
        }

        assert found == _expected(drawn, span, **case)


@pytest.mark.parametrize("part", ["by_model", "by_service", "by_category", "by_user"])
def test_the_largest_of_a_month_and_the_rest_sum_to_the_whole(
    engine: Engine, drawn: list[Booking], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = next(one.event.org_id for one in drawn)

    def month() -> MonthSummary:
        with transaction(engine, EVERYBODY) as connection:
            return month_summary(connection, EVERYBODY, owner, 202603)

    whole = month()
    all_of_it = getattr(whole, part)
    monkeypatch.setattr(summaries, "MAX_PARTS", 1)
    cut = month()
    shown, rest = getattr(cut, part), cut.rest[part]

    assert whole.rest == {}
    names = {tuple(group.dimensions.values()) for group in all_of_it}
    assert len(names) > 1
    assert {tuple(group.dimensions.values()) for group in shown} == {tuple(all_of_it[0].dimensions.values())}
    assert rest.left_out == len(names) - 1
    assert _added([*shown, *rest.sums]) == _added(all_of_it) == _added(cut.totals) == _added(whole.totals)


def _added(groups: list[SummaryGroup]) -> tuple[dict[str, int], dict[str, Any]]:
    costs: dict[str, int] = defaultdict(int)
    counts: dict[str, Any] = defaultdict(int)
    for group in groups:
        if group.cost_pico is not None and group.currency is not None:
            costs[group.currency] += group.cost_pico
        counted = {**group.usage, "rows": group.requests, "errors": group.errors, "unpriced": group.unpriced_rows}
        for name, count in counted.items():
            counts[name] += count
    return dict(costs), dict(counts)


def _values(groups: list[SummaryGroup]) -> dict[tuple[str | None, ...], tuple[int, int | None]]:
    return {tuple(group.dimensions.values()): (group.requests, group.cost_pico) for group in groups}


def _sums(group: SummaryGroup) -> dict[str, Any]:
    counts = {name: group.usage[name] for name in (*COUNTS, "cache_write_input_tokens")}
    return counts | {
        "input_seconds": group.usage["input_seconds"],
        "rows": group.requests,
        "errors": group.errors,
        "cost": group.cost_pico,
    }


def _expected(bookings: list[Booking], span: tuple[int, int], *, group_by: tuple[str, ...] = (), bucket: Any = "none",
              tz: str = "UTC", **asked: Any) -> dict[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    """Sum up bookings one by one, by their own facts, and put those without a currency to their group's only one."""
    groups: dict[tuple[Any, ...], list[Booking]] = defaultdict(list)
    bounds = bucket_bounds(*span, bucket, ZoneInfo(tz))
    for one in bookings:
        facts = _facts(one)
        if facts["billing_status"] == "suppressed" or not span[0] <= one.event.occurred_at_us < span[1]:
            continue
        if not _is_asked(facts, asked):
            continue
        begin = None if bucket == "none" else _begin(bounds, one.event.occurred_at_us)
        groups[(*(facts[name] for name in group_by), begin, facts["currency"])].append(one)
    if "currency" not in group_by:
        for key in [key for key in groups if key[-1] is None]:
            others = [other for other in groups if other[:-1] == key[:-1] and other[-1] is not None]
            if len(others) == 1:
                groups[others[0]] += groups.pop(key)
    return {key: _added_up(members) for key, members in groups.items()}


def _facts(one: Booking) -> dict[str, Any]:
    event, charge = one.event, one.charge
    return {
        "organization": str(event.org_id),
        "org_id": event.org_id,
        "provider": charge.provider or event.provider,
        "model": charge.model or event.response_model or event.request_model,
        "project": event.project,
        "service": event.service,
        "category": event.category,
        "status": event.status,
        "billing_status": charge.status,
        "reason": charge.reason,
        "currency": charge.currency,
        "user": event.user or ("email-c2b011ed0571909e" if event.user_email else None),
        "key": event.key,
        "cost": charge.cost_pico,
        "tags": event.tags or [],
        "booking": one,
    }


def _is_asked(facts: dict[str, Any], asked: dict[str, Any]) -> bool:
    for name, value in asked.items():
        if name == "tag":
            holds = value in facts["tags"]
        elif name == "min_cost":
            holds = facts["cost"] is not None and facts["cost"] >= value * 10**12
        elif name == "user_email":
            holds = facts["booking"].event.user is not None or facts["booking"].event.user_email is not None
            holds = holds and (facts["org_id"], facts["user"]) in ANNS
        else:
            holds = facts[name] == value
        if not holds:
            return False
    return True


# In the drawn bookings every user was once seen with Ann's address.
ANNS = {(org_id, user) for org_id in (ACME, ZENITH) for user in ("ann", "bob", "email-c2b011ed0571909e")}


def _begin(bounds: list[int], time_us: int) -> int:
    return next(lower for lower, upper in pairwise(bounds) if lower <= time_us < upper)


def _added_up(members: list[Booking]) -> dict[str, Any]:
    usages = [one.event.usage for one in members]
    known = [one.charge.cost_pico for one in members if one.charge.cost_pico is not None]
    return {name: sum(getattr(usage, name) or 0 for usage in usages) for name in COUNTS} | {
        "cache_write_input_tokens": sum(usage.cache_write_total or 0 for usage in usages),
        "input_seconds": sum((usage.input_seconds or Decimal(0) for usage in usages), Decimal(0)),
        "rows": len(members),
        "errors": sum(one.event.status == "error" for one in members),
        "cost": sum(known) if known else None,
    }

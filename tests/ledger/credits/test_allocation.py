"""Allocation as a law: any order of arrival gives what paying call by call in the order of usage gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_ledger.credits.allocation import Span, allocate, spans_of
from farebox_ledger.store.credit_allocations import UNCOVERED
from farebox_ledger.store.credit_grants import Grant
from farebox_ledger.store.timeline import DAY_US
from farebox_ledger.usage import day_of
from tests.ledger.store.bookings import ACME, at

FIRST = at("2026-03-10T00:00:00Z")
HOUR = 3_600_000_000

Draw = tuple[int, int]
"""When, and how much in pico-credits."""


def granted(number: int, amount: int, **fields: Any) -> Grant:
    plain: dict[str, Any] = {
        "kind": "grant",
        "priority": 100,
        "effective_at_us": FIRST - DAY_US,
        "expires_at_us": None,
        "external_id": None,
        "description": None,
        "actor": None,
        "created_at_us": FIRST,
    }
    identity = number.to_bytes(16, "big")
    return Grant(org_id=ACME, grant_id=identity, account_id="acc_1", amount_pico=amount, **(plain | fields))


def allocated(grants: Sequence[Grant], draws: Sequence[Draw]) -> dict[bytes, int]:
    """Sum what each grant pays, as the job would find it."""
    days = {moment - moment % DAY_US for moment, _ in draws}
    spans = [
        Span(start, end, sum(pico for moment, pico in draws if start <= moment < end))
        for start, end in spans_of(grants, days, FIRST - 30 * DAY_US)
    ]
    sums: dict[bytes, int] = defaultdict(int)
    for (_, grant_id), pico in allocate(grants, {}, spans).items():
        sums[grant_id] += pico
    return {grant_id: pico for grant_id, pico in sums.items() if pico}


def order_of_use(grant: Grant) -> tuple[Any, ...]:
    expires_at_us = grant.expires_at_us or 2**62
    return (grant.priority, expires_at_us, grant.kind == "purchase", grant.effective_at_us, grant.grant_id)


def paid_call_by_call(grants: Sequence[Grant], draws: Sequence[Draw]) -> dict[bytes, int]:
    """Let each call, in the order of time, be paid by what can be used then; a grant that begins pays what is owed."""
    left = {grant.grant_id: grant.amount_pico for grant in grants}
    paid: dict[bytes, int] = defaultdict(int)
    begins = [(grant.effective_at_us, 0) for grant in grants]
    owed = 0
    for moment, pico in sorted([*begins, *draws]):
        owed += pico
        usable = [one for one in grants if one.effective_at_us <= moment < (one.ends_at_us or 2**62)]
        for grant in sorted(usable, key=order_of_use):
            part = min(owed, left[grant.grant_id])
            left[grant.grant_id] -= part
            paid[grant.grant_id] += part
            owed -= part
    paid[UNCOVERED] = owed
    return {grant_id: pico for grant_id, pico in paid.items() if pico}


def test_the_lower_priority_pays_first_then_what_expires_first_then_what_was_given() -> None:
    grants = [
        granted(1, 5, kind="purchase"),
        granted(2, 5),
        granted(3, 5, expires_at_us=FIRST + 9 * DAY_US),
        granted(4, 5, priority=1, expires_at_us=FIRST + 99 * DAY_US),
    ]

    assert allocated(grants, [(FIRST, 17)]) == {
        grants[3].grant_id: 5,
        grants[2].grant_id: 5,
        grants[1].grant_id: 5,
        grants[0].grant_id: 2,
    }


def test_a_grant_pays_from_its_begin_to_its_end_and_not_at_it() -> None:
    one = granted(1, 100, effective_at_us=FIRST + HOUR, expires_at_us=FIRST + 3 * HOUR)

    draws = [(FIRST + HOUR, 1), (FIRST + 3 * HOUR - 1, 2), (FIRST + 3 * HOUR, 4)]

    assert allocated([one], draws) == {one.grant_id: 3, UNCOVERED: 4}


def test_what_is_owed_is_paid_by_the_next_grant() -> None:
    early, late = granted(1, 3), granted(2, 10, effective_at_us=FIRST + DAY_US)

    assert allocated([early, late], [(FIRST, 5)]) == {early.grant_id: 3, late.grant_id: 2}


def test_a_voided_grant_pays_for_nothing_later() -> None:
    one = granted(1, 10, voided_at_us=FIRST + HOUR)

    assert allocated([one], [(FIRST, 4), (FIRST + HOUR, 4)]) == {one.grant_id: 4, UNCOVERED: 4}


def test_going_on_from_a_day_finds_what_starting_over_finds() -> None:
    grants = [granted(1, 10), granted(2, 10, priority=1, effective_at_us=FIRST + DAY_US)]
    spans = [Span(FIRST + day * DAY_US, FIRST + (day + 1) * DAY_US, 6) for day in range(5)]
    whole = allocate(grants, {}, spans)

    before: dict[bytes, int] = defaultdict(int)
    for (day, grant_id), pico in whole.items():
        if day < day_of(FIRST + 2 * DAY_US):
            before[grant_id] += pico
    rest = allocate(grants, before, spans[2:])

    assert {place: pico for place, pico in whole.items() if place[0] >= day_of(FIRST + 2 * DAY_US)} == rest
    assert sum(whole.values()) == 30


moments = st.integers(0, 4 * 24).map(lambda hours: FIRST + hours * HOUR)
some_draws = st.lists(st.tuples(moments, st.integers(1, 50)), max_size=20)


@st.composite
def some_grants(draw: st.DrawFn) -> list[Grant]:
    grants = []
    for number in range(1, draw(st.integers(0, 6)) + 1):
        begins = draw(moments)
        later = moments.map(partial(max, begins + HOUR))
        fields = {
            "priority": draw(st.integers(0, 2)),
            "kind": draw(st.sampled_from(["grant", "purchase"])),
            "effective_at_us": begins,
            "expires_at_us": draw(st.none() | later),
            "voided_at_us": draw(st.none() | moments),
        }
        grants.append(granted(number, draw(st.integers(1, 100)), **fields))
    return grants


@settings(max_examples=300, deadline=None)
@given(some_grants(), some_draws, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_what_paying_call_by_call_gives(
    grants: list[Grant], draws: list[Draw], random: Any
) -> None:
    expected = paid_call_by_call(grants, draws)

    random.shuffle(grants)
    random.shuffle(draws)

    assert allocated(grants, draws) == expected


@settings(max_examples=200, deadline=None)
@given(some_grants(), some_draws)
def test_what_is_drawn_is_paid_or_owed_and_no_grant_pays_more_than_it_has(
    grants: list[Grant], draws: list[Draw]
) -> None:
    found = allocated(grants, draws)

    assert sum(found.values()) == sum(pico for _, pico in draws)
    for grant in grants:
        assert 0 <= found.get(grant.grant_id, 0) <= grant.amount_pico
    assert found.get(UNCOVERED, 0) >= 0

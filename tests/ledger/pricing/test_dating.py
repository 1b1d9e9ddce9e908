"""Dated terms: whatever changes come in whatever order, no moment has two terms and no change leaves a gap."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing.dating import LAST_US, Redating, Span, checked_range, ended, ended_anew, replaced

Ends: TypeAlias = tuple[int | None, int | None]
Step: TypeAlias = tuple[Literal["replaced", "ended", "ended_anew"], int | None, int | None]

ALWAYS = Span("a", None, None)
PAST = Span("p", 0, 10)
COMING = Span("c", 20, None)


def test_a_change_closes_what_holds_and_opens_from_there() -> None:
    assert replaced([ALWAYS], 5, None) == Redating({"a": 5}, (), (5, None))


def test_a_change_withdraws_what_would_begin_later() -> None:
    assert replaced([PAST, COMING], 15, 30) == Redating({}, ("c",), (15, 30))


def test_a_change_since_ever_takes_all_back() -> None:
    assert replaced([PAST, COMING], None, None) == Redating({}, ("p", "c"), (None, None))


def test_a_change_at_the_very_begin_takes_the_term_back_whole() -> None:
    assert replaced([PAST], 0, None) == Redating({}, ("p",), (0, None))


def test_an_end_in_the_past_of_a_term_changes_nothing() -> None:
    assert ended([PAST], 10) == Redating()


def test_a_later_end_opens_behind_the_old_one() -> None:
    assert ended_anew([PAST], 30, now_us=5) == Redating(opened=(10, 30))
    assert ended_anew([PAST], None, now_us=5) == Redating(opened=(10, None))


def test_what_ended_long_ago_begins_again_now() -> None:
    assert ended_anew([PAST], 30, now_us=25) == Redating(opened=(25, 30))


def test_an_earlier_end_closes() -> None:
    assert ended_anew([PAST], 4, now_us=25) == Redating({"p": 4})
    assert ended_anew([PAST, COMING], 15, now_us=5) == Redating({}, ("c",))


@pytest.mark.parametrize(
    ("ends", "field"),
    [
        ((5, 5), "effective_to"),
        ((5, 4), "effective_to"),
        ((-1, None), "effective_from"),
        ((None, -1), "effective_to"),
        ((LAST_US, None), "effective_from"),
        ((None, LAST_US), "effective_to"),
    ],
)
def test_a_range_that_cannot_be_is_refused_by_name(ends: Ends, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_range(*ends)
    assert refused.value.field == field


TIMES = st.integers(0, 40)
STEPS = st.lists(
    st.tuples(st.sampled_from(["replaced", "ended", "ended_anew"]), st.none() | TIMES, st.none() | TIMES),
    max_size=12,
)


@given(STEPS)
def test_closing_and_opening_never_leave_a_gap_or_an_overlap(steps: list[Step]) -> None:
    """Compare with a plain line of moments, on which each change paints what it says."""
    spans = {"s0": Span("s0", None, None)}
    line: dict[int, str | None] = dict.fromkeys(range(-1, 42), "s0")

    for number, (what, from_us, to_us) in enumerate(steps, start=1):
        name = f"s{number}"
        if what == "replaced":
            if from_us is not None and to_us is not None and to_us <= from_us:
                continue
            redating = replaced(list(spans.values()), from_us, to_us)
            paint(line, from_us, None, None)
            paint(line, from_us, to_us, name)
        elif what == "ended":
            redating = ended(list(spans.values()), from_us)
            paint(line, from_us, None, None)
        else:
            if not spans:
                continue
            redating = ended_anew(list(spans.values()), to_us, now_us=0)
            if redating.opened is None:
                paint(line, to_us, None, None) if to_us is not None else None
            else:
                paint(line, *redating.opened, name)
        apply(spans, redating, name)

        for moment, expected in line.items():
            holding = [span.id for span in spans.values() if span.holds_at(moment)]
            assert holding == ([] if expected is None else [expected])


def paint(line: dict[int, str | None], from_us: int | None, to_us: int | None, name: str | None) -> None:
    for moment in line:
        if (from_us is None or moment >= from_us) and (to_us is None or moment < to_us):
            line[moment] = name


def apply(spans: dict[str, Span], redating: Redating, name: str) -> None:
    for identity, end in redating.closed.items():
        spans[identity] = Span(identity, spans[identity].from_us, end)
    for identity in redating.withdrawn:
        del spans[identity]
    if redating.opened is not None:
        spans[name] = Span(name, *redating.opened)
    for span in spans.values():
        assert span.from_us is None or span.to_us is None or span.from_us < span.to_us

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_collector.billable import BILLED, Verdict, judge, winner
from farebox_ledger.usage import Usage, UsageEvent

START_US = 1_763_690_000_000_000
SECOND = 1_000_000


def call(number: int, parent: int | None = None, *, at: tuple[float, float] = (0, 10), **fields: Any) -> UsageEvent:
    """A chat call of 1000 tokens in and 100 out, from second `at[0]` to second `at[1]`."""
    defaults: dict[str, Any] = {
        "kind": "call",
        "operation": "chat",
        "request_model": "gpt-4o",
        "usage": Usage(input_tokens=1000, output_tokens=100),
        "scope": "scope.a",
    }
    return UsageEvent(
        org_id=1,
        trace_id=b"t" * 16,
        span_id=span_id(number),
        parent_span_id=None if parent is None else span_id(parent),
        started_at_us=START_US + round(at[0] * SECOND),
        occurred_at_us=START_US + round(at[1] * SECOND),
        received_at_us=START_US,
        dialect="semconv",
        **{**defaults, **fields},
    )


def container(number: int, parent: int | None = None, **fields: Any) -> UsageEvent:
    return call(number, parent, **{"kind": "container", "operation": "invoke_agent", **fields})


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def verdicts(*events: UsageEvent) -> dict[int, Verdict]:
    return {int.from_bytes(span, "big"): verdict for span, verdict in judge(events).items()}


def suppressed(reason: Any, by: int | None = None) -> Verdict:
    return Verdict("suppressed", reason, None if by is None else span_id(by))


def test_a_single_call_is_billed() -> None:
    assert verdicts(call(1)) == {1: BILLED}


def test_two_calls_that_only_share_a_trace_are_both_billed() -> None:
    assert verdicts(call(1, at=(0, 5)), call(2, at=(6, 9))) == {1: BILLED, 2: BILLED}


def test_a_container_is_covered_by_the_calls_below_it_through_other_containers() -> None:
    found = verdicts(container(1), container(2, 1), call(3, 2))

    assert found == {1: suppressed("covered_by_child", 3), 2: suppressed("covered_by_child", 3), 3: BILLED}


def test_a_container_without_calls_is_never_billed() -> None:
    assert verdicts(container(1)) == {1: Verdict("unpriced", "aggregate_only")}
    assert verdicts(container(1, usage=Usage())) == {1: suppressed("aggregate_only")}


def told_elsewhere(by: int) -> Verdict:
    return Verdict("unpriced", "aggregate_only", span_id(by), "another span may tell the same usage")


def test_only_what_no_other_span_may_tell_is_left_to_the_policy() -> None:
    assert verdicts(container(1))[1].is_left_to_policy
    assert not verdicts(container(1), call(2, 1))[1].is_left_to_policy
    assert not verdicts(container(1, usage=Usage()))[1].is_left_to_policy
    assert not told_elsewhere(2).is_left_to_policy
    assert not BILLED.is_left_to_policy


def test_of_containers_around_each_other_without_calls_the_innermost_stands() -> None:
    told = Usage(input_tokens=1500, output_tokens=100)

    found = verdicts(container(1, usage=told), container(2, 1, usage=Usage()), container(3, 2), container(4, 3))

    assert found == {
        1: Verdict("suppressed", "covered_by_child", span_id(4), missing(500, 0)),
        2: suppressed("covered_by_child", 4),
        3: suppressed("covered_by_child", 4),
        4: Verdict("unpriced", "aggregate_only"),
    }


def test_containers_without_calls_beside_each_other_all_stand_and_add_up() -> None:
    told = Usage(input_tokens=2000, output_tokens=200)

    found = verdicts(container(1, usage=told), container(2, 1, at=(0, 5)), container(3, 1, at=(0, 6)))

    assert found[1] == suppressed("covered_by_child", found_by(found, 1))
    assert found[2] == found[3] == Verdict("unpriced", "aggregate_only")


def found_by(found: dict[int, Verdict], number: int) -> int:
    return int.from_bytes(found[number].covered_by or b"", "big")


@pytest.mark.parametrize(
    ("agent", "other"),
    [
        (container(1), call(2, 101, at=(1, 9))),
        (container(1, 100), call(2, 101, at=(1, 9))),
        (container(1, 100), container(2, 101, at=(1, 9))),
        (container(1, 100), call(2, 101, at=(-0.9, 9))),
        (container(1, 100), call(2, 101, at=(1, 10.9))),
        (container(1, 100), call(2, 100, at=(1, 9), scope="scope.b")),
        (container(1, 100), container(2, 100)),
        (container(1, 2, at=(1, 9)), call(2)),
    ],
    ids=[
        "a call below a span that is not kept",
        "the agent as well",
        "an agent below a span that is not kept",
        "a clock that is behind",
        "a clock that is ahead",
        "another library beside it",
        "the same span twice",
        "a call around it",
    ],
)
def test_usage_that_another_span_may_tell_as_well_is_not_left_to_the_policy(
    agent: UsageEvent, other: UsageEvent
) -> None:
    found = verdicts(agent, other)

    losers = [number for number, verdict in found.items() if verdict.detail is not None]
    assert len(losers) == 1
    assert found[losers[0]] == told_elsewhere(3 - losers[0])
    assert found[3 - losers[0]] in (BILLED, Verdict("unpriced", "aggregate_only"))


@pytest.mark.parametrize(
    "other",
    [
        call(2, 100, at=(1, 9)),
        call(2, at=(1, 9)),
        call(2, 101, at=(10, 10.5)),
        call(2, 101, at=(1, 9), usage=Usage(input_tokens=1001, output_tokens=1)),
        call(2, 101, at=(1, 9), usage=Usage(input_tokens=1, output_tokens=101)),
        call(2, 101, at=(-1.5, 9)),
        call(2, 101, at=(1, 11.5)),
        call(2, 100, at=(1, 9), scope="scope.b", usage=Usage(input_tokens=1000, output_tokens=99)),
        call(2, 100, at=(1, 9), scope="scope.b", request_model="gpt-5"),
        call(2, 101, at=(1, 9), usage=Usage()),
        container(2, 100, at=(1, 9)),
        container(2, 101, at=(5, 12)),
    ],
    ids=[
        "a call below the same span",
        "a call at the top",
        "a call after it",
        "a call that used more",
        "a call that wrote more",
        "a call that began earlier",
        "a call that ended later",
        "another library's call beside it that wrote less",
        "another library's call beside it of another model",
        "a call that tells nothing",
        "an agent at the same time",
        "an agent that began in between",
    ],
)
def test_usage_that_no_other_span_can_tell_is_left_to_the_policy(other: UsageEvent) -> None:
    assert verdicts(container(1, 100), other)[1].is_left_to_policy


@pytest.mark.parametrize(
    "around",
    [call(2, request_model="gpt-5"), call(2, usage=Usage(input_tokens=1000, output_tokens=99)), call(2, usage=Usage())],
    ids=["another model", "less", "nothing"],
)
def test_a_call_around_a_container_that_tells_something_else_does_not_tell_its_usage(around: UsageEvent) -> None:
    assert verdicts(around, container(1, 2, at=(1, 9)))[1].is_left_to_policy


def missing(input_tokens: int, output_tokens: int) -> str:
    return f"missing_children: {input_tokens} input and {output_tokens} output tokens"


def test_a_container_that_says_more_than_the_calls_below_it_tells_what_is_missing() -> None:
    agent = container(1, usage=Usage(input_tokens=3000, output_tokens=150))

    found = verdicts(agent, container(2, 1, usage=Usage(input_tokens=1000)), call(3, 2), call(4, 1))

    assert found[1] == Verdict("suppressed", "covered_by_child", span_id(3), missing(1000, 0))
    assert found[2] == suppressed("covered_by_child", 3)


def test_each_call_counts_once_against_a_container() -> None:
    agent = container(1, usage=Usage(input_tokens=2000, output_tokens=200))
    framework = call(2, 1, scope="scope.b")

    found = verdicts(agent, framework, call(3, 2))

    assert found[1] == Verdict("suppressed", "covered_by_child", span_id(3), missing(1000, 100))


def test_a_call_that_another_span_outside_bills_is_not_missing_in_the_container() -> None:
    agent = container(1, usage=Usage(input_tokens=1000, output_tokens=100))
    seen = call(2, 1, response_id="response-1")
    billed = call(3, response_id="response-1", usage=Usage(input_tokens=1000, output_tokens=100, requests=1))

    found = verdicts(agent, seen, billed)

    assert found[1].detail is None


def test_the_deepest_call_of_one_response_bills() -> None:
    outer = call(1, response_id="chatcmpl-12345", usage=Usage(input_tokens=1000, output_tokens=900))
    inner = call(2, 1, response_id="chatcmpl-12345")

    assert verdicts(outer, inner) == {1: suppressed("duplicate_response", 2), 2: BILLED}


def test_the_deepest_call_of_one_response_bills_whatever_detail_another_has() -> None:
    detailed = Usage(input_tokens=1000, output_tokens=100, cache_read_input_tokens=0, reasoning_output_tokens=0)

    found = verdicts(call(1, response_id="12345678", usage=detailed), call(2, 1, response_id="12345678"))

    assert found == {1: suppressed("duplicate_response", 2), 2: BILLED}


def test_of_calls_of_one_response_that_tell_the_same_the_client_s_bills() -> None:
    found = verdicts(call(1, response_id="12345678"), call(2, response_id="12345678", is_client=True))

    assert found == {1: suppressed("duplicate_response", 2), 2: BILLED}


def test_of_equally_deep_calls_of_one_response_the_more_detailed_one_bills() -> None:
    plain = call(1, response_id="chatcmpl-12345", scope="scope.b")
    detailed = call(
        2, response_id="chatcmpl-12345", usage=Usage(input_tokens=1000, output_tokens=100, cache_read_input_tokens=0)
    )

    assert verdicts(plain, detailed) == {1: suppressed("duplicate_response", 2), 2: BILLED}


@pytest.mark.parametrize("name", ["0", "1234567"])
def test_a_short_response_id_identifies_nothing(name: str) -> None:
    one, other = call(1, response_id=name, at=(0, 1)), call(2, response_id=name, at=(2, 3))

    assert verdicts(one, other) == {1: BILLED, 2: BILLED}


def test_a_call_around_the_same_call_is_covered_by_it() -> None:
    outer = call(1, request_model="openai/gpt-4o", scope="scope.b")
    inner = call(2, 1, request_model="gpt-4o", response_model="gpt-4o-2024-08-06", at=(1, 9))

    assert verdicts(outer, inner) == {1: suppressed("covered_by_child", 2), 2: BILLED}


@pytest.mark.parametrize("at", [(-0.9, 5), (5, 10.9)], ids=["before", "after"])
def test_a_call_inside_may_reach_out_by_less_than_a_second(at: tuple[float, float]) -> None:
    assert verdicts(call(1), call(2, 1, at=at)) == {1: suppressed("covered_by_child", 2), 2: BILLED}


def test_a_call_around_two_calls_is_covered_when_it_says_no_more_than_their_sum() -> None:
    outer = call(1, usage=Usage(input_tokens=2000, output_tokens=200))

    found = verdicts(outer, call(2, 1, at=(1, 4)), call(3, 1, at=(5, 9)))

    assert found == {1: suppressed("covered_by_child", 2), 2: BILLED, 3: BILLED}


def test_a_call_that_says_more_than_the_calls_in_it_needs_review() -> None:
    outer = call(1, usage=Usage(input_tokens=5000, output_tokens=200))

    excess = "beyond the calls in it: 4000 input and 100 output tokens"
    assert verdicts(outer, call(2, 1)) == {1: Verdict("unpriced", "needs_review", span_id(2), excess), 2: BILLED}


@pytest.mark.parametrize(
    "inner",
    [
        call(2, 1, request_model="claude-3-5-haiku"),
        call(2, 1, response_id="resp-inner-1"),
        call(2, 1, operation="embeddings"),
        call(2, 1, at=(20, 30)),
        call(2, 1, at=(5, 11.5)),
        call(2, 1, at=(-1.5, 5)),
    ],
    ids=["another model", "another response", "another modality", "later", "ending later", "beginning earlier"],
)
def test_a_call_inside_that_is_another_call_is_billed_beside_it(inner: UsageEvent) -> None:
    outer = call(1, response_id="resp-outer-1", scope="scope.b")

    assert verdicts(outer, inner) == {1: BILLED, 2: BILLED}


def test_a_call_that_knows_its_usage_bills_for_the_one_inside_that_does_not() -> None:
    outer, silent = call(1, scope="scope.b"), call(2, 1, usage=Usage())

    assert verdicts(outer, silent) == {1: BILLED, 2: suppressed("twin", 1)}


def test_a_failed_attempt_inside_stands_beside_the_call_that_knows_its_usage() -> None:
    outer, failed = call(1, scope="scope.b"), call(2, 1, usage=Usage(), status="error")

    assert verdicts(outer, failed) == {1: BILLED, 2: BILLED}


def test_a_call_is_seen_through_one_that_reports_nothing() -> None:
    outer, silent, inner = call(1, scope="scope.b"), call(2, 1, scope="scope.c", usage=Usage()), call(3, 2)

    assert verdicts(outer, silent, inner) == {
        1: suppressed("covered_by_child", 3),
        2: suppressed("covered_by_child", 3),
        3: BILLED,
    }


def test_of_one_response_the_span_that_knows_its_usage_bills() -> None:
    outer = call(1, response_id="chatcmpl-12345")
    silent = call(2, 1, response_id="chatcmpl-12345", usage=Usage())

    assert verdicts(outer, silent) == {1: BILLED, 2: suppressed("duplicate_response", 1)}


@pytest.mark.parametrize("model", ["claude-opus-4-5", "claude-sonnet-4-5"], ids=["another model", "the same model"])
def test_an_advisor_inside_our_own_call_is_billed_beside_it(model: str) -> None:
    ours: dict[str, Any] = {"scope": "farebox.sdks.anthropic", "request_model": "claude-sonnet-4-5"}
    reply = call(1, response_id="msg_0123456789", **ours)
    advisor = call(2, 1, **(ours | {"request_model": model}))

    assert verdicts(reply, advisor) == {1: BILLED, 2: BILLED}


def test_two_advisors_of_our_own_that_used_the_same_are_both_billed() -> None:
    ours: dict[str, Any] = {"scope": "farebox.sdks.anthropic", "request_model": "claude-opus-4-5"}
    reply = call(1, response_id="msg_0123456789", scope="farebox.sdks.anthropic", request_model="claude-sonnet-4-5")

    found = verdicts(reply, call(2, 1, **ours), call(3, 1, **ours))

    assert found == {1: BILLED, 2: BILLED, 3: BILLED}


def test_identical_twins_are_one_call() -> None:
    assert verdicts(call(2, 9), call(1, 9)) == {1: BILLED, 2: suppressed("twin", 1)}


def test_two_libraries_that_saw_one_call_without_being_related_are_one_call() -> None:
    wide = call(1, scope="scope.b", at=(0, 10))
    narrow = call(2, scope="scope.a", at=(1, 9), usage=Usage(input_tokens=1000, output_tokens=100, requests=1))

    assert verdicts(wide, narrow) == {1: suppressed("twin", 2), 2: BILLED}


def test_each_call_absorbs_one_call_of_another_library() -> None:
    inner = [call(number, at=(number, number + 3)) for number in (1, 2)]
    outer = [call(10 + number, scope="scope.b", at=(number - 0.1, number + 3.1)) for number in (1, 2)]

    found = verdicts(*inner, *outer)

    assert [found[number].is_billed for number in (1, 2, 11, 12)] == [True, True, False, False]


def test_calls_of_one_library_at_the_same_time_are_all_billed() -> None:
    found = verdicts(*(call(number, at=(0, 10 + number)) for number in range(1, 6)))

    assert all(verdict.is_billed for verdict in found.values())


def test_a_circle_of_parents_is_judged_all_the_same() -> None:
    found = verdicts(container(1, 2), container(2, 1), call(3, 1))

    assert found[3].is_billed
    assert not found[1].is_billed


def test_calls_that_are_each_other_s_parents_are_one_call() -> None:
    assert verdicts(call(3, 4), call(4, 3)) == {3: suppressed("covered_by_child", 4), 4: BILLED}


def test_of_two_versions_the_one_with_usage_wins() -> None:
    empty = call(1, at=(0, 20), usage=Usage())

    assert winner([empty, call(1)]).usage.input_tokens == 1000
    assert winner([call(1), empty]).usage.input_tokens == 1000


USAGES = (Usage(), Usage(input_tokens=10, output_tokens=5), Usage(input_tokens=20, output_tokens=10))


@st.composite
def traces(draw: st.DrawFn) -> list[UsageEvent]:
    """Traces of up to eight spans, small enough that all rules meet in them."""
    events = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        start = draw(st.integers(0, 3))
        events.append(
            call(
                number,
                draw(st.one_of(st.none(), st.integers(1, 8))),
                at=(start, start + draw(st.integers(0, 4))),
                kind=draw(st.sampled_from(("call", "call", "container"))),
                scope=draw(st.sampled_from(("scope.a", "scope.b"))),
                usage=draw(st.sampled_from(USAGES)),
                request_model=draw(st.sampled_from(("gpt-4o", "claude", None))),
                response_id=draw(st.sampled_from((None, None, "response-1", "response-2"))),
                is_client=draw(st.booleans()),
            )
        )
    return events


@settings(max_examples=500)
@given(traces(), st.randoms(use_true_random=False))
def test_the_order_of_the_spans_does_not_matter(trace: list[UsageEvent], chance: Any) -> None:
    shuffled = [msgspec.structs.replace(event) for event in trace]
    chance.shuffle(shuffled)

    assert judge(trace) == judge(shuffled)


@settings(max_examples=500)
@given(traces())
def test_every_span_has_a_verdict_and_whoever_covers_another_is_not_covered(trace: list[UsageEvent]) -> None:
    found = judge(trace)

    assert set(found) == {event.span_id for event in trace}
    for verdict in found.values():
        if verdict.covered_by is not None:
            assert found[verdict.covered_by].covered_by is None


@settings(max_examples=500)
@given(traces())
def test_containers_are_never_billed(trace: list[UsageEvent]) -> None:
    found = judge(trace)

    assert not any(found[event.span_id].is_billed for event in trace if event.kind == "container")


@settings(max_examples=500)
@given(traces())
def test_where_calls_are_one_of_them_is_billed(trace: list[UsageEvent]) -> None:
    found = judge(trace)

    is_called = any(event.kind == "call" for event in trace)
    assert any(verdict.is_billed for verdict in found.values()) == is_called


@settings(max_examples=500)
@given(traces(), st.booleans(), st.booleans())
def test_a_call_of_another_library_hours_later_changes_nothing(
    trace: list[UsageEvent], is_one_library: bool, are_told_apart: bool
) -> None:
    for number, event in enumerate(trace):
        event.kind = "call"
        event.scope = "scope.a" if is_one_library else event.scope
        event.response_id = f"response-{number}" if are_told_apart else event.response_id
    later = call(9, at=(9000, 9001), scope="scope.z", request_model="other")

    found = judge(trace)

    assert judge([*trace, later]) == {**found, later.span_id: BILLED}

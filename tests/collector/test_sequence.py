"""What is missing of the numbers that metered processes give their spans."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox_collector import dialects, sequence
from farebox_collector.decode import Selection, decode_json, decode_protobuf
from farebox_collector.sequence import Sequences, Standing
from tests.collector.emitting import CALL, Emitted, Value, json_request, json_value, protobuf
from tests.collector.running import Running, config_for, running

WEB = "00000000-0000-4000-8000-000000000001"
JOBS = "00000000-0000-4000-8000-000000000002"
NOW_US = time.time_ns() // 1000
NUMBERS = st.lists(st.integers(1, 100), min_size=1, max_size=150)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def missing(numbers: list[int]) -> int:
    sequences = Sequences()
    sequences.note("acme", WEB, numbers)
    return sequences.standing().missing


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1, 2, 3], 0),
        ([1, 2, 4], 1),
        ([4, 2, 1], 1),
        ([1, 1, 2, 2, 1], 0),
        ([1, 10], 8),
        ([1, 10, 5], 7),
        ([7], 0),
        ([7, 5], 1),
    ],
)
def test_what_lies_between_the_lowest_and_the_highest_number_and_did_not_come_is_missing(
    numbers: list[int], expected: int
) -> None:
    assert missing(numbers) == expected


@given(NUMBERS)
def test_any_order_with_any_repetitions_gives_the_same_answer(numbers: list[int]) -> None:
    assert missing(numbers) == max(numbers) - min(numbers) + 1 - len(set(numbers))


@given(st.permutations(range(1, 60)), st.lists(st.integers(1, 59), max_size=8))
def test_numbers_that_all_come_in_any_order_and_any_batches_leave_no_gap(order: list[int], cuts: list[int]) -> None:
    sequences = Sequences()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(order)], strict=True):
        sequences.note("acme", WEB, order[start:end])

    assert sequences.standing() == Standing(processes=1, missing=0, given_up=0)


def test_what_comes_late_after_all_is_no_longer_missing() -> None:
    sequences = Sequences()
    sequences.note("acme", WEB, [1, 2, 600])
    assert sequences.standing().missing == 597

    sequences.note("acme", WEB, range(3, 600))

    assert sequences.standing().missing == 0


def test_processes_are_apart_and_a_restart_begins_anew() -> None:
    sequences = Sequences()
    sequences.note("acme", WEB, [1, 2, 3])
    sequences.note("acme", JOBS, [1, 3])
    sequences.note("globex", WEB, [50, 52])

    assert sequences.standing() == Standing(processes=3, missing=2, given_up=0)


def test_a_collector_younger_than_the_process_takes_nothing_for_lost() -> None:
    assert missing([5_000, 5_001, 5_002]) == 0


def test_the_process_not_heard_of_for_longest_is_forgotten_and_its_gaps_are_given_up() -> None:
    sequences = Sequences(max_processes=2)
    names = [str(UUID(int=number)) for number in range(3)]
    sequences.note("acme", names[0], [1, 3])
    sequences.note("acme", names[1], [1, 5])
    sequences.note("acme", names[0], [4])
    sequences.note("acme", names[2], [1])

    assert sequences.standing() == Standing(processes=2, missing=1, given_up=3)


def test_a_process_with_too_many_gaps_gives_up_the_oldest() -> None:
    every_second = range(1, 2 * (sequence.MAX_GAPS + 10) + 2, 2)  # 74 gaps of one
    sequences = Sequences()
    sequences.note("acme", WEB, every_second)

    assert sequences.standing() == Standing(processes=1, missing=64, given_up=10)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=400))
def test_nothing_missing_is_ever_overlooked(numbers: list[int]) -> None:
    sequences = Sequences()
    sequences.note("acme", WEB, numbers)
    standing = sequences.standing()

    assert standing.missing + standing.given_up >= max(numbers) - min(numbers) + 1 - len(set(numbers))
    assert standing.missing <= max(numbers) - min(numbers) + 1 - len(set(numbers))


def test_a_number_beyond_belief_begins_anew() -> None:
    sequences = Sequences()
    sequences.note("acme", WEB, [1, 3, 2**62, 2**62 + 1])

    assert sequences.standing() == Standing(processes=1, missing=0, given_up=1)


@pytest.mark.parametrize("name", ["", "web-1", "x" * 10_000, WEB.upper().replace("0", "A"), f"{{{WEB}}}"])
def test_a_name_that_is_no_uuid_is_not_followed(name: str) -> None:
    sequences = Sequences()
    sequences.note("acme", name, [1, 3])

    assert sequences.standing() == Standing(processes=0, missing=0, given_up=0)


def test_a_gap_that_stays_is_told_once_and_one_that_closes_is_not(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    sequences = Sequences(clock=clock)
    sequences.note("acme", WEB, [1, 2, 5])
    sequences.note("acme", JOBS, [1, 3])
    clock.now_s = 200.0
    sequences.note("acme", JOBS, [2])
    sequences.standing()
    assert caplog.text == ""

    clock.now_s = 301.0
    sequences.note("acme", WEB, [6])
    clock.now_s = 9_000.0
    sequences.note("acme", WEB, [9])
    sequences.standing()

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"2 spans of organization acme, process {WEB}, have not come")
    ]


def numbered(number: int, *, scope: str = "farebox.sdks.openai", end_ns: int | None = None) -> Emitted:
    attributes: dict[str, Value] = {**CALL, "farebox.sequence": number}
    span = Emitted(number, attributes, scope=scope)
    if end_ns is not None:
        span.end_ns = end_ns
    return span


def send(collector: Running, *spans: Emitted, instance: str = WEB) -> None:
    body = protobuf(*spans, resource={"service.name": "web", "service.instance.id": instance})
    assert collector.http.post(body).status == 200


def metric(collector: Running, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", collector.http.get("/metrics").body.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def test_a_collector_shows_what_its_senders_have_lost(tmp_path: Path) -> None:
    with running(config_for(tmp_path)) as collector:
        send(collector, numbered(1), numbered(2), numbered(5))
        send(collector, numbered(1), instance=JOBS)
        assert metric(collector, "farebox_sequence_missing") == 2
        assert metric(collector, "farebox_sequence_processes") == 2

        send(collector, numbered(4), numbered(3), numbered(3))

        assert metric(collector, "farebox_sequence_missing") == 0
        assert metric(collector, "farebox_sequence_given_up_spans_total") == 0
        collector.wait_until_booked()


def test_a_rejected_span_has_come(tmp_path: Path) -> None:
    with running(config_for(tmp_path)) as collector:
        send(collector, numbered(1), numbered(2, end_ns=10**9), numbered(3))

        assert metric(collector, "farebox_sequence_missing") == 0
        assert collector.counters()["quarantined"] == 1


def test_the_numbers_of_other_emitters_say_nothing(tmp_path: Path) -> None:
    with running(config_for(tmp_path)) as collector:
        send(collector, numbered(1, scope="someone.else"), numbered(9, scope="fareboxes"))

        assert metric(collector, "farebox_sequence_processes") == 0


@pytest.mark.parametrize("odd", [0, -1, 2**63 - 1, 1.5, "1", True, ["1"]], ids=str)
def test_a_number_that_is_none_does_no_harm(tmp_path: Path, odd: Value) -> None:
    with running(config_for(tmp_path)) as collector:
        send(collector, numbered(1), Emitted(2, {**CALL, "farebox.sequence": odd}, scope="farebox.sdks.openai"))
        send(collector, numbered(2 + 1))
        collector.wait_until_booked()

        assert collector.counters()["rows"] == 3


@pytest.mark.parametrize("instance", [WEB, None], ids=["named", "unnamed"])
def test_both_encodings_take_the_numbers_off_before_a_span_is_kept(instance: str | None) -> None:
    selection = Selection(dialects.MARKS, dialects.KEYS)
    spans = [numbered(1), numbered(2), numbered(9, scope="someone.else")]
    resource: dict[str, Value] = {} if instance is None else {"service.instance.id": instance}
    told = json.loads(json_request(*spans))
    told["resourceSpans"][0]["resource"] = {
        "attributes": [{"key": key, "value": json_value(value)} for key, value in resource.items()]
    }

    decoded = (
        decode_protobuf(protobuf(*spans, resource=resource), selection, NOW_US),
        decode_json(json.dumps(told).encode(), selection, NOW_US),
    )

    for each in decoded:
        assert each.numbered == ([] if instance is None else [(WEB, [1]), (WEB, [2])])
        assert [span.attributes.get("farebox.sequence") for span in each.spans] == [None, None, 9]

"""The thread behind the spool, with a real spool and a gateway that says what it is told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from farebox_collector.config import Endpoint
from farebox_collector.forwarding import Delivery, Gateway
from farebox_collector.spans import Sender, Span
from farebox_collector.spool import Spool
from farebox_collector.telemetry import Telemetry
from tests.collector.forwarding.test_forwarder import span_ids
from tests.collector.pretending import Pretended, Request
from tests.collector.running import wait_for

Start: TypeAlias = Callable[[Spool], Delivery]
NOW_US = 1_763_690_000_000_000
forgotten: list[str | None] = []


@pytest.fixture
def gateway() -> Iterator[Pretended]:
    with Pretended() as pretended:
        yield pretended


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool", 2**30)
    yield opened
    opened.close()


@pytest.fixture
def start(spool: Spool, gateway: Pretended) -> Iterator[Start]:
    """Start a delivery from a spool; it ends with the test."""
    started: list[Delivery] = []

    def make(spool: Spool) -> Delivery:
        to = Gateway(Endpoint("127.0.0.1", gateway.port), None, 5.0)
        delivery = Delivery(spool, to, Telemetry(), forget_key=forgotten.append, refused_retry_s=0.2)
        delivery.start()
        started.append(delivery)
        return delivery

    forgotten.clear()
    yield make
    for delivery in started:
        delivery.stop(5.0)


def append(spool: Spool, key: str | None, numbers: Sequence[int]) -> None:
    spans = [
        Span(b"t" * 16, number.to_bytes(8, "big"), None, "", 3, None, NOW_US, False, None, {}) for number in numbers
    ]
    asyncio.run(spool.append(Sender(0, "", key), NOW_US, spans))


def by_key(requests: Sequence[Request]) -> dict[str | None, set[int]]:
    """The numbers of all spans that came, by the key under which they came."""
    found: dict[str | None, set[int]] = {}
    for request in requests:
        found.setdefault(request.headers.get("authorization"), set()).update(span_ids(request))
    return found


def settled(spool: Spool, **counts: int) -> bool:
    snapshot = spool.snapshot()
    assert snapshot.conservation_difference == 0
    return all(snapshot.counters.get(name, 0) == count for name, count in counts.items())


def test_small_requests_of_one_sender_are_sent_in_one(spool: Spool, gateway: Pretended, start: Start) -> None:
    for number in range(1, 101):
        append(spool, f"key-{number % 3}", [number])

    start(spool)
    wait_for(lambda: settled(spool, forwarded=100))

    assert len(gateway.requests) == 3
    assert by_key(gateway.requests) == {
        f"Bearer key-{rest}": {number for number in range(1, 101) if number % 3 == rest} for rest in range(3)
    }


def test_a_refused_key_is_asked_for_again_and_its_spans_are_sent_once_it_is_taken(
    spool: Spool, gateway: Pretended, start: Start
) -> None:
    refused = {"Bearer bad", "Bearer worse"}
    gateway.answer = lambda request: 401 if request.headers.get("authorization") in refused else 200
    for number in range(0, 30, 3):
        append(spool, "bad", [number + 1])
        append(spool, "good", [number + 2])
        append(spool, "worse", [number + 3])
    delivery = start(spool)
    wait_for(lambda: settled(spool, forwarded=10) and delivery.kept_spans == 20)
    assert delivery.degradation() is not None
    assert sorted(forgotten, key=str) == ["bad", "worse"]

    refused.discard("Bearer bad")
    append(spool, "good", [100])
    wait_for(lambda: settled(spool, forwarded=21) and delivery.kept_spans == 10)
    refused.clear()
    append(spool, "bad", [101])
    wait_for(lambda: settled(spool, forwarded=32))

    assert delivery.kept_spans == 0
    assert delivery.degradation() is None
    sent = [request for request in gateway.spans_requests if request.headers["authorization"] == "Bearer good"]
    assert sum(len(span_ids(request)) for request in sent) == 11, "what was settled was sent again"


def test_what_the_gateway_rejects_of_a_request_counts_as_quarantined_there(
    spool: Spool, gateway: Pretended, start: Start
) -> None:
    gateway.answer = lambda _: (200, {}, b"\x0a\x02\x08\x02")  # partial_success { rejected_spans: 2 }
    append(spool, None, range(1, 6))

    start(spool)

    wait_for(lambda: settled(spool, forwarded=3, quarantined=2))
    assert spool.snapshot().quarantine_rows == 0


def test_a_damaged_batch_holds_up_nothing(tmp_path: Path, gateway: Pretended, start: Start) -> None:
    before = Spool(tmp_path / "damaged", 2**30)
    for numbers in ([1], [2, 3], [4]):
        append(before, None, numbers)
    before.close()
    file = sqlite3.connect(tmp_path / "damaged" / "spool.db")
    file.execute("UPDATE batches SET payload = x'c1' WHERE id = 2")
    file.commit()
    file.close()

    spool = Spool(tmp_path / "damaged", 2**30)
    delivery = start(spool)
    wait_for(lambda: settled(spool, forwarded=2, quarantined=2))
    delivery.stop(5.0)
    spool.close()

    assert by_key(gateway.requests) == {None: {1, 4}}


def test_garbage_of_thousands_of_spans_is_given_up_after_a_bounded_number_of_requests(
    spool: Spool, gateway: Pretended, start: Start
) -> None:
    gateway.answer = lambda _: 400
    append(spool, None, range(1, 501))

    start(spool)
    wait_for(lambda: settled(spool, quarantined=500))

    assert len(gateway.requests) <= 401
    assert spool.snapshot().quarantine_rows == 500

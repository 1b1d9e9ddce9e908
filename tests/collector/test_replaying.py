"""Spans in the quarantine, from the collector that set them aside to the row that a replay makes of them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import Engine, text

from farebox_ledger.errors import Conflict
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.quarantine import (
    QuarantinedSpan,
    QuarantineFilter,
    list_quarantined,
    quarantined_span,
    request_replay,
)
from farebox_ledger.store.rollups import check_rollups
from farebox_ledger.store.scope import AllOrganizations
from tests.collector.emitting import CALL, Emitted, calls, protobuf
from tests.collector.running import Running, config_for, rows, running, wait_for

EVERYBODY = AllOrganizations()
DAY_NS = 86_400 * 10**9


def held(engine: Engine) -> list[QuarantinedSpan]:
    with transaction(engine, EVERYBODY) as connection:
        return list_quarantined(connection, EVERYBODY, QuarantineFilter(), limit=100)


def wait_for_held(engine: Engine, count: int) -> list[QuarantinedSpan]:
    wait_for(lambda: len(held(engine)) == count)
    return held(engine)


def replay(engine: Engine, one: QuarantinedSpan, stated_end_us: int | None = None) -> QuarantinedSpan:
    """Ask for a replay and wait until a collector has said how it ended."""
    with transaction(engine, EVERYBODY, write=True) as connection:
        request_replay(connection, EVERYBODY, one.quarantine_id, stated_end_us=stated_end_us)

    def now() -> QuarantinedSpan:
        with transaction(engine, EVERYBODY) as connection:
            return quarantined_span(connection, EVERYBODY, one.quarantine_id)

    wait_for(lambda: now().state != "requested")
    return now()


@pytest.fixture
def booked(tmp_path: Path, database_url: str, engine: Engine) -> Iterator[Running]:
    with running(config_for(tmp_path, database_url=database_url)) as started:
        started.wait_until_booked()
        yield started


def test_what_was_set_aside_is_moved_to_the_books_reduced(booked: Running, engine: Engine, tmp_path: Path) -> None:
    prompt = {**CALL, "gen_ai.prompt": "a secret"}
    booked.http.post(protobuf(Emitted(7, prompt, end_ns=5 * DAY_NS, duration_ns=0)))

    (one,) = wait_for_held(engine, 1)

    assert (one.reason, one.state, one.size_bytes > 50, len(one.digest)) == ("clock_skew", "held", True, 16)
    assert (one.trace_id, one.span_id) == ((7).to_bytes(16, "big"), (7).to_bytes(8, "big"))
    assert one.attributes is not None
    assert '"gen_ai.request.model": "gpt-4o-mini"' in one.attributes
    assert "secret" not in repr(one)
    wait_for(lambda: booked.collector.spool.snapshot().quarantine_rows == 0)
    assert booked.counters()["quarantined"] == 1
    booked.wait_until_booked()


def test_a_clock_that_was_off_is_replayed_at_the_stated_time_and_booked_once(booked: Running, engine: Engine) -> None:
    body = protobuf(Emitted(7, end_ns=time.time_ns() + 3 * DAY_NS))
    booked.http.post(body)
    booked.http.post(body)
    first, second = wait_for_held(engine, 2)
    noon_us = int(datetime(2026, 11, 10, 12, tzinfo=UTC).timestamp()) * 1_000_000

    refused = replay(engine, first)
    replayed = replay(engine, first, noon_us)
    again = replay(engine, first, noon_us)
    twin = replay(engine, second, noon_us - 86_400_000_000 * 5)

    assert (refused.state, "still ends more than a day in the future" in (refused.outcome or "")) == ("refused", True)
    assert (replayed.state, replayed.usage_day) == ("replayed", 20261110)
    assert again == replayed
    assert (twin.state, twin.usage_id) == ("duplicate", replayed.usage_id)
    found = rows(engine, "occurred_at_us", "started_at_us", "billing_status", "cost_pico")
    assert found == [(noon_us, noon_us - 1_000_000, "billed", 210_000_000)]
    with transaction(engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []
    booked.wait_until_booked()


def test_a_span_without_ids_gets_those_of_its_content(booked: Running, engine: Engine) -> None:
    request = ExportTraceServiceRequest.FromString(calls([1]))
    request.resource_spans[0].scope_spans[0].spans[0].span_id = b""
    body = request.SerializeToString()
    booked.http.post(body)
    booked.http.post(body)
    first, second = wait_for_held(engine, 2)

    assert [replay(engine, first).state, replay(engine, second).state] == ["replayed", "duplicate"]
    ((trace_id, span_id),) = rows(engine, "trace_id", "span_id")
    assert (bytes(trace_id), len(bytes(span_id))) == ((1).to_bytes(16, "big"), 8)


def test_a_span_that_crashed_is_booked_when_its_cause_is_gone(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    with owner_transaction(sqlite_engine, write=True) as connection:
        connection.execute(
            text(
                "CREATE TRIGGER poison BEFORE INSERT ON usage_rows WHEN NEW.project = 'poison' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        )
    with running(config_for(tmp_path, database_url=sqlite_url)) as collector:
        collector.http.post(protobuf(Emitted(1), Emitted(2, {**CALL, "farebox.project": "poison"})))
        (one,) = wait_for_held(sqlite_engine, 1)
        crashed_again = replay(sqlite_engine, one)
        with owner_transaction(sqlite_engine, write=True) as connection:
            connection.execute(text("DROP TRIGGER poison"))
        replayed = replay(sqlite_engine, one)
        collector.wait_until_booked()

    assert (one.reason, crashed_again.state, crashed_again.outcome) == (
        "booking_crashed", "refused", "booking failed with InvalidInput",
    )  # fmt: skip
    assert replayed.state == "replayed"
    assert rows(sqlite_engine, "project") == [(None,), ("poison",)]


def test_what_could_not_be_read_cannot_be_replayed(booked: Running, engine: Engine) -> None:
    broken = {"traceId": "1" * 32, "spanId": "2" * 16, "attributes": "gen_ai."}
    good = {"traceId": "3" * 32, "spanId": "4" * 16}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [broken, good]}]}]})
    assert booked.http.post(body.encode(), "application/json").json["partialSuccess"]["rejectedSpans"] == "1"
    (one,) = wait_for_held(engine, 1)

    with pytest.raises(Conflict, match="only be deleted"), transaction(engine, EVERYBODY, write=True) as connection:
        request_replay(connection, EVERYBODY, one.quarantine_id)


def test_a_death_between_the_books_and_the_spool_moves_nothing_twice(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url)) as collector:
        collector.http.post(protobuf(Emitted(7, end_ns=5, duration_ns=0)))
        wait_for(lambda: collector.collector.spool.snapshot().quarantine_rows == 1)
        kept = sqlite3.connect(tmp_path / "spool" / "spool.db")
        copied = kept.execute("SELECT * FROM quarantine").fetchall()
        kept.close()
        wait_for_held(sqlite_engine, 1)
    spool = sqlite3.connect(tmp_path / "spool" / "spool.db")
    assert spool.execute("SELECT * FROM quarantine").fetchall() == []
    for row in copied:
        spool.execute(f"INSERT INTO quarantine VALUES ({', '.join('?' * len(row))})", row)
    spool.commit()
    spool.close()

    with running(config_for(tmp_path, database_url=sqlite_url)) as collector:
        wait_for(lambda: collector.collector.spool.snapshot().quarantine_rows == 0)

    assert len(copied) == 1
    assert len(held(sqlite_engine)) == 1


def test_two_collectors_replay_a_span_once(tmp_path: Path, postgres_url: str, postgres_engine: Engine) -> None:
    first, second = (config_for(tmp_path / name, database_url=postgres_url) for name in ("one", "two"))
    with running(first) as one, running(second):
        one.http.post(protobuf(*(Emitted(number, end_ns=time.time_ns() + 3 * DAY_NS) for number in range(1, 21))))
        waiting = wait_for_held(postgres_engine, 20)
        stated_us = time.time_ns() // 1000 - 3_600_000_000
        with transaction(postgres_engine, EVERYBODY, write=True) as connection:
            for span in waiting:
                request_replay(connection, EVERYBODY, span.quarantine_id, stated_end_us=stated_us)
        wait_for(lambda: all(span.state == "replayed" for span in held(postgres_engine)))

    assert len(rows(postgres_engine, "span_id")) == 20
    with transaction(postgres_engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []

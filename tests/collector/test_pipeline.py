from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, text

from farebox_collector.errors import SpoolInUse
from farebox_ledger.store.engine import open_engine, owner_transaction
from farebox_ledger.store.migrations import schema_state
from tests.collector.emitting import CALL, Emitted, Value, calls, protobuf
from tests.collector.running import Child, Running, config_for, rows, running, wait_for

CONTAINER: dict[str, Value] = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"}
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
STREAM = "gen_ai.request.stream"
FAILED = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}


@pytest.fixture
def booked(tmp_path: Path, database_url: str) -> Iterator[Running]:
    """A collector on each kind of database in turn."""
    with running(config_for(tmp_path, database_url=database_url)) as started:
        yield started


def test_a_call_becomes_one_priced_row(booked: Running, engine: Engine) -> None:
    attributes = {**CALL, "user.id": "u-1", "farebox.project": "shop", "farebox.tags": ["a"]}
    booked.http.post(protobuf(Emitted(1, attributes)))
    booked.wait_until_booked()

    columns = ("billing_status", "cost_pico", "currency", "project", "user_ref", "dialect", "kind", "input_tokens")
    assert rows(engine, *columns) == [("billed", 210_000_000, "USD", "shop", "u-1", "semconv", "call", 1000)]


def test_a_retried_export_writes_no_second_row(booked: Running, engine: Engine) -> None:
    body = calls([1, 2])
    for _ in range(3):
        assert booked.http.post(body).status == 200
    booked.wait_until_booked()

    assert len(rows(engine, "span_id")) == 2
    assert (booked.counters()["rows"], booked.counters()["duplicates"]) == (2, 4)


def test_a_span_twice_in_one_request_is_one_row(booked: Running, engine: Engine) -> None:
    call = Emitted(1)
    booked.http.post(protobuf(call, call))
    booked.wait_until_booked()

    assert len(rows(engine, "span_id")) == 1
    assert booked.counters()["duplicates"] == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("unpriced", "missing_usage", None)),
        ({STREAM: True}, ("unpriced", "stream_without_usage", None)),
        ({STREAM: True, INPUT: 1000}, ("partial", "stream_without_usage", 150_000_000)),
        ({"farebox.outcome": "closed_early", INPUT: 1000}, ("partial", "stream_without_usage", 150_000_000)),
        ({"gen_ai.request.model": "no-such-model-9", INPUT: 5}, ("unpriced", "unknown_model", None)),
        ({INPUT: -5, OUTPUT: 100}, ("partial", "invalid_usage", 60_000_000)),
    ],
)
def test_what_cannot_be_priced_has_no_cost_and_a_reason(
    collector: Running, sqlite_engine: Engine, changes: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    collector.http.post(protobuf(Emitted(1, FAILED | changes)))
    collector.wait_until_booked()

    assert rows(sqlite_engine, "billing_status", "reason", "cost_pico") == [expected]


def test_a_failed_call_is_not_billable_without_usage_and_billed_with_it(
    collector: Running, sqlite_engine: Engine
) -> None:
    failed = Emitted(1, FAILED | {"error.type": "openai.RateLimitError"}, status=2, message="slow down sk-abcdefgh1234")
    collector.http.post(protobuf(failed, Emitted(2, CALL, status=2)))
    collector.wait_until_booked()

    columns = ("status", "billing_status", "reason", "cost_pico", "error_code", "error_message")
    assert rows(sqlite_engine, *columns) == [
        ("error", "not_billable", "error_no_usage", None, "openai.RateLimitError", "slow down [secret]"),
        ("error", "billed", None, 210_000_000, None, None),
    ]


def test_a_container_that_comes_later_is_covered_by_its_call(booked: Running, engine: Engine) -> None:
    usage: dict[str, Value] = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
    booked.http.post(protobuf(Emitted(2, trace=7, parent=1)))
    booked.wait_until_booked()
    booked.http.post(protobuf(Emitted(1, CONTAINER | usage, trace=7)))
    booked.wait_until_booked()

    columns = ("kind", "billing_status", "reason", "cost_pico", "charge_version")
    assert rows(engine, *columns) == [
        ("container", "suppressed", "covered_by_child", None, 1),
        ("call", "billed", None, 210_000_000, 1),
    ]


def test_a_call_that_comes_later_changes_the_charge_of_its_container(booked: Running, engine: Engine) -> None:
    usage: dict[str, Value] = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
    booked.http.post(protobuf(Emitted(1, CONTAINER | usage, trace=7)))
    booked.wait_until_booked()
    assert rows(engine, "billing_status", "reason") == [("unpriced", "aggregate_only")]

    booked.http.post(protobuf(Emitted(2, trace=7, parent=1)))
    booked.wait_until_booked()

    columns = ("kind", "billing_status", "reason", "charge_version")
    assert rows(engine, *columns) == [
        ("container", "suppressed", "covered_by_child", 2),
        ("call", "billed", None, 1),
    ]
    with owner_transaction(engine) as connection:
        versions = connection.execute(text("SELECT version, billing_status, cause FROM charge_versions")).all()
    assert [tuple(version) for version in versions] == [(1, "unpriced", "later_span")]


def test_the_fuller_version_of_a_span_wins_whatever_comes_first(booked: Running, engine: Engine) -> None:
    end_ns = time.time_ns()
    full, empty = Emitted(1, CALL, end_ns=end_ns), Emitted(1, FAILED, end_ns=end_ns + 10**6)
    other_full = Emitted(2, CALL, end_ns=end_ns)
    other_empty = Emitted(2, FAILED, end_ns=end_ns + 10**6)

    for emitted in (full, empty, other_empty, other_full):
        booked.http.post(protobuf(emitted))
        booked.wait_until_booked()

    assert rows(engine, "billing_status", "cost_pico", "input_tokens") == [("billed", 210_000_000, 1000)] * 2


def test_spans_are_acknowledged_while_the_database_is_locked(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url)) as collector:
        collector.http.post(calls([1]))
        collector.wait_until_booked()
        lock = sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None, timeout=60)
        lock.execute("BEGIN IMMEDIATE")
        slowest = 0.0
        for number in range(2, 30):
            started = time.perf_counter()
            assert collector.http.post(calls([number])).status == 200
            slowest = max(slowest, time.perf_counter() - started)
        assert collector.collector.spool.snapshot().pending_spans == 28
        lock.execute("ROLLBACK")
        lock.close()
        collector.wait_until_booked()

    assert slowest < 2
    assert len(rows(sqlite_engine, "span_id")) == 29


def test_a_missing_database_is_degraded_and_everything_is_booked_when_it_comes(tmp_path: Path) -> None:
    database = tmp_path / "farebox.db"
    database.mkdir()  # something that SQLite cannot open
    with running(config_for(tmp_path)) as collector:
        assert collector.http.post(calls([1, 2])).status == 200
        wait_for(lambda: collector.http.get("/readyz").json["status"] == "degraded")
        ready = collector.http.get("/readyz")
        assert ready.status == 200
        assert "nothing is booked" in ready.json["degraded"][0]

        database.rmdir()
        collector.wait_until_booked()
        wait_for(lambda: collector.http.get("/readyz").json["status"] == "ready")

    engine = open_engine(f"sqlite:///{database}")
    assert len(rows(engine, "span_id")) == 2
    engine.dispose()


def test_an_older_schema_is_named_and_spans_are_kept(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    with owner_transaction(sqlite_engine, write=True) as connection:
        current = connection.execute(text("SELECT version_num FROM farebox_schema")).scalar_one()
        connection.execute(text("UPDATE farebox_schema SET version_num = 'from the future'"))
    with running(config_for(tmp_path, database_url=sqlite_url)) as collector:
        assert collector.http.post(calls([1])).status == 200
        wait_for(lambda: collector.http.get("/readyz").json["status"] == "degraded")
        assert "schema" in collector.http.get("/readyz").json["degraded"][0]
        with owner_transaction(sqlite_engine, write=True) as connection:
            connection.execute(text("UPDATE farebox_schema SET version_num = :current"), {"current": current})
        collector.wait_until_booked()

    assert len(rows(sqlite_engine, "span_id")) == 1


def test_an_empty_database_is_made(tmp_path: Path, empty_database_url: str) -> None:
    with running(config_for(tmp_path, database_url=empty_database_url)) as collector:
        collector.http.post(calls([1]))
        collector.wait_until_booked()

    engine = open_engine(empty_database_url)
    assert schema_state(engine) == "current"
    assert rows(engine, "billing_status") == [("billed",)]
    engine.dispose()


def test_a_batch_that_was_booked_before_a_crash_is_skipped_whole(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    config = config_for(tmp_path, database_url=sqlite_url)
    with running(config) as collector:
        collector.http.post(calls([1, 2]))
        collector.wait_until_booked()
        collector_id = collector.collector.spool.collector_id
    # The collector died between the ledger's commit and its own: the batch is in both.
    spool = sqlite3.connect(config.spool_dir / "spool.db", timeout=60)
    spool.execute("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'batches'")
    spool.commit()
    spool.close()

    with running(config) as again:
        again.http.post(calls([1, 2]))
        again.wait_until_booked()
        assert again.collector.spool.collector_id == collector_id
        assert again.counters()["replayed"] == 2

    assert len(rows(sqlite_engine, "span_id")) == 2


def quarantined(folder: Path, engine: Engine) -> list[tuple[str, int]]:
    """The quarantine wherever it lies now, in the spool or in the books: the reason, and whether a span is kept."""
    spool = sqlite3.connect(folder / "spool" / "spool.db")
    waiting = spool.execute("SELECT reason, span IS NOT NULL FROM quarantine").fetchall()
    spool.close()
    with owner_transaction(engine) as connection:
        moved = connection.execute(text("SELECT reason, span IS NOT NULL FROM quarantined_spans")).all()
    return [*waiting, *((reason, int(has_span)) for reason, has_span in moved)]


def test_a_poisonous_span_is_quarantined_and_its_neighbors_are_booked(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    # A refusal by the database itself stands for every fault that nobody foresaw.
    with owner_transaction(sqlite_engine, write=True) as connection:
        connection.execute(
            text(
                "CREATE TRIGGER poison BEFORE INSERT ON usage_rows WHEN NEW.project = 'poison' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        )
    poison = {**CALL, "farebox.project": "poison"}
    with running(config_for(tmp_path, database_url=sqlite_url)) as collector:
        spans = [Emitted(number, poison if number == 7 else CALL) for number in range(1, 21)]
        assert collector.http.post(calls([100])).status == 200
        assert collector.http.post(protobuf(*spans)).status == 200
        assert collector.http.post(calls([101])).status == 200
        collector.wait_until_booked()
        counters = collector.counters()
        assert collector.http.get("/readyz").json["quarantined_spans"] == 1

    assert (counters["rows"], counters["quarantined"]) == (21, 1)
    assert len(rows(sqlite_engine, "span_id")) == 21
    assert quarantined(tmp_path, sqlite_engine) == [("booking_crashed", 1)]


def test_a_fault_of_every_booking_quarantines_nothing(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    with owner_transaction(sqlite_engine, write=True) as connection:
        connection.execute(text("ALTER TABLE booked_batches RENAME TO moved"))
    with running(config_for(tmp_path, database_url=sqlite_url)) as collector:
        assert collector.http.post(calls([1])).status == 200
        wait_for(lambda: collector.http.get("/readyz").json["status"] == "degraded")
        with owner_transaction(sqlite_engine, write=True) as connection:
            connection.execute(text("ALTER TABLE moved RENAME TO booked_batches"))
        collector.wait_until_booked()
        assert collector.counters()["quarantined"] == 0

    assert len(rows(sqlite_engine, "span_id")) == 1


def test_a_new_price_is_used_within_seconds(collector: Running, sqlite_engine: Engine) -> None:
    collector.http.post(calls([1]))
    collector.wait_until_booked()
    with owner_transaction(sqlite_engine, write=True) as connection:
        connection.execute(
            text(
                "UPDATE prices SET rates = replace(rates, '0.00000015', '0.00000030') "
                "WHERE provider = 'openai' AND model = 'gpt-4o-mini'"
            )
        )
        connection.execute(text("UPDATE catalog_state SET version = version + 1"))
    time.sleep(2.5)
    collector.http.post(calls([2]))
    collector.wait_until_booked()

    assert rows(sqlite_engine, "cost_pico") == [(210_000_000,), (360_000_000,)]


def test_the_same_ids_of_another_organization_are_another_row(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    for org in ("acme", "zenith"):
        with running(config_for(tmp_path, database_url=sqlite_url, default_org=org)) as collector:
            collector.http.post(calls([1]))
            collector.wait_until_booked()

    assert len({row[0] for row in rows(sqlite_engine, "org_id")}) == 2


def test_a_second_collector_on_the_same_sqlite_file_refuses(
    tmp_path: Path, collector: Running, sqlite_url: str
) -> None:
    with pytest.raises(SpoolInUse, match="database file"):
        Running(config_for(tmp_path / "other", database_url=sqlite_url))


def test_two_collectors_on_postgresql_book_the_same_spans_once(
    tmp_path: Path, postgres_url: str, postgres_engine: Engine
) -> None:
    with (
        running(config_for(tmp_path / "one", database_url=postgres_url)) as one,
        running(config_for(tmp_path / "two", database_url=postgres_url)) as two,
    ):
        for start in range(1, 400, 20):
            body = calls(range(start, start + 20))
            one.http.post(body)
            two.http.post(body)
        one.wait_until_booked()
        two.wait_until_booked()
        assert one.counters()["rows"] + two.counters()["rows"] == 400

    assert len(rows(postgres_engine, "span_id")) == 400


def test_O08_each_booking_is_told_in_a_line_of_the_debug_log(booked: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "farebox_collector.pipeline"):
        booked.http.post(calls([1, 2]))
        booked.wait_until_booked()
        booked.http.post(calls([2]))
        booked.wait_until_booked()
        wait_for(lambda: len(caplog.messages) == 2)

    assert caplog.messages == ["booked batches 1 to 1: 2 rows", "booked batches 2 to 2: 1 duplicates"]


def test_a_damaged_batch_is_counted_and_the_others_are_booked(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    config = config_for(tmp_path, database_url=sqlite_url)
    lock = sqlite3.connect(tmp_path / "farebox.db", isolation_level=None, timeout=60)
    lock.execute("BEGIN IMMEDIATE")
    killed = Child(tmp_path)
    http = killed.started()
    for number in (1, 2, 3):
        assert http.post(calls([number])).status == 200
    killed.kill()
    lock.execute("ROLLBACK")
    lock.close()
    spool = sqlite3.connect(config.spool_dir / "spool.db", timeout=60)
    spool.execute("UPDATE batches SET payload = x'ff00' WHERE id = 2")
    spool.commit()
    spool.close()

    with running(config) as collector:
        collector.wait_until_booked()
        assert collector.counters()["quarantined"] == 1

    assert len(rows(sqlite_engine, "span_id")) == 2

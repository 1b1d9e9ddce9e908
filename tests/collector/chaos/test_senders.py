"""What goes wrong on the senders' side: clocks that are off, revoked keys, two collectors for one application."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from sqlalchemy import Engine, text

from farebox_collector.spool import Spool
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.keys import revoke_key
from farebox_ledger.store.scope import AllOrganizations
from tests.collector.chaos.accounts import assert_sums_agree, audit, settled_rows
from tests.collector.emitting import CALL, Emitted, protobuf
from tests.collector.running import Child, Http, rows, wait_for
from tests.collector.test_auth import make_key

DAY_NS = 86_400 * 10**9
REVOKED_WITHIN_S = 5.0


def test_spans_of_a_clock_that_is_a_day_ahead_are_quarantined_and_the_others_booked(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    child = Child(tmp_path)
    http = child.started()
    now = time.time_ns()
    ahead = [Emitted(number, end_ns=now + DAY_NS + 60 * 10**9) for number in range(1, 11)]
    right = [Emitted(number, end_ns=now) for number in range(11, 21)]
    still_plausible = Emitted(21, end_ns=now + DAY_NS - 3600 * 10**9)
    for start in range(10):
        answer = http.post(protobuf(ahead[start], right[start]))
        said = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert (answer.status, said.rejected_spans) == (200, 1)
        assert "clock_skew" in said.error_message
    assert http.post(protobuf(still_plausible)).body == b""
    assert http.get("/readyz").json["quarantined_spans"] == 10
    assert child.terminate() == 0

    audit(sqlite_engine, [span.span_id for span in (*right, still_plausible)], tmp_path / "spool")
    spool = Spool(tmp_path / "spool", 2**30)
    waiting = spool._connection.execute("SELECT reason FROM quarantine").fetchall()
    spool.close()
    with owner_transaction(sqlite_engine) as connection:
        moved = connection.execute(text("SELECT reason FROM quarantined_spans")).all()
    assert [reason for (reason,) in (*waiting, *moved)] == ["clock_skew"] * 10


def test_spans_of_a_clock_that_is_a_day_behind_are_booked_on_the_day_that_they_state(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    child = Child(tmp_path)
    http = child.started()
    behind = [Emitted(number, end_ns=time.time_ns() - DAY_NS) for number in range(1, 11)]
    assert http.post(protobuf(*behind)).body == b""
    assert child.terminate() == 0

    audit(sqlite_engine, [span.span_id for span in behind], tmp_path / "spool")
    stated = {int(f"{datetime.fromtimestamp(span.end_ns / 1e9, UTC):%Y%m%d}") for span in behind}
    assert {day for (day,) in rows(sqlite_engine, "day")} == stated


@pytest.mark.slow
def test_a_key_revoked_mid_stream_loses_nothing_that_was_acknowledged(
    tmp_path: Path, database_url: str, engine: Engine
) -> None:
    key_id, key = make_key(engine, "zenith")
    child = Child(tmp_path, FAREBOX_DATABASE_URL=database_url)
    http = child.started()
    acknowledged: set[bytes] = set()
    refused: list[float] = []
    revoked_at = [0.0]

    def send(first: int) -> None:
        for number in range(first, first + 100_000):
            span = Emitted(number)
            answer = http.post(protobuf(span), authorization=f"Bearer {key}")
            if answer.status != 200:
                assert answer.status == 401
                refused.append(time.monotonic())
                return
            acknowledged.add(span.span_id)
            time.sleep(0.005)

    threads = [threading.Thread(target=send, args=(10**6 * part,), daemon=True) for part in range(1, 4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) > 50)
    with transaction(engine, AllOrganizations(), write=True) as connection:
        revoke_key(connection, AllOrganizations(), key_id)
    revoked_at[0] = time.monotonic()
    for thread in threads:
        thread.join(20)
    assert child.terminate() == 0

    assert len(refused) == 3
    assert max(refused) - revoked_at[0] < REVOKED_WITHIN_S
    audit(engine, acknowledged, tmp_path / "spool")
    assert set(rows(engine, "key_id")) == {(key_id,)}


@pytest.mark.slow
def test_two_collectors_that_get_the_same_batches_at_once_book_each_span_once(
    tmp_path: Path, postgres_url: str, postgres_engine: Engine
) -> None:
    """Every batch goes to both, in another order to each, and both are killed on the way."""
    folders = (tmp_path / "one", tmp_path / "two")
    agent = {"gen_ai.operation.name": "invoke_agent"}
    now = time.time_ns()
    spans = []
    bodies = []
    for trace in range(1, 301):
        first = 10 * trace
        container = Emitted(first, agent, trace=trace)
        calls = [
            Emitted(first + offset, CALL, trace=trace, parent=first, end_ns=now + offset * 10**6)  # no twins
            for offset in range(1, 6)
        ]
        spans += [container, *calls]
        bodies += [protobuf(container, *calls[:2]), protobuf(*calls[2:])]

    def send(folder: Path, order: list[bytes]) -> None:
        half = len(order) // 2
        for part in (order[:half], order[half:]):
            child = Child(folder, FAREBOX_DATABASE_URL=postgres_url)
            http = child.started()
            _send_all(http, part)
            child.kill()
        last = Child(folder, FAREBOX_DATABASE_URL=postgres_url)
        last.started()
        codes.append(last.terminate())

    codes: list[int] = []
    threads = [
        threading.Thread(target=send, args=(folders[0], bodies)),
        threading.Thread(target=send, args=(folders[1], bodies[200:] + bodies[:200])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)

    assert codes == [0, 0]
    audit(postgres_engine, [span.span_id for span in spans], *(folder / "spool" for folder in folders))
    billed = [status for (status,) in rows(postgres_engine, "billing_status")]
    assert (billed.count("billed"), billed.count("suppressed")) == (1500, 300)


def _send_all(http: Http, bodies: list[bytes]) -> None:
    for body in bodies:
        answer = http.post(body)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.slow
def test_a_fleet_on_one_database_shares_its_traces_in_every_split(
    tmp_path: Path, postgres_url: str, postgres_engine: Engine
) -> None:
    """A trace's spans reach different collectors at the same moment: the verdicts are those of the whole trace."""
    children = [Child(tmp_path / str(number), FAREBOX_DATABASE_URL=postgres_url) for number in range(3)]
    https = [child.started() for child in children]
    end_ns = time.time_ns()
    parts: list[list[bytes]] = [[], [], []]
    for trace in range(1, 201):
        first = 10 * trace
        outer = Emitted(first, CALL, trace=trace, scope="framework", end_ns=end_ns, duration_ns=3 * 10**9)
        inner = Emitted(first + 1, CALL, trace=trace, parent=first, scope="sdk", end_ns=end_ns - 10**8)
        agent = Emitted(first + 2, {"gen_ai.operation.name": "invoke_agent"}, trace=trace, end_ns=end_ns)
        for offset, span in enumerate((outer, inner, agent)):
            parts[(trace + offset) % 3].append(protobuf(span))
    threads = [threading.Thread(target=_send_all, args=pair) for pair in zip(https, parts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [child.terminate() for child in children] == [0, 0, 0]

    found = rows(postgres_engine, "span_id", "billing_status", "reason")
    expected = {
        0: ("suppressed", "covered_by_child"),
        1: ("billed", None),
        2: ("suppressed", "aggregate_only"),
    }
    assert len(found) == 600
    for span_id, status, reason in found:
        assert (status, reason) == expected[int.from_bytes(bytes(span_id)) % 10]
    assert_sums_agree(postgres_engine)
    assert sum(settled_rows(tmp_path / str(number) / "spool") for number in range(3)) == 600

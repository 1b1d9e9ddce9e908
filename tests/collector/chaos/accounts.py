"""Audits the books after a disaster: every acknowledged span is one row, and everything sums to everything else."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from farebox_collector.spool import Spool
from farebox_ledger.store.engine import owner_transaction
from tests.collector.running import rows


def audit(engine: Engine, acknowledged: Collection[bytes], *spool_folders: Path) -> None:
    """Check what is booked against what senders were told, by equality, once every collector has ended.

    `acknowledged` are the ids of the generative-AI spans; each was sent until it was acknowledged.
    """
    booked = [bytes(span_id) for (span_id,) in rows(engine, "span_id")]
    assert len(booked) == len(set(booked)), "a span was booked twice"
    assert set(booked) == set(acknowledged)
    assert_sums_agree(engine)
    assert sum(map(settled_rows, spool_folders)) <= len(booked), "more rows were counted than there are"


def settled_rows(spool_folder: Path) -> int:
    """Check the conservation law of a collector that has ended; answers the rows that it counted as its own."""
    spool = Spool(spool_folder, 2**30)
    snapshot = spool.snapshot()
    spool.close()
    assert snapshot.pending_spans == 0
    assert snapshot.conservation_difference == 0, snapshot.counters
    return snapshot.counters.get("rows", 0)


def assert_sums_agree(engine: Engine) -> None:
    """Both rollups say, exactly, what the rows say that are not suppressed."""
    wanted = _read(
        engine,
        "SELECT model, billing_status, COUNT(*), SUM(input_tokens), SUM(output_tokens), SUM(cost_pico)"
        " FROM usage_rows WHERE billing_status <> 'suppressed' GROUP BY 1, 2",
    )
    for table in ("rollup_day", "rollup_quarter"):
        found = _read(
            engine,
            "SELECT model, billing_status, SUM(requests), SUM(input_tokens), SUM(output_tokens),"
            f" SUM(cost_units) * 1000000000000 + SUM(cost_pico) FROM {table} GROUP BY 1, 2 HAVING SUM(requests) <> 0",
        )
        assert found == wanted, table


def _read(engine: Engine, statement: str) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Sums by model and status; a sum over nothing but NULL counts as 0."""
    with owner_transaction(engine) as connection:
        return {
            (row[0] or "", row[1]): tuple(int(value or 0) for value in row[2:])
            for row in connection.execute(text(statement))
        }

"""Faults of the books that no span is to blame for quarantine nothing; a span that is to blame is not lost either."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from farebox_ledger.store.engine import owner_transaction
from tests.collector.chaos.accounts import audit
from tests.collector.chaos.test_any_order import Shaper, Tenant, opened
from tests.collector.emitting import Emitted, calls
from tests.collector.running import config_for, running, wait_for


@pytest.mark.parametrize("table", ["usage_rows", "rollup_day"])
def test_a_table_that_is_not_there_stops_booking_and_quarantines_nothing(
    tmp_path: Path, database_url: str, engine: Engine, table: str
) -> None:
    with running(config_for(tmp_path, database_url=database_url)) as collector:
        assert collector.http.post(calls([1])).status == 200
        collector.wait_until_booked()
        with owner_transaction(engine, write=True) as connection:
            connection.execute(text(f"ALTER TABLE {table} RENAME TO moved"))
        assert collector.http.post(calls([2, 3])).status == 200
        wait_for(lambda: collector.http.get("/readyz").json["status"] == "degraded")
        assert collector.http.get("/readyz").json["quarantined_spans"] == 0
        with owner_transaction(engine, write=True) as connection:
            connection.execute(text(f"ALTER TABLE moved RENAME TO {table}"))
        collector.wait_until_booked()
        assert collector.counters().get("quarantined", 0) == 0

    audit(engine, [Emitted(number).span_id for number in (1, 2, 3)], tmp_path / "spool")


def test_a_death_between_booking_the_others_and_forgetting_the_batch_keeps_the_span_that_crashes(
    sqlite_engine: Engine,
) -> None:
    with owner_transaction(sqlite_engine, write=True) as connection:
        connection.execute(
            text(
                "CREATE TRIGGER poison BEFORE INSERT ON usage_rows WHEN NEW.project = 'poison' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        )
    with opened(sqlite_engine) as line:
        tenant = Tenant(sqlite_engine)
        shaper = Shaper(lambda strategy: None, 1, count(1))  # type: ignore[arg-type]  # nothing is drawn here
        for start in range(4):
            shaper.span(None, start=start)
        poison = shaper.spans[2]
        poison.attributes["farebox.project"] = "poison"

        line.accept(tenant.sender, shaper.spans)
        line.book_and_die_before_settling()
        line.book()

        assert [row[2] for row in tenant.rows()] == [span.span_id for span in shaper.spans if span is not poison]
        assert line.quarantined() == [poison]
        line.check()

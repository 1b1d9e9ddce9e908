"""Prices are synced when the newest sync is old enough, by one process at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from farebox_ledger.commands.maintain import maintain
from farebox_ledger.errors import InvalidInput
from farebox_ledger.jobs import RECURRING, kinds_with, run_jobs
from farebox_ledger.price_schedule import SYNC, PriceSchedule, interval_s, schedule_of, sync_when_due
from farebox_ledger.price_sync import DEFAULT_URL, request_sync
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.price_syncs import PriceSync, list_syncs
from farebox_ledger.store.scope import AllOrganizations
from tests.fakes.catalog_server import CatalogServer, catalog_server

HOUR_S = 3600


@pytest.fixture
def server() -> Iterator[CatalogServer]:
    with catalog_server() as running:
        running.put({"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-6}})
        yield running


def age_all_syncs(engine: Engine, by_s: int) -> None:
    with owner_transaction(engine, write=True) as connection:
        connection.execute(
            text("UPDATE price_syncs SET requested_at_us = requested_at_us - :by"), {"by": by_s * 1_000_000}
        )


def syncs(engine: Engine) -> int:
    with transaction(engine, AllOrganizations()) as connection:
        return len(list_syncs(connection))


def test_a_first_sync_is_due_at_once_and_the_next_one_after_the_interval(engine: Engine, server: CatalogServer) -> None:
    first = sync_when_due(engine, server.url, HOUR_S)
    too_early = sync_when_due(engine, server.url, HOUR_S)
    age_all_syncs(engine, HOUR_S + 1)
    second = sync_when_due(engine, server.url, HOUR_S)

    assert first is not None
    assert first.status == "applied"
    assert too_early is None
    assert second is not None
    assert second.status == "unchanged"


def test_a_failed_sync_is_not_repeated_before_the_interval_is_over(engine: Engine, server: CatalogServer) -> None:
    server.status = 500

    failed = sync_when_due(engine, server.url, HOUR_S)

    assert failed is not None
    assert failed.status == "failed"
    assert sync_when_due(engine, server.url, HOUR_S) is None


def test_a_sync_that_another_process_began_is_left_to_it(engine: Engine, server: CatalogServer) -> None:
    request_sync(engine, server.url)

    assert sync_when_due(engine, server.url, 0) is None
    assert syncs(engine) == 1


def test_of_many_processes_that_find_a_sync_due_at_once_one_begins(engine: Engine, server: CatalogServer) -> None:
    ready = threading.Barrier(4)

    def look(_: int) -> PriceSync | None:
        ready.wait(10)
        return sync_when_due(engine, server.url, HOUR_S)

    with ThreadPoolExecutor(4) as threads:
        found = [sync for sync in threads.map(look, range(4), timeout=30) if sync is not None]

    assert [sync.status for sync in found] == ["applied"]
    assert len(server.asked) == 1
    assert syncs(engine) == 1


def test_workers_look_at_the_schedule_as_a_job_and_a_restart_syncs_no_second_time(
    engine: Engine, server: CatalogServer
) -> None:
    kinds = kinds_with(PriceSchedule(server.url, HOUR_S))
    only = {SYNC: kinds[SYNC]}

    assert run_jobs(engine, threading.Event(), only, until_idle=True) == 0
    assert run_jobs(engine, threading.Event(), only, until_idle=True) == 0

    assert len(server.asked) == 1
    with transaction(engine, AllOrganizations()) as connection:
        job = connection.execute(text("SELECT status, result FROM jobs WHERE kind = 'sync_prices'")).one()
        (sync,) = list_syncs(connection)
    assert job.status == "done"
    assert json.loads(job.result) == {"sync": sync.id, "status": "applied"}


def test_a_process_without_a_schedule_leaves_syncs_to_the_others() -> None:
    assert SYNC not in kinds_with(None)
    assert RECURRING.keys() - kinds_with(None).keys() == {SYNC}


def test_the_schedule_is_read_from_the_environment() -> None:
    assert schedule_of({}) is None
    assert schedule_of({"FAREBOX_PRICE_SYNC_INTERVAL": "6h"}) == PriceSchedule(DEFAULT_URL, 21_600)
    own = {"FAREBOX_PRICE_SYNC_INTERVAL": "30m", "FAREBOX_PRICE_SYNC_URL": "https://prices.example/file.json"}
    assert schedule_of(own) == PriceSchedule("https://prices.example/file.json", 1800)
    with pytest.raises(InvalidInput, match="FAREBOX_PRICE_SYNC_URL"):
        schedule_of({"FAREBOX_PRICE_SYNC_INTERVAL": "6h", "FAREBOX_PRICE_SYNC_URL": "http://example.com/x"})


def test_maintain_syncs_by_the_schedule_of_its_environment(
    sqlite_engine: Engine, server: CatalogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", sqlite_engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("FAREBOX_PRICE_SYNC_INTERVAL", "6h")
    monkeypatch.setenv("FAREBOX_PRICE_SYNC_URL", server.url)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process keeps its own

    assert maintain(["--once"]) == 0

    assert len(server.asked) == 1


@pytest.mark.parametrize(("value", "seconds"), [("30m", 1800), ("6h", 21_600), ("1d", 86_400), ("300s", 300)])
def test_an_interval_is_a_number_with_a_unit(value: str, seconds: int) -> None:
    assert interval_s(value) == seconds


@pytest.mark.parametrize("value", ["", "6", "h", "1 h", "-1h", "1.5h", "299s", "0d", "6 hours"])
def test_another_interval_is_refused_by_the_variable_s_name(value: str) -> None:
    with pytest.raises(InvalidInput, match="FAREBOX_PRICE_SYNC_INTERVAL"):
        interval_s(value)

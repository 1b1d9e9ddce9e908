"""Prices are synced when the newest sync is old enough, by one process at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from farebox_ledger.errors import InvalidInput
from farebox_ledger.price_schedule import PriceSchedule, interval_s, sync_when_due
from farebox_ledger.price_sync import request_sync
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.price_syncs import list_syncs
from farebox_ledger.store.scope import AllOrganizations
from tests.fakes.catalog_server import CatalogServer, catalog_server

HOUR_S = 3600


@pytest.fixture
def server() -> Iterator[CatalogServer]:
    with catalog_server() as running:
        running.put({"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-6}})
        yield running


def age_all_syncs(engine: Engine, by_s: int) -> None:
    with engine.begin() as connection:
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


def test_the_thread_syncs_when_it_starts_and_ends_when_told(sqlite_engine: Engine, server: CatalogServer) -> None:
    schedule = PriceSchedule(sqlite_engine, server.url, HOUR_S)

    schedule.start()
    deadline = time.monotonic() + 10
    while not server.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    schedule.stop(limit_s=10)

    assert len(server.asked) == 1
    assert syncs(sqlite_engine) == 1


@pytest.mark.parametrize(("value", "seconds"), [("30m", 1800), ("6h", 21_600), ("1d", 86_400), ("300s", 300)])
def test_an_interval_is_a_number_with_a_unit(value: str, seconds: int) -> None:
    assert interval_s(value) == seconds


@pytest.mark.parametrize("value", ["", "6", "h", "1 h", "-1h", "1.5h", "299s", "0d", "6 hours"])
def test_another_interval_is_refused_by_the_variable_s_name(value: str) -> None:
    with pytest.raises(InvalidInput, match="FAREBOX_PRICE_SYNC_INTERVAL"):
        interval_s(value)

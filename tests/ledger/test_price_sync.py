"""Price syncs against a server on the loopback: what changes, what waits, and what changes nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, func, select, text

from farebox_ledger.catalog import shipped_snapshots, snapshot_content
from farebox_ledger.catalog.difference import Moved
from farebox_ledger.catalog.download import Limits
from farebox_ledger.errors import CatalogUnusable, Conflict, InvalidInput, NotFound
from farebox_ledger.jobs import KINDS, run_jobs
from farebox_ledger.price_sync import (
    ORDERED,
    approve_sync,
    checked_source,
    order_sync,
    preview_sync,
    request_sync,
    run_ordered_sync,
    run_sync,
    sync_prices,
)
from farebox_ledger.pricing import Charge, Price, PricingRequest
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import get_job
from farebox_ledger.store.price_rows import read_prices
from farebox_ledger.store.price_syncs import LONGEST_RUN_US, PriceSync, begin_sync, get_sync, list_syncs
from farebox_ledger.store.prices import catalog_version, ensure_shipped_prices, load_book
from farebox_ledger.store.schema import price_revisions, prices
from farebox_ledger.usage import Usage
from tests.fakes.catalog_server import CatalogServer, catalog_server
from tests.ledger.store.bookings import EVERYBODY, NOON

LATER_US = 4_000_000_000_000_000  # 2096: after any sync of a test


def entry(input_rate: float, provider: str = "openai", **more: Any) -> dict[str, Any]:
    return {
        "litellm_provider": provider,
        "input_cost_per_token": input_rate,
        "output_cost_per_token": 1e-05,
        "mode": "chat",
        **more,
    }


MODELS = {f"model-{number}": entry(2e-06) for number in range(20)}


@pytest.fixture
def server() -> Iterator[CatalogServer]:
    with catalog_server() as running:
        running.put(MODELS)
        yield running


@pytest.fixture
def synced(engine: Engine, server: CatalogServer) -> Engine:
    """Books whose catalog holds the twenty models of the server."""
    assert sync_prices(engine, server.url).status == "applied"
    return engine


def rows(engine: Engine, model: str) -> list[Price]:
    """The price rows of a model, oldest first."""
    with transaction(engine, EVERYBODY) as connection:
        found = list(read_prices(connection, prices.c.model == model))
    return sorted(found, key=lambda price: price.effective_from_us or 0)


def charge(engine: Engine, model: str, at_us: int) -> Charge:
    """Price a million tokens in."""
    request = PricingRequest(
        provider="openai",
        request_model=model,
        response_model=None,
        at_us=at_us,
        usage=Usage(input_tokens=1_000_000, output_tokens=0),
    )
    with transaction(engine, EVERYBODY) as connection:
        return load_book(connection).charge(request)


def state(engine: Engine) -> tuple[int, list[tuple[Any, ...]]]:
    """Everything that a sync could have changed of prices."""
    with transaction(engine, EVERYBODY) as connection:
        return catalog_version(connection), [tuple(row) for row in connection.execute(select(prices).order_by("id"))]


def test_a_first_sync_adds_all_prices_since_ever(engine: Engine, server: CatalogServer) -> None:
    sync = sync_prices(engine, server.url)

    assert (sync.status, sync.added, sync.changed, sync.removed, sync.refused) == ("applied", 20, 0, 0, 0)
    assert (sync.source, sync.origin, sync.etag, sync.detail) == ("litellm", server.url, server.etag, None)
    assert sync.size_bytes == len(server.content)
    assert sync.finished_at_us is not None
    (price,) = rows(engine, "model-3")
    assert (price.source, price.effective_from_us, price.effective_to_us) == ("litellm", None, None)
    assert charge(engine, "model-3", NOON).cost_pico == 2 * 10**12


def test_a_changed_price_closes_the_old_row_and_opens_a_new_one(synced: Engine, server: CatalogServer) -> None:
    server.put({**MODELS, "model-3": entry(3e-06)})

    sync = sync_prices(synced, server.url)

    assert (sync.status, sync.added, sync.changed, sync.removed) == ("applied", 0, 1, 0)
    assert sync.diff is not None
    assert sync.diff.changed == [Moved("openai", "model-3", {"standard.input_tokens": ("0.000002", "0.000003")})]
    old, new = rows(synced, "model-3")
    assert (old.effective_from_us, old.effective_to_us, old.retired) == (None, new.effective_from_us, False)
    assert (new.effective_to_us, new.id != old.id) == (None, True)
    assert new.effective_from_us is not None
    assert charge(synced, "model-3", new.effective_from_us - 1).cost_pico == 2 * 10**12
    assert charge(synced, "model-3", new.effective_from_us).cost_pico == 3 * 10**12


def test_what_vanishes_is_retired_not_deleted(synced: Engine, server: CatalogServer) -> None:
    server.put({name: model for name, model in MODELS.items() if name != "model-3"})

    sync = sync_prices(synced, server.url)

    assert (sync.status, sync.removed) == ("applied", 1)
    (price,) = rows(synced, "model-3")
    assert price.retired
    assert price.effective_to_us is not None
    assert charge(synced, "model-3", price.effective_to_us - 1).status == "billed"
    later = charge(synced, "model-3", price.effective_to_us)
    assert (later.status, later.reason, later.cost_pico) == ("assumed", "archived", 2 * 10**12)


def test_what_comes_back_holds_from_then_on(synced: Engine, server: CatalogServer) -> None:
    server.put({name: model for name, model in MODELS.items() if name != "model-3"})
    sync_prices(synced, server.url)
    server.put(MODELS)

    sync = sync_prices(synced, server.url)

    assert (sync.status, sync.added) == ("applied", 1)
    old, new = rows(synced, "model-3")
    assert old.effective_to_us is not None
    assert new.effective_from_us is not None
    assert old.effective_to_us < new.effective_from_us
    assert (old.retired, new.retired) == (True, False)
    assert charge(synced, "model-3", LATER_US).status == "billed"


def test_the_same_file_is_unchanged_and_not_even_sent(synced: Engine, server: CatalogServer) -> None:
    before = state(synced)

    by_etag = sync_prices(synced, server.url)
    server.has_etag = False
    by_digest = sync_prices(synced, server.url)

    assert server.asked[1]["if-none-match"] == server.etag
    assert [(sync.status, sync.added) for sync in (by_etag, by_digest)] == [("unchanged", 0)] * 2
    assert state(synced) == before


def test_another_file_between_makes_the_etag_void(synced: Engine, server: CatalogServer, tmp_path: Path) -> None:
    other = tmp_path / "prices.json"
    other.write_text(json.dumps({**MODELS, "model-3": entry(3e-06)}))
    assert sync_prices(synced, other.as_uri()).status == "applied"

    sync = sync_prices(synced, server.url)

    assert "if-none-match" not in server.asked[-1]
    assert (sync.status, sync.changed) == ("applied", 1)
    assert len(rows(synced, "model-3")) == 3


def test_a_file_that_differs_in_no_price_changes_nothing(synced: Engine, server: CatalogServer) -> None:
    before = state(synced)
    server.put({**MODELS, "model-3": entry(2e-06, max_tokens=9, source="https://example.com")})

    assert sync_prices(synced, server.url).status == "unchanged"
    assert state(synced) == before


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"cut_after": 100}, "truncated"),
        ({"cut_after": 100, "is_chunked": True}, "truncated"),
        ({"status": 503}, "answers 503"),
        ({"content": b'{"model-1": {"litellm_pro'}, "no JSON"),
        ({"content": b"[1, 2]"}, "expected a JSON object"),
        ({"content": b"<html>rate limited</html>"}, "no JSON"),
        ({"content": b"{}"}, "not one price"),
        ({"content": b'{"message": "not found"}'}, "not one price"),
        ({"content": b" " * 100_001}, "larger than 100000 bytes"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_changes_nothing_and_says_why(
    synced: Engine, server: CatalogServer, how: dict[str, Any], words: str
) -> None:
    before = state(synced)
    for name, value in how.items():
        setattr(server, name, value)
    server.has_etag = False

    sync = sync_prices(synced, server.url, limits=Limits(max_bytes=100_000))

    assert (sync.status, sync.revision_id, sync.diff) == ("failed", None, None)
    assert words in (sync.detail or "")
    assert state(synced) == before


@pytest.mark.parametrize(("removed", "status"), [(2, "applied"), (3, "awaiting_approval")])
def test_a_sync_that_removes_more_than_a_tenth_waits(
    synced: Engine, server: CatalogServer, removed: int, status: str
) -> None:
    before = state(synced)
    server.put({f"model-{number}": entry(2e-06) for number in range(removed, 20)})

    sync = sync_prices(synced, server.url)

    assert (sync.status, sync.removed) == (status, removed)
    if status == "awaiting_approval":
        assert sync.detail == "removes 3 of 20 prices (15.0 %, more than 10 %)"
        assert state(synced) == before


@pytest.mark.parametrize(
    ("entry_after", "status"),
    [
        (entry(1e-05), "applied"),
        (entry(1.0000001e-05), "awaiting_approval"),
        (entry(4e-07), "applied"),
        (entry(3.99e-07), "awaiting_approval"),
        (entry(0.0), "awaiting_approval"),
        (entry(2e-06, input_cost_per_token_batches=1e-06), "applied"),
    ],
    ids=str,
)
def test_a_sync_that_moves_a_price_more_than_fivefold_waits(
    synced: Engine, server: CatalogServer, entry_after: dict[str, Any], status: str
) -> None:
    server.put({**MODELS, "model-3": entry_after})

    sync = sync_prices(synced, server.url)

    assert (sync.status, sync.changed) == (status, 1)
    if status == "awaiting_approval":
        assert "moves prices by more than 5 ×: openai/model-3 standard.input_tokens from 0.000002 to" in str(
            sync.detail
        )


def test_approval_applies_what_waited(synced: Engine, server: CatalogServer) -> None:
    server.put({**MODELS, "model-3": entry(2e-05)})
    waiting = sync_prices(synced, server.url)
    assert charge(synced, "model-3", LATER_US).cost_pico == 2 * 10**12

    approved = approve_sync(synced, waiting.id)

    assert (approved.status, approved.changed, approved.id) == ("applied", 1, waiting.id)
    assert approved.approved_at_us is not None
    assert charge(synced, "model-3", LATER_US).cost_pico == 20 * 10**12
    with pytest.raises(Conflict, match="is applied; only one that is awaiting_approval"):
        approve_sync(synced, waiting.id)
    assert sync_prices(synced, server.url).status == "unchanged"


def test_a_later_sync_takes_the_place_of_one_that_waits(synced: Engine, server: CatalogServer) -> None:
    server.put({**MODELS, "model-3": entry(2e-05)})
    waiting = sync_prices(synced, server.url)
    server.put({**MODELS, "model-3": entry(3e-06)})

    assert sync_prices(synced, server.url).status == "applied"

    with transaction(synced, EVERYBODY) as connection:
        assert get_sync(connection, waiting.id).status == "superseded"
    with pytest.raises(Conflict, match="superseded"):
        approve_sync(synced, waiting.id)


def test_an_entry_that_is_refused_keeps_its_price(synced: Engine, server: CatalogServer) -> None:
    server.put({**MODELS, "model-3": entry(-1.0), "openai/model-4": entry(-1.0), "new": {"litellm_provider": 5}})
    before = state(synced)

    sync = sync_prices(synced, server.url)

    assert (sync.status, sync.refused) == ("unchanged", 3)
    assert sync.diff is not None
    assert {refused.key for refused in sync.diff.refused} == {"model-3", "openai/model-4", "new"}
    assert state(synced) == before


def test_one_sync_runs_at_a_time_and_a_dead_one_is_not_waited_for(synced: Engine, server: CatalogServer) -> None:
    running = request_sync(synced, server.url)

    with pytest.raises(Conflict) as refused:
        sync_prices(synced, server.url)
    assert refused.value.conflicting_id == running.id

    with transaction(synced, EVERYBODY, write=True) as connection:
        begun = begin_sync(connection, server.url, now_us=running.requested_at_us + LONGEST_RUN_US)
        assert get_sync(connection, running.id).status == "failed"
    server.put({**MODELS, "model-3": entry(3e-06)})
    with pytest.raises(Conflict, match="another one took its place"):
        run_sync(synced, running)
    assert run_sync(synced, begun).status == "applied"


def test_a_preview_says_what_would_change_and_writes_nothing(synced: Engine, server: CatalogServer) -> None:
    before = state(synced)
    server.put({**MODELS, "model-3": entry(2e-05), "model-99": entry(1e-06)})

    preview = preview_sync(synced, server.url)

    assert (preview.status, preview.added, preview.changed) == ("awaiting_approval", 1, 1)
    assert preview.diff is not None
    assert [listed.model for listed in preview.diff.added] == ["model-99"]
    assert state(synced) == before
    with transaction(synced, EVERYBODY) as connection:
        assert len(list_syncs(connection)) == 1
    server.content = b"nonsense"
    with pytest.raises(CatalogUnusable):
        preview_sync(synced, server.url)


def test_runs_are_listed_newest_first_in_pages(synced: Engine, server: CatalogServer) -> None:
    ids = [sync_prices(synced, server.url).id for _ in range(3)]

    with transaction(synced, EVERYBODY) as connection:
        first = list_syncs(connection, limit=2)
        rest = list_syncs(connection, after=(first[-1].requested_at_us, first[-1].id))
        assert [sync.id for sync in first] == [ids[2], ids[1]]
        assert [sync.status for sync in rest] == ["unchanged", "applied"]
        with pytest.raises(NotFound):
            get_sync(connection, "syn_none")


def test_the_synced_source_is_litellm_alone() -> None:
    assert checked_source("litellm") == "litellm"
    for source in ("openrouter", "genai-prices", "", "LiteLLM"):
        with pytest.raises(InvalidInput) as refused:
            checked_source(source)
        assert refused.value.field == "source"


def test_a_wrong_address_leaves_no_run(synced: Engine) -> None:
    with pytest.raises(InvalidInput, match="expected https"):
        sync_prices(synced, "http://example.com/prices.json")
    with transaction(synced, EVERYBODY) as connection:
        assert len(list_syncs(connection)) == 1


def test_a_sync_over_the_shipped_catalog_keeps_what_is_the_same(sqlite_engine: Engine, tmp_path: Path) -> None:
    ensure_shipped_prices(sqlite_engine)
    (snapshot,) = [one for one in shipped_snapshots() if one.source == "litellm"]
    file = tmp_path / "prices.json"
    file.write_bytes(snapshot_content(snapshot))
    assert sync_prices(sqlite_engine, file.as_uri()).status == "unchanged"

    models = json.loads(snapshot_content(snapshot))
    models["gpt-4o"]["input_cost_per_token"] = 3e-06
    file.write_text(json.dumps(models))
    sync = sync_prices(sqlite_engine, file.as_uri())

    assert (sync.status, sync.added, sync.changed, sync.removed) == ("applied", 0, 1, 0)
    with transaction(sqlite_engine, EVERYBODY) as connection:
        revisions = select(func.count()).select_from(price_revisions).where(price_revisions.c.source == "litellm")
        assert connection.scalar(revisions) == 2


def test_an_ordered_sync_is_done_by_another_when_its_process_has_died(synced: Engine, server: CatalogServer) -> None:
    server.put({**MODELS, "model-3": entry(3e-06)})
    sync, job = order_sync(synced, server.url, holder="a process that dies now")

    assert run_jobs(synced, threading.Event(), {ORDERED: run_ordered_sync}, until_idle=True) == 0
    assert found(synced, sync).status == "running"
    with transaction(synced, EVERYBODY, write=True) as connection:
        connection.execute(text("UPDATE jobs SET leased_until_us = 0 WHERE status = 'running'"))  # as time does
    assert run_jobs(synced, threading.Event(), {ORDERED: KINDS[ORDERED]}, until_idle=True) == 0

    with transaction(synced, EVERYBODY) as connection:
        ended = get_job(connection, EVERYBODY, job.id)
    assert (found(synced, sync).status, ended.status, ended.attempts) == ("applied", "done", 2)
    assert ended.result is not None
    assert msgspec.json.decode(ended.result) == {"sync": sync.id, "status": "applied"}


def test_a_sync_that_two_processes_do_is_applied_once_and_stays_applied(synced: Engine, server: CatalogServer) -> None:
    server.put({**MODELS, "model-3": entry(3e-06)})
    sync, job = order_sync(synced, server.url, holder="one")
    before = len(rows(synced, "model-3"))

    with ThreadPoolExecutor(4) as threads:
        ended = [threads.submit(run_ordered_sync, synced, job, threading.Event()) for _ in range(4)]
    faults = [one.exception(timeout=30) for one in ended]

    assert [fault for fault in faults if fault is not None and not isinstance(fault, Conflict)] == []
    assert found(synced, sync).status == "applied"
    assert len(rows(synced, "model-3")) == before + 1


def test_an_order_that_is_refused_leaves_no_job(synced: Engine, server: CatalogServer) -> None:
    request_sync(synced, server.url)

    with pytest.raises(Conflict):
        order_sync(synced, server.url)

    assert run_jobs(synced, threading.Event(), {ORDERED: run_ordered_sync}, until_idle=True) == 0
    with transaction(synced, EVERYBODY) as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM jobs WHERE kind = 'run_price_sync'")).scalar() == 0


def found(engine: Engine, sync: PriceSync) -> PriceSync:
    with transaction(engine, EVERYBODY) as connection:
        return get_sync(connection, sync.id)

"""The price sync: fetch LiteLLM's file, compare it with what stands, and apply the difference, or say why not.

A file that cannot be fetched whole or read changes nothing. One that removes much or moves prices far waits for
somebody's approval. Fetching and comparing hold no lock; applying is one short transaction.
"""

from __future__ import annotations

import threading
from typing import Final

import msgspec
from sqlalchemy import Engine

from farebox_ledger.catalog import read_litellm
from farebox_ledger.catalog.difference import Diff, Difference, compare
from farebox_ledger.catalog.download import Download, Limits, checked_origin, fetch
from farebox_ledger.errors import CatalogUnusable, Conflict, InvalidInput, LedgerError
from farebox_ledger.store import subjects
from farebox_ledger.store.catalog_state import lock_catalog
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Job, enqueue
from farebox_ledger.store.price_syncs import (
    SOURCE,
    Fetched,
    PriceSync,
    apply_difference,
    awaiting_content,
    begin_sync,
    counts,
    finish_sync,
    get_sync,
    known_etag,
    note_approval,
    standing_prices,
    standing_revision,
)
from farebox_ledger.store.price_tables import SyncStatus
from farebox_ledger.store.scope import AllOrganizations

DEFAULT_URL: Final = "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"
"""Where LiteLLM publishes its file: the default of its own LITELLM_MODEL_COST_MAP_URL."""

URL_VARIABLE: Final = "FAREBOX_PRICE_SYNC_URL"

ORDERED: Final = "run_price_sync"
"""The kind of job that does a sync which somebody has ordered; `sync_prices` looks at the schedule."""

_ORDERED_LIMITS: Final = Limits(total_s=60.0)
"""Half a job's lease, so that no other process takes it while the file is still coming."""

_EVERYBODY: Final = AllOrganizations()


class Order(msgspec.Struct, frozen=True):
    """What a job of the kind `run_price_sync` is told: the run that it is to do."""

    sync: str


class _Comparison(msgspec.Struct, frozen=True):
    """A file beside what stands. `base` is the revision that it was compared with; no difference: the same file."""

    base: str | None
    fetched: Fetched
    difference: Difference | None


def checked_source(source: str) -> str:
    """Answer the one source that is synced.

    Raises:
        InvalidInput: another one; genai-prices is shipped, OpenRouter's prices are no source.
    """
    if source != SOURCE:
        raise InvalidInput("source", f"{source[:64]!r} is not synced; expected {SOURCE!r}")
    return source


def sync_prices(engine: Engine, origin: str, *, limits: Limits | None = None) -> PriceSync:
    """Sync now, and answer the finished run, a failed one too.

    Raises:
        InvalidInput: the address is of a kind from which no catalog may come.
        Conflict: another sync is running; carries its id.
    """
    return run_sync(engine, request_sync(engine, origin), limits=limits)


def request_sync(engine: Engine, origin: str) -> PriceSync:
    """Write down that a sync begins; `run_sync` then does the work, in whatever thread or job.

    Raises:
        InvalidInput, Conflict: as `sync_prices`.
    """
    checked_origin(origin)
    with transaction(engine, _EVERYBODY, write=True) as connection:
        return begin_sync(connection, origin)


def order_sync(engine: Engine, origin: str, *, holder: str | None = None) -> tuple[PriceSync, Job]:
    """Write down a sync together with the job that does it, so that neither is without the other.

    `holder` runs the job at once; should its process end before, another takes the job over.

    Raises:
        InvalidInput, Conflict: as `sync_prices`.
    """
    checked_origin(origin)
    with transaction(engine, _EVERYBODY, write=True) as connection:
        sync = begin_sync(connection, origin)
        return sync, enqueue(connection, _EVERYBODY, ORDERED, Order(sync.id), holder=holder)


def run_ordered_sync(engine: Engine, job: Job, stop: threading.Event) -> dict[str, str]:
    """Do the sync of a job; one that another process has ended meanwhile is left as it is."""
    order = msgspec.json.decode(job.arguments, type=Order)
    with transaction(engine, _EVERYBODY) as connection:
        sync = get_sync(connection, order.sync)
    if sync.status == "running":
        sync = run_sync(engine, sync, limits=_ORDERED_LIMITS)
    return {"sync": sync.id, "status": sync.status}


def run_sync(engine: Engine, sync: PriceSync, *, limits: Limits | None = None) -> PriceSync:
    """Do the work of a requested sync and answer the finished run. What is wrong with the file ends up in the run.

    Raises:
        Exception: whatever is wrong with the database or with farebox itself; the run is then marked as failed.
    """
    try:
        return _run(engine, sync, limits)
    except CatalogUnusable as error:
        return _finish(engine, sync, "failed", str(error))
    except Exception as error:
        _finish(engine, sync, "failed", str(error) if isinstance(error, LedgerError) else "farebox made a mistake")
        raise


def preview_sync(engine: Engine, origin: str, *, limits: Limits | None = None) -> PriceSync:
    """Answer what a sync would do now, and do nothing.

    Raises:
        InvalidInput: as `sync_prices`.
        CatalogUnusable: the file cannot be fetched or read.
    """
    downloaded = fetch(origin, limits=limits)
    comparison = _compared(engine, Fetched(downloaded.content or b"", downloaded.etag))
    now_us = subjects.now_us()
    difference = comparison.difference
    sync = PriceSync(
        id="",
        source=SOURCE,
        origin=origin,
        status=_outcome(difference),
        requested_at_us=now_us,
        finished_at_us=now_us,
        detail=_reasons(difference),
        etag=downloaded.etag,
        sha256=comparison.fetched.sha256,
        size_bytes=len(comparison.fetched.content),
        diff=difference.diff() if difference else Diff([], [], [], []),
    )
    return msgspec.structs.replace(sync, **counts(difference)) if difference else sync


def approve_sync(engine: Engine, sync_id: str) -> PriceSync:
    """Apply a run that waits for approval, as it compares with what stands now.

    Raises:
        NotFound: there is no such run.
        Conflict: it does not wait, or another revision was applied meanwhile.
    """
    with transaction(engine, _EVERYBODY) as connection:
        fetched = awaiting_content(connection, sync_id)
    comparison = _compared(engine, fetched)
    with transaction(engine, _EVERYBODY, write=True) as connection:
        lock_catalog(connection)
        awaiting_content(connection, sync_id)  # nobody was faster
        if standing_revision(connection)[0] != comparison.base:
            raise Conflict("another revision was applied meanwhile: approve again")
        difference = comparison.difference or Difference([], [], [], [], 0)
        revision_id, at_us = apply_difference(connection, sync_id, difference, fetched, subjects.now_us())
        note_approval(connection, sync_id, at_us)
        return finish_sync(
            connection, sync_id, "applied", fetched=fetched, difference=difference, revision_id=revision_id
        )


def _run(engine: Engine, sync: PriceSync, limits: Limits | None) -> PriceSync:
    with transaction(engine, _EVERYBODY) as connection:
        etag = known_etag(connection, sync.origin)
    downloaded: Download = fetch(sync.origin, etag=etag, limits=limits)
    if downloaded.content is None:
        return _finish(engine, sync, "unchanged", etag=etag)
    comparison = _compared(engine, Fetched(downloaded.content, downloaded.etag))
    status = _outcome(comparison.difference)
    with transaction(engine, _EVERYBODY, write=True) as connection:
        lock_catalog(connection)
        if get_sync(connection, sync.id).status != "running":
            raise Conflict("this sync took so long that another one took its place")
        if standing_revision(connection)[0] != comparison.base:
            raise Conflict("another revision was applied meanwhile: sync again")
        revision_id = None
        if status == "applied" and comparison.difference is not None:
            revision_id, _ = apply_difference(
                connection, sync.id, comparison.difference, comparison.fetched, subjects.now_us()
            )
        return finish_sync(
            connection,
            sync.id,
            status,
            detail=_reasons(comparison.difference),
            fetched=comparison.fetched,
            difference=comparison.difference,
            revision_id=revision_id,
        )


def _compared(engine: Engine, fetched: Fetched) -> _Comparison:
    """Compare a file with what stands; the very file that stands is not read again.

    Raises:
        CatalogUnusable: it is no price file.
    """
    with transaction(engine, _EVERYBODY) as connection:
        base, digest = standing_revision(connection)
        if digest == fetched.sha256:
            return _Comparison(base, fetched, None)
        standing = standing_prices(connection)
    try:
        catalog = read_litellm(fetched.content)
    except InvalidInput as error:
        raise CatalogUnusable(error.detail) from error
    if not catalog.prices:
        raise CatalogUnusable("the file holds not one price: expected LiteLLM's price file")
    return _Comparison(base, fetched, compare(standing, catalog))


def _outcome(difference: Difference | None) -> SyncStatus:
    if difference is None or difference.is_empty:
        return "unchanged"
    return "awaiting_approval" if difference.suspicions() else "applied"


def _reasons(difference: Difference | None) -> str | None:
    return "; ".join(difference.suspicions()) or None if difference else None


def _finish(
    engine: Engine, sync: PriceSync, status: SyncStatus, detail: str | None = None, *, etag: str | None = None
) -> PriceSync:
    """End a run; one that another process has ended stays as that has left it."""
    with transaction(engine, _EVERYBODY, write=True) as connection:
        lock_catalog(connection)
        stands = get_sync(connection, sync.id)
        if stands.status != "running":
            return stands
        return finish_sync(connection, sync.id, status, detail=detail, etag=etag)

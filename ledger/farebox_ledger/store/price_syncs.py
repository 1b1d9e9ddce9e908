"""Runs of the price sync: what was fetched, what it changes, what became of it; and how a revision is applied.

A run is written when it is asked for and finished once. Applying one closes the rows of prices that changed or vanished
and opens new ones at one moment, in one transaction; no row is rewritten and none is deleted.
"""

from __future__ import annotations

import gzip
from hashlib import sha256
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, insert, select, tuple_, update

from farebox_ledger.catalog.difference import Diff, Difference
from farebox_ledger.errors import Conflict, NotFound
from farebox_ledger.pricing import Price, price_id
from farebox_ledger.pricing.names import comparable
from farebox_ledger.store import subjects
from farebox_ledger.store.audit import note
from farebox_ledger.store.catalog_state import lock_catalog, raise_catalog_version
from farebox_ledger.store.price_rows import insert_prices, read_prices
from farebox_ledger.store.price_tables import SyncSource, SyncStatus, price_syncs
from farebox_ledger.store.schema import price_revisions, prices
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.subjects import Position
from farebox_ledger.store.webhook_deliveries import emit, utc_text
from farebox_ledger.store.webhooks import WebhookEvent

SOURCE: Final[SyncSource] = "litellm"

LONGEST_RUN_US: Final = 10 * 60 * 1_000_000
"""A run that is older and not finished has lost its process."""

_decode_diff: Final = msgspec.json.Decoder(Diff).decode


class PriceSync(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `detail` says why it failed or waits; `diff` is None where nothing was compared, or not asked for."""

    id: str
    source: SyncSource
    origin: str
    status: SyncStatus
    requested_at_us: int
    finished_at_us: int | None = None
    approved_at_us: int | None = None
    detail: str | None = None
    etag: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    added: int = 0
    changed: int = 0
    removed: int = 0
    refused: int = 0
    revision_id: str | None = None
    diff: Diff | None = None


class Fetched(msgspec.Struct, frozen=True):
    """A file as it came."""

    content: bytes
    etag: str | None

    @property
    def sha256(self) -> str:
        """The digest by which a file is known again."""
        return sha256(self.content).hexdigest()


def begin_sync(connection: Connection, origin: str, *, now_us: int | None = None) -> PriceSync:
    """Write a run that begins now.

    Raises:
        Conflict: another one is running; carries its id.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    lock_catalog(connection)
    running = price_syncs.c.status == "running"
    is_lost = price_syncs.c.requested_at_us <= at_us - LONGEST_RUN_US
    for lost in connection.scalars(select(price_syncs.c.id).where(running, is_lost)).all():
        finish_sync(connection, lost, "failed", detail="the process that ran it ended before it was done")
    other = connection.execute(select(price_syncs.c.id).where(running)).scalar()
    if other is not None:
        raise Conflict(f"price sync {other!r} is running; wait for it", conflicting_id=other)
    sync = PriceSync(id=subjects.new_id("syn"), source=SOURCE, origin=origin, status="running", requested_at_us=at_us)
    connection.execute(
        insert(price_syncs).values(id=sync.id, source=SOURCE, origin=origin, status=sync.status, requested_at_us=at_us)
    )
    note(connection, "price_sync.start", "price_sync", sync.id, after=sync)
    return sync


def finish_sync(
    connection: Connection,
    sync_id: str,
    status: SyncStatus,
    *,
    detail: str | None = None,
    fetched: Fetched | None = None,
    etag: str | None = None,
    difference: Difference | None = None,
    revision_id: str | None = None,
    now_us: int | None = None,
) -> PriceSync:
    """Write what became of a run, and tell webhooks of one that waits or failed.

    One that waits for approval keeps its file, and the one that waited before ends.
    """
    values: dict[str, Any] = {"status": status, "detail": detail, "etag": etag, "revision_id": revision_id}
    if fetched is not None:
        values |= {"sha256": fetched.sha256, "size_bytes": len(fetched.content), "etag": fetched.etag}
    if difference is not None:
        values |= counts(difference) | {"diff": msgspec.json.encode(difference.diff()).decode()}
    if status in ("applied", "awaiting_approval"):
        _supersede(connection, sync_id)
    if status == "awaiting_approval" and fetched is not None:
        values["content"] = gzip.compress(fetched.content, mtime=0)
    values["finished_at_us"] = subjects.now_us() if now_us is None else now_us
    connection.execute(update(price_syncs).where(price_syncs.c.id == sync_id).values(**values))
    finished = get_sync(connection, sync_id)
    if status == "awaiting_approval":
        _tell(connection, "price_sync.awaiting_approval", finished)
    elif status == "failed":
        _tell(connection, "price_sync.failed", finished)
    return finished


def note_approval(connection: Connection, sync_id: str, at_us: int) -> None:
    """Write that somebody approved a run, whose file is then no longer kept."""
    connection.execute(
        update(price_syncs).where(price_syncs.c.id == sync_id).values(approved_at_us=at_us, content=None)
    )
    note(connection, "price_sync.approve", "price_sync", sync_id)


def counts(difference: Difference) -> dict[str, int]:
    """Count what changes."""
    return {
        "added": len(difference.added),
        "changed": len(difference.changed),
        "removed": len(difference.removed),
        "refused": len(difference.refused),
    }


def get_sync(connection: Connection, sync_id: str) -> PriceSync:
    """Find a run, with its diff.

    Raises:
        NotFound: there is none.
    """
    return _sync(_row(connection, sync_id), with_diff=True)


def list_syncs(connection: Connection, *, limit: int = 100, after: Position | None = None) -> list[PriceSync]:
    """List runs, newest first, without their diffs."""
    listed = select(*(column for column in price_syncs.c if column.name not in ("diff", "content")))
    if after is not None:
        listed = listed.where(tuple_(price_syncs.c.requested_at_us, price_syncs.c.id) < after)
    listed = listed.order_by(price_syncs.c.requested_at_us.desc(), price_syncs.c.id.desc()).limit(limit)
    return [_sync(row, with_diff=False) for row in connection.execute(listed)]


def awaiting_content(connection: Connection, sync_id: str) -> Fetched:
    """Answer the file of a run that waits for approval.

    Raises:
        NotFound: there is no such run.
        Conflict: it does not wait for approval.
    """
    row = _row(connection, sync_id)
    if row.status != "awaiting_approval" or row.content is None:
        raise Conflict(f"price sync {sync_id!r} is {row.status}; only one that is awaiting_approval can be approved")
    return Fetched(gzip.decompress(row.content), row.etag)


def known_etag(connection: Connection, origin: str) -> str | None:
    """Answer the ETag of the file that stands, where it came from that address; None where another one stands."""
    settled = price_syncs.c.status.in_(("applied", "unchanged"))
    last = connection.execute(
        select(price_syncs.c.origin, price_syncs.c.etag, price_syncs.c.sha256)
        .where(price_syncs.c.source == SOURCE, settled)
        .order_by(price_syncs.c.requested_at_us.desc(), price_syncs.c.id.desc())
        .limit(1)
    ).one_or_none()
    return last.etag if last is not None and last.origin == origin else None


def standing_revision(connection: Connection) -> tuple[str | None, str | None]:
    """Answer the id and the digest of the revision that stands, Nones where there is none."""
    found = connection.execute(
        select(price_revisions.c.id, price_revisions.c.sha256)
        .where(price_revisions.c.source == SOURCE, price_revisions.c.status == "applied")
        .order_by(price_revisions.c.applied_at_us.desc(), price_revisions.c.id.desc())
        .limit(1)
    ).one_or_none()
    return (None, None) if found is None else (found.id, found.sha256)


def standing_prices(connection: Connection) -> list[Price]:
    """Read the synced prices that stand: neither closed nor retired."""
    return list(read_prices(connection, prices.c.source == SOURCE, prices.c.effective_to_us.is_(None)))


def apply_difference(
    connection: Connection, sync_id: str, difference: Difference, fetched: Fetched, at_us: int
) -> tuple[str, int]:
    """Make a revision of a difference: close what changed or vanished and open what is new, all at one moment.

    A model that the catalog lists for the first time has had its price since ever: calls that came before the catalog
    knew it wait for exactly that. Answers the revision's id and the moment, which lies behind all earlier ones.
    """
    at_us = max(at_us, _last_begin(connection) + 1)
    connection.execute(
        insert(price_revisions).values(
            id=sync_id,
            source=SOURCE,
            revision=fetched.etag,
            sha256=fetched.sha256,
            fetched_at_us=at_us,
            applied_at_us=at_us,
            status="applied",
            **counts(difference),
        )
    )
    _close(connection, [old for old, _ in difference.changed], at_us, retired=False)
    _close(connection, difference.removed, at_us, retired=True)
    known = _known_names(connection) if difference.added else set()
    opened = [_opened(new, at_us) for _, new in difference.changed]
    opened += [
        _opened(new, at_us if (new.provider, comparable(new.model)) in known else None) for new in difference.added
    ]
    insert_prices(connection, opened, sync_id)
    raise_catalog_version(connection)
    return sync_id, at_us


def _supersede(connection: Connection, sync_id: str) -> None:
    connection.execute(
        update(price_syncs)
        .where(price_syncs.c.status == "awaiting_approval", price_syncs.c.id != sync_id)
        .values(status="superseded", detail=f"a later sync took its place: {sync_id}", content=None)
    )


def _last_begin(connection: Connection) -> int:
    last = func.max(func.coalesce(prices.c.effective_from_us, 0))
    return connection.execute(select(last).where(prices.c.source == SOURCE)).scalar() or 0


def _close(connection: Connection, closed: list[Price], at_us: int, *, retired: bool) -> None:
    if closed:
        connection.execute(
            update(prices)
            .where(prices.c.id == bindparam("closed_id"))
            .values(effective_to_us=at_us, retired=int(retired)),
            [{"closed_id": price.id} for price in closed],
        )


def _known_names(connection: Connection) -> set[tuple[str, str]]:
    listed = select(prices.c.provider, prices.c.model).where(prices.c.source == SOURCE)
    return {(row.provider, comparable(row.model)) for row in connection.execute(listed)}


def _opened(price: Price, from_us: int | None) -> Price:
    identity = price_id(
        SOURCE, price.provider, price.model, price.rates, currency=price.currency, effective_from_us=from_us
    )
    return msgspec.structs.replace(price, id=identity, effective_from_us=from_us)


def _tell(connection: Connection, event: WebhookEvent, sync: PriceSync) -> None:
    """Tell the system's webhooks what became of a run; the run's id names the message, so that it is told once."""
    counted = {name: getattr(sync, name) for name in ("added", "changed", "removed", "refused")}
    told = {"id": sync.id, "source": sync.source, "url": sync.origin, "detail": sync.detail, **counted}
    emit(connection, AllOrganizations(), event, sync.id, told | {"requested_at": utc_text(sync.requested_at_us)})


def _row(connection: Connection, sync_id: str) -> Row[Any]:
    condition: ColumnElement[bool] = price_syncs.c.id == sync_id
    found = connection.execute(select(price_syncs).where(condition)).one_or_none()
    if found is None:
        raise NotFound("price sync", sync_id)
    return found


def _sync(row: Row[Any], *, with_diff: bool) -> PriceSync:
    fields = {name: getattr(row, name) for name in PriceSync.__struct_fields__ if name != "diff"}
    diff = _decode_diff(row.diff) if with_diff and row.diff is not None else None
    return PriceSync(**fields, diff=diff)

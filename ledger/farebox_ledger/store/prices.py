"""Prices in the database: what the price book is made from, and how an empty catalog gets its first prices.

Rows are immutable; each belongs to a revision of its source. Every change of prices raises `catalog_state.version`, by
which running processes learn that their book is old.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Row, Select, func, insert, or_, select, text, tuple_, update

from farebox_ledger.catalog import Snapshot, shipped_prices, shipped_snapshots
from farebox_ledger.pricing import Price, PriceBook, Rates, canonical_provider
from farebox_ledger.store.engine import is_sqlite, transaction
from farebox_ledger.store.schema import catalog_state, price_revisions, prices
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope

_CATALOG_LOCK: Final = 0x6661_7265_626F_7802  # "farebox" and 2: the advisory lock of everyone who fills the catalog

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_rates: Final = msgspec.json.Decoder(Rates).decode

_COLUMNS: Final = tuple(prices.c[name] for name in Price.__struct_fields__)
_SELECT: Final[Select[Any]] = select(*_COLUMNS)


def load_book(connection: Connection) -> PriceBook:
    """Read all prices into a book of the current catalog version; about 0.1 s for the shipped catalog."""
    return PriceBook((_price(row) for row in connection.execute(_SELECT)), catalog_version(connection))


def catalog_version(connection: Connection) -> int:
    """Answer the number that every change of prices raises; 0 before the first one."""
    return connection.execute(select(catalog_state.c.version)).scalar() or 0


def raise_catalog_version(connection: Connection) -> int:
    """Tell every process that prices have changed; part of the transaction that changes them."""
    version = catalog_version(connection) + 1
    changed = connection.execute(update(catalog_state).where(catalog_state.c.id == 1).values(version=version))
    if not changed.rowcount:
        connection.execute(insert(catalog_state).values(id=1, version=version))
    return version


def ensure_shipped_prices(engine: Engine) -> int:
    """Fill a catalog that has no prices of a source from the snapshots shipped with farebox.

    Answers how many prices were added: 0 when the catalog had them already. One transaction, safe beside other
    processes that do the same.
    """
    with transaction(engine, AllOrganizations()) as connection:
        if not _missing(connection):
            return 0
    with transaction(engine, AllOrganizations(), write=True) as connection:
        if not is_sqlite(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CATALOG_LOCK})
        added = sum(_apply(connection, snapshot) for snapshot in _missing(connection))
        if added:
            raise_catalog_version(connection)
        return added


def list_prices(
    connection: Connection,
    scope: Scope,
    *,
    search: str | None = None,
    provider: str | None = None,
    limit: int = 100,
    after: tuple[str, str, str] | None = None,
) -> list[Price]:
    """List prices by provider, model and id, retired ones among them.

    `search` is a part of the model's name in any case; `after` the (provider, model, id) of the last price that the
    caller has. An organization sees its own overrides and those of everybody.
    """
    listed = _SELECT.order_by(prices.c.provider, prices.c.model, prices.c.id).limit(limit)
    if isinstance(scope, OrgScope):
        listed = listed.where(or_(prices.c.org_id.is_(None), prices.c.org_id == scope.org_id))
    if provider:
        listed = listed.where(prices.c.provider == canonical_provider(provider))
    if search:
        listed = listed.where(func.lower(prices.c.model).contains(search.lower(), autoescape=True))
    if after:
        listed = listed.where(tuple_(prices.c.provider, prices.c.model, prices.c.id) > after)
    return [_price(row) for row in connection.execute(listed)]


def insert_prices(connection: Connection, added: Sequence[Price], revision_id: str | None) -> None:
    """Write new prices; the caller raises the catalog version."""
    if added:
        connection.execute(insert(prices), [{**_row(price), "revision_id": revision_id} for price in added])


def _missing(connection: Connection) -> list[Snapshot]:
    present = set(connection.execute(select(price_revisions.c.source).distinct()).scalars())
    return [snapshot for snapshot in shipped_snapshots() if snapshot.source not in present]


def _apply(connection: Connection, snapshot: Snapshot) -> int:
    catalog = shipped_prices(snapshot)
    now_us = time.time_ns() // 1000
    revision_id = f"{snapshot.source}-{snapshot.sha256[:16]}"
    connection.execute(
        insert(price_revisions).values(
            id=revision_id,
            source=snapshot.source,
            revision=snapshot.revision,
            sha256=snapshot.sha256,
            fetched_at_us=now_us,
            applied_at_us=now_us,
            added=len(catalog.prices),
            refused=len(catalog.refused),
            status="applied",
        )
    )
    insert_prices(connection, catalog.prices, revision_id)
    return len(catalog.prices)


def _row(price: Price) -> dict[str, Any]:
    row = msgspec.structs.asdict(price)
    row["rates"] = _encode(price.rates).decode()
    row["retired"] = int(price.retired)
    return row


def _price(row: Row[Any]) -> Price:
    fields = dict(row._mapping)
    fields["rates"] = _decode_rates(fields["rates"])
    fields["retired"] = bool(fields["retired"])
    return Price(**fields)

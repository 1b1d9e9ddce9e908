"""Prices in the database: what the price book is made from, and how an empty catalog gets its first prices.

Rows are immutable; each belongs to a revision of its source. Every change of prices raises `catalog_state.version`, by
which running processes learn that their book is old.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import chain

from sqlalchemy import Connection, Engine, func, insert, or_, select, tuple_

from farebox_ledger.catalog import Snapshot, shipped_prices, shipped_snapshots
from farebox_ledger.pricing import ModelAlias, Price, PriceBook, canonical_provider
from farebox_ledger.store.aliases import all_aliases
from farebox_ledger.store.catalog_state import catalog_version, lock_catalog, raise_catalog_version
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.model_configs import all_model_configs
from farebox_ledger.store.multipliers import all_multipliers
from farebox_ledger.store.policies import all_policies
from farebox_ledger.store.price_rows import SELECT_PRICES, insert_prices, price_of, read_prices
from farebox_ledger.store.schema import price_revisions, prices
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope

__all__ = [
    "catalog_version",
    "ensure_shipped_prices",
    "insert_prices",
    "list_prices",
    "load_book",
    "raise_catalog_version",
]


def load_book(
    connection: Connection, *, more_prices: Iterable[Price] = (), more_aliases: Iterable[ModelAlias] = ()
) -> PriceBook:
    """Read all prices, and what changes how they are found, into a book of the current catalog version.

    About 0.1 s for the shipped catalog. What is given besides stands in no catalog; it makes a book to try things with.
    """
    return PriceBook(
        chain(read_prices(connection), more_prices),
        catalog_version(connection),
        aliases=[*all_aliases(connection), *more_aliases],
        multipliers=all_multipliers(connection),
        policies=all_policies(connection),
        configurations=all_model_configs(connection),
    )


def ensure_shipped_prices(engine: Engine) -> int:
    """Fill a catalog that has no prices of a source from the snapshots shipped with farebox.

    Answers how many prices were added: 0 when the catalog had them already. One transaction, safe beside other
    processes that do the same.
    """
    with transaction(engine, AllOrganizations()) as connection:
        if not _missing(connection):
            return 0
    with transaction(engine, AllOrganizations(), write=True) as connection:
        lock_catalog(connection)
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
    listed = SELECT_PRICES.order_by(prices.c.provider, prices.c.model, prices.c.id).limit(limit)
    if isinstance(scope, OrgScope):
        listed = listed.where(or_(prices.c.org_id.is_(None), prices.c.org_id == scope.org_id))
    if provider:
        listed = listed.where(prices.c.provider == canonical_provider(provider))
    if search:
        listed = listed.where(func.lower(prices.c.model).contains(search.lower(), autoescape=True))
    if after:
        listed = listed.where(tuple_(prices.c.provider, prices.c.model, prices.c.id) > after)
    return [price_of(row) for row in connection.execute(listed)]


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

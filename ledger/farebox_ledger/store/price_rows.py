"""Prices as rows: written once, read back as they went in. Who writes them raises the catalog version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from sys import intern
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select

from farebox_ledger.pricing import Price, Rates
from farebox_ledger.store.price_tables import price_override_terms
from farebox_ledger.store.schema import prices

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_rates: Final = msgspec.json.Decoder(Rates).decode

_REPEATED: Final = ("source", "provider", "model", "currency", "mode", "source_url")
"""The texts of a price that others have as well."""

_WITHDRAWN: Final = select(price_override_terms.c.id).where(price_override_terms.c.withdrawn_at_us.is_not(None))

SELECT_PRICES: Final[Select[Any]] = select(*(prices.c[name] for name in Price.__struct_fields__)).where(
    prices.c.id.not_in(_WITHDRAWN)
)
"""All prices but those that were withdrawn before they came to hold."""


def insert_prices(connection: Connection, added: Sequence[Price], revision_id: str | None) -> None:
    """Write new prices; the caller raises the catalog version."""
    if added:
        connection.execute(insert(prices), [{**_row(price), "revision_id": revision_id} for price in added])


def read_prices(connection: Connection, *conditions: ColumnElement[bool]) -> Iterator[Price]:
    """Read the prices that meet all conditions, in no promised order.

    Equal rates become one object, equal names too: of three prices of a catalog two repeat what another one says, and
    a book of them lives as long as its process.
    """
    rates_of = cache(_decode_rates)
    for row in connection.execute(SELECT_PRICES.where(*conditions)):
        yield price_of(row, rates_of)


def price_of(row: Row[Any], rates_of: Callable[[str], Rates] = _decode_rates) -> Price:
    """Read one row of `SELECT_PRICES`."""
    fields = dict(row._mapping)
    for name in _REPEATED:
        fields[name] = fields[name] and intern(fields[name])
    fields["rates"] = rates_of(fields["rates"])
    fields["retired"] = bool(fields["retired"])
    return Price(**fields)


def _row(price: Price) -> dict[str, Any]:
    row = msgspec.structs.asdict(price)
    row["rates"] = _encode(price.rates).decode()
    row["retired"] = int(price.retired)
    return row

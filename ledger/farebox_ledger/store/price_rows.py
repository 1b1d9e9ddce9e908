"""Prices as rows: written once, read back as they went in. Who writes them raises the catalog version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select

from farebox_ledger.pricing import Price, Rates
from farebox_ledger.store.price_tables import price_override_terms
from farebox_ledger.store.schema import prices

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_rates: Final = msgspec.json.Decoder(Rates).decode

_WITHDRAWN: Final = select(price_override_terms.c.id).where(price_override_terms.c.withdrawn_at_us.is_not(None))

SELECT_PRICES: Final[Select[Any]] = select(*(prices.c[name] for name in Price.__struct_fields__)).where(
    prices.c.id.not_in(_WITHDRAWN)
)
"""All prices but those that were withdrawn before they came to hold."""


def insert_prices(connection: Connection, added: Sequence[Price], revision_id: str | None) -> None:
    """Write new prices; the caller raises the catalog version."""
    if added:
        connection.execute(insert(prices), [{**_row(price), "revision_id": revision_id} for price in added])


def read_prices(connection: Connection, *conditions: ColumnElement[bool]) -> Iterable[Price]:
    """Read the prices that meet all conditions, in no promised order."""
    return (price_of(row) for row in connection.execute(SELECT_PRICES.where(*conditions)))


def price_of(row: Row[Any]) -> Price:
    """Read one row of `SELECT_PRICES`."""
    fields = dict(row._mapping)
    fields["rates"] = _decode_rates(fields["rates"])
    fields["retired"] = bool(fields["retired"])
    return Price(**fields)


def _row(price: Price) -> dict[str, Any]:
    row = msgspec.structs.asdict(price)
    row["rates"] = _encode(price.rates).decode()
    row["retired"] = int(price.retired)
    return row

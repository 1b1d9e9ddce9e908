"""All tables of the books: the metadata of `schema`, complete. Who needs every table imports it from here."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData

from farebox_ledger.store import administration_tables, budget_tables, credit_tables, price_tables, quarantine
from farebox_ledger.store.schema import metadata as _metadata

metadata: Final[MetaData] = _metadata

MODULES: Final = (administration_tables, price_tables, credit_tables, quarantine, budget_tables)
"""The modules whose import makes the tables."""

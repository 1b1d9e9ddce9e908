"""`farebox migrate`: bring the database to the schema of this version, and give an empty catalog its prices."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.store.engine import redacted
from farebox_ledger.store.migrations import SchemaState, schema_state
from farebox_ledger.store.migrations import migrate as migrate_schema
from farebox_ledger.store.prices import ensure_shipped_prices

_DESCRIPTION = """\
Bring the database of FAREBOX_DATABASE_URL (an SQLite file of the user unless set) to the schema of this version, and
fill an empty price catalog with the shipped prices. Safe to run twice, and beside running collectors."""

_OUTCOMES: dict[SchemaState, str] = {
    "empty": "made the tables",
    "older": "brought the tables to this version",
    "current": "the tables are current",
}


def migrate(arguments: Sequence[str]) -> int:
    """Bring the database to the current schema.

    The exit code: 0 done, 1 the database cannot be used, 2 wrong use.
    """
    parser = argparse.ArgumentParser("farebox migrate", description=_DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    options = parser.parse_args(arguments)
    return guarded("farebox migrate", lambda: _migrate(as_json=options.json))


def _migrate(*, as_json: bool) -> None:
    with opened_database(with_schema=False) as engine:
        before = schema_state(engine)
        migrate_schema(engine)
        added = ensure_shipped_prices(engine)
        database = redacted(engine.url)
    if as_json:
        print_json({"database": database, "before": before, "schema": "current", "prices_added": added})
    else:
        print(f"{database}: {_OUTCOMES[before]}, {added} shipped prices added")

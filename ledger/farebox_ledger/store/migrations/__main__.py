"""Migrates the database that FAREBOX_DATABASE_URL names, for a process that stays small by leaving it to another one.

People say `farebox migrate`, which names what was done.
"""

from __future__ import annotations

import os

from farebox_ledger.store.engine import URL_VARIABLE, open_engine
from farebox_ledger.store.migrations import migrate

if __name__ == "__main__":
    migrate(open_engine(os.environ[URL_VARIABLE]))

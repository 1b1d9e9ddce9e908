from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.running import Running, config_for, running


@pytest.fixture
def collector(tmp_path: Path, sqlite_url: str) -> Iterator[Running]:
    """Run a collector that books into an SQLite file and takes senders without a key."""
    with running(config_for(tmp_path, database_url=sqlite_url)) as started:
        yield started

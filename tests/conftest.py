"""Fixtures for everybody: `engine` runs a test once on SQLite and once on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine
from xdist.scheduler import LoadScopeScheduling

from farebox_ledger.store.engine import open_engine
from farebox_ledger.store.migrations import migrate
from tests.databases import PostgresServer, postgres_is_available, postgres_server

INSTRUMENTATION = "tests/instrumentation/"
DATABASES = ("sqlite", "postgresql") if postgres_is_available() else ("sqlite",)

# By default an example of a property fails after 200 ms, and so do ten that are drawn in a second: how long they take
# is up to whatever else the machine does. The limit of pytest-timeout ends what hangs.
settings.register_profile("farebox", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("farebox")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Where processes share the tests, a file stays in one; so do all files of the instrumentation.

    Those patch the SDKs of their process, and compare what they have called with docs/sdk-matrix.md.
    """

    def _split_scope(self, nodeid: str) -> str:
        return INSTRUMENTATION if nodeid.startswith(INSTRUMENTATION) else nodeid.split("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Let `-n` share the tests as `ByFile` does."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server, its template database migrated."""
    with postgres_server() as server:
        template = server.create(server.template)
        try:
            _migrate(template.render_as_string(hide_password=False))
            yield server
        finally:
            server.drop(template)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one migrated SQLite file, to be copied."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Name a migrated SQLite file of the test's own."""
    file = tmp_path / "farebox.db"
    shutil.copy(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Name a migrated PostgreSQL database of the test's own."""
    url = postgres.clone()
    yield url.render_as_string(hide_password=False)
    postgres.drop(url)


@pytest.fixture
def empty_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Name a PostgreSQL database without tables."""
    url = postgres.clone("template0")
    yield url.render_as_string(hide_password=False)
    postgres.drop(url)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Name a migrated database of the test's own, on each kind in turn."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a database without tables, on each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Open a migrated database, on each kind in turn."""
    yield from _opened(database_url)


@pytest.fixture
def empty_engine(empty_database_url: str) -> Iterator[Engine]:
    """Open a database without tables, on each kind in turn."""
    yield from _opened(empty_database_url)


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    """Open a migrated SQLite file."""
    yield from _opened(sqlite_url)


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[Engine]:
    """Open a migrated PostgreSQL database."""
    yield from _opened(postgres_url)


def _opened(url: str) -> Iterator[Engine]:
    opened = open_engine(url)
    yield opened
    opened.dispose()


def _migrate(url: str) -> None:
    opened = open_engine(url)
    migrate(opened)
    opened.dispose()  # the last connection checkpoints SQLite's log into the file that gets copied

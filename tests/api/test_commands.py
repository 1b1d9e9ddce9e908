"""`farebox api` and `farebox up` as an operator meets them: a process, its lines, its exit code."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import BOOTSTRAP_KEY, bearer

START_TIMEOUT_S = 60.0


class Command:
    """A farebox command as a child process on a folder of its own."""

    def __init__(self, name: str, folder: Path, **settings: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX_", "OTEL_"))}
        listens = {f"FAREBOX_{door}_LISTEN": "127.0.0.1:0" for door in ("API", "GRPC", "HTTP")}
        self.output = folder / f"{name}-{time.monotonic_ns()}.log"
        self._child = subprocess.Popen(
            [sys.executable, "-c", f"import sys; from farebox_api.commands import {name}; sys.exit({name}([]))"],
            env={
                **environment,
                **listens,
                "FAREBOX_DATABASE_URL": f"sqlite:///{folder / 'farebox.db'}",
                "FAREBOX_SPOOL_DIR": str(folder / "spool"),
                **settings,
            },
            stdout=self.output.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def wait_for(self, pattern: str) -> str:
        """Answer the first group of the first match in the output."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.text):
                return match[1]
            assert self._child.poll() is None, f"ended with {self._child.returncode}:\n{self.text}"
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} within {START_TIMEOUT_S:.0f} s:\n{self.text}")

    @property
    def text(self) -> str:
        return self.output.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.signal(number)
        return self.wait()

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def wait(self) -> int:
        return self._child.wait(timeout=START_TIMEOUT_S)

    def kill(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait(timeout=30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start commands that are ended with the test."""
    started: list[Command] = []

    def run(name: str, **settings: str) -> Command:
        started.append(Command(name, tmp_path, **settings))
        return started[-1]

    yield run
    for command in started:
        command.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_farebox_api_makes_an_empty_database_answers_and_ends_cleanly(start: Any, number: int) -> None:
    command = start("api", FAREBOX_ADMIN_KEY=BOOTSTRAP_KEY)
    url = command.wait_for(r"farebox api: (http://127\.0\.0\.1:\d+)")

    organizations = httpx.get(f"{url}/v1/organizations", headers=bearer(BOOTSTRAP_KEY), timeout=10)

    assert organizations.json() == {"items": [], "next_cursor": None, "has_more": False}
    assert httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    head = httpx.head(f"{url}/healthz", timeout=10)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "15", b"")
    assert command.end(number) == 0
    assert BOOTSTRAP_KEY not in command.text
    assert "Traceback" not in command.text


def test_a_request_under_way_is_answered_before_the_end(start: Any) -> None:
    command = start("api", FAREBOX_ADMIN_KEY=BOOTSTRAP_KEY)
    port = int(command.wait_for(r"farebox api: http://127\.0\.0\.1:(\d+)"))
    body = b'{"slug": "last-minute"}'
    head = (
        f"POST /v1/organizations HTTP/1.1\r\nHost: x\r\nx-api-key: {BOOTSTRAP_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head.encode() + body[:5])
        time.sleep(0.3)
        command.signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(body[5:])
        answered = connection.recv(65536)

    assert answered.startswith(b"HTTP/1.1 201 ")
    assert command.wait() == 0


def test_a_taken_port_is_one_line_that_names_the_variable(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = start("api", FAREBOX_API_LISTEN=address)

        assert command.wait() == 2

    assert command.text.count("\n") == 1
    assert command.text.startswith(f"farebox api: FAREBOX_API_LISTEN: cannot listen on {address}: ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FAREBOX_API_LISTEN", "nonsense"),
        ("FAREBOX_DATABASE_URL", "mysql://host/db"),
        ("FAREBOX_ADMIN_KEY", "short"),
        ("FAREBOX_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_variable(start: Any, variable: str, value: str) -> None:
    command = start("api", **{variable: value})

    assert command.wait() == 2
    assert command.text.count("\n") == 1
    assert command.text.startswith(f"farebox api: {variable}: ")


def test_files_that_are_no_certificate_are_one_line_that_names_the_variable(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("no certificate")

    command = start("api", FAREBOX_TLS_CERT=str(file), FAREBOX_TLS_KEY=str(file))

    assert command.wait() == 2
    assert command.text.startswith("farebox api: FAREBOX_TLS_CERT: the TLS files cannot be used: ")
    assert command.text.count("\n") == 1


def test_a_schema_of_another_version_is_refused_with_the_cure(start: Any, tmp_path: Path, sqlite_url: str) -> None:
    with sqlite3.connect(tmp_path / "farebox.db") as connection:
        connection.execute("UPDATE farebox_schema SET version_num = 'from the future'")

    command = start("api")

    assert command.wait() == 1
    assert re.fullmatch(r"farebox api: the schema of \S+ is newer than this farebox: upgrade farebox\n", command.text)


def test_farebox_up_runs_both_and_shows_the_admin_key_once(start: Any) -> None:
    first = start("up")
    url = first.wait_for(r"farebox up: api (http://127\.0\.0\.1:\d+)")
    key = first.wait_for(r"farebox up: admin key (fbx_\w{8}_\w{43})")
    collector = first.wait_for(r"farebox collector: grpc 127\.0\.0\.1:\d+, http (127\.0\.0\.1:\d+)")

    organizations = httpx.get(f"{url}/v1/organizations", headers=bearer(key), timeout=10).json()
    price = httpx.get(f"{url}/v1/prices/resolve?provider=openai&model=gpt-4o", headers=bearer(key), timeout=10).json()

    assert [item["slug"] for item in organizations["items"]] == ["default"]
    assert price["price"]["source"] == "litellm"
    assert httpx.get(f"http://{collector}/healthz", timeout=10).status_code == 200
    assert first.end() == 0
    assert first.text.count(key) == 1

    second = start("up")
    url = second.wait_for(r"farebox up: api (http://\S+)")

    assert httpx.get(f"{url}/v1/organizations", headers=bearer(key), timeout=10).status_code == 200
    assert second.end(signal.SIGINT) == 0
    assert "admin key" not in second.text
    assert "Traceback" not in first.text + second.text


@pytest.mark.parametrize("door", ["API", "GRPC", "HTTP"])
def test_farebox_up_names_the_variable_of_a_taken_port(start: Any, door: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = start("up", **{f"FAREBOX_{door}_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}"})

        assert command.wait() == 2

    assert f"farebox up: FAREBOX_{door}_LISTEN: " in command.text
    assert "Traceback" not in command.text


def test_farebox_up_makes_the_organization_that_is_asked_for(start: Any) -> None:
    command = start("up", FAREBOX_DEFAULT_ORG="acme", FAREBOX_ADMIN_KEY=BOOTSTRAP_KEY)
    url = command.wait_for(r"farebox up: api (http://\S+)")

    organizations = httpx.get(f"{url}/v1/organizations", headers=bearer(BOOTSTRAP_KEY), timeout=10).json()

    assert [item["slug"] for item in organizations["items"]] == ["acme"]
    assert command.end() == 0

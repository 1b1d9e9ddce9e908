"""Starts the whole line on free loopback ports: a fake provider, `farebox up`, and apps as processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
FAREBOX = (str(Path(sys.executable).with_name("farebox")),)
START_TIMEOUT_S = 60.0
LOOPBACK = dict.fromkeys(("FAREBOX_API_LISTEN", "FAREBOX_GRPC_LISTEN", "FAREBOX_HTTP_LISTEN"), "127.0.0.1:0")


class Organization(NamedTuple):
    slug: str
    ingest_key: str


class Process:
    """A child process whose standard output is kept and can be waited for."""

    def __init__(self, command: Iterable[str], environment: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._child = subprocess.Popen(
            [*command],
            cwd=ROOT,
            env={**clean_environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Answer the first line that matches; fails when the process ends or stays silent for too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            if self._child.poll() is not None:
                self._reader.join(2)
                raise RuntimeError(f"ended with {self._child.returncode} before {pattern!r}:\n" + "\n".join(self.lines))
            time.sleep(0.02)
        raise TimeoutError(f"no line {pattern!r} within {START_TIMEOUT_S:.0f} s:\n" + "\n".join(self.lines))

    def stop(self) -> int:
        """End the process as an operator would and answer its exit code."""
        if self._child.poll() is None:
            self._child.terminate()
        return self._child.wait(timeout=30)

    def kill(self) -> None:
        """End the process without any chance to tidy up."""
        self._child.kill()
        self._child.wait(timeout=30)

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self.lines.append(line.rstrip("\n"))


@dataclass
class Farebox:
    """A running `farebox up` and how to reach it."""

    process: Process
    environment: dict[str, str]
    api_url: str
    otlp_http_url: str
    otlp_grpc_address: str
    admin_key: str | None

    def get(self, path: str, key: str | None = None) -> Any:
        """Ask the API, as the administrator unless another key is given."""
        headers = {"Authorization": f"Bearer {key or self.admin_key}"}
        request = urllib.request.Request(self.api_url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def command(self, *arguments: str) -> str:
        """Run a farebox command on the same database and answer what it printed."""
        return run_to_end([*FAREBOX, *arguments], self.environment)

    def make_organization(self, slug: str) -> Organization:
        """Create an organization and a key that may only send."""
        self.command("orgs", "create", slug)
        printed = self.command("keys", "create", "--org", slug, "--scope", "ingest", "--json")
        return Organization(slug, json.loads(printed)["key"])

    def wait_for_rows(self, organization: str, count: int, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """Answer the organization's rows, newest first, as soon as there are `count`, or what there is at the end."""
        deadline = time.monotonic() + timeout_s
        while True:
            rows: list[dict[str, Any]] = self.get(f"/v1/usage?organization={organization}&limit=500")["items"]
            if len(rows) >= count or time.monotonic() > deadline:
                return rows
            time.sleep(0.05)


@contextmanager
def running_farebox(folder: Path, **environment: str) -> Iterator[Farebox]:
    """Run `farebox up` in `folder` until the block ends; a second run there finds the first one's books."""
    farebox = start_farebox(folder, **environment)
    try:
        yield farebox
    finally:
        farebox.process.stop()


def start_farebox(folder: Path, **environment: str) -> Farebox:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "FAREBOX_DATABASE_URL": f"sqlite:///{folder / 'farebox.db'}",
        "FAREBOX_SPOOL_DIR": str(folder / "spool"),
        **LOOPBACK,
        **environment,
    }
    process = Process([*FAREBOX, "up"], settings)
    api_url = process.wait_for(r"api (http://\S+)")[1]
    ports = process.wait_for(r"grpc (\S+:\d+), http (\S+:\d+)")
    return Farebox(process, settings, api_url, f"http://{ports[2]}", ports[1], first_admin_key(process))


def first_admin_key(process: Process) -> str | None:
    keys = (re.search(r"admin key (fbx_\S+)", line) for line in process.lines)
    return next((match[1] for match in keys if match), None)


def run_app(farebox: Farebox, provider_url: str, organization: Organization, script: str | None = None) -> str:
    """Run the application as its user would: one variable switches farebox on, the others say where things are."""
    return run_to_end(
        [sys.executable, script or str(Path(__file__).with_name("app.py"))],
        {
            "FAREBOX_ENABLED": "1",
            "FAREBOX_ENDPOINT": farebox.otlp_http_url,
            "FAREBOX_INGEST_KEY": organization.ingest_key,
            "FAREBOX_BUFFER_DIR": str(Path(farebox.environment["FAREBOX_SPOOL_DIR"]).parent / "buffer"),
            "OPENAI_API_KEY": f"sk-openai-of-{organization.slug}",
            "OPENAI_BASE_URL": f"{provider_url}/v1",
            "ANTHROPIC_API_KEY": f"sk-anthropic-of-{organization.slug}",
            "ANTHROPIC_BASE_URL": provider_url,
        },
    )


def run_to_end(command: list[str], environment: Mapping[str, str]) -> str:
    """Run a program and answer what it printed; a failure raises with its standard error."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """The environment without settings that would change what farebox or an SDK does."""
    prefixes = ("FAREBOX_", "OTEL_", "OPENAI_", "ANTHROPIC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}

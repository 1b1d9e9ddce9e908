"""The real JavaScript exporters against a real collector that is restarted every few seconds.

Node.js and npm are needed; `.ci/run` installs them where they are missing, elsewhere these tests say that they did not
run.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.collector.running import Child, rows

SCRIPTS = Path(__file__).with_name("js")
RESTARTS = 3
RESTART_AFTER_S = 3
AWAY_S = 0.5  # and the time that a process takes to start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="Node.js and npm are not installed"),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exporters from npm, installed beside the script."""
    return with_exporters(tmp_path_factory.mktemp("js"))


def with_exporters(folder: Path) -> Path:
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    subprocess.run(install, cwd=folder, check=True, timeout=240)
    return folder


@pytest.mark.parametrize("kind", ["proto", "http", "grpc"])
def test_what_a_javascript_exporter_was_told_is_accepted_is_booked_once_and_nothing_else(
    scripts: Path, tmp_path: Path, sqlite_engine: Engine, kind: str
) -> None:
    collector = Child(tmp_path)
    http = collector.started()
    addresses = {"FAREBOX_GRPC_LISTEN": collector.grpc_address, "FAREBOX_HTTP_LISTEN": f"127.0.0.1:{http.port}"}
    url = f"http://{collector.grpc_address}" if kind == "grpc" else f"http://127.0.0.1:{http.port}/v1/traces"
    exporting = subprocess.Popen(
        ["node", "export.js", kind, url], cwd=scripts, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    for _ in range(RESTARTS):
        time.sleep(RESTART_AFTER_S)
        assert collector.terminate() == 0
        time.sleep(AWAY_S)
        collector = Child(tmp_path, **addresses)
        collector.started()
    time.sleep(RESTART_AFTER_S)
    printed, _ = exporting.communicate(timeout=60)  # it closes the exporter's input
    told = [line.split() for line in printed.splitlines()]
    assert collector.terminate() == 0

    accepted = sorted(bytes.fromhex(span_id) for outcome, span_id in told if outcome == "accepted")
    booked = sorted(span_id for (span_id,) in rows(sqlite_engine, "span_id"))
    assert exporting.returncode == 0
    assert len(accepted) > 100
    assert (kind == "grpc") == (len(accepted) < len(told))  # the one that never tries again felt the restarts
    assert booked == accepted

"""What a forwarder costs beside an app, and what a collector costs there: memory and CPU of both for the same spans.

Run: .venv/bin/python benchmarks/sidecar.py [--spans 50000] [--json]

A collector of its own on an SQLite file that was made before takes the spans; then a forwarder takes as many and sends
them on to a second collector. Each gets batches of 100 over one HTTP connection, as an exporter sends them. Everything
is local and removed at the end.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ingest import memory_mib, process_cpu_s
from benchmarks.traffic import endless
from tests.collector.running import PROTOBUF, Child, Forward, Http, wait_for

from farebox_ledger.store.engine import open_engine
from farebox_ledger.store.migrations import migrate
from farebox_ledger.store.prices import ensure_shipped_prices

PER_REQUEST: Final = 100
WAIT_S: Final = 300.0


class Cost(msgspec.Struct):
    """What a process held and used, in MiB of resident memory and in CPU time."""

    role: str
    started_mib: float
    peak_mib: float
    cpu_us_per_span: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and CPU of a forwarder and of a collector.")
    parser.add_argument("--spans", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = measured(Path(folder), arguments.spans)
    if arguments.json:
        print(msgspec.json.encode(costs).decode())
        return
    print(f"{'role':<12}{'started MiB':>12}{'peak MiB':>10}{'CPU us/span':>13}")
    for cost in costs:
        print(f"{cost.role:<12}{cost.started_mib:>12.0f}{cost.peak_mib:>10.0f}{cost.cpu_us_per_span:>13.0f}")


def measured(folder: Path, spans: int) -> list[Cost]:
    for name in ("alone", "gateway", "forward"):
        (folder / name).mkdir()
    alone = prepared_collector(folder / "alone")
    costs = [cost_of("collector", alone, spans)]
    gateway = prepared_collector(folder / "gateway")
    forwarder = Forward(folder / "forward", gateway.started().port)
    costs.append(cost_of("forward", forwarder, spans))
    gateway.terminate()
    return costs


def prepared_collector(folder: Path) -> Child:
    """A collector that finds its database made: what makes it costs memory once."""
    engine = open_engine(f"sqlite:///{folder / 'farebox.db'}")
    migrate(engine)
    ensure_shipped_prices(engine)
    engine.dispose()
    return Child(folder)


def cost_of(role: str, child: Child, spans: int) -> Cost:
    """Send the spans, wait until they are settled, and end the process."""
    at = child.started()
    time.sleep(2.0)  # what a start does in the background
    pid = child.process.pid
    started_mib = memory_mib(pid, "VmRSS")
    cpu_s = process_cpu_s(pid)
    send(at, spans)
    wait_for(lambda: at.get("/readyz").json["pending_spans"] == 0, WAIT_S)
    used_s = process_cpu_s(pid) - cpu_s
    peak_mib = memory_mib(pid, "VmHWM")
    child.terminate()
    return Cost(role, started_mib, peak_mib, used_s / spans * 1e6)


def send(at: Http, spans: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=30)
    bodies = endless("llm", PER_REQUEST)
    for _ in range(spans // PER_REQUEST):
        connection.request("POST", "/v1/traces", next(bodies), {"content-type": PROTOBUF})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"a request was answered {answer.status}")
    connection.close()


if __name__ == "__main__":
    main()

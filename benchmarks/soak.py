"""Does a collector stay as it is? Memory, spool, answers and backlog over half an hour of steady traffic.

Run: .venv/bin/python benchmarks/soak.py [--minutes 30] [--rate 200] [--database URL] [--backlog SPANS] [--json]
     .venv/bin/python benchmarks/soak.py --outage 60 --rate 300 [--postgresql] [--json]

A `farebox collector` of its own on SQLite (or on the empty database that --database names) takes the requests of eight
senders, each sending one batch a second as a batching exporter does: half of them over gRPC, half over HTTP, a quarter
with nine spans of others beside each call. Every ten seconds its memory, its spool and what waits to be booked are
read. At the end it is told to end, and what is booked is compared with what was acknowledged. Everything is local and
removed at the end. Ctrl-C ends the run early, with the same report.

With --backlog 1080000 it starts on what an outage of the database of an hour at 300 spans/s leaves in the spool, and
says how long the start takes and how fast it is booked. With --outage 60 the database goes away for that many minutes
under the load, comes back, and senders, readiness, spool, memory and books are looked at: see `benchmarks.outage`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ingest import SELECTION, SENDER, memory_mib, process_cpu_s
from benchmarks.outage import Outage, outage
from benchmarks.steady import (
    Sent,
    conservation_difference,
    is_over,
    marks,
    metrics,
    number_of,
    send_steadily,
    spool_file_mib,
)
from benchmarks.traffic import MARK, Kind, request
from tests.collector.running import Child

from farebox_collector.decode import decode_protobuf
from farebox_collector.spool.file import add_to_counters, batch_row, insert_batches, open_spool_file

KINDS: Final[tuple[Kind, ...]] = ("mixed", "llm", "llm", "llm")
SAMPLE_S: Final = 10.0
WARM_UP: Final = 0.2
"""The first part of the run, which the slope of the memory leaves out: caches and the price book fill in it."""


class Sample(msgspec.Struct):
    """The collector at one moment."""

    at_s: float
    rss_mib: float
    spool_file_mib: float
    waiting_spans: int
    oldest_waiting_s: float


class Report(msgspec.Struct):
    """All that is printed, as --json prints it."""

    minutes: float
    spans_per_s: float
    calls_acknowledged: int
    others_acknowledged: int
    refused_requests: int
    late_requests: int
    rows_booked: int
    lost_calls: int
    conservation_difference: int
    ack_p50_ms: float
    ack_p99_ms: float
    ack_max_ms: float
    rss_first_mib: float
    rss_last_mib: float
    rss_peak_mib: float
    rss_slope_mib_per_hour: float
    spool_file_max_mib: float
    waiting_spans_max: int
    oldest_waiting_p99_s: float
    cpu_us_per_span: float
    exit_code: int


class Backlog(msgspec.Struct):
    """A start on a spool that is full of waiting spans."""

    spans: int
    spool_file_mib: float
    start_s: float
    booked_per_s: float
    rss_peak_mib: float
    rows_booked: int
    exit_code: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=200, help="spans a second, of all senders together")
    parser.add_argument("--database", help="URL of an empty database; an SQLite file of its own by default")
    parser.add_argument("--backlog", type=int, metavar="SPANS", help="start on so many waiting spans instead")
    parser.add_argument("--outage", type=float, metavar="MINUTES", help="take the database away for so long instead")
    parser.add_argument("--postgresql", action="store_true", help="an outage of a PostgreSQL server, not of SQLite")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    report: Report | Backlog | Outage
    with tempfile.TemporaryDirectory(prefix="farebox-soak-") as folder:
        if asked.outage:
            report = outage(Path(folder), asked.outage, asked.rate, on_postgresql=asked.postgresql)
            is_good = report.is_good
        elif asked.backlog:
            report = catch_up(Path(folder), asked.backlog, asked.database)
            is_good = report.rows_booked == report.spans
        else:
            report = soak(Path(folder), asked.minutes, asked.rate, asked.database)
            is_good = report.lost_calls == report.conservation_difference == 0
    if asked.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        show(report)
    sys.exit(0 if is_good and report.exit_code == 0 else 1)


def soak(folder: Path, minutes: float, rate: int, database: str | None) -> Report:
    url = database or f"sqlite:///{folder / 'farebox.db'}"
    child = Child(folder, FAREBOX_DATABASE_URL=url)
    http = child.started()
    sent, samples = Sent(), list[Sample]()
    started = time.monotonic()
    cpu_s = process_cpu_s(child.process.pid)
    asyncio.run(_load(child, http.port, folder, minutes * 60, rate, sent, samples))
    took_s = time.monotonic() - started
    cpu_s = process_cpu_s(child.process.pid) - cpu_s
    peak_mib = memory_mib(child.process.pid, "VmHWM")
    exit_code = child.terminate()
    rows = number_of(url, "COUNT(*)", "usage_rows")
    steady = [sample for sample in samples if sample.at_s >= WARM_UP * took_s] or samples
    spans = sent.calls + sent.others
    cuts = statistics.quantiles(sent.ack_ms, n=100)
    return Report(
        minutes=took_s / 60,
        spans_per_s=spans / took_s,
        calls_acknowledged=sent.calls,
        others_acknowledged=sent.others,
        refused_requests=sent.refused,
        late_requests=sent.late,
        rows_booked=rows,
        lost_calls=sent.calls - rows,
        conservation_difference=conservation_difference(folder / "spool"),
        ack_p50_ms=cuts[49],
        ack_p99_ms=cuts[98],
        ack_max_ms=max(sent.ack_ms),
        rss_first_mib=steady[0].rss_mib,
        rss_last_mib=steady[-1].rss_mib,
        rss_peak_mib=peak_mib,
        rss_slope_mib_per_hour=slope_per_hour(steady),
        spool_file_max_mib=max(sample.spool_file_mib for sample in samples),
        waiting_spans_max=max(sample.waiting_spans for sample in samples),
        oldest_waiting_p99_s=sorted(sample.oldest_waiting_s for sample in samples)[int(0.99 * (len(samples) - 1))],
        cpu_us_per_span=cpu_s / spans * 1e6,
        exit_code=exit_code,
    )


def catch_up(folder: Path, spans: int, database: str | None) -> Backlog:
    url = database or f"sqlite:///{folder / 'farebox.db'}"
    (folder / "spool").mkdir()
    _fill(folder / "spool", spans)
    filled_mib = spool_file_mib(folder / "spool")
    started = time.monotonic()
    child = Child(folder, FAREBOX_DATABASE_URL=url)
    http = child.started()
    start_s = time.monotonic() - started
    while http.get("/readyz").json["pending_spans"]:
        time.sleep(0.5)
    took_s = time.monotonic() - started - start_s
    peak_mib = memory_mib(child.process.pid, "VmHWM")
    exit_code = child.terminate()
    return Backlog(
        spans, filled_mib, start_s, spans / took_s, peak_mib, number_of(url, "COUNT(*)", "usage_rows"), exit_code
    )


def _fill(folder: Path, spans: int) -> None:
    """Write the spool that a collector leaves behind whose database was away."""
    connection = open_spool_file(folder)
    connection.execute("BEGIN")
    template = request("llm", 25)
    for first in range(0, spans, 25):
        now_us = time.time_ns() // 1000
        body = template.replace(MARK, b"%08x" % next(marks))
        decoded = decode_protobuf(body, SELECTION, now_us).spans[: spans - first]
        insert_batches(connection, first // 25 + 1, [batch_row(SENDER, now_us, decoded)])
    add_to_counters(connection, {"accepted": spans})
    connection.execute("COMMIT")
    connection.close()


async def _load(
    child: Child, http_port: int, folder: Path, seconds: float, rate: int, sent: Sent, samples: list[Sample]
) -> None:
    """Send and sample until the time is over or somebody presses Ctrl-C."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, over.set)
    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGINT, over.set)
    await asyncio.gather(
        _sample(child.process.pid, http_port, folder / "spool", samples, over),
        send_steadily(child.grpc_address, http_port, rate, KINDS, sent, over),
    )


async def _sample(pid: int, port: int, spool: Path, samples: list[Sample], over: asyncio.Event) -> None:
    started = due = time.monotonic()
    while not await is_over(over, due):
        due += SAMPLE_S
        found = await metrics(port, "farebox_spool_")
        sample = Sample(
            time.monotonic() - started,
            memory_mib(pid, "VmRSS"),
            spool_file_mib(spool),
            int(found["farebox_spool_spans"]),
            found["farebox_spool_oldest_age_seconds"],
        )
        samples.append(sample)
        if len(samples) % 30 == 1:
            print(f"{sample.at_s:6.0f} s: {sample.rss_mib:.1f} MiB, {sample.waiting_spans} spans wait", file=sys.stderr)


def slope_per_hour(samples: list[Sample]) -> float:
    """The memory's growth in MiB an hour: the line of least squares through the samples."""
    if len(samples) < 2:
        return 0.0
    return statistics.linear_regression([one.at_s for one in samples], [one.rss_mib for one in samples]).slope * 3600


def show(report: Report | Backlog | Outage) -> None:
    for name, value in msgspec.structs.asdict(report).items():
        label = name.replace("_", " ")
        print(f"{label:<28}{value:12.2f}" if isinstance(value, float) else f"{label:<28}{value:12}")


if __name__ == "__main__":
    main()

"""Does a collector stay as it is? Memory, spool, answers and backlog over half an hour of steady traffic.

Run: .venv/bin/python benchmarks/soak.py [--minutes 30] [--rate 200] [--database URL] [--backlog SPANS] [--json]

A `farebox collector` of its own on SQLite (or on the empty database that --database names) takes the requests of eight
senders, each sending one batch a second as a batching exporter does: half of them over gRPC, half over HTTP, a quarter
with nine spans of others beside each call. Every ten seconds its memory, its spool and what waits to be booked are
read. At the end it is told to end, and what is booked is compared with what was acknowledged. Everything is local and
removed at the end. Ctrl-C ends the run early, with the same report.

With --backlog 1080000 it starts on what an outage of the database of an hour at 300 spans/s leaves in the spool, and
says how long the start takes and how fast it is booked.
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
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ingest import SELECTION, SENDER, memory_mib, process_cpu_s
from benchmarks.traffic import MARK, Kind, request
from sqlalchemy import text
from tests.collector.running import PROTOBUF, Child

from farebox_collector.decode import decode_protobuf
from farebox_collector.spool import Spool
from farebox_collector.spool.file import add_to_counters, batch_row, insert_batches, open_spool_file
from farebox_ledger.store.engine import open_engine

SENDERS: Final = 8
EVERY_S: Final = 1.0
SAMPLE_S: Final = 10.0
WARM_UP: Final = 0.2
"""The first part of the run, which the slope of the memory leaves out: caches and the price book fill in it."""
EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_marks: Final = count(1)


class Sample(msgspec.Struct):
    """The collector at one moment."""

    at_s: float
    rss_mib: float
    spool_file_mib: float
    waiting_spans: int
    oldest_waiting_s: float


class Sent(msgspec.Struct):
    """What the senders were told."""

    calls: int = 0  # acknowledged ones
    others: int = 0
    refused: int = 0
    late: int = 0  # requests whose turn came over a second late: the senders, not the collector, were slow
    ack_ms: list[float] = []


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
    parser.add_argument("--rate", type=float, default=200.0, help="spans a second, of all senders together")
    parser.add_argument("--database", help="URL of an empty database; an SQLite file of its own by default")
    parser.add_argument("--backlog", type=int, metavar="SPANS", help="start on so many waiting spans instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    report: Report | Backlog
    with tempfile.TemporaryDirectory(prefix="farebox-soak-") as folder:
        if asked.backlog:
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


def soak(folder: Path, minutes: float, rate: float, database: str | None) -> Report:
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
    rows = _rows(url)
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
        conservation_difference=_conservation_difference(folder / "spool"),
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
    spool_file_mib = _spool_file_mib(folder / "spool")
    started = time.monotonic()
    child = Child(folder, FAREBOX_DATABASE_URL=url)
    http = child.started()
    start_s = time.monotonic() - started
    while http.get("/readyz").json["pending_spans"]:
        time.sleep(0.5)
    took_s = time.monotonic() - started - start_s
    peak_mib = memory_mib(child.process.pid, "VmHWM")
    exit_code = child.terminate()
    return Backlog(spans, spool_file_mib, start_s, spans / took_s, peak_mib, _rows(url), exit_code)


def _fill(folder: Path, spans: int) -> None:
    """Write the spool that a collector leaves behind whose database was away."""
    connection = open_spool_file(folder)
    connection.execute("BEGIN")
    template = request("llm", 25)
    for first in range(0, spans, 25):
        now_us = time.time_ns() // 1000
        body = template.replace(MARK, b"%08x" % next(_marks))
        decoded = decode_protobuf(body, SELECTION, now_us).spans[: spans - first]
        insert_batches(connection, first // 25 + 1, [batch_row(SENDER, now_us, decoded)])
    add_to_counters(connection, {"accepted": spans})
    connection.execute("COMMIT")
    connection.close()


async def _load(
    child: Child, http_port: int, folder: Path, seconds: float, rate: float, sent: Sent, samples: list[Sample]
) -> None:
    """Send and sample until the time is over or somebody presses Ctrl-C."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, over.set)
    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGINT, over.set)
    async with grpc.aio.insecure_channel(child.grpc_address) as channel:
        export: Any = channel.unary_unary(EXPORT)  # type: ignore[call-arg]  # the stubs ask for what has defaults
        per_request = max(1, round(rate * EVERY_S / SENDERS))
        senders = [
            _send(
                export if number % 2 else await _open_http(http_port),
                "mixed" if number % 4 == 0 else "llm",
                per_request,
                number * EVERY_S / SENDERS,
                sent,
                over,
            )
            for number in range(SENDERS)
        ]
        await asyncio.gather(_sample(child.process.pid, http_port, folder / "spool", samples, over), *senders)


async def _send(export: Any, kind: Kind, spans: int, offset_s: float, sent: Sent, over: asyncio.Event) -> None:
    """Send one request a second, as a batching exporter does; what is refused is sent again."""
    due = time.monotonic() + offset_s
    calls = -(-spans // 10) if kind == "mixed" else spans
    while not await _is_over(over, due):
        body = request(kind, spans).replace(MARK, b"%08x" % next(_marks))
        sent.late += time.monotonic() - due > 1
        while True:
            started = time.perf_counter()
            try:
                await export(body, timeout=10)
            except (grpc.RpcError, OSError):
                sent.refused += 1
                await asyncio.sleep(2.0)
                continue
            sent.ack_ms.append((time.perf_counter() - started) * 1e3)
            break
        sent.calls += calls
        sent.others += spans - calls
        due = max(due + EVERY_S, time.monotonic() - EVERY_S)


async def _open_http(port: int) -> Any:
    """Answer a function that posts a body on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def export(body: bytes, timeout: float) -> None:  # noqa: ASYNC109 - as the gRPC one takes it
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (PROTOBUF.encode(), len(body), body)
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(head.partition(b"\r")[0])

    return export


async def _is_over(over: asyncio.Event, due: float) -> bool:
    """Wait until it is time for the next request; True when there will be none."""
    try:
        await asyncio.wait_for(over.wait(), max(0.001, due - time.monotonic()))
    except TimeoutError:
        return False
    return True


async def _sample(pid: int, port: int, spool: Path, samples: list[Sample], over: asyncio.Event) -> None:
    started = due = time.monotonic()
    while not await _is_over(over, due):
        due += SAMPLE_S
        page = await _metrics(port)
        sample = Sample(
            time.monotonic() - started,
            memory_mib(pid, "VmRSS"),
            _spool_file_mib(spool),
            int(page["farebox_spool_spans"]),
            page["farebox_spool_oldest_age_seconds"],
        )
        samples.append(sample)
        if len(samples) % 30 == 1:
            print(f"{sample.at_s:6.0f} s: {sample.rss_mib:.1f} MiB, {sample.waiting_spans} spans wait", file=sys.stderr)


def _spool_file_mib(spool: Path) -> float:
    return sum(path.stat().st_size for path in spool.glob("spool.db*")) / 2**20


async def _metrics(port: int) -> dict[str, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith("farebox_spool_"))
    return {name: float(value) for name, _, value in lines}


def slope_per_hour(samples: list[Sample]) -> float:
    """The memory's growth in MiB an hour: the line of least squares through the samples."""
    if len(samples) < 2:
        return 0.0
    return statistics.linear_regression([one.at_s for one in samples], [one.rss_mib for one in samples]).slope * 3600


def _rows(url: str) -> int:
    engine = open_engine(url)
    with engine.connect() as connection:
        rows = int(connection.execute(text("SELECT COUNT(*) FROM usage_rows")).scalar_one())
    engine.dispose()
    return rows


def _conservation_difference(folder: Path) -> int:
    spool = Spool(folder, 2**30)
    difference = spool.snapshot().conservation_difference
    spool.close()
    return difference


def show(report: Report | Backlog) -> None:
    for name, value in msgspec.structs.asdict(report).items():
        label = name.replace("_", " ")
        print(f"{label:<28}{value:12.2f}" if isinstance(value, float) else f"{label:<28}{value:12}")


if __name__ == "__main__":
    main()

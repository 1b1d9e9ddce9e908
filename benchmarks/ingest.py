"""What a span costs on its way from the wire into the books, as ratios to floors measured in the same run.

Run: .venv/bin/python benchmarks/ingest.py [--quick | --million] [--json]

Floors: `hard` parses the requests with the official messages (upb) and inserts the very rows that were booked, as
tuples and by one executemany for 512 of them, into the same table with the same indexes; `decode + insert` has our
decoding in place of the parsing. Beside them stand `acked` (decode, spool, fsync) and `booked` (the same and everything
behind it: dialects, trace lookup, billable, charge, rows, rollups, settling in the spool), without a transport. All of
this is CPU time of this process, all threads together, the median of several rounds in turns; on PostgreSQL the
server's CPU time is not in it, and its floor sends binary COPY, which is the cheaper one.

`served` is a collector in a process of its own, loaded over loopback HTTP: rates by the clock, CPU and memory of that
process. What sharing a commit brings is measured on this disk and on one whose fsync takes some milliseconds more
(`disks`), both times against a bare loop that commits one request after the other. Everything is local, bounded, and
removed at the end. Only the ratios carry over to other machines.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.disks import SlowDisk, slow_disk
from benchmarks.traffic import Kind, endless, renewed, request, requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import make_url
from tests.collector.running import Child
from tests.databases import postgres_is_available, postgres_server

from farebox_collector import dialects
from farebox_collector.database import Books
from farebox_collector.decode import Selection, decode_protobuf
from farebox_collector.intake import Intake
from farebox_collector.pipeline import Pipeline
from farebox_collector.spans import Sender
from farebox_collector.spool import Spool
from farebox_collector.telemetry import Telemetry
from farebox_ledger.store.engine import open_engine, transaction
from farebox_ledger.store.migrations import migrate
from farebox_ledger.store.prices import ensure_shipped_prices
from farebox_ledger.store.schema import BOOKED_COLUMNS, usage_rows
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.sqlite_guard import opened
from farebox_ledger.usage import org_id_of

ORG: Final = "acme"
SENDER: Final = Sender(org_id_of(ORG), ORG)
SELECTION: Final = Selection(dialects.MARKS, dialects.KEYS)
ROWS_AT_ONCE: Final = 512
CONNECTIONS: Final = 32
SLOW_DISK_MS: Final = 3
"""What an fsync costs on network volumes of clouds, about."""
SPOOL_LOG: Final = "spool.db-wal"
TIMEOUT_S: Final = 120.0


class Case(msgspec.Struct, frozen=True):
    """One kind of load."""

    name: str
    kind: Kind
    per_request: int
    senders: int  # requests in flight


CASES: Final = (
    Case("512 a request", "llm", 512, 4),
    Case("16 a request", "llm", 16, 16),
    Case("1 a request", "llm", 1, 32),
    Case("4 KB prompts", "prompts", 512, 4),
    Case("90 % others", "mixed", 512, 4),
)


class Figures(msgspec.Struct):
    """Microseconds of CPU for each span sent."""

    hard: float
    decode_insert: float
    acked: float
    booked: float


class Served(msgspec.Struct):
    """What a collector of its own did: by the clock, and what its process took."""

    acked_per_s: float
    booked_per_s: float
    cpu_us: float
    peak_mib: float


class Shared(msgspec.Struct):
    """Requests of one span from many connections, by the clock, beside one commit after the other."""

    acked_per_s: float
    commits_per_s: float  # of who commits each request by itself, without a server
    requests_per_commit: float  # in the collector

    @property
    def ratio(self) -> float:
        return self.acked_per_s / self.commits_per_s


class Report(msgspec.Struct):
    """All that is printed, as --json prints it."""

    spans: int
    rounds: int
    cpu: dict[str, dict[str, Figures]] = {}
    served: dict[str, Served] = {}
    disks: dict[str, Shared] = {}
    ratios: dict[str, float] = {}
    idle_mib: float = 0.0
    peak_mib: float = 0.0
    visible_after_ms: list[float] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer spans and rounds: under a minute")
    parser.add_argument("--million", action="store_true", help="watch the memory over a million spans")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    spans, rounds = (5120, 3) if asked.quick else (20480, 5)
    memory_spans = 1_000_000 if asked.million else 30_720 if asked.quick else 200_000
    report = Report(spans, rounds)
    with tempfile.TemporaryDirectory(prefix="farebox-ingest-") as folder, ExitStack() as stack:
        here = Path(folder)
        for store in stores(here, stack):
            chosen = CASES if store.name == "sqlite" or not asked.quick else CASES[:1]
            report.cpu[store.name] = {case.name: measured(store, here, case, spans, rounds) for case in chosen}
        serve(report, here, 10_240 if asked.quick else 51_200)
        watch_memory(report, here, memory_spans)
        share_commits(report, here, 1600 if asked.quick else 6400)
        compare(report)
    if asked.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        show(report)


# The parts, in this process.


class Store(msgspec.Struct, frozen=True):
    """Where rows go: fresh databases of one kind, and the cheapest way to put tuples into one."""

    name: str
    fresh: Callable[[], str]
    insert: Callable[[str, Sequence[tuple[Any, ...]]], float]  # CPU seconds


def stores(folder: Path, stack: ExitStack) -> Iterator[Store]:
    template = folder / "template.db"
    prepare(f"sqlite:///{template}")
    numbers = iter(range(10**6))

    def fresh_file() -> str:
        file = folder / f"books-{next(numbers)}.db"
        shutil.copy(template, file)
        return f"sqlite:///{file}"

    yield Store("sqlite", fresh_file, insert_into_sqlite)
    if not postgres_is_available():
        return
    server = stack.enter_context(postgres_server())
    prepare(server.create(server.template).render_as_string(hide_password=False))
    yield Store("postgresql", lambda: server.clone().render_as_string(hide_password=False), insert_into_postgresql)


def prepare(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    ensure_shipped_prices(engine)
    engine.dispose()
    if engine.dialect.name == "sqlite":
        with sqlite3.connect(make_url(url).database or "") as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def measured(store: Store, folder: Path, case: Case, spans: int, rounds: int) -> Figures:
    """Measure floors and farebox in turns; the rows of the floor are those that the first round booked."""
    found: dict[str, list[float]] = {name: [] for name in ("parse", "decode", "insert", "acked", "booked")}
    rows: list[tuple[Any, ...]] = []
    for _ in range(rounds):
        bodies = requests(case.kind, spans, case.per_request)
        sent = len(bodies) * case.per_request
        found["parse"].append(cpu_s(partial(consume, map(ExportTraceServiceRequest.FromString, bodies))) / sent)
        decoding = map(partial(decode_protobuf, selection=SELECTION, now_us=time.time_ns() // 1000), bodies)
        found["decode"].append(cpu_s(partial(consume, decoding)) / sent)
        url = store.fresh()
        found["booked"].append(ingest(folder, bodies, case.senders, url) / sent)
        rows = rows or booked_rows(url)
        found["acked"].append(ingest(folder, bodies, case.senders, None) / sent)
        found["insert"].append(store.insert(store.fresh(), rows) / sent)
    us = {name: statistics.median(costs) * 1e6 for name, costs in found.items()}
    return Figures(us["parse"] + us["insert"], us["decode"] + us["insert"], us["acked"], us["booked"])


def cpu_s(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started


def consume(items: Iterable[object]) -> None:
    for _ in items:
        pass


def ingest(
    folder: Path,
    bodies: Sequence[bytes],
    senders: int,
    database_url: str | None,
    owners: Sequence[Sender] = (SENDER,),
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Send the bodies through intake, spool and, with a database, the pipeline; answers the clock's seconds.

    The bodies belong to the owners in turn.
    """
    spool_folder = Path(tempfile.mkdtemp(prefix="spool-", dir=folder))
    spool, telemetry = Spool(spool_folder, 2**30), Telemetry()
    engine = None if database_url is None else open_engine(database_url)
    books = engine and Books(engine, collector_id=spool.collector_id, default_org=ORG, catalog_poll_s=2.0)
    pipeline = books and Pipeline(spool, books, telemetry)
    if books:
        books.ledger()  # the start of a collector is no cost of a span
    intake = Intake(spool, SELECTION, telemetry)
    gc.collect()
    gc.freeze()
    started = clock()
    if pipeline:
        pipeline.start()
    asyncio.run(send_all(intake, bodies, senders, owners))
    if pipeline:
        wait_for(lambda: spool.snapshot().pending_spans == 0)
    took = clock() - started
    if pipeline:
        pipeline.stop(5)
    assert spool.snapshot().conservation_difference == 0
    spool.close()
    gc.unfreeze()
    if engine:
        engine.dispose()
    shutil.rmtree(spool_folder)
    return took


async def send_all(intake: Intake, bodies: Sequence[bytes], senders: int, owners: Sequence[Sender]) -> None:
    waiting = zip(bodies, cycle(owners), strict=False)

    async def sender() -> None:
        for body, owner in waiting:
            await intake.take_spans(body, "protobuf", owner, "http")

    await asyncio.gather(*(sender() for _ in range(senders)))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the collector did not get there")
        time.sleep(0.002)


def booked_rows(url: str) -> list[tuple[Any, ...]]:
    engine = open_engine(url)
    names = ", ".join(f'"{name}"' for name in BOOKED_COLUMNS)
    with transaction(engine, AllOrganizations()) as connection:
        found = [tuple(row) for row in connection.exec_driver_sql(f"SELECT {names} FROM usage_rows ORDER BY span_id")]
    engine.dispose()
    return found


def portions(rows: Sequence[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    for at in range(0, len(rows), ROWS_AT_ONCE):
        yield sorted(rows[at : at + ROWS_AT_ONCE], key=lambda row: row[:3])


def insert_into_sqlite(url: str, rows: Sequence[tuple[Any, ...]]) -> float:
    engine = open_engine(url)  # for its settings of the connection
    names = ", ".join(f'"{name}"' for name in BOOKED_COLUMNS)
    statement = f"INSERT INTO usage_rows ({names}) VALUES ({', '.join('?' * len(BOOKED_COLUMNS))})"
    pooled = engine.raw_connection()
    driver: Any = pooled.driver_connection

    def work() -> None:
        for portion in parts:
            driver.execute("BEGIN IMMEDIATE")
            driver.executemany(statement, portion)
            driver.execute("COMMIT")

    parts = list(portions(rows))
    with opened(driver):
        took = cpu_s(work)
    pooled.close()
    engine.dispose()
    return took


def insert_into_postgresql(url: str, rows: Sequence[tuple[Any, ...]]) -> float:
    engine = open_engine(url)
    names = ", ".join(f'"{name}"' for name in BOOKED_COLUMNS)
    types = [str(usage_rows.c[name].type.compile(engine.dialect)).lower() for name in BOOKED_COLUMNS]
    parts = list(portions(rows))
    pooled = engine.raw_connection()

    def work() -> None:
        for portion in parts:
            with pooled.driver_connection.cursor() as cursor:  # type: ignore[union-attr]
                cursor.execute(f"CREATE TEMP TABLE new ON COMMIT DROP AS SELECT {names} FROM usage_rows LIMIT 0")
                with cursor.copy(f"COPY new ({names}) FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(types)
                    for row in portion:
                        copy.write_row(row)
                cursor.execute(f"INSERT INTO usage_rows ({names}) SELECT {names} FROM new")
            pooled.commit()

    took = cpu_s(work)
    pooled.close()
    engine.dispose()
    return took


# A collector of its own.


def serve(report: Report, folder: Path, spans: int) -> None:
    for case in CASES:
        fewer = spans // 4 if case.per_request == 1 else spans * 5 if case.kind == "mixed" else spans
        with child(folder) as (pid, port, books):
            report.served[case.name] = asyncio.run(loaded(pid, port, case, fewer))
            if case.per_request == 16:
                report.visible_after_ms = sorted(visible(books, port, 20))


@contextmanager
def child(folder: Path, **environment: str) -> Iterator[tuple[int, int, Path]]:
    """Run `farebox collector` on a current database, warmed up: its process, its HTTP port, and the database file."""
    own = Path(tempfile.mkdtemp(prefix="served-", dir=folder))
    shutil.copy(folder / "template.db", own / "farebox.db")
    collector = Child(own, **environment)
    try:
        port = collector.started().port
        asyncio.run(warmed_up(port))
        yield collector.process.pid, port, own / "farebox.db"
    finally:
        collector.terminate()
        shutil.rmtree(own, ignore_errors=True)


async def warmed_up(port: int) -> None:
    await post_all(port, [renewed(request("llm", 16))], 1)
    await booked_all(port)


async def loaded(pid: int, port: int, case: Case, spans: int) -> Served:
    count = max(1, spans // case.per_request)
    bodies = list(islice(endless(case.kind, case.per_request), count))
    cpu, started = process_cpu_s(pid), time.perf_counter()
    await post_all(port, bodies, case.senders)
    acked = time.perf_counter() - started
    await booked_all(port)
    booked = time.perf_counter() - started
    sent = count * case.per_request
    return Served(sent / acked, sent / booked, (process_cpu_s(pid) - cpu) / sent * 1e6, memory_mib(pid, "VmHWM"))


async def post_all(port: int, bodies: Iterable[bytes], connections: int) -> None:
    waiting = iter(bodies)

    async def sender() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            writer.write(
                b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the collector answers {head!r}")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        writer.close()

    await asyncio.wait_for(asyncio.gather(*(sender() for _ in range(connections))), 10 * TIMEOUT_S)


async def booked_all(port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (await metric(port, "farebox_spool_spans")) > 0:
        if time.monotonic() > deadline:
            raise TimeoutError("the collector did not book everything")
        await asyncio.sleep(0.02)


async def metric(port: int, name: str) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    return float(next(line for line in page.splitlines() if line.startswith(f"{name} ")).split()[1])


def visible(books: Path, port: int, times: int) -> list[float]:
    """Measure the milliseconds from an acknowledgment to the row that another connection reads."""
    connection = sqlite3.connect(books)
    count = "SELECT SUM(requests) FROM rollup_day"
    waited = []
    for _ in range(times):
        before = connection.execute(count).fetchone()[0]
        asyncio.run(post_all(port, [renewed(request("llm", 1))], 1))
        started = time.perf_counter()
        wait_for(lambda before=before: connection.execute(count).fetchone()[0] > before)  # type: ignore[misc]
        waited.append((time.perf_counter() - started) * 1e3)
    connection.close()
    return waited


def watch_memory(report: Report, folder: Path, spans: int) -> None:
    """Send faster than is booked, 51,200 spans at a time, and read the process's peak at the end; idle is before."""
    with child(folder) as (pid, port, _):
        report.idle_mib = memory_mib(pid, "VmRSS")
        bodies = islice(endless("llm", 512), max(1, spans // 512))
        while portion := list(islice(bodies, 100)):
            asyncio.run(post_all(port, portion, 4))
            asyncio.run(booked_all(port))
        report.peak_mib = memory_mib(pid, "VmHWM")


def process_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, name: str) -> float:
    """The resident memory of a process (VmRSS), or its peak (VmHWM), as Linux tells it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


# Commits that requests share.


def share_commits(report: Report, folder: Path, requests_sent: int) -> None:
    """Compare requests of one span from many connections with one commit each, on this disk and on a slow one."""
    for delay_ms in (0, SLOW_DISK_MS):
        disk = slow_disk(folder, delay_ms)
        if disk is not None:
            name = f"fsync takes {delay_ms} ms more" if delay_ms else "this disk"
            report.disks[name] = shared(folder, disk, requests_sent)


def shared(folder: Path, disk: SlowDisk, requests_sent: int) -> Shared:
    with child(folder, **disk.environment) as (_, port, _):
        commits = disk.syncs_of(SPOOL_LOG)
        bodies, started = list(islice(endless("llm", 1), requests_sent)), time.perf_counter()
        asyncio.run(post_all(port, bodies, CONNECTIONS))
        took = time.perf_counter() - started
        commits = disk.syncs_of(SPOOL_LOG) - commits
        asyncio.run(booked_all(port))
    alone = requests_sent // (10 if disk.delay_ms else 1)
    plain = [sys.executable, "-c", ONE_COMMIT_EACH, str(folder / f"plain-{disk.delay_ms}.db"), str(alone)]
    found = subprocess.run(
        plain, env={**os.environ, **disk.environment}, input=request("llm", 1), stdout=PIPE, check=True
    )
    return Shared(requests_sent / took, float(found.stdout), requests_sent / commits)


ONE_COMMIT_EACH: Final = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = FULL")
connection.execute("CREATE TABLE spans (id INTEGER PRIMARY KEY, body BLOB)")
body, count = sys.stdin.buffer.read(), int(sys.argv[2])
started = time.perf_counter()
for _ in range(count):
    connection.execute("INSERT INTO spans (body) VALUES (?)", (body,))
print(count / (time.perf_counter() - started))
"""
"""Whoever commits each request by itself, and does nothing else: no HTTP, no decoding."""


# What it comes to.


def compare(report: Report) -> None:
    bulk, mixed = report.cpu["sqlite"]["512 a request"], report.cpu["sqlite"]["90 % others"]
    report.ratios = {
        "hard floor / booked (target 0.45, aim 0.55)": bulk.hard / bulk.booked,
        "decode + insert / booked (target 0.60)": bulk.decode_insert / bulk.booked,
        "booked / acked (target 2)": bulk.booked / bulk.acked,
        "90 % others, spans/s against LLM alone (target 5)": bulk.booked / mixed.booked,
        "slowest from ack to visible, ms (target 1000)": report.visible_after_ms[-1],
        "peak memory, MiB (target 110 MB = 104.9)": report.peak_mib,
        **{f"requests of 1 span / commits of one each, {name}": one.ratio for name, one in report.disks.items()},
    }


def show(report: Report) -> None:
    print(f"{report.spans} spans, median of {report.rounds} rounds; CPU in us a span, floors as a share of booked\n")
    print(f"{'':<26}{'hard':>8}{'dec+ins':>9}{'acked':>8}{'booked':>8}{'hard/':>8}{'dec+ins/':>10}")
    for store, cases in report.cpu.items():
        for name, one in cases.items():
            print(
                f"{store + ', ' + name:<26}{one.hard:8.1f}{one.decode_insert:9.1f}{one.acked:8.1f}{one.booked:8.1f}"
                f"{one.hard / one.booked:8.2f}{one.decode_insert / one.booked:10.2f}"
            )
    print(f"\n{'served over HTTP, SQLite':<26}{'acked/s':>9}{'booked/s':>10}{'CPU us':>8}{'peak MiB':>10}")
    for name, run in report.served.items():
        print(f"{name:<26}{run.acked_per_s:9.0f}{run.booked_per_s:10.0f}{run.cpu_us:8.1f}{run.peak_mib:10.1f}")
    print(f"\nidle {report.idle_mib:.1f} MiB; from ack to visible {statistics.median(report.visible_after_ms):.1f} ms")
    print(f"\n{'one span a request':<26}{'acked/s':>9}{'one commit each/s':>19}{'requests a commit':>19}")
    for name, shared in report.disks.items():
        print(f"{name:<26}{shared.acked_per_s:9.0f}{shared.commits_per_s:19.0f}{shared.requests_per_commit:19.1f}")
    if not report.disks:
        print("not measured: that needs Linux and a C compiler")
    print()
    for name, ratio in report.ratios.items():
        print(f"{name:<72}{ratio:8.2f}")


if __name__ == "__main__":
    main()

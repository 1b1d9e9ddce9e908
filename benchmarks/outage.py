"""How does a collector stand it when its database is away for an hour? `benchmarks/soak.py --outage` runs this.

The database is really away: an SQLite file that somebody else has locked, or a PostgreSQL server of its own that is
stopped as by a crash. All spans are calls to LLMs, the kind that takes room in the spool.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from benchmarks.ingest import memory_mib
from benchmarks.steady import (
    Sent,
    conservation_difference,
    is_over,
    metrics,
    number_of,
    page,
    send_steadily,
    spool_file_mib,
)
from tests.collector.running import Child
from tests.databases import own_server

BEFORE_S: Final = 30.0
"""Sending before the database goes and after everything is caught up."""
SAMPLE_S: Final = 5.0
SAID_S: Final = 300.0
"""How often a line of progress is printed."""


class Database(msgspec.Struct):
    """The books of the collector, and how they leave and come back."""

    url: str
    leave: Callable[[], object]
    come_back: Callable[[], object]


class Outage(msgspec.Struct):
    """All that is printed, as --json prints it."""

    minutes_away: float
    spans_per_s: float
    calls_acknowledged: int
    refused_requests: int
    late_requests: int
    ack_p50_ms: float
    ack_p99_ms: float
    ack_max_ms: float
    noticed_after_s: float
    looked_at_readyz: int
    not_degraded_or_not_200: int
    waiting_spans_at_end: int
    spool_bytes_per_s: float
    spool_bytes_per_span: float
    spool_mib_at_end: float
    spool_mib_at_most: float
    spool_file_mib_at_end: float
    ready_again_after_s: float
    caught_up_after_s: float
    caught_up_per_s: float
    rss_before_mib: float
    rss_at_end_mib: float
    rss_peak_mib: float
    rows_booked: int
    requests_in_rollups: int
    conservation_difference: int
    exit_code: int

    @property
    def is_good(self) -> bool:
        booked_once = self.calls_acknowledged == self.rows_booked == self.requests_in_rollups
        unnoticed = self.refused_requests == self.not_degraded_or_not_200 == 0
        return booked_once and unnoticed and self.conservation_difference == self.exit_code == 0


def outage(folder: Path, minutes: float, spans_per_s: int, *, on_postgresql: bool) -> Outage:
    with _own_postgresql() if on_postgresql else _own_sqlite(folder) as database:
        child = Child(folder, FAREBOX_DATABASE_URL=database.url)
        http = child.started()
        watch = _Watch(child.process.pid, http.port, folder / "spool")
        sent = Sent()
        asyncio.run(_run(watch, child.grpc_address, database, minutes * 60, spans_per_s, sent))
        peak_mib = memory_mib(child.process.pid, "VmHWM")
        exit_code = child.terminate()
        rows = number_of(database.url, "COUNT(*)", "usage_rows")
        in_rollups = number_of(database.url, "SUM(requests)", "rollup_day")
    cuts = statistics.quantiles(sent.ack_ms, n=100)
    grown = watch.waiting_bytes - watch.bytes_before
    return Outage(
        minutes_away=watch.away_s / 60,
        spans_per_s=spans_per_s,
        calls_acknowledged=sent.calls,
        refused_requests=sent.refused,
        late_requests=sent.late,
        ack_p50_ms=cuts[49],
        ack_p99_ms=cuts[98],
        ack_max_ms=max(sent.ack_ms),
        noticed_after_s=watch.noticed_s,
        looked_at_readyz=watch.looks,
        not_degraded_or_not_200=watch.wrong_looks,
        waiting_spans_at_end=watch.waiting_spans,
        spool_bytes_per_s=grown / watch.away_s,
        spool_bytes_per_span=watch.waiting_bytes / watch.waiting_spans,
        spool_mib_at_end=watch.waiting_bytes / 2**20,
        spool_mib_at_most=watch.capacity_bytes / 2**20,
        spool_file_mib_at_end=watch.spool_file_mib,
        ready_again_after_s=watch.ready_again_s,
        caught_up_after_s=watch.caught_up_s,
        caught_up_per_s=watch.waiting_spans / watch.caught_up_s + spans_per_s,
        rss_before_mib=watch.rss_before_mib,
        rss_at_end_mib=watch.rss_mib,
        rss_peak_mib=peak_mib,
        rows_booked=rows,
        requests_in_rollups=in_rollups,
        conservation_difference=conservation_difference(folder / "spool"),
        exit_code=exit_code,
    )


@contextmanager
def _own_sqlite(folder: Path) -> Iterator[Database]:
    path = folder / "farebox.db"
    lock = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
    yield Database(f"sqlite:///{path}", partial(lock.execute, "BEGIN EXCLUSIVE"), partial(lock.execute, "ROLLBACK"))
    lock.close()


@contextmanager
def _own_postgresql() -> Iterator[Database]:
    with own_server() as server:
        yield Database(server.url.render_as_string(hide_password=False), server.stop, server.start)


class _Watch:
    """Looks at the collector while its database is away, and says what it saw."""

    def __init__(self, pid: int, port: int, spool: Path) -> None:
        self._pid, self.port, self._spool = pid, port, spool
        self.looks = self.wrong_looks = 0
        self.away_s = self.noticed_s = self.ready_again_s = self.caught_up_s = 0.0
        self.waiting_spans = self.waiting_bytes = self.bytes_before = self.capacity_bytes = 0
        self.rss_before_mib = self.rss_mib = self.spool_file_mib = 0.0

    async def status(self) -> tuple[bool, str]:
        """Say whether the collector calls itself ready to senders, and as what."""
        head, _, body = (await page(self.port, "/readyz")).partition("\r\n\r\n")
        return " 200 " in head.partition("\r\n")[0], str(json.loads(body)["status"])

    async def until(self, status: str) -> None:
        while await self.status() != (True, status):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)

    async def until_waiting(self, spans: int) -> None:
        """Wait until at most so many spans wait."""
        while (await metrics(self.port, "farebox_spool_spans"))["farebox_spool_spans"] > spans:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def before(self) -> None:
        await self.until("ready")
        self.rss_before_mib = memory_mib(self._pid, "VmRSS")
        self.bytes_before = int(
            (await metrics(self.port, "otelcol_exporter_queue_size"))["otelcol_exporter_queue_size"]
        )

    async def away(self, seconds: float) -> None:
        started = time.monotonic()
        await self.until("degraded")
        self.noticed_s = time.monotonic() - started
        never, due, said = asyncio.Event(), time.monotonic(), 0.0
        while due < started + seconds:
            due = min(due + SAMPLE_S, started + seconds)
            await is_over(never, due)
            self.looks += 1
            self.wrong_looks += await self.status() != (True, "degraded")
            if time.monotonic() - started >= said:
                said += SAID_S
                await self._measure()
                print(
                    f"{time.monotonic() - started:6.0f} s: {self.waiting_spans} spans wait in "
                    f"{self.waiting_bytes / 2**20:.1f} MiB, {self.rss_mib:.1f} MiB resident",
                    file=sys.stderr,
                    flush=True,
                )
        self.away_s = time.monotonic() - started
        await self._measure()

    async def after(self, spans_per_s: int) -> None:
        """Wait until nothing waits but what came within the last second or so."""
        started = time.monotonic()
        await self.until("ready")
        self.ready_again_s = time.monotonic() - started
        await self.until_waiting(spans_per_s)
        self.caught_up_s = time.monotonic() - started

    async def _measure(self) -> None:
        found = await metrics(self.port, "otelcol_exporter_queue_", "farebox_spool_spans")
        self.waiting_spans = int(found["farebox_spool_spans"])
        self.waiting_bytes = int(found["otelcol_exporter_queue_size"])
        self.capacity_bytes = int(found["otelcol_exporter_queue_capacity"])
        self.spool_file_mib = spool_file_mib(self._spool)
        self.rss_mib = memory_mib(self._pid, "VmRSS")


async def _run(
    watch: _Watch, grpc_address: str, database: Database, seconds: float, spans_per_s: int, sent: Sent
) -> None:
    over = asyncio.Event()
    sending = asyncio.create_task(send_steadily(grpc_address, watch.port, spans_per_s, ["llm"], sent, over))
    await asyncio.sleep(BEFORE_S)
    await watch.before()
    await asyncio.to_thread(database.leave)
    await watch.away(seconds)
    await asyncio.to_thread(database.come_back)
    await watch.after(spans_per_s)
    await asyncio.sleep(BEFORE_S)
    over.set()
    await sending
    await watch.until_waiting(0)

"""Senders that each send one request a second, as a batching exporter does, and what a collector says meanwhile.

Half of them send over gRPC, half over HTTP, each on a connection of its own; what is refused is sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec
from benchmarks.traffic import MARK, Kind, request
from sqlalchemy import text
from tests.collector.running import PROTOBUF

from farebox_collector.spool import Spool
from farebox_ledger.store.engine import open_engine, owner_transaction

SENDERS: Final = 8
EVERY_S: Final = 1.0
EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
marks: Final = count(1)
"""What makes the ids of each request its own: see `traffic.MARK`."""


class Sent(msgspec.Struct):
    """What the senders were told."""

    calls: int = 0  # acknowledged ones
    others: int = 0
    refused: int = 0
    late: int = 0  # requests whose turn came over a second late: the senders, not the collector, were slow
    ack_ms: list[float] = []


async def send_steadily(
    grpc_address: str, http_port: int, spans_per_s: int, kinds: Sequence[Kind], sent: Sent, over: asyncio.Event
) -> None:
    """Send until it is over; the senders take the kinds in turn."""
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        export: Any = channel.unary_unary(EXPORT)  # type: ignore[call-arg]  # the stubs ask for what has defaults
        async with asyncio.TaskGroup() as senders:
            for number in range(SENDERS):
                spans = spans_per_s // SENDERS + (number < spans_per_s % SENDERS)
                way = export if number % 2 else await _open_http(http_port)
                offset_s = number * EVERY_S / SENDERS
                senders.create_task(_send(way, kinds[number % len(kinds)], spans, offset_s, sent, over))


async def _send(export: Any, kind: Kind, spans: int, offset_s: float, sent: Sent, over: asyncio.Event) -> None:
    due = time.monotonic() + offset_s
    calls = -(-spans // 10) if kind == "mixed" else spans
    while not await is_over(over, due):
        body = request(kind, spans).replace(MARK, b"%08x" % next(marks))
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


async def is_over(over: asyncio.Event, due: float) -> bool:
    """Wait until it is time for the next request or sample; True when there will be none."""
    try:
        await asyncio.wait_for(over.wait(), max(0.001, due - time.monotonic()))
    except TimeoutError:
        return False
    return True


async def page(port: int, path: str) -> str:
    """Answer a page of the HTTP port, head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path.encode())
    said = (await reader.read()).decode()
    writer.close()
    return said


async def metrics(port: int, *prefixes: str) -> dict[str, float]:
    """Read the metrics without labels whose names begin so."""
    lines = (line.rpartition(" ") for line in (await page(port, "/metrics")).splitlines() if line.startswith(prefixes))
    return {name: float(value) for name, _, value in lines}


def spool_file_mib(spool: Path) -> float:
    return sum(path.stat().st_size for path in spool.glob("spool.db*")) / 2**20


def number_of(url: str, expression: str, table: str) -> int:
    """Ask the books for a number, such as COUNT(*) of the usage rows."""
    engine = open_engine(url)
    with owner_transaction(engine) as connection:
        number = int(connection.execute(text(f"SELECT {expression} FROM {table}")).scalar_one())
    engine.dispose()
    return number


def conservation_difference(folder: Path) -> int:
    spool = Spool(folder, 2**30)
    difference = spool.snapshot().conservation_difference
    spool.close()
    return difference

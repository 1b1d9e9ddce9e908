"""What questions cost as the books grow, and what the sums beside the rows cost whoever writes them.

Run: .venv/bin/python benchmarks/summaries.py [--rows 10000,1000000,10000000] [--databases sqlite,postgresql] [--json]

Each size is one organization's month of 28 days with 3 models, 5 services and 50 users, in a database of its own. Ten
thousand rows are booked as usual; a larger database repeats each of them with new ids and new times within the same
quarter of an hour, its sums are multiplied accordingly, and one day of them is compared with its rows. Questions are
asked through the store, all sizes in turns, the median by the clock; what counts is the ratio to the smallest size.

Writing is measured in CPU time: booking batches of 512 with the rollups and without, in turns, alone and as a part of
everything that a collector does with a span. On PostgreSQL the time of all of the server's processes is in it, unless
the server is elsewhere: then the clock is read. Databases stand in a temporary folder (about 1 GB for a million rows)
and are removed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ingest import Store, ingest, stores
from benchmarks.traffic import requests
from sqlalchemy import Connection, Engine, select, text
from tests.ledger.store.bookings import event, priced

from farebox_collector.spans import Sender
from farebox_ledger.store import writing
from farebox_ledger.store.engine import is_sqlite, open_engine, transaction
from farebox_ledger.store.querying import RowKey, UsageFilter, list_usage
from farebox_ledger.store.rollups import ROLLUPS, add_cells, check_rollups, joined, stored_names
from farebox_ledger.store.schema import usage_rows
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.sqlite_guard import opened
from farebox_ledger.store.statements import quoted
from farebox_ledger.store.summaries import SummaryQuery, month_summary, organization_totals, summarize
from farebox_ledger.store.timeline import day_start_us
from farebox_ledger.store.writing import Booking, book
from farebox_ledger.usage import org_id_of

ORG: Final = org_id_of("acme")
ONE: Final = OrgScope(ORG)
ALL: Final = AllOrganizations()
FIRST_DAY: Final = 20261001
DAYS: Final = 28
SEED_ROWS: Final = 10_000
BATCH: Final = 512
BATCHES: Final = 10
TURNS: Final = 21
MODELS: Final = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5")
USERS: Final = tuple(f"user-{number}" for number in range(50))
SERVICES: Final = tuple(f"service-{number}" for number in range(5))
START_US: Final = day_start_us(FIRST_DAY)
END_US: Final = START_US + DAYS * 86_400_000_000
PAGE: Final = 100

Question = Callable[[Connection], object]
Clock = Callable[[], float]  # seconds


class Asked(msgspec.Struct):
    """The median milliseconds of each question at one size, and their ratio to the smallest size."""

    rows: int
    ms: dict[str, float]
    ratio: dict[str, float] = {}


class Written(msgspec.Struct):
    """Microseconds a row with the rollups and without them, and the ratio of the two in a turn; medians."""

    with_rollups_us: float
    without_us: float
    ratio: float


class Report(msgspec.Struct):
    """All that is printed, as --json prints it."""

    asked: dict[str, list[Asked]] = {}
    written: dict[str, dict[str, Written]] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=numbers, default=[10_000, 1_000_000], help="sizes, the smallest is the measure")
    parser.add_argument("--databases", default="sqlite,postgresql", help="which of the two")
    parser.add_argument("--rounds", type=int, default=60, help="how often each question is asked of each size")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="farebox-summaries-") as folder, ExitStack() as stack:
        for store in stores(Path(folder), stack):
            if store.name in options.databases.split(","):
                report.written[store.name] = written(store, Path(folder))
                report.asked[store.name] = asked(store, options.rows, options.rounds)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        show(report)


def numbers(value: str) -> list[int]:
    found = sorted(int(part) for part in value.split(","))
    if any(number % SEED_ROWS for number in found):
        raise argparse.ArgumentTypeError(f"sizes are multiples of {SEED_ROWS}")
    return found


# Questions.


def asked(store: Store, sizes: Sequence[int], rounds: int) -> list[Asked]:
    engines = [filled(store, size) for size in sizes]
    times: list[dict[str, list[float]]] = [{} for _ in sizes]
    asks = [questions(engine) for engine in engines]
    for number in range(rounds + 3):
        for position, engine in enumerate(engines):
            for name, question in asks[position].items():
                took = asked_once(engine, question)
                if number >= 3:  # the first ones fill the caches
                    times[position].setdefault(name, []).append(took)
    for engine in engines:
        engine.dispose()
    medians = [{name: statistics.median(found) for name, found in one.items()} for one in times]
    return [
        Asked(size, ms, {name: ms[name] / medians[0][name] for name in ms})
        for size, ms in zip(sizes, medians, strict=True)
    ]


def asked_once(engine: Engine, question: Question) -> float:
    started = time.perf_counter()
    with transaction(engine, ONE) as connection:
        question(connection)
    return (time.perf_counter() - started) * 1e3


def questions(engine: Engine) -> dict[str, Question]:
    middle = (START_US + END_US) // 2, bytes(16)
    far = START_US + 86_400_000_000, bytes(16)
    day = SummaryQuery(
        start_us=START_US, end_us=END_US, group_by=("model",), bucket="day", tz="Europe/Istanbul", filter=UsageFilter()
    )

    def page(connection: Connection, after: RowKey | None, **filters: Any) -> object:
        found = list_usage(connection, ONE, UsageFilter(org_id=ORG, **filters), limit=PAGE, after=after)
        assert len(found.rows) == PAGE
        return found

    return {
        "month": lambda connection: month_summary(connection, ONE, ORG, FIRST_DAY // 100),
        "month and total": lambda connection: organization_totals(connection, ONE, ORG, now_us=END_US - 1),
        "days by model, a zone": lambda connection: summarize(connection, ONE, day),
        "first page": partial(page, after=None),
        "page in the middle": partial(page, after=middle),
        "page near the end": partial(page, after=far),
        "first page of a user": partial(page, after=None, user="user-7"),
    }


def filled(store: Store, rows: int) -> Engine:
    """Make a database with that many rows: the seed, each of its rows repeated."""
    engine = open_engine(store.fresh())
    seed(engine)
    copies = rows // SEED_ROWS - 1
    if copies:
        with bulk(engine) as connection:
            multiply_rows(connection, copies)
        with transaction(engine, ALL, write=True) as connection:
            multiply_sums(connection, copies)
    with transaction(engine, ALL) as connection:
        assert check_rollups(connection, ALL, first_day=FIRST_DAY, last_day=FIRST_DAY) == []
    settle(engine)
    return engine


def seed(engine: Engine) -> None:
    random = Random(3)
    made = [call(random, number, START_US, END_US) for number in range(1, SEED_ROWS + 1)]
    for at in range(0, SEED_ROWS, BATCH):
        with transaction(engine, ALL, write=True) as connection:
            book(connection, ALL, made[at : at + BATCH], collector_id=None, batch_ids=(), writer_slot=1)


def call(random: Random, number: int, start_us: int, end_us: int, org_id: int = ORG) -> Booking:
    model, moment = random.choice(MODELS), random.randrange(start_us, end_us)
    made = event(
        number,
        org_id=org_id,
        trace_id=random.randbytes(16),
        occurred_at_us=moment,
        received_at_us=moment,
        request_model=model,
        project="assistant",
        service=random.choice(SERVICES),
        user=random.choice(USERS),
    )
    return Booking(made, priced(random.randrange(10**10), random.randrange(10**10), model=model))


@contextmanager
def bulk(engine: Engine) -> Iterator[Connection]:
    """Open a transaction for filling; what would make it survive a crash is switched off."""
    with ExitStack() as stack:
        connection = stack.enter_context(engine.connect())
        if is_sqlite(connection):
            driver: Any = connection.connection.driver_connection
            stack.enter_context(opened(driver))
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -2000000"):
                driver.execute(f"PRAGMA {pragma}")
        yield connection
        connection.commit()
        if is_sqlite(connection):
            driver.execute("PRAGMA journal_mode = WAL")


def multiply_rows(connection: Connection, copies: int) -> None:
    """Repeat each row under new ids, at another moment of its quarter of an hour, in the order of the key."""
    if is_sqlite(connection):
        new_id, moment = "randomblob(16)", "abs(random()) % 900000000"
        series = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :copies) SELECT i FROM n)"
    else:
        new_id, moment = "uuid_send(gen_random_uuid())", "floor(random() * 900000000)::bigint"
        series = "generate_series(1, :copies)"
    changed = {
        "usage_id": "new_id",
        "trace_id": new_id,
        "occurred_at_us": f"occurred_at_us - occurred_at_us % 900000000 + {moment}",
    }
    names = [column.name for column in usage_rows.columns]
    values = ", ".join(changed.get(name, f'"{name}"') for name in names)
    for day in connection.scalars(select(usage_rows.c.day).distinct().order_by(usage_rows.c.day)).all():
        connection.execute(
            text(
                f"INSERT INTO usage_rows ({quoted(names)}) SELECT {values} FROM "
                f"(SELECT *, {new_id} AS new_id FROM (SELECT * FROM usage_rows WHERE org_id = :org AND day = :day) "
                f"AS seeds CROSS JOIN {series} AS copies ORDER BY new_id) AS made"
            ),
            {"org": ORG, "day": day, "copies": copies},
        )


def multiply_sums(connection: Connection, copies: int) -> None:
    for table in ROLLUPS:
        keys = [column for column in table.primary_key.columns if column.name != "writer_slot"]
        found = connection.execute(select(*keys, *(table.c[name] for name in stored_names()))).all()
        cells = {
            tuple(row[: len(keys)]): [value * copies for value in joined([int(value) for value in row[len(keys) :]])]
            for row in found
        }
        add_cells(connection, table, cells, 1)


def settle(engine: Engine) -> None:
    """Let PostgreSQL know its tables, and SQLite's log be empty, as after a night."""
    if not is_sqlite(engine):
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


# Writing.


def written(store: Store, folder: Path) -> dict[str, Written]:
    """Compare booking, and all that a collector does, with and without the sums."""
    return {
        "booking, one organization": booked(store, 1),
        "booking, forty organizations": booked(store, 40),
        "ingest, one organization": ingested(store, folder, BATCH, 1),
        "ingest, forty organizations": ingested(store, folder, BATCH // 40, 40),
    }


def booked(store: Store, organizations: int, rounds: int = TURNS) -> Written:
    random = Random(5)
    now_us = START_US + 86_400_000_000 // 2
    owners = [org_id_of(f"org-{number}") for number in range(organizations)]
    batches = [
        [
            call(random, batch * BATCH + number, now_us, now_us + 60_000_000, random.choice(owners))
            for number in range(BATCH)
        ]
        for batch in range(BATCHES)
    ]

    def once(url: str, clock: Clock) -> float:
        engine = open_engine(url)
        started = clock()
        for batch in batches:
            with transaction(engine, ALL, write=True) as connection:
                book(connection, ALL, batch, collector_id=None, batch_ids=(), writer_slot=1)
        took = clock() - started
        engine.dispose()
        return took

    return in_turns(store, once, len(batches) * BATCH, rounds)


def ingested(store: Store, folder: Path, per_request: int, organizations: int, rounds: int = TURNS) -> Written:
    """Send requests of the organizations in turn; what waits in the spool is booked 512 spans at a time or more."""
    owners = [Sender(org_id_of(f"org-{number}"), f"org-{number}") for number in range(organizations)]
    spans = BATCHES * organizations * per_request

    def once(url: str, clock: Clock) -> float:
        return ingest(folder, requests("llm", spans, per_request), 4 * organizations, url, owners, clock)

    return in_turns(store, once, spans, rounds)


def in_turns(store: Store, once: Callable[[str, Clock], float], rows: int, rounds: int) -> Written:
    """Measure in turns; each turn's first and second are swapped, so that neither has the warmer machine.

    Turns are short and many, and each has its own ratio: what else the machine does is about the same for both halves.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for are_kept in (True, False) if number % 2 else (False, True):
            url = store.fresh()
            with rollups(are_kept):
                found[are_kept].append(once(url, clock_of(url)) / rows * 1e6)
    ratios = [kept / left_out for kept, left_out in zip(found[True], found[False], strict=True)]
    return Written(*map(statistics.median, (found[True], found[False], ratios)))


def clock_of(url: str) -> Clock:
    """Choose what is read in seconds: CPU time of this process and of a server on this machine, else the clock."""
    engine = open_engine(url)
    if is_sqlite(engine):
        return time.process_time
    with engine.connect() as connection:
        backend = connection.scalar(text("SELECT pg_backend_pid()"))
        is_here = connection.scalar(text("SELECT inet_server_addr() IS NULL"))  # it is asked through a socket's file
    server = processes().get(backend, (0, 0.0))[0]
    engine.dispose()
    if not is_here or not server:
        return time.perf_counter
    return lambda: time.process_time() + server_cpu_s(server)


def server_cpu_s(server: int) -> float:
    """Sum the CPU seconds of a server's processes, those that have ended among them."""
    return sum(cpu_s for pid, (parent, cpu_s) in processes().items() if server in (pid, parent))


def processes() -> dict[int, tuple[int, float]]:
    """List this machine's processes: the parent of each, and CPU seconds, its own and those of children that ended."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            ticks = sum(map(int, fields[11:15]))
            found[int(path.parent.name)] = (int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"))
    return found


@contextmanager
def rollups(are_kept: bool) -> Iterator[None]:
    """Book rows without their sums: neither tallied nor posted."""
    with nullcontext() if are_kept else patch.multiple(writing, Tally=NoTally, post=lambda *_: None):
        yield


class NoTally:
    def add(self, row: object) -> None:
        """Count nothing."""


# What it comes to.


def show(report: Report) -> None:
    for store, sizes in report.asked.items():
        print(f"{store}: median ms, and the ratio to {sizes[0].rows:,} rows (target 1.3)")
        for name in sizes[0].ms:
            cells = "".join(f"{one.rows:>12,}:{one.ms[name]:8.2f} {one.ratio[name]:5.2f}" for one in sizes)
            print(f"  {name:<24}{cells}")
    print("\nwith the rollups against without them (ingest: targets 1.10, and 1.4 with forty organizations)")
    for store, found in report.written.items():
        for name, one in found.items():
            print(f"  {store + ', ' + name:<42}{one.with_rollups_us:8.1f} us {one.without_us:8.1f} us {one.ratio:6.2f}")


if __name__ == "__main__":
    main()

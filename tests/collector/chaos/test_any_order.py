"""Laws 1, 2, 3 and 10 together: any order, any partition, any repetition and any crash end in the same books.

The real spool, pipeline and ledger run without their threads' timing, so that a crash can be put between any two steps:
a process that dies leaves behind what its spool file and the database held at that moment, and the next one starts from
a copy of it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, text

from farebox_collector.database import Books
from farebox_collector.pipeline import Pipeline
from farebox_collector.spans import AttributeValue, Sender, Span
from farebox_collector.spool import Spool
from farebox_collector.telemetry import Telemetry
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.schema import usage_rows
from farebox_ledger.store.scope import AllOrganizations
from tests.collector.chaos.accounts import assert_sums_agree
from tests.collector.running import wait_for

Fate: TypeAlias = Literal[
    "nothing happens",
    "killed before the spool's commit",
    "killed before the answer",
    "killed before the books' commit",
    "killed before the batch is settled",
]
END_US = 1_763_690_000_000_000  # 2025-11-21T01:53:20Z
SECOND, DAY = 1_000_000, 86_400_000_000
OUTSIDE = ("org_id", "usage_id", "covered_by", "charge_version")  # of an organization, or of how the books got there
ROLLUPS = ("rollup_day", "rollup_quarter", "rollup_day_reason", "rollup_day_by")
_names = count(1)


class Killed(BaseException):
    """Ends a step as the death of the process would: nothing catches it."""


class Line:
    """A collector from its spool to its books, one step at a time; its spool's folder lives on through its deaths."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        self._generations = count(1)
        self._telemetry = Telemetry()
        self._spool = Spool(folder / "0", 2**30)
        collector_id = self._spool.collector_id
        self._books = Books(engine, collector_id=collector_id, default_org=None, catalog_poll_s=3600)
        self._start()

    def accept(self, sender: Sender, spans: Sequence[Span], others: int = 0) -> None:
        """Take a request: on the disk when this returns."""
        asyncio.run(self._spool.append(sender, END_US, list(spans), others=others))

    def book(self) -> None:
        """Book what waits, and wait until the spool has forgotten it."""
        self._pipeline._step()
        wait_for(lambda: self._spool.snapshot().pending_spans == 0)

    def die(self) -> None:
        """End the process and start the next one on what lies on the disk now."""
        self._start_from(self._left_behind())

    def book_and_die_before_the_commit(self) -> None:
        with _at_commit(self.engine, _die), pytest.raises(Killed):
            self._pipeline._step()
        self.die()

    def book_and_die_before_settling(self) -> None:
        """Book, and go on from what lay on the disk when the books' last transaction was committed."""
        left: list[Path] = []
        with _at_commit(self.engine, lambda: left.append(self._left_behind())):
            self._pipeline._step()
        self._start_from(left[-1])

    def quarantined(self) -> list[Span]:
        """The spans in the quarantine."""
        found = self._spool._connection.execute("SELECT span FROM quarantine ORDER BY id").fetchall()
        return [msgspec.msgpack.decode(payload, type=Span) for (payload,) in found]

    def check(self) -> None:
        """Check the conservation law, which has to hold at every moment."""
        assert self._spool.snapshot().conservation_difference == 0

    def close(self) -> None:
        self._spool.close()

    def _left_behind(self) -> Path:
        left = self._folder / str(next(self._generations))
        shutil.copytree(self._spool.folder, left)
        return left

    def _start_from(self, folder: Path) -> None:
        before = self._spool.folder
        self._spool.close()
        shutil.rmtree(before)
        self._spool = Spool(folder, 2**30)
        self._start()

    def _start(self) -> None:
        self._pipeline = Pipeline(self._spool, self._books, self._telemetry)
        self._pipeline._stopping.set()  # a step that finds nothing does not wait for something
        self.check()


@contextmanager
def _at_commit(engine: Engine, act: Callable[[], None]) -> Iterator[None]:
    """Do something before each commit on the database."""

    def before_commit(_: Connection) -> None:
        act()

    event.listen(engine, "commit", before_commit)
    try:
        yield
    finally:
        event.remove(engine, "commit", before_commit)


def _die() -> None:
    raise Killed


class Tenant:
    """An organization of its own, and what the books say of it in words that do not name it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        slug = f"org-{next(_names)}"
        with transaction(engine, AllOrganizations(), write=True) as connection:
            self.sender = Sender(create_organization(connection, slug).org_id, slug)

    def rows(self) -> list[tuple[Any, ...]]:
        """All columns of all rows."""
        columns = ", ".join(f'"{column.name}"' for column in usage_rows.columns if column.name not in OUTSIDE)
        return self._read(f"SELECT {columns} FROM usage_rows WHERE org_id = :org ORDER BY trace_id, span_id")

    def coverage(self) -> list[tuple[Any, ...]]:
        """Who bills instead of whom."""
        return self._read(
            "SELECT one.span_id, other.span_id FROM usage_rows AS one JOIN usage_rows AS other"
            " ON other.org_id = one.org_id AND other.usage_id = one.covered_by"
            " WHERE one.org_id = :org ORDER BY 1, 2"
        )

    def rollups(self) -> dict[str, list[tuple[Any, ...]]]:
        """All cells of all rollups that count something, the writers' slots added up."""
        return {table: self._cells(table) for table in ROLLUPS}

    def versions_without_a_row(self) -> list[tuple[Any, ...]]:
        """Rows whose charge has changed more often, or less often, than old charges are kept."""
        return self._read(
            "SELECT usage_id FROM usage_rows WHERE org_id = :org AND charge_version - 1 <> (SELECT COUNT(*)"
            " FROM charge_versions WHERE charge_versions.org_id = usage_rows.org_id"
            " AND charge_versions.usage_id = usage_rows.usage_id)"
        )

    def _cells(self, table: str) -> list[tuple[Any, ...]]:
        with owner_transaction(self._engine) as connection:
            found = connection.execute(text(f"SELECT * FROM {table} WHERE org_id = :org"), {"org": self.sender.org_id})
            names = list(found.keys())
            measures = names.index("writer_slot") + 1
            cells: dict[tuple[Any, ...], list[int]] = {}
            for row in found:
                sums = cells.setdefault(tuple(row[1 : measures - 1]), [0] * (len(names) - measures))
                for position, value in enumerate(row[measures:]):
                    sums[position] += value
        return sorted((*key, *sums) for key, sums in cells.items() if any(sums))

    def _read(self, statement: str) -> list[tuple[Any, ...]]:
        with owner_transaction(self._engine) as connection:
            found = connection.execute(text(statement), {"org": self.sender.org_id})
            return [tuple(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in found]


# What is sent: traces put together from the shapes that emitters really send.


class Shaper:
    """Draws spans of one trace; each shape may hang below any span drawn before."""

    def __init__(self, draw: st.DrawFn, trace: int, ids: Iterator[int]) -> None:
        self.draw = draw
        self.trace_id = bytes([trace]) * 16
        self.spans: list[Span] = []
        self._ids = ids

    def span(
        self,
        parent: Span | None,
        *,
        operation: str = "chat",
        scope: str = "scope.a",
        tokens: tuple[int, int] | None = (20, 10),
        start: int = 0,
        seconds: int = 4,
        model: str = "gpt-4o-mini",
        response: str | None = None,
        is_error: bool = False,
        day: int = 0,
    ) -> Span:
        attributes: dict[str, AttributeValue] = {"gen_ai.operation.name": operation, "gen_ai.provider.name": "openai"}
        if operation == "chat":
            attributes["gen_ai.request.model"] = model
        if tokens is not None:
            attributes |= {"gen_ai.usage.input_tokens": tokens[0], "gen_ai.usage.output_tokens": tokens[1]}
        if response is not None:
            attributes["gen_ai.response.id"] = response
        start_us = END_US + start * SECOND + day * DAY
        made = Span(
            trace_id=self.trace_id,
            span_id=next(self._ids).to_bytes(8, "big"),
            parent_span_id=None if parent is None else parent.span_id,
            scope=scope,
            kind=1 if operation == "invoke_agent" else 3,
            start_us=start_us,
            end_us=start_us + seconds * SECOND,
            is_error=is_error,
            status_message=None,
            attributes=attributes,
        )
        self.spans.append(made)
        return made

    def parent(self) -> Span | None:
        return self.draw(st.sampled_from([None, *self.spans]))

    def tokens(self) -> tuple[int, int] | None:
        return self.draw(st.sampled_from([(20, 10), (40, 20), (7, 0), None]))

    def day(self) -> int:
        return self.draw(st.sampled_from([0, 0, 0, 1, 2, 3]))


def call(shaper: Shaper) -> None:
    model = shaper.draw(st.sampled_from(["gpt-4o-mini", "gpt-4o", "unheard-of-1"]))
    is_error = shaper.draw(st.booleans())
    shaper.span(shaper.parent(), tokens=shaper.tokens(), model=model, is_error=is_error, day=shaper.day())


def agent(shaper: Shaper) -> None:
    """A container over some calls, whose own usage says the same, more, or nothing; its calls may come days later."""
    day = shaper.day()
    own = shaper.draw(st.sampled_from([None, (40, 20), (400, 200)]))
    above = shaper.span(shaper.parent(), operation="invoke_agent", tokens=own, seconds=9, day=day)
    for start in range(shaper.draw(st.integers(0, 2))):
        shaper.span(above, tokens=(20, 10), start=start, day=day + shaper.draw(st.sampled_from([0, 0, 1])))


def wrapper(shaper: Shaper) -> None:
    """A framework's call around the SDK's: covered by its child, or in need of a review when it says more."""
    own = shaper.draw(st.sampled_from([(20, 10), (400, 200), None]))
    day = shaper.day()
    outer = shaper.span(shaper.parent(), scope="framework", tokens=own, seconds=8, day=day)
    shaper.span(outer, scope="sdk", tokens=shaper.tokens(), start=1, day=day)


def twins(shaper: Shaper) -> None:
    parent, day = shaper.parent(), shaper.day()
    for _ in range(2):
        shaper.span(parent, tokens=(33, 3), day=day)


def same_response(shaper: Shaper) -> None:
    """Spans of one response, in one trace, sometimes on both sides of midnight."""
    for _ in range(2):
        scope = shaper.draw(st.sampled_from(["gateway", "sdk"]))
        shaper.span(shaper.parent(), scope=scope, tokens=shaper.tokens(), response="response-0001", day=shaper.day())


def layers(shaper: Shaper) -> None:
    """Two libraries that saw one call without being parent and child."""
    day = shaper.day()
    shaper.span(shaper.parent(), scope="one", tokens=(55, 5), seconds=6, day=day)
    shaper.span(shaper.parent(), scope="other", tokens=(55, 5), start=1, seconds=3, day=day)


def fuller_version(shaper: Shaper) -> None:
    """One span sent twice with different contents, as by an emitter that ends it twice."""
    first = shaper.span(shaper.parent(), tokens=shaper.tokens())
    second = shaper.span(None, tokens=(60, 6), seconds=5)
    second.span_id, second.parent_span_id = first.span_id, first.parent_span_id


SHAPES: tuple[Callable[[Shaper], None], ...] = (
    call, call, agent, wrapper, twins, same_response, layers, fuller_version,
)  # fmt: skip


@st.composite
def sent_spans(draw: st.DrawFn) -> list[Span]:
    """The spans of one or two traces."""
    ids = count(1)
    spans: list[Span] = []
    for trace in range(1, draw(st.integers(1, 2)) + 1):
        shaper = Shaper(draw, trace, ids)
        for shape in draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4)):
            shape(shaper)
        spans += shaper.spans
    return spans


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Span], list[tuple[list[Span], Fate]]]:
    """What is sent, and how it arrives: in which order, in which pieces, what of it twice, and what happens then."""
    spans = draw(sent_spans())
    arriving = draw(st.permutations(spans + draw(st.lists(st.sampled_from(spans), max_size=3))))
    pieces: list[tuple[list[Span], Fate]] = []
    while arriving:
        size = draw(st.integers(1, len(arriving)))
        pieces.append((arriving[:size], draw(st.sampled_from(get_args(Fate)))))
        arriving = arriving[size:]
    return spans, pieces


def arrive(line: Line, sender: Sender, piece: Sequence[Span], fate: Fate) -> None:
    """Let a request arrive and be booked, with one death on the way; who was not answered sends it again."""
    if fate == "killed before the spool's commit":
        line.die()
    line.accept(sender, piece, others=1)
    if fate == "killed before the answer":
        line.die()
        line.accept(sender, piece, others=1)
    line.check()
    if fate == "killed before the books' commit":
        line.book_and_die_before_the_commit()
    elif fate == "killed before the batch is settled":
        line.book_and_die_before_settling()
    line.book()
    line.check()


def assert_history_is_without_effect(
    line: Line, spans: Sequence[Span], pieces: Sequence[tuple[Sequence[Span], Fate]]
) -> None:
    at_once, piecemeal = Tenant(line.engine), Tenant(line.engine)
    arrive(line, at_once.sender, spans, "nothing happens")
    for piece, fate in pieces:
        arrive(line, piecemeal.sender, piece, fate)

    assert piecemeal.rows() == at_once.rows()
    assert piecemeal.coverage() == at_once.coverage()
    assert piecemeal.rollups() == at_once.rollups()
    assert piecemeal.versions_without_a_row() == at_once.versions_without_a_row() == []


@contextmanager
def opened(engine: Engine) -> Iterator[Line]:
    """A line with its spool in memory where the system has a folder there: no power is cut here."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="farebox-chaos-", dir=shared if shared.is_dir() else None) as folder:
        line = Line(engine, Path(folder))
        try:
            yield line
        finally:
            line.close()
    assert_sums_agree(engine)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_any_order_partition_repetition_and_crash_end_in_the_same_books(sqlite_engine: Engine) -> None:
    check(sqlite_engine, 400)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_any_order_partition_repetition_and_crash_end_in_the_same_books_on_postgresql(postgres_engine: Engine) -> None:
    check(postgres_engine, 100)


def test_some_orders_and_crashes_end_in_the_same_books(sqlite_engine: Engine) -> None:
    check(sqlite_engine, 25)


def check(engine: Engine, examples: int) -> None:
    with opened(engine) as line:

        @given(history=histories())
        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        def holds(history: tuple[list[Span], list[tuple[list[Span], Fate]]]) -> None:
            assert_history_is_without_effect(line, *history)

        holds()


def test_each_death_between_two_steps_leaves_one_row(sqlite_engine: Engine) -> None:
    shaper = Shaper(lambda strategy: None, 1, count(1))  # type: ignore[arg-type]  # nothing is drawn here
    span = shaper.span(None)
    with opened(sqlite_engine) as line:
        for fate in get_args(Fate):
            tenant = Tenant(sqlite_engine)

            arrive(line, tenant.sender, [span], fate)

            assert len(tenant.rows()) == 1, fate


def test_a_session_of_many_days_is_one_trace_whichever_day_comes_last(sqlite_engine: Engine) -> None:
    shaper = Shaper(lambda strategy: None, 1, count(1))  # type: ignore[arg-type]  # nothing is drawn here
    first = shaper.span(None, response="response-0001", day=0)
    again = shaper.span(first, response="response-0001", day=1)
    later = shaper.span(None, day=2)
    much_later = shaper.span(None, response="response-0001", day=5)
    days = [first, again, later, much_later]

    with opened(sqlite_engine) as line:
        for order in (days, days[::-1], [later, first, much_later, again]):
            assert_history_is_without_effect(line, days, [([span], "nothing happens") for span in order])

"""`farebox import`: books the calls that a CSV or NDJSON file tells, each once, however often the file is read."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import TypeAlias

import msgspec
from sqlalchemy import Engine

from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.errors import InvalidInput, LedgerError, NotFound
from farebox_ledger.pricing import PriceBook
from farebox_ledger.recording import MAX_CALLS, WriterSlot, event_of, preview, record
from farebox_ledger.recording.files import ReadLine, csv_calls, ndjson_calls
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import organization_by_slug
from farebox_ledger.store.prices import ensure_shipped_prices, load_book
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.usage import UsageEvent, org_id_of

_EVERYBODY = AllOrganizations()
_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_SHOWN = 100

NumberedEvent: TypeAlias = tuple[int, UsageEvent]
"""A call with the number of its line."""


class LinesRefused(LedgerError):
    """Some lines could not be booked; all the others were."""


class Imported(msgspec.Struct):
    """What became of the lines of a file; with --dry-run, what would."""

    booked: int = 0
    unpriced: int = 0
    standing: int = 0
    refused: int = 0
    dry_run: bool = False


def import_usage(arguments: Sequence[str]) -> int:
    """Import usage rows from a file.

    The exit code: 0 every line stands in the books, 1 some were refused or the database cannot be used, 2 wrong use.
    """
    parser = argparse.ArgumentParser(
        "farebox import", description="Book the calls of a CSV or NDJSON file. Reading it again books nothing twice."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .csv, .ndjson or .jsonl file")
    parser.add_argument("--org", metavar="SLUG", help="organization of the lines that name none")
    parser.add_argument("--format", choices=("csv", "ndjson"), help="what the file is (by its name)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be booked, and book nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    options.format = options.format or _SUFFIXES.get(options.file.suffix.lower())
    if options.format is None:
        parser.error(f"{options.file} says nothing of its format: add --format csv or --format ndjson")
    return guarded("farebox import", lambda: _import(options))


def _import(options: argparse.Namespace) -> None:
    with _opened_lines(options.file, options.format) as lines, opened_database() as engine:
        ensure_shipped_prices(engine)
        importing = Importing(engine, options.file, options.org, is_dry=options.dry_run)
        for chunk in _chunks(lines):
            importing.take(chunk)
            _show_progress(f"\rfarebox import: {importing.lines} lines")
        _show_progress("\n")
        outcome = importing.outcome
    if options.json:
        print_json(outcome)
    else:
        done = "would be booked" if outcome.dry_run else "booked"
        print(
            f"{outcome.booked} {done} ({outcome.unpriced} without a price), {outcome.standing} stand already, "
            f"{outcome.refused} refused"
        )
    if outcome.refused:
        raise LinesRefused(f"{outcome.refused} lines were refused; correct them and import the file again")


class Importing:
    """Takes the lines of one file, chunk by chunk, each organization's part of a chunk in one transaction."""

    def __init__(self, engine: Engine, file: Path, organization: str | None, *, is_dry: bool) -> None:
        """Read the prices, which hold for the whole file."""
        self.outcome = Imported(dry_run=is_dry)
        self.lines = 0
        self._engine = engine
        self._file = file
        self._organization = organization
        self._slot = WriterSlot(engine, "import")
        self._exists: dict[str, bool] = {}
        with transaction(engine, _EVERYBODY) as connection:
            self._prices: PriceBook = load_book(connection)

    def take(self, lines: Sequence[ReadLine]) -> None:
        """Book what a chunk of lines tells and name those that cannot be booked."""
        events = sorted(self._events(lines), key=lambda numbered: (numbered[1].org_id, numbered[0]))
        for org_id, part in groupby(events, key=lambda numbered: numbered[1].org_id):
            self._book(OrgScope(org_id), list(part))
        self.lines += len(lines)

    def _events(self, lines: Iterable[ReadLine]) -> Iterator[NumberedEvent]:
        now_us = time.time_ns() // 1000
        for line in lines:
            if line.call is None:
                self._refuse(line.number, line.refusal or InvalidInput("line", "cannot be read"))
                continue
            try:
                org_id = self._org_id(line.call.organization or self._organization)
                yield line.number, event_of(line.call, org_id=org_id, key=None, received_at_us=now_us)
            except InvalidInput as error:
                self._refuse(line.number, error)

    def _org_id(self, slug: str | None) -> int:
        if slug is None:
            raise InvalidInput("organization", "required, and missing; or add --org SLUG")
        if slug not in self._exists:
            with transaction(self._engine, _EVERYBODY) as connection:
                self._exists[slug] = organization_by_slug(connection, slug) is not None
        if not self._exists[slug]:
            raise InvalidInput("organization", f"{NotFound('organization', slug)}; make it by `farebox orgs create`")
        return org_id_of(slug)

    def _book(self, scope: OrgScope, numbered: Sequence[NumberedEvent]) -> None:
        """Book events together; when one is refused, each alone, so that the others are booked."""
        events = [event for _, event in numbered]
        try:
            self._write(scope, events)
        except InvalidInput as error:
            if len(numbered) == 1:
                self._refuse(numbered[0][0], error)
                return
            for one in numbered:
                self._book(scope, [one])

    def _write(self, scope: OrgScope, events: Sequence[UsageEvent]) -> None:
        if self.outcome.dry_run:
            with transaction(self._engine, scope) as connection:
                answers = preview(connection, scope, events, prices=self._prices)
        else:
            slot = self._slot.number()
            with transaction(self._engine, scope, write=True) as connection:
                answers = record(connection, scope, events, prices=self._prices, writer_slot=slot)
        new = [answer for answer in answers if answer.is_new]
        self.outcome.booked += len(new)
        self.outcome.unpriced += sum(answer.charge.status == "unpriced" for answer in new)
        self.outcome.standing += len(answers) - len(new)

    def _refuse(self, number: int, error: InvalidInput) -> None:
        self.outcome.refused += 1
        if self.outcome.refused <= _SHOWN:
            print(f"{self._file}:{number}: {error}", file=sys.stderr)
        elif self.outcome.refused == _SHOWN + 1:
            print(f"farebox import: {_SHOWN} refused lines were named, the rest are counted", file=sys.stderr)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)


@contextmanager
def _opened_lines(path: Path, form: str) -> Iterator[Iterator[ReadLine]]:
    try:
        file = path.open(encoding="utf-8-sig", errors="replace", newline="")
    except OSError as error:
        raise InvalidInput("FILE", f"{path} cannot be read: {error.strerror}") from None
    with file:
        yield csv_calls(file) if form == "csv" else ndjson_calls(file)


def _chunks(lines: Iterator[ReadLine]) -> Iterator[list[ReadLine]]:
    while chunk := list(islice(lines, MAX_CALLS)):
        yield chunk

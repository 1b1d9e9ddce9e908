"""`farebox rollups`: compare the sums with the rows, cell by cell, or make them anew from the rows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy import Engine

from farebox_ledger.commands.moments import day, day_text
from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.errors import LedgerError
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.rollups import Difference, booked_days, check_rollups, rebuild_rollups
from farebox_ledger.store.scope import AllOrganizations

_EVERYBODY = AllOrganizations()
_SHOWN = 20


class SumsDiffer(LedgerError):
    """The sums are not those of the rows."""


def rollups(arguments: Sequence[str]) -> int:
    """Check the sums against the rows, or rebuild them.

    The exit code: 0 every cent is there, 1 sums and rows differ or the database cannot be used, 2 wrong use.
    """
    parser = argparse.ArgumentParser("farebox rollups", description="Compare the sums with the rows, or rebuild them.")
    parser.add_argument("action", choices=("check", "rebuild"), help="compare by equality · make anew from the rows")
    parser.add_argument("--first-day", type=day, metavar="DAY", help="from this UTC day on, such as 2026-11-01")
    parser.add_argument("--last-day", type=day, metavar="DAY", help="up to this UTC day, inclusive")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    run = _check if options.action == "check" else _rebuild
    return guarded("farebox rollups", lambda: run(options))


def _check(options: argparse.Namespace) -> None:
    differences: list[Difference] = []
    with opened_database() as engine:
        days = _days(engine, options)
        for number in _with_progress(days, "compared"):
            with transaction(engine, _EVERYBODY) as connection:
                differences += check_rollups(connection, _EVERYBODY, first_day=number, last_day=number)
    if options.json:
        print_json({"days": len(days), "differences": msgspec.to_builtins(differences)})
    elif not differences:
        print(f"the sums of {len(days)} days are those of their rows")
    for one in [] if options.json else differences[:_SHOWN]:
        print(f"{one.rollup} {one.key}: {one.measure} is {one.is_sum} and should be {one.should_be}")
    if differences:
        raise SumsDiffer(f"{len(differences)} sums differ from their rows: run `farebox rollups rebuild`")


def _rebuild(options: argparse.Namespace) -> None:
    with opened_database() as engine:
        days = _days(engine, options)
        for one in _with_progress(days, "rebuilt"):
            with transaction(engine, _EVERYBODY, write=True) as connection:
                rebuild_rollups(connection, _EVERYBODY, first_day=one, last_day=one)
    if options.json:
        print_json({"days": len(days)})
    else:
        print(f"rebuilt the sums of {len(days)} days")


def _days(engine: Engine, options: argparse.Namespace) -> list[int]:
    with transaction(engine, _EVERYBODY) as connection:
        pairs = booked_days(connection, _EVERYBODY, options.first_day, options.last_day)
    return sorted({number for _, number in pairs})


def _with_progress(days: Sequence[int], done: str) -> Iterator[int]:
    """Go through the days, one transaction each, so that writers never wait for long."""
    for count, one in enumerate(days, start=1):
        yield one
        if sys.stderr.isatty():
            end = "\n" if count == len(days) else ""
            print(f"\rfarebox rollups: {done} {day_text(one)}, {count} of {len(days)}", end=end, file=sys.stderr)

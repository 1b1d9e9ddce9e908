"""`farebox demo-data`: fill a database with a year of plausible usage, to look at sums, credits, exports and pages."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from typing import Final

import msgspec
from sqlalchemy import Engine

from farebox_ledger.commands.demo_accounts import open_demo_accounts
from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.demo_usage import DAYS, ORGANIZATIONS, demo_events, slugs
from farebox_ledger.errors import Conflict
from farebox_ledger.pricing import PriceBook
from farebox_ledger.recording import MAX_CALLS, WriterSlot, record
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import create_organization, list_organizations
from farebox_ledger.store.prices import ensure_shipped_prices, load_book
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.statements import chunks
from farebox_ledger.store.timeline import DAY_US, day_start_us
from farebox_ledger.usage import UsageEvent, day_of

_EVERYBODY: Final = AllOrganizations()
_DESCRIPTION: Final = """\
Book a year of plausible usage for five organizations into the database of FAREBOX_DATABASE_URL, priced as real calls
are, and charged to credits and budgets of theirs. It ends today; running it again on the same day books nothing twice.
Use a database of its own: usage rows cannot be deleted."""


class Booked(msgspec.Struct):
    """What a run has booked; `standing` rows were there from a run before."""

    organizations: list[str]
    days: int = 0
    booked: int = 0
    unpriced: int = 0
    standing: int = 0


def demo_data(arguments: Sequence[str]) -> int:
    """Fill the database.

    The exit code: 0 done, 1 the database holds other organizations or cannot be used, 2 wrong use.
    """
    parser = argparse.ArgumentParser("farebox demo-data", description=_DESCRIPTION)
    parser.add_argument("--days", type=_days, default=DAYS, help=f"how many days up to today (1 to {DAYS}; {DAYS})")
    parser.add_argument("--seed", type=int, default=1, help="another number gives other calls (1)")
    parser.add_argument("--anyway", action="store_true", help="also into a database that holds other organizations")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    return guarded("farebox demo-data", lambda: _fill(options))


def _days(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= DAYS:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {DAYS}, got {value!r}")
    return int(value)


def _fill(options: argparse.Namespace) -> None:
    now_us = time.time_ns() // 1000
    booked = Booked(list(slugs()))
    with opened_database() as engine:
        ensure_shipped_prices(engine)
        last_day_us = day_start_us(day_of(now_us))
        first_day_us = last_day_us - (options.days - 1) * DAY_US
        _make_organizations(engine, anyway=options.anyway, first_day_us=first_day_us, now_us=now_us)
        with transaction(engine, _EVERYBODY) as connection:
            prices = load_book(connection)
        slot = WriterSlot(engine, "demo")
        days = demo_events(last_day_us, now_us=now_us, seed=options.seed, days=options.days)
        for events in days:
            _book(engine, events, prices, slot, booked)
            booked.days += 1
            _show_progress(f"\rfarebox demo-data: {booked.days} of {options.days} days, {booked.booked} calls")
    _show_progress("\n")
    if options.json:
        print_json(booked)
    else:
        print(
            f"{booked.booked} calls booked for {', '.join(booked.organizations)} "
            f"({booked.unpriced} without a price), {booked.standing} stood already"
        )


def _make_organizations(engine: Engine, *, anyway: bool, first_day_us: int, now_us: int) -> None:
    """Make those that are missing, with their credits and budgets.

    Raises:
        Conflict: the database is somebody's.
    """
    with transaction(engine, _EVERYBODY, write=True) as connection:
        known = {organization.slug for organization in list_organizations(connection, _EVERYBODY)}
        others = sorted(known - set(slugs()))
        if others and not anyway:
            raise Conflict(
                f"the database holds other organizations ({', '.join(others[:3])}): set FAREBOX_DATABASE_URL to a "
                "database of its own, or add --anyway; usage rows cannot be deleted"
            )
        for organization in ORGANIZATIONS:
            if organization.slug not in known:
                create_organization(connection, organization.slug, organization.name)
                open_demo_accounts(connection, organization.slug, first_day_us=first_day_us, now_us=now_us)


def _book(engine: Engine, events: Sequence[UsageEvent], prices: PriceBook, slot: WriterSlot, booked: Booked) -> None:
    """Book one day, each organization's part by itself."""
    owned = sorted(events, key=lambda event: (event.org_id, event.occurred_at_us))
    for org_id, part in groupby(owned, key=lambda event: event.org_id):
        scope = OrgScope(org_id)
        for chunk in chunks(list(part), MAX_CALLS):
            number = slot.number()
            with transaction(engine, scope, write=True) as connection:
                answers = record(connection, scope, chunk, prices=prices, writer_slot=number)
            new = [answer for answer in answers if answer.is_new]
            booked.booked += len(new)
            booked.unpriced += sum(answer.charge.status == "unpriced" for answer in new)
            booked.standing += len(answers) - len(new)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)

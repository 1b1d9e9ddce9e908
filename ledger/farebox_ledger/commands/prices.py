"""`farebox prices`: look into the catalog, find the price of a model, quote calls from a file, compare the catalogs.

Arguments come in, text or JSON goes to standard output, the exit code goes back. Works on the database that
FAREBOX_DATABASE_URL names; an empty one gets its tables and the shipped prices first.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

import msgspec
from sqlalchemy import Engine

from farebox_ledger.catalog import Disagreement, compare
from farebox_ledger.commands.opening import opened_database, print_json
from farebox_ledger.commands.price_administration import add_administration_commands
from farebox_ledger.commands.price_syncs import add_sync_commands
from farebox_ledger.errors import InvalidInput, LedgerError, NotFound
from farebox_ledger.pricing import Match, NoMatch, Price, PriceBook, PricingRequest, Rates, canonical_provider
from farebox_ledger.pricing.price import ARCHIVE, price_status
from farebox_ledger.pricing.quoting import QuoteError, encode_quote, quote_line
from farebox_ledger.pricing.rates import STANDARD
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import organization_by_slug, organizations_by_id
from farebox_ledger.store.prices import ensure_shipped_prices, list_prices, load_book
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.usage import Usage, org_id_of

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PROGRESS_EVERY: Final = 100_000


def prices(arguments: Sequence[str]) -> int:
    """List, resolve, quote, sync and set prices.

    The exit code: 0 done, 1 something was wrong or not found, 2 wrong use.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except BrokenPipeError:  # whoever reads has had enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LedgerError, OSError) as error:
        print(f"farebox prices: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="farebox prices", description="Work with the price catalog.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="list prices by provider and model")
    listing.add_argument("--provider", help="only this provider, in any spelling")
    listing.add_argument("--search", metavar="TEXT", help="only models whose name contains TEXT")
    listing.add_argument("--limit", type=_positive, default=100, help="at most this many (100)")
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    listing.set_defaults(run=_list)

    resolving = commands.add_parser("resolve", help="find the price of a model and say how it was found")
    resolving.add_argument("provider", metavar="PROVIDER", help='the provider, "" where it is not known')
    resolving.add_argument("model", metavar="MODEL")
    resolving.add_argument("--at", type=_moment, metavar="T", help="when, RFC 3339 with offset (now)")
    resolving.add_argument("--region", help="the region of the call")
    resolving.add_argument("--org", metavar="SLUG", help="with the overrides of this organization")
    resolving.add_argument("--json", action="store_true", help="print one JSON object")
    resolving.set_defaults(run=_resolve)

    quoting = commands.add_parser("quote", help="price calls: JSON lines in, JSON lines out")
    quoting.add_argument("file", metavar="FILE", help="a file of JSON lines, - for standard input")
    quoting.add_argument("--json", action="store_true", help="JSON lines are what quote prints anyway")
    quoting.set_defaults(run=_quote)

    comparing = commands.add_parser("disagreements", help="list where the catalog and the archive differ")
    comparing.add_argument("--provider", help="only this provider, in any spelling")
    comparing.add_argument("--at", type=_moment, metavar="T", help="when, RFC 3339 with offset (now)")
    comparing.add_argument("--json", action="store_true", help="print one JSON object")
    comparing.set_defaults(run=_disagreements)

    add_sync_commands(commands)
    add_administration_commands(commands)
    return parser


def _list(options: argparse.Namespace) -> int:
    with opened_database() as engine:
        ensure_shipped_prices(engine)
        with transaction(engine, AllOrganizations()) as connection:
            listed = list_prices(
                connection, AllOrganizations(), search=options.search, provider=options.provider, limit=options.limit
            )
            owned = {price.org_id for price in listed if price.org_id is not None}
            slugs = {org_id: owner.slug for org_id, owner in organizations_by_id(connection, owned).items()}
    if options.json:
        print_json([_listed(price, slugs.get(price.org_id or 0)) for price in listed])
        return 0
    for price in sorted(listed, key=_by_source_and_time):
        owner = f" of {slugs[price.org_id]}" if price.org_id is not None else ""
        source = f"{price.source}{owner}{_validity(price)}"
        print(f"{price.provider:20}  {price.model:48}  {_short(price.rates):40}  {source}")
    if len(listed) == options.limit:
        print(f"farebox prices: the first {options.limit}; use --limit, --provider, --search", file=sys.stderr)
    return 0


def _resolve(options: argparse.Namespace) -> int:
    request = PricingRequest(
        provider=options.provider,
        request_model=options.model,
        response_model=None,
        at_us=_now_us() if options.at is None else options.at,
        usage=Usage(),
        org_id=org_id_of(options.org) if options.org else None,
        region=options.region,
    )
    with opened_database() as engine:
        _refuse_unknown_organization(engine, options.org)
        answer = _load(engine).resolve(request)
    if options.json:
        print_json(_shown(answer))
    else:
        print("\n".join(_lines(_shown(answer))))
    return 0 if isinstance(answer, Match) else 1


def _refuse_unknown_organization(engine: Engine, slug: str | None) -> None:
    """Stop at a slug that nobody has: everybody's prices would pass for that organization's own."""
    if slug is None:
        return
    with transaction(engine, AllOrganizations()) as connection:
        if organization_by_slug(connection, slug) is None:
            raise NotFound("organization", slug)


def _quote(options: argparse.Namespace) -> int:
    with opened_database() as engine:
        book = _load(engine)
    if options.file == "-":
        return _quote_lines(book, sys.stdin.buffer, sys.stdout.buffer, at_once=True)
    try:
        with Path(options.file).open("rb") as lines:
            return _quote_lines(book, lines, sys.stdout.buffer)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InvalidInput("FILE", f"{options.file} cannot be read: {error.strerror}") from error


def _quote_lines(book: PriceBook, lines: Iterable[bytes], output: IO[bytes], *, at_once: bool = False) -> int:
    """Quote line by line; a line that cannot be read gets an error object and lets the others pass.

    `at_once` hands each answer out before the next line is read, for a program that asks through a pipe.
    """
    is_watched = sys.stderr.isatty()
    failed = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        answer = quote_line(book, line, now_us=_now_us())
        failed += isinstance(answer, QuoteError)
        output.write(encode_quote(answer) + b"\n")
        if at_once:
            output.flush()
        if is_watched and not number % _PROGRESS_EVERY:
            print(f"farebox prices: {number} lines", file=sys.stderr)
    output.flush()
    if failed:
        print(f"farebox prices: {failed} lines could not be read; their output says why", file=sys.stderr)
    return 1 if failed else 0


def _disagreements(options: argparse.Namespace) -> int:
    """Compare what the two catalogs hold at a moment; overrides are neither."""
    at_us = _now_us() if options.at is None else options.at
    provider = canonical_provider(options.provider)
    with opened_database() as engine:
        listed = [price for price in _load(engine).prices() if provider in (None, price.provider)]
    catalog, archive = ([price for price in listed if price.source == source] for source in ("litellm", ARCHIVE))
    comparison = compare(catalog, archive, at_us)
    if options.json:
        print_json({"at": _time(at_us), "disagreeing": comparison.disagreeing, **msgspec.to_builtins(comparison)})
        return 0
    for one in comparison.disagreements:
        print(
            f"{one.provider:20}  {one.model:48}  {_place(one):40}  "
            f"litellm {one.catalog or '-':16}  {ARCHIVE} {one.archive or '-'}"
        )
    print(
        f"farebox prices: of {comparison.compared} models that both catalogs price on {_time(at_us)}, "
        f"they differ on {comparison.disagreeing}",
        file=sys.stderr,
    )
    return 0


def _place(one: Disagreement) -> str:
    beyond = f" beyond {one.above_tokens}" if one.above_tokens else ""
    tier = "" if one.tier == STANDARD else f" {one.tier}"
    return f"{one.dimension}{tier}{beyond}"


def _load(engine: Engine) -> PriceBook:
    ensure_shipped_prices(engine)
    with transaction(engine, AllOrganizations()) as connection:
        return load_book(connection)


def _listed(price: Price, organization: str | None) -> dict[str, object]:
    return {
        "id": price.id,
        "source": price.source,
        "status": price_status(price),
        "org": organization,
        "provider": price.provider,
        "model": price.model,
        "mode": price.mode,
        "currency": price.currency,
        "effective_from": _time(price.effective_from_us),
        "effective_to": _time(price.effective_to_us),
        "retired": price.retired,
        "source_url": price.source_url,
        "rates": msgspec.to_builtins(price.rates),
    }


def _shown(answer: Match | NoMatch) -> dict[str, object]:
    if isinstance(answer, NoMatch):
        shown: dict[str, object] = msgspec.to_builtins(answer)
        return shown
    return {
        "price": msgspec.to_builtins(answer.reference),
        "assumed": answer.assumed,
        "currency": answer.price.currency,
        "mode": answer.price.mode,
        "source_url": answer.price.source_url,
        "multiplier": answer.multiplier_text,
        "rates": msgspec.to_builtins(answer.compiled.rates),
        "rejected": list(answer.rejected),
    }


def _lines(shown: Mapping[str, object], indent: str = "") -> Iterator[str]:
    for name, value in shown.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list | tuple):
            yield from (f"{indent}{name}: {item}" for item in value)
        elif value is not None:
            yield f"{indent}{name}: {value}"


def _short(rates: Rates) -> str:
    if rates.free:
        return "free"
    mains = [name for name in ("input_tokens", "output_tokens") if name in rates.standard]
    return ", ".join(f"{name} {rates.standard[name]}" for name in mains or list(rates.standard)[:2]) or "see resolve"


def _by_source_and_time(price: Price) -> tuple[str, str, str, int]:
    return price.provider, price.model, price.source, price.effective_from_us or 0


def _validity(price: Price) -> str:
    begin, end = _time(price.effective_from_us), _time(price.effective_to_us)
    since = f"  from {begin[:10]}" if begin else ""
    until = f"  until {end[:10]}" if end else ""
    return f"{since}{until}{'  retired' if price.retired else ''}"


def _now_us() -> int:
    return time.time_ns() // 1000


def _time(time_us: int | None) -> str | None:
    return None if time_us is None else (_EPOCH + time_us * _MICROSECOND).isoformat().replace("+00:00", "Z")


def _moment(value: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{value!r}: expected RFC 3339 with an offset, such as 2026-11-01T00:00:00Z")
    return (moment - _EPOCH) // _MICROSECOND


def _positive(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise argparse.ArgumentTypeError(f"{value!r}: expected a whole number from 1")
    return int(value)

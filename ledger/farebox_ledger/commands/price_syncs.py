"""`farebox prices sync`, `syncs` and `approve`: bring the catalog up to date with LiteLLM's price file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from farebox_ledger.catalog.difference import Diff
from farebox_ledger.commands.moments import time_text
from farebox_ledger.commands.opening import opened_database, print_json
from farebox_ledger.price_sync import DEFAULT_URL, URL_VARIABLE, approve_sync, preview_sync, sync_prices
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.price_syncs import PriceSync, list_syncs
from farebox_ledger.store.prices import ensure_shipped_prices
from farebox_ledger.store.scope import AllOrganizations

_DONE = ("applied", "unchanged")


def add_sync_commands(commands: Any) -> None:
    """Add the commands of syncs to those of `farebox prices`."""
    syncing = commands.add_parser("sync", help="fetch LiteLLM's price file and apply what changed")
    origin = syncing.add_mutually_exclusive_group()
    origin.add_argument("--file", metavar="F", help="read this file, gzip or not")
    origin.add_argument("--url", metavar="U", help=f"fetch this address ({URL_VARIABLE}, else LiteLLM's repository)")
    syncing.add_argument("--dry-run", action="store_true", help="say what would change and change nothing")
    syncing.set_defaults(run=_sync)

    listing = commands.add_parser("syncs", help="list past syncs, newest first")
    listing.set_defaults(run=_list)

    approving = commands.add_parser("approve", help="apply a sync that waits because it changes much")
    approving.add_argument("id", metavar="ID", help="the sync's id (farebox prices syncs)")
    approving.set_defaults(run=_approve)

    for command in (syncing, listing, approving):
        command.add_argument("--json", action="store_true", help="print JSON")


def _sync(options: argparse.Namespace) -> int:
    origin = _origin(options)
    with opened_database() as engine:
        ensure_shipped_prices(engine)
        sync = preview_sync(engine, origin) if options.dry_run else sync_prices(engine, origin)
    _print(sync, as_json=options.json)
    if options.dry_run or sync.status in _DONE:
        return 0
    if sync.status == "awaiting_approval":
        print(f"farebox prices: nothing is changed until `farebox prices approve {sync.id}`", file=sys.stderr)
    return 1


def _list(options: argparse.Namespace) -> int:
    with opened_database() as engine, transaction(engine, AllOrganizations()) as connection:
        found = list_syncs(connection)
    if options.json:
        print_json([_answer(sync) for sync in found])
        return 0
    for sync in found:
        print(f"{sync.id}  {time_text(sync.requested_at_us)}  {sync.status:17}  {_counts(sync)}  {sync.detail or ''}")
    return 0


def _approve(options: argparse.Namespace) -> int:
    with opened_database() as engine:
        sync = approve_sync(engine, options.id)
    _print(sync, as_json=options.json)
    return 0


def _origin(options: argparse.Namespace) -> str:
    if options.file is not None:
        return Path(options.file).resolve().as_uri()
    return options.url or os.environ.get(URL_VARIABLE) or DEFAULT_URL


def _print(sync: PriceSync, *, as_json: bool) -> None:
    if as_json:
        print_json(_answer(sync))
        return
    print(f"{sync.id or 'dry run'}: {sync.status}, {_counts(sync)}")
    if sync.diff is not None:
        _print_diff(sync.diff)
    if sync.detail is not None:
        print(f"farebox prices: {sync.detail}", file=sys.stderr)


def _print_diff(diff: Diff) -> None:
    for sign, listed in (("+", diff.added), ("-", diff.removed)):
        for one in listed:
            print(f"{sign} {one.provider}/{one.model}")
    for moved in diff.changed:
        for place, (before, after) in moved.figures.items():
            print(f"~ {moved.provider}/{moved.model}  {place}  {before or 'none'} -> {after or 'none'}")


def _counts(sync: PriceSync) -> str:
    return f"{sync.added} added, {sync.changed} changed, {sync.removed} removed, {sync.refused} refused"


def _answer(sync: PriceSync) -> dict[str, Any]:
    """Write a sync as the API does."""
    times = {name: getattr(sync, f"{name}_us") for name in ("requested_at", "finished_at", "approved_at")}
    members = ("source", "status", "detail", "etag", "sha256", "size_bytes", "added", "changed", "removed", "refused")
    answer: dict[str, Any] = {"id": sync.id or None, "url": sync.origin}
    answer |= {name: getattr(sync, name) for name in members}
    answer |= {name: None if value is None else time_text(value) for name, value in times.items()}
    return answer if sync.diff is None else {**answer, "diff": msgspec.to_builtins(sync.diff)}

"""`farebox reprice`: price rows anew by today's catalog, in the foreground, or say what that would change.

Arguments come in, text or JSON goes to standard output, the exit code goes back. The work is a job as any other: it is
recorded, and one that is killed goes on in the next process that runs jobs.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from sqlalchemy import Engine

from farebox_ledger.commands.moments import moment
from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.errors import LedgerError, NotFound
from farebox_ledger.jobs import holder_name, run_job
from farebox_ledger.money import decimal_text
from farebox_ledger.repricing import Progress, RepriceOutcome, enqueue_reprice, outcome_of
from farebox_ledger.repricing import reprice as run_reprice
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Job, fail, get_job
from farebox_ledger.store.organizations import organization_by_slug
from farebox_ledger.store.repricing_rows import FINAL_STATUSES, RowsToPrice
from farebox_ledger.store.schema import UNSETTLED_STATUSES
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.usage import Reason

_DESCRIPTION = """\
Price rows anew by the prices that the catalog now has for the time of the call. Without filters all rows are meant
that are unpriced, partial or assumed; priced rows change only with --include-priced. A second run changes nothing."""

_EVERYBODY = AllOrganizations()


class JobFailed(LedgerError):
    """The job ended, or stopped, without having done all of it."""


def reprice(arguments: Sequence[str]) -> int:
    """Price rows anew.

    The exit code: 0 done, 1 it could not be done, 2 wrong use.
    """
    options = _parser().parse_args(arguments)
    return guarded("farebox reprice", lambda: _reprice(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("farebox reprice", description=_DESCRIPTION)
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    parser.add_argument("--org", metavar="SLUG", help="only this organization")
    parser.add_argument("--provider", help="only rows of this provider, as the rows name it")
    parser.add_argument("--model", help="only rows of this model, as the rows name it")
    parser.add_argument("--reason", choices=get_args(Reason), metavar="REASON", help="only rows with this reason")
    parser.add_argument(
        "--billing-status", choices=(*UNSETTLED_STATUSES, *FINAL_STATUSES), help="only rows that are billed so"
    )
    parser.add_argument("--start", type=moment, metavar="T", help="only calls that ended then or later (RFC 3339)")
    parser.add_argument("--end", type=moment, metavar="T", help="only calls that ended before (RFC 3339)")
    parser.add_argument("--include-priced", action="store_true", help="also rows that are billed or free")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _reprice(options: argparse.Namespace) -> None:
    rows = RowsToPrice(
        provider=options.provider,
        model=options.model,
        reason=options.reason,
        billing_status=options.billing_status,
        start_us=options.start,
        end_us=options.end,
        include_priced=options.include_priced,
    )
    with opened_database() as engine:
        with transaction(engine, _EVERYBODY, write=True) as connection:
            scope = _EVERYBODY if options.org is None else _organization(connection, options.org)
            job = enqueue_reprice(connection, scope, rows, dry_run=options.dry_run, holder=holder_name())
        outcome = _run(engine, job, _shown_progress if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if options.json:
        print_json(_as_json(job, outcome))
    else:
        print("\n".join(_lines(outcome)))


def _organization(connection: Any, slug: str) -> Scope:
    organization = organization_by_slug(connection, slug)
    if organization is None:
        raise NotFound("organization", slug)
    return OrgScope(organization.org_id)


def _run(engine: Engine, job: Job, progress: Progress | None) -> RepriceOutcome:
    """Run a job to its end; whoever interrupts it ends it as well, and what is done stands."""
    try:
        run_job(engine, job, lambda engine, job, stop: run_reprice(engine, job, stop, progress), threading.Event())
    except KeyboardInterrupt:
        with transaction(engine, _EVERYBODY, write=True) as connection:
            fail(connection, job, "interrupted; what was done stands")
        raise JobFailed(f"{job.id} was interrupted; what was done stands, run the command again for the rest") from None
    with transaction(engine, _EVERYBODY) as connection:
        ended = get_job(connection, _EVERYBODY, job.id)
    outcome = outcome_of(ended)
    if ended.status != "done" or outcome is None:
        later = "; it is tried again by the next process that runs jobs" if ended.status == "queued" else ""
        raise JobFailed(f"{job.id}: {ended.error}{later}")
    return outcome


def _shown_progress(outcome: RepriceOutcome) -> None:
    seen, expected = outcome.rows_seen, max(outcome.rows_seen, outcome.rows_expected)
    print(f"\rfarebox reprice: {seen} of {expected} rows, {outcome.rows_changed} changed", end="", file=sys.stderr)


def _lines(outcome: RepriceOutcome) -> Iterator[str]:
    verb = "would change" if outcome.dry_run else "changed"
    yield f"{outcome.rows_seen} rows looked at, {outcome.rows_changed} {verb}"
    for one in outcome.transitions:
        yield f"  {one.before} -> {one.after}: {one.rows}"
    for amount in outcome.amounts:
        difference = decimal_text(amount.after - amount.before)
        yield f"  {amount.currency} {decimal_text(amount.before)} -> {decimal_text(amount.after)} ({difference})"


def _as_json(job: Job, outcome: RepriceOutcome) -> dict[str, object]:
    return {
        "job": job.id,
        "dry_run": outcome.dry_run,
        "catalog_version": outcome.catalog_version,
        "rows_seen": outcome.rows_seen,
        "rows_changed": outcome.rows_changed,
        "transitions": outcome.transitions,
        "amounts": [
            {
                "currency": one.currency,
                "before": decimal_text(one.before),
                "after": decimal_text(one.after),
                "difference": decimal_text(one.after - one.before),
            }
            for one in outcome.amounts
        ],
    }

"""`farebox status`: how an organization, or one of its users, stands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from farebox_ledger.commands.credits import balance_answer
from farebox_ledger.commands.moments import time_text
from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.errors import NotFound
from farebox_ledger.money import pico_text
from farebox_ledger.status import Status, status_of
from farebox_ledger.status_text import status_text
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import list_organizations
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.summaries import SummaryGroup

_EVERYBODY = AllOrganizations()


def status(arguments: Sequence[str]) -> int:
    """Show balances, this month, projects and health.

    The exit code: 0 done, 1 refused, 2 wrong use.
    """
    parser = argparse.ArgumentParser("farebox status", description="Balances, this UTC month, projects, and health.")
    parser.add_argument("--org", metavar="SLUG", help="only this organization (all of them)")
    parser.add_argument("--user", help="only this user, by the reference that rows carry; needs --org")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.user is not None and options.org is None:
        parser.error("--user needs --org: a user belongs to one organization")
    return guarded("farebox status", lambda: _status(options))


def _status(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY) as connection:
        wanted = [one for one in list_organizations(connection, _EVERYBODY) if options.org in (None, one.slug)]
        if options.org is not None and not wanted:
            raise NotFound("organization", options.org)
        found = [status_of(connection, _EVERYBODY, one, user=options.user) for one in wanted]
    if options.json:
        print_json([status_answer(one) for one in found])
    else:
        print("\n\n".join(map(status_text, found)) or "There are no organizations: farebox orgs create SLUG")


def status_answer(status: Status) -> dict[str, Any]:
    """Write a status as JSON."""
    return {
        "organization": status.organization,
        "user": status.user,
        "as_of": time_text(status.as_of_us),
        "balances": [balance_answer(one) for one in status.balances],
        "month": {"start": time_text(status.month_start_us), "totals": [_totals(group) for group in status.month]},
        "projects": [
            {
                "project": one.project,
                "requests": one.requests,
                "currency": one.currency,
                "cost": None if one.cost_pico is None else pico_text(one.cost_pico),
                "last_used": None if one.last_used_us is None else time_text(one.last_used_us),
            }
            for one in status.projects
        ],
        "health": {
            "is_complete": status.is_complete,
            "data_through": None if status.data_through_us is None else time_text(status.data_through_us),
            "jobs": {"waiting": status.jobs.waiting, "running": status.jobs.running, "failed": status.jobs.failed},
        },
    }


def _totals(group: SummaryGroup) -> dict[str, Any]:
    return {
        "currency": group.currency,
        "requests": group.requests,
        "errors": group.errors,
        "total_tokens": group.total_tokens,
        "cost": None if group.cost_pico is None else pico_text(group.cost_pico),
        "unpriced_rows": group.unpriced_rows,
    }

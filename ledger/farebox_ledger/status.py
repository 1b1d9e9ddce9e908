"""How an organization, or one of its users, stands: balances, this month, projects, and whether the books are in order.

What `farebox status` prints and the bot answers; read in the caller's one transaction.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
from sqlalchemy import Connection

from farebox_ledger.credits import Balance, balance_of
from farebox_ledger.store.credit_accounts import Account, Owner, list_accounts
from farebox_ledger.store.filtering import UsageFilter
from farebox_ledger.store.job_counts import JobCounts, count_jobs
from farebox_ledger.store.last_use import last_use_of_projects
from farebox_ledger.store.organizations import Organization
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.summaries import SummaryGroup, SummaryQuery, summarize
from farebox_ledger.store.timeline import day_start_us, month_days
from farebox_ledger.usage import day_of

MAX_ACCOUNTS: Final = 100
"""Accounts whose balances are shown; the API lists all."""


class ProjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One project this month, in one currency (None: nothing priced). `project` None: calls that name none."""

    project: str | None
    currency: str | None
    requests: int
    cost_pico: int | None
    last_used_us: int | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How somebody stands. `month` holds one group per currency; `data_through_us` is the end of the newest call."""

    organization: str
    user: str | None
    as_of_us: int
    balances: list[Balance]
    month_start_us: int
    month: list[SummaryGroup]
    projects: list[ProjectStatus]
    is_complete: bool
    data_through_us: int | None
    jobs: JobCounts


def status_of(connection: Connection, scope: Scope, organization: Organization, *, user: str | None = None) -> Status:
    """Say how an organization stands, or one of its users."""
    now_us = time.time_ns() // 1000
    first_day, following = month_days(day_of(now_us) // 100)
    start_us, end_us = day_start_us(first_day), day_start_us(following)
    chosen = UsageFilter(org_id=organization.org_id, user=user)
    query = SummaryQuery(filter=chosen, start_us=start_us, end_us=end_us)
    whole = summarize(connection, scope, query)
    by_project = summarize(connection, scope, msgspec.structs.replace(query, group_by=("project",)))
    accounts = _accounts(connection, scope, organization, user)
    last_used = last_use_of_projects(connection, scope, organization.org_id, since_us=start_us, user=user)
    return Status(
        organization=organization.slug,
        user=user,
        as_of_us=now_us,
        balances=[balance_of(connection, one, as_of_us=now_us) for one in accounts],
        month_start_us=start_us,
        month=whole.groups,
        projects=[_project(group, last_used) for group in by_project.groups],
        is_complete=whole.is_complete,
        data_through_us=whole.data_through_us,
        jobs=count_jobs(connection, scope),
    )


def _accounts(connection: Connection, scope: Scope, organization: Organization, user: str | None) -> list[Account]:
    owner = None if user is None else Owner(user=user)
    return list_accounts(connection, scope, organization.org_id, limit=MAX_ACCOUNTS, owner=owner)


def _project(group: SummaryGroup, last_used: dict[str | None, int]) -> ProjectStatus:
    project = group.dimensions["project"]
    return ProjectStatus(
        project=project,
        currency=group.currency,
        requests=group.requests,
        cost_pico=group.cost_pico,
        last_used_us=last_used.get(project),
    )

"""Two recurring jobs: allocating what was used to grants, and taking back what is left of grants that have ended.

Bookings leave a mark for each account and day that they touch; the marked accounts are allocated anew from that day on,
one account in one short transaction. So a late row re-allocates what came after it, and once no mark is left the
allocations are those of any other order of arrival. What is taken back from a grant follows: when a late row used some
of it, the difference is given back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from sqlalchemy import Connection, Engine

from farebox_ledger.credits.allocation import Span, allocate, spans_of
from farebox_ledger.store.credit_accounts import Account, get_account, lock_account, organizations_with_accounts
from farebox_ledger.store.credit_allocations import (
    allocated_before,
    delete_marks,
    drawn_between,
    drawn_by_day,
    marked_accounts,
    marks_of,
    replace_allocations,
)
from farebox_ledger.store.credit_days import renew_days
from farebox_ledger.store.credit_grants import Grant, list_grants, note_settled, unsettled_accounts
from farebox_ledger.store.credit_ledger import move, taken_back
from farebox_ledger.store.credit_tables import LedgerAccount
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Interrupted, Job, heartbeat
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.timeline import DAY_US, day_start_us
from farebox_ledger.usage import day_of

ALLOCATE: Final = "allocate_credits"
EXPIRE: Final = "expire_credits"

_PAGE: Final = 100
_EVERYBODY: Final = AllOrganizations()


class Allocated(msgspec.Struct, frozen=True):
    """How many accounts were allocated anew."""

    accounts: int


def allocate_credits(engine: Engine, job: Job, stop: threading.Event) -> Allocated:
    """Allocate the accounts that bookings, grants and adjustments have marked."""
    return Allocated(sum(_handle(engine, job, stop, _marked(engine))))


def expire_credits(engine: Engine, job: Job, stop: threading.Event) -> Allocated:
    """Take back what is left of grants that have ended, after allocating what they still have to pay for."""
    return Allocated(sum(_handle(engine, job, stop, _ended(engine))))


def allocate_account(connection: Connection, account: Account, *, now_us: int | None = None) -> None:
    """Allocate one account as far as marks and ended grants ask for it, in the caller's write transaction."""
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    lock_account(connection, account)
    marks = marks_of(connection, account)
    ended_us = unsettled_accounts(connection, account.org_id, now_us).get(account.account_id)
    starts = [day_start_us(day) for day, _ in marks]
    if ended_us is not None:
        starts.append(ended_us - ended_us % DAY_US)
    if not starts:
        return
    grants = list_grants(connection, OrgScope(account.org_id), account.org_id, account_id=account.account_id)
    _allocate_from(connection, account, grants, min(starts))
    starts += _settle(connection, account, [grant for grant in grants if _has_ended(grant, now_us)])
    renew_days(connection, account, min(starts))
    delete_marks(connection, account, marks)


def _allocate_from(connection: Connection, account: Account, grants: list[Grant], start_us: int) -> None:
    drawn = drawn_by_day(connection, account, start_us)
    spans = []
    for begin_us, end_us in spans_of(grants, drawn, start_us):
        is_whole_day = end_us - begin_us == DAY_US
        pico = drawn.get(begin_us, 0) if is_whole_day else drawn_between(connection, account, begin_us, end_us)
        spans.append(Span(begin_us, end_us, pico))
    found = allocate(grants, allocated_before(connection, account, day_of(start_us)), spans)
    replace_allocations(connection, account, start_us, found)


def _settle(connection: Connection, account: Account, ended: list[Grant]) -> list[int]:
    """Post, for each grant that has ended, what is still to be taken back, or given back again; answers as of when."""
    if not ended:
        return []
    posted: list[int] = []
    paid = allocated_before(connection, account, None)
    taken = taken_back(connection, account, [grant.grant_id for grant in ended])
    for grant in ended:
        taken_pico, last_step = taken[grant.grant_id]
        difference_pico = grant.amount_pico - paid.get(grant.grant_id, 0) - taken_pico
        if difference_pico:
            posted.append(_take_back(connection, account, grant, difference_pico, last_step + 1))
    note_settled(connection, account.org_id, [grant.grant_id for grant in ended])
    return posted


def _take_back(connection: Connection, account: Account, grant: Grant, amount_pico: int, step: int) -> int:
    """Post what is taken back of a grant at its end, and answer the moment that the movement is about."""
    ends_at_us = grant.ends_at_us
    assert ends_at_us is not None, "only a grant that has ended is taken back"
    is_void = ends_at_us == grant.voided_at_us
    made = move(
        connection,
        account,
        source_id=grant.grant_id,
        step=step,
        kind="void" if is_void else "expiry",
        counter_account=counter_account_of(grant) if is_void else "expiry",
        amount_pico=-amount_pico,
        occurred_at_us=max(ends_at_us, grant.effective_at_us),
        description=grant.void_reason if is_void else None,
        is_marked=False,  # what is taken back at a grant's end pays for nothing
    )
    return made.occurred_at_us


def counter_account_of(grant: Grant) -> LedgerAccount:
    """Name the ledger's account that a grant comes from, and that a void gives back to."""
    match grant.kind:
        case "initial_grant" | "grant":
            return "grants"
        case "purchase":
            return "purchases"
        case "refund" | "adjustment":
            return "adjustments"


def _has_ended(grant: Grant, now_us: int) -> bool:
    return grant.ends_at_us is not None and grant.ends_at_us <= now_us


def _handle(engine: Engine, job: Job, stop: threading.Event, accounts: Iterable[tuple[int, str]]) -> Iterator[int]:
    for org_id, account_id in accounts:
        if stop.is_set():
            raise Interrupted
        with transaction(engine, _EVERYBODY, write=True) as connection:
            allocate_account(connection, get_account(connection, _EVERYBODY, org_id, account_id))
            heartbeat(connection, job)
        yield 1


def _marked(engine: Engine) -> Iterator[tuple[int, str]]:
    return _found(engine, lambda connection, org_id: marked_accounts(connection, org_id, _PAGE))


def _ended(engine: Engine) -> Iterator[tuple[int, str]]:
    now_us = time.time_ns() // 1000
    return _found(engine, lambda connection, org_id: sorted(unsettled_accounts(connection, org_id, now_us))[:_PAGE])


def _found(engine: Engine, find: Callable[[Connection, int], list[str]]) -> Iterator[tuple[int, str]]:
    """Find accounts page by page; those that come again and again are left to the next run."""
    with transaction(engine, _EVERYBODY) as connection:
        having = organizations_with_accounts(connection, _EVERYBODY)
    for org_id in having:
        seen: set[str] = set()
        while True:
            with transaction(engine, _EVERYBODY) as connection:
                fresh = [account_id for account_id in find(connection, org_id) if account_id not in seen]
            if not fresh:
                break
            seen.update(fresh)
            yield from ((org_id, account_id) for account_id in fresh)

"""What an account has: the sum of its movements up to a moment, and what is left of each of its grants."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Connection

from farebox_ledger.store.credit_accounts import Account
from farebox_ledger.store.credit_allocations import UNCOVERED, allocated_before
from farebox_ledger.store.credit_days import sums_by_type
from farebox_ledger.store.credit_grants import Grant, list_grants
from farebox_ledger.store.credit_tables import TransactionType
from farebox_ledger.store.scope import OrgScope


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """A balance in pico-credits, negative when more was used than there was, and the sums that it is made of."""

    account: Account
    as_of_us: int
    balance_pico: int
    by_type: Mapping[TransactionType, int]


class GrantBalance(msgspec.Struct, frozen=True):
    """A grant and what is left of it, in pico-credits, as far as usage is allocated; nothing once it has ended."""

    grant: Grant
    remaining_pico: int


def balance_of(connection: Connection, account: Account, *, as_of_us: int | None = None) -> Balance:
    """Sum an account's movements that are about a moment up to `as_of_us` (None: now), inclusive.

    Never clamped: what was used beyond what there was is a negative balance.
    """
    as_of_us = time.time_ns() // 1000 if as_of_us is None else as_of_us
    sums = sums_by_type(connection, account, as_of_us=as_of_us)
    return Balance(account=account, as_of_us=as_of_us, balance_pico=sum(sums.values()), by_type=sums)


def grant_balances(
    connection: Connection, account: Account, *, grants: Sequence[Grant] | None = None, now_us: int | None = None
) -> tuple[list[GrantBalance], int]:
    """Say what is left of an account's grants, the latest first, and what is owed that no grant has paid.

    `grants` chooses some of them; what is owed is right only with all.
    """
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    paid = allocated_before(connection, account, None)
    if grants is None:
        grants = list_grants(connection, OrgScope(account.org_id), account.org_id, account_id=account.account_id)
    owed_pico = paid.get(UNCOVERED, 0)
    balances = []
    for grant in grants:
        paid_pico = paid.get(grant.grant_id, 0)
        if grant.effective_at_us > now_us:  # it pays what is owed when it begins, and not before
            owed_pico += paid_pico
            paid_pico = 0
        balances.append(GrantBalance(grant, 0 if _has_ended(grant, now_us) else grant.amount_pico - paid_pico))
    return balances, owed_pico


def _has_ended(grant: Grant, now_us: int) -> bool:
    return grant.ends_at_us is not None and grant.ends_at_us <= now_us

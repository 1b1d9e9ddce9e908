"""What puts credits on an account and takes them off by decision: grants, purchases, adjustments, voids.

Each is one movement in the caller's transaction, answered as the grant or transaction that was made. With an external
id the same thing told twice is done once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Final, Literal

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from farebox_ledger.credits.allocating import allocate_account, counter_account_of
from farebox_ledger.errors import Conflict, InvalidInput
from farebox_ledger.money import MAX_AMOUNT_PICO, PICO, pico_text, to_pico
from farebox_ledger.pricing.units import checked_decimal
from farebox_ledger.store.audit import note, nothing_changed
from farebox_ledger.store.credit_accounts import Account, lock_account
from farebox_ledger.store.credit_grants import (
    Grant,
    end_grant,
    find_grant,
    get_grant,
    grant_text,
    insert_grant,
)
from farebox_ledger.store.credit_ledger import Transaction, move, transaction_text, transactions_of
from farebox_ledger.store.credit_tables import GrantKind
from farebox_ledger.store.scope import OrgScope, Scope

DEFAULT_PRIORITY: Final = 100
MAX_PRIORITY: Final = 1000
MAX_CREDITS: Final = Decimal(MAX_AMOUNT_PICO // PICO)

_FIRST_US: Final = 1_577_836_800_000_000  # 2020, as for usage
_LAST_US: Final = 253_402_300_799_000_000  # the last second of the year 9999


class Granting(msgspec.Struct, frozen=True, kw_only=True):
    """Credits to be given, from `effective_at_us` (None: now) to `expires_at_us` (None: for good).

    Lower `priority` is used up first.
    """

    amount: Decimal
    kind: Literal["initial_grant", "grant"] = "grant"
    priority: int = DEFAULT_PRIORITY
    effective_at_us: int | None = None
    expires_at_us: int | None = None
    external_id: str | None = None
    description: str | None = None


class Purchase(msgspec.Struct, frozen=True, kw_only=True):
    """Credits that were paid for. `external_id` is the payment's; `paid` what it cost, in the account's currency."""

    amount: Decimal
    external_id: str
    paid: Decimal | None = None
    priority: int = DEFAULT_PRIORITY
    expires_at_us: int | None = None
    description: str | None = None


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """A correction by hand, of either sign, and why; a refund gives back and is positive."""

    amount: Decimal
    description: str
    kind: Literal["adjustment", "refund"] = "adjustment"
    external_id: str | None = None


def grant_credits(
    connection: Connection, account: Account, granting: Granting, *, actor: str | None = None
) -> tuple[Grant, bool]:
    """Give credits to an account: (grant, was it made now). The same external id and content is the same grant.

    Raises:
        InvalidInput: a field cannot be used; names it.
        Conflict: the external id stands for something else.
    """
    grant = _grant(
        account,
        granting.kind,
        granting.amount,
        priority=granting.priority,
        effective_at_us=granting.effective_at_us,
        expires_at_us=granting.expires_at_us,
        external_id=granting.external_id,
        description=granting.description,
        actor=actor,
    )
    return _recorded(connection, account, grant)


def record_purchase(
    connection: Connection, account: Account, purchase: Purchase, *, actor: str | None = None
) -> tuple[Grant, bool]:
    """Put credits that were paid for on an account: (grant, was it made now). A payment told twice counts once.

    Raises:
        InvalidInput: a field cannot be used; names it.
        Conflict: the external id stands for something else.
    """
    if not purchase.external_id:
        raise InvalidInput("external_id", "expected the id of the payment, got an empty text")
    paid_pico = None
    if purchase.paid is not None:
        paid_pico = to_pico(checked_decimal("paid", purchase.paid, most=MAX_CREDITS))
    grant = _grant(
        account,
        "purchase",
        purchase.amount,
        priority=purchase.priority,
        expires_at_us=purchase.expires_at_us,
        external_id=purchase.external_id,
        description=purchase.description,
        actor=actor,
    )
    return _recorded(connection, account, grant, real_cost_pico=paid_pico)


def adjust(
    connection: Connection, account: Account, adjustment: Adjustment, *, actor: str | None = None
) -> tuple[Transaction, bool]:
    """Correct an account by hand: (transaction, was it made now). What is added can be used up as a grant can.

    Raises:
        InvalidInput: a field cannot be used; names it.
        Conflict: the external id stands for something else.
    """
    if not adjustment.description.strip():
        raise InvalidInput("description", "expected the reason, got an empty text")
    if adjustment.amount > 0:
        grant = _grant(
            account,
            adjustment.kind,
            adjustment.amount,
            external_id=adjustment.external_id,
            description=adjustment.description,
            actor=actor,
        )
        made, is_new = _recorded(connection, account, grant)
        return transactions_of(connection, OrgScope(account.org_id), account.org_id, made.grant_id)[0], is_new
    if adjustment.kind == "refund":
        raise InvalidInput("amount", "a refund gives credits back: expected a number above 0")
    return _taken(connection, account, adjustment, actor)


def void_grant(
    connection: Connection,
    scope: Scope,
    account: Account,
    grant_id: bytes,
    reason: str,
    *,
    expected_version: int | None = None,
) -> Grant:
    """End a grant now and take back what is left of it.

    Raises:
        InvalidInput: the reason is empty.
        NotFound: the organization has no such grant.
        Conflict: it has ended already.
        Outdated: it is no longer at the expected version.
    """
    if not reason.strip():
        raise InvalidInput("reason", "expected why the grant is void, got an empty text")
    lock_account(connection, account)  # the account before its grants, as those who allocate do
    grant = get_grant(connection, scope, account.org_id, grant_id, hold=True)
    now_us = time.time_ns() // 1000
    if grant.ends_at_us is not None and grant.ends_at_us <= now_us:
        raise Conflict(f"the grant {grant_text(grant_id)} has ended already", conflicting_id=grant_text(grant_id))
    ended = end_grant(connection, grant, reason, at_us=now_us, expected_version=expected_version)
    allocate_account(connection, account, now_us=now_us)
    _note(connection, grant.org_id, "void", "grant", _grant_state(ended), before=_grant_state(grant))
    return ended


def _grant(
    account: Account,
    kind: GrantKind,
    amount: Decimal,
    *,
    priority: int = DEFAULT_PRIORITY,
    effective_at_us: int | None = None,
    expires_at_us: int | None = None,
    external_id: str | None = None,
    description: str | None = None,
    actor: str | None = None,
) -> Grant:
    now_us = time.time_ns() // 1000
    effective_at_us = now_us if effective_at_us is None else effective_at_us
    if not 0 <= priority <= MAX_PRIORITY:
        raise InvalidInput("priority", f"expected 0 to {MAX_PRIORITY}, got {priority}")
    if not _FIRST_US <= effective_at_us <= _LAST_US:
        raise InvalidInput("effective_at", "expected a time between the years 2020 and 9999")
    if expires_at_us is not None and not effective_at_us < expires_at_us <= _LAST_US:
        raise InvalidInput("expires_at", "must lie after effective_at, or after now without it")
    return Grant(
        org_id=account.org_id,
        grant_id=_source_id(account, external_id),
        account_id=account.account_id,
        kind=kind,
        amount_pico=_positive(amount),
        priority=priority,
        effective_at_us=effective_at_us,
        expires_at_us=expires_at_us,
        external_id=external_id,
        description=description,
        actor=actor,
        created_at_us=now_us,
    )


def _recorded(
    connection: Connection, account: Account, grant: Grant, *, real_cost_pico: int | None = None
) -> tuple[Grant, bool]:
    """Record a grant with its movement, unless it stands."""
    scope = OrgScope(account.org_id)
    standing = find_grant(connection, scope, account.org_id, grant.grant_id)
    if standing is not None:
        nothing_changed()
        return _same(standing, grant), False
    if transactions_of(connection, scope, account.org_id, grant.grant_id):
        raise _used(grant.external_id)
    insert_grant(connection, grant)
    move(
        connection,
        account,
        source_id=grant.grant_id,
        step=0,
        kind=grant.kind,
        counter_account=counter_account_of(grant),
        amount_pico=grant.amount_pico,
        occurred_at_us=grant.effective_at_us,
        real_cost_pico=real_cost_pico,
        external_id=grant.external_id,
        description=grant.description,
        actor=grant.actor,
    )
    _note(connection, grant.org_id, "create", "grant", _grant_state(grant))
    return grant, True


def _same(standing: Grant, grant: Grant) -> Grant:
    """Answer what stands under an external id, when it is what is told again."""
    told = ("account_id", "kind", "amount_pico", "priority", "expires_at_us")
    if any(getattr(standing, name) != getattr(grant, name) for name in told):
        raise Conflict(
            f"the external id {grant.external_id!r} stands for {pico_text(standing.amount_pico)} credits "
            f"({standing.kind}) of {standing.account_id}, and is told again with another content",
            conflicting_id=grant_text(standing.grant_id),
        )
    return standing


def _taken(
    connection: Connection, account: Account, adjustment: Adjustment, actor: str | None
) -> tuple[Transaction, bool]:
    amount_pico = -_positive(-adjustment.amount)
    source_id = _source_id(account, adjustment.external_id)
    standing = transactions_of(connection, OrgScope(account.org_id), account.org_id, source_id)
    if standing:
        first = standing[0]
        told = (first.account_id, first.type, first.amount_pico)
        if told != (account.account_id, adjustment.kind, amount_pico):
            raise _used(adjustment.external_id)
        nothing_changed()
        return first, False
    try:
        with connection.begin_nested():
            made = move(
                connection,
                account,
                source_id=source_id,
                step=0,
                kind="adjustment",
                counter_account="adjustments",
                amount_pico=amount_pico,
                occurred_at_us=time.time_ns() // 1000,
                external_id=adjustment.external_id,
                description=adjustment.description,
                actor=actor,
            )
    except IntegrityError:
        raise _used(adjustment.external_id) from None
    _note(connection, made.org_id, "create", "adjustment", _transaction_state(made))
    return made, True


def _note(
    connection: Connection,
    org_id: int,
    action: str,
    what: str,
    after: Mapping[str, object],
    *,
    before: Mapping[str, object] | None = None,
) -> None:
    """Note a decision about credits in the audit log."""
    kind = f"credit_{what}"
    note(connection, f"{kind}.{action}", kind, str(after["id"]), org_id=org_id, before=before, after=after)


def _grant_state(grant: Grant) -> dict[str, object]:
    """Write a grant for the audit log, its id and amount as everybody sees them."""
    state = msgspec.structs.asdict(grant)
    return {"id": grant_text(state.pop("grant_id")), "amount": pico_text(state.pop("amount_pico")), **state}


def _transaction_state(made: Transaction) -> dict[str, object]:
    """Write a movement for the audit log, its id and amount as everybody sees them."""
    state = msgspec.structs.asdict(made)
    identity = transaction_text(state.pop("source_id"), state.pop("step"))
    return {"id": identity, "amount": pico_text(state.pop("amount_pico")), **state}


def _positive(amount: Decimal) -> int:
    if checked_decimal("amount", amount, most=MAX_CREDITS) == 0:
        raise InvalidInput("amount", "expected another number than 0")
    return to_pico(amount)


def _source_id(account: Account, external_id: str | None) -> bytes:
    """Name a source of credits: by its external id in its organization, where it has one, else like no other."""
    if external_id is None:
        return secrets.token_bytes(16)
    named = account.org_id.to_bytes(8, "big") + external_id.encode("utf-8", "surrogatepass")
    return blake2b(named, digest_size=16, person=b"farebox.credits").digest()


def _used(external_id: str | None) -> Conflict:
    return Conflict(f"the external id {external_id!r} stands for something else in this organization")

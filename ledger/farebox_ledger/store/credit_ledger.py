"""The ledger of credits: movements that no usage row is behind, and lists of all of them.

A balance is the sum of an account's movements up to a moment, as of the time that each is about: a late row changes the
balance of the day of its call. Sums are taken in two integers, whole credits and pico, which 64 bits hold.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, func, literal_column, select, tuple_

from farebox_ledger.money import PICO
from farebox_ledger.store.credit_accounts import Account
from farebox_ledger.store.credit_posting import MOVEMENT_COLUMNS, append
from farebox_ledger.store.credit_tables import LedgerAccount, TransactionType, credit_transactions
from farebox_ledger.store.scope import Scope, require

TransactionPosition: TypeAlias = tuple[int, bytes, int]
"""Where a list of transactions goes on: when it occurred, its source, its step."""

_OF: Final = credit_transactions.c
_ORDER: Final = (_OF.occurred_at_us, _OF.source_id, _OF.step)
_OF_USAGE: Final[frozenset[TransactionType]] = frozenset({"usage_deduction", "reprice_adjustment"})
"""The types of movements that a usage row is behind."""


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One movement of an account. `usage_day` is None where no usage row is behind it; else `source_id` is the row's.

    `amount_pico` is what the account gets, in credits; `real_cost_pico` the cost or price behind it, in `currency`.
    """

    org_id: int
    source_id: bytes
    step: int
    account_id: str
    type: TransactionType
    counter_account: LedgerAccount
    amount_pico: int
    currency: str
    occurred_at_us: int
    recorded_at_us: int
    usage_day: int | None
    real_cost_pico: int | None
    project: str | None
    user_ref: str | None
    external_id: str | None
    description: str | None
    actor: str | None

    @property
    def grant_id(self) -> bytes | None:
        """The grant that this made or took back; None where none is behind it."""
        is_draw = self.usage_day is not None or (self.type == "adjustment" and self.amount_pico < 0)
        return None if is_draw else self.source_id

    @property
    def position(self) -> TransactionPosition:
        """Where a list goes on behind it."""
        return (self.occurred_at_us, self.source_id, self.step)


class TransactionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which movements are asked for; None: any. The range is half-open, of the time that a movement is about."""

    account_id: str | None = None
    types: Collection[TransactionType] | None = None
    user: str | None = None
    project: str | None = None
    start_us: int | None = None
    end_us: int | None = None


def move(
    connection: Connection,
    account: Account,
    *,
    source_id: bytes,
    step: int,
    kind: TransactionType,
    counter_account: LedgerAccount,
    amount_pico: int,
    occurred_at_us: int,
    real_cost_pico: int | None = None,
    external_id: str | None = None,
    description: str | None = None,
    actor: str | None = None,
    is_marked: bool = True,
) -> Transaction:
    """Append one movement that no usage row is behind; `is_marked` asks for the allocation of the account.

    Raises:
        IntegrityError: there is a movement of this source and step.
    """
    made = Transaction(
        org_id=account.org_id,
        source_id=source_id,
        step=step,
        account_id=account.account_id,
        type=kind,
        counter_account=counter_account,
        amount_pico=amount_pico,
        currency=account.currency,
        occurred_at_us=occurred_at_us,
        recorded_at_us=time.time_ns() // 1000,
        usage_day=None,
        real_cost_pico=real_cost_pico,
        project=account.owner if account.owner_kind == "project" else None,
        user_ref=account.owner if account.owner_kind == "user" else None,
        external_id=external_id,
        description=description,
        actor=actor,
    )
    append(connection, [tuple(getattr(made, name) for name in MOVEMENT_COLUMNS)], is_marked=is_marked)
    return made


def list_transactions(
    connection: Connection,
    scope: Scope,
    org_id: int,
    asked: TransactionFilter,
    *,
    limit: int,
    before: TransactionPosition | None = None,
) -> list[Transaction]:
    """List an organization's movements, newest first by the time that they are about."""
    require(scope, org_id)
    listed = select(credit_transactions).where(_OF.org_id == org_id, *_conditions(asked))
    if before is not None:
        listed = listed.where(tuple_(*_ORDER) < tuple_(*before))
    ordered = listed.order_by(*(column.desc() for column in _ORDER)).limit(limit)
    return [_transaction(row) for row in connection.execute(ordered)]


def transactions_of(connection: Connection, scope: Scope, org_id: int, source_id: bytes) -> list[Transaction]:
    """List the movements of one usage row, grant or adjustment, in their order."""
    require(scope, org_id)
    of_it = select(credit_transactions).where(_OF.org_id == org_id, _OF.source_id == source_id).order_by(_OF.step)
    return [_transaction(row) for row in connection.execute(of_it)]


def transaction_text(source_id: bytes, step: int) -> str:
    """Write a movement's outward id."""
    return f"ctx_{source_id.hex()}_{step}"


def taken_back(connection: Connection, account: Account, grant_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
    """Say of grants what was taken back at their end so far, in pico-credits, and their last step."""
    mine = (_OF.org_id == account.org_id, _OF.source_id.in_(sorted(grant_ids)))
    found = connection.execute(select(_OF.source_id, _OF.step, _OF.amount_pico).where(*mine))
    sums: dict[bytes, tuple[int, int]] = {}
    for source_id, step, amount_pico in found:
        total, last = sums.get(bytes(source_id), (0, 0))
        sums[bytes(source_id)] = (total - (amount_pico if step else 0), max(last, step))
    return sums


def summed(column: ColumnElement[int]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Write a sum of amounts in two parts, whole units and pico; `money.join` puts them together.

    Both databases cut towards zero, so that the parts of a negative amount are both negative.
    """
    return func.coalesce(func.sum(column.op("/")(PICO)), 0), func.coalesce(func.sum(column % PICO), 0)


def _conditions(asked: TransactionFilter) -> Sequence[ColumnElement[bool]]:
    equal = {"account_id": asked.account_id, "user_ref": asked.user, "project": asked.project}
    conditions: list[ColumnElement[bool]] = [_OF[name] == value for name, value in equal.items() if value is not None]
    if asked.types is not None:
        conditions.append(_OF.type.in_(sorted(asked.types)))
        if not _OF_USAGE & set(asked.types):
            conditions.append(literal_column("usage_day IS NULL"))  # the words of the partial index
    if asked.start_us is not None:
        conditions.append(_OF.occurred_at_us >= asked.start_us)
    if asked.end_us is not None:
        conditions.append(_OF.occurred_at_us < asked.end_us)
    return conditions


def _transaction(row: Row[Any]) -> Transaction:
    fields = {name: getattr(row, name) for name in MOVEMENT_COLUMNS}
    fields["source_id"] = bytes(row.source_id)
    return Transaction(**fields)

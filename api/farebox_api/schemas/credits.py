"""Credits: accounts, grants, purchases, adjustments, transactions and balances, as answers and as bodies.

Amounts are credits, exact decimal text beside the currency whose costs they pay for; `rate` is credits per unit of it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from farebox_api.bodies import Input
from farebox_api.schemas.administration import Moment, Notes, RowVersion, Slug, moment_us, now_us
from farebox_api.schemas.decimals import DecimalInput, RatioInput, decimal_of
from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import (
    DecimalText,
    Money,
    Timestamp,
    money,
    optional_timestamp,
    timestamp,
    usage_id_text,
)
from farebox_ledger.credits import Adjustment, Balance, GrantBalance, Granting, Purchase
from farebox_ledger.credits.granting import DEFAULT_PRIORITY, MAX_PRIORITY
from farebox_ledger.money import decimal_text, pico_text
from farebox_ledger.store.credit_accounts import Account
from farebox_ledger.store.credit_grants import Grant, grant_text
from farebox_ledger.store.credit_ledger import Transaction, transaction_text
from farebox_ledger.store.credit_tables import GrantKind, LedgerAccount, TransactionType

GrantStatus: TypeAlias = Literal["scheduled", "active", "used_up", "expired", "void"]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=400)]
Priority: TypeAlias = Annotated[
    int, Meta(ge=0, le=MAX_PRIORITY, description="The lower one is used up first, then what expires first.")
]
AccountId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, description="The id of an account.")]
ExternalId: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=400, description="Told again with the same content, it is done once.")
]


class AccountAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An account. Without `user` and `project` it is the organization's own.

    Webhooks are told (`credits.low_balance`) when its balance sinks to `low_balance`; `low_since` is when it did.
    """

    id: str
    organization: str
    user: str | None
    project: str | None
    name: str | None
    currency: str
    rate: Annotated[DecimalText, Meta(description="Credits per unit of `currency`.")]
    low_balance: Money | None
    low_since: Timestamp | None
    created_at: Timestamp


class AccountPageAnswer(Page, frozen=True, kw_only=True):
    """One page of accounts, the oldest first."""

    items: list[AccountAnswer]


class GrantAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A grant. `remaining` is what is left as far as usage is allocated; `is_new` false: it stood already."""

    id: str
    organization: str
    account: str
    kind: GrantKind
    status: GrantStatus
    amount: Money
    remaining: Money
    currency: str
    priority: Priority
    effective_at: Timestamp
    expires_at: Timestamp | None
    external_id: str | None
    description: str | None
    created_by: str | None
    created_at: Timestamp
    voided_at: Timestamp | None
    void_reason: str | None
    row_version: RowVersion
    is_new: bool


class GrantPageAnswer(Page, frozen=True, kw_only=True):
    """One page of grants, the latest first."""

    items: list[GrantAnswer]


class EntryAnswer(msgspec.Struct, frozen=True):
    """One side of a transaction. `ledger_account` is `customer`, or one of the ledger's own."""

    ledger_account: Literal["customer"] | LedgerAccount
    amount: Money


class TransactionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A movement of an account; an `amount` above 0 adds.

    `occurred_at` is the time that it is about, `created_at` when it was made. `usage_id` names the call that was
    deducted, `real_cost` what it cost, or what was paid, in `currency`; `entries` are its two sides, which sum to 0.
    """

    id: str
    organization: str
    account: str
    user: str | None
    project: str | None
    type: TransactionType
    amount: Money
    currency: str
    real_cost: Money | None
    usage_id: str | None
    grant: str | None
    external_id: str | None
    description: str | None
    created_by: str | None
    occurred_at: Timestamp
    created_at: Timestamp
    entries: list[EntryAnswer]


class TransactionPageAnswer(Page, frozen=True, kw_only=True):
    """One page of transactions, newest first by `occurred_at`."""

    items: list[TransactionAnswer]


class TypeSumAnswer(msgspec.Struct, frozen=True):
    """The sum of an account's transactions of one type."""

    type: TransactionType
    amount: Money


class BalanceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has: the sum of its transactions up to `as_of`, inclusive; below 0 when more was used.

    `remaining` and `owed` are of now, as far as usage is allocated: what is left of its grants, and what none has paid.
    """

    account: AccountAnswer
    as_of: Timestamp
    balance: Money
    currency: str
    by_type: list[TypeSumAnswer]
    remaining: Money
    owed: Money


class BalancePageAnswer(Page, frozen=True, kw_only=True):
    """One page of balances, in the order of the accounts."""

    items: list[BalanceAnswer]


class AccountInput(Input, frozen=True, kw_only=True):
    """An account to be opened, of a `user`, of a `project`, or of the organization itself."""

    organization: Slug | None = None
    user: Name | None = None
    project: Name | None = None
    name: Name | None = None
    currency: str = "USD"
    rate: RatioInput = "1"
    low_balance: DecimalInput | None = None


class AccountBody(AccountInput, frozen=True, kw_only=True):
    """An account as it is read: as documented, its numbers kept as they were written."""

    rate: msgspec.Raw = msgspec.Raw(b'"1"')  # type: ignore[assignment]  # the same member, read digit by digit
    low_balance: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]  # as above

    def threshold(self) -> Decimal | None:
        """Read the balance at which webhooks are told.

        Raises:
            InvalidRequest: it is no decimal; points at it.
        """
        return _threshold(self.low_balance)


class AccountChangeInput(Input, frozen=True, kw_only=True):
    """What changes of an account: the balance at which webhooks are told, null for never."""

    low_balance: DecimalInput | None
    organization: Slug | None = None


class AccountChangeBody(AccountChangeInput, frozen=True, kw_only=True):
    """A change as it is read: as documented, its number kept as it was written."""

    low_balance: msgspec.Raw  # type: ignore[assignment]  # the same member, read digit by digit

    def threshold(self) -> Decimal | None:
        """Read the balance, as `AccountBody.threshold`."""
        return _threshold(self.low_balance)


def _threshold(raw: msgspec.Raw) -> Decimal | None:
    return None if bytes(raw) == b"null" else decimal_of("/low_balance", raw)


class Holder(Input, frozen=True, kw_only=True):
    """Which account is meant: by its id, or by its owner and currency; without an owner the organization's own."""

    organization: Slug | None = None
    account: AccountId | None = None
    user: Name | None = None
    project: Name | None = None
    currency: str = "USD"


class GrantInput(Holder, frozen=True, kw_only=True):
    """Credits to be given, from `effective_at` (now unless told) to `expires_at` (for good unless told)."""

    amount: DecimalInput
    kind: Literal["initial_grant", "grant"] = "grant"
    priority: Priority = DEFAULT_PRIORITY
    effective_at: Moment | None = None
    expires_at: Moment | None = None
    external_id: ExternalId | None = None
    description: Notes | None = None


class GrantBody(GrantInput, frozen=True, kw_only=True):
    """A grant as it is read: as documented, its amount kept as it was written."""

    amount: msgspec.Raw  # type: ignore[assignment]  # the same member, read digit by digit

    def granting(self) -> Granting:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time or the amount cannot be read; points at it.
        """
        return Granting(
            amount=decimal_of("/amount", self.amount),
            kind=self.kind,
            priority=self.priority,
            effective_at_us=moment_us("effective_at", self.effective_at),
            expires_at_us=moment_us("expires_at", self.expires_at),
            external_id=self.external_id,
            description=self.description,
        )


class PurchaseInput(Holder, frozen=True, kw_only=True):
    """Credits that were paid for; `external_id` is the payment's, `paid` what it cost in the account's currency."""

    amount: DecimalInput
    external_id: ExternalId
    paid: DecimalInput | None = None
    priority: Priority = DEFAULT_PRIORITY
    expires_at: Moment | None = None
    description: Notes | None = None


class PurchaseBody(PurchaseInput, frozen=True, kw_only=True):
    """A purchase as it is read: as documented, its numbers kept as they were written."""

    amount: msgspec.Raw  # type: ignore[assignment]  # the same member, read digit by digit
    paid: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]  # as above

    def purchase(self) -> Purchase:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time or a number cannot be read; points at it.
        """
        return Purchase(
            amount=decimal_of("/amount", self.amount),
            external_id=self.external_id,
            paid=None if bytes(self.paid) == b"null" else decimal_of("/paid", self.paid),
            priority=self.priority,
            expires_at_us=moment_us("expires_at", self.expires_at),
            description=self.description,
        )


class AdjustmentInput(Holder, frozen=True, kw_only=True):
    """A correction: `amount` above 0 adds, below 0 takes off; a refund adds. `description` says why."""

    amount: DecimalInput
    description: Annotated[str, Meta(min_length=1, max_length=2000)]
    kind: Literal["adjustment", "refund"] = "adjustment"
    external_id: ExternalId | None = None


class AdjustmentBody(AdjustmentInput, frozen=True, kw_only=True):
    """A correction as it is read: as documented, its amount kept as it was written."""

    amount: msgspec.Raw  # type: ignore[assignment]  # the same member, read digit by digit

    def adjustment(self) -> Adjustment:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: the amount cannot be read; points at it.
        """
        return Adjustment(
            amount=decimal_of("/amount", self.amount),
            description=self.description,
            kind=self.kind,
            external_id=self.external_id,
        )


class VoidInput(Input, frozen=True, kw_only=True):
    """Why a grant ends now; a system key says whose it is."""

    reason: Annotated[str, Meta(min_length=1, max_length=2000)]
    organization: Slug | None = None


def account_answer(account: Account, organization: str) -> AccountAnswer:
    """Write an account; `organization` is the slug of its organization."""
    return AccountAnswer(
        id=account.account_id,
        organization=organization,
        user=account.owner if account.owner_kind == "user" else None,
        project=account.owner if account.owner_kind == "project" else None,
        name=account.name,
        currency=account.currency,
        rate=decimal_text(account.rate),
        low_balance=None if account.low_balance_pico is None else pico_text(account.low_balance_pico),
        low_since=None if account.low_since_us is None else timestamp(account.low_since_us),
        created_at=timestamp(account.created_at_us),
    )


def grant_answer(balance: GrantBalance, account: Account, organization: str, *, is_new: bool = False) -> GrantAnswer:
    """Write a grant of an account."""
    grant = balance.grant
    return GrantAnswer(
        id=grant_text(grant.grant_id),
        organization=organization,
        account=grant.account_id,
        kind=grant.kind,
        status=_status(grant, balance.remaining_pico),
        amount=pico_text(grant.amount_pico),
        remaining=pico_text(balance.remaining_pico),
        currency=account.currency,
        priority=grant.priority,
        effective_at=timestamp(grant.effective_at_us),
        expires_at=optional_timestamp(grant.expires_at_us),
        external_id=grant.external_id,
        description=grant.description,
        created_by=grant.actor,
        created_at=timestamp(grant.created_at_us),
        voided_at=optional_timestamp(grant.voided_at_us),
        void_reason=grant.void_reason,
        row_version=grant.row_version,
        is_new=is_new,
    )


def transaction_answer(made: Transaction, organization: str) -> TransactionAnswer:
    """Write a transaction with both its sides."""
    return TransactionAnswer(
        id=transaction_text(made.source_id, made.step),
        organization=organization,
        account=made.account_id,
        user=made.user_ref,
        project=made.project,
        type=made.type,
        amount=pico_text(made.amount_pico),
        currency=made.currency,
        real_cost=money(made.real_cost_pico),
        usage_id=None if made.usage_day is None else usage_id_text(made.usage_day, made.source_id),
        grant=None if made.grant_id is None else grant_text(made.grant_id),
        external_id=made.external_id,
        description=made.description,
        created_by=made.actor,
        occurred_at=timestamp(made.occurred_at_us),
        created_at=timestamp(made.recorded_at_us),
        entries=[
            EntryAnswer("customer", pico_text(made.amount_pico)),
            EntryAnswer(made.counter_account, pico_text(-made.amount_pico)),
        ],
    )


def balance_answer(balance: Balance, organization: str, *, remaining_pico: int, owed_pico: int) -> BalanceAnswer:
    """Write what an account has."""
    return BalanceAnswer(
        account=account_answer(balance.account, organization),
        as_of=timestamp(balance.as_of_us),
        balance=pico_text(balance.balance_pico),
        currency=balance.account.currency,
        by_type=[TypeSumAnswer(kind, pico_text(pico)) for kind, pico in sorted(balance.by_type.items())],
        remaining=pico_text(remaining_pico),
        owed=pico_text(owed_pico),
    )


def _status(grant: Grant, remaining_pico: int) -> GrantStatus:
    at_us = now_us()
    ends_at_us = grant.ends_at_us
    if ends_at_us is not None and ends_at_us <= at_us:
        return "void" if ends_at_us == grant.voided_at_us else "expired"
    if grant.effective_at_us > at_us:
        return "scheduled"
    return "active" if remaining_pico else "used_up"

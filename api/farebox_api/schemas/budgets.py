"""Budgets, what was spent of them, and checks before a call, as answers and as bodies."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from farebox_api.bodies import Input
from farebox_api.schemas.administration import (
    AdministeredAnswer,
    Moment,
    Notes,
    Slug,
    administered,
    changed_moment_us,
    moment_us,
)
from farebox_api.schemas.decimals import DecimalInput, RatioInput, decimal_of, ratio_of
from farebox_api.schemas.pages import Page
from farebox_api.schemas.prices import QuotedUsageInput
from farebox_api.schemas.values import Count, DecimalText, Money, Timestamp, decimal, optional_timestamp, timestamp
from farebox_ledger.budgets import BindingBudget, Check, Spending
from farebox_ledger.budgets.checking import Decision
from farebox_ledger.budgets.periods import SINCE_EVER_US, UNTIL_FURTHER_NOTICE_US
from farebox_ledger.money import pico_text
from farebox_ledger.pricing.quoting import QuotedUsage
from farebox_ledger.store.budget_tables import BudgetPeriod, ThresholdKind
from farebox_ledger.store.budgets import (
    DEFAULT_THRESHOLDS,
    MAX_THRESHOLDS,
    Budget,
    BudgetChange,
    BudgetDraft,
    BudgetedCall,
    BudgetScope,
    Threshold,
)
from farebox_ledger.usage import BillingStatus, Reason

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=400)]
Zone: TypeAlias = Annotated[str, Meta(max_length=64, description="IANA name of the zone whose clocks cut the periods.")]
Currency: TypeAlias = Annotated[str, Meta(pattern="^[A-Z]{3}$", description="ISO 4217 code.")]

MAX_TAGS: Final = 64

_NULL: Final = msgspec.Raw(b"null")


class ScopeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a budget is for; null asks for nothing, and all that is asked for must hold."""

    project: str | None
    provider: str | None
    model: str | None
    service: str | None
    category: str | None
    user: str | None
    key: str | None
    tag: str | None


class ThresholdAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the budget at which it warns (soft) or denies (hard). `limit` is the spending that reaches it."""

    name: str
    kind: ThresholdKind
    percent: DecimalText | None
    amount: Money | None
    limit: Money


class BudgetAnswer(AdministeredAnswer, frozen=True, kw_only=True):
    """How much of one currency may be spent in each period. Money of other currencies does not count."""

    name: str
    scope: ScopeAnswer
    period: BudgetPeriod
    tz: str
    amount: Money
    currency: str
    thresholds: list[ThresholdAnswer]
    starts_at: Timestamp | None
    ends_at: Timestamp | None


class BudgetPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[BudgetAnswer]


class CurrencyAnswer(msgspec.Struct, frozen=True):
    """What was spent in a currency that the budget does not count."""

    currency: str
    cost: Money


class SpendingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent in one period, as a summary of the same filter says. Null ends are open.

    `remaining` is below zero when more was spent. Unpriced and partly priced rows may cost more than is known.
    `data_through` is the end of the newest call in the books: what came after it is not in here.
    """

    budget: str
    period_start: Timestamp | None
    period_end: Timestamp | None
    spent: Money
    remaining: Money
    currency: str
    reached: list[str]
    requests: Count
    unpriced_rows: Count
    partial_rows: Count
    is_complete: bool
    other_currencies: list[CurrencyAnswer]
    data_through: Timestamp | None


class BindingBudgetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that the call counts against, and what it says. `reached` names thresholds, the call included."""

    budget: str
    name: str
    decision: Decision
    reached: list[str]
    amount: Money
    spent: Money
    remaining: Money
    currency: str
    period_start: Timestamp | None
    period_end: Timestamp | None
    unpriced_rows: Count


class EstimateAnswer(msgspec.Struct, frozen=True):
    """What the call was taken to cost: as the caller said, or by the catalog. `cost` null: it is not known."""

    cost: Money | None
    currency: str | None
    status: BillingStatus | None
    reason: Reason | None


class CheckAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a call may be made. This is advice, not a lock: calls under way are not in the sums yet.

    `data_through` is the end of the newest call in the organization's books.
    """

    allowed: bool
    decision: Decision
    estimate: EstimateAnswer | None
    budgets: list[BindingBudgetAnswer]
    data_through: Timestamp | None
    checked_at: Timestamp


class ScopeInput(Input, frozen=True):
    """What a budget is for. `user`, `key` and `tag` stand alone; the others go together."""

    project: Name | None = None
    provider: Name | None = None
    model: Name | None = None
    service: Name | None = None
    category: Name | None = None
    user: Name | None = None
    key: Name | None = None
    tag: Name | None = None

    def scope(self) -> BudgetScope:
        """Hand it to the ledger, which checks it."""
        return BudgetScope(**msgspec.structs.asdict(self))


class ThresholdInput(Input, frozen=True):
    """A part of the budget at which it warns (soft) or denies (hard): either `percent` of it, or an `amount`."""

    kind: ThresholdKind
    percent: RatioInput | None = None
    amount: DecimalInput | None = None


Thresholds: TypeAlias = Annotated[list[ThresholdInput], Meta(max_length=MAX_THRESHOLDS)]


class BudgetInput(Input, frozen=True):
    """A budget to be made, of the key's organization or the one that a system key names.

    Without `thresholds` it warns at 80 % and denies at 100 %. Without `starts_at` it holds since ever.
    """

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    amount: DecimalInput
    organization: Slug | None = None
    scope: ScopeInput = ScopeInput()
    period: BudgetPeriod = "month"
    tz: Zone = "UTC"
    currency: Currency = "USD"
    thresholds: Thresholds | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    notes: Notes | None = None
    is_active: bool = True


class BudgetChangeInput(Input, frozen=True):
    """What changes of a budget; what is left out stays. What it is for and its currency never change."""

    name: Annotated[str, Meta(min_length=1, max_length=256)] | UnsetType = UNSET
    amount: DecimalInput | UnsetType = UNSET
    period: BudgetPeriod | UnsetType = UNSET
    tz: Zone | UnsetType = UNSET
    thresholds: Thresholds | UnsetType = UNSET
    starts_at: Moment | UnsetType | None = UNSET
    ends_at: Moment | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


class CheckInput(Input, frozen=True):
    """A call before it is made: what is known of it, and what it may cost.

    Either `estimated_cost` in a `currency`, or the `usage` to be priced by the catalog, or neither. A budget for
    something that is not said does not bind.
    """

    organization: Slug | None = None
    project: Name | None = None
    provider: Name | None = None
    model: Name | None = None
    service: Name | None = None
    category: Name | None = None
    user: Name | None = None
    key: Name | None = None
    tags: Annotated[list[Name], Meta(max_length=MAX_TAGS)] = msgspec.field(default_factory=list)
    estimated_cost: DecimalInput | None = None
    currency: Currency = "USD"
    usage: QuotedUsageInput | None = None
    service_tier: Name | None = None
    region: Name | None = None
    upstream: Name | None = None


class _ThresholdBody(ThresholdInput, frozen=True):
    percent: msgspec.Raw = _NULL  # type: ignore[assignment]  # the same members, read digit by digit
    amount: msgspec.Raw = _NULL  # type: ignore[assignment]  # as above

    def threshold(self, pointer: str) -> Threshold:
        """Hand it to the ledger, which checks the rest."""
        return Threshold(
            kind=self.kind,
            percent=None if bytes(self.percent) == b"null" else ratio_of(f"{pointer}/percent", self.percent),
            amount=optional_decimal_of(f"{pointer}/amount", self.amount),
        )


class BudgetBody(BudgetInput, frozen=True):
    """A budget as it is read: as documented, its decimals kept as they were written."""

    amount: msgspec.Raw  # type: ignore[assignment]  # as above
    thresholds: Annotated[list[_ThresholdBody], Meta(max_length=MAX_THRESHOLDS)] | None = None  # type: ignore[assignment]  # as above

    def draft(self) -> BudgetDraft:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time or a decimal cannot be read; points at it.
        """
        return BudgetDraft(
            name=self.name,
            amount=decimal_of("/amount", self.amount),
            scope=self.scope.scope(),
            period=self.period,
            tz=self.tz,
            currency=self.currency,
            thresholds=DEFAULT_THRESHOLDS if self.thresholds is None else _thresholds(self.thresholds),
            starts_at_us=moment_us("starts_at", self.starts_at),
            ends_at_us=moment_us("ends_at", self.ends_at),
            notes=self.notes,
            is_active=self.is_active,
        )


class BudgetChangeBody(BudgetChangeInput, frozen=True):
    """A change as it is read: as documented, its decimals kept as they were written."""

    amount: msgspec.Raw | UnsetType = UNSET  # type: ignore[assignment]  # as above
    thresholds: Annotated[list[_ThresholdBody], Meta(max_length=MAX_THRESHOLDS)] | UnsetType = UNSET  # type: ignore[assignment]  # as above

    def change(self) -> BudgetChange:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time or a decimal cannot be read; points at it.
        """
        return BudgetChange(
            name=self.name,
            amount=UNSET if isinstance(self.amount, UnsetType) else decimal_of("/amount", self.amount),
            period=self.period,
            tz=self.tz,
            thresholds=UNSET if isinstance(self.thresholds, UnsetType) else _thresholds(self.thresholds),
            starts_at_us=changed_moment_us("starts_at", self.starts_at),
            ends_at_us=changed_moment_us("ends_at", self.ends_at),
            notes=self.notes,
            is_active=self.is_active,
        )


class CheckBody(CheckInput, frozen=True):
    """A check as it is read: as documented, its amount kept as it was written and its usage in the ledger's shape."""

    estimated_cost: msgspec.Raw = _NULL  # type: ignore[assignment]  # as above
    usage: QuotedUsage | None = None  # type: ignore[assignment]  # as above

    def call(self, *booked_models: str) -> BudgetedCall:
        """Hand what is known of the call to the ledger; `booked_models` are other names of the model."""
        return BudgetedCall(
            project=self.project,
            provider=self.provider,
            models=tuple({name for name in (self.model, *booked_models) if name is not None}),
            service=self.service,
            category=self.category,
            user=self.user,
            key=self.key,
            tags=tuple(self.tags),
        )


def optional_decimal_of(pointer: str, raw: msgspec.Raw) -> Decimal | None:
    """Read a decimal that may be null or absent.

    Raises:
        InvalidRequest: it is no decimal; points at it.
    """
    return None if bytes(raw) == b"null" else decimal_of(pointer, raw)


def budget_answer(budget: Budget, organization: str | None) -> BudgetAnswer:
    """Write a budget; `organization` is the slug of its owner."""
    return BudgetAnswer(
        **administered(budget, organization),
        name=budget.name,
        scope=ScopeAnswer(**msgspec.structs.asdict(budget.scope)),
        period=budget.period,
        tz=budget.tz,
        amount=pico_text(budget.amount_pico),
        currency=budget.currency,
        thresholds=[_threshold_answer(budget, one) for one in budget.thresholds],
        starts_at=optional_timestamp(budget.starts_at_us),
        ends_at=optional_timestamp(budget.ends_at_us),
    )


def spending_answer(budget: Budget, spent: Spending) -> SpendingAnswer:
    """Write what was spent of a budget in one period."""
    return SpendingAnswer(
        budget=budget.id,
        period_start=_begin(spent),
        period_end=_end(spent),
        spent=pico_text(spent.spent_pico),
        remaining=pico_text(budget.amount_pico - spent.spent_pico),
        currency=budget.currency,
        reached=[one.name for one in budget.thresholds if spent.spent_pico >= one.limit_pico(budget.amount_pico)],
        requests=spent.requests,
        unpriced_rows=spent.unpriced_rows,
        partial_rows=spent.partial_rows,
        is_complete=spent.is_complete,
        other_currencies=[CurrencyAnswer(code, pico_text(pico)) for code, pico in spent.other_currencies.items()],
        data_through=optional_timestamp(spent.data_through_us),
    )


def check_answer(found: Check, estimate: EstimateAnswer | None) -> CheckAnswer:
    """Write whether a call may be made."""
    decisions = {binding.decision for binding in found.budgets}
    return CheckAnswer(
        allowed=found.is_allowed,
        decision="deny" if "deny" in decisions else "warn" if "warn" in decisions else "allow",
        estimate=estimate,
        budgets=[_binding_answer(binding) for binding in found.budgets],
        data_through=optional_timestamp(found.data_through_us),
        checked_at=timestamp(found.checked_at_us),
    )


def _binding_answer(binding: BindingBudget) -> BindingBudgetAnswer:
    budget, spent = binding.budget, binding.spending
    return BindingBudgetAnswer(
        budget=budget.id,
        name=budget.name,
        decision=binding.decision,
        reached=[one.name for one in binding.reached],
        amount=pico_text(budget.amount_pico),
        spent=pico_text(spent.spent_pico),
        remaining=pico_text(binding.remaining_pico),
        currency=budget.currency,
        period_start=_begin(spent),
        period_end=_end(spent),
        unpriced_rows=spent.unpriced_rows,
    )


def _begin(spent: Spending) -> str | None:
    start_us = spent.window.start_us
    return None if start_us == SINCE_EVER_US else timestamp(start_us)


def _end(spent: Spending) -> str | None:
    end_us = spent.window.end_us
    return None if end_us >= UNTIL_FURTHER_NOTICE_US else timestamp(end_us)


def _threshold_answer(budget: Budget, threshold: Threshold) -> ThresholdAnswer:
    return ThresholdAnswer(
        name=threshold.name,
        kind=threshold.kind,
        percent=decimal(threshold.percent),
        amount=decimal(threshold.amount),
        limit=pico_text(threshold.limit_pico(budget.amount_pico)),
    )


def _thresholds(given: list[_ThresholdBody]) -> tuple[Threshold, ...]:
    return tuple(one.threshold(f"/thresholds/{number}") for number, one in enumerate(given))

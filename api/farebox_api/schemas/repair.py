"""Unpriced groups, their repair, re-price jobs and drift, as answers and as bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from farebox_api.bodies import Input
from farebox_api.errors import Fault, InvalidRequest
from farebox_api.schemas.administration import Moment, Notes, Slug, moment_us
from farebox_api.schemas.decimals import DecimalInput, decimals_of
from farebox_api.schemas.model_aliases import AliasAnswer
from farebox_api.schemas.pages import Page
from farebox_api.schemas.price_overrides import OverrideAnswer, UnitMember
from farebox_api.schemas.values import Count, Money, Timestamp, decimal, money, optional_timestamp, timestamp
from farebox_ledger.money import decimal_text
from farebox_ledger.pricing.estimates import CURRENCY, Estimate
from farebox_ledger.pricing.suggestions import Suggestion
from farebox_ledger.repair import Draft
from farebox_ledger.repricing import Example, RepriceOutcome, outcome_of
from farebox_ledger.store.aliases import AliasDraft, AliasTarget
from farebox_ledger.store.jobs import Job
from farebox_ledger.store.overrides import OverrideDraft
from farebox_ledger.store.repricing_rows import RowsToPrice
from farebox_ledger.store.schema import JobStatus
from farebox_ledger.store.unpriced import GroupName, UnpricedGroup
from farebox_ledger.usage import BillingStatus, Reason

UnsettledStatus: TypeAlias = Literal["unpriced", "partial", "assumed"]
PriceableStatus: TypeAlias = Literal["unpriced", "partial", "assumed", "billed", "free"]
Action: TypeAlias = Literal["price", "alias", "free", "ignore", "restore"]
_Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=400)]


class SuggestionAnswer(msgspec.Struct, frozen=True):
    """A name of the catalog that looks like the group's; it is never applied by itself."""

    provider: str
    model: str
    likeness: Annotated[float, Meta(ge=0, le=1, description="1 is the very name, at a provider that sells it.")]


class EstimateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the group's tokens would cost at the average of today's rates: a guess, no part of any cost or sum."""

    estimated_cost: Annotated[Money, Meta(description="To a millionth; cached tokens count like others.")]
    currency: str
    provider: Annotated[str | None, Meta(description="Whose models were averaged; null: all of the catalog.")]
    models: Annotated[int, Meta(ge=1, description="How many models were averaged.")]


class UnpricedGroupAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with one provider, model and reason; null where the calls name none."""

    provider: str | None
    model: str | None
    reason: Reason
    billing_status: UnsettledStatus
    rows: Count
    input_tokens: Count
    output_tokens: Count
    total_tokens: Count
    organizations: Annotated[int, Meta(ge=0, description="How many organizations have such rows.")]
    first_seen: Timestamp | None
    last_seen: Timestamp | None
    ignored: bool
    suggestions: list[SuggestionAnswer]
    estimate: Annotated[
        EstimateAnswer | None,
        Meta(description="Null unless asked for, where there are no tokens, and where no price would help."),
    ]


class UnpricedPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[UnpricedGroupAnswer]


class TransitionAnswer(msgspec.Struct, frozen=True):
    """How many of the changed rows went from one status to another."""

    before: BillingStatus
    after: BillingStatus
    rows: Count


class AmountChangeAnswer(msgspec.Struct, frozen=True):
    """What the changed rows cost before and after; rows without a cost add nothing."""

    currency: str
    before: Money
    after: Money
    difference: Money


class ChargeSketch(msgspec.Struct, frozen=True, kw_only=True):
    """A charge in short."""

    billing_status: BillingStatus
    reason: Reason | None
    currency: str | None
    cost: Money | None


class ExampleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One of the rows that change. `price_id` is that of the new charge."""

    id: str
    organization: str
    provider: str | None
    model: str | None
    before: ChargeSketch
    after: ChargeSketch
    price_id: str | None


class OutcomeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a re-pricing changes: all of it when `is_complete`, else what was looked at so far.

    `rows_expected` is about how many rows there are to look at.
    """

    is_complete: bool
    catalog_version: Count
    rows_expected: Count
    rows_seen: Count
    rows_changed: Count
    transitions: list[TransitionAnswer]
    amounts: list[AmountChangeAnswer]
    examples: list[ExampleAnswer]


class RepriceJobAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A re-pricing and how far it is. `organization` null: the rows of all; `outcome` null: not yet begun."""

    id: str
    organization: str | None
    dry_run: bool
    provider: str | None
    model: str | None
    reason: Reason | None
    billing_status: BillingStatus | None
    start: Timestamp | None
    end: Timestamp | None
    include_priced: bool
    status: JobStatus
    error: str | None
    attempts: Count
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    outcome: OutcomeAnswer | None


class RepriceInput(Input, frozen=True):
    """Which rows are priced anew by today's catalog; without a filter all that are unpriced, partial or assumed.

    Rows that are billed or free change only with `include_priced`.
    """

    dry_run: bool = False
    organization: Slug | None = None
    provider: _Name | None = None
    model: _Name | None = None
    reason: Reason | None = None
    billing_status: PriceableStatus | None = None
    start: Moment | None = None
    end: Moment | None = None
    include_priced: bool = False

    def rows(self) -> RowsToPrice:
        """Hand the filter to the ledger.

        Raises:
            InvalidRequest: a time cannot be read; points at it.
        """
        return RowsToPrice(
            provider=self.provider,
            model=self.model,
            reason=self.reason,
            billing_status=self.billing_status,
            start_us=moment_us("start", self.start),
            end_us=moment_us("end", self.end),
            include_priced=self.include_priced,
        )


class ResolveInput(Input, frozen=True):
    """What shall become of a group, named by `provider`, `model` and `reason` as the list shows them.

    `price` makes an override of `prices`, `free` one that declares the calls free; both hold from `effective_from`,
    or from the group's first call when that is not said, under `target_provider` where the calls name no provider.
    `alias` makes the group's model a name for `target_model`, since ever unless `effective_from` says otherwise.
    `ignore` takes the group off the list, `restore` puts it back. A key of an organization decides for its own rows;
    a system key without `organization` for everybody. `dry_run` makes nothing and shows what would change.
    """

    action: Action
    reason: Reason
    provider: _Name | None = None
    model: _Name | None = None
    organization: Slug | None = None
    prices: dict[str, DecimalInput] = msgspec.field(default_factory=dict)
    unit: UnitMember | None = None
    currency: str = "USD"
    inherit: bool = False
    target_provider: _Name | None = None
    target_model: _Name | None = None
    effective_from: Moment | None = None
    effective_to: Moment | None = None
    notes: Notes | None = None
    dry_run: bool = False


class ResolveBody(ResolveInput, frozen=True):
    """The same as it is read: as documented, its decimals kept as they were written."""

    prices: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)  # type: ignore[assignment]  # the same members, read digit by digit

    def group(self) -> GroupName:
        """Name the group that is meant."""
        return GroupName(provider=self.provider, model=self.model, reason=self.reason)

    def draft(self, first_seen_us: int | None) -> Draft:
        """Hand what shall be made to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a member is missing or cannot be read; points at it.
        """
        if self.model is None:
            raise _missing("model", "the calls of this group name no model, so that nothing can price them; ignore it")
        if self.action == "alias":
            return self._alias(self.model)
        provider = self.target_provider or self.provider
        if provider is None:
            raise _missing("target_provider", "say whose model this is; the calls of this group name no provider")
        begin_us = first_seen_us if self.effective_from is None else moment_us("effective_from", self.effective_from)
        return OverrideDraft(
            provider=provider,
            model=self.model,
            prices=decimals_of("/prices", self.prices),
            unit=self.unit,
            currency=self.currency,
            inherit=self.inherit,
            free=self.action == "free",
            effective_from_us=begin_us,
            effective_to_us=moment_us("effective_to", self.effective_to),
            notes=self.notes,
        )

    def _alias(self, model: str) -> AliasDraft:
        if self.target_model is None:
            raise _missing("target_model", "say which model the group's name stands for")
        return AliasDraft(
            alias=model,
            target=AliasTarget(target_model=self.target_model, target_provider=self.target_provider),
            provider=self.provider,
            effective_from_us=moment_us("effective_from", self.effective_from),
            effective_to_us=moment_us("effective_to", self.effective_to),
            notes=self.notes,
        )


class ResolveAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was made: an override or an alias and the job that prices the rows, or with `dry_run` what would change.

    A dry run looks at the first 5,000 rows; with more of them its `preview` is not complete.
    """

    action: Action
    dry_run: bool
    override: OverrideAnswer | None = None
    alias: AliasAnswer | None = None
    job: RepriceJobAnswer | None = None
    preview: OutcomeAnswer | None = None


def group_answer(
    group: UnpricedGroup,
    billing_status: UnsettledStatus,
    suggestions: list[Suggestion],
    estimate: Estimate | None,
) -> UnpricedGroupAnswer:
    """Write a group with what its name looks like, and what it might have cost."""
    return UnpricedGroupAnswer(
        provider=group.name.provider,
        model=group.name.model,
        reason=group.name.reason,
        billing_status=billing_status,
        rows=group.rows,
        input_tokens=group.input_tokens,
        output_tokens=group.output_tokens,
        total_tokens=group.total_tokens,
        organizations=group.organizations,
        first_seen=optional_timestamp(group.first_seen_us),
        last_seen=optional_timestamp(group.last_seen_us),
        ignored=group.is_ignored,
        suggestions=[SuggestionAnswer(one.provider, one.model, one.likeness) for one in suggestions],
        estimate=None if estimate is None else _estimate_answer(estimate),
    )


def _estimate_answer(estimate: Estimate) -> EstimateAnswer:
    return EstimateAnswer(
        estimated_cost=decimal_text(estimate.amount),
        currency=CURRENCY,
        provider=estimate.provider,
        models=estimate.models,
    )


def job_answer(job: Job, rows: RowsToPrice, *, dry_run: bool, slugs: Mapping[int, str]) -> RepriceJobAnswer:
    """Write a job; `slugs` are those of the organizations that it and its examples belong to."""
    outcome = outcome_of(job)
    return RepriceJobAnswer(
        id=job.id,
        organization=None if job.org_id is None else slugs[job.org_id],
        dry_run=dry_run,
        provider=rows.provider,
        model=rows.model,
        reason=rows.reason,
        billing_status=rows.billing_status,
        start=optional_timestamp(rows.start_us),
        end=optional_timestamp(rows.end_us),
        include_priced=rows.include_priced,
        status=job.status,
        error=job.error,
        attempts=job.attempts,
        created_at=timestamp(job.created_at_us),
        started_at=optional_timestamp(job.started_at_us),
        finished_at=optional_timestamp(job.finished_at_us),
        outcome=None if outcome is None else outcome_answer(outcome, slugs),
    )


def outcome_answer(outcome: RepriceOutcome, slugs: Mapping[int, str]) -> OutcomeAnswer:
    """Write what a re-pricing changes; `slugs` are those of its examples' organizations."""
    return OutcomeAnswer(
        is_complete=outcome.is_complete,
        catalog_version=outcome.catalog_version,
        rows_expected=max(outcome.rows_expected, outcome.rows_seen),
        rows_seen=outcome.rows_seen,
        rows_changed=outcome.rows_changed,
        transitions=[TransitionAnswer(one.before, one.after, one.rows) for one in outcome.transitions],
        amounts=[
            AmountChangeAnswer(
                one.currency,
                decimal(one.before) or "0",
                decimal(one.after) or "0",
                decimal(one.after - one.before) or "0",
            )
            for one in outcome.amounts
        ],
        examples=[_example(one, slugs[one.org_id]) for one in outcome.examples],
    )


def _example(one: Example, organization: str) -> ExampleAnswer:
    return ExampleAnswer(
        id=f"{one.day:08d}-{one.usage_id}",
        organization=organization,
        provider=one.provider,
        model=one.model,
        before=ChargeSketch(
            billing_status=one.status_before,
            reason=one.reason_before,
            currency=one.currency_before,
            cost=money(one.cost_before_pico),
        ),
        after=ChargeSketch(
            billing_status=one.status_after,
            reason=one.reason_after,
            currency=one.currency_after,
            cost=money(one.cost_after_pico),
        ),
        price_id=one.price_id_after,
    )


def _missing(member: str, detail: str) -> InvalidRequest:
    return InvalidRequest(Fault(detail, pointer=f"/{member}"))

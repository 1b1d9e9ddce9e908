"""Multipliers, as answers and as bodies."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from farebox_api.bodies import Input
from farebox_api.schemas.administration import (
    DatedAnswer,
    Moment,
    Notes,
    Slug,
    TermAnswer,
    changed_moment_us,
    dated,
    moment_us,
    now_us,
    term_dates,
)
from farebox_api.schemas.decimals import RatioInput, ratio_of
from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import DecimalText
from farebox_ledger.money import decimal_text
from farebox_ledger.store.multipliers import MultiplierChange, MultiplierDraft, PriceMultiplier
from farebox_ledger.store.subjects import standing_term


class MultiplierTermAnswer(TermAnswer, frozen=True, kw_only=True):
    """The factor for a span of time."""

    factor: DecimalText


class MultiplierAnswer(DatedAnswer, frozen=True, kw_only=True):
    """A factor from list cost to cost. `upstream` and `provider` null mean any; the most specific one holds."""

    upstream: str | None
    provider: str | None
    factor: DecimalText
    history: list[MultiplierTermAnswer]


class MultiplierPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[MultiplierAnswer]


class MultiplierInput(Input, frozen=True):
    """A multiplier to be made: above 0, at most 1000.

    `organization` is whose it is: a key of an organization means its own, a system key everybody. Without
    `effective_from` it holds since ever.
    """

    factor: RatioInput
    organization: Slug | None = None
    upstream: str | None = None
    provider: str | None = None
    effective_from: Moment | None = None
    effective_to: Moment | None = None
    notes: Notes | None = None
    is_active: bool = True


class MultiplierChangeInput(Input, frozen=True):
    """What changes of a multiplier; what is left out stays. Another factor holds from now on unless told otherwise."""

    factor: RatioInput | UnsetType = UNSET
    effective_from: Moment | UnsetType | None = UNSET
    effective_to: Moment | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


class MultiplierBody(MultiplierInput, frozen=True):
    """A multiplier as it is read: as documented, its factor kept as it was written."""

    factor: msgspec.Raw  # type: ignore[assignment]  # the same member, read digit by digit

    def draft(self) -> MultiplierDraft:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time or the factor cannot be read; points at it.
        """
        return MultiplierDraft(
            factor=ratio_of("/factor", self.factor),
            upstream=self.upstream,
            provider=self.provider,
            effective_from_us=moment_us("effective_from", self.effective_from),
            effective_to_us=moment_us("effective_to", self.effective_to),
            notes=self.notes,
            is_active=self.is_active,
        )


class MultiplierChangeBody(MultiplierChangeInput, frozen=True):
    """A change as it is read: as documented, its factor kept as it was written."""

    factor: msgspec.Raw | UnsetType = UNSET  # type: ignore[assignment]  # as above

    def change(self) -> MultiplierChange:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time or the factor cannot be read; points at it.
        """
        return MultiplierChange(
            factor=UNSET if isinstance(self.factor, UnsetType) else ratio_of("/factor", self.factor),
            effective_from_us=changed_moment_us("effective_from", self.effective_from),
            effective_to_us=changed_moment_us("effective_to", self.effective_to),
            notes=self.notes,
            is_active=self.is_active,
        )


def multiplier_answer(multiplier: PriceMultiplier, organization: str | None) -> MultiplierAnswer:
    """Write a multiplier; `organization` is the slug of its owner."""
    term = standing_term(multiplier.terms, now_us())
    return MultiplierAnswer(
        **dated(multiplier, term, organization),
        upstream=multiplier.upstream,
        provider=multiplier.provider,
        factor=decimal_text(term.factor),
        history=[MultiplierTermAnswer(**term_dates(one), factor=decimal_text(one.factor)) for one in multiplier.terms],
    )

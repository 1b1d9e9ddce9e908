"""Price overrides, as answers and as bodies."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

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
from farebox_api.schemas.decimals import DecimalInput, changes_of, decimals_of
from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import DecimalText
from farebox_ledger.pricing import Price, Rates, Tier
from farebox_ledger.pricing.rates import STANDARD
from farebox_ledger.pricing.units import Unit, rates_in_unit
from farebox_ledger.store.overrides import (
    OverrideChange,
    OverrideDraft,
    OverrideTerm,
    PriceOverride,
    StatedBand,
    StatedTier,
)
from farebox_ledger.store.subjects import standing_term

UnitMember: TypeAlias = Annotated[Unit, Meta(description="How many tokens a price is for; other units are single.")]
PriceTable: TypeAlias = Annotated[dict[str, DecimalText], Meta(description="Prices by dimension.")]


class BandAnswer(msgspec.Struct, frozen=True):
    """Prices of requests whose total input is beyond a number of tokens, for the whole request."""

    above_tokens: int
    prices: PriceTable


class TierAnswer(msgspec.Struct, frozen=True):
    """Prices of one service tier."""

    prices: PriceTable
    bands: list[BandAnswer]


class StatedPricesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a price says, its prices of tokens in `unit`."""

    currency: str
    unit: UnitMember
    prices: PriceTable
    bands: list[BandAnswer]
    tiers: dict[str, TierAnswer]
    inherit: Annotated[bool, Meta(description="What is not priced here has the price of the catalog.")]
    free: bool
    source_url: str | None


class OverrideTermAnswer(TermAnswer, frozen=True, kw_only=True):
    """One price of the override; `id` is the id of the price, which charges carry."""

    price: StatedPricesAnswer


class OverrideAnswer(DatedAnswer, frozen=True, kw_only=True):
    """What a model costs by an administrator's word. `history` holds its prices by their begin."""

    provider: str
    model: str
    price_id: str
    currency: str
    unit: UnitMember
    prices: PriceTable
    bands: list[BandAnswer]
    tiers: dict[str, TierAnswer]
    inherit: bool
    free: bool
    source_url: str | None
    history: list[OverrideTermAnswer]


class OverridePageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[OverrideAnswer]


class BandInput(Input, frozen=True):
    """Prices of requests whose total input is beyond a number of tokens, for the whole request."""

    above_tokens: Annotated[int, Meta(ge=1)]
    prices: dict[str, DecimalInput]


class TierInput(Input, frozen=True):
    """Prices of one service tier."""

    prices: dict[str, DecimalInput]
    bands: Annotated[list[BandInput], Meta(max_length=16)] = msgspec.field(default_factory=list)


class OverrideInput(Input, frozen=True):
    """An override to be made. It prices what it names, and the rest only if it says `inherit`.

    `organization` is whose it is: a key of an organization means its own, a system key everybody. Without
    `effective_from` it holds since ever.
    """

    provider: str
    model: str
    organization: Slug | None = None
    currency: str = "USD"
    unit: UnitMember | None = None
    prices: dict[str, DecimalInput] = msgspec.field(default_factory=dict)
    bands: Annotated[list[BandInput], Meta(max_length=16)] = msgspec.field(default_factory=list)
    tiers: Annotated[dict[str, TierInput], Meta(max_length=16)] = msgspec.field(default_factory=dict)
    inherit: bool = False
    free: bool = False
    source_url: str | None = None
    effective_from: Moment | None = None
    effective_to: Moment | None = None
    notes: Notes | None = None
    is_active: bool = True


class OverrideChangeInput(Input, frozen=True):
    """What changes of an override; what is left out stays.

    `prices` is merged, null takes a price away; `bands` and `tiers` are replaced. Other prices hold from now on unless
    `effective_from` says otherwise; null means since ever.
    """

    currency: str | UnsetType = UNSET
    unit: UnitMember | UnsetType = UNSET
    prices: dict[str, DecimalInput | None] | UnsetType = UNSET
    bands: Annotated[list[BandInput], Meta(max_length=16)] | UnsetType = UNSET
    tiers: Annotated[dict[str, TierInput], Meta(max_length=16)] | UnsetType = UNSET
    inherit: bool | UnsetType = UNSET
    free: bool | UnsetType = UNSET
    source_url: str | UnsetType | None = UNSET
    effective_from: Moment | UnsetType | None = UNSET
    effective_to: Moment | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


class _BandBody(BandInput, frozen=True):
    prices: dict[str, msgspec.Raw]  # type: ignore[assignment]  # the same members, read digit by digit


class _TierBody(TierInput, frozen=True):
    prices: dict[str, msgspec.Raw]  # type: ignore[assignment]  # as above
    bands: Annotated[list[_BandBody], Meta(max_length=16)] = msgspec.field(default_factory=list)  # type: ignore[assignment]  # as above


class OverrideBody(OverrideInput, frozen=True):
    """An override as it is read: as documented, its decimals kept as they were written."""

    prices: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)  # type: ignore[assignment]  # the same members, read digit by digit
    bands: Annotated[list[_BandBody], Meta(max_length=16)] = msgspec.field(default_factory=list)  # type: ignore[assignment]  # as above
    tiers: Annotated[dict[str, _TierBody], Meta(max_length=16)] = msgspec.field(default_factory=dict)  # type: ignore[assignment]  # as above

    def draft(self) -> OverrideDraft:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time or a decimal cannot be read; points at it.
        """
        return OverrideDraft(
            provider=self.provider,
            model=self.model,
            prices=decimals_of("/prices", self.prices),
            bands=_bands("/bands", self.bands),
            tiers=_tiers(self.tiers),
            unit=self.unit,
            currency=self.currency,
            inherit=self.inherit,
            free=self.free,
            source_url=self.source_url,
            effective_from_us=moment_us("effective_from", self.effective_from),
            effective_to_us=moment_us("effective_to", self.effective_to),
            notes=self.notes,
            is_active=self.is_active,
        )


class OverrideChangeBody(OverrideChangeInput, frozen=True):
    """A change as it is read: as documented, its decimals kept as they were written."""

    prices: dict[str, msgspec.Raw] | UnsetType = UNSET  # type: ignore[assignment]  # as above
    bands: Annotated[list[_BandBody], Meta(max_length=16)] | UnsetType = UNSET  # type: ignore[assignment]  # as above
    tiers: Annotated[dict[str, _TierBody], Meta(max_length=16)] | UnsetType = UNSET  # type: ignore[assignment]

    def change(self) -> OverrideChange:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time or a decimal cannot be read; points at it.
        """
        return OverrideChange(
            effective_from_us=changed_moment_us("effective_from", self.effective_from),
            effective_to_us=changed_moment_us("effective_to", self.effective_to),
            is_active=self.is_active,
            notes=self.notes,
            prices=UNSET if isinstance(self.prices, UnsetType) else changes_of("/prices", self.prices),
            bands=UNSET if isinstance(self.bands, UnsetType) else _bands("/bands", self.bands),
            tiers=UNSET if isinstance(self.tiers, UnsetType) else _tiers(self.tiers),
            unit=self.unit,
            currency=self.currency,
            inherit=self.inherit,
            free=self.free,
            source_url=self.source_url,
        )


def override_answer(override: PriceOverride, organization: str | None, unit: Unit | None = None) -> OverrideAnswer:
    """Write an override, in the unit that was asked for or in its own; `organization` is the slug of its owner."""
    shown = unit or override.unit
    term = standing_term(override.terms, now_us())
    return OverrideAnswer(
        **dated(override, term, organization),
        **_stated(term.price, shown),
        provider=override.provider,
        model=override.model,
        price_id=term.id,
        history=[_term_answer(one, shown) for one in override.terms],
    )


def stated_prices_answer(price: Price, unit: Unit) -> StatedPricesAnswer:
    """Write what a price says, in a unit."""
    return StatedPricesAnswer(**_stated(price, unit))


def _term_answer(term: OverrideTerm, unit: Unit) -> OverrideTermAnswer:
    return OverrideTermAnswer(**term_dates(term), price=stated_prices_answer(term.price, unit))


def _stated(price: Price, unit: Unit) -> dict[str, Any]:
    rates: Rates = rates_in_unit(price.rates, unit)
    tiers = {name: _tier_answer(tier) for name, tier in rates.tiers.items()}
    standard = tiers.pop(STANDARD, TierAnswer({}, []))
    return {
        "currency": price.currency,
        "unit": unit,
        "prices": standard.prices,
        "bands": standard.bands,
        "tiers": tiers,
        "inherit": rates.inherits,
        "free": rates.free,
        "source_url": price.source_url,
    }


def _tier_answer(tier: Tier) -> TierAnswer:
    return TierAnswer(tier.rates, [BandAnswer(band.above_tokens, band.rates) for band in tier.bands])


def _bands(pointer: str, bands: list[_BandBody]) -> tuple[StatedBand, ...]:
    return tuple(
        StatedBand(above_tokens=band.above_tokens, prices=decimals_of(f"{pointer}/{number}/prices", band.prices))
        for number, band in enumerate(bands)
    )


def _tiers(tiers: dict[str, _TierBody]) -> dict[str, StatedTier]:
    return {
        name: StatedTier(
            prices=decimals_of(f"/tiers/{name}/prices", tier.prices), bands=_bands(f"/tiers/{name}/bands", tier.bands)
        )
        for name, tier in tiers.items()
    }

"""Model configurations, as answers and as bodies."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from farebox_api.bodies import Input
from farebox_api.schemas.administration import AdministeredAnswer, Notes, Slug, administered, now_us
from farebox_api.schemas.decimals import DecimalInput, changes_of, decimals_of
from farebox_api.schemas.pages import Page
from farebox_api.schemas.price_overrides import StatedPricesAnswer, UnitMember, stated_prices_answer
from farebox_ledger.pricing.units import Unit
from farebox_ledger.store.model_configs import ModelConfig, ModelConfigChange, ModelConfigDraft
from farebox_ledger.store.overrides import OverrideChange, OverrideDraft
from farebox_ledger.store.subjects import standing_term

PricesDescription = Meta(description="Prices by dimension, those of tokens in `unit`.")


class ModelConfigAnswer(AdministeredAnswer, frozen=True, kw_only=True):
    """A model as an organization has set it up.

    Calls belong to it that name it, whose model is an alias of it, or, where it `is_default`, that say nothing.
    `price` null: the catalog's prices apply; else it is the override `price_override`.
    """

    name: str
    provider: str
    model: str
    is_default: bool
    price_override: str | None
    price: StatedPricesAnswer | None


class ModelConfigPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[ModelConfigAnswer]


class ModelConfigInput(Input, frozen=True):
    """A configuration to be made; a system key has to say whose (`organization`).

    With `prices` it brings an override of its model for the organization, which inherits what is not priced.
    """

    name: str
    provider: str
    model: str
    organization: Slug | None = None
    is_default: bool = False
    currency: str = "USD"
    unit: UnitMember | None = None
    prices: Annotated[dict[str, DecimalInput], PricesDescription] | None = None
    notes: Notes | None = None
    is_active: bool = True


class ModelConfigChangeInput(Input, frozen=True):
    """What changes of a configuration; what is left out stays.

    `prices` is merged, null inside takes one price away, null itself all of them. Other prices hold from now on.
    """

    name: str | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    unit: UnitMember | UnsetType = UNSET
    prices: Annotated[dict[str, DecimalInput | None], PricesDescription] | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


class ModelConfigBody(ModelConfigInput, frozen=True):
    """A configuration as it is read: as documented, its decimals kept as they were written."""

    prices: dict[str, msgspec.Raw] | None = None  # type: ignore[assignment]  # the same members, read digit by digit

    def draft(self) -> ModelConfigDraft:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a decimal cannot be read; points at it.
        """
        return ModelConfigDraft(
            name=self.name,
            provider=self.provider,
            model=self.model,
            is_default=self.is_default,
            prices=None if self.prices is None else self._override(self.prices),
            notes=self.notes,
            is_active=self.is_active,
        )

    def _override(self, prices: dict[str, msgspec.Raw]) -> OverrideDraft:
        return OverrideDraft(
            provider=self.provider,
            model=self.model,
            prices=decimals_of("/prices", prices),
            unit=self.unit,
            currency=self.currency,
            inherit=True,
        )


class ModelConfigChangeBody(ModelConfigChangeInput, frozen=True):
    """A change as it is read: as documented, its decimals kept as they were written."""

    prices: dict[str, msgspec.Raw] | UnsetType | None = UNSET  # type: ignore[assignment]  # as above

    def change(self) -> ModelConfigChange:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a decimal cannot be read; points at it.
        """
        return ModelConfigChange(
            name=self.name,
            is_default=self.is_default,
            prices=self._prices(),
            notes=self.notes,
            is_active=self.is_active,
        )

    def _prices(self) -> OverrideChange | UnsetType | None:
        if self.prices is None:
            return None
        if all(isinstance(said, UnsetType) for said in (self.prices, self.currency, self.unit)):
            return UNSET
        return OverrideChange(
            prices=UNSET if isinstance(self.prices, UnsetType) else changes_of("/prices", self.prices),
            currency=self.currency,
            unit=self.unit,
            inherit=True,
        )


def model_config_answer(config: ModelConfig, organization: str | None, unit: Unit | None = None) -> ModelConfigAnswer:
    """Write a configuration; `organization` is the slug of its owner."""
    override = config.override
    price = None if override is None else standing_term(override.terms, now_us()).price
    return ModelConfigAnswer(
        **administered(config, organization),
        name=config.name,
        provider=config.provider,
        model=config.model,
        is_default=config.is_default,
        price_override=None if override is None else override.id,
        price=None if override is None or price is None else stated_prices_answer(price, unit or override.unit),
    )

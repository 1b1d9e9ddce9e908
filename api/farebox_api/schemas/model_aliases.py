"""Model aliases, as answers and as bodies."""

from __future__ import annotations

from typing import Any

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
from farebox_api.schemas.pages import Page
from farebox_ledger.store.aliases import AdministeredAlias, AliasChange, AliasDraft, AliasTarget
from farebox_ledger.store.subjects import standing_term


class AliasTermAnswer(TermAnswer, frozen=True, kw_only=True):
    """What the name stands for during a span of time."""

    target_provider: str | None
    target_model: str
    model_config: str | None


class AliasAnswer(DatedAnswer, frozen=True, kw_only=True):
    """A name for another model, such as an Azure deployment.

    `provider` null: in calls of any provider; `target_provider` null keeps the call's own. `model_config` is the
    configuration that calls under this name belong to.
    """

    alias: str
    provider: str | None
    target_provider: str | None
    target_model: str
    model_config: str | None
    history: list[AliasTermAnswer]


class AliasPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[AliasAnswer]


class AliasInput(Input, frozen=True):
    """An alias to be made.

    `organization` is whose it is: a key of an organization means its own, a system key everybody. Without
    `effective_from` it holds since ever.
    """

    alias: str
    target_model: str
    organization: Slug | None = None
    provider: str | None = None
    target_provider: str | None = None
    model_config: str | None = None
    effective_from: Moment | None = None
    effective_to: Moment | None = None
    notes: Notes | None = None
    is_active: bool = True

    def draft(self) -> AliasDraft:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time cannot be read; points at it.
        """
        return AliasDraft(
            alias=self.alias,
            target=AliasTarget(
                target_model=self.target_model,
                target_provider=self.target_provider,
                model_config_id=self.model_config,
            ),
            provider=self.provider,
            effective_from_us=moment_us("effective_from", self.effective_from),
            effective_to_us=moment_us("effective_to", self.effective_to),
            notes=self.notes,
            is_active=self.is_active,
        )


class AliasChangeInput(Input, frozen=True):
    """What changes of an alias; what is left out stays. Another target holds from now on unless told otherwise."""

    target_provider: str | UnsetType | None = UNSET
    target_model: str | UnsetType = UNSET
    model_config: str | UnsetType | None = UNSET
    effective_from: Moment | UnsetType | None = UNSET
    effective_to: Moment | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET

    def change(self) -> AliasChange:
        """Hand it to the ledger, which checks the rest.

        Raises:
            InvalidRequest: a time cannot be read; points at it.
        """
        return AliasChange(
            target_provider=self.target_provider,
            target_model=self.target_model,
            model_config_id=self.model_config,
            effective_from_us=changed_moment_us("effective_from", self.effective_from),
            effective_to_us=changed_moment_us("effective_to", self.effective_to),
            notes=self.notes,
            is_active=self.is_active,
        )


def alias_answer(alias: AdministeredAlias, organization: str | None) -> AliasAnswer:
    """Write an alias; `organization` is the slug of its owner."""
    term = standing_term(alias.terms, now_us())
    return AliasAnswer(
        **dated(alias, term, organization),
        **_target(term.target),
        alias=alias.alias,
        provider=alias.provider,
        history=[AliasTermAnswer(**term_dates(one), **_target(one.target)) for one in alias.terms],
    )


def _target(target: AliasTarget) -> dict[str, Any]:
    return {
        "target_provider": target.target_provider,
        "target_model": target.target_model,
        "model_config": target.model_config_id,
    }

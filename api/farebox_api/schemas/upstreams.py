"""Upstreams, as answers and as bodies."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from farebox_api.bodies import Input
from farebox_api.schemas.administration import AdministeredAnswer, Notes, Slug, administered
from farebox_api.schemas.pages import Page
from farebox_ledger.store.upstreams import Upstream, UpstreamChange, UpstreamDraft


class UpstreamAnswer(AdministeredAnswer, frozen=True, kw_only=True):
    """What calls go through on their way, by the name that they carry. `provider` null: it leads to several."""

    name: str
    provider: str | None


class UpstreamPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[UpstreamAnswer]


class UpstreamInput(Input, frozen=True):
    """An upstream to be made; `organization` is whose it is, a system key means everybody without it."""

    name: str
    organization: Slug | None = None
    provider: str | None = None
    notes: Notes | None = None
    is_active: bool = True

    def draft(self) -> UpstreamDraft:
        """Hand it to the ledger, which checks it."""
        return UpstreamDraft(name=self.name, provider=self.provider, notes=self.notes, is_active=self.is_active)


class UpstreamChangeInput(Input, frozen=True):
    """What changes of an upstream; what is left out stays. Its name never changes."""

    provider: str | UnsetType | None = UNSET
    notes: Notes | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET

    def change(self) -> UpstreamChange:
        """Hand it to the ledger, which checks it."""
        return UpstreamChange(provider=self.provider, notes=self.notes, is_active=self.is_active)


def upstream_answer(upstream: Upstream, organization: str | None) -> UpstreamAnswer:
    """Write an upstream; `organization` is the slug of its owner."""
    return UpstreamAnswer(**administered(upstream, organization), name=upstream.name, provider=upstream.provider)

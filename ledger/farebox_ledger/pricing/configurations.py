"""Which model configuration a call belongs to. Pure; decides nothing about its price.

What the app says explicitly comes first, then the alias that is the requested model's name, then the organization's
default (docs/price-administration.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from farebox_ledger.pricing.names import canonical_provider, comparable
from farebox_ledger.pricing.price import ModelAlias


class ModelConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """A model as an organization has set it up, under a name of its own."""

    id: str
    org_id: int
    name: str
    is_default: bool = False


class Configurations:
    """The configurations of all organizations that are active."""

    def __init__(self, configurations: Iterable[ModelConfiguration] = (), aliases: Iterable[ModelAlias] = ()) -> None:
        """Sort them in by organization and name, and the aliases that lead to one by name."""
        self._by_name: dict[tuple[int, str], str] = {}
        self._defaults: dict[int, str] = {}
        for one in configurations:
            self._by_name[one.org_id, one.id] = one.id
            self._by_name.setdefault((one.org_id, one.name), one.id)
            if one.is_default:
                self._defaults[one.org_id] = one.id
        self._aliases: dict[tuple[int, str], list[ModelAlias]] = defaultdict(list)
        for alias in aliases:
            if alias.model_config_id is not None and alias.org_id is not None:
                self._aliases[alias.org_id, comparable(alias.alias)].append(alias)

    def of_call(
        self, org_id: int, *, explicit: str | None, provider: str | None, request_model: str | None, at_us: int
    ) -> str | None:
        """Answer the id of a call's configuration; None where nothing says one.

        `explicit` is an id or a name; a name that the organization does not have stays as it was said.
        """
        if explicit:
            return self._by_name.get((org_id, explicit), explicit)
        alias = self._alias(org_id, provider, request_model, at_us) if request_model and self._aliases else None
        return alias or self._defaults.get(org_id)

    def _alias(self, org_id: int, provider: str | None, request_model: str, at_us: int) -> str | None:
        given = canonical_provider(provider)
        fitting = [
            alias
            for alias in self._aliases.get((org_id, comparable(request_model)), ())
            if alias.provider in (None, given)
            and alias.holds_at(at_us)
            and (org_id, alias.model_config_id) in self._by_name
        ]
        best = min(fitting, key=lambda alias: (alias.provider is None, alias.id), default=None)
        return best.model_config_id if best else None

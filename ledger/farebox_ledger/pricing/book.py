"""The price book: which price holds for a call, by exact names, in a fixed order of precedence.

Comes in: all prices, aliases and multipliers of one catalog version. Goes out: a `Match` with the rule that found it,
or a `NoMatch` with its reason. Immutable apart from what it remembers; never reads a database, never guesses a name.

Precedence (reference §6.3): an override of the organization, a global override, then the catalogs candidate by
candidate (LiteLLM before the genai-prices archive), then prices that their source has retired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import msgspec

from farebox_ledger.money import decimal_text
from farebox_ledger.pricing.calculate import calculate, unpriced
from farebox_ledger.pricing.charge import Charge, PriceReference, PricingRequest
from farebox_ledger.pricing.match import Match, NoMatch
from farebox_ledger.pricing.names import (
    FIRST_PARTIES,
    Candidate,
    candidates,
    canonical_provider,
    comparable,
    without_date,
)
from farebox_ledger.pricing.plan import CompiledPrice
from farebox_ledger.pricing.price import ModelAlias, Multiplier, Policy, Price
from farebox_ledger.pricing.rates import overlay
from farebox_ledger.usage import Reason

_NameKey: TypeAlias = tuple[str, str]  # (canonical provider, comparable model name)
_Index: TypeAlias = dict[_NameKey, list[Price]]

_MAX_REMEMBERED: Final = 100_000
"""Calls whose resolution is remembered; beyond it the memory starts anew. Senders choose model names freely."""

_SOURCE_RANK: Final = {"override": 0, "litellm": 1, "genai-prices": 2}
_FOREVER: Final = 1 << 63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Remembered(msgspec.Struct):
    """A resolution and the half-open span of time in which it holds."""

    from_us: int
    to_us: int
    answer: Match | NoMatch


class _Name(msgspec.Struct, frozen=True):
    """One name to look up: where, what, and how it came about."""

    provider: str
    candidate: Candidate
    label: str  # "" for the first model name, else what the name is (request_model, alias)

    @property
    def key(self) -> _NameKey:
        return self.provider, self.candidate.key

    @property
    def rule(self) -> str:
        return f"{self.label}:{self.candidate.rule}" if self.label else self.candidate.rule


class PriceBook:
    """All prices of one catalog version, ready to resolve and to charge."""

    def __init__(
        self,
        prices: Iterable[Price],
        version: int,
        *,
        aliases: Iterable[ModelAlias] = (),
        multipliers: Iterable[Multiplier] = (),
        policy: Policy | None = None,
    ) -> None:
        """Index the prices by provider and name. `version` is the catalog version that they were read at."""
        self.version = version
        self.policy = policy or Policy()
        self._overrides: dict[int | None, _Index] = {}
        self._catalog: _Index = {}
        self._first_parties: dict[str, set[str]] = {}
        self._providers: set[str] = set()
        self._dated: dict[_NameKey, list[_NameKey]] = {}
        self._aliases = tuple(aliases)
        self._multipliers = tuple(multipliers)
        self._compiled: dict[tuple[str, ...], CompiledPrice] = {}
        self._remembered: dict[tuple[object, ...], list[_Remembered]] = {}
        for price in prices:
            self._add(price)
        for index in (self._catalog, *self._overrides.values()):
            for listed in index.values():
                listed.sort(key=_precedence)
        self._special_orgs = {
            *self._overrides, *(a.org_id for a in self._aliases), *(m.org_id for m in self._multipliers)
        }  # fmt: skip
        self._upstreams = {multiplier.upstream for multiplier in self._multipliers}

    def __len__(self) -> int:
        """Count the prices, dated ones each."""
        return sum(len(listed) for index in self._indexes() for listed in index.values())

    def prices(self) -> Iterator[Price]:
        """Go through all prices, in no promised order."""
        for index in self._indexes():
            for listed in index.values():
                yield from listed

    def charge(self, request: PricingRequest) -> Charge:
        """Price one call. Never raises for an unknown model or odd usage: status, reason and detail say what is so."""
        answer = self.resolve(request)
        if isinstance(answer, NoMatch):
            return unpriced(answer, request)
        return calculate(answer, request)

    def resolve(self, request: PricingRequest) -> Match | NoMatch:
        """Find the price that holds at the request's time, by exact names only."""
        org_id = request.org_id if request.org_id in self._special_orgs else None
        upstream = request.upstream if request.upstream in self._upstreams else None
        call = (request.provider, request.response_model, request.request_model, request.region, org_id, upstream)
        at_us = request.at_us
        remembered = self._remembered.get(call)
        if remembered is not None:
            for entry in remembered:
                if entry.from_us <= at_us < entry.to_us:
                    return entry.answer
        return self._remember(call, _Search(self, request, org_id, upstream).run())

    def _remember(self, call: tuple[object, ...], entry: _Remembered) -> Match | NoMatch:
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered.setdefault(call, []).append(entry)
        return entry.answer

    def _indexes(self) -> Iterator[_Index]:
        yield self._catalog
        yield from self._overrides.values()

    def _add(self, price: Price) -> None:
        name = comparable(price.model)
        provider = canonical_provider(price.provider) or ""
        key = (provider, name)
        self._providers.add(provider)
        if provider in FIRST_PARTIES:
            self._first_parties.setdefault(name, set()).add(provider)
        if price.source == "override":
            self._overrides.setdefault(price.org_id, {}).setdefault(key, []).append(price)
            return
        listed = self._catalog.setdefault(key, [])
        listed.append(price)
        undated = without_date(name) if len(listed) == 1 else None
        if undated:
            self._dated.setdefault((provider, undated), []).append(key)

    def _compile(self, price: Price, below: Price | None) -> CompiledPrice:
        key = (price.id, below.id) if below else (price.id,)
        compiled = self._compiled.get(key)
        if compiled is None:
            rates = overlay(below.rates, price.rates) if below else None
            compiled = self._compiled[key] = CompiledPrice(price, rates)
        return compiled


class _Search:
    """One resolution: the names to try, the levels to try them at, and what was met on the way."""

    def __init__(self, book: PriceBook, request: PricingRequest, org_id: int | None, upstream: str | None) -> None:
        self.book = book
        self.request = request
        self.org_id = org_id
        self.upstream = upstream
        self.at_us = request.at_us
        self.boundaries: set[int] = set()
        self.rejected: list[str] = []
        self.tried: list[str] = []
        self.met: list[Price] = []  # prices of a tried name, valid or not
        self.is_ambiguous = False

    def run(self) -> _Remembered:
        answer = self._answer()
        from_us = max((time for time in self.boundaries if time <= self.at_us), default=-_FOREVER)
        to_us = min((time for time in self.boundaries if time > self.at_us), default=_FOREVER)
        return _Remembered(from_us, to_us, answer)

    def _answer(self) -> Match | NoMatch:
        models = self._models()
        if not models:
            return self._no_match("model_missing", "the call names no model", None, None)
        provider = canonical_provider(self.request.provider)
        if provider is None:
            makers = sorted({maker for model, _ in models for maker in self._makers(model)})
            if len(makers) != 1:
                reason: Reason = "ambiguous_model" if makers else "unknown_provider"
                detail = (
                    f"the call names no provider; {', '.join(makers) or 'nobody'} lists {models[0][0]!r} as its own"
                )
                return self._no_match(reason, detail, None, models[0][0])
            provider = makers[0]
        names = self._names(models, provider)
        return self._find(names) or self._why_not(names, provider, models[0][0])

    def _models(self) -> list[tuple[str, str]]:
        """List the names that the call carries with their labels: what was served before what was asked for."""
        served, asked = self.request.response_model, self.request.request_model
        models = [(served.strip(), "")] if served and served.strip() else []
        if asked and asked.strip() and (not models or comparable(asked) != comparable(models[0][0])):
            models.append((asked.strip(), "request_model" if models else ""))
        return models

    def _makers(self, model: str) -> set[str]:
        return self.book._first_parties.get(comparable(model), set())

    def _names(self, models: Sequence[tuple[str, str]], provider: str) -> list[_Name]:
        names = [
            _Name(provider, candidate, label)
            for model, label in models
            for candidate in candidates(model, provider, self.request.region)
        ]
        for model, _ in models:
            names.extend(self._alias_names(model, provider))
        return names

    def _alias_names(self, model: str, provider: str) -> Iterator[_Name]:
        given = comparable(model)
        found = [alias for alias in self.book._aliases if comparable(alias.alias) == given]
        for alias in sorted(found, key=lambda alias: (alias.org_id is None, alias.provider is None, alias.id)):
            at_home = alias.org_id in (None, self.org_id) and canonical_provider(alias.provider) in (None, provider)
            if not at_home or not self._holds(alias.effective_from_us, alias.effective_to_us):
                continue
            target = canonical_provider(alias.target_provider) or provider
            label = "alias" if target == provider else "alias:cross_provider"
            for candidate in candidates(alias.target_model, target, self.request.region):
                yield _Name(target, candidate, label)

    def _find(self, names: Sequence[_Name]) -> Match | None:
        self.tried = [f"{name.provider}/{name.candidate.key} ({name.rule})" for name in names]
        overrides = self.book._overrides
        levels = [overrides[org] for org in dict.fromkeys((self.org_id, None)) if org in overrides]
        for level in levels:
            for name in names:
                price = self._valid(level.get(name.key, ()))
                if price is not None:
                    return self._overridden(price, name, names)
        found = self._from_catalog(names) or self._from_retired(names)
        return self._match(*found) if found else None

    def _from_catalog(self, names: Sequence[_Name]) -> tuple[Price, _Name, str | None] | None:
        catalog = self.book._catalog
        for name in names:
            price = self._valid(self._allowed(catalog.get(name.key, ())))
            if price is not None:
                return price, name, _archive_note(price)
        if self.met:
            return None  # a source knows the name, at another time: dropping its date would price another model
        for name in names:
            undated = without_date(name.candidate.key)
            price = self._undated(name.provider, undated) if undated else None
            if price is not None and undated:
                return price, _Name(name.provider, Candidate(undated, "without_date"), name.label), _archive_note(price)
        return None

    def _undated(self, provider: str, undated: str) -> Price | None:
        """Answer the undated model's price if all its dated siblings cost the same as it does."""
        catalog = self.book._catalog
        price = self._valid(self._allowed(catalog.get((provider, undated), ())))
        if price is None:
            return None
        for sibling in self.book._dated.get((provider, undated), ()):
            other = self._valid(self._allowed(catalog.get(sibling, ())))
            if other is not None and other.rates != price.rates:
                self.is_ambiguous = True
                self.rejected.append(f"{_title(price)}: its dated sibling {other.model} has another price")
                return None
        return price

    def _from_retired(self, names: Sequence[_Name]) -> tuple[Price, _Name, str | None] | None:
        if not self.book.policy.carry_retired:
            return None
        for name in names:
            for price in self._allowed(self.book._catalog.get(name.key, ())):
                if price.retired and price.effective_to_us is not None and price.effective_to_us <= self.at_us:
                    return price, name, f"{price.source} retired this price on {_moment(price.effective_to_us)}"
        return None

    def _overridden(self, price: Price, name: _Name, names: Sequence[_Name]) -> Match:
        """Answer an override, and note what it beat; one that inherits lies over the catalog's price."""
        self.rejected.extend(f"{_title(other)}: loses to an override" for other in self.met if other is not price)
        before = len(self.met)
        below = self._from_catalog(names)
        self.rejected.extend(f"{_title(other)}: loses to an override" for other in self.met[before:])
        return self._match(price, name, None, below[0] if below and price.rates.inherits else None)

    def _allowed(self, prices: Iterable[Price]) -> list[Price]:
        use_archive = self.book.policy.use_archive
        return [price for price in prices if use_archive or price.source != "genai-prices"]

    def _valid(self, prices: Iterable[Price]) -> Price | None:
        """Answer the first price that holds at the request's time; the others are noted with why they do not."""
        found: Price | None = None
        for price in prices:
            self.met.append(price)
            holds = self._holds(price.effective_from_us, price.effective_to_us)
            if holds and found is None:
                found = price
            elif holds and found is not None:
                self.rejected.append(f"{_title(price)}: {found.source} {found.id} comes first")
            else:
                self.rejected.append(f"{_title(price)}: not valid on {_moment(self.at_us)}")
        return found

    def _holds(self, from_us: int | None, to_us: int | None) -> bool:
        self.boundaries.update(time for time in (from_us, to_us) if time is not None)
        return (from_us is None or from_us <= self.at_us) and (to_us is None or self.at_us < to_us)

    def _match(self, price: Price, name: _Name, assumed: str | None, below: Price | None = None) -> Match:
        multiplier = self._multiplier(price.provider)
        return Match(
            compiled=self.book._compile(price, below),
            reference=_reference(price, name.rule),
            rejected=tuple(self.rejected),
            assumed=assumed,
            multiplier=multiplier.factor if multiplier else None,
            multiplier_text=decimal_text(multiplier.factor) if multiplier else None,
            multiplier_id=multiplier.id if multiplier else None,
        )

    def _multiplier(self, provider: str) -> Multiplier | None:
        """Choose the most specific multiplier: the organization's before all others, then upstream, then provider."""
        fitting = [
            multiplier
            for multiplier in self.book._multipliers
            if multiplier.org_id in (None, self.org_id)
            and multiplier.upstream in (None, self.upstream)
            and canonical_provider(multiplier.provider) in (None, provider)
            and self._holds(multiplier.effective_from_us, multiplier.effective_to_us)
        ]
        return min(fitting, key=_specificity, default=None)

    def _why_not(self, names: Sequence[_Name], provider: str, model: str) -> NoMatch:
        if self.is_ambiguous:
            return self._no_match("ambiguous_model", self.rejected[-1], provider, model)
        if self.met:
            detail = f"{_title(self.met[0])} is not valid on {_moment(self.at_us)}"
            return self._no_match("no_price_at_time", detail, provider, model)
        if provider not in self.book._providers:
            return self._no_match("unknown_provider", f"no price of provider {provider!r} is known", provider, model)
        tried = ", ".join(dict.fromkeys(name.candidate.key for name in names))
        return self._no_match("unknown_model", f"no price of {provider} under: {tried}", provider, model)

    def _no_match(self, reason: Reason, detail: str, provider: str | None, model: str | None) -> NoMatch:
        return NoMatch(
            reason=reason, detail=detail, provider=provider, model=model, tried=(*self.tried, *self.rejected)
        )


def _precedence(price: Price) -> tuple[int, int]:
    """Order the prices of one name: by source, and inside a source the youngest first."""
    return _SOURCE_RANK[price.source], -(price.effective_from_us if price.effective_from_us is not None else -_FOREVER)


def _specificity(multiplier: Multiplier) -> tuple[bool, bool, bool, int, str]:
    begin = multiplier.effective_from_us if multiplier.effective_from_us is not None else -_FOREVER
    return (
        multiplier.org_id is None, multiplier.upstream is None, multiplier.provider is None, -begin, multiplier.id
    )  # fmt: skip


def _archive_note(price: Price) -> str | None:
    return "the price comes from the genai-prices archive" if price.source == "genai-prices" else None


def _reference(price: Price, rule: str) -> PriceReference:
    begin = price.effective_from_us
    return PriceReference(
        price.id, price.source, price.provider, price.model, rule, None if begin is None else _moment(begin)
    )


def _title(price: Price) -> str:
    return f"{price.source} {price.provider}/{price.model} ({price.id})"


def _moment(time_us: int) -> str:
    """Write a time as RFC 3339; one beyond the calendar as its number."""
    try:
        return (_EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{time_us} us"

"""One resolution: the names of a call, in their order, against the prices, in their precedence.

Comes in: a `PricingRequest` and the `PriceIndex`. Goes out: a `Match` with the rule that found it or a `NoMatch` with
its reason, and the span of time in which the answer is the same. Exact names only; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from farebox_ledger.money import decimal_text
from farebox_ledger.pricing.charge import PriceReference, PricingRequest
from farebox_ledger.pricing.index import NameKey, PriceIndex
from farebox_ledger.pricing.match import Match, NoMatch
from farebox_ledger.pricing.names import Candidate, candidates, canonical_provider, comparable, date_us, without_date
from farebox_ledger.pricing.price import ARCHIVE, Multiplier, Price
from farebox_ledger.usage import Reason

_FOREVER: Final = 1 << 63
_MAX_DETAIL: Final = 500  # a detail stands on a row; senders choose how long model names are
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Resolution(msgspec.Struct):
    """An answer and the half-open span of time in which it holds."""

    from_us: int
    to_us: int
    answer: Match | NoMatch


class CalledName(msgspec.Struct, frozen=True):
    """One name to look up: where, what, and how it came about."""

    provider: str
    candidate: Candidate
    label: str  # "" for the first model name, else what the name is (request_model, alias)

    @property
    def key(self) -> NameKey:
        return self.provider, self.candidate.key

    @property
    def rule(self) -> str:
        return f"{self.label}:{self.candidate.rule}" if self.label else self.candidate.rule


class PriceSearch:
    """One resolution: the names to try, the levels to try them at, and what was met on the way."""

    def __init__(self, index: PriceIndex, request: PricingRequest, org_id: int | None, upstream: str | None) -> None:
        self.index = index
        self.request = request
        self.org_id = org_id
        self.policy = index.policy(org_id)
        self.upstream = upstream
        self.at_us = request.at_us
        self.boundaries: set[int] = set()
        self.rejected: list[str] = []
        self.tried: list[str] = []
        self.met: list[Price] = []  # prices of a tried name, valid or not
        self.is_ambiguous = False

    def run(self) -> Resolution:
        """Find the price, or why there is none, and the span of time in which the same answer holds."""
        answer = self._answer()
        from_us = max((time for time in self.boundaries if time <= self.at_us), default=-_FOREVER)
        to_us = min((time for time in self.boundaries if time > self.at_us), default=_FOREVER)
        return Resolution(from_us, to_us, answer)

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
        return self.index.makers.get(comparable(model), set())

    def _names(self, models: Sequence[tuple[str, str]], provider: str) -> list[CalledName]:
        names = [
            CalledName(provider, candidate, label)
            for model, label in models
            for candidate in candidates(model, provider, self.request.region)
        ]
        for model, _ in models:
            names.extend(self._alias_names(model, provider))
        return names

    def _alias_names(self, model: str, provider: str) -> Iterator[CalledName]:
        found = self.index.aliases.get(comparable(model), ())
        for alias in sorted(found, key=lambda alias: (alias.org_id is None, alias.provider is None, alias.id)):
            at_home = alias.org_id in (None, self.org_id) and canonical_provider(alias.provider) in (None, provider)
            if not at_home or not self._holds(alias.effective_from_us, alias.effective_to_us):
                continue
            target = canonical_provider(alias.target_provider) or provider
            label = "alias" if target == provider else "alias:cross_provider"
            for candidate in candidates(alias.target_model, target, self.request.region):
                yield CalledName(target, candidate, label)

    def _find(self, names: Sequence[CalledName]) -> Match | None:
        self.tried = [f"{name.provider}/{name.candidate.key} ({name.rule})" for name in names]
        overrides = self.index.overrides
        levels = [overrides[org] for org in dict.fromkeys((self.org_id, None)) if org in overrides]
        for level in levels:
            for name in names:
                price = self._valid(level.get(name.key, ()))
                if price is not None:
                    return self._overridden(price, name, names)
        found = self._from_catalog(names) or self._from_retired(names)
        return self._match(*found) if found else None

    def _from_catalog(self, names: Sequence[CalledName]) -> tuple[Price, CalledName, str | None] | None:
        found = self._by_name(names)
        if found or self.met:
            return found  # a source that knows the name at another time: dropping its date would price another model
        for name in names:
            undated = without_date(name.candidate.key)
            price = self._undated(name, undated) if undated else None
            if price is not None and undated:
                return (
                    price,
                    CalledName(name.provider, Candidate(undated, "without_date"), name.label),
                    _archive_note(price),
                )
        return None

    def _by_name(self, names: Sequence[CalledName]) -> tuple[Price, CalledName, str | None] | None:
        """Look up name by name. The archive waits until the catalog knows none of the names of the same model."""
        archived: tuple[Price, CalledName, str | None] | None = None
        for name in names:
            if archived and name.label != archived[1].label:
                break
            listed = self._allowed(self.index.catalog.get(name.key, ()))
            price = self._valid(listed)
            if price is None:
                continue
            is_archive = all(one.source == ARCHIVE for one in listed)
            if not is_archive:
                if archived:
                    self.rejected.append(f"{_title(archived[0])}: {price.source} {price.id} comes first")
                return price, name, _archive_note(price)
            archived = archived or (price, name, _archive_note(price))
        return archived

    def _undated(self, name: CalledName, undated: str) -> Price | None:
        """Answer the undated model's price if all its dated siblings cost the same and the date is not yet to come."""
        catalog = self.index.catalog
        price = self._valid(self._allowed(catalog.get((name.provider, undated), ())))
        if price is None:
            return None
        for sibling in self.index.dated.get((name.provider, undated), ()):
            other = self._valid(self._allowed(catalog.get(sibling, ())))
            if other is not None and not _costs_the_same(other, price):
                self.is_ambiguous = True
                self.rejected.append(f"{_title(price)}: its dated sibling {other.model} has another price")
                return None
        released_us = date_us(name.candidate.key)
        if released_us is None or not self._holds(released_us, None):
            self.met.clear()  # nobody knows the dated model: the undated one's price is not its price at another time
            self.rejected.append(f"{_title(price)}: {name.candidate.key} is dated after the call")
            return None
        return price

    def _from_retired(self, names: Sequence[CalledName]) -> tuple[Price, CalledName, str | None] | None:
        if not self.policy.carry_retired:
            return None
        for name in names:
            for price in self._allowed(self.index.catalog.get(name.key, ())):
                if price.retired and price.effective_to_us is not None and price.effective_to_us <= self.at_us:
                    return price, name, f"{price.source} retired this price on {_moment(price.effective_to_us)}"
        return None

    def _overridden(self, price: Price, name: CalledName, names: Sequence[CalledName]) -> Match:
        """Answer an override, and note what it beat; one that inherits lies over the catalog's price."""
        self.rejected.extend(f"{_title(other)}: loses to an override" for other in self.met if other is not price)
        before = len(self.met)
        below = self._from_catalog(names)
        self.rejected.extend(f"{_title(other)}: loses to an override" for other in self.met[before:])
        return self._match(price, name, None, below[0] if below and price.rates.inherits else None)

    def _allowed(self, prices: Iterable[Price]) -> list[Price]:
        use_archive = self.policy.use_archive
        return [price for price in prices if use_archive or price.source != ARCHIVE]

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
                self.rejected.append(f"{_title(price)}: {_validity(price)}")
        return found

    def _holds(self, from_us: int | None, to_us: int | None) -> bool:
        self.boundaries.update(time for time in (from_us, to_us) if time is not None)
        return (from_us is None or from_us <= self.at_us) and (to_us is None or self.at_us < to_us)

    def _match(self, price: Price, name: CalledName, assumed: str | None, below: Price | None = None) -> Match:
        multiplier = self._multiplier(price.provider)
        return Match(
            compiled=self.index.compiled(price, below),
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
            for multiplier in self.index.multipliers
            if multiplier.org_id in (None, self.org_id)
            and multiplier.upstream in (None, self.upstream)
            and canonical_provider(multiplier.provider) in (None, provider)
            and self._holds(multiplier.effective_from_us, multiplier.effective_to_us)
        ]
        return min(fitting, key=_specificity, default=None)

    def _why_not(self, names: Sequence[CalledName], provider: str, model: str) -> NoMatch:
        if self.is_ambiguous:
            return self._no_match("ambiguous_model", self.rejected[-1], provider, model)
        if self.met:
            detail = f"{_title(self.met[0])} is {_validity(self.met[0])}, not at the time of the call"
            return self._no_match("no_price_at_time", detail, provider, model)
        if provider not in self.index.providers:
            return self._no_match("unknown_provider", f"no price of provider {provider!r} is known", provider, model)
        tried = ", ".join(dict.fromkeys(name.candidate.key for name in names))
        return self._no_match("unknown_model", f"no price of {provider} under: {tried}", provider, model)

    def _no_match(self, reason: Reason, detail: str, provider: str | None, model: str | None) -> NoMatch:
        return NoMatch(
            reason=reason,
            detail=detail if len(detail) <= _MAX_DETAIL else f"{detail[: _MAX_DETAIL - 1]}…",
            provider=provider,
            model=model,
            tried=(*self.tried, *self.rejected),
        )


def _specificity(multiplier: Multiplier) -> tuple[bool, bool, bool, int, str]:
    begin = multiplier.effective_from_us if multiplier.effective_from_us is not None else -_FOREVER
    return (
        multiplier.org_id is None, multiplier.upstream is None, multiplier.provider is None, -begin, multiplier.id
    )  # fmt: skip


def _archive_note(price: Price) -> str | None:
    return "the price comes from the genai-prices archive" if price.source == ARCHIVE else None


def _costs_the_same(one: Price, other: Price) -> bool:
    """Compare two prices; those of different sources by the rates that both list, as neither lists everything."""
    if one.source == other.source:
        return one.rates == other.rates
    mine, theirs = one.rates.standard, other.rates.standard
    return all(mine[dimension] == theirs[dimension] for dimension in mine.keys() & theirs.keys())


def _reference(price: Price, rule: str) -> PriceReference:
    begin = price.effective_from_us
    return PriceReference(
        price.id, price.source, price.provider, price.model, rule, None if begin is None else _moment(begin)
    )


def _title(price: Price) -> str:
    return f"{price.source} {price.provider}/{price.model} ({price.id})"


def _validity(price: Price) -> str:
    begin, end = price.effective_from_us, price.effective_to_us
    since = "" if begin is None else f" from {_moment(begin)}"
    return f"valid{since}" if end is None else f"valid{since} until {_moment(end)}"


def _moment(time_us: int) -> str:
    """Write a time as RFC 3339; one beyond the calendar as its number."""
    try:
        return (_EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{time_us} us"

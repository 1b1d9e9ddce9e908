"""The shipped archive of genai-prices into canonical, dated prices (docs/pricing.md).

Comes in: the bytes of `genai-prices.json`. Goes out: one price for each exact name and span of time, in exact decimals,
and a report of what was refused or not understood. Never imports genai-prices, never matches a name by a pattern.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Context, Decimal
from typing import Final, TypeAlias

import msgspec

from farebox_ledger.catalog.archive_file import (
    Archive,
    ArchivedModel,
    ArchivedProvider,
    ArchivedUnit,
    ContextRates,
    DatedRates,
    ListedRate,
    TieredRate,
)
from farebox_ledger.catalog.litellm import Refused, exact_rate
from farebox_ledger.catalog.retired_names import RETIRED_NAMES
from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing import Band, OffPeak, Price, Rates, RateTable, Tier, Window, price_id
from farebox_ledger.pricing.names import canonical_provider, comparable
from farebox_ledger.pricing.rates import STANDARD
from farebox_ledger.pricing.tiers import canonical_tier

_Span: TypeAlias = tuple[int | None, int | None]  # microseconds, half-open; None is open

# genai-prices' usage → our dimension.
_DIMENSION_OF: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_write_input_tokens",
    "cache_write_1h_tokens": "cache_write_1h_input_tokens",
    "input_audio_tokens": "audio_input_tokens",
    "input_image_tokens": "image_input_tokens",
    "input_video_tokens": "video_input_tokens",
    "cache_audio_read_tokens": "cache_read_audio_input_tokens",
    "cache_image_read_tokens": "cache_read_image_input_tokens",
    "output_reasoning_tokens": "reasoning_output_tokens",
    "output_audio_tokens": "audio_output_tokens",
    "output_image_tokens": "image_output_tokens",
    "input_characters": "input_characters",
    "input_audio_seconds": "input_seconds",
    "output_audio_seconds": "output_seconds",
    "input_document_pages": "pages",
    "rerank_searches": "search_units",
    "web_searches": "web_searches",
    "requests": "requests",
}

# Listed prices of what no usage member counts: kept for display, charged by nothing. `audio_seconds` does not say of
# which side they are; a realtime session is billed by the clock, not by speech.
_UNMEASURED: Final = frozenset(
    {
        "audio_seconds", "input_annotated_document_pages", "input_pixels", "input_text_messages", "code_executions",
        "social_searches", "storage_searches", "cache_write_5m_tokens", "input_text_tokens", "output_text_tokens",
        "cache_text_read_tokens", "cache_text_write_tokens", "cache_text_write_5m_tokens", "cache_text_write_1h_tokens",
        "cache_audio_write_tokens", "cache_audio_write_5m_tokens", "cache_audio_write_1h_tokens",
        "cache_image_write_tokens", "cache_image_write_5m_tokens", "cache_image_write_1h_tokens",
        "cache_video_read_tokens", "cache_video_write_tokens", "cache_video_write_5m_tokens",
        "cache_video_write_1h_tokens", "output_video_tokens", "input_tool_tokens", "input_text_tool_tokens",
        "input_audio_tool_tokens", "input_image_tool_tokens", "input_video_tool_tokens", "output_citation_tokens",
        "output_text_citation_tokens", "output_audio_citation_tokens", "output_image_citation_tokens",
        "output_video_citation_tokens", "output_text_reasoning_tokens", "output_audio_reasoning_tokens",
        "output_image_reasoning_tokens", "output_video_reasoning_tokens",
    }
)  # fmt: skip

# Spellings that are genai-prices' own; all others are known to `canonical_provider`.
_PROVIDER_OF: Final = {"aws": "aws.bedrock", "x-ai": "x_ai", "github-copilot": "github_copilot"}

# genai-prices keeps under one provider what is sold at two places with names of their own.
_SOLD_ELSEWHERE: Final = {
    "azure": (("mai-", "phi-", "wizardlm-"), "azure.ai.inference"),
    "google": (("claude-", "gemma-4-26b-a4b-it-maas"), "gcp.vertex_ai"),
}

_REFUSED_PROVIDERS: Final = {
    "zhipuai": "billed in CNY and converted to USD at a rate of genai-prices' own; a currency is never converted here",
}
# Audio would be billed as text, 12 to 50 times too low.
_WITHOUT_AUDIO_RATES: Final = frozenset(
    {
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "gpt-4o-mini-audio-preview"),
        ("openrouter", "openai/gpt-audio"),
        ("openrouter", "openai/gpt-audio-mini"),
    }
)

_FIFTEEN_DIGITS: Final = Context(prec=15)
_EPOCH: Final = date(1970, 1, 1)
_US_PER_DAY: Final = 86_400_000_000
_MINUTES_PER_DAY: Final = 1440
_EVERY_DAY: Final = (1, 2, 3, 4, 5, 6, 7)


class GenaiCatalog(msgspec.Struct, frozen=True):
    """What the archive holds.

    `unknown_units` counts rates whose unit is not understood. `unselected` counts rates of a kind of request that no
    call can be known to be (`route=mistral/eu`); both are kept for display. `without_price` are models without rates.
    """

    prices: list[Price]
    refused: list[Refused]
    without_price: list[str]
    unknown_units: dict[str, int]
    unselected: dict[str, int]


class _Unusable(Exception):
    """A model cannot become a price; the message is the reason."""


def read_genai_prices(content: bytes) -> GenaiCatalog:
    """Read the archive.

    Raises:
        InvalidInput: the content is not the file that `make_snapshots` writes.
    """
    try:
        archive = msgspec.json.decode(content, type=Archive)
    except msgspec.DecodeError as error:
        raise InvalidInput("catalog", f"expected farebox's archive of genai-prices: {error}") from error
    reading = _Reading(archive.units)
    for provider in archive.providers:
        for model in provider.models:
            reading.take(provider, model)
    return GenaiCatalog(
        reading.prices, reading.refused, reading.without_price, dict(reading.unknown), dict(reading.unselected)
    )


class _Reading:
    """The catalog while it is read."""

    def __init__(self, units: Mapping[str, ArchivedUnit]) -> None:
        self.units = units
        self.prices: list[Price] = []
        self.refused: list[Refused] = []
        self.without_price: list[str] = []
        self.unknown: Counter[str] = Counter()
        self.unselected: Counter[str] = Counter()
        self._model_of: dict[tuple[str, str], str] = {}

    def take(self, provider: ArchivedProvider, model: ArchivedModel) -> None:
        """Read one model: a price for each of its names and each span of time, or the reason why not."""
        key = f"{provider.id}/{model.id}"
        try:
            _check_usable(provider, model)
            chain = [(span, rates) for span, rates in self._chain(model) if rates != Rates()]
            if not chain:
                self.without_price.append(key)
                return
            for name in self._names(_seller(provider.id, model.id), provider.id, model):
                self.prices.extend(_price(name, span, rates, provider.url) for span, rates in chain)
        except _Unusable as error:
            self.refused.append(Refused(key, str(error)))

    def _names(self, seller: str, provider: str, model: ArchivedModel) -> list[tuple[str, str]]:
        names: dict[tuple[str, str], str] = {}
        for name in (*model.names, *RETIRED_NAMES.get((provider, model.id), ())):
            names.setdefault((seller, comparable(name)), name)
        if not names:
            raise _Unusable("it has no exact name, only patterns")
        for compared in names:
            other = self._model_of.setdefault(compared, model.id)
            if other != model.id:
                raise _Unusable(f"the name {compared[1]!r} stands for {other} already")
        return [(seller, name) for name in names.values()]

    def _chain(self, model: ArchivedModel) -> Iterator[tuple[_Span, Rates]]:
        """Go through the spans of time from the first on, each with its rates; equal neighbors are one."""
        days = (*(one.since for one in model.prices), *(one.since for one in model.variants))
        starts = sorted({day for day in days if day})
        found: list[tuple[date | None, Rates]] = []
        for start in (None, *starts):
            rates = self._rates_at(model, start)
            if not found or found[-1][1] != rates:
                found.append((start, rates))
        ends = [start for start, _ in found[1:]]
        for (start, rates), end in zip(found, (*ends, None), strict=True):
            yield (_midnight_us(start), _midnight_us(end)), rates

    def _rates_at(self, model: ArchivedModel, day: date | None) -> Rates:
        """Put together what holds from that day on: the last price that has begun, the hours, the kinds of request."""
        begun = [one for one in model.prices if one.minutes is None and _has_begun(one.since, day)]
        base = begun[-1] if begun else model.prices[0]
        draft = _Draft(self)
        draft.add(STANDARD, base.rates)
        for variant in model.variants:
            if _has_begun(variant.since, day):
                draft.add_variant(variant)
        hours = [one for one in model.prices if one.minutes is not None]
        # An entry has a date or hours, never both, so hours are listed without the day on which they began. They stand
        # for today's price: genai-prices says so in its notes on DeepSeek (issue 582 there).
        newest = max((one.since for one in model.prices if one.since), default=None)
        if hours and _has_begun(newest, day):
            draft.add_hours(hours)
        rates = draft.rates()
        if rates.tiers and not any(rate != "0" for rate in _all_rates(rates)):
            raise _Unusable("every rate is 0 and nothing declares the model free: a flat fee or unknown")
        return rates


class _Draft:
    """The rates of one model in one span of time while they are gathered: tier → threshold → table."""

    def __init__(self, reading: _Reading) -> None:
        self._reading = reading
        self._tables: dict[str, dict[int, RateTable]] = {}
        self._unmeasured: dict[str, str] = {}
        self._off_peak: OffPeak | None = None

    def add(self, tier: str, listed: Mapping[str, ListedRate]) -> None:
        """Take the rates of one tier; what an earlier entry of the tier has listed stays."""
        tables = self._tables.setdefault(tier, {0: {}})
        for key, rate in listed.items():
            unit = self._unit(key)
            dimension = _DIMENSION_OF.get(unit.usage)
            for start, price in _steps(rate):
                if dimension:
                    tables.setdefault(start, {}).setdefault(dimension, _single(key, price, unit.per))
                elif not start:
                    self._put_aside(unit.usage, _single(key, price, unit.per))

    def add_variant(self, variant: ContextRates) -> None:
        """Take the rates of a kind of request as those of a tier, or put them aside where no tier stands for it."""
        tier = _tier_of(variant.when)
        if tier == STANDARD and not variant.rates:
            return
        if tier and tier != STANDARD:
            self.add(tier, variant.rates)
            return
        context = ",".join(f"{name}={value}" for name, value in sorted(variant.when.items()))
        self._reading.unselected[context] += len(variant.rates)
        for key, rate in variant.rates.items():
            unit = self._unit(key)
            self._unmeasured[f"{unit.usage} ({context})"] = _single(key, next(_steps(rate))[1], unit.per)

    def add_hours(self, listed: Sequence[DatedRates]) -> None:
        """Take rates that hold between hours of the day; the dearer of the two become the standard ones."""
        usual, *bands = self._tables[STANDARD].values()
        inside, *others = [self._plain(one.rates) for one in listed]
        if bands or any(other != inside for other in others) or set(inside) != set(usual):
            raise _Unusable("its hours list several prices, other units or tiers")
        spans = _spans([one.minutes for one in listed if one.minutes])
        if _is_cheaper(inside, usual):
            self._off_peak = OffPeak(inside, (Window(_EVERY_DAY, spans),))
        elif _is_cheaper(usual, inside):
            self._tables[STANDARD] = {0: inside}
            self._off_peak = OffPeak(usual, (Window(_EVERY_DAY, _complement(spans)),))
        else:
            raise _Unusable("its hours make one rate dearer and another cheaper")

    def rates(self) -> Rates:
        """Answer the canonical structure. Thresholds such as 199,999 are xAI's inclusive ones."""
        starts = [start for tables in self._tables.values() for start in tables if start]
        is_inclusive = bool(starts) and all(start % 1000 == 999 for start in starts)
        offset = 1 if is_inclusive else 0
        return Rates(
            tiers={
                tier: Tier(tables[0], tuple(Band(start + offset, tables[start]) for start in sorted(tables) if start))
                for tier, tables in sorted(self._tables.items())
                if any(tables.values())
            },
            off_peak=self._off_peak,
            threshold_inclusive=is_inclusive,
            unmeasured=self._unmeasured,
        )

    def _plain(self, listed: Mapping[str, ListedRate]) -> RateTable:
        other = _Draft(self._reading)
        other.add(STANDARD, listed)
        return other._tables[STANDARD][0]

    def _unit(self, key: str) -> ArchivedUnit:
        unit = self._reading.units.get(key)
        if unit is None or unit.per <= 0:
            raise _Unusable(f"the unit of {key} is not defined")
        return unit

    def _put_aside(self, usage: str, rate: str) -> None:
        self._unmeasured[usage] = rate
        if usage not in _UNMEASURED:
            self._reading.unknown[usage] += 1


def _check_usable(provider: ArchivedProvider, model: ArchivedModel) -> None:
    if provider.id in _REFUSED_PROVIDERS:
        raise _Unusable(_REFUSED_PROVIDERS[provider.id])
    if (provider.id, model.id) in _WITHOUT_AUDIO_RATES:
        raise _Unusable("its audio rates are missing, and audio would be billed as text")
    if model.is_borrowed:
        raise _Unusable("genai-prices took the price from OpenRouter: it is another seller's")


def _seller(provider: str, model: str) -> str:
    models, elsewhere = _SOLD_ELSEWHERE.get(provider, ((), ""))
    if model.startswith(models):
        return elsewhere
    return _PROVIDER_OF.get(provider) or canonical_provider(provider) or provider


def _price(name: tuple[str, str], span: _Span, rates: Rates, url: str | None) -> Price:
    provider, model = name
    from_us, to_us = span
    return Price(
        id=price_id("genai-prices", provider, model, rates, effective_from_us=from_us),
        source="genai-prices",
        provider=provider,
        model=model,
        rates=rates,
        effective_from_us=from_us,
        effective_to_us=to_us,
        source_url=url,
    )


def _has_begun(since: date | None, day: date | None) -> bool:
    return since is None or (day is not None and since <= day)


def _midnight_us(day: date | None) -> int | None:
    return None if day is None else (day - _EPOCH).days * _US_PER_DAY


def _tier_of(when: Mapping[str, str]) -> str | None:
    """Name the tier that a kind of request stands for; None where no usage and no tier says that a call is one."""
    match dict(when):
        case {"processing": "batch", **others} if not others:
            return canonical_tier(None, batch=True)
        case {"service_tier": tier, **others} if not others:
            return canonical_tier(tier, batch=False)
        case {"speed": speed, **others} if not others:
            return canonical_tier(speed, batch=False)
    return None


def _steps(rate: ListedRate) -> Iterator[tuple[int, Decimal]]:
    if isinstance(rate, TieredRate):
        yield 0, rate.base
        yield from rate.tiers
    else:
        yield 0, rate


def _single(key: str, price: Decimal, per: int) -> str:
    """Price one unit. An hour's price by the second has no end; it is cut at 15 digits, like every listed number."""
    try:
        return exact_rate(_FIFTEEN_DIGITS.divide(price, Decimal(per)) if price.is_finite() else price)
    except InvalidInput as error:
        raise _Unusable(f"{key}: {error.detail}") from None


def _is_cheaper(one: RateTable, other: RateTable) -> bool:
    """Compare two tables of the same dimensions: no rate of the one is above that of the other."""
    return all(Decimal(rate) <= Decimal(other[dimension]) for dimension, rate in one.items())


def _all_rates(rates: Rates) -> Iterator[str]:
    for tier in rates.tiers.values():
        for table in (tier.rates, *(band.rates for band in tier.bands)):
            yield from table.values()
    yield from rates.unmeasured.values()


def _spans(listed: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sort half-open spans of the day; one across midnight is two."""
    spans: list[tuple[int, int]] = []
    for start, end in listed:
        spans.extend([(start, end)] if start < end else [(start, _MINUTES_PER_DAY), (0, end)])
    return tuple(sorted(span for span in spans if span[0] < span[1]))


def _complement(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    rest: list[tuple[int, int]] = []
    reached = 0
    for start, end in spans:
        if reached < start:
            rest.append((reached, start))
        reached = max(reached, end)
    if reached < _MINUTES_PER_DAY:
        rest.append((reached, _MINUTES_PER_DAY))
    return tuple(rest)

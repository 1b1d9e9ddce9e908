"""LiteLLM's price file into canonical prices (docs/pricing.md).

Comes in: the bytes of `model_prices_and_context_window_backup.json`. Goes out: prices in exact decimals, and a report
of what was refused, merged or not understood. Never fetches, never stores, never fails on a key that it does not know.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from farebox_ledger.catalog.declared_free import is_declared_free
from farebox_ledger.catalog.litellm_keys import OTHER_KEYS, SOUNDS_LIKE_A_PRICE, Place, place_of
from farebox_ledger.errors import InvalidInput
from farebox_ledger.money import decimal_text
from farebox_ledger.pricing import Band, OffPeak, Price, Rates, RateTable, Tier, WebSearch, Window, overlay, price_id
from farebox_ledger.pricing.names import canonical_provider, comparable, without_own_provider

_Shape = TypeVar("_Shape")
_Number: TypeAlias = int | Decimal
_Span: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^\d\d:\d\d-\d\d:\d\d$")]
_Entry: TypeAlias = Mapping[str, Any]  # one model of an untyped JSON file; every value is checked where it is read

_NOT_MODELS: Final = frozenset({"sample_spec", "fallback_generalizations"})

_GEOS: Final = frozenset({"us", "eu", "apac", "jp", "au", "ca", "uk", "in"})
_MINUTES_AHEAD: Final = {"UTC": 0, "Asia/Shanghai": 480}  # calendars without daylight saving
_SIZES: Final = ("low", "medium", "high")
_FIFTEEN_DIGITS: Final = Context(prec=15)
_MAX_RATE: Final = Decimal(1_000_000)
_SIZE_BUCKET: Final = re.compile(r"(?:together-ai|fireworks-ai)-")


class Refused(msgspec.Struct, frozen=True):
    """An entry that became no price, and why."""

    key: str
    reason: str


class LitellmCatalog(msgspec.Struct, frozen=True):
    """What a price file holds. `unknown_keys` counts keys that look like prices and are not understood.

    `merged` names pairs of keys that stand for one model; `without_price` the entries that list no price at all.
    """

    prices: list[Price]
    refused: list[Refused]
    without_price: list[str]
    merged: list[tuple[str, str]]
    unknown_keys: dict[str, int]


class _ListedWindow(msgspec.Struct):
    """Hours as LiteLLM writes them: one `HH:MM-HH:MM` or several, on days counted from 1, Monday."""

    hours_utc: _Span | list[_Span]
    weekdays: tuple[Annotated[int, msgspec.Meta(ge=1, le=7)], ...] = (1, 2, 3, 4, 5, 6, 7)


class _Unusable(Exception):
    """An entry cannot become a price; the message is the reason."""


def read_litellm(content: bytes, *, effective_from_us: int | None = None) -> LitellmCatalog:
    """Read a price file. Prices are valid from `effective_from_us`, None means always.

    Raises:
        InvalidInput: the content is no JSON object of objects; nothing of it can be used.
    """
    entries = _parse(content)
    unknown: Counter[str] = Counter()
    refused: list[Refused] = []
    without_price: list[str] = []
    found: dict[tuple[str, str], tuple[str, Price]] = {}
    merged: list[tuple[str, str]] = []
    for key, entry in entries.items():
        try:
            price = _price(key, entry, unknown, effective_from_us)
        except _Unusable as error:
            refused.append(Refused(key, str(error)))
            continue
        if price is None:
            without_price.append(key)
            continue
        name = (price.provider, comparable(price.model))
        if name in found:
            other_key, other = found[name]
            merged.append((other_key, key))
            found[name] = _merge(other_key, other, key, price)
        else:
            found[name] = (key, price)
    return LitellmCatalog([price for _, price in found.values()], refused, without_price, merged, dict(unknown))


def exact_rate(value: object) -> str:
    """Write a listed number as the canonical text of a rate, at 15 significant digits.

    15 digits take away what a binary float added (`0.0000029999900000000002`) and nothing else. Deployment files also
    carry strings (`"3e-7"`).

    Raises:
        InvalidInput: not a finite number between 0 and 1,000,000.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise InvalidInput("rate", f"expected a number, got {type(value).__name__}")
    try:
        rate = _FIFTEEN_DIGITS.create_decimal(value)
    except InvalidOperation:
        raise InvalidInput("rate", f"expected a number, got {value!r}") from None
    if not rate.is_finite() or not 0 <= rate <= _MAX_RATE:
        raise InvalidInput("rate", f"expected a number between 0 and {_MAX_RATE}, got {value}")
    return decimal_text(rate)


def _parse(content: bytes) -> dict[str, _Entry]:
    try:
        entries = json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("catalog", f"expected LiteLLM's price file, got what is no JSON: {error}") from error
    if not isinstance(entries, dict):
        raise InvalidInput("catalog", f"expected a JSON object of models, got {type(entries).__name__}")
    return {key: entry for key, entry in entries.items() if key not in _NOT_MODELS}


def _price(key: str, entry: _Entry, unknown: Counter[str], effective_from_us: int | None) -> Price | None:
    provider, model = _names(key, entry)
    rates = _rates(model, provider, entry, unknown)
    if rates is None:
        return None
    if _is_all_zero(rates):
        if not is_declared_free(provider, model):
            raise _Unusable("every rate is 0 and nothing declares the model free: a flat fee or unknown")
        rates = Rates(free=True)
    mode, url = entry.get("mode"), entry.get("source")
    return Price(
        id=price_id("litellm", provider, model, rates, effective_from_us=effective_from_us),
        source="litellm",
        provider=provider,
        model=model,
        rates=rates,
        mode=mode if isinstance(mode, str) else None,
        source_url=url if isinstance(url, str) else None,
        effective_from_us=effective_from_us,
    )


def _names(key: str, entry: _Entry) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise _Unusable(f"expected an object, got {type(entry).__name__}")
    stated = entry.get("litellm_provider")
    provider = canonical_provider(stated) if isinstance(stated, str) else None
    if provider is None:
        raise _Unusable("litellm_provider is missing")
    if "*" in key:
        raise _Unusable("a wildcard names no model")
    if _SIZE_BUCKET.match(key):
        raise _Unusable("a size bucket names no model")
    return provider, without_own_provider(key, provider)


def _rates(model: str, provider: str, entry: _Entry, unknown: Counter[str]) -> Rates | None:
    draft = _Draft()
    is_priced = False
    for key, value in entry.items():
        place = place_of(key)
        if place is not None:
            is_priced = True
            draft.put(place, _checked(key, value))
        elif key not in OTHER_KEYS and SOUNDS_LIKE_A_PRICE.search(key):
            unknown[key] += 1
    is_priced |= _take_ranges(draft, entry)
    search = _web_search(provider, entry)
    if not is_priced and search is None:
        return None
    _complete(draft, entry)
    return Rates(
        tiers=draft.tiers(),
        tier_factors=_factors(entry, {"fast"}),
        region_factors=_region_factors(entry),
        off_peak=_off_peak(entry),
        web_search=search,
        threshold_inclusive=provider == "x_ai" or model.rpartition("/")[2].startswith(("grok-", "xai.grok-")),
        variants=draft.variants,
        unmeasured=draft.unmeasured,
    )


class _Draft:
    """The rates of one entry while they are gathered: (tier, threshold) → table."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, int], RateTable] = {}
        self.variants: dict[str, RateTable] = {}
        self.unmeasured: dict[str, str] = {}

    def put(self, place: Place, rate: str) -> None:
        if place.table == "rates":
            self.table(place.tier, place.above_tokens)[place.dimension] = rate
        elif place.table == "variants":
            self.variants.setdefault(place.dimension, {})[place.variant] = rate
        else:
            self.unmeasured[place.dimension] = rate

    def table(self, tier: str = "standard", above_tokens: int = 0) -> RateTable:
        return self.tables.setdefault((tier, above_tokens), {})

    def tiers(self) -> dict[str, Tier]:
        tiers: dict[str, Tier] = {}
        for name in sorted({tier for tier, _ in self.tables}):
            bands = sorted(above for tier, above in self.tables if tier == name and above)
            tiers[name] = Tier(
                self.tables.get((name, 0), {}), tuple(Band(above, self.tables[name, above]) for above in bands)
            )
        return tiers


def _checked(key: str, value: object) -> str:
    try:
        return exact_rate(value)
    except InvalidInput as error:
        raise _Unusable(f"{key}: {error.detail}") from None


def _complete(draft: _Draft, entry: _Entry) -> None:
    """Fill in what other keys say: DeepSeek's older name of the cache read, seconds of one medium, searches."""
    base = draft.table()
    hit = entry.get("input_cost_per_token_cache_hit")
    if hit is not None and "cache_read_input_tokens" not in base:
        base["cache_read_input_tokens"] = _checked("input_cost_per_token_cache_hit", hit)
    if "input_seconds" not in base:
        by_medium = [f"input_cost_per_{medium}_per_second" for medium in ("audio", "video")]
        listed = [key for key in by_medium if key in draft.unmeasured]
        if len(listed) == 1:  # with both, a number of seconds does not say of which
            base["input_seconds"] = draft.unmeasured.pop(listed[0])
    if entry.get("mode") == "search" and "search_units" in base:
        base["web_searches"] = base.pop("search_units")


def _take_ranges(draft: _Draft, entry: _Entry) -> bool:
    """Read `tiered_pricing`: one range prices the whole request, its upper bound included (Alibaba)."""
    ranges = entry.get("tiered_pricing")
    if ranges is None:
        return False
    if not isinstance(ranges, list) or not all(isinstance(one, dict) and "range" in one for one in ranges):
        raise _Unusable("tiered_pricing goes by something else than the length of the input")
    expected = 0
    for one in ranges:
        begin, end = (int(bound) for bound in _shaped("tiered_pricing.range", one["range"], tuple[_Number, _Number]))
        if begin != expected:
            raise _Unusable(f"tiered_pricing leaves a gap before {begin} tokens")
        expected = end
        for key, value in one.items():
            place = place_of(key)
            if place is not None:
                draft.table("standard", begin)[place.dimension] = _checked(key, value)
    return True


def _web_search(provider: str, entry: _Entry) -> WebSearch | None:
    sizes = entry.get("search_context_cost_per_query")
    if not isinstance(sizes, dict) or not all(f"search_context_size_{size}" in sizes for size in _SIZES):
        return None
    low, medium, high = (_checked("search_context_cost_per_query", sizes[f"search_context_size_{s}"]) for s in _SIZES)
    # Perplexity's request fee goes by context size and falls due on every request.
    is_fee = provider == "perplexity" and not low == medium == high
    # Gemini 2 is billed per grounded prompt, Gemini 3 per query; LiteLLM marks the latter.
    is_grounding = entry.get("litellm_provider") in {"gemini", "vertex_ai-language-models"}
    per_prompt = is_grounding and entry.get("web_search_billing_unit") != "per_query"
    return WebSearch(low, medium, high, per="request" if is_fee or per_prompt else "query", always=is_fee)


def _factors(entry: _Entry, names: Iterable[str]) -> dict[str, str]:
    """Read multiples out of `provider_specific_entry`, which also holds things that are no prices."""
    listed = entry.get("provider_specific_entry")
    if not isinstance(listed, dict):
        return {}
    return {name: _checked(f"provider_specific_entry.{name}", listed[name]) for name in sorted(names) if name in listed}


def _region_factors(entry: _Entry) -> dict[str, str]:
    factors = _factors(entry, _GEOS)
    for region in ("eu", "us"):
        key = f"regional_processing_uplift_multiplier_{region}"
        if key in entry:
            factors[region] = _checked(key, entry[key])
    key = "regional_endpoint_uplift_multiplier"
    if key in entry:
        factors["*"] = _checked(key, entry[key])
    return factors


def _off_peak(entry: _Entry) -> OffPeak | None:
    listed = entry.get("off_peak_pricing")
    if listed is None:
        return None
    if not isinstance(listed, dict) or not isinstance(listed.get("windows"), list):
        raise _Unusable("off_peak_pricing has no windows")
    calendar = listed.get("weekday_timezone", "UTC")
    if calendar not in _MINUTES_AHEAD:
        raise _Unusable(f"off_peak_pricing names the calendar {calendar!r}, whose days are not known here")
    places = {key: place_of(key) for key in listed}
    rates = {place.dimension: _checked(key, listed[key]) for key, place in places.items() if place is not None}
    return OffPeak(rates, tuple(_window(window) for window in listed["windows"]), _MINUTES_AHEAD[calendar])


def _window(listed: object) -> Window:
    window = _shaped("off_peak_pricing.windows", listed, _ListedWindow)
    minutes: list[tuple[int, int]] = []
    for span in [window.hours_utc] if isinstance(window.hours_utc, str) else window.hours_utc:
        start_hour, start_minute, end_hour, end_minute = (int(part) for part in re.split("[:-]", span))
        start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute or 1440
        minutes.extend([(start, end)] if start < end else [(start, 1440), (0, end)])
    return Window(window.weekdays, tuple(minutes))


def _shaped(key: str, value: object, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise _Unusable(f"{key}: {error}") from None


def _is_all_zero(rates: Rates) -> bool:
    tables = [rates.unmeasured, *rates.variants.values()]
    for tier in rates.tiers.values():
        tables += [tier.rates, *(band.rates for band in tier.bands)]
    listed = [rate for table in tables for rate in table.values()]
    search = rates.web_search
    listed += [search.low, search.medium, search.high] if search else []
    return not any(rate != "0" for rate in listed)


def _merge(first_key: str, first: Price, second_key: str, second: Price) -> tuple[str, Price]:
    """Join two keys of one model, `gemini-3.5-flash` and `vertex_ai/gemini-3.5-flash`: the one with the provider leads.

    Rates that only the other lists are added, so that an uplift or a batch rate written at one place is not lost.
    """
    if "/" not in second_key and "/" in first_key:
        (first_key, first), (second_key, second) = (second_key, second), (first_key, first)
    rates = second.rates if second.rates.free or first.rates.free else overlay(first.rates, second.rates)
    identity = price_id("litellm", second.provider, second.model, rates, effective_from_us=second.effective_from_us)
    return second_key, msgspec.structs.replace(second, id=identity, rates=rates)

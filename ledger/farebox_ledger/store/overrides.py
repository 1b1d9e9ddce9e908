"""Price overrides: what an administrator says that a model costs, for one organization or for everybody, dated.

What comes in is stated per token, per 1k or per 1m; what is kept is a price row per single unit, as from any catalog.
A row is immutable: a change closes it and opens another one, so that each charge can still be explained by its price.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, func, insert, select, update

from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing import Band, Price, Rates, RateTable, Tier, canonical_provider
from farebox_ledger.pricing.currencies import checked_currency
from farebox_ledger.pricing.names import comparable
from farebox_ledger.pricing.rates import STANDARD
from farebox_ledger.pricing.tiers import canonical_tier
from farebox_ledger.pricing.units import Unit, single_price
from farebox_ledger.store import audit, subjects
from farebox_ledger.store.catalog_state import lock_catalog
from farebox_ledger.store.price_rows import insert_prices, price_of
from farebox_ledger.store.price_tables import price_override_terms, price_overrides
from farebox_ledger.store.schema import prices
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.subjects import Kind, Opening, Position, Redated, Subject, Term
from farebox_ledger.usage import MAX_COUNT

StatedTable: TypeAlias = Mapping[str, Decimal]
"""Prices by dimension, those of tokens in the unit that stands beside."""

KIND: Final = Kind("price override", "pov", price_overrides, price_override_terms, prices)

_TIER: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_MAX_BANDS: Final = 16
_MAX_TIERS: Final = 16
_MAX_URL: Final = 1000


class StatedBand(msgspec.Struct, frozen=True, kw_only=True):
    """Prices of requests whose total input is beyond `above_tokens`, for the whole request."""

    above_tokens: int
    prices: StatedTable


class StatedTier(msgspec.Struct, frozen=True, kw_only=True):
    """Prices of one service tier, and its bands."""

    prices: StatedTable
    bands: tuple[StatedBand, ...] = ()


class OverrideTerm(Term, frozen=True, kw_only=True):
    """The price for a span of time; its id is that of the price."""

    price: Price


class PriceOverride(Subject, frozen=True, kw_only=True):
    """What a model costs by an administrator's word. `unit` is how its prices were stated last."""

    provider: str
    model: str
    unit: Unit
    terms: tuple[OverrideTerm, ...]


class OverrideDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An override to be made.

    It prices what it names and nothing else, unless it `inherit`s the rest from the catalog's price. `free` declares
    that calls cost nothing. `effective_from_us` None means since ever.
    """

    provider: str
    model: str
    prices: StatedTable = {}
    bands: tuple[StatedBand, ...] = ()
    tiers: Mapping[str, StatedTier] = {}
    unit: Unit | None = None
    currency: str = "USD"
    inherit: bool = False
    free: bool = False
    source_url: str | None = None
    effective_from_us: int | None = None
    effective_to_us: int | None = None
    notes: str | None = None
    is_active: bool = True


class OverrideChange(Redated, frozen=True, kw_only=True):
    """What changes of an override; its provider and model are what it is, and stay.

    `prices` adds to the standing ones and replaces them one by one; None takes one away. Bands and tiers are replaced
    as a whole. Prices are in `unit`, or in the override's own when the change names none.
    """

    prices: Mapping[str, Decimal | None] | UnsetType = UNSET
    bands: tuple[StatedBand, ...] | UnsetType = UNSET
    tiers: Mapping[str, StatedTier] | UnsetType = UNSET
    unit: Unit | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    inherit: bool | UnsetType = UNSET
    free: bool | UnsetType = UNSET
    source_url: str | UnsetType | None = UNSET


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    """What one price row says, besides whose it is and when it holds."""

    rates: Rates
    currency: str
    source_url: str | None


def _before(connection: Connection, scope: Scope, identity: str) -> PriceOverride:
    """Read what the audit log keeps of the time before a change, which nobody else makes until this one is done."""
    lock_catalog(connection)
    return get_override(connection, scope, identity)


@audit.makes("price_override")
def create_override(
    connection: Connection, scope: Scope, draft: OverrideDraft, *, now_us: int | None = None
) -> PriceOverride:
    """Make an override of the scope's organization, or of everybody.

    Raises:
        InvalidInput: a field cannot be used; names it, down to the single price.
        Conflict: another override prices the same model at the same time; carries its id.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    org_id = subjects.owner(scope)
    provider = _provider(draft.provider)
    model = subjects.checked_name("model", draft.model)
    content = _Content(
        rates=_checked(_drafted_rates(provider, draft)),
        currency=checked_currency(draft.currency),
        source_url=_checked_url(draft.source_url),
    )
    new = subjects.New(
        org_id=org_id,
        subject_key=subjects.subject_key(org_id, provider, comparable(model)),
        opened=(draft.effective_from_us, draft.effective_to_us),
        at_us=at_us,
        values={"provider": provider, "model": model, "unit": draft.unit or "token"},
        notes=draft.notes,
        is_active=draft.is_active,
    )
    opening = _opening(connection, (org_id, provider, model), content, at_us)
    return get_override(connection, scope, subjects.make(connection, KIND, new, opening))


@audit.changes("price_override", _before)
def change_override(
    connection: Connection,
    scope: Scope,
    identity: str,
    wanted: OverrideChange,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> PriceOverride:
    """Change an override; other prices close its row and open a new one, from now on unless the change says otherwise.

    Raises:
        InvalidInput, Conflict: as `create_override`.
        NotFound: it does not exist, or is not the scope's to change.
        Outdated: it is not at `expected_version`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    lock_catalog(connection)
    row = subjects.find_own(connection, scope, price_overrides, KIND.noun, identity, expected_version=expected_version)
    price = subjects.standing_term(_override(connection, row).terms, at_us).price
    old = _Content(rates=price.rates, currency=price.currency, source_url=price.source_url)
    unit: Unit = row.unit if isinstance(wanted.unit, UnsetType) else wanted.unit
    new = _changed(old, wanted, row.provider, unit)
    opening = _opening(connection, (row.org_id, row.provider, row.model), new, at_us)
    subjects.change(connection, KIND, row, wanted, opening, says_new=new != old, at_us=at_us, unit=unit)
    return get_override(connection, scope, identity)


@audit.changes("price_override", _before, "delete")
def delete_override(
    connection: Connection,
    scope: Scope,
    identity: str,
    *,
    expected_version: int | None = None,
    now_us: int | None = None,
) -> None:
    """Retire an override now; calls of its time keep its price.

    Raises:
        NotFound, Outdated: as `change_override`.
    """
    at_us = subjects.now_us() if now_us is None else now_us
    subjects.delete(connection, scope, KIND, identity, expected_version=expected_version, at_us=at_us)
    own = select(price_override_terms.c.id).where(price_override_terms.c.subject_id == identity)
    connection.execute(update(prices).where(prices.c.id.in_(own)).values(retired=1))


def get_override(connection: Connection, scope: Scope, identity: str) -> PriceOverride:
    """Find an override of the scope's organization or of everybody.

    Raises:
        NotFound: there is none, or not for this scope.
    """
    return _override(connection, subjects.find(connection, scope, price_overrides, KIND.noun, identity))


def overrides_by_id(connection: Connection, scope: Scope, identities: Collection[str]) -> dict[str, PriceOverride]:
    """Find the overrides of the scope among some ids; deleted ones are not found."""
    if not identities:
        return {}
    rows = subjects.find_all(
        connection, scope, price_overrides, price_overrides.c.id.in_(identities), limit=len(identities), after=None
    )
    terms = _terms(connection, [row.id for row in rows])
    return {row.id: _with_terms(row, terms[row.id]) for row in rows}


def list_overrides(
    connection: Connection,
    scope: Scope,
    *,
    search: str | None = None,
    provider: str | None = None,
    limit: int = 100,
    after: Position | None = None,
) -> list[PriceOverride]:
    """List overrides, oldest first: an organization's own and everybody's, all of them for the system.

    `search` is a part of the model's name in any case.
    """
    conditions = []
    if search is not None:
        conditions.append(func.lower(price_overrides.c.model).contains(search.lower(), autoescape=True))
    if provider is not None:
        conditions.append(price_overrides.c.provider == canonical_provider(provider))
    rows = subjects.find_all(connection, scope, price_overrides, *conditions, limit=limit, after=after)
    terms = _terms(connection, [row.id for row in rows])
    return [_with_terms(row, terms[row.id]) for row in rows]


def _provider(text: str) -> str:
    provider = canonical_provider(subjects.checked_name("provider", text))
    assert provider is not None, "a name that is not empty"
    return provider


def _drafted_rates(provider: str, draft: OverrideDraft) -> Rates:
    return Rates(
        tiers=_tiers(draft.prices, draft.bands, draft.tiers, draft.unit),
        threshold_inclusive=provider == "x_ai",  # its thresholds are reached, not crossed
        free=draft.free,
        inherits=draft.inherit,
    )


def _changed(old: _Content, wanted: OverrideChange, provider: str, unit: Unit) -> _Content:
    standing = old.rates.tiers.get(STANDARD, Tier({}))
    table = standing.rates
    if not isinstance(wanted.prices, UnsetType):
        table = _merged(table, wanted.prices, unit)
    bands = standing.bands if isinstance(wanted.bands, UnsetType) else _bands("bands", wanted.bands, unit)
    others = {name: tier for name, tier in old.rates.tiers.items() if name != STANDARD}
    if not isinstance(wanted.tiers, UnsetType):
        others = _other_tiers(wanted.tiers, unit)
    free = old.rates.free if isinstance(wanted.free, UnsetType) else wanted.free
    rates = Rates(
        tiers={STANDARD: Tier(table, bands), **others} if table or bands else others,
        threshold_inclusive=provider == "x_ai",
        free=free,
        inherits=old.rates.inherits if isinstance(wanted.inherit, UnsetType) else wanted.inherit,
    )
    return _Content(
        rates=_checked(rates),
        currency=old.currency if isinstance(wanted.currency, UnsetType) else checked_currency(wanted.currency),
        source_url=old.source_url if isinstance(wanted.source_url, UnsetType) else _checked_url(wanted.source_url),
    )


def _merged(standing: RateTable, stated: Mapping[str, Decimal | None], unit: Unit) -> RateTable:
    merged = dict(standing)
    for dimension, price in stated.items():
        if price is None:
            merged.pop(dimension, None)
        else:
            merged[dimension] = single_price(f"prices.{dimension}", dimension, price, unit)
    return merged


def _tiers(
    stated: StatedTable, bands: tuple[StatedBand, ...], tiers: Mapping[str, StatedTier], unit: Unit | None
) -> dict[str, Tier]:
    others = _other_tiers(tiers, unit)
    if not stated and not bands:
        return others
    return {STANDARD: Tier(_table("prices", stated, unit), _bands("bands", bands, unit)), **others}


def _other_tiers(tiers: Mapping[str, StatedTier], unit: Unit | None) -> dict[str, Tier]:
    if len(tiers) > _MAX_TIERS:
        raise InvalidInput("tiers", f"expected at most {_MAX_TIERS}, got {len(tiers)}")
    checked = {}
    for name, tier in tiers.items():
        field = f"tiers.{name[:64]}"
        if not _TIER.fullmatch(name):
            raise InvalidInput(field, "expected a tier's name such as batch, flex or priority")
        if canonical_tier(name, batch=False) != name or name == STANDARD:
            canonical = canonical_tier(name, batch=False)
            cure = "the standard prices stand in `prices`" if canonical == STANDARD else f"call it {canonical}"
            raise InvalidInput(field, f"is no tier of its own; {cure}")
        if not tier.prices:
            raise InvalidInput(f"{field}.prices", "expected at least one price")
        checked[name] = Tier(_table(f"{field}.prices", tier.prices, unit), _bands(f"{field}.bands", tier.bands, unit))
    return checked


def _bands(field: str, bands: tuple[StatedBand, ...], unit: Unit | None) -> tuple[Band, ...]:
    if len(bands) > _MAX_BANDS:
        raise InvalidInput(field, f"expected at most {_MAX_BANDS}, got {len(bands)}")
    checked: list[Band] = []
    for number, band in enumerate(bands):
        place = f"{field}.{number}"
        if not 0 < band.above_tokens <= MAX_COUNT:
            raise InvalidInput(f"{place}.above_tokens", f"expected 1 to {MAX_COUNT}, got {band.above_tokens}")
        if checked and band.above_tokens <= checked[-1].above_tokens:
            raise InvalidInput(f"{place}.above_tokens", "expected more than in the band before; bands rise")
        if not band.prices:
            raise InvalidInput(f"{place}.prices", "expected at least one price")
        checked.append(Band(band.above_tokens, _table(f"{place}.prices", band.prices, unit)))
    return tuple(checked)


def _table(field: str, stated: StatedTable, unit: Unit | None) -> RateTable:
    return {
        dimension: single_price(f"{field}.{dimension}", dimension, price, unit) for dimension, price in stated.items()
    }


def _checked(rates: Rates) -> Rates:
    if rates.free and (rates.tiers or rates.inherits):
        raise InvalidInput("free", "a free model has no prices and inherits none")
    if not rates.free and not rates.tiers:
        raise InvalidInput("prices", "expected at least one price, or `free`")
    return rates


def _checked_url(url: str | None) -> str | None:
    if url is None:
        return None
    if not re.fullmatch(r"https?://\S+", url) or not url.isprintable() or len(url) > _MAX_URL:
        raise InvalidInput("source_url", f"expected an address of the web, at most {_MAX_URL} characters")
    return url


def _opening(connection: Connection, named: tuple[int | None, str, str], content: _Content, at_us: int) -> Opening:
    org_id, provider, model = named

    def open_term(identity: str, from_us: int | None, to_us: int | None) -> str:
        price = Price(
            id=subjects.new_id("ovr"),
            source="override",
            org_id=org_id,
            provider=provider,
            model=model,
            currency=content.currency,
            rates=content.rates,
            source_url=content.source_url,
            effective_from_us=from_us,
            effective_to_us=to_us,
        )
        insert_prices(connection, [price], None)
        connection.execute(insert(price_override_terms).values(id=price.id, subject_id=identity, created_at_us=at_us))
        return price.id

    return open_term


def _override(connection: Connection, row: Row[Any]) -> PriceOverride:
    return _with_terms(row, _terms(connection, [row.id])[row.id])


def _with_terms(row: Row[Any], terms: list[OverrideTerm]) -> PriceOverride:
    return PriceOverride(
        **subjects.subject_fields(row),
        provider=row.provider,
        model=row.model,
        unit=row.unit,
        terms=subjects.in_order(terms),
    )


def _terms(connection: Connection, identities: Collection[str]) -> dict[str, list[OverrideTerm]]:
    """Read the terms of some overrides in no promised order."""
    terms = price_override_terms
    links = connection.execute(select(terms).where(terms.c.subject_id.in_(identities))).all()
    columns = [prices.c[name] for name in Price.__struct_fields__]
    found = {
        row.id: price_of(row)
        for row in connection.execute(
            select(*columns).where(prices.c.id == terms.c.id, terms.c.subject_id.in_(identities))
        )
    }
    by_override: dict[str, list[OverrideTerm]] = defaultdict(list)
    for link in links:
        price = found[link.id]
        by_override[link.subject_id].append(
            OverrideTerm(
                id=link.id,
                effective_from_us=price.effective_from_us,
                effective_to_us=price.effective_to_us,
                created_at_us=link.created_at_us,
                withdrawn_at_us=link.withdrawn_at_us,
                price=price,
            )
        )
    return by_override

"""Overrides: prices by an administrator's word, dated and never rewritten."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select

from farebox_ledger.errors import Conflict, InvalidInput, NotFound, Outdated
from farebox_ledger.pricing import Charge, Match, Price, PricingRequest, Rates, Tier
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.overrides import (
    OverrideChange,
    OverrideDraft,
    PriceOverride,
    StatedBand,
    StatedTier,
    change_override,
    create_override,
    delete_override,
    get_override,
    list_overrides,
)
from farebox_ledger.store.prices import catalog_version, insert_prices, list_prices, load_book
from farebox_ledger.store.schema import prices
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.usage import Usage
from tests.ledger.store.bookings import ACME, EVERYBODY, ZENITH, at

JANUARY, MARCH, JUNE = at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"), at("2026-06-01T00:00:00Z")
SYNCED = Price(
    id="ltl_1",
    source="litellm",
    provider="openai",
    model="gpt-4o",
    rates=Rates(tiers={"standard": Tier({"input_tokens": "0.0000025", "output_tokens": "0.00001"})}),
)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """Put two organizations and one synced price into the books."""
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        create_organization(connection, "zenith")
        insert_prices(connection, [SYNCED], None)
    return engine


def draft(**fields: Any) -> OverrideDraft:
    plain: dict[str, Any] = {
        "provider": "OpenAI",
        "model": "gpt-4o",
        "unit": "1m",
        "prices": {"input_tokens": Decimal(2), "output_tokens": Decimal(8)},
    }
    return OverrideDraft(**(plain | fields))


def create(engine: Engine, org_id: int | None = ACME, *, now_us: int = MARCH, **fields: Any) -> PriceOverride:
    scope = EVERYBODY if org_id is None else OrgScope(org_id)
    with transaction(engine, scope, write=True) as connection:
        return create_override(connection, scope, draft(**fields), now_us=now_us)


def change(engine: Engine, made: PriceOverride, now_us: int = JUNE, **fields: Any) -> PriceOverride:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return change_override(connection, EVERYBODY, made.id, OverrideChange(**fields), now_us=now_us)


def charge(engine: Engine, at_us: int, org_id: int | None = ACME) -> Charge:
    """Price a million tokens in and a million out."""
    request = PricingRequest(
        provider="openai",
        request_model="gpt-4o",
        response_model=None,
        at_us=at_us,
        usage=Usage(input_tokens=1_000_000, output_tokens=1_000_000),
        org_id=org_id,
    )
    with transaction(engine, EVERYBODY) as connection:
        return load_book(connection).charge(request)


def cost(engine: Engine, at_us: int, org_id: int | None = ACME) -> int | None:
    """The same in whole units of currency."""
    pico = charge(engine, at_us, org_id).cost_pico
    return None if pico is None else pico // 10**12


def standard(price: Price) -> dict[str, str]:
    return price.rates.tiers["standard"].rates


def test_an_override_is_kept_per_single_token_and_comes_back_as_it_went_in(engine: Engine) -> None:
    made = create(engine, notes="agreed in March", source_url="https://example.com/offer", effective_from_us=JANUARY)

    with transaction(engine, EVERYBODY) as connection:
        found = get_override(connection, OrgScope(ACME), made.id)
    assert found == made
    (term,) = found.terms
    assert (found.provider, found.model, found.unit, found.org_id) == ("openai", "gpt-4o", "1m", ACME)
    assert (found.notes, found.is_active, found.row_version) == ("agreed in March", True, 1)
    assert (found.created_at_us, found.updated_at_us) == (MARCH, MARCH)
    assert (term.effective_from_us, term.effective_to_us, term.price.id) == (JANUARY, None, term.id)
    assert standard(term.price) == {"input_tokens": "0.000002", "output_tokens": "0.000008"}
    assert (term.price.source, term.price.currency) == ("override", "USD")


def test_precedence_is_organization_then_everybody_then_catalog(engine: Engine) -> None:
    assert [cost(engine, JUNE, org) for org in (ACME, ZENITH, None)] == [12, 12, 12]

    create(engine, None, prices={"input_tokens": Decimal(1), "output_tokens": Decimal(6)})
    assert [cost(engine, JUNE, org) for org in (ACME, ZENITH, None)] == [7, 7, 7]

    create(engine, ACME)
    assert [cost(engine, JUNE, org) for org in (ACME, ZENITH, None)] == [10, 7, 7]


def test_a_change_of_prices_closes_the_old_row_and_opens_a_new_one(engine: Engine) -> None:
    made = create(engine)

    changed = change(engine, made, prices={"output_tokens": Decimal(9)})

    old, new = changed.terms
    assert old.price.id == made.terms[0].price.id
    assert standard(old.price) == {"input_tokens": "0.000002", "output_tokens": "0.000008"}
    assert (old.effective_to_us, new.effective_from_us, new.effective_to_us) == (JUNE, JUNE, None)
    assert standard(new.price) == {"input_tokens": "0.000002", "output_tokens": "0.000009"}
    assert (cost(engine, JUNE - 1), cost(engine, JUNE)) == (10, 11)
    assert (changed.row_version, changed.updated_at_us, changed.created_at_us) == (2, JUNE, MARCH)


def test_a_change_can_take_effect_in_the_past_and_in_the_future(engine: Engine) -> None:
    made = create(engine)

    change(engine, made, now_us=MARCH, effective_from_us=JANUARY, prices={"output_tokens": Decimal(9)})
    change(engine, made, now_us=MARCH, effective_from_us=JUNE, prices={"output_tokens": Decimal(10)})

    assert [cost(engine, moment) for moment in (JANUARY - 1, JANUARY, JUNE - 1, JUNE)] == [10, 11, 11, 12]


def test_a_change_since_ever_takes_the_old_price_back(engine: Engine) -> None:
    made = create(engine)

    changed = change(engine, made, effective_from_us=None, prices={"output_tokens": Decimal(9)})

    assert [term.withdrawn_at_us for term in changed.terms] == [JUNE, None]
    assert cost(engine, JANUARY) == 11
    with transaction(engine, EVERYBODY) as connection:
        listed = [price.id for price in list_prices(connection, EVERYBODY) if price.source == "override"]
    assert listed == [changed.terms[1].id]


def test_a_change_that_says_nothing_new_writes_no_row(engine: Engine) -> None:
    made = create(engine)

    changed = change(engine, made, prices={"output_tokens": Decimal("8.000")}, notes="looked at")

    assert changed.terms == made.terms
    assert (changed.notes, changed.row_version) == ("looked at", 2)


def test_a_price_is_taken_away_by_null(engine: Engine) -> None:
    made = create(engine)

    changed = change(engine, made, prices={"output_tokens": None})

    assert standard(changed.terms[-1].price) == {"input_tokens": "0.000002"}
    with pytest.raises(InvalidInput, match="at least one price"):
        change(engine, changed, prices={"input_tokens": None})


def test_another_unit_alone_changes_no_price(engine: Engine) -> None:
    made = create(engine)

    changed = change(engine, made, unit="1k")
    again = change(engine, made, prices={"input_tokens": Decimal("0.003")})

    assert (changed.unit, changed.terms) == ("1k", made.terms)
    assert standard(again.terms[-1].price)["input_tokens"] == "0.000003"


def test_an_inactive_override_is_not_used_and_an_active_one_is_again(engine: Engine) -> None:
    made = create(engine)

    change(engine, made, now_us=JUNE, is_active=False)
    assert (cost(engine, JUNE - 1), cost(engine, JUNE)) == (10, 12)

    change(engine, made, now_us=JUNE + 10, is_active=True)
    assert [cost(engine, JUNE + moment) for moment in (-1, 9, 10)] == [10, 12, 10]


def test_an_override_can_be_made_inactive_and_switched_on_later(engine: Engine) -> None:
    made = create(engine, is_active=False)
    assert cost(engine, JUNE) == 12

    change(engine, made, now_us=JUNE, is_active=True)

    assert (cost(engine, JUNE - 1), cost(engine, JUNE)) == (12, 10)


def test_a_deleted_override_keeps_its_price_for_its_time(engine: Engine) -> None:
    made = create(engine)

    with transaction(engine, EVERYBODY, write=True) as connection:
        delete_override(connection, OrgScope(ACME), made.id, now_us=JUNE)

    assert (cost(engine, JUNE - 1), cost(engine, JUNE)) == (10, 12)
    with transaction(engine, EVERYBODY) as connection:
        assert list_overrides(connection, EVERYBODY) == []
        assert connection.execute(select(prices.c.retired).where(prices.c.org_id == ACME)).scalars().all() == [1]
        with pytest.raises(NotFound):
            get_override(connection, EVERYBODY, made.id)


def test_a_deleted_override_that_was_still_to_come_never_holds(engine: Engine) -> None:
    made = create(engine, now_us=MARCH, effective_from_us=JUNE)

    with transaction(engine, EVERYBODY, write=True) as connection:
        delete_override(connection, EVERYBODY, made.id, now_us=MARCH)

    assert cost(engine, JUNE) == 12


def test_a_deleted_override_gives_way_to_a_new_one(engine: Engine) -> None:
    made = create(engine)
    with transaction(engine, EVERYBODY, write=True) as connection:
        delete_override(connection, EVERYBODY, made.id, now_us=JUNE)

    create(engine, now_us=JUNE, effective_from_us=MARCH, prices={"input_tokens": Decimal(20)})

    assert [charge(engine, moment).lines[0].unit_price for moment in (MARCH - 1, MARCH, JUNE)] == [
        "0.000002",
        "0.00002",
        "0.00002",
    ]


@pytest.mark.parametrize(
    ("effective", "is_free"),
    [
        ((None, None), False),
        ((JANUARY, None), False),
        ((MARCH - 1, MARCH + 1), False),
        ((None, MARCH), True),
        ((JUNE, None), True),
        ((JUNE - 1, None), False),
    ],
)
def test_an_overlap_conflicts_with_the_id_of_what_stands(
    engine: Engine, effective: tuple[int | None, int | None], is_free: bool
) -> None:
    made = create(engine, effective_from_us=MARCH, effective_to_us=JUNE)
    dates: dict[str, Any] = dict(zip(("effective_from_us", "effective_to_us"), effective, strict=True))

    if is_free:
        assert create(engine, model="GPT-4o", **dates).id != made.id
        return
    with pytest.raises(Conflict) as refused:
        create(engine, model="GPT-4o", **dates)
    assert refused.value.conflicting_id == made.id
    assert made.id in str(refused.value)


def test_extending_into_another_override_conflicts(engine: Engine) -> None:
    made = create(engine, effective_to_us=MARCH)
    other = create(engine, effective_from_us=JUNE)

    with pytest.raises(Conflict) as refused:
        change(engine, made, effective_to_us=None)
    assert refused.value.conflicting_id == other.id
    assert change(engine, made, now_us=MARCH, effective_to_us=JUNE).terms[-1].effective_to_us == JUNE


def test_other_organizations_and_everybody_are_no_overlap(engine: Engine) -> None:
    assert len({create(engine, org).id for org in (ACME, ZENITH, None)}) == 3


def test_an_organization_sees_everybodys_and_changes_its_own_alone(engine: Engine) -> None:
    acme, zenith, everybody = (create(engine, org) for org in (ACME, ZENITH, None))

    with transaction(engine, EVERYBODY, write=True) as connection:
        assert [one.id for one in list_overrides(connection, OrgScope(ACME))] == [
            one.id for one in sorted((acme, everybody), key=lambda one: (one.created_at_us, one.id))
        ]
        assert get_override(connection, OrgScope(ACME), everybody.id) == everybody
        for foreign in (everybody, zenith):
            with pytest.raises(NotFound):
                change_override(connection, OrgScope(ACME), foreign.id, OverrideChange(notes="mine"))
            with pytest.raises(NotFound):
                delete_override(connection, OrgScope(ACME), foreign.id)


def test_a_change_of_an_old_version_is_refused(engine: Engine) -> None:
    made = create(engine)

    with transaction(engine, EVERYBODY, write=True) as connection:
        change_override(connection, EVERYBODY, made.id, OverrideChange(notes="first"), expected_version=1)
        with pytest.raises(Outdated, match="version 2, not 1") as refused:
            change_override(connection, EVERYBODY, made.id, OverrideChange(notes="second"), expected_version=1)
        assert refused.value.current == 2
        with pytest.raises(Outdated):
            delete_override(connection, EVERYBODY, made.id, expected_version=1)


def test_a_partial_override_inherits_only_when_it_says_so(engine: Engine) -> None:
    create(engine, prices={"input_tokens": Decimal(2)})
    create(engine, ZENITH, prices={"input_tokens": Decimal(2)}, inherit=True)

    alone, inheriting = charge(engine, JUNE), charge(engine, JUNE, ZENITH)

    assert (alone.status, alone.reason) == ("partial", "no_rate_for_dimension")
    assert (inheriting.status, [line.unit_price for line in inheriting.lines]) == ("billed", ["0.000002", "0.00001"])


def test_a_free_override_costs_nothing_and_is_free(engine: Engine) -> None:
    create(engine, free=True, prices={}, unit=None)

    charged = charge(engine, JUNE)

    assert (charged.status, charged.cost_pico) == ("free", 0)


def test_bands_and_tiers_are_charged(engine: Engine) -> None:
    create(
        engine,
        bands=(StatedBand(above_tokens=200_000, prices={"input_tokens": Decimal(4)}),),
        tiers={"batch": StatedTier(prices={"input_tokens": Decimal("0.5"), "output_tokens": Decimal(4)})},
        currency="EUR",
    )
    request = PricingRequest(
        provider="openai",
        request_model="gpt-4o",
        response_model=None,
        at_us=JUNE,
        usage=Usage(input_tokens=200_000, output_tokens=0),
        org_id=ACME,
    )
    with transaction(engine, EVERYBODY) as connection:
        book = load_book(connection)

    assert (book.charge(request).cost_pico, book.charge(request).currency) == (400_000_000_000, "EUR")
    request.usage = Usage(input_tokens=200_001, output_tokens=0)
    assert book.charge(request).cost_pico == 800_004_000_000
    request.batch, request.usage = True, Usage(input_tokens=200_000, output_tokens=0)
    assert book.charge(request).cost_pico == 100_000_000_000


BAND = StatedBand(above_tokens=200_000, prices={"input_tokens": Decimal(4)})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": ""}, "model"),
        ({"model": "   "}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"model": "a\0b"}, "model"),
        ({"provider": ""}, "provider"),
        ({"provider": "a\nb"}, "provider"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"prices": {}}, "prices"),
        ({"prices": {"input_token": Decimal(1)}}, "prices.input_token"),
        ({"prices": {"input_tokens": Decimal(-1)}}, "prices.input_tokens"),
        ({"prices": {"input_tokens": Decimal("NaN")}}, "prices.input_tokens"),
        ({"prices": {"input_tokens": Decimal("Infinity")}}, "prices.input_tokens"),
        ({"prices": {"input_tokens": Decimal("1e400")}}, "prices.input_tokens"),
        ({"prices": {"input_tokens": Decimal("0.0000000000001")}}, "prices.input_tokens"),
        ({"unit": None}, "unit"),
        ({"free": True}, "free"),
        ({"free": True, "prices": {}, "inherit": True}, "free"),
        ({"bands": (StatedBand(above_tokens=0, prices={"input_tokens": Decimal(4)}),)}, "bands.0.above_tokens"),
        ({"bands": (BAND, BAND)}, "bands.1.above_tokens"),
        ({"bands": (StatedBand(above_tokens=1, prices={}),)}, "bands.0.prices"),
        ({"bands": (StatedBand(above_tokens=1, prices={"x": Decimal(1)}),)}, "bands.0.prices.x"),
        ({"tiers": {"standard": StatedTier(prices={"input_tokens": Decimal(1)})}}, "tiers.standard"),
        ({"tiers": {"default": StatedTier(prices={"input_tokens": Decimal(1)})}}, "tiers.default"),
        ({"tiers": {"Batch!": StatedTier(prices={"input_tokens": Decimal(1)})}}, "tiers.Batch!"),
        ({"tiers": {"batch": StatedTier(prices={})}}, "tiers.batch.prices"),
        ({"tiers": {"batch": StatedTier(prices={"pages": Decimal(-1)})}}, "tiers.batch.prices.pages"),
        ({"effective_from_us": JUNE, "effective_to_us": JUNE}, "effective_to"),
        ({"effective_from_us": -1}, "effective_from"),
        ({"notes": "x" * 2001}, "notes"),
        ({"notes": "a\0b"}, "notes"),
        ({"source_url": "javascript:alert(1)"}, "source_url"),
    ],
    ids=str,
)
def test_a_wrong_field_is_refused_by_name_and_writes_nothing(
    sqlite_engine: Engine, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        create(sqlite_engine, None, **fields)

    assert refused.value.field == field
    with transaction(sqlite_engine, EVERYBODY) as connection:
        assert list_overrides(connection, EVERYBODY) == []
        assert catalog_version(connection) == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"effective_to_us": JANUARY}, "effective_to"),
        ({"effective_from_us": JUNE, "effective_to_us": MARCH}, "effective_to"),
        ({"is_active": False, "prices": {"input_tokens": Decimal(1)}}, "is_active"),
        ({"is_active": False, "effective_to_us": None}, "is_active"),
        ({"currency": "eur"}, "currency"),
        ({"free": True}, "free"),
    ],
    ids=str,
)
def test_a_wrong_change_is_refused_by_name(sqlite_engine: Engine, fields: dict[str, Any], field: str) -> None:
    made = create(sqlite_engine, None, effective_from_us=MARCH)

    with pytest.raises(InvalidInput) as refused:
        change(sqlite_engine, made, **fields)
    assert refused.value.field == field


def test_every_change_raises_the_catalog_version(engine: Engine) -> None:
    versions = []

    def note(connection: Connection) -> None:
        versions.append(catalog_version(connection))

    with transaction(engine, EVERYBODY, write=True) as connection:
        note(connection)
        made = create_override(connection, EVERYBODY, draft())
        note(connection)
        change_override(connection, EVERYBODY, made.id, OverrideChange(notes="x"))
        note(connection)
        delete_override(connection, EVERYBODY, made.id)
        note(connection)

    assert versions == [0, 1, 2, 3]


def test_the_list_is_paged_and_searched(engine: Engine) -> None:
    made = [create(engine, model=f"model-{number}", now_us=MARCH + number // 2).id for number in range(5)]
    create(engine, provider="anthropic", model="claude", now_us=MARCH + 9)

    with transaction(engine, EVERYBODY) as connection:
        first = list_overrides(connection, EVERYBODY, search="MODEL-", limit=2)
        last = (first[-1].created_at_us, first[-1].id)
        rest = list_overrides(connection, EVERYBODY, search="MODEL-", after=last)
        claude = list_overrides(connection, EVERYBODY, provider="Claude")
    assert {one.id for one in first + rest} == set(made)
    assert len(first) == 2
    assert [one.model for one in claude] == ["claude"]


def test_the_match_names_the_override_and_what_it_beat(engine: Engine) -> None:
    made = create(engine)
    request = PricingRequest(
        provider="openai", request_model="gpt-4o", response_model=None, at_us=JUNE, usage=Usage(), org_id=ACME
    )

    with transaction(engine, EVERYBODY) as connection:
        answer = load_book(connection).resolve(request)

    assert isinstance(answer, Match)
    assert answer.reference.id == made.terms[0].id
    assert any("ltl_1" in line and "loses to an override" in line for line in answer.rejected)

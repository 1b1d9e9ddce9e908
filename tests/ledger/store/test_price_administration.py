"""Multipliers, aliases, configurations, upstreams and policies in the books: precedence, dates, owners, races."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from farebox_ledger.errors import Conflict, InvalidInput, LedgerError, NotFound, Outdated
from farebox_ledger.pricing import Charge, Policy, Price, PriceBook, PricingRequest, Rates, Tier
from farebox_ledger.store.aliases import AliasChange, AliasDraft, AliasTarget, change_alias, create_alias, delete_alias
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.model_configs import (
    ModelConfigChange,
    ModelConfigDraft,
    change_model_config,
    create_model_config,
    delete_model_config,
    list_model_configs,
    model_config_names,
)
from farebox_ledger.store.multipliers import (
    MultiplierChange,
    MultiplierDraft,
    all_multipliers,
    change_multiplier,
    create_multiplier,
    delete_multiplier,
    get_multiplier,
)
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.overrides import OverrideChange, OverrideDraft, create_override, list_overrides
from farebox_ledger.store.policies import price_policy, set_price_policy
from farebox_ledger.store.prices import catalog_version, insert_prices, load_book
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.store.upstreams import UpstreamDraft, create_upstream
from farebox_ledger.usage import Usage
from tests.ledger.store.bookings import ACME, EVERYBODY, ZENITH, at

JANUARY, MARCH, JUNE = at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"), at("2026-06-01T00:00:00Z")


def listed(model: str, rate: str, **fields: Any) -> Price:
    plain: dict[str, Any] = {"id": f"ltl_{model}", "source": "litellm", "provider": "openai", "model": model}
    return Price(**(plain | fields), rates=Rates(tiers={"standard": Tier({"input_tokens": rate})}))


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """Two organizations; gpt-4o at 2 for a million, mini at 1, one archived and one retired model."""
    prepare(engine)
    return engine


def prepare(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        create_organization(connection, "zenith")
        known = [
            listed("gpt-4o", "0.000002"),
            listed("mini", "0.000001"),
            listed("old", "0.000003", source="genai-prices"),
            listed("gone", "0.000004", retired=True, effective_to_us=JANUARY),
        ]
        insert_prices(connection, known, None)


def book(engine: Engine) -> PriceBook:
    with transaction(engine, EVERYBODY) as connection:
        return load_book(connection)


def charge(
    books: PriceBook, model: str = "gpt-4o", at_us: int = JUNE, org_id: int | None = ACME, upstream: str | None = None
) -> Charge:
    """Price a million tokens in."""
    request = PricingRequest(
        provider="openai",
        request_model=model,
        response_model=None,
        at_us=at_us,
        usage=Usage(input_tokens=1_000_000, output_tokens=None),
        org_id=org_id,
        upstream=upstream,
    )
    return books.charge(request)


def scope_of(org_id: int | None) -> Scope:
    return EVERYBODY if org_id is None else OrgScope(org_id)


def multiply(engine: Engine, factor: str, org_id: int | None = None, **fields: Any) -> str:
    scope = scope_of(org_id)
    with transaction(engine, scope, write=True) as connection:
        return create_multiplier(connection, scope, MultiplierDraft(factor=Decimal(factor), **fields), now_us=MARCH).id


def rename(engine: Engine, alias: str, target: str, org_id: int | None = None, **fields: Any) -> str:
    scope = scope_of(org_id)
    draft = AliasDraft(alias=alias, target=AliasTarget(target_model=target), **fields)
    with transaction(engine, scope, write=True) as connection:
        return create_alias(connection, scope, draft, now_us=MARCH).id


def test_the_most_specific_multiplier_holds(engine: Engine) -> None:
    for factor, org_id, names in (
        ("2", None, {}),
        ("3", None, {"provider": "OpenAI"}),
        ("4", None, {"upstream": "reseller"}),
        ("5", None, {"upstream": "reseller", "provider": "openai"}),
        ("6", ZENITH, {}),
        ("7", ZENITH, {"upstream": "reseller"}),
    ):
        multiply(engine, factor, org_id, **names)
    books = book(engine)

    assert {
        (org_id, upstream): charge(books, org_id=org_id, upstream=upstream).multiplier
        for org_id in (None, ACME, ZENITH)
        for upstream in (None, "reseller", "other")
    } == {
        (None, None): "3",
        (None, "reseller"): "5",
        (None, "other"): "3",
        (ACME, None): "3",
        (ACME, "reseller"): "5",
        (ACME, "other"): "3",
        (ZENITH, None): "6",
        (ZENITH, "reseller"): "7",
        (ZENITH, "other"): "6",
    }


def test_a_multiplier_keeps_its_old_factor_for_its_time(engine: Engine) -> None:
    identity = multiply(engine, "1.1")
    with transaction(engine, EVERYBODY, write=True) as connection:
        wanted = MultiplierChange(factor=Decimal("1.2"), effective_from_us=MARCH)
        changed = change_multiplier(connection, EVERYBODY, identity, wanted, now_us=MARCH)
        delete_multiplier(connection, EVERYBODY, identity, now_us=JUNE)

    books = book(engine)
    assert [charge(books, at_us=moment).cost_pico for moment in (MARCH - 1, MARCH, JUNE - 1, JUNE)] == [
        2_200_000_000_000,
        2_400_000_000_000,
        2_400_000_000_000,
        2_000_000_000_000,
    ]
    assert [term.factor for term in changed.terms] == [Decimal("1.1"), Decimal("1.2")]
    assert (changed.row_version, changed.updated_at_us) == (2, MARCH)


def test_multipliers_of_the_same_names_do_not_overlap(engine: Engine) -> None:
    identity = multiply(engine, "1.1", effective_to_us=MARCH)

    with pytest.raises(Conflict) as refused:
        multiply(engine, "1.2", effective_from_us=MARCH - 1)
    assert refused.value.conflicting_id == identity
    assert multiply(engine, "1.2", effective_from_us=MARCH) != identity
    assert multiply(engine, "1.3", ACME) != identity


def test_an_organizations_alias_comes_before_everybodys(engine: Engine) -> None:
    rename(engine, "chat", "gpt-4o")
    rename(engine, "Chat", "mini", ACME)
    books = book(engine)

    assert {
        org_id: (found.price.id, found.price.match_rule)
        for org_id in (None, ACME, ZENITH)
        if (found := charge(books, "CHAT", org_id=org_id)).price
    } == {
        None: ("ltl_gpt-4o", "alias:exact"),
        ACME: ("ltl_mini", "alias:exact"),
        ZENITH: ("ltl_gpt-4o", "alias:exact"),
    }


def test_a_price_under_the_very_name_comes_before_an_alias(engine: Engine) -> None:
    rename(engine, "mini", "gpt-4o")

    found = charge(book(engine), "mini").price

    assert found is not None
    assert (found.id, found.match_rule) == ("ltl_mini", "exact")


def test_an_alias_is_dated(engine: Engine) -> None:
    identity = rename(engine, "chat", "gpt-4o", effective_from_us=JANUARY)
    with transaction(engine, EVERYBODY, write=True) as connection:
        change_alias(connection, EVERYBODY, identity, AliasChange(target_model="mini"), now_us=MARCH)
        delete_alias(connection, EVERYBODY, identity, now_us=JUNE)
    books = book(engine)

    found = [charge(books, "chat", moment) for moment in (JANUARY - 1, JANUARY, MARCH, JUNE)]

    assert [one.price.id if one.price else one.reason for one in found] == [
        "unknown_model",
        "ltl_gpt-4o",
        "ltl_mini",
        "unknown_model",
    ]


def test_an_alias_that_leads_to_itself_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidInput) as refused:
        rename(engine, "chat", " CHAT ")
    assert refused.value.field == "target_model"
    rename(engine, "chat", "gpt-4o", provider="azure")


def test_policies_hold_for_the_organization_that_set_them(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        set_price_policy(connection, OrgScope(ACME), ACME, Policy(use_archive=False), now_us=MARCH)
        set_price_policy(connection, EVERYBODY, ZENITH, Policy(carry_retired=False), now_us=MARCH)
        with pytest.raises(InvalidInput):
            set_price_policy(connection, OrgScope(ACME), ZENITH, Policy())
        with pytest.raises(NotFound):
            set_price_policy(connection, EVERYBODY, 5, Policy())
        assert price_policy(connection, EVERYBODY, ACME) == Policy(use_archive=False)
    books = book(engine)

    assert {
        (org_id, model): charge(books, model, org_id=org_id).status
        for org_id in (None, ACME, ZENITH)
        for model in ("old", "gone")
    } == {
        (None, "old"): "assumed",
        (None, "gone"): "assumed",
        (ACME, "old"): "unpriced",
        (ACME, "gone"): "assumed",
        (ZENITH, "old"): "assumed",
        (ZENITH, "gone"): "unpriced",
    }
    with transaction(engine, EVERYBODY, write=True) as connection:
        set_price_policy(connection, EVERYBODY, ACME, Policy())
    assert charge(book(engine), "old").status == "assumed"


def test_a_configuration_and_its_prices_live_and_die_together(engine: Engine) -> None:
    scope = OrgScope(ACME)
    priced = OverrideDraft(provider="", model="", unit="1k", prices={"input_tokens": Decimal("0.005")})
    draft = ModelConfigDraft(name="bot", provider="openai", model="gpt-4o", prices=priced)
    with transaction(engine, scope, write=True) as connection:
        made = create_model_config(connection, scope, draft, now_us=JANUARY)
        change = ModelConfigChange(prices=OverrideChange(prices={"input_tokens": Decimal("0.006")}))
        change_model_config(connection, scope, made.id, change, now_us=MARCH)
        delete_model_config(connection, scope, made.id, now_us=JUNE)
        assert list_overrides(connection, scope) == []
        assert list_model_configs(connection, scope) == []
        assert model_config_names(connection, {(ACME, made.id), (ZENITH, made.id)}) == {(ACME, made.id): "bot"}
    books = book(engine)

    assert [charge(books, at_us=moment).cost_pico for moment in (JANUARY, MARCH, JUNE)] == [
        5 * 10**12,
        6 * 10**12,
        2 * 10**12,
    ]


def test_a_configuration_whose_model_has_an_override_conflicts_with_it(engine: Engine) -> None:
    scope = OrgScope(ACME)
    priced = OverrideDraft(provider="openai", model="gpt-4o", unit="1k", prices={"input_tokens": Decimal(1)})
    with transaction(engine, scope, write=True) as connection:
        standing = create_override(connection, scope, priced)
        with pytest.raises(Conflict) as refused:
            create_model_config(
                connection, scope, ModelConfigDraft(name="bot", provider="openai", model="gpt-4o", prices=priced)
            )
    assert refused.value.conflicting_id == standing.id


RACES: dict[str, Any] = {
    "override": lambda connection, number: create_override(
        connection,
        EVERYBODY,
        OverrideDraft(provider="openai", model="new", unit="1m", prices={"input_tokens": Decimal(number + 1)}),
    ),
    "multiplier": lambda connection, number: create_multiplier(
        connection, EVERYBODY, MultiplierDraft(factor=Decimal(number + 1))
    ),
    "alias": lambda connection, number: create_alias(
        connection, EVERYBODY, AliasDraft(alias="a", target=AliasTarget(target_model=f"m{number}"))
    ),
    "upstream": lambda connection, _: create_upstream(connection, EVERYBODY, UpstreamDraft(name="gateway")),
    "configuration": lambda connection, _: create_model_config(
        connection, OrgScope(ACME), ModelConfigDraft(name="bot", provider="openai", model="gpt-4o")
    ),
}


@pytest.mark.parametrize("kind", sorted(RACES))
def test_of_several_that_race_for_the_same_names_one_wins(engine: Engine, kind: str) -> None:
    def create(number: int) -> str | None:
        try:
            with transaction(engine, AllOrganizations(), write=True) as connection:
                return str(RACES[kind](connection, number).id)
        except Conflict:
            return None

    with ThreadPoolExecutor(4) as racing:
        made = list(racing.map(create, range(4)))

    assert len([identity for identity in made if identity]) == 1
    with transaction(engine, EVERYBODY) as connection:
        assert catalog_version(connection) == 1


def test_of_several_that_change_the_same_version_one_wins(engine: Engine) -> None:
    identity = multiply(engine, "1.1")

    def change(number: int) -> bool:
        try:
            with transaction(engine, EVERYBODY, write=True) as connection:
                wanted = MultiplierChange(factor=Decimal(number + 2))
                change_multiplier(connection, EVERYBODY, identity, wanted, expected_version=1)
        except Outdated:
            return False
        return True

    with ThreadPoolExecutor(4) as racing:
        assert sorted(racing.map(change, range(4))) == [False, False, False, True]
    with transaction(engine, EVERYBODY) as connection:
        assert get_multiplier(connection, EVERYBODY, identity).row_version == 2


TIMES = st.none() | st.integers(1, 30)
STEP = st.tuples(st.sampled_from(["create", "change", "delete", "switch"]), st.integers(0, 3), TIMES, TIMES)


@given(steps=st.lists(STEP, max_size=10))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_is_administered_no_moment_has_two_factors(sqlite_engine: Engine, steps: list[Any]) -> None:
    """Random administration of several multipliers under one name; refusals are fine, overlaps are not."""
    with transaction(sqlite_engine, EVERYBODY, write=True) as connection:
        made: list[str] = []
        for now, (what, which, from_us, to_us) in enumerate(steps, start=10):
            try:
                with connection.begin_nested():
                    if what == "create":
                        draft = MultiplierDraft(factor=Decimal(now), effective_from_us=from_us, effective_to_us=to_us)
                        made.append(create_multiplier(connection, EVERYBODY, draft, now_us=now).id)
                    elif made and what == "change":
                        dates = {"effective_from_us": from_us} if to_us is None else {"effective_to_us": to_us}
                        wanted = MultiplierChange(factor=Decimal(now), **dates)
                        change_multiplier(connection, EVERYBODY, made[which % len(made)], wanted, now_us=now)
                    elif made and what == "switch":
                        wanted = MultiplierChange(is_active=which % 2 == 0)
                        change_multiplier(connection, EVERYBODY, made[which % len(made)], wanted, now_us=now)
                    elif made:
                        delete_multiplier(connection, EVERYBODY, made[which % len(made)], now_us=now)
            except LedgerError:
                pass
        spans = [(one.effective_from_us, one.effective_to_us) for one in all_multipliers(connection)]
        connection.rollback()

    for moment in range(-1, 45):
        holding = [1 for begin, end in spans if (begin is None or begin <= moment) and (end is None or moment < end)]
        assert len(holding) <= 1, (moment, spans)

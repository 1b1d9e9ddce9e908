from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, delete, func, insert, select

from farebox_ledger.catalog import shipped_prices, shipped_snapshots
from farebox_ledger.pricing import Match, OffPeak, Price, PricingRequest, Rates, Tier, WebSearch, Window
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.prices import (
    catalog_version,
    ensure_shipped_prices,
    insert_prices,
    list_prices,
    load_book,
    raise_catalog_version,
)
from farebox_ledger.store.schema import organizations, price_revisions, prices
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.usage import Usage

EVERYBODY = AllOrganizations()

FULL = Price(
    id="full",
    source="override",
    provider="openai",
    model="Großes-Modell",
    currency="EUR",
    rates=Rates(
        tiers={"standard": Tier({"input_tokens": "0.00000123456789012345"})},
        region_factors={"us": "1.1"},
        off_peak=OffPeak({"input_tokens": "0.000001"}, (Window((6, 7), ((0, 1440),)),), 480),
        web_search=WebSearch("0.01", "0.02", "0.03"),
        inherits=True,
    ),
    org_id=7,
    mode="chat",
    effective_from_us=1_700_000_000_000_000,
    effective_to_us=1_800_000_000_000_000,
    source_url="https://example.com/prices",
    retired=True,
)


def test_an_empty_catalog_gets_the_shipped_prices_as_one_revision_of_each_source(engine: Engine) -> None:
    started = time.perf_counter()

    added = ensure_shipped_prices(engine)

    assert time.perf_counter() - started < 10  # 3 s on a machine with nothing else to do
    shipped = {snapshot.source: shipped_prices(snapshot) for snapshot in shipped_snapshots()}
    with transaction(engine, EVERYBODY) as connection:
        book = load_book(connection)
        revisions = {row.source: row for row in connection.execute(select(price_revisions))}
    assert added == len(book) == sum(len(one.prices) for one in shipped.values())
    assert {source: (row.revision, row.status) for source, row in revisions.items()} == {
        "litellm": ("1.109.1", "applied"),
        "genai-prices": ("0.2.3", "applied"),
    }
    for source, row in revisions.items():
        assert (row.added, row.refused) == (len(shipped[source].prices), len(shipped[source].refused))
    assert book.version == 1


def test_a_catalog_that_lacks_one_source_gets_that_one_alone(engine: Engine) -> None:
    ensure_shipped_prices(engine)
    with transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(delete(prices).where(prices.c.source == "genai-prices"))
        connection.execute(delete(price_revisions).where(price_revisions.c.source == "genai-prices"))
        kept = connection.scalar(select(func.count()).select_from(prices))

    added = ensure_shipped_prices(engine)

    with transaction(engine, EVERYBODY) as connection:
        counted = select(prices.c.source, func.count().label("count")).group_by(prices.c.source)
        listed = {row["source"]: row["count"] for row in connection.execute(counted).mappings()}
    assert listed == {"litellm": kept, "genai-prices": added}


def test_prices_come_out_of_the_database_as_they_went_in(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        make_organization(connection, 7)
        insert_prices(connection, [FULL], None)

    with transaction(engine, EVERYBODY) as connection:
        assert list(load_book(connection).prices()) == [FULL]


def test_a_catalog_that_has_prices_is_left_alone(engine: Engine) -> None:
    first = ensure_shipped_prices(engine)

    assert ensure_shipped_prices(engine) == 0

    with transaction(engine, EVERYBODY) as connection:
        assert connection.scalar(select(func.count()).select_from(prices)) == first
        assert catalog_version(connection) == 1


def test_two_processes_fill_an_empty_catalog_once(engine: Engine) -> None:
    with ThreadPoolExecutor(2) as both:
        added = sorted(both.map(lambda _: ensure_shipped_prices(engine), range(2)))

    assert added[0] == 0
    assert added[1] > 4000


def test_a_price_from_the_database_prices_as_one_from_the_file(engine: Engine) -> None:
    ensure_shipped_prices(engine)
    request = PricingRequest(
        provider="anthropic",
        request_model="claude-haiku-5-5",
        response_model=None,
        at_us=1_793_707_200_000_000,
        usage=Usage(input_tokens=100_001, output_tokens=1000),
    )

    with transaction(engine, EVERYBODY) as connection:
        book = load_book(connection)

    answer = book.resolve(request)
    assert isinstance(answer, Match)
    assert answer.price.source_url is not None
    assert book.charge(request).cost_pico == 52_500_500_000


def test_every_change_raises_the_version_by_one(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        assert catalog_version(connection) == 0
        assert [raise_catalog_version(connection) for _ in range(3)] == [1, 2, 3]

    with transaction(engine, EVERYBODY) as connection:
        assert catalog_version(connection) == 3


def test_prices_are_listed_by_name_in_pages(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        insert_prices(connection, [named("openai", "b"), named("anthropic", "z"), named("openai", "a")], None)

    with transaction(engine, EVERYBODY) as connection:
        first = list_prices(connection, EVERYBODY, limit=2)
        last = first[-1]
        rest = list_prices(connection, EVERYBODY, limit=2, after=(last.provider, last.model, last.id))

    assert [(price.provider, price.model) for price in first] == [("anthropic", "z"), ("openai", "a")]
    assert [(price.provider, price.model) for price in rest] == [("openai", "b")]


@pytest.mark.parametrize(
    ("search", "found"), [("4O", ["gpt-4o", "gpt-4o-mini"]), ("mini", ["gpt-4o-mini"]), ("%", []), ("_", ["o_1"])]
)
def test_a_search_is_a_part_of_the_name_and_no_pattern(search: str, found: list[str], engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        insert_prices(connection, [named("openai", model) for model in ("gpt-4o", "gpt-4o-mini", "o_1")], None)

    with transaction(engine, EVERYBODY) as connection:
        assert [price.model for price in list_prices(connection, EVERYBODY, search=search)] == found


def test_an_organization_sees_no_override_of_another(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        make_organization(connection, 7)
        insert_prices(connection, [FULL, named("openai", "m")], None)

    with transaction(engine, EVERYBODY) as connection:
        assert {price.id for price in list_prices(connection, OrgScope(7), provider="OpenAI")} == {"full", "openai/m"}
        assert {price.id for price in list_prices(connection, OrgScope(8), provider="OpenAI")} == {"openai/m"}


def named(provider: str, model: str) -> Price:
    return Price(
        id=f"{provider}/{model}",
        source="litellm",
        provider=provider,
        model=model,
        rates=Rates(tiers={"standard": Tier({"input_tokens": "0.1"})}),
    )


def make_organization(connection: Connection, org_id: int) -> None:

    connection.execute(insert(organizations).values(org_id=org_id, slug=f"org-{org_id}", created_at_us=0))

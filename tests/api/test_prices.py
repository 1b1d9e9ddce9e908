"""The catalog, resolution and quotes, over prices put into the books."""

from __future__ import annotations

import msgspec
import pytest

from farebox_api.schemas import prices as schemas
from farebox_api.schemas.usage import CostLineAnswer
from farebox_ledger.pricing import Price, Rates, Tier, quoting
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.prices import insert_prices, raise_catalog_version
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.usage import org_id_of
from tests.api.conftest import Api
from tests.api.test_organizations import walk
from tests.ledger.store.bookings import at

BOUNDARY = "2026-07-01T00:00:00Z"


def price(identity: str, model: str, input_rate: str, **fields: object) -> Price:
    rates = Rates(tiers={"standard": Tier({"input_tokens": input_rate, "output_tokens": "0.00001"})})
    return Price(id=identity, source="litellm", provider="openai", model=model, rates=rates, **fields)  # type: ignore[arg-type]


OLD = price("ltl_old", "gpt-4o", "0.000005", effective_to_us=at(BOUNDARY))
NEW = price("ltl_new", "gpt-4o", "0.0000025", effective_from_us=at(BOUNDARY))
MINI = price("ltl_mini", "gpt-4o-mini", "0.00000015")
OVERRIDE = msgspec.structs.replace(
    price("ovr_acme", "gpt-4o-mini", "0.0000001"), source="override", org_id=org_id_of("acme")
)


@pytest.fixture
def priced(api: Api) -> Api:
    """An API over four prices, one of them acme's own."""
    add(api, OLD, NEW, MINI, OVERRIDE)
    return api


def add(api: Api, *prices: Price) -> None:
    with transaction(api.engine, AllOrganizations(), write=True) as connection:
        insert_prices(connection, prices, None)
        raise_catalog_version(connection)


def test_the_price_that_holds_at_a_time_is_found_and_the_loser_named(priced: Api) -> None:
    before = priced.json("/v1/prices/resolve", provider="openai", model="gpt-4o", at="2026-06-30T23:59:59.999999Z")
    after = priced.json("/v1/prices/resolve", provider="openai", model="gpt-4o", at=BOUNDARY)

    assert (before["price"]["id"], before["rates"]["tiers"]["standard"]["rates"]["input_tokens"]) == (
        "ltl_old",
        "0.000005",
    )
    assert (after["price"]["id"], after["rates"]["tiers"]["standard"]["rates"]["input_tokens"]) == (
        "ltl_new",
        "0.0000025",
    )
    assert (after["reason"], after["currency"], after["multiplier"]) == (None, "USD", None)
    assert any("ltl_old" in line for line in after["rejected"])


def test_a_model_without_price_is_answered_with_the_reason(priced: Api) -> None:
    answer = priced.json("/v1/prices/resolve", provider="openai", model="no-such-model")

    assert (answer["price"], answer["rates"], answer["reason"]) == (None, None, "unknown_model")
    assert answer["rejected"]


def test_an_override_holds_for_its_organization_alone(priced: Api) -> None:
    question = {"provider": "openai", "model": "gpt-4o-mini"}

    assert priced.json("/v1/prices/resolve", **question)["price"]["id"] == "ovr_acme"
    assert priced.json("/v1/prices/resolve", priced.zenith_key, **question)["price"]["id"] == "ltl_mini"
    assert priced.json("/v1/prices/resolve", priced.system_key, **question)["price"]["id"] == "ltl_mini"
    named = priced.json("/v1/prices/resolve", priced.system_key, organization="acme", **question)
    assert named["price"]["id"] == "ovr_acme"
    assert priced.get("/v1/prices/resolve", priced.zenith_key, organization="acme", **question).status_code == 404


def test_a_changed_catalog_is_used_at_once(priced: Api) -> None:
    question = {"provider": "openai", "model": "gpt-9"}
    assert priced.json("/v1/prices/resolve", **question)["price"] is None

    add(priced, price("ltl_nine", "gpt-9", "0.00001"))

    assert priced.json("/v1/prices/resolve", **question)["price"]["id"] == "ltl_nine"


def test_the_catalog_is_listed_with_ones_own_overrides(priced: Api) -> None:
    mine = [item for page in walk(priced, "/v1/prices", 1) for item in page]
    theirs = [item["id"] for page in walk(priced, "/v1/prices", 2, priced.zenith_key) for item in page]

    assert [item["id"] for item in mine] == ["ltl_new", "ltl_old", "ltl_mini", "ovr_acme"]
    assert [item["organization"] for item in mine] == [None, None, None, "acme"]
    assert (mine[0]["effective_from"], mine[0]["effective_to"]) == ("2026-07-01T00:00:00.000000Z", None)
    assert mine[0]["rates"] == {
        "tiers": {"standard": {"rates": {"input_tokens": "0.0000025", "output_tokens": "0.00001"}}}
    }
    assert theirs == ["ltl_new", "ltl_old", "ltl_mini"]


def test_the_catalog_is_searched_by_a_part_of_the_name(priced: Api) -> None:
    assert [item["id"] for item in priced.json("/v1/prices", search="MINI")["items"]] == ["ltl_mini", "ovr_acme"]
    assert [item["id"] for item in priced.json("/v1/prices", search="%")["items"]] == []
    assert priced.json("/v1/prices", provider="anthropic")["items"] == []


def test_a_quote_shows_its_lines_and_their_exact_sum(priced: Api) -> None:
    call = {
        "id": {"mine": 1},
        "provider": "openai",
        "model": "gpt-4o",
        "at": BOUNDARY,
        "usage": {"input_tokens": 1000, "output_tokens": 200},
    }

    response = priced.post("/v1/prices/quote", {"items": [call]}, priced.zenith_key)

    assert response.status_code == 200
    (quote,) = response.json()["items"]
    assert quote == {
        "id": {"mine": 1},
        "status": "billed",
        "reason": None,
        "detail": None,
        "currency": "USD",
        "cost": "0.0045",
        "list_cost": "0.0045",
        "price": {
            "id": "ltl_new",
            "source": "litellm",
            "provider": "openai",
            "model": "gpt-4o",
            "match_rule": "exact",
            "effective_from": "2026-07-01T00:00:00Z",
        },
        "lines": [
            {
                "dimension": "input_tokens",
                "quantity": 1000,
                "unit_price": "0.0000025",
                "multiplier": "1",
                "list_amount": "0.0025",
                "amount": "0.0025",
            },
            {
                "dimension": "output_tokens",
                "quantity": 200,
                "unit_price": "0.00001",
                "multiplier": "1",
                "list_amount": "0.002",
                "amount": "0.002",
            },
        ],
    }


def test_quotes_of_an_organization_use_its_own_prices(priced: Api) -> None:
    call = {"provider": "openai", "model": "gpt-4o-mini", "usage": {"input_tokens": 10**6}}

    def cost(key: str, **more: str) -> object:
        return priced.post("/v1/prices/quote", {"items": [call | more]}, key).json()["items"][0]["cost"]

    assert cost(priced.acme_key) == "0.1"
    assert cost(priced.zenith_key) == "0.15"
    assert cost(priced.system_key) == "0.15"
    assert cost(priced.system_key, organization="acme") == "0.1"
    foreign = priced.post("/v1/prices/quote", {"items": [call | {"organization": "acme"}]}, priced.zenith_key)
    assert foreign.status_code == 404


def test_the_documented_quote_has_the_members_that_the_ledger_reads_and_writes() -> None:
    pairs = [
        (schemas.QuoteInput, quoting.QuoteRequest),
        (schemas.QuotedUsageInput, quoting.QuotedUsage),
        (schemas.QuoteAnswer, quoting.Quote),
        (CostLineAnswer, quoting.QuotedLine),
    ]

    for documented, real in pairs:
        assert set(documented.__struct_fields__) == set(real.__struct_fields__)

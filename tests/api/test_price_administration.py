"""Overrides, multipliers, aliases, configurations and upstreams over the API, for two tenants and the system."""

from __future__ import annotations

from typing import Any

import pytest

from farebox_ledger.pricing import Price, Rates, Tier
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.prices import insert_prices, raise_catalog_version
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.writing import book
from tests.api.conftest import Api, bearer
from tests.api.test_organizations import walk
from tests.ledger.store.bookings import booking

OVERRIDE = {
    "provider": "openai",
    "model": "gpt-4o",
    "unit": "1m",
    "prices": {"input_tokens": "2.5", "output_tokens": 10},
}
BODIES: dict[str, dict[str, Any]] = {
    "price-overrides": OVERRIDE,
    "multipliers": {"factor": "1.2", "upstream": "reseller"},
    "model-aliases": {"alias": "chat-prod", "target_model": "gpt-4o", "provider": "azure"},
    "model-configs": {"name": "support bot", "provider": "openai", "model": "gpt-4o"},
    "upstreams": {"name": "reseller", "provider": "openai"},
}
CHANGES: dict[str, dict[str, Any]] = {
    "price-overrides": {"prices": {"output_tokens": "12"}},
    "multipliers": {"factor": 1.5},
    "model-aliases": {"target_model": "gpt-4o-mini"},
    "model-configs": {"name": "sales bot"},
    "upstreams": {"provider": None},
}
RESOURCES = sorted(BODIES)
CALL = {"model": "gpt-4o", "provider": "openai", "usage": {"input_tokens": 1_000_000, "output_tokens": 1_000_000}}


@pytest.fixture
def api(api: Api) -> Api:
    """An API over one synced price: 2 in, 8 out for a million tokens each."""
    rates = Rates(tiers={"standard": Tier({"input_tokens": "0.000002", "output_tokens": "0.000008"})})
    with transaction(api.engine, AllOrganizations(), write=True) as connection:
        price = Price(id="ltl_1", source="litellm", provider="openai", model="gpt-4o", rates=rates)
        insert_prices(connection, [price], None)
        raise_catalog_version(connection)
    return api


def make(api: Api, resource: str, key: str | None = None, **fields: Any) -> Any:
    response = api.post(f"/v1/{resource}", {**BODIES[resource], **fields}, key)
    assert response.status_code == 201, response.text
    return response.json()


def patch(api: Api, path: str, body: Any, key: str | None = None, **headers: str) -> Any:
    return api.client.patch(path, json=body, headers={**bearer(key or api.acme_key), **headers})


def delete(api: Api, path: str, key: str | None = None, **headers: str) -> Any:
    return api.client.delete(path, headers={**bearer(key or api.acme_key), **headers})


def quote(api: Api, key: str | None = None, **fields: Any) -> Any:
    response = api.post("/v1/prices/quote", {"items": [{**CALL, **fields}]}, key)
    assert response.status_code == 200, response.text
    return response.json()["items"][0]


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_thing_is_made_read_changed_and_deleted(api: Api, resource: str) -> None:
    response = api.post(f"/v1/{resource}", BODIES[resource])
    made = response.json()
    path = f"/v1/{resource}/{made['id']}"
    assert (response.status_code, response.headers["location"], response.headers["etag"]) == (201, path, '"1"')
    assert (made["organization"], made["row_version"], made["is_active"]) == ("acme", 1, True)

    read = api.get(path)
    assert (read.json(), read.headers["etag"]) == (made, '"1"')
    assert api.json(f"/v1/{resource}")["items"] == [made]

    changed = patch(api, path, {**CHANGES[resource], "notes": "agreed"})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json()["notes"], changed.json()["created_at"]) == ("agreed", made["created_at"])
    assert changed.json()["updated_at"] > made["updated_at"]
    assert api.get(path).json() == changed.json()

    deleted = delete(api, path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert api.get(path).status_code == patch(api, path, {}).status_code == delete(api, path).status_code == 404
    assert api.json(f"/v1/{resource}")["items"] == []


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_change_of_an_old_version_is_412(api: Api, resource: str) -> None:
    path = f"/v1/{resource}/{make(api, resource)['id']}"
    assert patch(api, path, {"notes": "first"}, **{"If-Match": '"1"'}).status_code == 200

    late = patch(api, path, {"notes": "second"}, **{"If-Match": '"1"'})
    late_delete = delete(api, path, **{"If-Match": '"1"'})

    assert (late.status_code, late_delete.status_code) == (412, 412)
    assert late.json()["type"] == "urn:farebox:problem:precondition-failed"
    assert "version 2, not 1" in late.json()["detail"]
    assert patch(api, path, {"notes": "third"}, **{"If-Match": "*"}).json()["notes"] == "third"
    assert patch(api, path, {}, **{"If-Match": "3"}).json()["errors"][0]["parameter"] == "If-Match"
    assert delete(api, path, **{"If-Match": '"3"'}).status_code == 204


@pytest.mark.parametrize("resource", RESOURCES)
def test_another_organizations_things_do_not_exist(api: Api, resource: str) -> None:
    path = f"/v1/{resource}/{make(api, resource)['id']}"

    answers = [
        api.get(path, api.zenith_key),
        patch(api, path, {"notes": "mine"}, api.zenith_key),
        delete(api, path, api.zenith_key),
        api.post(f"/v1/{resource}", {**BODIES[resource], "organization": "acme"}, api.zenith_key),
        api.get(f"/v1/{resource}", api.zenith_key, organization="acme"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 5
    assert api.json(f"/v1/{resource}", api.zenith_key)["items"] == []
    assert api.json(f"/v1/{resource}")["items"][0]["notes"] is None


@pytest.mark.parametrize("resource", [resource for resource in RESOURCES if resource != "model-configs"])
def test_what_holds_for_everybody_is_seen_by_all_and_changed_by_the_system(api: Api, resource: str) -> None:
    made = make(api, resource, api.system_key)
    path = f"/v1/{resource}/{made['id']}"

    assert made["organization"] is None
    assert api.json(path) == made
    assert [patch(api, path, {"notes": "x"}).status_code, delete(api, path).status_code] == [403, 403]
    assert patch(api, path, {"notes": "x"}, api.system_key).status_code == 200
    assert delete(api, path, api.system_key).status_code == 204


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_system_key_manages_what_belongs_to_an_organization(api: Api, resource: str) -> None:
    made = make(api, resource, api.system_key, organization="zenith")

    assert made["organization"] == "zenith"
    assert api.json(f"/v1/{resource}", api.zenith_key)["items"] == [made]
    assert api.json(f"/v1/{resource}", api.system_key, organization="zenith")["items"] == [made]
    assert api.json(f"/v1/{resource}", api.system_key, organization="acme")["items"] == []
    assert api.json(f"/v1/{resource}", api.system_key)["items"] == [made]


def test_a_system_key_has_to_say_whose_configuration_it_makes(api: Api) -> None:
    response = api.post("/v1/model-configs", BODIES["model-configs"], api.system_key)

    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, "/organization")


@pytest.mark.parametrize("resource", RESOURCES)
def test_reading_and_writing_take_their_scopes(api: Api, resource: str) -> None:
    path = f"/v1/{resource}/{make(api, resource)['id']}"
    reader, writer = api.make_key("acme", "prices:read"), api.make_key("acme", "prices:write")

    assert [api.get(path, reader).status_code, api.get(f"/v1/{resource}", reader).status_code] == [200, 200]
    refused = [
        api.post(f"/v1/{resource}", BODIES[resource], reader),
        patch(api, path, {}, reader),
        delete(api, path, reader),
        api.get(path, writer),
    ]
    assert [answer.status_code for answer in refused] == [403] * 4
    assert patch(api, path, {"notes": "x"}, writer).status_code == 200
    assert delete(api, path, writer).status_code == 204


@pytest.mark.parametrize("resource", RESOURCES)
def test_bodies_are_strict(api: Api, resource: str) -> None:
    path = f"/v1/{resource}/{make(api, resource)['id']}"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"nots": "x"}, "/nots"),
        ({"notes": 5}, "/notes"),
        ({"notes": "x" * 2001}, "/notes"),
        ({"notes": "a\0b"}, "/notes"),
        ({"is_active": "yes"}, "/is_active"),
        ({"id": "other"}, "/id"),
        ({"row_version": 9}, "/row_version"),
    ]

    for body, pointer in wrong:
        for response in (patch(api, path, body), api.post(f"/v1/{resource}", {**BODIES[resource], **body})):
            assert response.status_code == 400, body
            assert response.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_list_is_paged_by_cursors(api: Api, resource: str) -> None:
    distinct = {
        "price-overrides": "model",
        "multipliers": "upstream",
        "model-aliases": "alias",
        "model-configs": "name",
        "upstreams": "name",
    }[resource]
    made = [make(api, resource, **{distinct: f"name-{number}"})["id"] for number in range(5)]

    pages = walk(api, f"/v1/{resource}", 2)

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [item["id"] for page in pages for item in page] == made


def test_an_override_shows_its_prices_in_any_unit(api: Api) -> None:
    made = make(api, "price-overrides", bands=[{"above_tokens": 200_000, "prices": {"input_tokens": "5"}}])

    assert (made["unit"], made["prices"]) == ("1m", {"input_tokens": "2.5", "output_tokens": "10"})
    path = f"/v1/price-overrides/{made['id']}"
    assert api.json(path, unit="1k")["prices"] == {"input_tokens": "0.0025", "output_tokens": "0.01"}
    assert api.json(path, unit="token")["bands"][0]["prices"] == {"input_tokens": "0.000005"}
    assert api.get(path, unit="2m").json()["errors"][0]["parameter"] == "unit"


def test_P15_D58_an_override_shows_and_changes_cache_prices(api: Api) -> None:
    prices = {"input_tokens": "3", "cache_read_input_tokens": "0.3", "cache_write_input_tokens": "3.75"}
    made = make(api, "price-overrides", prices=prices)
    assert made["prices"] == prices

    changed = patch(api, f"/v1/price-overrides/{made['id']}", {"prices": {"cache_read_input_tokens": "0.6"}}).json()

    assert changed["prices"] == prices | {"cache_read_input_tokens": "0.6"}
    usage = {"input_tokens": 1_000_000, "cache_read_input_tokens": 500_000, "cache_write_input_tokens": {"5m": 100_000}}
    quoted = quote(api, usage=usage)
    assert {line["dimension"]: line["amount"] for line in quoted["lines"]} == {
        "input_tokens": "1.2",
        "cache_read_input_tokens": "0.3",
        "cache_write_5m_input_tokens": "0.375",
    }


def test_D48_an_override_prices_images_each(api: Api) -> None:
    made = make(api, "price-overrides", prices={"input_images": "0.002", "output_images": "0.04"})

    assert made["prices"] == {"input_images": "0.002", "output_images": "0.04"}
    assert quote(api, usage={"input_images": 3, "output_images": 2})["cost"] == "0.086"


def test_a_change_of_prices_keeps_the_old_price_in_the_history(api: Api) -> None:
    made = make(api, "price-overrides")

    changed = patch(api, f"/v1/price-overrides/{made['id']}", {"prices": {"output_tokens": "12"}}).json()

    old, new = changed["history"]
    assert (old["id"], new["id"]) == (made["price_id"], changed["price_id"])
    assert (old["effective_to"], old["effective_from"]) == (new["effective_from"], None)
    assert (old["price"]["prices"]["output_tokens"], new["price"]["prices"]["output_tokens"]) == ("10", "12")
    assert changed["prices"] == {"input_tokens": "2.5", "output_tokens": "12"}


def test_an_override_is_quoted_at_once_and_for_its_organization_alone(api: Api) -> None:
    assert quote(api)["cost"] == "10"

    made = make(api, "price-overrides")

    assert (quote(api)["cost"], quote(api)["price"]["id"]) == ("12.5", made["price_id"])
    assert quote(api, api.zenith_key)["cost"] == "10"
    delete(api, f"/v1/price-overrides/{made['id']}")
    assert quote(api)["cost"] == "10"


def test_a_scheduled_override_waits_for_its_day(api: Api) -> None:
    made = make(api, "price-overrides", effective_from="2090-01-01T02:00:00+02:00", effective_to="2091-01-01T00:00:00Z")

    assert (made["status"], made["effective_from"]) == ("scheduled", "2090-01-01T00:00:00.000000Z")
    assert (quote(api)["cost"], quote(api, at="2090-01-01T00:00:00Z")["cost"]) == ("10", "12.5")
    assert quote(api, at="2091-01-01T00:00:00Z")["cost"] == "10"


def test_an_overlap_is_409_with_the_id_of_what_stands(api: Api) -> None:
    for resource in ("price-overrides", "multipliers", "model-aliases", "model-configs", "upstreams"):
        made = make(api, resource)

        response = api.post(f"/v1/{resource}", BODIES[resource])

        assert response.status_code == 409, resource
        assert response.json()["conflicting_id"] == made["id"]
        assert made["id"] in response.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"prices": {"input_tokens": -1}}, "/prices/input_tokens"),
        ({"prices": {"input_tokens": "NaN"}}, "/prices/input_tokens"),
        ({"prices": {"input_tokens": "Infinity"}}, "/prices/input_tokens"),
        ({"prices": {"input_tokens": "1e400"}}, "/prices/input_tokens"),
        ({"prices": {"input_tokens": "0.0000000000001"}}, "/prices/input_tokens"),
        ({"prices": {"input_tokens": "cheap"}}, "/prices/input_tokens"),
        ({"prices": {"input_tokens": True}}, "/prices/input_tokens"),
        ({"prices": {"input_tokens": None}}, "/prices/input_tokens"),
        ({"prices": {"input_tokens": "1_0"}}, "/prices/input_tokens"),
        ({"prices": {"input_token": "1"}}, "/prices/input_token"),
        ({"prices": {}}, "/prices"),
        ({"prices": "2.5"}, "/prices"),
        ({"model": " "}, "/model"),
        ({"provider": ""}, "/provider"),
        ({"currency": "usd"}, "/currency"),
        ({"unit": "1000"}, "/unit"),
        ({"unit": None}, "/unit"),
        ({"effective_from": "2026-01-01"}, "/effective_from"),
        ({"effective_to": "soon"}, "/effective_to"),
        ({"effective_from": "2026-01-01T00:00:00Z", "effective_to": "2026-01-01T00:00:00Z"}, "/effective_to"),
        ({"bands": [{"above_tokens": 5, "prices": {"input_tokens": "x"}}]}, "/bands/0/prices/input_tokens"),
        ({"tiers": {"batch": {"prices": {"input_tokens": "-1"}}}}, "/tiers/batch/prices/input_tokens"),
        ({"tiers": {"auto": {"prices": {"input_tokens": "1"}}}}, "/tiers/auto"),
        ({"source_url": "ftp://x"}, "/source_url"),
        ({"free": True}, "/free"),
        ({"organization": "ACME!"}, "/organization"),
    ],
    ids=str,
)
def test_a_wrong_override_is_pointed_into(api: Api, fields: dict[str, Any], pointer: str) -> None:
    response = api.post("/v1/price-overrides", {**OVERRIDE, **fields})

    assert response.status_code == 400, response.text
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize("number", ["1.5", "0.1e1", "1E2", "1e400", "-0.5"])
def test_a_price_as_a_number_with_a_fraction_is_refused_with_the_cure(api: Api, number: str) -> None:
    body = f'{{"provider": "openai", "model": "m", "unit": "1m", "prices": {{"input_tokens": {number}}}}}'

    response = api.client.post("/v1/price-overrides", content=body, headers=bearer(api.acme_key))

    assert response.status_code == 400
    assert response.json()["errors"] == [
        {
            "pointer": "/prices/input_tokens",
            "detail": 'expected a decimal such as "2.5" as text: a number with a fraction may be a float',
        }
    ]


def test_text_keeps_all_its_digits(api: Api) -> None:
    made = make(api, "price-overrides", prices={"input_tokens": "1234567.123456789012"})

    assert made["prices"] == {"input_tokens": "1234567.123456789012"}


@pytest.mark.parametrize("factor", ["0", 0, -1, "-0.5", "1000.000000000001", "NaN", "text", True, None, "1e-400", []])
def test_a_factor_is_above_0_and_at_most_1000(api: Api, factor: Any) -> None:
    response = api.post("/v1/multipliers", {"factor": factor})

    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == ["/factor"]


def test_multipliers_are_quoted_by_precedence(api: Api) -> None:
    make(api, "multipliers", api.system_key, factor="2", upstream=None)
    assert (quote(api)["cost"], quote(api)["list_cost"], quote(api, api.zenith_key)["cost"]) == ("20", "10", "20")

    made = make(api, "multipliers", factor="1.1", upstream=None)
    assert (quote(api)["cost"], quote(api, api.zenith_key)["cost"]) == ("11", "20")

    make(api, "multipliers", factor="1000", upstream="reseller")
    assert (quote(api, upstream="reseller")["cost"], quote(api)["cost"]) == ("10000", "11")

    patch(api, f"/v1/multipliers/{made['id']}", {"factor": "1.25"})
    assert quote(api)["cost"] == "12.5"
    assert api.json("/v1/multipliers", upstream="reseller")["items"][0]["factor"] == "1000"


def test_an_alias_finds_the_price_of_its_target(api: Api) -> None:
    call = {"model": "chat-prod", "provider": "azure"}
    assert quote(api, **call)["reason"] == "unknown_provider"

    make(api, "model-aliases", target_provider="openai")

    found = quote(api, **call)
    assert (found["cost"], found["price"]["id"], found["price"]["match_rule"]) == (
        "10",
        "ltl_1",
        "alias:cross_provider:exact",
    )
    assert quote(api, api.zenith_key, **call)["cost"] is None


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"alias": ""}, "/alias"),
        ({"target_model": " "}, "/target_model"),
        ({"target_model": "Chat-Prod"}, "/target_model"),
        ({"provider": ""}, "/provider"),
        ({"target_provider": ""}, "/target_provider"),
        ({"model_config": "mcf_none"}, "/model_config"),
    ],
    ids=str,
)
def test_a_wrong_alias_is_pointed_into(api: Api, fields: dict[str, Any], pointer: str) -> None:
    response = api.post("/v1/model-aliases", {**BODIES["model-aliases"], **fields})

    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


def test_a_configuration_brings_prices_and_takes_them_away(api: Api) -> None:
    made = make(api, "model-configs", unit="1k", prices={"input_tokens": "0.003"}, currency="EUR")
    path = f"/v1/model-configs/{made['id']}"

    assert (made["price"]["prices"], made["price"]["currency"]) == ({"input_tokens": "0.003"}, "EUR")
    assert quote(api)["price"]["id"] == api.json(f"/v1/price-overrides/{made['price_override']}")["price_id"]
    assert quote(api)["cost"] == "11"  # 3 in, and the catalog's 8 out

    changed = patch(api, path, {"prices": {"output_tokens": "0.009"}}).json()
    assert changed["price"]["prices"] == {"input_tokens": "0.003", "output_tokens": "0.009"}
    assert api.json(path, unit="1m")["price"]["prices"] == {"input_tokens": "3", "output_tokens": "9"}
    assert quote(api)["cost"] == "12"

    bare = patch(api, path, {"prices": None}).json()
    assert (bare["price"], bare["price_override"], quote(api)["cost"]) == (None, None, "10")


def test_an_organization_has_one_default_configuration(api: Api) -> None:
    first = make(api, "model-configs", is_default=True)
    second = make(api, "model-configs", name="other", is_default=True)

    assert [api.json(f"/v1/model-configs/{one['id']}")["is_default"] for one in (first, second)] == [False, True]


def test_A08_a_row_carries_the_name_of_its_configuration(api: Api) -> None:
    made = make(api, "model-configs")
    with transaction(api.engine, AllOrganizations(), write=True) as connection:
        told = [booking(1, model_config=made["id"]), booking(2, model_config="nobody's"), booking(3)]
        book(connection, AllOrganizations(), told, collector_id="c", batch_ids=(), writer_slot=1)

    named = {(row["model_config"], row["model_config_name"]) for row in api.json("/v1/usage")["items"]}

    assert named == {(made["id"], "support bot"), ("nobody's", None), (None, None)}


def test_an_upstream_that_a_multiplier_names_is_not_deleted(api: Api) -> None:
    upstream, multiplier = make(api, "upstreams"), make(api, "multipliers")

    response = delete(api, f"/v1/upstreams/{upstream['id']}")

    assert (response.status_code, response.json()["conflicting_id"]) == (409, multiplier["id"])
    delete(api, f"/v1/multipliers/{multiplier['id']}")
    assert delete(api, f"/v1/upstreams/{upstream['id']}").status_code == 204

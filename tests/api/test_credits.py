"""Credits over the API: accounts, grants, purchases, adjustments, voids, transactions, balances; for two tenants."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from farebox_ledger.store.engine import transaction
from farebox_ledger.store.writing import book
from tests.api.conftest import Api, bearer
from tests.ledger.store.bookings import EVERYBODY, NOON, booking

READS = ("accounts", "grants", "purchases", "adjustments", "transactions", "balance")
BODIES: dict[str, dict[str, Any]] = {
    "accounts": {"user": "ann"},
    "grants": {"amount": "10"},
    "purchases": {"amount": 10, "external_id": "pay_1"},
    "adjustments": {"amount": "-1.5", "description": "goodwill"},
}


def make(api: Api, resource: str, key: str | None = None, **fields: Any) -> Any:
    response = api.post(f"/v1/credits/{resource}", {**BODIES[resource], **fields}, key)
    assert response.status_code == 201, response.text
    return response.json()


def open_account(api: Api, key: str | None = None, **fields: Any) -> Any:
    response = api.post("/v1/credits/accounts", fields, key)
    assert response.status_code == 201, response.text
    return response.json()


def use(api: Api, count: int = 1, **facts: Any) -> None:
    """Book calls of 0.0045 USD each."""
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        bookings = [booking(number, **facts) for number in range(1, count + 1)]
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def balance(api: Api, key: str | None = None, **asked: Any) -> str:
    (item,) = api.json("/v1/credits/balance", key, **asked)["items"]
    return str(item["balance"])


def test_l06_d70_a_users_balance_follows_every_call(api: Api) -> None:
    account = open_account(api, user="ann")
    make(api, "grants", account=account["id"], amount="1")

    use(api, 3, user="ann")

    assert balance(api, user="ann") == "0.9865"


def test_a_balance_below_nothing_is_shown_as_it_is(api: Api) -> None:
    open_account(api)

    use(api)

    (item,) = api.json("/v1/credits/balance")["items"]
    assert (item["balance"], item["currency"], item["by_type"]) == (
        "-0.0045",
        "USD",
        [{"type": "usage_deduction", "amount": "-0.0045"}],
    )


def test_a_balance_is_that_of_its_moment(api: Api) -> None:
    open_account(api)
    make(api, "grants", effective_at="2026-03-01T00:00:00Z")
    use(api)

    moments = ("2026-02-28T23:59:59Z", "2026-03-10T11:59:59.999999Z", "2026-03-10T15:00:00+03:00")

    assert [balance(api, as_of=moment) for moment in moments] == ["0", "10", "9.9955"]


def test_l01_l02_each_type_has_its_sign(api: Api) -> None:
    open_account(api)
    make(api, "grants", kind="initial_grant", amount="5")
    make(api, "grants", amount="4")
    make(api, "purchases", amount="3")
    make(api, "adjustments", amount="2")
    make(api, "adjustments", amount="0.5", kind="refund")
    make(api, "adjustments", amount="-1")
    use(api)

    listed = api.json("/v1/credits/transactions")["items"]

    assert sorted((one["type"], one["amount"]) for one in listed) == [
        ("adjustment", "-1"),
        ("adjustment", "2"),
        ("grant", "4"),
        ("initial_grant", "5"),
        ("purchase", "3"),
        ("refund", "0.5"),
        ("usage_deduction", "-0.0045"),
    ]
    assert sum(Decimal(one["amount"]) for one in listed) == Decimal(balance(api))


def test_d63_d64_d65_d66_d67_d69_l05_l11_a_deduction_names_user_project_call_and_cost(api: Api) -> None:
    account = open_account(api, rate="100")
    use(api, user="ann", project="alpha")
    (row,) = api.json("/v1/usage")["items"]

    (deduction,) = api.json("/v1/credits/transactions", user="ann", project="alpha")["items"]

    created_at, identity = deduction.pop("created_at"), deduction.pop("id")
    assert deduction == {
        "organization": "acme",
        "account": account["id"],
        "user": "ann",
        "project": "alpha",
        "type": "usage_deduction",
        "amount": "-0.45",
        "currency": "USD",
        "real_cost": "0.0045",
        "usage_id": row["id"],
        "grant": None,
        "external_id": None,
        "description": None,
        "created_by": None,
        "occurred_at": "2026-03-10T12:00:00.000000Z",
        "entries": [
            {"ledger_account": "customer", "amount": "-0.45"},
            {"ledger_account": "usage", "amount": "0.45"},
        ],
    }
    assert created_at.endswith("Z")
    assert identity.startswith("ctx_")


def test_l07_d68_a_payment_told_twice_counts_once(api: Api) -> None:
    open_account(api)

    first = make(api, "purchases", amount="25", paid="19.99", external_id="pay_7")
    again = make(api, "purchases", amount="25", paid="19.99", external_id="pay_7")

    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["id"] == again["id"]
    assert balance(api) == "25"
    (bought,) = api.json("/v1/credits/transactions", type="purchase")["items"]
    assert (bought["external_id"], bought["real_cost"], bought["grant"]) == ("pay_7", "19.99", first["id"])
    assert [one["id"] for one in api.json("/v1/credits/purchases")["items"]] == [first["id"]]


@pytest.mark.parametrize("resource", ["grants", "purchases", "adjustments"])
def test_an_external_id_with_another_content_is_a_conflict(api: Api, resource: str) -> None:
    open_account(api)
    make(api, resource, external_id="x", amount="3")

    response = api.post(f"/v1/credits/{resource}", {**BODIES[resource], "external_id": "x", "amount": "4"})

    assert response.status_code == 409
    assert balance(api) == "3"


@pytest.mark.parametrize("resource", ["grants", "purchases", "adjustments"])
def test_an_external_id_told_again_is_done_once(api: Api, resource: str) -> None:
    open_account(api)

    for _ in range(2):
        make(api, resource, external_id="x", amount="3")

    assert balance(api) == "3"


def test_a_taking_adjustment_told_again_is_done_once(api: Api) -> None:
    open_account(api)

    for _ in range(2):
        make(api, "adjustments", external_id="x", amount="-3")

    assert balance(api) == "-3"


def test_l08_a16_a_users_transactions_are_listed_newest_first_page_by_page(api: Api) -> None:
    open_account(api)
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        bookings = [
            booking(number, user="ann" if number % 2 else "bob", occurred_at_us=NOON + number)
            for number in range(1, 12)
        ]
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)

    seen: list[str] = []
    cursor = None
    while True:
        asked = {"user": "ann", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.json("/v1/credits/transactions", **asked)
        seen += [one["occurred_at"][-4:] for one in page["items"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break

    assert seen == ["011Z", "009Z", "007Z", "005Z", "003Z", "001Z"]


def test_a_cursor_belongs_to_its_question(api: Api) -> None:
    open_account(api)
    use(api, 3)
    cursor = api.json("/v1/credits/transactions", limit=1)["next_cursor"]

    response = api.get("/v1/credits/transactions", limit=1, cursor=cursor, user="ann")

    assert response.status_code == 400
    assert [error["parameter"] for error in response.json()["errors"]] == ["cursor"]


def test_accounts_and_grants_are_listed_page_by_page(api: Api) -> None:
    accounts = [open_account(api, user=f"user {number}")["id"] for number in range(5)]
    made = [make(api, "grants", account=accounts[0])["id"] for _ in range(5)]

    assert walked(api, "accounts") == accounts
    assert walked(api, "grants") == made[::-1]


def walked(api: Api, resource: str) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = api.json(f"/v1/credits/{resource}", limit=2, **({"cursor": cursor} if cursor else {}))
        found += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_a_void_takes_back_what_is_left_and_keeps_what_was_paid(api: Api) -> None:
    open_account(api)
    made = make(api, "grants", amount="1", effective_at="2026-03-01T00:00:00Z")
    use(api)

    response = void(api, made["id"])

    assert response.status_code == 200, response.text
    assert (response.json()["status"], response.json()["remaining"]) == ("void", "0")
    (taken,) = api.json("/v1/credits/transactions", type="void")["items"]
    assert (taken["amount"], taken["description"], taken["grant"]) == ("-0.9955", "a mistake", made["id"])
    assert balance(api) == "0"


def test_a_void_is_refused_when_somebody_was_faster(api: Api) -> None:
    open_account(api)
    response = api.post("/v1/credits/grants", BODIES["grants"])
    identity, etag = response.json()["id"], response.headers["ETag"]

    refused = void(api, identity, **{"If-Match": '"7"'})
    done = void(api, identity, **{"If-Match": etag})
    again = void(api, identity)

    assert (refused.status_code, done.status_code, again.status_code) == (412, 200, 409)
    assert done.headers["ETag"] == '"2"'
    assert api.get(f"/v1/credits/grants/{identity}").headers["ETag"] == '"2"'


def void(api: Api, identity: str, key: str | None = None, **headers: str) -> Any:
    return api.client.post(
        f"/v1/credits/grants/{identity}/void",
        json={"reason": "a mistake"},
        headers={**bearer(key or api.acme_key), **headers},
    )


def test_a_grant_tells_what_is_left_of_it(api: Api) -> None:
    open_account(api)

    made = make(api, "grants", amount="2", priority=5, expires_at="2099-01-01T00:00:00Z", description="welcome")

    assert (made["status"], made["remaining"], made["priority"], made["kind"]) == ("active", "2", 5, "grant")
    assert made["expires_at"] == "2099-01-01T00:00:00.000000Z"
    shown = api.json(f"/v1/credits/grants/{made['id']}")
    assert shown == {**made, "is_new": False}


@pytest.mark.parametrize(
    ("resource", "fields", "pointer"),
    [
        ("accounts", {"rate": 0}, "/rate"),
        ("accounts", {"rate": "x"}, "/rate"),
        ("accounts", {"currency": "Dollar"}, "/currency"),
        ("accounts", {"project": "alpha"}, "/project"),
        ("accounts", {"nonsense": 1}, "/nonsense"),
        ("grants", {"amount": "-1"}, "/amount"),
        ("grants", {"amount": "0"}, "/amount"),
        ("grants", {"amount": "NaN"}, "/amount"),
        ("grants", {"amount": "0.0000000000001"}, "/amount"),
        ("grants", {"amount": 9000001}, "/amount"),
        ("grants", {"priority": -1}, "/priority"),
        ("grants", {"expires_at": "2026-01-01T00:00:00Z"}, "/expires_at"),
        ("grants", {"effective_at": "2026-01-01T00:00:00"}, "/effective_at"),
        ("grants", {"effective_at": "1999-01-01T00:00:00Z"}, "/effective_at"),
        ("grants", {"kind": "gift"}, "/kind"),
        ("purchases", {"external_id": ""}, "/external_id"),
        ("purchases", {"paid": "-1"}, "/paid"),
        ("adjustments", {"description": " "}, "/description"),
        ("adjustments", {"amount": "0"}, "/amount"),
        ("adjustments", {"kind": "refund"}, "/amount"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_its_place(api: Api, resource: str, fields: dict[str, Any], pointer: str) -> None:
    open_account(api)

    response = api.post(f"/v1/credits/{resource}", {**BODIES[resource], **fields})

    assert response.status_code == 400, response.text
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


def test_an_owner_without_an_account_is_not_found(api: Api) -> None:
    for fields in ({"user": "nobody"}, {"account": "acc_none"}, {"currency": "EUR"}):
        assert api.post("/v1/credits/grants", {"amount": "1", **fields}).status_code == 404


def test_a_system_key_says_whose_credits_it_means(api: Api) -> None:
    for resource in READS:
        response = api.get(f"/v1/credits/{resource}", api.system_key)
        assert [error["parameter"] for error in response.json()["errors"]] == ["organization"]
    assert api.post("/v1/credits/accounts", {}, api.system_key).json()["errors"][0]["pointer"] == "/organization"

    made = open_account(api, api.system_key, organization="acme")

    assert api.json("/v1/credits/accounts")["items"] == [made]


@pytest.mark.parametrize("resource", READS)
def test_the_scopes_open_reading_and_writing_apart(api: Api, resource: str) -> None:
    reader, writer = api.make_key("acme", "credits:read"), api.make_key("acme", "credits:write")

    assert api.get(f"/v1/credits/{resource}", reader).status_code == 200
    assert api.get(f"/v1/credits/{resource}", writer).status_code == 403
    if resource in BODIES:
        assert api.post(f"/v1/credits/{resource}", BODIES[resource], reader).status_code == 403


def test_a_tenant_sees_and_changes_nothing_of_another(api: Api) -> None:
    account = open_account(api)
    made = make(api, "grants")
    use(api)
    tries: list[Callable[[], Any]] = [
        lambda: api.get(f"/v1/credits/grants/{made['id']}", api.zenith_key),
        lambda: void(api, made["id"], api.zenith_key),
        lambda: api.get("/v1/credits/balance", api.zenith_key, account=account["id"]),
        lambda: api.get("/v1/credits/transactions", api.zenith_key, organization="acme"),
        lambda: api.post("/v1/credits/grants", {"amount": "1", "account": account["id"]}, api.zenith_key),
        lambda: api.post("/v1/credits/accounts", {"organization": "acme"}, api.zenith_key),
    ]

    for resource in READS:
        assert api.json(f"/v1/credits/{resource}", api.zenith_key)["items"] == []
    assert [one().status_code for one in tries] == [404] * len(tries)
    assert balance(api) == "9.9955"

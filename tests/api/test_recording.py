"""`POST /v1/usage`: a told call becomes the row that its span would have become, once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from farebox_collector.booking import Ledger, book_batches
from farebox_collector.spans import Batch, Sender, Span
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.rollups import check_rollups
from tests.api.conftest import Api
from tests.ledger.repricing_cases import add_prices, current_book, price
from tests.ledger.store.bookings import ACME, EVERYBODY, at

CALL: dict[str, Any] = {
    "external_id": "invoice-7/line-1",
    "occurred_at": "2026-03-10T12:00:00Z",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 200,
}


@pytest.fixture(autouse=True)
def prices(api: Api) -> None:
    add_prices(api.engine, price("gpt-4o"))


def told(api: Api, body: Any, key: str | None = None) -> list[dict[str, Any]]:
    response = api.post("/v1/usage", body, key)
    assert response.status_code == 200, response.text
    return list(response.json()["items"])


def rows(api: Api, key: str | None = None) -> list[dict[str, Any]]:
    return list(api.json("/v1/usage", key)["items"])


def test_a_told_call_is_priced_and_stands_in_list_and_sums(api: Api) -> None:
    (answer,) = told(api, CALL)

    (row,) = rows(api)
    assert answer == {
        "id": row["id"],
        "is_new": True,
        "billing_status": "billed",
        "reason": None,
        "currency": "USD",
        "cost": "0.0045",
        "list_cost": "0.0045",
    }
    assert (row["cost"], row["model"], row["dialect"]) == ("0.0045", "gpt-4o", "recorded")
    (group,) = api.json("/v1/usage/summary", start="2026-03-10T00:00:00Z", end="2026-03-11T00:00:00Z")["groups"]
    assert (group["cost"], group["requests"]) == ("0.0045", 1)
    with transaction(api.engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []


def test_D04_D05_a_time_of_another_zone_is_kept_in_utc_and_its_arrival_is_noted(api: Api) -> None:
    before_us = time.time_ns() // 1000
    told(api, CALL | {"occurred_at": "2026-03-10T15:00:00+03:00"})

    (row,) = rows(api)
    assert row["occurred_at"] == "2026-03-10T12:00:00.000000Z"
    assert before_us <= at(row["received_at"]) <= time.time_ns() // 1000


def test_the_same_call_told_again_answers_the_same_row_and_writes_nothing(api: Api) -> None:
    (first,) = told(api, CALL)
    before = rows(api)

    again = told(api, {"items": [{**CALL, "input_tokens": 9}, {**CALL, "external_id": "another"}, CALL]})

    assert again[0] == again[2] == {**first, "is_new": False}
    assert (again[1]["is_new"], again[1]["id"] != first["id"]) == (True, True)
    assert [row for row in rows(api) if row["id"] == first["id"]] == before
    assert len(rows(api)) == 2


def test_an_identity_that_one_request_tells_twice_is_new_once(api: Api) -> None:
    first, second = told(api, {"items": [CALL, CALL]})

    assert (first["is_new"], second["is_new"]) == (True, False)
    assert first["id"] == second["id"]
    assert len(rows(api)) == 1


def test_a_told_call_equals_what_the_pipeline_books(api: Api) -> None:
    """The same facts as a span of zenith's and as acme's body: all but who, how and when they came is equal."""
    attributes: dict[str, Any] = {
        "gen_ai.provider.name": "openai",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "user.id": "ann",
        "farebox.project": "alpha",
    }
    end_us = at("2026-03-10T12:00:00Z")
    ids = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "00000000000000a1"}
    span = measured_span(ids, end_us, attributes)
    batch = Batch(1, Sender(ACME, "acme"), end_us, [span], 1)
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        book_batches(connection, [batch], Ledger("collector", 1, current_book(api.engine)))
    (measured,) = rows(api)

    facts = {name: value for name, value in CALL.items() if name != "external_id"}
    body = {**facts, **ids, "operation": "chat", "user": "ann", "project": "alpha"}
    (same,) = told(api, body)
    (other,) = told(api, {**body, "organization": "zenith", "started_at": measured["started_at"]}, api.system_key)
    (row,) = rows(api, api.zenith_key)

    assert (same["id"], same["is_new"]) == (measured["id"], False)
    assert other["is_new"] is True
    differ = {name for name in row if row[name] != measured[name]}
    assert differ <= {"id", "organization", "received_at", "dialect", "key"}
    assert row["cost"] == measured["cost"] == "0.0045"


def measured_span(ids: dict[str, str], end_us: int, attributes: dict[str, Any]) -> Span:
    return Span(
        trace_id=bytes.fromhex(ids["trace_id"]),
        span_id=bytes.fromhex(ids["span_id"]),
        parent_span_id=None,
        scope="opentelemetry.instrumentation.openai_v2",
        kind=3,
        start_us=end_us - 1_500_000,
        end_us=end_us,
        is_error=False,
        status_message=None,
        attributes=attributes,
    )


def test_a_call_without_a_price_is_kept_with_its_reason(api: Api) -> None:
    (answer,) = told(api, {**CALL, "model": "nobody-knows-it"})

    assert (answer["billing_status"], answer["reason"], answer["cost"]) == ("unpriced", "unknown_model", None)


def test_every_member_of_a_row_that_can_be_told_is_kept(api: Api) -> None:
    members: dict[str, Any] = {
        "response_model": "gpt-4o-2024-08-06",
        "response_id": "r-1",
        "started_at": "2026-03-10T11:59:59.000000Z",
        "operation": "chat",
        "status": "error",
        "error_code": "Timeout",
        "error_message": "it took too long",
        "stream": True,
        "service_tier": "default",
        "time_to_first_chunk_ms": 12,
        "project": "alpha",
        "user": "ann",
        "user_email": "ann@example.com",
        "service": "chat",
        "action": "answer",
        "category": "rag",
        "task_type": "planning",
        "task_id": "t-1",
        "content_type": "article",
        "content_ref": "a-1",
        "model_config": "fast",
        "upstream": "gateway",
        "session": "s-1",
        "tags": ["a", "b"],
        "metadata": {"depth": 2},
        "stated_cost": "0.004",
        "cache_read_input_tokens": 10,
        "cache_write_input_tokens": {"5m": 3, "1h": 4},
        "input_seconds": "1.5",
        "web_searches": 1,
        "search_context_size": "low",
    }

    told(api, {**CALL, **members})

    (row,) = rows(api)
    assert {name: row[name] for name in members} == members
    assert row["total_tokens"] == 1200


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"occurred_at": "2026-03-10T12:00:00"}, "/occurred_at"),
        ({"occurred_at": "2019-12-31T23:59:59Z"}, "/occurred_at"),
        ({"occurred_at": "2999-01-01T00:00:00Z"}, "/occurred_at"),
        ({"started_at": "2026-03-10T12:00:01Z"}, "/started_at"),
        ({"input_tokens": -1}, "/input_tokens"),
        ({"input_tokens": 2**40 + 1}, "/input_tokens"),
        ({"input_tokens": 1.5}, "/input_tokens"),
        ({"input_tokens": "1"}, "/input_tokens"),
        ({"stated_cost": 0.1}, "/stated_cost"),
        ({"stated_cost": "NaN"}, "/stated_cost"),
        ({"input_seconds": 1.5}, "/input_seconds"),
        ({"cost": "1"}, "/cost"),
        ({"status": "failed"}, "/status"),
        ({"stream": "yes"}, "/stream"),
        ({"model": ""}, "/model"),
        ({"tags": ["a", 1]}, "/tags/1"),
        ({"user": "a\0b"}, "/user"),
        ({"tags": ["a", "\0"]}, "/tags"),
        ({"external_id": None}, "/external_id"),
        ({"span_id": "00000000000000a1"}, "/external_id"),
        ({"external_id": None, "trace_id": "0" * 31 + "1"}, "/span_id"),
        ({"external_id": None, "trace_id": "0" * 32, "span_id": "00000000000000a1"}, "/trace_id"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_its_place_and_nothing_is_booked(
    api: Api, change: dict[str, Any], pointer: str
) -> None:
    alone = api.post("/v1/usage", {**CALL, **change})
    among = api.post("/v1/usage", {"items": [CALL, {**CALL, **change}]})

    assert (alone.status_code, among.status_code) == (400, 400)
    assert alone.json()["errors"][0]["pointer"] == pointer
    if pointer != "/tags/1":
        assert among.json()["errors"][0]["pointer"].replace("...", "1") == f"/items/1{pointer}"
    assert rows(api) == []


@pytest.mark.parametrize(
    "body",
    [[], "text", {"items": []}, {"items": [CALL] * 501}, {"items": [CALL], "more": 1}, {"items": CALL}],
    ids=("list", "text", "no items", "too many", "unknown member", "no list"),
)
def test_another_shape_is_refused(api: Api, body: Any) -> None:
    response = api.post("/v1/usage", body)

    assert response.status_code == 400
    assert "pointer" in response.json()["errors"][0]


def test_nobody_writes_into_the_books_of_another_organization(api: Api) -> None:
    assert api.post("/v1/usage", {**CALL, "organization": "zenith"}).status_code == 404
    assert api.post("/v1/usage", {**CALL, "organization": "nobody"}, api.system_key).status_code == 404
    told(api, {**CALL, "organization": "acme"})

    assert rows(api, api.zenith_key) == []


def test_a_system_key_says_one_organization(api: Api) -> None:
    without = api.post("/v1/usage", CALL, api.system_key)
    two = {"items": [{**CALL, "organization": slug} for slug in ("acme", "zenith")]}
    mixed = api.post("/v1/usage", two, api.system_key)

    assert without.json()["errors"][0]["pointer"] == "/organization"
    assert mixed.json()["errors"][0]["pointer"] == "/items/1/organization"
    assert len(told(api, {**CALL, "organization": "zenith"}, api.system_key)) == 1


def test_telling_needs_its_scope(api: Api) -> None:
    assert api.post("/v1/usage", CALL, api.make_key("acme", "usage:read", "ingest")).status_code == 403
    assert api.post("/v1/usage", CALL, api.make_key("acme", "usage:write")).status_code == 200

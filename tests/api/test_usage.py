"""The list of usage rows, one row, and one row's charge, over rows booked by the store."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from farebox_ledger.charges import change_charges
from farebox_ledger.pricing import Charge, CostLine
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.writing import Booking, book
from farebox_ledger.usage import Usage
from tests.api.conftest import Api
from tests.api.test_organizations import walk
from tests.ledger.store.bookings import (
    ACME,
    EVERYBODY,
    NOON,
    PRICE,
    ZENITH,
    at,
    booking,
    event,
    priced,
    random_booking,
    suppressed,
    unpriced,
)

MINUTE_US = 60_000_000
TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")


def booked(api: Api, *bookings: Booking) -> None:
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=(), writer_slot=1)


def outward_id(number: int, **facts: Any) -> str:
    made = event(number, **facts)
    return f"{made.day}-{made.usage_id.hex()}"


def spans(page: Any) -> list[int]:
    """The numbers of a page's rows, in its order."""
    return [int(item["span_id"], 16) for item in page["items"]]


def test_a_row_shows_every_field_of_the_contract(api: Api) -> None:
    usage = Usage(
        input_tokens=2006,
        cache_read_input_tokens=1000,
        cache_write_input_tokens={"5m": 6, "1h": 0},
        output_tokens=200,
        reasoning_output_tokens=50,
        input_seconds=Decimal("1.5"),
        search_context_size="low",
    )
    booked(
        api,
        booking(
            7,
            trace_id=TRACE,
            parent_span_id=bytes(7) + b"\x06",
            usage=usage,
            response_model="gpt-4o-2024-08-06",
            response_id="chatcmpl-1",
            project="alpha",
            user="ann",
            user_email="ann@example.com",
            key="key_1",
            service="chatbot",
            action="answer",
            category="rag",
            task_type="planning",
            task_id="task-1",
            content_type="article",
            content_ref="article-7",
            model_config="fast",
            upstream="gateway",
            session="session-1",
            tags=["a", "b"],
            metadata={"depth": 2, "nested": {"x": [1.5, None]}},
            time_to_first_chunk_ms=120,
            stream=True,
            service_tier="default",
            stated_cost=Decimal("0.00425"),
            estimated_output_tokens=7,
        ),
    )

    row = api.json(f"/v1/usage/{outward_id(7, trace_id=TRACE)}")

    assert row == {
        "id": outward_id(7, trace_id=TRACE),
        "organization": "acme",
        "project": "alpha",
        "user": "ann",
        "user_email": "ann@example.com",
        "key": "key_1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "0000000000000007",
        "parent_span_id": "0000000000000006",
        "occurred_at": "2026-03-10T12:00:00.000000Z",
        "started_at": "2026-03-10T11:59:58.500000Z",
        "received_at": "2026-03-10T12:00:05.000000Z",
        "provider": "openai",
        "model": "gpt-4o",
        "request_model": "gpt-4o",
        "response_model": "gpt-4o-2024-08-06",
        "response_id": "chatcmpl-1",
        "operation": "chat",
        "service": "chatbot",
        "action": "answer",
        "category": "rag",
        "task_type": "planning",
        "task_id": "task-1",
        "content_type": "article",
        "content_ref": "article-7",
        "model_config": "fast",
        "model_config_name": None,
        "upstream": "gateway",
        "session": "session-1",
        "tags": ["a", "b"],
        "metadata": {"depth": 2, "nested": {"x": [1.5, None]}},
        "status": "ok",
        "error_code": None,
        "error_message": None,
        "duration_ms": 1500,
        "time_to_first_chunk_ms": 120,
        "stream": True,
        "service_tier": "default",
        "input_tokens": 2006,
        "cache_read_input_tokens": 1000,
        "cache_write_input_tokens": {"5m": 6, "1h": 0},
        "audio_input_tokens": None,
        "image_input_tokens": None,
        "video_input_tokens": None,
        "output_tokens": 200,
        "reasoning_output_tokens": 50,
        "audio_output_tokens": None,
        "image_output_tokens": None,
        "input_images": None,
        "output_images": None,
        "input_seconds": "1.5",
        "output_seconds": None,
        "input_characters": None,
        "output_characters": None,
        "pages": None,
        "search_units": None,
        "requests": None,
        "web_searches": None,
        "search_context_size": "low",
        "total_tokens": 2206,
        "estimated_input_tokens": None,
        "estimated_output_tokens": 7,
        "tokens_source": "reported",
        "dialect": "semconv",
        "billing_status": "billed",
        "reason": None,
        "currency": "USD",
        "cost": "0.0045",
        "cost_input": "0.0025",
        "cost_output": "0.002",
        "cost_cache_read": "0",
        "cost_cache_write": "0",
        "cost_other": "0",
        "list_cost": "0.0045",
        "stated_cost": "0.00425",
        "multiplier": None,
        "price_id": "price-1",
        "charge_version": 1,
    }


def test_what_is_not_known_is_null_and_not_zero(api: Api) -> None:
    booked(api, booking(1, unpriced(), usage=Usage(input_tokens=0)))

    (row,) = api.json("/v1/usage")["items"]

    assert (row["billing_status"], row["reason"]) == ("unpriced", "unknown_model")
    assert (row["cost"], row["cost_input"], row["list_cost"], row["currency"]) == (None, None, None, None)
    assert (row["input_tokens"], row["output_tokens"], row["total_tokens"]) == (0, None, 0)
    assert (row["metadata"], row["tags"]) == ({}, [])


def test_a_failed_call_says_what_failed_and_how_long_that_took(api: Api) -> None:
    failed = {"status": "error", "error_code": "openai.RateLimitError", "error_message": "Rate limit reached"}
    booked(api, booking(1, Charge(status="not_billable", reason="error_no_usage"), usage=Usage(), **failed))

    (row,) = api.json("/v1/usage")["items"]

    assert {name: row[name] for name in failed} == failed
    assert (row["billing_status"], row["cost"], row["duration_ms"]) == ("not_billable", None, 1500)


def test_cache_writes_without_a_time_to_live_are_a_number(api: Api) -> None:
    booked(api, booking(1, usage=Usage(input_tokens=10, cache_write_input_tokens={"unsplit": 4})))

    assert api.json("/v1/usage")["items"][0]["cache_write_input_tokens"] == 4


def test_the_smallest_and_the_largest_cost_are_exact(api: Api) -> None:
    booked(api, booking(1, priced(1, 0)), booking(2, priced(8_999_999 * 10**12, 10**12 - 1)))

    costs = {item["cost"] for item in api.json("/v1/usage")["items"]}

    assert costs == {"0.000000000001", "8999999.999999999999"}


def test_rows_come_newest_first(api: Api) -> None:
    booked(api, *(booking(number, occurred_at_us=NOON + number * MINUTE_US) for number in (2, 3, 1)))

    assert spans(api.json("/v1/usage")) == [3, 2, 1]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"project": "alpha"}, [1]),
        ({"user": "ann"}, [1]),
        ({"user_email": "ann@example.com"}, [1]),
        ({"key": "key_1"}, [1]),
        ({"provider": "anthropic"}, [2]),
        ({"model": "claude"}, [2]),
        ({"model_config": "fast"}, [1]),
        ({"service": "chatbot"}, [1]),
        ({"action": "answer"}, [1]),
        ({"category": "rag"}, [1]),
        ({"task_type": "planning"}, [1]),
        ({"task_id": "task-1"}, [1]),
        ({"content_type": "article"}, [1]),
        ({"status": "error"}, [3]),
        ({"billing_status": "not_billable"}, [3]),
        ({"reason": "error_no_usage"}, [3]),
        ({"min_cost": "0.01"}, [2]),
        ({"max_cost": "0.0045"}, [1]),
        ({"min_cost": "0.0045", "max_cost": "0.0045"}, [1]),
        ({"trace_id": TRACE.hex()}, [1]),
        ({"tag": "b"}, [1]),
        ({"start": "2026-03-10T12:02:00Z"}, [3, 2]),
        ({"end": "2026-03-10T12:02:00Z"}, [1]),
        ({"start": "2026-03-10T15:02:00+03:00", "end": "2026-03-10T12:03:00Z"}, [2]),
        ({"organization": "acme"}, [3, 2, 1]),
        ({"user": "nobody"}, []),
        ({"user": "ann", "provider": "anthropic"}, []),
    ],
    ids=str,
)
def test_each_filter_chooses_its_rows(api: Api, filters: dict[str, str], expected: list[int]) -> None:
    booked(
        api,
        booking(
            1,
            trace_id=TRACE,
            occurred_at_us=NOON + MINUTE_US,
            project="alpha",
            user="ann",
            user_email="ann@example.com",
            key="key_1",
            model_config="fast",
            service="chatbot",
            action="answer",
            category="rag",
            task_type="planning",
            task_id="task-1",
            content_type="article",
            tags=["a", "b"],
        ),
        booking(
            2,
            priced(10**10, 0, provider="anthropic", model="claude"),
            occurred_at_us=NOON + 2 * MINUTE_US,
            provider="anthropic",
        ),
        booking(
            3,
            Charge(status="not_billable", reason="error_no_usage"),
            occurred_at_us=NOON + 3 * MINUTE_US,
            status="error",
            usage=Usage(),
        ),
    )

    assert spans(api.json("/v1/usage", **filters)) == expected


def test_a_walk_meets_every_row_once_while_rows_are_booked(api: Api) -> None:
    booked(api, *(booking(number, occurred_at_us=NOON + number % 5) for number in range(1, 24)))

    page = api.json("/v1/usage", limit=4)
    met = [item["id"] for item in page["items"]]
    later = 100
    while page["has_more"]:
        later += 1
        booked(api, booking(later, occurred_at_us=NOON + later), booking(later + 500, occurred_at_us=NOON + 4))
        page = api.json("/v1/usage", limit=4, cursor=page["next_cursor"])
        met += [item["id"] for item in page["items"]]

    stood = {outward_id(number, occurred_at_us=NOON + number % 5) for number in range(1, 24)}
    assert len(met) == len(set(met))
    assert stood <= set(met)


def test_a_cursor_goes_on_with_its_own_filter_alone(api: Api) -> None:
    booked(api, *(booking(number, service="chatbot") for number in range(1, 6)))
    cursor = api.json("/v1/usage", service="chatbot", limit=2)["next_cursor"]

    assert len(api.json("/v1/usage", service="chatbot", limit=3, cursor=cursor)["items"]) == 3
    for other in ({}, {"service": "digest"}, {"service": "chatbot", "organization": "acme"}):
        response = api.get("/v1/usage", cursor=cursor, **other)
        assert response.status_code == 400
        assert response.json()["errors"][0]["parameter"] == "cursor"
    assert api.get("/v1/usage", api.zenith_key, service="chatbot", cursor=cursor).status_code == 400


def test_the_same_moment_written_otherwise_keeps_the_cursor_valid(api: Api) -> None:
    booked(api, *(booking(number) for number in range(1, 4)))
    cursor = api.json("/v1/usage", start="2026-03-10T00:00:00Z", limit=2)["next_cursor"]

    page = api.json("/v1/usage", start="2026-03-10T03:00:00+03:00", cursor=cursor)

    assert len(page["items"]) == 1


def test_a_tenant_sees_its_own_rows_alone(api: Api) -> None:
    booked(api, booking(1), booking(2, org_id=ZENITH))
    theirs = outward_id(2, org_id=ZENITH)

    assert spans(api.json("/v1/usage")) == [1]
    assert spans(api.json("/v1/usage", api.zenith_key)) == [2]
    assert api.get("/v1/usage", organization="zenith").status_code == 404
    assert api.get(f"/v1/usage/{theirs}").status_code == 404
    assert api.get(f"/v1/usage/{theirs}/charge").status_code == 404
    assert api.json(f"/v1/usage/{theirs}", api.zenith_key)["organization"] == "zenith"


def test_a_system_key_sees_all_rows_or_those_of_one_organization(api: Api) -> None:
    booked(api, booking(1), booking(2, org_id=ZENITH, occurred_at_us=NOON + MINUTE_US))

    assert spans(api.json("/v1/usage", api.system_key)) == [2, 1]
    assert [item["organization"] for item in api.json("/v1/usage", api.system_key)["items"]] == ["zenith", "acme"]
    assert spans(api.json("/v1/usage", api.system_key, organization="acme")) == [1]
    assert api.get("/v1/usage", api.system_key, organization="nobody").status_code == 404


@pytest.mark.parametrize("text", ["nonsense", "20260310-00", "20260310-" + "0" * 32, "99999999-" + "f" * 32, "%00"])
def test_an_id_that_is_none_is_not_found(api: Api, text: str) -> None:
    for path in (f"/v1/usage/{text}", f"/v1/usage/{text}/charge"):
        assert api.get(path).status_code == 404


def test_a_charge_is_explained_by_lines_that_sum_to_it(api: Api) -> None:
    booked(api, booking(1, priced(rejected=("litellm old (price-0): not valid",), multiplier="1.2")))

    charge = api.json(f"/v1/usage/{outward_id(1)}/charge")

    assert charge == {
        "id": outward_id(1),
        "organization": "acme",
        "version": 1,
        "billing_status": "billed",
        "reason": None,
        "detail": None,
        "currency": "USD",
        "cost": "0.0045",
        "list_cost": "0.0045",
        "multiplier": "1.2",
        "provider": "openai",
        "model": "gpt-4o",
        "price": {
            "id": "price-1",
            "source": "litellm",
            "provider": "openai",
            "model": "gpt-4o",
            "match_rule": "exact",
            "effective_from": "2026-01-01T00:00:00Z",
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
        "rejected": ["litellm old (price-0): not valid"],
        "covered_by": None,
        "dialect": "semconv",
        "usage_rule": None,
        "raw_usage": None,
        "versions": [],
    }
    assert charge["price"]["id"] == PRICE.id


def test_the_quantity_of_a_line_is_a_number_as_in_a_quote_and_exact_to_its_last_digit(api: Api) -> None:
    seconds = CostLine("input_seconds", Decimal("1234567890.123456789012"), "0.0001", "1", 1, 1)
    booked(api, booking(1, priced(1, 0, lines=(seconds,))))

    answer = api.get(f"/v1/usage/{outward_id(1)}/charge").text

    assert '"quantity":1234567890.123456789012,' in answer


def test_a_charge_shows_what_the_emitter_wrote_where_it_was_converted(api: Api) -> None:
    written: dict[str, int | float | str] = {"gen_ai.usage.input_tokens": 10}
    booked(api, booking(1, priced(), usage_rule="input_excludes_cache", raw_usage=written))

    charge = api.json(f"/v1/usage/{outward_id(1)}/charge")

    assert (charge["usage_rule"], charge["raw_usage"]) == ("input_excludes_cache", written)


def test_a_changed_charge_keeps_what_it_was_before(api: Api) -> None:
    booked(api, booking(1, unpriced()))
    for charge, cause in ((priced(), "reprice:1"), (priced(5_000_000_000), "reprice:2")):
        with transaction(api.engine, EVERYBODY, write=True) as connection:
            change_charges(connection, EVERYBODY, [booking(1, charge)], cause=cause, writer_slot=1)

    charge = api.json(f"/v1/usage/{outward_id(1)}/charge")

    assert (charge["version"], charge["cost"]) == (3, "0.007")
    assert [(old["version"], old["billing_status"], old["cost"], old["cause"]) for old in charge["versions"]] == [
        (2, "billed", "0.0045", "reprice:2"),
        (1, "unpriced", None, "reprice:1"),
    ]
    assert api.json(f"/v1/usage/{outward_id(1)}")["charge_version"] == 3


def test_a_covered_call_names_the_row_that_bills_it_also_across_midnight(api: Api) -> None:
    midnight = at("2026-03-11T00:00:00Z")
    billing = event(1, trace_id=TRACE, occurred_at_us=midnight - 1)
    booked(
        api,
        Booking(billing, priced()),
        booking(2, suppressed(covered_by=billing.usage_id), trace_id=TRACE, occurred_at_us=midnight),
    )

    covered = outward_id(2, trace_id=TRACE, occurred_at_us=midnight)
    charge = api.json(f"/v1/usage/{covered}/charge")

    assert (charge["billing_status"], charge["reason"], charge["cost"]) == ("suppressed", "covered_by_child", None)
    assert charge["covered_by"] == f"20260310-{billing.usage_id.hex()}"
    assert api.json(f"/v1/usage/{charge['covered_by']}")["cost"] == "0.0045"


def test_the_rows_of_random_bookings_show_their_costs_exactly(api: Api) -> None:
    random = Random(20261101)
    bookings = [random_booking(random, number) for number in range(1, 201)]
    booked(api, *bookings)

    rows = {item["id"]: item for page in walk(api, "/v1/usage", 60, api.system_key) for item in page}

    assert len(rows) == 200
    for made in bookings:
        row = rows[f"{made.event.day}-{made.event.usage_id.hex()}"]
        cost = made.charge.cost_pico
        assert (None if row["cost"] is None else Decimal(row["cost"])) == (
            None if cost is None else Decimal(cost).scaleb(-12)
        )
        if cost is not None:
            parts = ("input", "output", "cache_read", "cache_write", "other")
            assert sum(Decimal(row[f"cost_{part}"]) for part in parts) == Decimal(row["cost"])
        assert row["organization"] == ("acme" if made.event.org_id == ACME else "zenith")

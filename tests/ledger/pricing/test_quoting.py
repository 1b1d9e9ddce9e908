from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from farebox_ledger.pricing import PriceBook
from farebox_ledger.pricing.quoting import QuotedUsage, QuoteRequest, encode_quote, quote_line
from farebox_ledger.usage import Usage
from tests.ledger.pricing.amounts import TUESDAY_NOON_US


def test_a_quote_has_the_members_of_the_contract(book: PriceBook) -> None:
    answer = quoted(
        book,
        {
            "id": "a",
            "provider": "anthropic",
            "model": "claude-haiku-5-5",
            "usage": {"input_tokens": 100_000, "output_tokens": 1000},
        },
    )

    price_id = answer["price"].pop("id")
    assert price_id.startswith("ltl_")
    assert answer == {
        "id": "a",
        "status": "billed",
        "reason": None,
        "detail": None,
        "currency": "USD",
        "cost": "0.0105",
        "list_cost": "0.0105",
        "price": {
            "source": "litellm",
            "provider": "anthropic",
            "model": "claude-haiku-5-5",
            "match_rule": "exact",
            "effective_from": None,
        },
        "lines": [
            {
                "dimension": "input_tokens",
                "quantity": 100_000,
                "unit_price": "0.0000001",
                "multiplier": "1",
                "list_amount": "0.01",
                "amount": "0.01",
            },
            {
                "dimension": "output_tokens",
                "quantity": 1000,
                "unit_price": "0.0000005",
                "multiplier": "1",
                "list_amount": "0.0005",
                "amount": "0.0005",
            },
        ],
    }


def test_the_usage_members_are_those_of_the_books() -> None:
    assert QuotedUsage.__struct_fields__ == Usage.__struct_fields__


def test_every_member_of_a_request_is_heard(book: PriceBook) -> None:
    answer = quoted(
        book,
        {
            "provider": "openai",
            "model": "gpt-6-sol",
            "at": "2026-11-03T12:00:00+03:00",
            "service_tier": "priority",
            "batch": False,
            "region": "eu",
            "organization": "acme",
            "upstream": "reseller",
            "usage": {"input_tokens": 1000},
        },
    )

    assert answer["cost"] == "0.0044"  # 1,000 x $4/M x 1.1


def test_cache_writes_are_a_number_or_a_map(book: PriceBook) -> None:
    def cost(writes: object) -> str:
        usage = {"input_tokens": 1000, "cache_write_input_tokens": writes}
        answer: str = quoted(book, {"provider": "anthropic", "model": "claude-sonnet-4-5", "usage": usage})["cost"]
        return answer

    assert cost(100) == "0.003075"  # 900 x $3/M + 100 x $3.75/M
    assert cost({"unsplit": 100}) == "0.003075"
    assert cost({"5m": 40, "1h": 60}) == "0.00321"  # 900 x $3/M + 40 x $3.75/M + 60 x $6/M


@pytest.mark.parametrize("identity", ['"x"', "7", '{"a": [1]}', "1.50", "null"])
def test_the_id_comes_back_as_it_was_written(identity: str, book: PriceBook) -> None:
    line = f'{{"id": {identity}, "model": "gpt-4o", "usage": {{}}}}'

    assert encode_quote(quote_line(book, line, now_us=TUESDAY_NOON_US)).startswith(f'{{"id":{identity},'.encode())


def test_seconds_stay_exact(book: PriceBook) -> None:
    line = '{"provider": "openai", "model": "whisper-1", "usage": {"input_seconds": 0.1}}'

    answer = json.loads(encode_quote(quote_line(book, line, now_us=TUESDAY_NOON_US)), parse_float=Decimal)

    assert answer["cost"] == "0.00001"
    assert answer["lines"][0]["quantity"] == Decimal("0.1")


@pytest.mark.parametrize("count", ["-1", "1.5", "1e30", "99999999999999999999999"])
def test_an_unusable_count_is_read_as_the_pipeline_reads_it(count: str, book: PriceBook) -> None:
    line = f'{{"provider": "openai", "model": "gpt-4o", "usage": {{"input_tokens": {count}, "output_tokens": 1}}}}'

    answer = json.loads(encode_quote(quote_line(book, line, now_us=TUESDAY_NOON_US)))

    assert (answer["status"], answer["reason"], answer["cost"]) == ("partial", "invalid_usage", "0.00001")


def test_a_whole_number_with_a_point_is_that_number(book: PriceBook) -> None:
    answer = quoted(book, {"provider": "openai", "model": "gpt-4o", "usage": {"input_tokens": 1000.0}})

    assert (answer["status"], answer["cost"]) == ("billed", "0.0025")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"id": 1, "model": "m", "usage": {"input_tokens": "5"}}', "usage.input_tokens: expected"),
        ('{"id": 1, "model": "m", "usage": {"input_tokens": true}}', "usage.input_tokens: expected"),
        ('{"id": 1, "model": "m", "usage": {"input_token": 5}}', "usage.input_token: no such field"),
        (
            '{"id": 1, "model": "m", "usage": {"cache_write_input_tokens": {"7d": 5}}}',
            "usage.cache_write_input_tokens: ",
        ),
        ('{"id": 1, "model": "m", "usage": {"search_context_size": "huge"}}', "usage.search_context_size: "),
        ('{"id": 1, "model": "m"}', "usage: required"),
        ('{"id": 1, "usage": {}}', "model: required"),
        ('{"id": 1, "model": 5, "usage": {}}', "model: expected"),
        ('{"id": 1, "model": "m", "usage": {}, "at": "2026-11-01T00:00:00"}', "at: "),
        ('{"id": 1, "model": "m", "usage": {}, "at": "yesterday"}', "at: "),
        ('{"id": 1, "model": "m", "usage": {}, "batch": "yes"}', "batch: expected"),
        ('{"id": 1, "model": "m", "usage": {}, "tier": "flex"}', "tier: no such field"),
    ],
)
def test_a_wrong_field_is_named_beside_the_id(line: str, error: str, book: PriceBook) -> None:
    answer = json.loads(encode_quote(quote_line(book, line, now_us=TUESDAY_NOON_US)))

    assert answer["id"] == 1
    assert answer["error"].startswith(error), answer


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"id": 1,', '"text"', "\x00", '{"model": "m", "usage": {}} x'])
def test_a_line_that_is_no_object_is_an_error_without_id(line: str, book: PriceBook) -> None:
    answer = json.loads(encode_quote(quote_line(book, line, now_us=TUESDAY_NOON_US)))

    assert answer["id"] is None
    assert answer["error"].startswith("line: ")


def test_a_model_that_nobody_names_is_no_error_but_a_reason(book: PriceBook) -> None:
    answer = quoted(book, {"provider": "openai", "model": None, "usage": {"input_tokens": 1}})

    assert (answer["status"], answer["reason"], answer["cost"]) == ("unpriced", "model_missing", None)


def test_a_request_can_be_made_without_json(book: PriceBook) -> None:
    request = QuoteRequest(model="gpt-4o", provider="openai", usage=QuotedUsage(input_tokens=1))

    assert msgspec.structs.asdict(request)["service_tier"] is None


def quoted(book: PriceBook, request: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(encode_quote(quote_line(book, json.dumps(request), now_us=TUESDAY_NOON_US)))
    return answer

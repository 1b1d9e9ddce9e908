"""Events and charges for the store's tests: plain ones to vary, and random ones drawn from a seed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, get_args

from farebox_ledger.pricing.charge import Charge, CostLine, PriceReference
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.writing import Booking
from farebox_ledger.usage import BillingStatus, Usage, UsageEvent, org_id_of

EVERYBODY = AllOrganizations()
ACME = org_id_of("acme")
ZENITH = org_id_of("zenith")

PRICE = PriceReference("price-1", "litellm", "openai", "gpt-4o", "exact", "2026-01-01T00:00:00Z")

COUNTS = (
    "input_tokens", "cache_read_input_tokens", "audio_input_tokens", "image_input_tokens", "video_input_tokens",
    "output_tokens", "reasoning_output_tokens", "audio_output_tokens", "image_output_tokens", "input_images",
    "output_images", "input_characters", "output_characters", "pages", "search_units", "requests", "web_searches",
)  # fmt: skip


def at(text: str) -> int:
    """Read an RFC 3339 time as microseconds since 1970 in UTC."""
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


NOON = at("2026-03-10T12:00:00Z")


def event(number: int = 1, **facts: Any) -> UsageEvent:
    """Make a chat call of 1,000 input and 200 output tokens at noon; `number` makes its span id."""
    plain: dict[str, Any] = {
        "org_id": ACME,
        "trace_id": bytes(15) + b"\x01",
        "span_id": number.to_bytes(8, "big"),
        "occurred_at_us": NOON,
        "started_at_us": facts.get("occurred_at_us", NOON) - 1_500_000,
        "received_at_us": NOON + 5_000_000,
        "kind": "call",
        "dialect": "semconv",
        "usage": Usage(input_tokens=1000, output_tokens=200),
        "provider": "openai",
        "request_model": "gpt-4o",
        "operation": "chat",
    }
    return UsageEvent(**(plain | facts))


def priced(input_pico: int = 2_500_000_000, output_pico: int = 2_000_000_000, **fields: Any) -> Charge:
    """Make a charge of an input and an output line; as it stands, 0.0045 USD."""
    lines = (
        CostLine("input_tokens", Decimal(1000), "0.0000025", "1", input_pico, input_pico),
        CostLine("output_tokens", Decimal(200), "0.00001", "1", output_pico, output_pico),
    )
    plain: dict[str, Any] = {
        "status": "billed",
        "currency": "USD",
        "cost_pico": input_pico + output_pico,
        "list_cost_pico": input_pico + output_pico,
        "price": PRICE,
        "provider": "openai",
        "model": "gpt-4o",
        "lines": lines,
    }
    return Charge(**(plain | fields))


def unpriced(reason: Any = "unknown_model", **fields: Any) -> Charge:
    return Charge(status="unpriced", reason=reason, **fields)


def suppressed(reason: Any = "covered_by_child", covered_by: bytes = bytes(16)) -> Charge:
    return Charge(status="suppressed", reason=reason, covered_by=covered_by)


def booking(number: int = 1, charge: Charge | None = None, **facts: Any) -> Booking:
    return Booking(event(number, **facts), charge or priced())


def random_booking(random: Random, number: int) -> Booking:
    """Draw a booking with every kind of fact, status, currency and holder, within three days around a month's end."""
    return Booking(random_event(random, number), random_charge(random))


def random_event(random: Random, number: int) -> UsageEvent:
    return event(
        number,
        org_id=random.choice((ACME, ZENITH)),
        trace_id=random.randbytes(15) + bytes([number % 7]),
        occurred_at_us=at("2026-03-30T18:00:00Z") + random.randrange(3 * 86_400_000_000),
        kind=random.choice(("call", "call", "container")),
        usage=random_usage(random),
        status=random.choice(("ok", "ok", "error", "cancelled")),
        error_code=random.choice((None, "openai.RateLimitError")),
        request_model=random.choice(("gpt-4o", "gpt-4o-mini", None)),
        response_model=random.choice((None, "gpt-4o-2024-08-06")),
        provider=random.choice(("openai", "anthropic", None)),
        project=random.choice((None, "alpha", "beta")),
        service=random.choice((None, "chatbot")),
        category=random.choice((None, "rag", "summary")),
        user=random.choice((None, "ann", "bob")),
        user_email=random.choice((None, "ann@example.com")),
        key=random.choice((None, "key_1")),
        tags=random.choice((None, ["a"], ["a", "b"], ["b", "b", ""])),
        stream=random.random() < 0.5,
        stated_cost=random.choice((None, Decimal("0.00425"))),
        estimated_output_tokens=random.choice((None, 7)),
    )


def random_usage(random: Random) -> Usage:
    counts: dict[str, Any] = {name: random.randrange(5000) for name in COUNTS if random.random() < 0.3}
    if random.random() < 0.5:
        counts["cache_write_input_tokens"] = {"5m": random.randrange(100), "1h": random.randrange(100)}
    if random.random() < 0.3:
        counts["input_seconds"] = Decimal(random.randrange(10**9)).scaleb(-6)
        counts["output_seconds"] = Decimal("12.3456789")
    return Usage(**counts)


def random_charge(random: Random) -> Charge:
    status: BillingStatus = random.choice(get_args(BillingStatus))
    if status == "free":
        return Charge(status="free", currency="USD", cost_pico=0, list_cost_pico=0)
    if status in ("billed", "assumed", "partial"):
        amounts = [random.randrange(10 ** random.choice((3, 9, 13, 18))) for _ in range(2)]
        return priced(*amounts, status=status, currency=random.choice(("USD", "EUR")), model=random.choice(("m", "n")))
    return Charge(status=status, reason="needs_review")

"""Laws of a charge, for any usage that an emitter may send."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_ledger.pricing import Charge, PriceBook, PricingRequest
from farebox_ledger.usage import QUANTITIES, Usage
from tests.ledger.pricing.amounts import TUESDAY_NOON_US

TTLS = ("5m", "1h", "30m", "12h", "unsplit")
MODELS = (
    ("openai", "gpt-6-sol"),
    ("openai", "gpt-realtime"),
    ("anthropic", "claude-haiku-5-5"),
    ("gcp.gemini", "gemini-2.5-flash"),
    ("gcp.vertex_ai", "gemini-2.5-flash-image"),
    ("x_ai", "grok-4.3"),
    ("dashscope", "qwen3-max"),
    ("deepseek", "deepseek-v4-flash"),
    ("perplexity", "sonar-pro"),
    ("cohere", "rerank-v3.5"),
    ("ollama", "llama3"),
    ("openai", "no-such-model"),
)

any_count = st.none() | st.integers(-10, 400_000) | st.integers(-(2**70), 2**70)
any_seconds = st.none() | st.decimals(allow_nan=True, allow_infinity=True)
any_usage = st.builds(
    Usage,
    cache_write_input_tokens=st.none()
    | st.dictionaries(st.sampled_from(TTLS), any_count.filter(lambda n: n is not None)),
    input_seconds=any_seconds,
    output_seconds=any_seconds,
    search_context_size=st.sampled_from([None, "low", "medium", "high"]),
    **{
        name: any_count
        for name in QUANTITIES
        if name not in ("cache_write_input_tokens", "input_seconds", "output_seconds")
    },
)


@st.composite
def consistent_usages(draw: st.DrawFn) -> Usage:
    """Draw a usage whose parts fit into their wholes and whose parts do not overlap."""
    parts = [draw(st.integers(0, 50_000)) for _ in range(6)]
    rest, read, short, long, audio, reasoning = parts
    return Usage(
        input_tokens=rest + read + short + long + audio,
        cache_read_input_tokens=read,
        cache_write_input_tokens={"5m": short, "1h": long},
        audio_input_tokens=audio,
        output_tokens=reasoning + draw(st.integers(0, 50_000)),
        reasoning_output_tokens=reasoning,
    )


calls = st.fixed_dictionaries(
    {
        "name": st.sampled_from(MODELS),
        "service_tier": st.sampled_from([None, "priority", "flex", "fast", "scale", "auto"]),
        "batch": st.booleans(),
        "region": st.sampled_from([None, "eu", "us", "global"]),
        "is_invalid": st.booleans(),
        "is_incomplete": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(call=calls, usage=any_usage)
def test_a_charge_never_raises_and_its_lines_sum_to_it(call: dict[str, Any], usage: Usage, book: PriceBook) -> None:
    charged = charge(book, call, usage)

    if charged.cost_pico is None:
        assert charged.status == "unpriced"
        assert charged.reason is not None
        assert charged.lines == ()
    else:
        assert charged.status in ("billed", "free", "partial", "assumed")
        assert sum(line.amount_pico for line in charged.lines) == charged.cost_pico
        assert sum(line.list_amount_pico for line in charged.lines) == charged.list_cost_pico
        assert (charged.reason is None) == (charged.status in ("billed", "free"))


@settings(max_examples=300, deadline=None)
@given(call=calls, usage=any_usage)
def test_the_token_lines_never_bill_more_tokens_than_there_were(
    call: dict[str, Any], usage: Usage, book: PriceBook
) -> None:
    charged = charge(book, call, usage)

    for side, whole in (("input_tokens", usage.input_tokens), ("output_tokens", usage.output_tokens)):
        billed = sum(line.quantity for line in charged.lines if line.dimension.endswith(side))
        if whole is not None:
            assert billed <= max(whole, 0)


@settings(max_examples=200, deadline=None)
@given(usage=consistent_usages(), model=st.sampled_from(MODELS[:6]))
def test_a_consistent_usage_is_split_without_loss(usage: Usage, model: tuple[str, str], book: PriceBook) -> None:
    charged = charge(book, {"name": model}, usage)

    for side, whole in (("input_tokens", usage.input_tokens), ("output_tokens", usage.output_tokens)):
        assert sum(line.quantity for line in charged.lines if line.dimension.endswith(side)) == whole
    assert charged.reason != "invalid_usage"


@settings(max_examples=200, deadline=None)
@given(tokens=st.integers(0, 100_000), output=st.integers(0, 100_000), model=st.sampled_from(MODELS[:5]))
def test_twice_the_tokens_of_a_flat_price_cost_twice_as_much(
    tokens: int, output: int, model: tuple[str, str], book: PriceBook
) -> None:
    if model == ("anthropic", "claude-haiku-5-5"):
        tokens //= 2  # both stay below its threshold of 100,000
    once = charge(book, {"name": model}, Usage(input_tokens=tokens, output_tokens=output))
    twice = charge(book, {"name": model}, Usage(input_tokens=2 * tokens, output_tokens=2 * output))

    assert once.cost_pico is not None
    assert twice.cost_pico == 2 * once.cost_pico


@settings(max_examples=100, deadline=None)
@given(writes=st.permutations([("5m", 10), ("1h", 20), ("30m", 30), ("12h", 40), ("unsplit", 50)]))
def test_the_order_of_cache_writes_changes_no_amount(writes: list[tuple[str, int]], book: PriceBook) -> None:
    usage = Usage(input_tokens=1000, cache_write_input_tokens=dict(writes))  # type: ignore[arg-type]  # known TTLs

    charged = charge(book, {"name": ("openai", "gpt-6-sol")}, usage)

    # 850 x $2/M + (10 + 30 + 50) x $2.50/M + 20 x $2.50/M assumed + 40 x $5/M
    assert charged.cost_pico == 2_175_000_000


@pytest.mark.parametrize("model", MODELS)
def test_no_float_comes_near_a_charge(model: tuple[str, str], book: PriceBook) -> None:
    charged = charge(book, {"name": model}, Usage(input_tokens=10, output_tokens=10, input_seconds=Decimal("1.5")))

    for line in charged.lines:
        assert type(line.quantity) is Decimal
        assert (type(line.amount_pico), type(line.list_amount_pico)) == (int, int)
        assert (type(line.unit_price), type(line.multiplier)) == (str, str)
    assert type(charged.cost_pico) in (int, type(None))


def charge(book: PriceBook, call: dict[str, Any], usage: Usage) -> Charge:
    provider, model = call["name"]
    rest = {name: value for name, value in call.items() if name != "name"}
    return book.charge(
        PricingRequest(
            provider=provider, request_model=model, response_model=None, at_us=TUESDAY_NOON_US, usage=usage, **rest
        )
    )

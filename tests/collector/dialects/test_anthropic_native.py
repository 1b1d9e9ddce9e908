from __future__ import annotations

from farebox_collector import dialects
from farebox_collector.spans import AttributeValue
from farebox_ledger.usage import Usage
from tests.collector.dialects.test_semconv import span

SCOPE = "com.anthropic.sdk.python"
CALL: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.usage.input_tokens": 6010,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.cache_read.input_tokens": 5000,
    "gen_ai.usage.cache_write.input_tokens": 1000,
}


def test_cache_writes_are_split_by_time_to_live() -> None:
    split: dict[str, AttributeValue] = {
        "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 600,
        "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 400,
        "anthropic.response.service_tier": "priority",
    }

    event = dialects.read(span(CALL | split, scope=SCOPE))

    assert event is not None
    assert event.usage == Usage(
        input_tokens=6010,
        output_tokens=200,
        cache_read_input_tokens=5000,
        cache_write_input_tokens={"5m": 600, "1h": 400},
    )
    assert (event.dialect, event.service_tier, event.tokens_source) == ("anthropic_native", "priority", "reported")


def test_compaction_is_added_to_the_totals() -> None:
    compaction: dict[str, AttributeValue] = {
        "anthropic.usage.compaction.input_tokens": 55_000,
        "anthropic.usage.compaction.output_tokens": 300,
    }

    event = dialects.read(span(CALL | compaction, scope=SCOPE))

    assert event is not None
    assert (event.usage.input_tokens, event.usage.output_tokens) == (61_010, 500)
    assert event.usage.cache_write_input_tokens == {"unsplit": 1000}
    assert event.usage_rule == "compaction_added"
    assert event.raw_usage == {
        "anthropic.usage.compaction.input_tokens": 55_000,
        "anthropic.usage.compaction.output_tokens": 300,
        "gen_ai.usage.cache_read.input_tokens": 5000,
        "gen_ai.usage.cache_write.input_tokens": 1000,
        "gen_ai.usage.input_tokens": 6010,
        "gen_ai.usage.output_tokens": 200,
    }

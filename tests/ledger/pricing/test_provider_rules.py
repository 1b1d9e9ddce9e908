"""Each provider's price rules, against the shipped catalog, with amounts computed by hand from the provider's page."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from farebox_ledger.pricing import Charge
from tests.ledger.pricing.amounts import at, pico

Charging = Callable[..., Charge]


class Case(NamedTuple):
    """A call and what it costs; `name` ends in the source of the rule and its date."""

    name: str
    provider: str
    model: str
    call: dict[str, Any]
    cost: str
    status: str = "billed"


CASES = [
    # 1,000 x $2.50/M + 500 x $10/M
    Case("plain tokens, OpenAI pricing 2026-11", "openai", "gpt-4o",
         {"input_tokens": 1000, "output_tokens": 500}, "0.0075"),
    # 1,000 x $0.15/M + 500 x $0.60/M: a mini is not its big sister
    Case("mini, OpenAI pricing 2026-11", "openai", "gpt-4o-mini",
         {"input_tokens": 1000, "output_tokens": 500}, "0.00045"),
    # 200 x $2.50/M + 800 x $1.25/M
    Case("cached tokens are inside the input, OpenAI pricing 2026-11", "openai", "gpt-4o",
         {"input_tokens": 1000, "cache_read_input_tokens": 800}, "0.0015"),
    # reasoning is inside the output and costs the same: 3,000 x $4.40/M
    Case("reasoning is output, OpenAI pricing 2026-11", "openai", "o4-mini",
         {"input_tokens": 0, "output_tokens": 3000, "reasoning_output_tokens": 2500}, "0.0132"),
    # 1,000 x $4.25/M + 500 x $17/M
    Case("priority tier, OpenAI pricing 2026-11", "openai", "gpt-4o",
         {"tier": "priority", "input_tokens": 1000, "output_tokens": 500}, "0.01275"),
    # 10,000 x $0.55/M + 1,000 x $2.20/M
    Case("flex tier, OpenAI pricing 2026-11", "openai", "o4-mini",
         {"tier": "flex", "input_tokens": 10_000, "output_tokens": 1000}, "0.0077"),
    # 1,000 x $1.25/M + 500 x $5/M
    Case("batch, OpenAI pricing 2026-11", "openai", "gpt-4o",
         {"batch": True, "input_tokens": 1000, "output_tokens": 500}, "0.00375"),
    # 272,000 x $2/M + 1,000 x $10/M
    Case("at the threshold still short, OpenAI pricing 2026-11", "openai", "gpt-6-sol",
         {"input_tokens": 272_000, "output_tokens": 1000}, "0.554"),
    # 272,001 x $4/M + 1,000 x $15/M: all tokens at the long rate
    Case("beyond the threshold a whole-request cliff, OpenAI pricing 2026-11", "openai", "gpt-6-sol",
         {"input_tokens": 272_001, "output_tokens": 1000}, "1.103004"),
    # 272,001 x $2/M + 1,000 x $7.50/M
    Case("long batch, OpenAI pricing 2026-11", "openai", "gpt-6-sol",
         {"batch": True, "input_tokens": 272_001, "output_tokens": 1000}, "0.551502"),
    # 7,000 x $2/M + 2,000 x $2.50/M (30 min) + 1,000 x $5/M (12 h)
    Case("cache writes of 30 minutes and 12 hours, OpenAI pricing 2026-11", "openai", "gpt-6-sol",
         {"input_tokens": 10_000, "cache_write_input_tokens": {"30m": 2000, "12h": 1000}}, "0.024"),
    # (1,000 x $2/M + 1,000 x $10/M) x 1.1
    Case("EU data residency, OpenAI pricing 2026-11", "openai", "gpt-6-sol",
         {"region": "eu", "input_tokens": 1000, "output_tokens": 1000}, "0.0132"),
    # 700 x $2.50/M + 300 x $32/M + 100 x $10/M + 400 x $64/M
    Case("audio tokens have their own rate, OpenAI pricing 2026-11", "openai", "gpt-audio",
         {"input_tokens": 1000, "audio_input_tokens": 300, "output_tokens": 500, "audio_output_tokens": 400},
         "0.03795"),
    # 1,000 tokens, 900 cached, 850 audio: at least 750 are cached audio. 100 audio x $32/M + 150 x $0.40/M + 750 x
    # $0.40/M
    Case("cached audio, OpenAI Realtime pricing 2026-11", "openai", "gpt-realtime",
         {"input_tokens": 1000, "cache_read_input_tokens": 900, "audio_input_tokens": 850}, "0.00356"),
    # 12.5 s x $0.006/min
    Case("seconds, OpenAI whisper pricing 2026-11", "openai", "whisper-1",
         {"input_seconds": Decimal("12.5")}, "0.00125"),
    # 1,000 x $15/M characters
    Case("characters, OpenAI tts-1 pricing 2026-11", "openai", "tts-1", {"input_characters": 1000}, "0.015"),
    # 8 s x $0.10
    Case("video seconds, OpenAI sora-2 pricing 2026-11", "openai", "sora-2", {"output_seconds": Decimal(8)}, "0.8"),
    # 3 tokens x $0.02/M: far below a millionth of a dollar
    Case("tiny embedding, OpenAI pricing 2026-11", "openai", "text-embedding-3-small",
         {"input_tokens": 3}, "0.00000006"),
    # 1,000 x $2/M + 2 x $25/1k
    Case("web searches, OpenAI pricing 2026-11", "openai", "gpt-4.1",
         {"input_tokens": 1000, "web_searches": 2}, "0.052"),
    # 500 x $3/M + 300 x $0.30/M + 120 x $3.75/M + 80 x $6/M + 100 x $15/M
    Case("cache read, 5 minute and 1 hour writes, Anthropic pricing 2026-11", "anthropic", "claude-sonnet-4-5",
         {"input_tokens": 1000, "cache_read_input_tokens": 300, "cache_write_input_tokens": {"5m": 120, "1h": 80},
          "output_tokens": 100}, "0.00402"),
    # 100,000 x $0.10/M + 1,000 x $0.50/M
    Case("haiku 5.5 at 100k, Anthropic pricing 2026-11", "anthropic", "claude-haiku-5-5",
         {"input_tokens": 100_000, "output_tokens": 1000}, "0.0105"),
    # 100,001 x $0.50/M + 1,000 x $2.50/M: all rates five times as high for one more token
    Case("haiku 5.5 beyond 100k, Anthropic pricing 2026-11", "anthropic", "claude-haiku-5-5",
         {"input_tokens": 100_001, "output_tokens": 1000}, "0.0525005"),
    # 1 x $0.50/M + 100,000 x $0.05/M + 1,000 x $2.50/M: cached tokens count towards the threshold
    Case("cached tokens count towards the threshold, Anthropic pricing 2026-11", "anthropic", "claude-haiku-5-5",
         {"input_tokens": 100_001, "cache_read_input_tokens": 100_000, "output_tokens": 1000}, "0.0075005"),
    # 100,000 tokens with 100,000 of output: output never decides
    Case("output does not count towards the threshold, Anthropic pricing 2026-11", "anthropic", "claude-haiku-5-5",
         {"input_tokens": 100_000, "output_tokens": 100_000}, "0.06"),
    # (1,000 x $4/M + 1,000 x $20/M) x 2
    Case("fast mode, Anthropic pricing 2026-11", "anthropic", "claude-opus-5-5",
         {"tier": "fast", "input_tokens": 1000, "output_tokens": 1000}, "0.048"),
    # (1,000 x $4/M + 1,000 x $20/M) x 1.1 + 1 search x $0.01, which the region does not touch
    Case("inference_geo us, Anthropic pricing 2026-11", "anthropic", "claude-opus-5-5",
         {"region": "us", "input_tokens": 1000, "output_tokens": 1000, "web_searches": 1}, "0.0364"),
    # 500 x $1.50/M + 500 x $0.15/M + 100 x $7.50/M
    Case("batch with caches, Anthropic pricing 2026-11", "anthropic", "claude-sonnet-4-5",
         {"batch": True, "input_tokens": 1000, "cache_read_input_tokens": 500, "output_tokens": 100}, "0.001575"),
    # 200,000 x $1.25/M
    Case("Gemini at 200k, Gemini API pricing 2026-11", "gcp.gemini", "gemini-2.5-pro",
         {"input_tokens": 200_000}, "0.25"),
    # 200,001 x $2.50/M + 1,000 x $15/M
    Case("Gemini beyond 200k, Gemini API pricing 2026-11", "gcp.gemini", "gemini-2.5-pro",
         {"input_tokens": 200_001, "output_tokens": 1000}, "0.5150025"),
    # 700 x $0.30/M + 300 x $1/M + 200 x $2.50/M
    Case("audio input, Gemini API pricing 2026-11", "gcp.gemini", "gemini-2.5-flash",
         {"input_tokens": 1000, "audio_input_tokens": 300, "output_tokens": 200}, "0.00101"),
    # thinking at the output price, also in a batch: 1,000 x $1.25/M
    Case("thinking in a batch, Gemini API pricing 2026-11", "gcp.gemini", "gemini-2.5-flash",
         {"batch": True, "input_tokens": 0, "output_tokens": 1000, "reasoning_output_tokens": 900}, "0.00125"),
    # one grounded prompt x $35/1k, however many queries it made
    Case("grounding per prompt, Gemini API pricing 2026-11", "gcp.gemini", "gemini-2.5-flash",
         {"input_tokens": 0, "web_searches": 3}, "0.035"),
    # three queries x $14/1k
    Case("grounding per query, Gemini API pricing 2026-11", "gcp.gemini", "gemini-3.1-pro-preview",
         {"input_tokens": 0, "web_searches": 3}, "0.042"),
    # one image x $0.039; its 1,290 tokens are inside
    Case("an image, Gemini API pricing 2026-11", "gcp.vertex_ai", "gemini-2.5-flash-image",
         {"output_images": 1, "output_tokens": 1290}, "0.039"),
    # 1,290 image tokens x $30/M
    Case("image tokens, Gemini API pricing 2026-11", "gcp.vertex_ai", "gemini-2.5-flash-image",
         {"output_images": 1, "output_tokens": 1290, "image_output_tokens": 1290}, "0.0387"),
    # 1,000 x $5/M x 1.1
    Case("regional endpoint, Vertex AI pricing 2026-11", "gcp.vertex_ai", "claude-opus-4-5@20251101",
         {"region": "us-east5", "input_tokens": 1000}, "0.0055"),
    # 1,000 x $5/M
    Case("global endpoint, Vertex AI pricing 2026-11", "gcp.vertex_ai", "claude-opus-4-5@20251101",
         {"region": "global", "input_tokens": 1000}, "0.005"),
    # 1,000 x $1.10/M
    Case("geo profile, Amazon Bedrock pricing 2026-11", "aws.bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0",
         {"input_tokens": 1000}, "0.0011"),
    # 1,000 x $1/M
    Case("global profile, Amazon Bedrock pricing 2026-11", "aws.bedrock",
         "global.anthropic.claude-haiku-4-5-20251001-v1:0", {"input_tokens": 1000}, "0.001"),
    # 1,000 x $1.20/M
    Case("GovCloud, Amazon Bedrock pricing 2026-11", "aws.bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0",
         {"region": "us-gov-west-1", "input_tokens": 1000}, "0.0012"),
    # 1,000 x $0.06/M: a cache write without a rate is input
    Case("cache write without a rate, Amazon Nova pricing 2026-11", "aws.bedrock", "amazon.nova-lite-v1:0",
         {"input_tokens": 1000, "cache_write_input_tokens": {"unsplit": 600}}, "0.00006"),
    # 1,000 x $1.375/M
    Case("EU data zone, Azure OpenAI pricing 2026-11", "azure.ai.openai", "gpt-5.1",
         {"region": "eu", "input_tokens": 1000}, "0.001375"),
    # 199,999 x $1.25/M
    Case("grok below 200k, xAI pricing 2026-11", "x_ai", "grok-4.3", {"input_tokens": 199_999}, "0.24999875"),
    # 200,000 x $2.50/M: xAI's threshold is inclusive
    Case("grok at 200k, xAI pricing 2026-11", "x_ai", "grok-4.3", {"input_tokens": 200_000}, "0.5"),
    # 1,000 x $1/M + 100 x $2/M: 0.8 x standard
    Case("grok batch, xAI pricing 2026-11", "x_ai", "grok-4.3",
         {"batch": True, "input_tokens": 1000, "output_tokens": 100}, "0.0012"),
    # 32,000 x $1.20/M
    Case("upper bound of a range included, Alibaba Model Studio 2026-11", "dashscope", "qwen3-max",
         {"input_tokens": 32_000}, "0.0384"),
    # 32,001 x $2.40/M + 10 x $12/M
    Case("next range for all tokens, Alibaba Model Studio 2026-11", "dashscope", "qwen3-max",
         {"input_tokens": 32_001, "output_tokens": 10}, "0.0769224"),
    # 300,000 x $3/M: beyond the last range
    Case("beyond the last range, Alibaba Model Studio 2026-11", "dashscope", "qwen3-max",
         {"input_tokens": 300_000}, "0.9"),
    # Tuesday 12:00 UTC is off-peak: 1,000 x $0.15/M + 1,000 x $0.60/M
    Case("off-peak on a weekday, DeepSeek pricing 2026-11", "deepseek", "deepseek-v4-flash",
         {"at_us": at("2026-11-03T12:00:00+00:00"), "input_tokens": 1000, "output_tokens": 1000}, "0.00075"),
    # Tuesday 09:59:59 UTC is peak: 1,000 x $0.30/M + 1,000 x $1.20/M
    Case("peak on a weekday, DeepSeek pricing 2026-11", "deepseek", "deepseek-v4-flash",
         {"at_us": at("2026-11-03T09:59:59+00:00"), "input_tokens": 1000, "output_tokens": 1000}, "0.0015"),
    # Saturday 08:00 UTC
    Case("off-peak at the weekend, DeepSeek pricing 2026-11", "deepseek", "deepseek-v4-flash",
         {"at_us": at("2026-11-07T08:00:00+00:00"), "input_tokens": 1000, "cache_read_input_tokens": 1000}, "0.000003"),
    # 512,001 x $0.60/M
    Case("MiniMax beyond 512k, MiniMax pricing 2026-11", "minimax", "MiniMax-M3",
         {"input_tokens": 512_001}, "0.3072006"),
    # 1,000 x $3/M + one request at high context x $14/1k
    Case("request fee by context size, Perplexity pricing 2026-11", "perplexity", "sonar-pro",
         {"input_tokens": 1000, "search_context_size": "high"}, "0.017"),
    # 3 pages x $4/1k
    Case("pages, Mistral OCR pricing 2026-11", "mistral_ai", "mistral-ocr-latest", {"pages": 3}, "0.012"),
    # 3 pages x $2/1k
    Case("pages in a batch, Mistral OCR pricing 2026-11", "mistral_ai", "mistral-ocr-latest",
         {"batch": True, "pages": 3}, "0.006"),
    # 2 searches x $2/1k; LiteLLM's token rate of 0 is no price
    Case("search units, Cohere pricing 2026-11", "cohere", "rerank-v3.5",
         {"search_units": 2, "input_tokens": 900}, "0.004"),
    # half of 1,000 x $0.50/M, which Mistral documents and no catalog lists
    Case("batch not listed, Mistral pricing 2026-11", "mistral_ai", "mistral-large-latest",
         {"batch": True, "input_tokens": 1000}, "0.00025", "assumed"),
    # 500 x $1/M, listed, + 500 x half of $0.50/M, documented
    Case("cached tokens in a batch, OpenAI pricing 2026-11", "openai", "gpt-4.1",
         {"batch": True, "input_tokens": 1000, "cache_read_input_tokens": 500}, "0.000625", "assumed"),
    # 1,000 x $3/M: what is known without the context size
    Case("request fee without context size, Perplexity", "perplexity", "sonar-pro",
         {"input_tokens": 1000}, "0.003", "partial"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_call_costs_what_the_provider_says(case: Case, charge: Charging) -> None:
    charged = charge(case.provider, case.model, **case.call)

    assert charged.status == case.status, charged
    assert charged.cost_pico == pico(case.cost)
    assert sum(line.amount_pico for line in charged.lines) == charged.cost_pico
    assert charged.list_cost_pico == charged.cost_pico
    assert charged.currency == "USD"

"""The host of the base URL says who sends the bill."""

from __future__ import annotations

import pytest

from farebox import openai_shape
from farebox.providers import provider_of
from farebox.reading import Reading, Request


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("my-resource.openai.azure.com", "azure.ai.openai"),
        ("my-resource.services.ai.azure.com", "azure.ai.inference"),
        ("API.DeepSeek.com", "deepseek"),
        ("api.x.ai", "x_ai"),
        ("us-east-1.api.x.ai", "x_ai"),
        ("api.groq.com", "groq"),
        ("openrouter.ai", "openrouter"),
        ("api.perplexity.ai", "perplexity"),
        ("api.moonshot.cn", "moonshot_ai"),
        ("api.mistral.ai", "mistral_ai"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "aws.bedrock"),
        ("api.anthropic.com", "anthropic"),
        ("127.0.0.1", "otherwise"),
        ("api.openai.com.evil.example", "otherwise"),
        ("notapi.openai.com", "otherwise"),
        ("gateway.example.org", "otherwise"),
        ("", "otherwise"),
    ],
)
def test_a_host_belongs_to_its_provider(host: str, provider: str) -> None:
    assert provider_of(host, "otherwise") == provider


def test_what_perplexity_says_of_its_searches_is_read() -> None:
    usage = {
        "prompt_tokens": 33,
        "completion_tokens": 7163,
        "total_tokens": 7196,
        "num_search_queries": 18,
        "search_context_size": "low",
        "cost": {"input_tokens_cost": 0.01, "total_cost": 0.42},
    }
    reading = Reading(Request("chat", "perplexity", "sonar-deep-research"))

    openai_shape.read_usage(usage, reading)

    assert reading.attributes == {
        "gen_ai.usage.input_tokens": 33,
        "gen_ai.usage.output_tokens": 7163,
        "farebox.usage.web_searches": 18,
        "farebox.usage.search_context_size": "low",
        "farebox.stated_cost": "0.42",
    }

"""The host of the base URL says who sends the bill."""

from __future__ import annotations

import pytest

from farebox.providers import provider_of


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

"""The provider's name as the GenAI conventions write it, from what emitters of several generations write.

The attribute names the flavor of the API, not who is paid: an OpenAI client pointed at another host still says
`openai`. So a host that belongs to a known provider outweighs the flavor.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from farebox_ledger.pricing import canonical_provider

_HOSTS: Final = (
    ("openai.azure.com", "azure.ai.openai"),
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.x.ai", "x_ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.together.xyz", "together_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
    ("api.cerebras.ai", "cerebras"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
)
_FLAVORS: Final = ("openai", "anthropic")
"""Only these clients are pointed at other providers' hosts; other flavors name who is paid."""


@lru_cache(maxsize=4096)
def provider_of(name: str | None, host: str | None) -> str | None:
    """Answer the canonical name. An unknown name stays as it is, in lower case; an unknown host says nothing."""
    known = None if name is None else canonical_provider(name)
    if host is None or (known is not None and known not in _FLAVORS):
        return known
    lowered = host.lower().rstrip(".")
    for suffix, provider in _HOSTS:
        if lowered == suffix or lowered.endswith(f"-{suffix}") or lowered.endswith(f".{suffix}"):
            return provider
    return known


_BEDROCK_ID: Final = re.compile(r"arn:aws[a-z-]*:bedrock:|(?:[a-z-]+\.)?[a-z0-9]+\.[a-z0-9.-]+:\d+$")
"""`us.anthropic.claude-sonnet-4-20250514-v1:0`: only Bedrock's ids have a vendor in front and a revision at the end."""


def provider_of_model_id(model: str | None) -> str | None:
    """Name the provider whose ids alone have such a shape, for emitters that name none; None where several do."""
    if model is None:
        return None
    if _BEDROCK_ID.match(model):
        return "aws.bedrock"
    return "gcp.vertex_ai" if model.startswith("claude-") and "@" in model else None

"""Who is really called: from the host of the base URL to the provider's name.

Many providers speak OpenAI's protocol; the name of the SDK says nothing about who sends the bill. Names are those of
the OpenTelemetry conventions where they have one, else those of the price catalogs.
"""

from __future__ import annotations

from collections.abc import Mapping

#: End of the host name → provider. A leading dot asks for a subdomain.
HOSTS: Mapping[str, str] = {
    "api.openai.com": "openai",
    ".api.openai.com": "openai",  # regional: eu.api.openai.com
    ".openai.azure.com": "azure.ai.openai",
    ".openai.azure.us": "azure.ai.openai",
    ".openai.azure.cn": "azure.ai.openai",
    ".cognitiveservices.azure.com": "azure.ai.openai",
    ".services.ai.azure.com": "azure.ai.inference",
    ".models.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    ".api.x.ai": "x_ai",
    "api.groq.com": "groq",
    "openrouter.ai": "openrouter",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.mistral.ai": "mistral_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "-aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.together.xyz": "together_ai",
    "api.together.ai": "together_ai",
    "api-inference.together.ai": "together_ai",
    "api.fireworks.ai": "fireworks_ai",
    "api.cerebras.ai": "cerebras",
    "api.sambanova.ai": "sambanova",
    "api.deepinfra.com": "deepinfra",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.novita.ai": "novita",
    "api.replicate.com": "replicate",
    "api.z.ai": "zai",
    "api.minimax.io": "minimax",
    "dashscope.aliyuncs.com": "dashscope",
    "dashscope-intl.aliyuncs.com": "dashscope",
    "ark.cn-beijing.volces.com": "volcengine",
    "integrate.api.nvidia.com": "nvidia_nim",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "models.github.ai": "github",
    "ai-gateway.vercel.sh": "vercel_ai_gateway",
}


def provider_of(host: str, otherwise: str) -> str:
    """The provider behind a host; `otherwise` for hosts that nobody knows, such as a gateway or a local server."""
    host = host.lower()
    if host in HOSTS:
        return HOSTS[host]
    if "bedrock" in host and host.endswith(".amazonaws.com"):
        return "aws.bedrock"
    for ending, provider in HOSTS.items():
        if ending[0] in ".-" and host.endswith(ending):
            return provider
    return otherwise

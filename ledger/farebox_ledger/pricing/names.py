"""Names of providers and models: many spellings in, exact candidates out, each with the rule that made it.

Comes in: what an emitter or a catalog wrote. Goes out: canonical provider names and an ordered list of names to look
up. A name is never matched by a substring, a prefix or a pattern, and a suffix such as `mini` or `lite` is never
dropped: every candidate is looked up as a whole (docs/pricing.md).
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Final

import msgspec

# The canonical names are those of OTel's `gen_ai.provider.name` where it has one. LiteLLM's `litellm_provider`
# values, SDK names and common spellings stand behind them.
_PROVIDER_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("text-completion-openai", "open_ai", "openai_responses"),
    "azure.ai.openai": ("azure", "az.ai.openai", "azure_openai", "azure-openai", "azure_text", "azureopenai"),
    "azure.ai.inference": ("azure_ai", "az.ai.inference", "azure_ai_inference", "azure-ai", "azure_ai_foundry"),
    "anthropic": ("claude",),
    "aws.bedrock": ("bedrock", "bedrock_converse", "aws_bedrock", "amazon_bedrock", "amazon-bedrock", "amazon.bedrock"),
    "gcp.vertex_ai": ("vertex_ai", "vertexai", "vertex", "google_vertex", "google_vertexai", "google-vertex"),
    "gcp.gemini": ("gemini", "google", "gcp.gen_ai", "google_genai", "google-genai", "google_ai_studio", "google-gla",
                   "google_generativeai"),
    "mistral_ai": ("mistral", "mistralai"),
    "x_ai": ("xai", "x.ai", "grok"),
    "cohere": ("cohere_chat",),
    "deepseek": ("deep_seek",),
    "groq": (),
    "perplexity": ("perplexity_ai",),
    "moonshot_ai": ("moonshot", "moonshotai"),
    "ibm.watsonx.ai": ("watsonx", "ibm_watsonx", "watsonx_ai"),
    "together_ai": ("together", "togetherai"),
    "fireworks_ai": ("fireworks", "fireworks_ai-embedding-models"),
    "openrouter": ("open_router",),
    "ollama": ("ollama_chat",),
    "amazon_nova": ("amazon-nova",),
    "codestral": ("text-completion-codestral",),
    "inception": ("text-completion-inception",),
    "vercel_ai_gateway": ("vercel", "vercel-ai-gateway"),
    "dashscope": ("alibaba_cloud", "alibaba", "alibabacloud"),
    "voyage": ("voyageai", "voyage_ai"),
    "ai21": ("ai21_labs",),
    "jina_ai": ("jina",),
    "huggingface": ("hugging_face",),
}  # fmt: skip

_CANONICAL_PROVIDER: Final = {
    spelling: canonical for canonical, others in _PROVIDER_ALIASES.items() for spelling in (canonical, *others)
}

FIRST_PARTIES: Final = frozenset(
    {
        "openai", "anthropic", "gcp.gemini", "mistral_ai", "x_ai", "deepseek", "cohere", "perplexity", "moonshot_ai",
        "ai21", "voyage", "amazon_nova", "dashscope", "zai", "minimax", "jina_ai", "elevenlabs", "deepgram",
        "assemblyai", "meta", "inception", "black_forest_labs", "stability", "runwayml", "recraft", "xiaomi_mimo",
        "morph", "sarvam", "gigachat", "v0",
    }
)  # fmt: skip
"""Providers that sell models of their own: where a call names no provider, the model's maker is meant."""

_BEDROCK_GEOS: Final = frozenset({"us", "eu", "apac", "jp", "au", "ca", "global", "us-gov"})
_AZURE_ZONES: Final = frozenset({"us", "eu", "apac", "global", "global-standard"})
_AWS_REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
_BEDROCK_CONTEXT: Final = re.compile(r":\d+k$")
_BEDROCK_REVISION: Final = re.compile(r":\d+$")
_BEDROCK_VERSION: Final = re.compile(r"-v\d+$")
_DATE: Final = re.compile(r"[-@](20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])$")
_OPAQUE_BEDROCK_RESOURCES: Final = frozenset(
    {"application-inference-profile", "provisioned-model", "custom-model", "imported-model", "custom-model-deployment"}
)


class Candidate(msgspec.Struct, frozen=True):
    """A name to look up as a whole, comparable form, and the rule that made it from what was given."""

    key: str
    rule: str


class ModelName(msgspec.Struct, frozen=True):
    """A model's name without what only says where it is called: resource path, own-provider prefix.

    `publisher` is set where a Vertex path named one; `region` where an ARN, a path or the request did.
    """

    name: str
    region: str | None = None
    publisher: str | None = None
    is_opaque: bool = False  # an id that stands for a model without naming it (application inference profiles)


def canonical_provider(provider: str | None) -> str | None:
    """Name a provider canonically: `AZURE` → `azure.ai.openai`, `vertex_ai-llama_models` → `gcp.vertex_ai`.

    A provider that no table knows keeps its name in lower case; None where nothing was said.
    """
    name = provider.strip().lower() if provider else ""
    if not name:
        return None
    if name.startswith("vertex_ai-"):  # LiteLLM keeps one pseudo-provider per publisher on Vertex
        name = "vertex_ai"
    return _CANONICAL_PROVIDER.get(name, name)


def comparable(name: str) -> str:
    """Bring a name into the form in which names are compared: ` GPT-4o ` → `gpt-4o`, composed (NFC), folded."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


def without_own_provider(name: str, provider: str) -> str:
    """Drop the own provider in front: `azure/eu/gpt-4o` → `eu/gpt-4o`; at groq `openai/gpt-oss-120b` stays."""
    head, slash, tail = name.partition("/")
    return tail if slash and tail and canonical_provider(head) == provider else name


def without_models_path(name: str) -> str:
    """Drop Gemini's resource prefix: `models/gemini-2.5-pro` → `gemini-2.5-pro`."""
    return name.removeprefix("models/") or name


def from_publisher_path(name: str) -> ModelName:
    """Read Vertex's path: `projects/p/locations/us-east5/publishers/anthropic/models/claude-…` and its tails."""
    parts = name.split("/")
    for index in range(len(parts) - 3):
        if parts[index] == "publishers" and parts[index + 2] == "models":
            region = parts[index - 1] if index >= 2 and parts[index - 2] == "locations" else None
            return ModelName("/".join(parts[index + 3 :]), region, parts[index + 1])
    return ModelName(name)


def from_arn(name: str) -> ModelName:
    """Read Bedrock's ARN: `arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-…` → its id, its region."""
    parts = name.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn" or not parts[2].startswith("bedrock"):
        return ModelName(name)
    kind, _, resource = parts[5].partition("/")
    return ModelName(resource or parts[5], parts[3] or None, is_opaque=kind in _OPAQUE_BEDROCK_RESOURCES)


def fine_tuned_base(name: str) -> str:
    """Reduce a fine-tuned model to the fine-tuned price of its base: `ft:gpt-4o:acme::x1` → `ft:gpt-4o`.

    Never further: the base model has another price.
    """
    return ":".join(name.split(":", 2)[:2]) if name.startswith("ft:") else name


def split_region(name: str, provider: str) -> tuple[str | None, str]:
    """Split the region off a name: `eu/gpt-4o` at Azure, `us.amazon.nova-…` and `us-east-1/…` at Bedrock."""
    if provider == "azure.ai.openai":
        zone, slash, rest = name.partition("/")
        return (zone, rest) if slash and zone in _AZURE_ZONES else (None, name)
    if provider == "aws.bedrock":
        region, slash, rest = name.partition("/")
        if slash and _AWS_REGION.fullmatch(region):
            return region, rest
        geo, dot, rest = name.partition(".")
        return (geo, rest) if dot and geo in _BEDROCK_GEOS and rest else (None, name)
    return None, name


def with_region(name: str, region: str, provider: str) -> str | None:
    """Put the region where the provider's price list has it; None where the provider prices no regions by name."""
    if provider == "azure.ai.openai" and region in _AZURE_ZONES:
        return f"{region}/{name}"
    if provider == "aws.bedrock":
        return f"{region}.{name}" if region in _BEDROCK_GEOS else f"{region}/{name}"
    return None


def without_version_tags(name: str, provider: str) -> list[str]:
    """Drop version tags one after the other, each result a candidate of its own.

    Bedrock: `amazon.nova-pro-v1:0:24k` → `…-v1:0` → `…-v1` → `amazon.nova-pro`. Vertex: `codestral-2@001` →
    `codestral-2`; a date behind the `@` is a date, not a tag.
    """
    if provider == "gcp.vertex_ai" and "@" in name and not _DATE.search(name):
        return [name.rpartition("@")[0]]
    shorter: list[str] = []
    if provider == "aws.bedrock":
        for tag in (_BEDROCK_CONTEXT, _BEDROCK_REVISION, _BEDROCK_VERSION):
            stripped = tag.sub("", name)
            if stripped != name:
                shorter.append(stripped)
                name = stripped
    return shorter


def respelled_date(name: str, provider: str) -> str | None:
    """Write a date as Vertex does: `claude-opus-4-5-20251101` → `claude-opus-4-5@20251101`; None where none is."""
    date = _DATE.search(name) if provider == "gcp.vertex_ai" else None
    return f"{name[: date.start()]}@{''.join(date.groups())}" if date else None


def without_date(name: str) -> str | None:
    """Drop a date at the end: `gpt-4o-2024-08-06` → `gpt-4o`; None where none is. The caller must not price it blindly.

    Only the resolver's rule makes this safe: no source knows the dated name, and all its dated siblings cost the same.
    """
    date = _DATE.search(name)
    return name[: date.start()] if date else None


def date_us(name: str) -> int | None:
    """Read the date at the end of a name as the beginning of that UTC day, in microseconds; None where none is."""
    date = _DATE.search(name)
    if date is None:
        return None
    year, month, day = (int(part) for part in date.groups())
    try:
        return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1_000_000
    except ValueError:  # 2026-02-31
        return None


def candidates(name: str, provider: str, region: str | None) -> list[Candidate]:
    """List the names to look up for a model name as it was given, best first, without repeats."""
    found: dict[str, str] = {}
    given = comparable(name)
    model = _place(given, provider)
    region = (region.strip().lower() if region else None) or model.region
    own_region, bare = split_region(model.name, provider)
    if region and own_region is None and not model.is_opaque:
        placed = with_region(model.name, region, provider)
        if placed:
            found[placed] = "with_region"
    found.setdefault(given, "exact")
    if model.publisher:
        found.setdefault(f"{model.publisher}/{model.name}", "without_path")
    found.setdefault(without_own_provider(given, provider), "without_prefix")
    is_path = "models/" in given or given.startswith("arn:")
    found.setdefault(model.name, "without_path" if is_path else "without_prefix")
    found.setdefault(fine_tuned_base(model.name), "fine_tuned_base")
    respelled = respelled_date(model.name, provider)
    if respelled:
        found.setdefault(respelled, "date_spelling")
    if own_region:
        found.setdefault(bare, "without_region")
    for shorter in (*without_version_tags(model.name, provider), *without_version_tags(bare, provider)):
        found.setdefault(shorter, "without_version")
    if model.is_opaque:
        return [Candidate(given, "exact")]
    return [Candidate(key, rule) for key, rule in found.items() if key]


def _place(given: str, provider: str) -> ModelName:
    """Take the path and the provider's prefix off, whichever way they are nested."""
    model = from_arn(without_own_provider(given, provider))
    if model.is_opaque or model.region:
        return model
    model = from_publisher_path(model.name)
    name = without_models_path(model.name) if model.publisher is None else model.name
    if model.publisher is None:
        name = without_own_provider(name, provider)
    return ModelName(name, model.region, model.publisher)

"""LiteLLM: the providers that it calls by its own HTTP stack; where it calls another SDK, that one's span is the row.

Its public functions are wrapped, each a call around others (`Request.is_around`): a fallback, a retry or a bridge from
one function to another ends in the innermost that was made, once each. LiteLLM folds every provider's counts into
OpenAI's shape, totals including their parts, and states what it believes the call to cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox import spans
from farebox.openai_shape import first, read_answer, read_chat_chunk, read_cost, read_usage
from farebox.places import place_at
from farebox.reading import Reading, Request, fields
from farebox.sdks import Target

TESTED = ("1.109", "1.109")

#: Public function → operation; each has a twin that begins with `a`.
FUNCTIONS: Mapping[str, str] = {
    "completion": "chat",
    "text_completion": "text_completion",
    "embedding": "embeddings",
    "responses": "chat",
    "image_generation": "image_generation",
    "image_edit": "image_generation",
    "rerank": "rerank",
    "transcription": "transcription",
    "speech": "speech",
}
#: What LiteLLM's own functions, such as `batch_completion`, call in place of the public ones.
INNER = {"completion": "litellm.main", "embedding": "litellm.main", "responses": "litellm.responses.main"}
TARGETS = tuple(
    Target(module, prefix + name, operation)
    for name, operation in FUNCTIONS.items()
    for module in ("litellm", INNER.get(name))
    for prefix in ("", "a")
    if module is not None
)

#: LiteLLM's name of a provider → that of the conventions, where they differ.
PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "codestral": "mistral_ai",
    "fireworks_ai": "fireworks_ai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "ollama_chat": "ollama",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}
FINAL_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
CACHED = "cached_response"
#: Of the functions themselves: they call their sync twins with this set, and get a coroutine.
INSIDE = tuple("a" + name for name in FUNCTIONS)
#: LiteLLM's members of cache writes by their time to live.
CACHE_WRITES = (
    ("ephemeral_5m_input_tokens", spans.CACHE_WRITE_5M_INPUT_TOKENS),
    ("ephemeral_30m_input_tokens", spans.CACHE_WRITE_30M_INPUT_TOKENS),
    ("ephemeral_1h_input_tokens", spans.CACHE_WRITE_1H_INPUT_TOKENS),
    ("ephemeral_12h_input_tokens", spans.CACHE_WRITE_12H_INPUT_TOKENS),
)


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    # Fallbacks are calls of their own, made in a thread that knows nothing of this one.
    if kwargs.get("fallbacks") or kwargs.get("mock_response") or any(kwargs.get(name) is True for name in INSIDE):
        return None
    named = kwargs.get("model")
    if named is None and args and ("messages" in kwargs or isinstance(args[1:2] and args[1], list)):
        named = args[0]  # only here is the first argument surely no text of the app's
    provider, model = _split(named, kwargs.get("custom_llm_provider"))
    request = Request("chat", provider or "litellm", model, is_stream=kwargs.get("stream") is True)
    request.is_around = True
    request.body = kwargs
    if isinstance(kwargs.get("input"), str) and "voice" in kwargs:
        request.units[spans.INPUT_CHARACTERS] = len(kwargs["input"])
    return request


def read_response(response: Any, reading: Reading) -> None:
    inside, hidden = fields(response), _hidden(response)
    if hidden.get("cache_hit") is True:
        reading.is_discarded = True
        return
    _read_place(hidden, reading)
    usage = inside.get("usage")
    if reading.request.operation == "image_generation" and not first(fields(usage), "total_tokens"):
        # Zeros stand for a usage that the provider did not say.
        inside = {**inside, "usage": None}
    read_answer(inside, reading)
    _read_more(usage, reading)
    _read_rerank(fields(inside.get("meta")), reading)
    if hidden.get("response_cost") is not None:
        read_cost(hidden["response_cost"], reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside, hidden = fields(chunk), _hidden(chunk)
    if "choices" not in inside:
        if str(getattr(inside.get("type"), "value", inside.get("type"))) in FINAL_EVENTS:
            read_response(inside.get("response"), reading)
        return
    if hidden.get("custom_llm_provider") == CACHED:
        reading.is_discarded = True
        return
    if spans.PROVIDER not in reading.attributes:
        _read_place(hidden, reading)
    read_chat_chunk(inside, reading)
    usage = hidden.get("usage")
    # Of a usage that no chunk has said, LiteLLM makes zeros of a class of their own.
    if usage is not None and type(usage).__name__ != "UnreportedUsage":
        read_usage(usage, reading)
        _read_more(usage, reading)


def _hidden(answer: Any) -> Mapping[str, Any]:
    """What LiteLLM knows of an answer beside its content."""
    hidden = getattr(answer, "_hidden_params", None)
    return hidden if isinstance(hidden, dict) else {}


def _split(named: Any, provider: Any = None) -> tuple[str | None, str | None]:
    """Provider and model of a name such as `anthropic/claude-sonnet-4-5`; None for what it does not say."""
    if not isinstance(named, str) or not named:
        return None, None
    before, slash, model = named.partition("/")
    if provider is None:
        return (PROVIDERS.get(before, before), model) if slash else (None, named)
    return PROVIDERS.get(str(provider), str(provider)), model if before == provider else named


def _read_place(hidden: Mapping[str, Any], reading: Reading) -> None:
    provider, model = _split(hidden.get("litellm_model_name"), hidden.get("custom_llm_provider"))
    if provider is None and hidden.get("custom_llm_provider"):
        provider = PROVIDERS.get(hidden["custom_llm_provider"], hidden["custom_llm_provider"])
    place = place_at(str(hidden.get("api_base") or ""))
    reading.put(spans.PROVIDER, place.provider or provider)
    reading.put(spans.SERVER_ADDRESS, place.address or None)
    reading.put(spans.SERVER_PORT, place.port)
    if reading.request.model is None:
        reading.put(spans.REQUEST_MODEL, model)


def _read_more(usage: Any, reading: Reading) -> None:
    """Read what LiteLLM keeps of a usage beside OpenAI's members."""
    inside = fields(usage)
    details = fields(inside.get("prompt_tokens_details"))
    reading.put_count(spans.CACHE_WRITE_INPUT_TOKENS, first(details, "cache_creation_tokens", "cache_write_tokens"))
    by_ttl = fields(details.get("cache_creation_token_details"))
    for member, name in CACHE_WRITES:
        reading.put_count(name, by_ttl.get(member))
    searches = first(fields(inside.get("server_tool_use")), "web_search_requests")
    reading.put_count(spans.WEB_SEARCHES, searches if searches is not None else details.get("web_search_requests"))
    reading.put(spans.SERVICE_TIER, "fast" if inside.get("speed") == "fast" else inside.get("service_tier"))
    if inside.get("inference_geo") not in (None, "not_available", "global"):
        reading.put(spans.REGION, inside["inference_geo"])


def _read_rerank(meta: Mapping[str, Any], reading: Reading) -> None:
    billed = fields(meta.get("billed_units"))
    reading.put_count(spans.SEARCH_UNITS, billed.get("search_units"))
    tokens = first(fields(meta.get("tokens")), "input_tokens")
    reading.put_count(spans.INPUT_TOKENS, tokens if tokens is not None else billed.get("total_tokens"))

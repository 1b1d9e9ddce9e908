"""OpenInference's instrumentations (Arize): keys of their own, and a kind on each span.

Its token counts follow OpenAI's meaning: the prompt includes cached tokens, the completion includes reasoning
(openinference-instrumentation-openai 0.1.66, -anthropic 3.1.0, -langchain 0.1.80; semantic conventions 0.1.42).
Only the kinds that call a model are calls; agents, chains, tools and retrievers wrap them.

It writes no response id, but where it watches an SDK its `output.value` is the provider's response in JSON: the id is
taken out of that, and nothing else of it is kept.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from farebox_collector.dialects.assembly import (
    assembled_reading,
    first_text,
    metadata_of,
    stated_cost,
    tags_of,
    text_of,
)
from farebox_collector.dialects.counting import Reading, counted
from farebox_collector.dialects.dialect import Attributes, Dialect
from farebox_collector.dialects.providers import provider_of
from farebox_collector.spans import Extract, Span
from farebox_ledger.usage import Usage, UsageEvent

_KIND: Final = "openinference.span.kind"
_OPERATIONS: Final = {"LLM": "chat", "EMBEDDING": "embeddings", "RERANKER": "rerank", "DECISION": "decide"}
"""The kinds that are calls. `DECISION` is OpenAI's Decisions API, with keys of its own."""

_COUNTS: Final = {
    "llm.token_count.prompt": "input_tokens",
    "decision.token_count.input": "input_tokens",
    "llm.token_count.completion": "output_tokens",
    "decision.token_count.output": "output_tokens",
    "llm.token_count.prompt_details.cache_read": "cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_write": "cache_write_input_tokens",
    "llm.token_count.prompt_details.audio": "audio_input_tokens",
    "llm.token_count.completion_details.reasoning": "reasoning_output_tokens",
    "llm.token_count.completion_details.audio": "audio_output_tokens",
}
_CACHED: Final = {"llm.token_count.prompt_details.cache_input": "cache_read_input_tokens"}
"""OpenAI's cached tokens by an older name; beside the newer names it says nothing that they do not."""

_TOTAL: Final = "llm.token_count.total"
_COST: Final = "llm.cost.total"
_REQUEST_MODELS: Final = ("llm.request.model_name", "decision.request.model_name")
_RESPONSE_MODELS: Final = ("llm.response.model_name", "decision.response.model_name")
_MODELS: Final = ("llm.model_name", "embedding.model_name", "reranker.model_name", "decision.model_name")
"""The request's model until there is a response, then the response's: one key for both."""

_RESPONSE_ID: Final = "openinference.response.id"
"""No key of OpenInference: what `response_id_in` answers is kept under it."""

_PROVIDERS: Final = ("llm.provider", "decision.provider")
_SYSTEMS: Final = ("llm.system", "decision.system")
_TAGS: Final = "tag.tags"
_METADATA: Final = "metadata"
_SPELLINGS: Final = {"aws": "aws.bedrock"}
"""Names of OpenInference that mean a company where everybody else names its model service."""


def _read(span: Span) -> UsageEvent | None:
    attributes = span.attributes
    kind = text_of(attributes.get(_KIND))
    if kind is None:
        return None
    operation = _OPERATIONS.get(kind.upper())
    fields = _names(attributes)
    fields["operation"] = operation or kind.lower()
    reading = _usage(attributes, operation)
    if operation == "chat" and fields["response_id"] is None and _may_be_told_again(span, reading):
        reading.rule = "response_unnamed"
    return assembled_reading(
        span,
        dialect="openinference",
        kind="container" if operation is None else "call",
        reading=reading,
        fields=fields,
    )


def _may_be_told_again(span: Span, reading: Reading) -> bool:
    """Say whether the response's id alone would join this call with another library's report of it.

    Within a trace the rules need no id; in a trace of its own the call has nothing else that two true calls cannot
    have in common. Only where an SDK is watched is there a second library that sees the very same call.
    """
    return span.parent_span_id is None and span.scope in _WATCHING_AN_SDK and not reading.usage.is_empty()


def _usage(attributes: Attributes, operation: str | None) -> Reading:
    quantities, is_clamped = counted(attributes, _COUNTS)
    total_alone = operation == "embeddings" and "input_tokens" not in quantities and _TOTAL in attributes
    if total_alone:
        more, is_unusable = counted(attributes, {_TOTAL: "input_tokens"})
        quantities |= more
        is_clamped |= is_unusable
    if quantities.keys().isdisjoint(("cache_read_input_tokens", "cache_write_input_tokens")):
        cached, is_unusable = counted(attributes, _CACHED)
        quantities |= cached
        is_clamped |= is_unusable
    writes = quantities.pop("cache_write_input_tokens", None)
    if writes is not None:
        quantities["cache_write_input_tokens"] = {"unsplit": writes}
    reading = Reading(Usage(**quantities), is_clamped)
    if total_alone:
        reading.changed_by("total_is_input", attributes, (_TOTAL,))
    return reading


def _names(attributes: Attributes) -> dict[str, Any]:
    request, response, either = (first_text(attributes, keys) for keys in (_REQUEST_MODELS, _RESPONSE_MODELS, _MODELS))
    return {
        "provider": _provider(first_text(attributes, _PROVIDERS), first_text(attributes, _SYSTEMS)),
        "request_model": request or either,
        "response_model": response or (either if request is not None and either != request else None),
        "response_id": text_of(attributes.get(_RESPONSE_ID)),
        "stated_cost": stated_cost(attributes.get(_COST)),
        "tags": tags_of(attributes[_TAGS]) if _TAGS in attributes else None,
        "metadata": metadata_of(attributes[_METADATA]) if _METADATA in attributes else None,
    }


def _provider(provider: str | None, system: str | None) -> str | None:
    """Name who is paid: the provider, which says `google` for both of Google's services; the system tells them."""
    if system is not None and (provider is None or (provider == "google" and system == "vertexai")):
        provider = system
    return provider_of(_SPELLINGS.get(provider or "", provider), None)


class _Response(msgspec.Struct):
    """What the responses of OpenAI and Anthropic have in common; `object` and `type` name their kind."""

    id: str
    model: str
    object: str | None = None
    type: str | None = None


_responses: Final = msgspec.json.Decoder(_Response)
_RESPONSES: Final = ("message", "chat.completion", "chat.completion.chunk", "text_completion", "response")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")


def response_id_in(output: bytes) -> str | None:
    """Take the response's id out of a provider's response; None where the output is anything else."""
    try:
        response = _responses.decode(output)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_response = response.object in _RESPONSES or response.type in _RESPONSES
    return response.id if is_response and _ID.fullmatch(response.id) else None


_WATCHING_AN_SDK: Final = tuple(f"openinference.instrumentation.{sdk}" for sdk in ("anthropic", "openai"))
_OUTPUT: Final = Extract("output.value", _RESPONSE_ID, response_id_in)

OPENINFERENCE: Final = Dialect(
    scopes=("openinference.instrumentation",),
    marks=(b"openinference.span.kind",),
    keys=frozenset((_KIND, _TOTAL, _COST, _TAGS, _METADATA, _RESPONSE_ID)).union(
        _COUNTS, _CACHED, _REQUEST_MODELS, _RESPONSE_MODELS, _MODELS, _PROVIDERS, _SYSTEMS
    ),
    recognizes=lambda attributes: _KIND in attributes,
    read=_read,
    extracts=dict.fromkeys(_WATCHING_AN_SDK, _OUTPUT),
)

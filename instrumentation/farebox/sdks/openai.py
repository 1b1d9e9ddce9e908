"""OpenAI, Azure OpenAI, and every host that speaks their protocol through the `openai` package.

One method of the client carries every call (`farebox.stainless`), so that `create`, `parse`, stream managers, raw and
streaming responses are each one span. Totals include their parts, as OpenAI counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from farebox import metering, spans
from farebox.reading import Arguments, Reading, Request, fields
from farebox.sdks import Target
from farebox.stainless import Sent

TESTED = ("1.60", "3.52")
TARGETS = (
    Target("openai._base_client", "SyncAPIClient.request"),
    Target("openai._base_client", "AsyncAPIClient.request"),
)

OPERATIONS: Mapping[str, str] = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/responses": "chat",
    "/responses/compact": "chat",
    "/embeddings": "embeddings",
    "/images/generations": "image_generation",
    "/images/edits": "image_generation",
    "/images/variations": "image_generation",
    "/audio/transcriptions": "transcription",
    "/audio/translations": "transcription",
    "/audio/speech": "speech",
}
#: Streams of these say their usage only when asked to.
ASKED_FOR_USAGE = frozenset({"/chat/completions", "/completions"})
#: Refuse unknown members of a request.
NEVER_ASKED = frozenset({"mistral_ai"})
RETRIEVED = re.compile(r"/responses/[^/]+")
UNFINISHED = frozenset({"queued", "in_progress"})
TIERS: Mapping[str, str] = {"default": "standard"}
COUNTED_MAX = 10_000

_refusing: set[tuple[str, int | None]] = set()
_counted: dict[str, None] = {}
_providers_by_class: dict[type, str | None] = {}


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    sent = Sent(owner, args, kwargs)
    operation = OPERATIONS.get(sent.path) if sent.method == "post" else None
    is_retrieval = sent.method == "get" and RETRIEVED.fullmatch(sent.path) is not None
    if operation is None and not is_retrieval:
        return None
    model = sent.body.get("model")
    provider = sent.place.provider or _provider_of_class(type(owner)) or "openai"
    request = Request(operation or "chat", provider, str(model) if model else None, is_stream=sent.is_stream)
    request.body = sent.body
    request.is_counted_once = is_retrieval
    request.attributes[spans.SERVER_ADDRESS] = sent.place.address
    if sent.place.port:
        request.attributes[spans.SERVER_PORT] = sent.place.port
    _read_body(sent.body, request)
    if sent.is_stream and sent.path in ASKED_FOR_USAGE:
        _ask_for_usage(sent, request)
    elif callable(sent.options.post_parser) and request.operation == "chat":
        request.arguments = sent.with_options(post_parser=_noting(sent.options.post_parser, request))
    return request


def read_response(response: Any, reading: Reading) -> None:
    inside = fields(response)
    if reading.request.is_counted_once or inside.get("status") in UNFINISHED:
        # A status poll, or the start of a background response: the answer that carries usage is the use.
        reading.is_discarded = not _is_first_with_usage(inside)
    elif inside.get("object") == "response" and inside.get("usage") is not None:
        _is_first_with_usage(inside)
    _read_names(inside, reading)
    reasons = [reason for choice in inside.get("choices") or () if (reason := fields(choice).get("finish_reason"))]
    if reasons:
        reading.attributes[spans.FINISH_REASONS] = reasons
    _read_output_items(inside.get("output"), reading)
    if inside.get("usage") is not None:
        _read_usage(inside["usage"], reading)
    elif isinstance(inside.get("data"), list) and reading.request.operation == "image_generation":
        reading.put(spans.OUTPUT_IMAGES, len(inside["data"]))
    elif inside.get("duration") is not None:
        # Transcriptions in `verbose_json` of older models; the API sends the seconds as text or number.
        reading.put(spans.INPUT_SECONDS, float(inside["duration"]))
    if inside.get("svg_usage") is not None:
        _read_svg_usage(inside["svg_usage"], reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = fields(chunk)
    if "choices" not in inside:
        _read_event(inside, reading)
        return
    attributes = reading.attributes
    if spans.RESPONSE_ID not in attributes or spans.RESPONSE_MODEL not in attributes:
        _read_names(inside, reading)
    choices = inside["choices"]
    if choices and (reason := fields(choices[0]).get("finish_reason")):
        attributes[spans.FINISH_REASONS] = [reason]
        _read_names(inside, reading)
    if inside.get("usage") is not None:
        _read_usage(inside["usage"], reading)


def _read_event(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read an event of the Responses API, of an image stream or of a transcript stream."""
    kind = inside.get("type") or ""
    if kind in ("response.completed", "response.incomplete", "response.failed"):
        read_response(inside.get("response"), reading)
    elif kind == "response.created":
        response = fields(inside.get("response"))
        _read_names(response, reading)
        reading.is_discarded = reading.request.is_counted_once
    elif inside.get("usage") is not None:
        _read_usage(inside["usage"], reading)


def _read_body(body: Mapping[str, Any], request: Request) -> None:
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier != "auto":
        request.attributes[spans.SERVICE_TIER] = TIERS.get(tier, tier)
    if request.operation == "speech" and isinstance(body.get("input"), str):
        request.attributes[spans.INPUT_CHARACTERS] = len(body["input"])
    searches = [body.get("web_search_options")]
    if isinstance(body.get("tools"), list):
        searches += [tool for tool in body["tools"] if str(fields(tool).get("type")).startswith("web_search")]
    for search in searches:
        if size := fields(search).get("search_context_size"):
            request.attributes[spans.SEARCH_CONTEXT_SIZE] = str(size)


def _read_names(inside: Mapping[str, Any], reading: Reading) -> None:
    for name, key in ((spans.RESPONSE_ID, "id"), (spans.RESPONSE_MODEL, "model")):
        # Azure's first chunk has both empty.
        if isinstance(value := inside.get(key), str) and value:
            reading.attributes[name] = value
    tier = inside.get("service_tier")
    if isinstance(tier, str) and tier != "auto":
        reading.attributes[spans.SERVICE_TIER] = TIERS.get(tier, tier)


def _read_usage(usage: Any, reading: Reading) -> None:
    """Read the token counts of any of OpenAI's shapes, and of those who copy them."""
    inside = fields(usage)
    if inside.get("type") == "duration":
        reading.put(spans.INPUT_SECONDS, inside.get("seconds"))
        return
    total = inside.get("total_tokens")
    input_tokens = _first(inside, "prompt_tokens", "input_tokens")
    output_tokens = _first(inside, "completion_tokens", "output_tokens")
    if input_tokens is None and output_tokens is None:
        input_tokens = total  # embeddings of some hosts
    elif output_tokens is not None and total is not None and input_tokens is not None:
        # Hidden thoughts (Gemini, xAI) stand in the total alone.
        output_tokens = max(output_tokens, total - input_tokens)
    reading.put(spans.INPUT_TOKENS, input_tokens)
    reading.put(spans.OUTPUT_TOKENS, output_tokens)
    _read_input_details(inside, reading)
    _read_output_details(inside, reading)
    if (cost := inside.get("cost")) is not None:
        _read_cost(cost, reading)


def _read_input_details(inside: Mapping[str, Any], reading: Reading) -> None:
    details = fields(_first(inside, "prompt_tokens_details", "input_tokens_details", "input_token_details"))
    cached = details.get("cached_tokens")
    if cached is None:
        cached = _first(inside, "prompt_cache_hit_tokens", "cached_tokens")  # DeepSeek; Together, Hugging Face
    reading.put(spans.CACHE_READ_INPUT_TOKENS, cached)
    reading.put(spans.CACHE_WRITE_INPUT_TOKENS, details.get("cache_write_tokens"))
    reading.put(spans.AUDIO_INPUT_TOKENS, details.get("audio_tokens"))
    reading.put(spans.IMAGE_INPUT_TOKENS, details.get("image_tokens"))
    reading.put(spans.VIDEO_INPUT_TOKENS, details.get("video_tokens"))
    by_ttl = details.get("cache_write_tokens_details")
    if by_ttl is not None:
        reading.put(spans.CACHE_WRITE_30M_INPUT_TOKENS, fields(by_ttl).get("ttl_30m_tokens"))
        reading.put(spans.CACHE_WRITE_12H_INPUT_TOKENS, fields(by_ttl).get("ttl_12h_tokens"))


def _read_output_details(inside: Mapping[str, Any], reading: Reading) -> None:
    details = fields(_first(inside, "completion_tokens_details", "output_tokens_details"))
    reading.put(spans.REASONING_OUTPUT_TOKENS, details.get("reasoning_tokens"))
    reading.put(spans.AUDIO_OUTPUT_TOKENS, details.get("audio_tokens"))
    reading.put(spans.IMAGE_OUTPUT_TOKENS, details.get("image_tokens"))


def _read_cost(cost: Any, reading: Reading) -> None:
    """A stated cost in US dollars: OpenRouter says a number, Perplexity an object with `total_cost`."""
    value = cost if isinstance(cost, (int, float)) else fields(cost).get("total_cost")
    if isinstance(value, (int, float)):
        reading.put(spans.STATED_COST, f"{Decimal(repr(value)):f}")


def _read_output_items(items: Any, reading: Reading) -> None:
    """Count the web searches of a response; opening or reading a page found is not billed."""
    if not isinstance(items, list):
        return
    calls = [fields(item) for item in items if fields(item).get("type") == "web_search_call"]
    searches = [call for call in calls if fields(call.get("action")).get("type", "search") == "search"]
    if searches:
        reading.put(spans.WEB_SEARCHES, len(searches))


def _read_svg_usage(usage: Any, reading: Reading) -> None:
    """Vector images are written by a second model, billed at its own price."""
    second = Reading(reading.request)
    _read_usage(usage, second)
    inside = fields(usage)
    second.put(spans.RESPONSE_MODEL, inside.get("model"))
    second.put(spans.REASONING_OUTPUT_TOKENS, inside.get("reasoning_tokens"))
    reading.children.append(second.attributes)


def _is_first_with_usage(inside: Mapping[str, Any]) -> bool:
    """Whether this response carries usage and was not counted before in this process."""
    response_id = inside.get("id")
    if inside.get("usage") is None or not isinstance(response_id, str) or response_id in _counted:
        return False
    _counted[response_id] = None
    if len(_counted) > COUNTED_MAX:
        del _counted[next(iter(_counted))]
    return True


def _ask_for_usage(sent: Sent, request: Request) -> None:
    """Ask a stream for its usage where the app did not say what it wants, and hide the chunk that it brings."""
    host = (sent.place.address, sent.place.port)
    if "stream_options" in sent.body or request.provider in NEVER_ASKED or host in _refusing:
        return
    if not metering.settings().inject_stream_usage:
        return
    body = {**(sent.options.json_data or {}), "stream_options": {"include_usage": True}}
    request.arguments = sent.with_options(json_data=body)
    request.is_hidden = _is_usage_alone

    def without(error: Exception) -> Arguments | None:
        status = getattr(error, "status_code", None)
        is_named = "stream_options" in str(error)
        # A host that we do not know may refuse without naming the member.
        if status not in (400, 422) or not (is_named or sent.place.provider is None):
            return None
        request.is_hidden = None
        return sent.args, sent.kwargs

    request.retry = without
    # Only when the same request succeeds without the member, the member was what the host refused.
    request.retried = lambda: _refusing.add(host)


def _is_usage_alone(chunk: Any) -> bool:
    """Whether this is the extra chunk; on the others our request has left a `usage: null`, which is taken back."""
    inside = fields(chunk)
    if inside.get("usage") is None:
        given = getattr(chunk, "model_fields_set", None)
        if given:
            given.discard("usage")
        return False
    return not inside.get("choices")


def _noting(parser: Any, request: Request) -> Any:
    """Keep the answer before the app's own parser sees it: it is billed even when it is not what was asked for."""

    def noting(response: Any) -> Any:
        request.seen[:] = [response]
        return parser(response)

    return noting


def _provider_of_class(kind: type) -> str | None:
    if kind not in _providers_by_class:
        names = {parent.__name__ for parent in kind.__mro__}
        is_azure = "BaseAzureClient" in names
        is_bedrock = "BedrockOpenAI" in names or "AsyncBedrockOpenAI" in names
        _providers_by_class[kind] = "azure.ai.openai" if is_azure else "aws.bedrock" if is_bedrock else None
    return _providers_by_class[kind]


def _first(inside: Mapping[str, Any], *names: str) -> Any:
    """The first of these members that says anything."""
    for name in names:
        if (value := inside.get(name)) is not None:
            return value
    return None

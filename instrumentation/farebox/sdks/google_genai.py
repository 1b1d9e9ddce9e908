"""Gemini and the other models of Google through `google-genai`: Gemini API, Vertex AI, interactions, live sessions.

All of `models`, `chats` and the automatic function calling above them send through the four request methods of the
client, once for each hop and with the SDK's retries inside. Interactions have methods of their own, also one request
each; a message of a live session that carries usage is a call. Google counts thoughts beside the candidates and the
results of tools beside the prompt; the conventions count both in, and so do the spans.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from farebox import counted, spans
from farebox.places import place_at
from farebox.reading import Reading, Request, fields
from farebox.sdks import Target

TESTED = ("3.4", "3.4")
TARGETS = (
    Target("google.genai._api_client", "BaseApiClient.request"),
    Target("google.genai._api_client", "BaseApiClient.async_request"),
    Target("google.genai._api_client", "BaseApiClient.request_streamed", is_stream=True),
    Target("google.genai._api_client", "BaseApiClient.async_request_streamed", is_stream=True),
    Target("google.genai._gaos.interactions", "Interactions.create"),
    Target("google.genai._gaos.interactions", "Interactions.get"),
    Target("google.genai._gaos.interactions", "AsyncInteractions.create"),
    Target("google.genai._gaos.interactions", "AsyncInteractions.get"),
    Target("google.genai.live", "AsyncLive.connect"),
    Target("google.genai.live", "AsyncSession.__init__"),
    Target("google.genai.live", "AsyncSession._receive"),
)

#: Last word of a path → operation. `countTokens`, `computeTokens` and all else are free.
OPERATIONS: Mapping[str, str] = {
    "generateContent": "generate_content",
    "streamGenerateContent": "generate_content",
    "batchEmbedContents": "embeddings",
    "embedContent": "embeddings",
    "predict": "image_generation",
    "predictLongRunning": "video_generation",
}
OWN_MODELS = re.compile(r"\A(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/google/)?models/")
LOCATION = re.compile(r"locations/([^/]+)")

#: Names of the counts: in JSON, in the SDK's objects (live sessions), in interactions.
COUNTS: Mapping[str, str] = {
    "promptTokenCount": "prompt",
    "prompt_token_count": "prompt",
    "total_input_tokens": "prompt",
    "toolUsePromptTokenCount": "tool_use",
    "tool_use_prompt_token_count": "tool_use",
    "total_tool_use_tokens": "tool_use",
    "cachedContentTokenCount": "cached",
    "cached_content_token_count": "cached",
    "total_cached_tokens": "cached",
    "candidatesTokenCount": "candidates",
    "responseTokenCount": "candidates",
    "response_token_count": "candidates",
    "total_output_tokens": "candidates",
    "thoughtsTokenCount": "thoughts",
    "thoughts_token_count": "thoughts",
    "total_thought_tokens": "thoughts",
    "totalTokenCount": "total",
    "total_token_count": "total",
    "total_tokens": "total",
    "promptTokensDetails": "prompt_parts",
    "prompt_tokens_details": "prompt_parts",
    "input_tokens_by_modality": "prompt_parts",
    "toolUsePromptTokensDetails": "tool_use_parts",
    "tool_use_prompt_tokens_details": "tool_use_parts",
    "tool_use_tokens_by_modality": "tool_use_parts",
    "candidatesTokensDetails": "candidates_parts",
    "responseTokensDetails": "candidates_parts",
    "response_tokens_details": "candidates_parts",
    "output_tokens_by_modality": "candidates_parts",
    "trafficType": "tier",
    "traffic_type": "tier",
    "serviceTier": "tier",
    "service_tier": "tier",
    "grounding_tool_count": "grounding",
}
INPUT_PARTS: Mapping[str, str] = {
    "AUDIO": spans.AUDIO_INPUT_TOKENS,
    "IMAGE": spans.IMAGE_INPUT_TOKENS,
    "VIDEO": spans.VIDEO_INPUT_TOKENS,
}
OUTPUT_PARTS: Mapping[str, str] = {"AUDIO": spans.AUDIO_OUTPUT_TOKENS, "IMAGE": spans.IMAGE_OUTPUT_TOKENS}
TIERS: Mapping[str, str] = {
    "on_demand": "standard",
    "on_demand_priority": "priority",
    "on_demand_flex": "flex",
    "unspecified": "",
    "traffic_type_unspecified": "",
    "service_tier_unspecified": "",
}
TIER_HEADER = "x-gemini-service-tier"
UNFINISHED = frozenset({"queued", "in_progress"})

_connecting: ContextVar[str | None] = ContextVar("farebox_google_genai_live_model", default=None)
_live_models: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    if hasattr(owner, "sdk_configuration"):
        return _interaction_request(owner, kwargs)
    if "model" in kwargs or "websocket" in kwargs or hasattr(owner, "_api_client"):
        return _live_request(owner, kwargs)
    names = ("http_method", "path", "request_dict", "http_options")
    return _content_request(owner, dict(zip(names, args, strict=False), **kwargs))


def read_response(response: Any, reading: Reading) -> None:
    inside = _decoded(response, reading)
    if "predictions" in inside:
        _read_predictions(inside["predictions"], reading)
    elif "usage" in inside or "status" in inside:
        _read_interaction(inside, reading)
    else:
        _read_content(inside, reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = _decoded(chunk, reading)
    if "event_type" not in inside:
        _read_content(inside, reading)
        return
    interaction = fields(inside.get("interaction"))
    _read_interaction_names(interaction, reading)
    if interaction.get("usage") is not None:
        _read_interaction(interaction, reading)


def _content_request(owner: Any, given: Mapping[str, Any]) -> Request | None:
    path, _, verb = str(given["path"]).partition("?")[0].rpartition(":")
    operation = OPERATIONS.get(verb)
    if operation is None:
        return None
    body = fields(given["request_dict"])
    if verb == "predict" and any("content" in fields(instance) for instance in body.get("instances") or ()):
        operation = "embeddings"
    address = fields(given.get("http_options")).get("base_url") or owner._http_options.base_url
    request = _request(operation, path, str(address), is_vertex=bool(owner.vertexai))
    location = LOCATION.search(path)
    _put_region(location[1] if location else owner.location, request)
    _put_tier(body.get("serviceTier"), request.attributes)
    if verb == "predictLongRunning":
        _put_video_seconds(fields(body.get("parameters")), request)
    request.body = body
    return request


def _interaction_request(owner: Any, kwargs: dict[str, Any]) -> Request:
    is_retrieval = "id" in kwargs
    body = kwargs if is_retrieval else fields(fields(kwargs.get("request")).get("body") or kwargs)
    sdk = owner.sdk_configuration
    version = str(getattr(getattr(sdk, "globals", None), "api_version", None) or "")
    location = LOCATION.search(version)
    model = body.get("model") or body.get("agent")
    request = _request(
        "generate_content",
        model if isinstance(model, str) else None,
        str(sdk.server_url),
        is_vertex=location is not None,
    )
    _put_region(location[1] if location else None, request)
    _put_tier(body.get("service_tier"), request.attributes)
    request.is_counted_once = is_retrieval
    request.is_stream = body.get("stream") is True
    # Continued streams hand the events on past the stream object; all of them come through its body.
    request.stream_in = "response"
    request.body = body
    return request


def _live_request(owner: Any, kwargs: dict[str, Any]) -> Request | None:
    """Note the model when a session is opened; after that, each message may be the end of a turn, with its usage."""
    if "model" in kwargs:
        _connecting.set(str(kwargs["model"]))
        return None
    if "websocket" in kwargs:
        _live_models[owner] = _connecting.get() or ""
        return None
    client = owner._api_client
    address = str(client._http_options.base_url)
    request = _request("generate_content", _live_models.get(owner), address, is_vertex=bool(client.vertexai))
    _put_region(client.location, request)
    request.is_counted_once = True
    return request


def _request(operation: str, path: str | None, address: str, *, is_vertex: bool) -> Request:
    place = place_at(address)
    provider = place.provider or ("gcp.vertex_ai" if is_vertex else "gcp.gemini")
    request = Request(operation, provider, OWN_MODELS.sub("", path, count=1) if path else None)
    place.put(request)
    return request


def _decoded(answer: Any, reading: Reading) -> Mapping[str, Any]:
    """The fields of an answer; the client hands over headers and the JSON as text."""
    inside = fields(answer)
    body = inside.get("body")
    if not isinstance(body, str):
        return inside
    headers = inside.get("headers") or {}
    _put_tier(headers.get(TIER_HEADER), reading.attributes)
    decoded = json.loads(body) if body else {}
    return decoded if isinstance(decoded, dict) else {}


def _read_content(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read an answer of `generateContent` or `embedContent`, a chunk of the former, or a message of a live session."""
    reading.put(spans.RESPONSE_ID, inside.get("responseId"))
    reading.put(spans.RESPONSE_MODEL, inside.get("modelVersion"))
    candidates = [fields(candidate) for candidate in inside.get("candidates") or ()]
    reasons = [str(candidate["finishReason"]) for candidate in candidates if candidate.get("finishReason")]
    if reasons:
        reading.attributes[spans.FINISH_REASONS] = reasons
    _read_grounding([candidate.get("groundingMetadata") for candidate in candidates], reading)
    usage = inside.get("usageMetadata")
    if usage is None and (usage := inside.get("usage_metadata")) is not None:
        _read_grounding([fields(inside.get("server_content")).get("grounding_metadata")], reading)
        reading.is_discarded = False
    if usage is not None:
        _read_usage(usage, reading)


def _read_interaction(inside: Mapping[str, Any], reading: Reading) -> None:
    usage = inside.get("usage")
    is_first = usage is not None and counted.is_first(inside.get("id"))
    if reading.request.is_counted_once or (usage is None and inside.get("status") in UNFINISHED):
        # A look at an interaction, or the start of one in the background: the answer with usage is the use.
        reading.is_discarded = not is_first
    _read_interaction_names(inside, reading)
    if usage is not None:
        _read_usage(usage, reading)


def _read_interaction_names(inside: Mapping[str, Any], reading: Reading) -> None:
    reading.put(spans.RESPONSE_ID, inside.get("id") or None)
    reading.put(spans.RESPONSE_MODEL, _model_of(inside.get("model")))
    _put_tier(inside.get("service_tier"), reading.attributes)


def _read_usage(usage: Any, reading: Reading) -> None:
    """Read counts of any of Google's shapes; of the chunks of a stream, the last word on each count stands."""
    said = reading.notes
    for name, value in fields(usage).items():
        if value is not None and name in COUNTS:
            said[COUNTS[name]] = value
    prompt, candidates, thoughts = said.get("prompt"), said.get("candidates"), said.get("thoughts")
    if prompt is not None:
        prompt += said.get("tool_use", 0)
        reading.put(spans.INPUT_TOKENS, prompt)
    output = None if candidates is None and thoughts is None else (candidates or 0) + (thoughts or 0)
    if prompt is not None and "total" in said:
        output = max(output or 0, said["total"] - prompt)
    if reading.request.operation != "embeddings":
        reading.put(spans.OUTPUT_TOKENS, output)
    reading.put(spans.REASONING_OUTPUT_TOKENS, thoughts)
    reading.put(spans.CACHE_READ_INPUT_TOKENS, said.get("cached"))
    _put_parts(INPUT_PARTS, (said.get("prompt_parts"), said.get("tool_use_parts")), reading)
    _put_parts(OUTPUT_PARTS, (said.get("candidates_parts"),), reading)
    _put_tier(said.get("tier"), reading.attributes)
    _read_tool_counts(said.get("grounding"), reading)


def _put_parts(names: Mapping[str, str], lists: Iterable[Any], reading: Reading) -> None:
    """Add up the tokens of each modality; of those that are not listed, nothing was said."""
    counts: dict[str, int] = {}
    for part in (fields(part) for parts in lists for part in parts or ()):
        name = names.get(_text(part.get("modality")).upper())
        count = next((part[key] for key in ("tokenCount", "token_count", "tokens") if part.get(key) is not None), None)
        if name and count is not None:
            counts[name] = counts.get(name, 0) + count
    reading.attributes.update(counts)


def _read_grounding(found: Iterable[Any], reading: Reading) -> None:
    """Count the searches that an answer is grounded on; whether they or the prompt are billed is a matter of prices."""
    queries = [
        query
        for metadata in map(fields, found)
        for name in ("webSearchQueries", "imageSearchQueries", "web_search_queries", "image_search_queries")
        for query in metadata.get(name) or ()
    ]
    if queries:
        reading.put(spans.WEB_SEARCHES, len(queries))


def _read_tool_counts(counts: Any, reading: Reading) -> None:
    searches = [
        fields(count).get("count") or 0 for count in counts or () if _text(fields(count).get("type")) == "google_search"
    ]
    if searches:
        reading.put(spans.WEB_SEARCHES, sum(searches))


def _read_predictions(predictions: Any, reading: Reading) -> None:
    """Read what Vertex AI and Imagen answer: embeddings with their counts, or pictures."""
    parts = [fields(prediction) for prediction in predictions or ()]
    if reading.request.operation != "embeddings":
        # Pictures that a filter has withheld stand in the list, without a picture.
        reading.put(spans.OUTPUT_IMAGES, sum("bytesBase64Encoded" in part or "gcsUri" in part for part in parts))
        return
    statistics = [fields(fields(part.get("embeddings")).get("statistics")) for part in parts]
    counts = [count for part in statistics if (count := part.get("token_count", part.get("tokenCount"))) is not None]
    if counts:
        reading.put(spans.INPUT_TOKENS, int(sum(counts)))


def _put_video_seconds(parameters: Mapping[str, Any], request: Request) -> None:
    """The video is made later and its answer says no length: what was asked for is what is billed."""
    seconds = parameters.get("durationSeconds")
    if isinstance(seconds, (int, float)):
        request.units[spans.OUTPUT_SECONDS] = float(seconds) * int(parameters.get("sampleCount") or 1)


def _put_region(location: Any, request: Request) -> None:
    if request.provider == "gcp.vertex_ai" and isinstance(location, str) and location not in ("", "global"):
        request.attributes[spans.REGION] = location


def _put_tier(value: Any, attributes: dict[str, Any]) -> None:
    name = _text(value).lower().removeprefix("service_tier_")
    if tier := TIERS.get(name, name):
        attributes[spans.SERVICE_TIER] = tier


def _model_of(value: Any) -> str | None:
    return OWN_MODELS.sub("", value, count=1) if isinstance(value, str) else None


def _text(value: Any) -> str:
    """The text of a name, which may be an enum; empty for what is no name."""
    text = getattr(value, "value", value)
    return text if isinstance(text, str) else ""

"""Gemini and the other models of Google through `google-genai`: Gemini API, Vertex AI, interactions, live sessions.

All of `models`, `chats` and the automatic function calling above them send through the four request methods of the
client, once for each hop and with the SDK's retries inside. Interactions have methods of their own, also one request
each; a message of a live session that carries usage is a call. The answers of a batch are booked when it is first
fetched, in itself or in its file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from farebox import spans
from farebox.google_shape import (
    OWN_MODELS,
    TIER_HEADER,
    put_tier,
    read_batch,
    read_batch_line,
    read_content,
    read_interaction,
    read_interaction_names,
    read_predictions,
    result_files,
)
from farebox.places import place_at
from farebox.reading import Reading, Request, fields
from farebox.sdks import Target

TESTED = ("1.50", "3.4")
TARGETS = (
    Target("google.genai._api_client", "BaseApiClient.request"),
    Target("google.genai._api_client", "BaseApiClient.async_request"),
    Target("google.genai._api_client", "BaseApiClient.request_streamed", is_stream=True),
    Target("google.genai._api_client", "BaseApiClient.async_request_streamed", is_stream=True),
    Target("google.genai._api_client", "BaseApiClient.download_file"),
    Target("google.genai._api_client", "BaseApiClient.async_download_file"),
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
LOCATION = re.compile(r"locations/([^/]+)")
#: Of a call that hands over answers of a batch; each of them has its own.
DELIVERY = "batch_results"

_connecting: ContextVar[str | None] = ContextVar("farebox_google_genai_live_model", default=None)
_live_models: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    if hasattr(owner, "sdk_configuration"):
        return _interaction_request(owner, kwargs)
    if "model" in kwargs or "websocket" in kwargs or hasattr(owner, "_api_client"):
        return _live_request(owner, kwargs)
    is_download = len(args) < 3 and "request_dict" not in kwargs
    names = ("path",) if is_download else ("http_method", "path", "request_dict", "http_options")
    given = dict(zip(names, args, strict=False), **kwargs)
    if is_download or given["http_method"] == "get":
        return _delivery_request(owner, given, is_download=is_download)
    return _content_request(owner, given)


def read_response(response: Any, reading: Reading) -> None:
    inside = _decoded(response, reading)
    if reading.request.operation == DELIVERY:
        read_batch(inside, reading)
    elif "predictions" in inside:
        read_predictions(inside["predictions"], reading)
    elif "usage" in inside or "status" in inside:
        read_interaction(inside, reading)
    else:
        read_content(inside, reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = _decoded(chunk, reading)
    if reading.request.is_delivery:
        read_batch_line(inside, reading, f"{reading.request.model}/{inside.get('key')}")
        return
    if "event_type" not in inside:
        read_content(inside, reading)
        return
    interaction = fields(inside.get("interaction"))
    read_interaction_names(interaction, reading)
    if interaction.get("usage") is not None:
        read_interaction(interaction, reading)


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
    put_tier(body.get("serviceTier"), request.attributes)
    if verb == "predictLongRunning":
        _put_video_seconds(fields(body.get("parameters")), request)
    request.body = body
    return request


def _delivery_request(owner: Any, given: Mapping[str, Any], *, is_download: bool) -> Request | None:
    """A look at a batch, or the download of a file that is known to hold the results of one."""
    path = str(given["path"]).partition("?")[0].partition(":")[0]
    if path not in result_files if is_download else not path.startswith("batches/"):
        return None
    request = _request(DELIVERY, path, str(owner._http_options.base_url), is_vertex=bool(owner.vertexai))
    request.is_delivery = is_download
    request.is_counted_once = True
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
    put_tier(body.get("service_tier"), request.attributes)
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
    put_tier(headers.get(TIER_HEADER), reading.attributes)
    decoded = json.loads(body) if body else {}
    return decoded if isinstance(decoded, dict) else {}


def _put_video_seconds(parameters: Mapping[str, Any], request: Request) -> None:
    """The video is made later and its answer says no length: what was asked for is what is billed."""
    seconds = parameters.get("durationSeconds")
    if isinstance(seconds, (int, float)):
        request.units[spans.OUTPUT_SECONDS] = float(seconds) * int(parameters.get("sampleCount") or 1)


def _put_region(location: Any, request: Request) -> None:
    if request.provider == "gcp.vertex_ai" and isinstance(location, str) and location not in ("", "global"):
        request.attributes[spans.REGION] = location

"""Models on Azure AI, and others that speak so, through the `azure-ai-inference` package.

Each of the three clients has one method that makes one request. The package's own tracing, where the app has switched
it on, writes to the app's tracer provider, never to ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from farebox.openai_shape import ask_for_usage, read_chat, read_chat_chunk
from farebox.places import place_at
from farebox.reading import Arguments, Reading, Request, fields
from farebox.sdks import Target

TESTED = ("1.0.0b8", "1.0.0b9")
TARGETS = tuple(
    Target(module, attribute, operation)
    for module in ("azure.ai.inference._patch", "azure.ai.inference.aio._patch")
    for attribute, operation in (
        ("ChatCompletionsClient.complete", "chat"),
        ("EmbeddingsClient.embed", "embeddings"),
        ("ImageEmbeddingsClient.embed", "embeddings"),
    )
)

#: An Azure OpenAI endpoint names its model by its deployment.
DEPLOYMENT = re.compile(r"/deployments/([^/?]+)")
WHOLE_BODY_MAX_BYTES = 1024 * 1024


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    whole = args[0] if args else kwargs.get("body")
    body = kwargs if whole is None else _body(whole)
    endpoint = str(owner._config.endpoint)
    place = place_at(endpoint)
    deployment = DEPLOYMENT.search(endpoint)
    model = body.get("model") or (owner._model if whole is None else None) or (deployment[1] if deployment else None)
    is_stream = kwargs.get("stream") is True or body.get("stream") is True
    request = Request("chat", place.provider or "azure.ai.inference", str(model) if model else None)
    request.is_stream = is_stream
    request.body = body
    place.put(request)
    if is_stream and whole is None and "stream_options" not in _extras(owner, kwargs):
        ask_for_usage(request, place, asking=lambda: _asking(owner, args, kwargs), plain=(args, kwargs))
        if request.is_hidden is not None:
            request.is_hidden = _is_usage_alone
    return request


def read_response(response: Any, reading: Reading) -> None:
    read_chat(_plain_answer(response), reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    read_chat_chunk(_plain_answer(chunk), reading)


def _body(whole: Any) -> Mapping[str, Any]:
    """The members of a body that the app has made itself; none where it is a file, or too long to be looked into."""
    if isinstance(whole, Mapping):
        return whole
    if not isinstance(whole, bytes) or len(whole) > WHOLE_BODY_MAX_BYTES:
        return {}
    decoded = json.loads(whole)
    return decoded if isinstance(decoded, dict) else {}


def _extras(owner: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    return kwargs.get("model_extras") or getattr(owner, "_model_extras", None) or {}


def _asking(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    extras = {**_extras(owner, kwargs), "stream_options": {"include_usage": True}}
    return args, {**kwargs, "model_extras": extras}


def _is_usage_alone(chunk: Any) -> bool:
    """Whether this is the extra chunk; on the others our request has left a `usage: null`, which is taken back."""
    inside = _plain(chunk)
    if inside.get("usage") is None:
        if isinstance(inside, dict):
            inside.pop("usage", None)
        return False
    return not inside.get("choices")


def _plain_answer(answer: Any) -> Mapping[str, Any]:
    """The answer as the JSON that it was, down to the parts that are read."""
    inside = _plain(answer)
    choices = inside.get("choices")
    return {
        **inside,
        "choices": [_plain(choice) for choice in choices] if isinstance(choices, list) else [],
        "usage": _plain(inside.get("usage")) or None,
    }


def _plain(part: Any) -> Mapping[str, Any]:
    """The models of this SDK keep their JSON in one attribute."""
    inside = fields(part)
    kept = inside.get("_data")
    return kept if isinstance(kept, dict) else inside

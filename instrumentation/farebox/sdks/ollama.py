"""Ollama through the `ollama` package, on a host of one's own or in its cloud.

One method of each client carries every call. The module's functions are methods of a client made at import; they reach
it through the class, and are metered with it. A stream sends its request when its first chunk is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox import spans
from farebox.places import place_of
from farebox.reading import Reading, Request, fields
from farebox.sdks import Target

TESTED = ("0.4", "0.6")
TARGETS = (
    Target("ollama._client", "Client._request"),
    Target("ollama._client", "AsyncClient._request"),
)

OPERATIONS: Mapping[str, str] = {
    "/api/chat": "chat",
    "/api/generate": "text_completion",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
    "/v1/systemone": "classify",
}
#: The answers to requests without a prompt, which move a model into memory or out of it.
NO_USE = frozenset({"load", "unload"})


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    _, method, path = args
    operation = OPERATIONS.get(path) if method == "POST" else None
    if operation is None:
        return None
    body = kwargs.get("json") or {}
    model = body.get("model")
    place = place_of(owner._client.base_url)
    request = Request(operation, place.provider or "ollama", model or None, is_stream=bool(kwargs.get("stream")))
    request.is_lazy = request.is_stream
    request.body = body
    place.put(request)
    return request


def read_response(response: Any, reading: Reading) -> None:
    inside = fields(response)
    reading.put(spans.RESPONSE_MODEL, inside.get("model"))
    reason = inside.get("done_reason")
    if isinstance(reason, str):
        reading.attributes[spans.FINISH_REASONS] = [reason]
        reading.is_discarded = reason in NO_USE
    # A prompt that was evaluated before is not counted again: its count is then absent, which is not 0.
    reading.put_count(spans.INPUT_TOKENS, inside.get("prompt_eval_count"))
    reading.put_count(spans.OUTPUT_TOKENS, inside.get("eval_count"))
    usage = fields(inside.get("usage"))
    reading.put_count(spans.INPUT_TOKENS, usage.get("input_tokens"))
    reading.put_count(spans.OUTPUT_TOKENS, usage.get("output_tokens"))
    if inside.get("image") is not None:
        reading.put_count(spans.OUTPUT_IMAGES, 1)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = fields(chunk)
    if inside.get("done"):
        read_response(chunk, reading)
    elif spans.RESPONSE_MODEL not in reading.attributes:
        reading.put(spans.RESPONSE_MODEL, inside.get("model"))

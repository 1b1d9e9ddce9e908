"""Groq through the `groq` package: OpenAI's shape, with the usage of a stream in its last chunk, unasked.

One method of the client carries every call (`farebox.stainless`). A compound system answers with the parts of the
models that it used; they are billed at the prices of those models, so each is a span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farebox import spans
from farebox.openai_shape import (
    FILE_CONTENT,
    OPERATIONS,
    read_answer,
    read_batch_line,
    read_body,
    read_chat_chunk,
    read_usage,
)
from farebox.reading import Reading, Request, count, fields, listed
from farebox.sdks import Target
from farebox.stainless import Sent

TESTED = ("0.13", "1.7")
TARGETS = (
    Target("groq._base_client", "SyncAPIClient.request"),
    Target("groq._base_client", "AsyncAPIClient.request"),
)


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    sent = Sent(owner, args, kwargs)
    is_delivery = sent.method == "get" and FILE_CONTENT.fullmatch(sent.path) is not None
    operation = OPERATIONS.get(sent.path) if sent.method == "post" else None
    if operation is None and not is_delivery:
        return None
    request = sent.request(operation or "chat", sent.place.provider or "groq")
    request.is_delivery = is_delivery
    read_body(sent.body, request)
    return request


def read_response(response: Any, reading: Reading) -> None:
    inside = fields(response)
    read_answer(inside, reading)
    _read_models(inside.get("usage"), inside.get("usage_breakdown"), reading)
    for choice in listed(inside.get("choices")):
        _read_tools(fields(fields(choice).get("message")), reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = fields(chunk)
    if reading.request.is_delivery:
        read_batch_line(inside, reading, read_response)
        return
    read_chat_chunk(inside, reading)
    extra = fields(inside.get("x_groq"))
    if extra.get("usage") is not None:
        read_usage(extra["usage"], reading)
        _read_models(extra["usage"], extra.get("usage_breakdown"), reading)
    for choice in listed(inside.get("choices")):
        _read_tools(fields(fields(choice).get("delta")), reading)


def _read_models(usage: Any, breakdown: Any, reading: Reading) -> None:
    """Split a usage by its models: the first one's part is the span's, each further one's a child.

    Parts that do not add up to the whole are no account of it, and the whole stays with the model that was asked.
    """
    models = [fields(model) for model in listed(fields(breakdown).get("models"))]
    if not models or not _adds_up(fields(usage), [fields(model.get("usage")) for model in models]):
        return
    parts = []
    for model in models:
        part = Reading(reading.request)
        read_usage(model.get("usage"), part)
        part.put(spans.RESPONSE_MODEL, model.get("model"))
        parts.append(part.attributes)
    reading.attributes.update(parts[0])
    reading.children[:] = parts[1:]


def _adds_up(whole: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> bool:
    names = ("prompt_tokens", "completion_tokens")
    return all(count(whole.get(name)) == sum(count(part.get(name)) or 0 for part in parts) for name in names)


def _read_tools(message: Mapping[str, Any], reading: Reading) -> None:
    """Count the web searches that ran at Groq's; a stream tells of each tool more than once, by its index."""
    for tool in listed(message.get("executed_tools")):
        inside = fields(tool)
        if inside.get("search_results") is not None:
            searches = reading.notes.setdefault("searches", set())
            searches.add(str(inside.get("index")))
            reading.put_count(spans.WEB_SEARCHES, len(searches))

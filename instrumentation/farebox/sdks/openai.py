"""OpenAI, Azure OpenAI, and every host that speaks their protocol through the `openai` package.

One method of the client carries every call (`farebox.stainless`), so that `create`, `parse`, stream managers, raw and
streaming responses are each one span. Totals include their parts, as OpenAI counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from farebox import counted, openai_shape, spans
from farebox.openai_connections import read_message, request_on
from farebox.openai_shape import (
    FILE_CONTENT,
    ask_for_usage,
    is_text_alone,
    read_answer,
    read_batch_line,
    read_body,
    read_chat_chunk,
    read_names,
    read_usage,
    read_video,
)
from farebox.reading import Arguments, Reading, Request, fields
from farebox.sdks import Target
from farebox.stainless import Sent

TESTED = ("1.40", "3.52")
#: Modules with connections; the method that receives bytes is below iteration, handlers, `recv`, and the app's parsing.
CONNECTIONS: Mapping[str, str] = {
    "openai.resources.realtime.realtime": "RealtimeConnection",
    "openai.resources.responses.responses": "ResponsesConnection",
    "openai.resources.live.live": "LiveConnection",
    "openai.resources.live.sideband": "SidebandConnection",
    "openai.resources.live.forks": "ForksConnection",
    "openai.resources.beta.realtime.realtime": "RealtimeConnection",
    "openai.resources.beta.responses.responses": "ResponsesConnection",
}
TARGETS = (
    Target("openai._base_client", "SyncAPIClient.request"),
    Target("openai._base_client", "AsyncAPIClient.request"),
    *(
        Target(module, f"{prefix}{connection}.recv_bytes", is_newer=True)
        for module, connection in CONNECTIONS.items()
        for prefix in ("", "Async")
    ),
)

OPERATIONS: Mapping[str, str] = {
    **openai_shape.OPERATIONS,
    "/responses": "chat",
    "/responses/compact": "chat",
    "/decisions": "classify",
}
#: Streams of these say their usage only when asked to.
ASKED_FOR_USAGE = frozenset({"/chat/completions", "/completions"})
RETRIEVED = re.compile(r"/responses/[^/]+")
#: What was used until then stands in the answer.
STOPPED = re.compile(r"/responses/[^/]+/cancel")
#: Of a call that hands over answers of a batch; each of them has its own.
DELIVERY = "batch_results"
UNFINISHED = frozenset({"queued", "in_progress"})
VIDEOS = re.compile(r"/videos(/[^/]+(/remix)?)?")

_providers_by_class: dict[type, str | None] = {}


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    if not args and "options" not in kwargs:
        return request_on(owner)
    sent = Sent(owner, args, kwargs)
    operation = _operation(sent)
    if operation is None:
        return None
    provider = sent.place.provider or _provider_of_class(type(owner)) or "openai"
    request = sent.request(operation, provider)
    request.is_delivery = operation == DELIVERY
    is_look = sent.method == "get" or STOPPED.fullmatch(sent.path) is not None
    request.is_counted_once = is_look and not request.is_delivery
    read_body(sent.body, request)
    _read_searches(sent.body, request)
    if sent.is_stream and sent.path in ASKED_FOR_USAGE:
        if "stream_options" not in sent.body:
            ask_for_usage(request, sent.place, asking=lambda: _asking(sent), plain=(sent.args, sent.kwargs))
    elif callable(sent.options.post_parser) and request.operation == "chat":
        request.arguments = sent.with_options(post_parser=_noting(sent.options.post_parser, request))
    return request


def _operation(sent: Sent) -> str | None:
    """What is done; None for what uses no model."""
    if sent.method in ("get", "post") and VIDEOS.fullmatch(sent.path):
        return "video_generation"
    if sent.method == "post":
        return "chat" if STOPPED.fullmatch(sent.path) else OPERATIONS.get(sent.path)
    if sent.method == "get" and RETRIEVED.fullmatch(sent.path):
        return "chat"
    return DELIVERY if sent.method == "get" and FILE_CONTENT.fullmatch(sent.path) else None


def read_response(response: Any, reading: Reading) -> None:
    inside = fields(response)
    if reading.request.operation == "video_generation":
        read_video(inside, reading)
        return
    if reading.request.is_counted_once or str(inside.get("status")) in UNFINISHED:
        # A status poll, or the start of a background response: the answer that carries usage is the use.
        reading.is_discarded = inside.get("usage") is None or not counted.is_first(inside.get("id"))
    elif inside.get("object") == "response" and inside.get("usage") is not None:
        counted.is_first(inside.get("id"))
    read_answer(inside, reading)
    _read_output_items(inside.get("output"), reading)
    if inside.get("svg_usage") is not None:
        _read_svg_usage(inside["svg_usage"], reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    if is_text_alone(chunk, reading):
        return
    inside = fields(chunk)
    if "choices" not in inside:
        _read_event(inside, reading)
        return
    read_chat_chunk(inside, reading)


def _read_event(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read an event of the Responses API, of an image stream or of a transcript stream."""
    kind = inside.get("type") or ""
    if reading.request.notes is not None:
        read_message(inside, reading)
    elif reading.request.is_delivery:
        read_batch_line(inside, reading, read_response)
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        read_response(inside.get("response"), reading)
    elif kind == "response.created":
        response = fields(inside.get("response"))
        read_names(response, reading)
        reading.is_discarded = reading.request.is_counted_once
    elif inside.get("usage") is not None:
        read_usage(inside["usage"], reading)


def _read_searches(body: Mapping[str, Any], request: Request) -> None:
    searches = [body.get("web_search_options")]
    if isinstance(body.get("tools"), list):
        searches += [tool for tool in body["tools"] if str(fields(tool).get("type")).startswith("web_search")]
    for search in searches:
        if size := fields(search).get("search_context_size"):
            request.attributes[spans.SEARCH_CONTEXT_SIZE] = str(size)


def _read_output_items(items: Any, reading: Reading) -> None:
    """Count the web searches of a response; opening or reading a page found is not billed."""
    if not isinstance(items, list):
        return
    calls = [fields(item) for item in items if fields(item).get("type") == "web_search_call"]
    searches = [call for call in calls if fields(call.get("action")).get("type", "search") == "search"]
    if searches:
        reading.put_count(spans.WEB_SEARCHES, len(searches))


def _read_svg_usage(usage: Any, reading: Reading) -> None:
    """Vector images are written by a second model, billed at its own price."""
    second = Reading(reading.request)
    read_usage(usage, second)
    inside = fields(usage)
    second.put(spans.RESPONSE_MODEL, inside.get("model"))
    second.put_count(spans.REASONING_OUTPUT_TOKENS, inside.get("reasoning_tokens"))
    reading.children.append(second.attributes)


def _asking(sent: Sent) -> Arguments:
    return sent.with_options(json_data={**(sent.options.json_data or {}), "stream_options": {"include_usage": True}})


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

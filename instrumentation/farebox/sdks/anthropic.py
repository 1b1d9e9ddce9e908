"""Anthropic's Messages API through the `anthropic` package: first-party, Bedrock, Vertex, Foundry.

One method of the client carries every call (`farebox.stainless`), each turn of a tool runner included. Anthropic counts
input without what was read from or written to the cache; the conventions count it in, and so do the spans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from farebox import counted, spans
from farebox.reading import Reading, Request, count, fields, listed
from farebox.sdks import Target
from farebox.stainless import Sent

TESTED = ("0.45", "2.11")
TARGETS = (
    Target("anthropic._base_client", "SyncAPIClient.request"),
    Target("anthropic._base_client", "AsyncAPIClient.request"),
)

#: Classes of the package that send elsewhere; the payer is who runs the place. Found by name in the client's ancestry.
PROVIDERS: Mapping[str, str] = {
    "BaseBedrockClient": "aws.bedrock",
    "BaseMantleClient": "aws.bedrock",
    "BaseVertexClient": "gcp.vertex_ai",
    "BaseFoundryClient": "azure.ai.inference",
}
BATCH_RESULTS = re.compile(r"/messages/batches/[^/]+/results")
NOWHERE = frozenset({"not_available", "global"})

_providers_by_class: dict[type, str | None] = {}


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    sent = Sent(owner, args, kwargs)
    is_delivery = sent.method == "get" and BATCH_RESULTS.fullmatch(sent.path) is not None
    if not is_delivery and (sent.method != "post" or sent.path != "/messages"):
        return None
    provider = _provider_of_class(type(owner)) or sent.place.provider or "anthropic"
    request = sent.request("chat", provider)
    request.is_delivery = is_delivery
    region = getattr(owner, "aws_region", None) or (getattr(owner, "region", None) if "vertex" in provider else None)
    if isinstance(region, str) and region not in NOWHERE:
        request.attributes[spans.REGION] = region
    if callable(getattr(sent.options, "post_parser", None)):
        request.arguments = sent.with_options(post_parser=_noting(sent.options.post_parser, request))
    return request


def read_response(response: Any, reading: Reading) -> None:
    inside = fields(response)
    _read_message(inside, reading)
    if inside.get("usage") is not None:
        reading.notes.update(_said(inside["usage"]))
        _put_usage(reading, is_final=True)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = fields(chunk)
    if reading.request.is_delivery:
        _read_result(inside, reading)
        return
    kind = inside.get("type")
    if kind == "message_start":
        message = fields(inside.get("message"))
        _read_message(message, reading)
        reading.notes.update(_said(message.get("usage")))
        _put_usage(reading, is_final=False)
    elif kind == "message_delta":
        if reason := fields(inside.get("delta")).get("stop_reason"):
            reading.attributes[spans.FINISH_REASONS] = [str(reason)]
        # Cumulative: what it says replaces what message_start said, input included (server tools raise it).
        reading.notes.update(_said(inside.get("usage")))
        _put_usage(reading, is_final=True)


def _read_result(line: Mapping[str, Any], reading: Reading) -> None:
    """Read one result of a batch: a message of its own, booked once however often the results are fetched."""
    message = fields(fields(line.get("result")).get("message"))
    if message.get("usage") is None or not counted.is_first(message.get("id")):
        return
    item = Reading(reading.request)
    read_response(message, item)
    reading.items += [{**attributes, spans.BATCH: True} for attributes in (item.attributes, *item.children)]


def _read_message(message: Mapping[str, Any], reading: Reading) -> None:
    reading.put(spans.RESPONSE_ID, message.get("id"))
    reading.put(spans.RESPONSE_MODEL, message.get("model"))
    if reason := message.get("stop_reason"):
        reading.attributes[spans.FINISH_REASONS] = [str(reason)]


def _said(usage: Any) -> dict[str, Any]:
    return {name: value for name, value in fields(usage).items() if value is not None}


def _put_usage(reading: Reading, *, is_final: bool) -> None:
    """Turn what the provider has said so far into attributes.

    Until the end is reached, the output count is a placeholder and is left out.
    """
    said = reading.notes
    reading.attributes.update(_token_counts(said, is_final=is_final))
    tier = "fast" if said.get("speed") == "fast" else said.get("service_tier")
    reading.put(spans.SERVICE_TIER, tier)
    if said.get("inference_geo") not in (None, *NOWHERE) and spans.REGION not in reading.request.attributes:
        reading.put(spans.REGION, said["inference_geo"])
    reading.put_count(spans.WEB_SEARCHES, fields(said.get("server_tool_use")).get("web_search_requests"))
    if is_final:
        _add_iterations(said.get("iterations"), reading)


def _token_counts(said: Mapping[str, Any], *, is_final: bool) -> dict[str, int | float]:
    read, written = count(said.get("cache_read_input_tokens")), count(said.get("cache_creation_input_tokens"))
    uncached = count(said.get("input_tokens"))
    by_ttl = fields(said.get("cache_creation"))
    counts = {
        spans.INPUT_TOKENS: None if uncached is None else uncached + (read or 0) + (written or 0),
        spans.CACHE_READ_INPUT_TOKENS: read,
        spans.CACHE_WRITE_INPUT_TOKENS: written,
        spans.CACHE_WRITE_5M_INPUT_TOKENS: by_ttl.get("ephemeral_5m_input_tokens"),
        spans.CACHE_WRITE_1H_INPUT_TOKENS: by_ttl.get("ephemeral_1h_input_tokens"),
    }
    if is_final:
        counts[spans.OUTPUT_TOKENS] = said.get("output_tokens")
        thinking = fields(said.get("output_tokens_details")).get("thinking_tokens")
        counts[spans.REASONING_OUTPUT_TOKENS] = thinking if said.get("output_tokens") is not None else None
    return {name: known for name, value in counts.items() if (known := count(value)) is not None}


def _add_iterations(iterations: Any, reading: Reading) -> None:
    """Count what stands beside the totals: compactions are added, an advisor is a second model with its own span."""
    reading.children.clear()
    for iteration in listed(iterations):
        inside = fields(iteration)
        counts = _token_counts({key: value for key, value in inside.items() if value is not None}, is_final=True)
        if inside.get("type") == "compaction":
            for name, more in counts.items():
                known = reading.attributes.get(name, 0)
                if isinstance(known, (int, float)):
                    reading.put_count(name, known + more)
        elif inside.get("type") == "advisor_message":
            model = inside.get("model")
            reading.children.append({**counts, **({spans.RESPONSE_MODEL: str(model)} if model else {})})


def _noting(parser: Any, request: Request) -> Any:
    """Keep the answer before the SDK's parser sees it: it is billed even when it does not have the asked shape."""

    def noting(response: Any) -> Any:
        request.seen[:] = [response]
        return parser(response)

    return noting


def _provider_of_class(kind: type) -> str | None:
    if kind not in _providers_by_class:
        names = [PROVIDERS[parent.__name__] for parent in kind.__mro__ if parent.__name__ in PROVIDERS]
        _providers_by_class[kind] = names[0] if names else None
    return _providers_by_class[kind]

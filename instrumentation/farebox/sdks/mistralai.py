"""Mistral's platform through the `mistralai` package, its Azure and Google Cloud clients included.

Each method below makes one request, with the SDK's retries inside it; `parse`, `parse_stream` and the loop of
`conversations.run_async` call them, so that each hop is a span of its own. The answers of a batch are booked when they
are first fetched, in the job or in its file. The SDK's own OpenTelemetry spans go to the
app's tracer provider, never to ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox import counted, spans
from farebox.openai_shape import TIERS, first, read_batch_line
from farebox.places import Place, place_at
from farebox.reading import Reading, Request, count, fields, listed
from farebox.sdks import Target

TESTED = ("2.10", "3.7")

#: Class below `mistralai` → operation, and the methods; each method has a twin that ends in `_async`.
METHODS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "client.chat.Chat": ("chat", ("complete", "stream")),
    "client.fim.Fim": ("text_completion", ("complete", "stream")),
    "client.agents.Agents": ("chat", ("complete", "stream")),
    "client.conversations.Conversations": (
        "chat",
        ("start", "append", "restart", "start_stream", "append_stream", "restart_stream"),
    ),
    "client.responses.Responses": ("chat", ("create",)),
    "client.embeddings.Embeddings": ("embeddings", ("create",)),
    "client.ocr.Ocr": ("ocr", ("process",)),
    "client.transcriptions.Transcriptions": ("transcription", ("complete", "stream")),
    "client.speech.Speech": ("speech", ("complete",)),
    "azure.client.chat.Chat": ("chat", ("complete", "stream")),
    "azure.client.ocr.Ocr": ("ocr", ("process",)),
    "gcp.client.chat.Chat": ("chat", ("complete", "stream")),
    "gcp.client.fim.Fim": ("text_completion", ("complete", "stream")),
}


def _targets(path: str, operation: str, methods: tuple[str, ...]) -> list[Target]:
    module, kind = path.rsplit(".", 1)
    return [
        Target(f"mistralai.{module}", f"{kind}.{method}{ending}", operation, is_stream=method.endswith("stream"))
        for method in methods
        for ending in ("", "_async")
    ]


#: Of a call that hands over answers of a batch; each of them has its own.
DELIVERY = "batch_results"
DELIVERIES: Mapping[str, str] = {"client.files.Files": "download", "client.jobs.Jobs": "get"}
TARGETS = (
    *(target for path, (operation, methods) in METHODS.items() for target in _targets(path, operation, methods)),
    *(target for path, method in DELIVERIES.items() for target in _targets(path, DELIVERY, (method,))),
)

#: Tools that run at Mistral's and are billed by the call (docs.mistral.ai, agents and connectors, 2026-11).
WEB_SEARCHES = ("web_search", "web_search_premium")


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    model = kwargs.get("model")
    place = _place_of(owner, kwargs)
    is_stream = kwargs.get("stream") is True
    provider = place.provider or "mistral_ai"
    request = Request("chat", provider, model if isinstance(model, str) else None, is_stream=is_stream)
    request.body = kwargs
    place.put(request)
    kind = type(owner).__name__
    request.is_delivery = kind == "Files"
    request.is_counted_once = kind == "Jobs"
    if kind == "Speech" and isinstance(kwargs.get("input"), str):
        request.units[spans.INPUT_CHARACTERS] = len(kwargs["input"])
    return request


def read_response(response: Any, reading: Reading) -> None:
    inside = fields(response)
    if reading.request.is_counted_once:
        for line in listed(inside.get("outputs")):
            _read_result(fields(line), reading)
        return
    _read_answer(inside, reading)


def _read_answer(inside: Mapping[str, Any], reading: Reading) -> None:
    _read_names(inside, reading)
    reasons = [reason for choice in listed(inside.get("choices")) if (reason := fields(choice).get("finish_reason"))]
    if reasons:
        reading.attributes[spans.FINISH_REASONS] = [str(reason) for reason in reasons]
    for entry in listed(inside.get("outputs")):
        # A conversation of an agent names its model with the messages only.
        _put_text(spans.RESPONSE_MODEL, fields(entry).get("model"), reading)
    _read_usage(inside.get("usage"), reading)
    reading.put_count(spans.PAGES, fields(inside.get("usage_info")).get("pages_processed"))


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = fields(chunk)
    if reading.request.is_delivery:
        _read_result(inside, reading)
        return
    if "data" in inside:
        inside = fields(inside["data"])
    if "response" in inside:
        read_response(inside["response"], reading)
        return
    _read_names(inside, reading)
    for choice in listed(inside.get("choices")):
        if reason := fields(choice).get("finish_reason"):
            reading.attributes[spans.FINISH_REASONS] = [str(reason)]
    _read_usage(inside.get("usage"), reading)


def _read_result(line: Mapping[str, Any], reading: Reading) -> None:
    """Read one result of a batch: an answer of its own, booked once however often it is fetched."""
    answer = fields(fields(line.get("response")).get("body"))
    if answer.get("usage_info") is None:
        read_batch_line(line, reading, _read_answer)
    elif counted.is_first(line.get("id")):
        item = Reading(reading.request)
        item.attributes.update({spans.OPERATION: "ocr", spans.BATCH: True})
        _read_answer(answer, item)
        reading.items.append(item.attributes)


def _place_of(owner: Any, kwargs: Mapping[str, Any]) -> Place:
    address = kwargs.get("server_url") or owner.sdk_configuration.get_server_details()[0]
    return place_at(str(address))


def _read_names(inside: Mapping[str, Any], reading: Reading) -> None:
    # The id of a message is not that of the answer, and the id of a conversation is that of many.
    if not str(inside.get("type")).startswith("message."):
        _put_text(spans.RESPONSE_ID, inside.get("id"), reading)
    _put_text(spans.RESPONSE_MODEL, inside.get("model"), reading)
    _read_tier(inside, reading)


def _read_tier(inside: Mapping[str, Any], reading: Reading) -> None:
    tier = inside.get("service_tier")
    if isinstance(tier, str) and tier != "auto":
        reading.attributes[spans.SERVICE_TIER] = TIERS.get(tier, tier)


def _read_usage(usage: Any, reading: Reading) -> None:
    """Read the counts of any endpoint. Members that the provider left out have a default of 0 in the SDK's models.

    Totals are not looked at: where audio is transcribed they hold its tokens, which are billed by the second.
    """
    said = _said(usage)
    prompt = count(first(said, "prompt_tokens", "input_tokens"))
    if prompt is not None:
        # What the tools at Mistral's brought in was read by the model, beside the prompt.
        prompt += count(said.get("connector_tokens")) or 0
    reading.put_count(spans.INPUT_TOKENS, prompt)
    reading.put_count(spans.OUTPUT_TOKENS, first(said, "completion_tokens", "output_tokens"))
    details = fields(first(said, "prompt_tokens_details", "input_tokens_details"))
    reading.put_count(spans.CACHE_READ_INPUT_TOKENS, details.get("cached_tokens"))
    reading.put_count(spans.CACHE_WRITE_INPUT_TOKENS, details.get("cache_write_tokens"))
    reading.put_count(spans.NUM_CACHED_TOKENS, said.get("num_cached_tokens"))
    reasoning = fields(first(said, "completion_tokens_details", "output_tokens_details"))
    reading.put_count(spans.REASONING_OUTPUT_TOKENS, reasoning.get("reasoning_tokens"))
    reading.put_count(spans.INPUT_SECONDS, said.get("prompt_audio_seconds"))
    _read_tier(said, reading)
    _read_connectors(fields(said.get("connectors")), reading)


def _read_connectors(calls: Mapping[str, Any], reading: Reading) -> None:
    searches = [number for name in WEB_SEARCHES if (number := count(calls.get(name))) is not None]
    if searches:
        reading.put_count(spans.WEB_SEARCHES, sum(searches))
    reading.put_count(spans.OUTPUT_IMAGES, calls.get("image_generation"))


def _said(usage: Any) -> dict[str, Any]:
    """The members that stood in the answer."""
    given = getattr(usage, "model_fields_set", None)
    return {name: value for name, value in fields(usage).items() if given is None or name in given}


def _put_text(name: str, value: Any, reading: Reading) -> None:
    """Keep a name; the SDK has an object of its own for what was left out."""
    if isinstance(value, str) and value:
        reading.attributes[name] = value

"""Cohere through the `cohere` package: v1 and v2 clients, on Cohere's platform, AWS or OCI.

Every method of every client, raw or not, goes through the "raw" clients, once for each request; `embed` of the v1
client makes several requests of one call, in threads of its own, and each is a span. What counts are the billed units,
which are fewer than the tokens that the model saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox import spans
from farebox.places import place_at
from farebox.reading import Reading, Request, count, fields
from farebox.sdks import Target
from farebox.threads import carrying

TESTED = ("5.16", "7.3")

#: Method → operation.
V1: Mapping[str, str] = {
    "chat": "chat",
    "chat_stream": "chat",
    "generate": "text_completion",
    "generate_stream": "text_completion",
    "summarize": "chat",
    "embed": "embeddings",
    "rerank": "rerank",
    "classify": "classify",
}
V2: Mapping[str, str] = {
    "chat": "chat",
    "chat_stream": "chat",
    "embed": "embeddings",
    "rerank": "rerank",
    "parse": "ocr",
}
CLASSES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("cohere.raw_base_client", "RawBaseCohere"): V1,
    ("cohere.raw_base_client", "AsyncRawBaseCohere"): V1,
    ("cohere.v2.raw_client", "RawV2Client"): V2,
    ("cohere.v2.raw_client", "AsyncRawV2Client"): V2,
    ("cohere.audio.transcriptions.raw_client", "RawTranscriptionsClient"): {"create": "transcription"},
    ("cohere.audio.transcriptions.raw_client", "AsyncRawTranscriptionsClient"): {"create": "transcription"},
}
TARGETS = (
    *(
        Target(module, f"{kind}.{method}", operation, is_stream=method.endswith("stream"), is_newer=method == "parse")
        for (module, kind), methods in CLASSES.items()
        for method, operation in methods.items()
    ),
    Target("cohere.client", "Client.embed"),
)

#: Modules whose request hooks send elsewhere than the client's base URL says.
ELSEWHERE: Mapping[str, str] = {"cohere.aws_client": "aws", "cohere.oci_client": "oci"}


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    if hasattr(owner, "_executor"):
        # The client itself: its requests come by below, from threads that know the caller only by its context.
        owner._executor = carrying(owner._executor)
        return None
    wrapper = owner._client_wrapper
    model = kwargs.get("model")
    place = place_at(wrapper.get_base_url())
    elsewhere = _elsewhere(wrapper)
    provider = elsewhere.get("provider") or place.provider or "cohere"
    request = Request("chat", provider, model if isinstance(model, str) else None)
    request.stream_in = "_data"
    request.body = kwargs
    if not elsewhere:
        place.put(request)
    elif elsewhere.get("region"):
        request.attributes[spans.REGION] = elsewhere["region"]
    return request


def read_response(response: Any, reading: Reading) -> None:
    inside = fields(response)
    answer = fields(inside["_data"]) if "_data" in inside else inside
    _read_answer(answer, reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = fields(chunk)
    if "response" in inside:  # v1: `stream-end`
        _read_answer(fields(inside["response"]), reading)
        _read_reason(inside, reading)
        return
    kind = inside.get("type")
    if kind == "message-start":
        reading.put(spans.RESPONSE_ID, inside.get("id"))
    elif kind == "message-end":
        _read_answer(fields(inside.get("delta")), reading)


def _read_answer(answer: Mapping[str, Any], reading: Reading) -> None:
    response_id = answer.get("response_id") or answer.get("id")
    reading.put(spans.RESPONSE_ID, response_id if isinstance(response_id, str) else None)
    _read_reason(answer, reading)
    _read_usage(fields(answer.get("usage") or answer.get("meta")), reading)


def _read_reason(answer: Mapping[str, Any], reading: Reading) -> None:
    if isinstance(reason := answer.get("finish_reason"), str):
        reading.attributes[spans.FINISH_REASONS] = [reason]


def _read_usage(usage: Mapping[str, Any], reading: Reading) -> None:
    """Read what is billed, or the tokens where an answer says nothing of bills."""
    billed = fields(usage.get("billed_units") or usage.get("tokens"))
    text = _whole(billed.get("text_tokens"))
    if text is None:
        text = _whole(billed.get("input_tokens"))
    image = _whole(billed.get("image_tokens"))
    total = None if text is None and image is None else (text or 0) + (image or 0)
    reading.put_count(spans.INPUT_TOKENS, total)
    reading.put_count(spans.IMAGE_INPUT_TOKENS, image)
    reading.put_count(spans.OUTPUT_TOKENS, _whole(billed.get("output_tokens")))
    reading.put_count(spans.SEARCH_UNITS, _whole(billed.get("search_units")))
    reading.put_count(spans.REQUESTS, _whole(billed.get("classifications")))
    reading.put_count(spans.INPUT_IMAGES, _whole(billed.get("images")))
    reading.put_count(spans.PAGES, _whole(billed.get("pages")))
    cached = _whole(usage.get("cached_tokens"))
    if cached is not None:
        # Counted in tokens seen, of which some are not billed; no more can be a part of the billed ones.
        reading.put_count(spans.CACHE_READ_INPUT_TOKENS, cached if total is None else min(cached, total))


def _whole(value: Any) -> int | float | None:
    """Counts come as floats; those without a fraction are integers. Negative ones stand for unknown (on AWS)."""
    number = count(value)
    if number is None or number < 0:
        return None
    return int(number) if number == int(number) else number


def _elsewhere(wrapper: Any) -> dict[str, str]:
    """Provider and region where a request hook of the SDK replaces the address; empty where the base URL is true."""
    client = wrapper.httpx_client.httpx_client
    for hook in client.event_hooks.get("request", ()):
        cloud = ELSEWHERE.get(getattr(hook, "__module__", ""))
        if cloud is None:
            continue
        if cloud == "oci":
            return {"provider": "oci"}
        kept = _kept_by(hook)
        provider = "aws.sagemaker" if kept.get("service") == "sagemaker" else "aws.bedrock"
        return {"provider": provider, "region": str(kept.get("aws_region") or "")}
    return {}


def _kept_by(function: Any) -> dict[str, Any]:
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells, strict=True)}

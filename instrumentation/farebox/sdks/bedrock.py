"""Amazon Bedrock through boto3 and botocore: Converse and InvokeModel, whole and streamed, and asynchronous jobs.

One method carries every call of every AWS service, with the SDK's retries inside it; calls of other services leave
after one look into a dict. Bedrock counts input without what was read from or written to the cache; the conventions
count it in, and so do the spans. The model that bills is the one that was asked for, be it a name, a profile or an ARN.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from farebox import spans
from farebox.places import place_at
from farebox.reading import Reading, Request, count, fields, listed
from farebox.sdks import Target

TESTED = ("1.40", "1.44")
TARGETS = (Target("botocore.client", "BaseClient._make_api_call"),)

PROVIDER = "aws.bedrock"
SERVICE = "bedrock-runtime"
#: Operation of the service → the member of its answer that is read later.
MEMBERS: Mapping[str, str | None] = {
    "Converse": None,
    "ConverseStream": "stream",
    "InvokeModel": "body",
    "InvokeModelWithResponseStream": "body",
    "StartAsyncInvoke": None,
}
#: Part of a model's name → what it does; all others chat.
KINDS: Mapping[str, str] = {
    "embed": "embeddings",
    "rerank": "rerank",
    "image": "image_generation",
    "canvas": "image_generation",
    "stability.": "image_generation",
}
#: Documents that one unit of a reranking covers (aws.amazon.com/bedrock/pricing, 2026-11).
DOCUMENTS_PER_UNIT = 100

HEADERS: Mapping[str, str] = {
    "x-amzn-bedrock-input-token-count": "input",
    "x-amzn-bedrock-output-token-count": "output",
    "x-amzn-bedrock-cache-read-input-token-count": "read",
    "x-amzn-bedrock-cache-write-input-token-count": "written",
}
#: Names of the counts in the bodies of the vendors.
COUNTS: Mapping[str, str] = {
    "inputTokens": "input",  # Converse, Nova
    "outputTokens": "output",
    "cacheReadInputTokens": "read",
    "cacheWriteInputTokens": "written",
    "inputTokenCount": "input",  # the service's own, in the last chunk of a stream
    "outputTokenCount": "output",
    "cacheReadInputTokenCount": "read",
    "cacheWriteInputTokenCount": "written",
    "input_tokens": "input",  # Anthropic
    "output_tokens": "output",
    "cache_read_input_tokens": "read",
    "cache_creation_input_tokens": "written",
    "inputTextTokenCount": "input",  # Titan
    "totalOutputTextTokenCount": "output",
    "prompt_token_count": "input",  # Llama
    "generation_token_count": "output",
    "prompt_tokens": "input",  # OpenAI, Qwen, DeepSeek, Jamba
    "completion_tokens": "output",
}
TTLS: Mapping[str, str] = {
    "5m": spans.CACHE_WRITE_5M_INPUT_TOKENS,
    "1h": spans.CACHE_WRITE_1H_INPUT_TOKENS,
    "ephemeral_5m_input_tokens": spans.CACHE_WRITE_5M_INPUT_TOKENS,
    "ephemeral_1h_input_tokens": spans.CACHE_WRITE_1H_INPUT_TOKENS,
}
METRICS = "amazon-bedrock-invocationMetrics"


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    name = args[0] if args else kwargs["operation_name"]
    if name not in MEMBERS or owner.meta.service_model.service_name != SERVICE:
        return None
    given = args[1] if len(args) > 1 else kwargs["api_params"]
    model = str(given.get("modelId") or "")
    request = Request(_operation(name, model), PROVIDER, model or None, is_stream=name.endswith("Stream"))
    request.stream_in = MEMBERS[name]
    place_at(owner.meta.endpoint_url).put(request)
    if region := owner.meta.region_name:
        request.attributes[spans.REGION] = region
    _put_tier(given, request.attributes)
    if request.operation == "rerank":
        _put_search_units(given.get("body"), request)
    elif name == "StartAsyncInvoke":
        _put_video_seconds(fields(given.get("modelInput")), request)
    request.body = given
    return request


def read_response(response: Any, reading: Reading) -> None:
    inside = fields(response)
    metadata = inside.get("ResponseMetadata")
    if metadata is None:
        _read_body(inside, reading)
        return
    reading.put(spans.RESPONSE_ID, fields(metadata).get("RequestId"))
    headers = fields(fields(metadata).get("HTTPHeaders"))
    stated = _counts(headers, HEADERS)
    if stated:
        # What the service bills by stands over what the model's own body says.
        reading.notes["stated"] = stated
        _put_counts(reading)
    _read_converse(inside, reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    inside = fields(chunk)
    if (part := inside.get("chunk")) is not None:
        data = fields(part).get("bytes") or b""
        # Of the many chunks that are text alone, most end here.
        if b"oken" in data or b"eason" in data:
            _read_body(fields(json.loads(data)), reading)
    elif (stop := inside.get("messageStop")) is not None:
        _read_stop_reasons([fields(stop).get("stopReason")], reading)
    elif (metadata := inside.get("metadata")) is not None:
        _read_converse(fields(metadata), reading)


def _operation(name: str, model: str) -> str:
    if name.startswith("Converse"):
        return "chat"
    kind = next((kind for part, kind in KINDS.items() if part in model), "chat")
    return "video_generation" if name == "StartAsyncInvoke" and kind != "embeddings" else kind


def _read_converse(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read what Converse says beside the message; the last event of its stream has the same members."""
    _put_tier(inside, reading.attributes)
    _read_stop_reasons([inside.get("stopReason")], reading)
    # A prompt router is billed as the model that it chose.
    router = fields(fields(inside.get("trace")).get("promptRouter"))
    reading.put(spans.RESPONSE_MODEL, router.get("invokedModelId"))
    _take([inside.get("usage")], reading)


def _read_body(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read the body of a model, or one chunk of it, whoever is its vendor."""
    message, delta, stop = (fields(inside.get(name)) for name in ("message", "delta", "messageStop"))
    reading.put(spans.RESPONSE_ID, inside.get("id") or message.get("id"))
    parts = [fields(part) for name in ("results", "outputs", "choices") for part in listed(inside.get(name))]
    reasons = ("stop_reason", "stopReason", "completionReason", "finish_reason")
    _read_stop_reasons([part.get(name) for part in (inside, delta, stop, *parts) for name in reasons], reading)
    for name in ("images", "artifacts"):
        if isinstance(inside.get(name), list):
            reading.put_count(spans.OUTPUT_IMAGES, len(inside[name]))
    generated = [tokens for part in parts if (tokens := count(part.get("tokenCount"))) is not None]  # Titan
    # At its beginning, an Anthropic stream names a placeholder for its output.
    begun = {name: value for name, value in fields(message.get("usage")).items() if not name.startswith("output")}
    nova = fields(inside.get("metadata")).get("usage")
    _take(({"outputTokens": sum(generated)} if generated else None, inside, inside.get("usage"), begun, nova), reading)
    if (metrics := inside.get(METRICS)) is not None:
        reading.notes["stated"] = _counts(metrics)
        _put_counts(reading)


def _take(usages: Iterable[Any], reading: Reading) -> None:
    """Keep the counts that are said here; they are cumulative, so that later ones replace earlier ones."""
    said = reading.notes.setdefault("said", {})
    for usage in usages:
        inside = fields(usage)
        said.update(_counts(inside))
        _read_ttls(inside, reading)
        details = fields(inside.get("output_tokens_details") or inside.get("completion_tokens_details"))
        reading.put_count(
            spans.REASONING_OUTPUT_TOKENS, details.get("thinking_tokens", details.get("reasoning_tokens"))
        )
    if said:
        _put_counts(reading)


def _counts(usage: Any, names: Mapping[str, str] = COUNTS) -> dict[str, int | float]:
    said = {names[name]: count(value) for name, value in fields(usage).items() if name in names}
    return {name: number for name, number in said.items() if number is not None}


def _put_counts(reading: Reading) -> None:
    counts = {**reading.notes.get("said", {}), **reading.notes.get("stated", {})}
    if "input" in counts:
        reading.put_count(spans.INPUT_TOKENS, counts["input"] + counts.get("read", 0) + counts.get("written", 0))
    reading.put_count(spans.CACHE_READ_INPUT_TOKENS, counts.get("read"))
    reading.put_count(spans.CACHE_WRITE_INPUT_TOKENS, counts.get("written"))
    reading.put_count(spans.OUTPUT_TOKENS, counts.get("output"))


def _read_ttls(usage: Mapping[str, Any], reading: Reading) -> None:
    """Split what was written to the cache by how long it lives: a list in Converse, an object at Anthropic."""
    by_ttl = dict(fields(usage.get("cache_creation")))
    for detail in map(fields, listed(usage.get("cacheDetails"))):
        by_ttl[str(detail.get("ttl"))] = detail.get("inputTokens")
    for ttl, tokens in by_ttl.items():
        if ttl in TTLS:
            reading.put_count(TTLS[ttl], tokens)


def _read_stop_reasons(reasons: Iterable[Any], reading: Reading) -> None:
    if said := [str(reason) for reason in reasons if reason]:
        reading.attributes[spans.FINISH_REASONS] = said


def _put_tier(said: Mapping[str, Any], attributes: dict[str, Any]) -> None:
    """The service tier, a text or an object with a type; latency-optimized inference has prices of its own, too."""
    tier = said.get("serviceTier")
    tier = fields(tier).get("type") if isinstance(tier, dict) else tier
    latency = said.get("performanceConfigLatency") or fields(said.get("performanceConfig")).get("latency")
    if latency == "optimized":
        attributes[spans.SERVICE_TIER] = "optimized"
    elif isinstance(tier, str):
        attributes[spans.SERVICE_TIER] = "standard" if tier == "default" else tier


def _put_search_units(body: Any, request: Request) -> None:
    documents = fields(json.loads(body)).get("documents") if isinstance(body, (str, bytes, bytearray)) else None
    if documents:
        request.units[spans.SEARCH_UNITS] = -(-len(documents) // DOCUMENTS_PER_UNIT)


def _put_video_seconds(given: Mapping[str, Any], request: Request) -> None:
    """The video is made later, into a bucket: what was asked for is what is billed. Nova says a number, Luma `5s`."""
    seconds = fields(given.get("videoGenerationConfig")).get("durationSeconds") or given.get("duration")
    if isinstance(seconds, str) and seconds.removesuffix("s").isdigit():
        seconds = int(seconds.removesuffix("s"))
    if isinstance(seconds, (int, float)):
        request.units[spans.OUTPUT_SECONDS] = float(seconds)

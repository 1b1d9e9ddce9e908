"""The shapes of Google's answers: content, embeddings, pictures, interactions, results of batches.

Comes in: decoded JSON of the Gemini API and of Vertex AI, or the SDK's objects. Goes out: attributes of a `Reading`.
Google counts thoughts beside the candidates and the results of tools beside the prompt; here both are counted in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from farebox import counted, spans
from farebox.reading import Reading, count, fields, listed

OWN_MODELS = re.compile(r"\A(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/google/)?models/")

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
#: Names of the count in a part of one modality.
PART_COUNTS = ("tokenCount", "token_count", "tokens")
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

#: Files known to hold results of batches; all others are the app's own and are not looked into.
result_files: set[str] = set()


def read_content(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read an answer of `generateContent` or `embedContent`, a chunk of the former, or a message of a live session."""
    reading.put(spans.RESPONSE_ID, inside.get("responseId"))
    reading.put(spans.RESPONSE_MODEL, inside.get("modelVersion"))
    candidates = [fields(candidate) for candidate in listed(inside.get("candidates"))]
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


def read_interaction(inside: Mapping[str, Any], reading: Reading) -> None:
    usage = inside.get("usage")
    is_first = usage is not None and counted.is_first(inside.get("id"))
    if reading.request.is_counted_once or (usage is None and inside.get("status") in UNFINISHED):
        # A look at an interaction, or the start of one in the background: the answer with usage is the use.
        reading.is_discarded = not is_first
    read_interaction_names(inside, reading)
    if usage is not None:
        _read_usage(usage, reading)


def read_interaction_names(inside: Mapping[str, Any], reading: Reading) -> None:
    reading.put(spans.RESPONSE_ID, inside.get("id") or None)
    reading.put(spans.RESPONSE_MODEL, model_of(inside.get("model")))
    put_tier(inside.get("service_tier"), reading.attributes)


def _read_usage(usage: Any, reading: Reading) -> None:
    """Read counts of any of Google's shapes; of the chunks of a stream, the last word on each count stands."""
    said = reading.notes
    for name, value in fields(usage).items():
        if value is not None and name in COUNTS:
            said[COUNTS[name]] = value
    prompt, candidates, thoughts = (count(said.get(name)) for name in ("prompt", "candidates", "thoughts"))
    total = count(said.get("total"))
    if prompt is not None:
        prompt += count(said.get("tool_use")) or 0
        reading.put_count(spans.INPUT_TOKENS, prompt)
    output = None if candidates is None and thoughts is None else (candidates or 0) + (thoughts or 0)
    if prompt is not None and total is not None:
        output = max(output or 0, total - prompt)
    if reading.attributes.get(spans.OPERATION, reading.request.operation) != "embeddings":
        reading.put_count(spans.OUTPUT_TOKENS, output)
    reading.put_count(spans.REASONING_OUTPUT_TOKENS, thoughts)
    reading.put_count(spans.CACHE_READ_INPUT_TOKENS, said.get("cached"))
    _put_parts(INPUT_PARTS, (said.get("prompt_parts"), said.get("tool_use_parts")), reading)
    _put_parts(OUTPUT_PARTS, (said.get("candidates_parts"),), reading)
    put_tier(said.get("tier"), reading.attributes)
    _read_tool_counts(said.get("grounding"), reading)


def _put_parts(names: Mapping[str, str], lists: Iterable[Any], reading: Reading) -> None:
    """Add up the tokens of each modality; of those that are not listed, nothing was said."""
    counts: dict[str, int | float] = {}
    for part in (fields(part) for parts in lists for part in listed(parts)):
        name = names.get(_text(part.get("modality")).upper())
        tokens = count(next((part[key] for key in PART_COUNTS if part.get(key) is not None), None))
        if name and tokens is not None:
            counts[name] = counts.get(name, 0) + tokens
    for name, tokens in counts.items():
        reading.put_count(name, tokens)


def _read_grounding(found: Iterable[Any], reading: Reading) -> None:
    """Count the searches that an answer is grounded on; whether they or the prompt are billed is a matter of prices."""
    queries = [
        query
        for metadata in map(fields, found)
        for name in ("webSearchQueries", "imageSearchQueries", "web_search_queries", "image_search_queries")
        for query in listed(metadata.get(name))
    ]
    if queries:
        reading.put_count(spans.WEB_SEARCHES, len(queries))


def _read_tool_counts(counts: Any, reading: Reading) -> None:
    searches = [
        count(fields(tool).get("count")) or 0
        for tool in listed(counts)
        if _text(fields(tool).get("type")) == "google_search"
    ]
    if searches:
        reading.put_count(spans.WEB_SEARCHES, sum(searches))


def read_predictions(predictions: Any, reading: Reading) -> None:
    """Read what Vertex AI and Imagen answer: embeddings with their counts, or pictures."""
    parts = [fields(prediction) for prediction in listed(predictions)]
    if reading.request.operation != "embeddings":
        # Pictures that a filter has withheld stand in the list, without a picture.
        reading.put_count(spans.OUTPUT_IMAGES, sum("bytesBase64Encoded" in part or "gcsUri" in part for part in parts))
        return
    statistics = [fields(fields(part.get("embeddings")).get("statistics")) for part in parts]
    counts = [count(part.get("token_count", part.get("tokenCount"))) for part in statistics]
    known = [tokens for tokens in counts if tokens is not None]
    if known:
        reading.put_count(spans.INPUT_TOKENS, int(sum(known)))


def read_batch(batch: Mapping[str, Any], reading: Reading) -> None:
    """Read the answers that stand in a finished batch, or note the file that holds them."""
    metadata = fields(batch.get("metadata"))
    output = fields(metadata.get("output"))
    if isinstance(name := output.get("responsesFile"), str):
        result_files.add(name)
    for kind in ("inlinedResponses", "inlinedEmbedContentResponses"):
        for number, line in enumerate(listed(fields(output.get(kind)).get("inlinedResponses"))):
            read_batch_line(fields(line), reading, f"{batch.get('name')}/{number}", metadata.get("model"))


def read_batch_line(line: Mapping[str, Any], reading: Reading, line_id: str, model: Any = None) -> None:
    """Read one answer of a batch, booked once however often the batch or its file is fetched."""
    answer = fields(line.get("response"))
    tokens = answer.get("tokenCount")
    is_used = answer.get("usageMetadata") is not None or tokens is not None
    if not is_used or not counted.is_first(answer.get("responseId") or line_id):
        return
    item = Reading(reading.request)
    item.attributes[spans.OPERATION] = "embeddings" if "embedding" in answer else "generate_content"
    item.attributes[spans.BATCH] = True
    item.put(spans.REQUEST_MODEL, model_of(model))
    item.put_count(spans.INPUT_TOKENS, tokens)  # JSON has 64-bit numbers as text
    read_content(answer, item)
    reading.items.append(item.attributes)


def put_tier(value: Any, attributes: dict[str, Any]) -> None:
    name = _text(value).lower().removeprefix("service_tier_")
    if tier := TIERS.get(name, name):
        attributes[spans.SERVICE_TIER] = tier


def model_of(value: Any) -> str | None:
    return OWN_MODELS.sub("", value, count=1) if isinstance(value, str) else None


def _text(value: Any) -> str:
    """The text of a name, which may be an enum; empty for what is no name."""
    text = getattr(value, "value", value)
    return text if isinstance(text, str) else ""

"""The shape of OpenAI's API, which many providers copy: paths, names, token counts, the usage of a stream.

Comes in: requests, answers and chunks of any SDK that speaks so, as objects or as decoded JSON. Goes out: attributes of
a `Request` or a `Reading`. Totals include their parts, as OpenAI counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from farebox import counted, metering, spans
from farebox.places import Place
from farebox.reading import Arguments, Reading, Request, count, field, fields, is_refusal, listed
from farebox.spans import RESPONSE_ID, RESPONSE_MODEL

#: Path below the version → operation.
OPERATIONS: Mapping[str, str] = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
    "/images/generations": "image_generation",
    "/images/edits": "image_generation",
    "/images/variations": "image_generation",
    "/audio/transcriptions": "transcription",
    "/audio/translations": "transcription",
    "/audio/speech": "speech",
}
#: Kind of answer → operation, where no path says it.
OPERATIONS_BY_OBJECT: Mapping[str, str] = {"text_completion": "text_completion", "list": "embeddings"}
#: A download that may be the results of a batch.
FILE_CONTENT = re.compile(r"/files/[^/]+/content")
#: What others call the ordinary tier: OpenAI, Groq.
TIERS: Mapping[str, str] = {"default": "standard", "on_demand": "standard"}
#: Refuse unknown members of a request.
NEVER_ASKED = frozenset({"mistral_ai"})
NOTHING: Mapping[str, Any] = {}

_refusing: set[tuple[str, int | None]] = set()


def read_body(body: Mapping[str, Any], request: Request) -> None:
    """Read what the request alone says: the tier, and the characters of a speech."""
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier != "auto":
        request.attributes[spans.SERVICE_TIER] = TIERS.get(tier, tier)
    if request.operation == "speech" and isinstance(body.get("input"), str):
        request.units[spans.INPUT_CHARACTERS] = len(body["input"])


def read_answer(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read the fields of a whole answer of any operation."""
    read_chat(inside, reading)
    if inside.get("usage") is None:
        read_without_usage(inside, reading)


def read_batch_line(line: Mapping[str, Any], reading: Reading, read: Callable[[Any, Reading], None]) -> None:
    """Read one line of a batch's results: an answer of its own, booked once however often the file is fetched.

    `read` reads the answer as it would one that was not in a batch. Lines of other files say no usage.
    """
    answer = fields(fields(line.get("response")).get("body"))
    if answer.get("usage") is None or not counted.is_first(answer.get("id") or line.get("id")):
        return
    item = Reading(reading.request)
    item.attributes[spans.OPERATION] = OPERATIONS_BY_OBJECT.get(str(answer.get("object")), "chat")
    read(answer, item)
    item.attributes[spans.BATCH] = True
    reading.items.append(item.attributes)


def read_video(video: Mapping[str, Any], reading: Reading) -> None:
    """Read a video, which is made in the background and billed by the second: the first look at a finished one counts.

    Nothing is billed for one that failed.
    """
    reading.is_discarded = video.get("status") != "completed" or not counted.is_first(video.get("id"))
    read_names(video, reading)
    reading.put_count(spans.OUTPUT_SECONDS, _seconds(video.get("seconds")))


def read_without_usage(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read what is billed by other measures than tokens."""
    if isinstance(inside.get("data"), list) and reading.request.operation == "image_generation":
        reading.put_count(spans.OUTPUT_IMAGES, len(inside["data"]))
    elif inside.get("duration") is not None:
        # Transcriptions in `verbose_json` of older models; the API sends the seconds as text or number.
        reading.put_count(spans.INPUT_SECONDS, _seconds(inside["duration"]))


def _seconds(value: Any) -> float | None:
    """Seconds, which may be written as text; None for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def read_chat(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read the fields of a whole answer: names, finish reasons, usage."""
    read_names(inside, reading)
    reasons = [reason for choice in listed(inside.get("choices")) if (reason := fields(choice).get("finish_reason"))]
    if reasons:
        reading.attributes[spans.FINISH_REASONS] = reasons
    if inside.get("usage") is not None:
        read_usage(inside["usage"], reading)


def is_text_alone(chunk: Any, reading: Reading) -> bool:
    """Whether a chunk is one of the many in the middle of a chat, which say nothing that is not known."""
    # Asked for every chunk: members are looked at where they stand, and what is asked once is asked last.
    inside = chunk if isinstance(chunk, dict) else getattr(chunk, "__dict__", NOTHING)
    choices = inside.get("choices")
    if not choices or type(choices) is not list or inside.get("usage") is not None:
        return False
    choice = choices[0]
    reason = choice.get("finish_reason") if isinstance(choice, dict) else getattr(choice, "finish_reason", None)
    attributes = reading.attributes
    return not reason and RESPONSE_MODEL in attributes and RESPONSE_ID in attributes


def read_chat_chunk(inside: Mapping[str, Any], reading: Reading) -> None:
    """Read the fields of one chunk; the one that ends the text repeats the names, which may only then be known."""
    attributes = reading.attributes
    if RESPONSE_ID not in attributes or RESPONSE_MODEL not in attributes:
        read_names(inside, reading)
    choices = inside.get("choices")
    if choices and isinstance(choices, list) and (reason := field(choices[0], "finish_reason")):
        attributes[spans.FINISH_REASONS] = [reason]
        read_names(inside, reading)
    if inside.get("usage") is not None:
        read_usage(inside["usage"], reading)


def read_names(inside: Mapping[str, Any], reading: Reading) -> None:
    for name, key in ((spans.RESPONSE_ID, "id"), (spans.RESPONSE_MODEL, "model")):
        # Azure's first chunk has both empty.
        if isinstance(value := inside.get(key), str) and value:
            reading.attributes[name] = value
    tier = inside.get("service_tier")
    if isinstance(tier, str) and tier != "auto":
        reading.attributes[spans.SERVICE_TIER] = TIERS.get(tier, tier)


def read_usage(usage: Any, reading: Reading) -> None:
    """Read the token counts of any of OpenAI's shapes, and of those who copy them."""
    inside = fields(usage)
    if inside.get("type") == "duration":
        reading.put_count(spans.INPUT_SECONDS, inside.get("seconds"))
        return
    total = count(inside.get("total_tokens"))
    input_tokens = count(first(inside, "prompt_tokens", "input_tokens"))
    output_tokens = count(first(inside, "completion_tokens", "output_tokens"))
    if input_tokens is None and output_tokens is None:
        input_tokens = total  # embeddings of some hosts
    elif output_tokens is not None and total is not None and input_tokens is not None:
        # Hidden thoughts (Gemini, xAI) stand in the total alone.
        output_tokens = max(output_tokens, total - input_tokens)
    reading.put_count(spans.INPUT_TOKENS, input_tokens)
    reading.put_count(spans.OUTPUT_TOKENS, output_tokens)
    _read_input_details(inside, reading)
    _read_output_details(inside, reading)
    # Perplexity's own: the searches of a deep research, and the size that they are billed by.
    reading.put_count(spans.WEB_SEARCHES, inside.get("num_search_queries"))
    reading.put(spans.SEARCH_CONTEXT_SIZE, inside.get("search_context_size"))
    if (cost := inside.get("cost")) is not None:
        read_cost(cost, reading)


def _read_input_details(inside: Mapping[str, Any], reading: Reading) -> None:
    details = fields(first(inside, "prompt_tokens_details", "input_tokens_details", "input_token_details"))
    cached = details.get("cached_tokens")
    if cached is None:
        cached = first(inside, "prompt_cache_hit_tokens", "cached_tokens")  # DeepSeek; Together, Hugging Face
    reading.put_count(spans.CACHE_READ_INPUT_TOKENS, cached)
    reading.put_count(spans.CACHE_WRITE_INPUT_TOKENS, details.get("cache_write_tokens"))
    reading.put_count(spans.AUDIO_INPUT_TOKENS, details.get("audio_tokens"))
    reading.put_count(spans.IMAGE_INPUT_TOKENS, details.get("image_tokens"))
    reading.put_count(spans.VIDEO_INPUT_TOKENS, details.get("video_tokens"))
    by_ttl = details.get("cache_write_tokens_details")
    if by_ttl is not None:
        reading.put_count(spans.CACHE_WRITE_30M_INPUT_TOKENS, fields(by_ttl).get("ttl_30m_tokens"))
        reading.put_count(spans.CACHE_WRITE_12H_INPUT_TOKENS, fields(by_ttl).get("ttl_12h_tokens"))


def _read_output_details(inside: Mapping[str, Any], reading: Reading) -> None:
    details = fields(first(inside, "completion_tokens_details", "output_tokens_details", "output_token_details"))
    reading.put_count(spans.REASONING_OUTPUT_TOKENS, details.get("reasoning_tokens"))
    reading.put_count(spans.AUDIO_OUTPUT_TOKENS, details.get("audio_tokens"))
    reading.put_count(spans.IMAGE_OUTPUT_TOKENS, details.get("image_tokens"))


def read_cost(cost: Any, reading: Reading) -> None:
    """A stated cost in US dollars: OpenRouter says a number, Perplexity an object with `total_cost`."""
    value = cost if isinstance(cost, (int, float)) else fields(cost).get("total_cost")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        reading.put(spans.STATED_COST, f"{Decimal(repr(value)):f}")


def ask_for_usage(request: Request, place: Place, *, asking: Callable[[], Arguments], plain: Arguments) -> None:
    """Ask a stream for its usage where the app did not say what it wants, and hide the chunk that it brings.

    `asking` makes the arguments with `stream_options.include_usage`, `plain` those of the app.
    """
    host = (place.address, place.port)
    if request.provider in NEVER_ASKED or host in _refusing or not metering.settings().inject_stream_usage:
        return
    request.arguments = asking()
    request.is_hidden = is_usage_alone

    def without(error: Exception) -> Arguments | None:
        is_named = "stream_options" in str(error)
        # A host that we do not know may refuse without naming the member.
        if not is_refusal(error) or not (is_named or place.provider is None):
            return None
        request.is_hidden = None
        return plain

    request.retry = without
    # Only when the same request succeeds without the member, the member was what the host refused.
    request.retried = lambda: _refusing.add(host)


def is_usage_alone(chunk: Any) -> bool:
    """Whether this is the extra chunk; on the others our request has left a `usage: null`, which is taken back."""
    # Asked for every chunk: nothing but what it needs is looked at, and the set by its own name, not by its property.
    usage = chunk.get("usage") if isinstance(chunk, dict) else getattr(chunk, "usage", None)
    if usage is None:
        given = getattr(chunk, "__pydantic_fields_set__", None)
        if given:
            given.discard("usage")
        return False
    return not fields(chunk).get("choices")


def first(inside: Mapping[str, Any], *names: str) -> Any:
    """The first of these members that says anything."""
    for name in names:
        if (value := inside.get(name)) is not None:
            return value
    return None

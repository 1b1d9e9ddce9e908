"""Together through the `together` package: OpenAI's shape, with the usage of a stream in its last chunk, unasked.

One method of the client carries every call (`farebox.stainless`). Images are billed by their number, speech by
characters, transcription by seconds, videos by seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from farebox import openai_shape
from farebox.openai_shape import (
    FILE_CONTENT,
    read_answer,
    read_batch_line,
    read_body,
    read_chat_chunk,
    read_video,
)
from farebox.reading import Reading, Request, fields
from farebox.sdks import Target
from farebox.stainless import Sent

TESTED = ("2.0", "3.1")
TARGETS = (
    Target("together._base_client", "SyncAPIClient.request"),
    Target("together._base_client", "AsyncAPIClient.request"),
)

VIDEOS = re.compile(r"/v2/videos(/[^/]+)?")
OPERATIONS: Mapping[str, str] = {**openai_shape.OPERATIONS, "/rerank": "rerank"}


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    sent = Sent(owner, args, kwargs)
    is_look = sent.method == "get"
    is_delivery = is_look and FILE_CONTENT.fullmatch(sent.path) is not None
    operation = "video_generation" if VIDEOS.fullmatch(sent.path) else None if is_look else OPERATIONS.get(sent.path)
    if operation is None and not is_delivery:
        return None
    request = sent.request(operation or "chat", sent.place.provider or "together_ai")
    request.is_delivery = is_delivery
    request.is_counted_once = is_look and not is_delivery
    read_body(sent.body, request)
    return request


def read_response(response: Any, reading: Reading) -> None:
    if reading.request.operation == "video_generation":
        read_video(fields(response), reading)
    else:
        read_answer(fields(response), reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    if reading.request.is_delivery:
        read_batch_line(fields(chunk), reading, read_response)
    else:
        read_chat_chunk(fields(chunk), reading)

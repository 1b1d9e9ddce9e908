"""Together through the `together` package: OpenAI's shape, with the usage of a stream in its last chunk, unasked.

One method of the client carries every call (`farebox.stainless`). Images are billed by their number, speech by
characters, transcription by seconds, videos by seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox import openai_shape
from farebox.openai_shape import read_answer, read_body, read_chat_chunk
from farebox.reading import Reading, Request, fields
from farebox.sdks import Target
from farebox.stainless import Sent

TESTED = ("3.1", "3.1")
TARGETS = (
    Target("together._base_client", "SyncAPIClient.request"),
    Target("together._base_client", "AsyncAPIClient.request"),
)

OPERATIONS: Mapping[str, str] = {**openai_shape.OPERATIONS, "/rerank": "rerank"}


def read_request(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    sent = Sent(owner, args, kwargs)
    operation = OPERATIONS.get(sent.path) if sent.method == "post" else None
    if operation is None:
        return None
    request = sent.request(operation, sent.place.provider or "together_ai")
    read_body(sent.body, request)
    return request


def read_response(response: Any, reading: Reading) -> None:
    read_answer(fields(response), reading)


def read_chunk(chunk: Any, reading: Reading) -> None:
    read_chat_chunk(fields(chunk), reading)

"""The results of batches as OpenAI, those who copy it, and Anthropic deliver them: one JSON object in each line.

The same file brings the same ids each time it is fetched.
"""

from __future__ import annotations

import json
from typing import Any

Body = dict[str, Any]


def result_file(name: str, bodies: list[Body]) -> bytes:
    """An output file of a batch: one line for each answer, and at the end one for a request that failed."""
    lines = [
        {
            "id": f"batch_req_{name}_{number}",
            "custom_id": f"ride-{number}",
            "response": {"status_code": 200, "request_id": f"req_{name}_{number}", "body": body},
            "error": None,
        }
        for number, body in enumerate(bodies)
    ]
    error = {"message": "Invalid value for 'messages'.", "type": "invalid_request_error", "param": None, "code": None}
    refused = {"status_code": 400, "request_id": f"req_{name}_x", "body": {"error": error}}
    lines.append({"id": f"batch_req_{name}_x", "custom_id": "ride-x", "response": refused, "error": None})
    return _joined(lines)


def chat_body(name: str, model: str, usage: Body) -> Body:
    message = {"role": "assistant", "content": "Two cents.", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": f"chatcmpl-{name}", "object": "chat.completion", "created": 1, "model": model, "choices": [choice],
        "usage": usage,
    }  # fmt: skip


def message_results(messages: list[Body]) -> bytes:
    """The results of a message batch: those that succeeded, then one that expired and one that failed."""
    lines: list[Body] = [
        {"custom_id": f"ride-{number}", "result": {"type": "succeeded", "message": message}}
        for number, message in enumerate(messages)
    ]
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: required"}}
    lines.append({"custom_id": "ride-x", "result": {"type": "expired"}})
    lines.append({"custom_id": "ride-y", "result": {"type": "errored", "error": error}})
    return _joined(lines)


def _joined(lines: list[Body]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

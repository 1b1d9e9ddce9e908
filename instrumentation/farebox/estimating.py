"""Guess tokens where the provider said none, for those who switch it on (FAREBOX_ESTIMATE_TOKENS).

Comes in: requests and answers of any SDK. Goes out: `estimated_*` attributes, beside the missing counts and never in
their place. Texts are measured, not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox import spans
from farebox.reading import Attributes, fields

#: OpenAI's rule of thumb for English text (platform.openai.com/tokenizer, 2026-11).
CHARACTERS_PER_TOKEN = 4
DEPTH_MAX = 12

#: Members that hold text which is billed as tokens, in the shapes of the SDKs.
TEXTS = frozenset({"content", "text", "input", "prompt", "system", "instructions", "arguments", "thinking", "refusal"})
TEXT_DELTAS = frozenset({"delta", "partial_json", "reasoning_content"})
#: Members that lead to such.
PATHS = frozenset({"messages", "choices", "message", "output", "content_block", "function", "tool_calls", "candidates"})
#: Events that repeat a whole answer whose parts have been counted.
REPEATS = frozenset({"response.created", "response.in_progress", "response.completed", "response.incomplete"})


class Estimate:
    """The lengths of one call's texts so far."""

    __slots__ = ("_input_characters", "_output_characters")

    def __init__(self, body: Mapping[str, Any] | None) -> None:
        self._input_characters = characters(body)
        self._output_characters = 0

    def take(self, answer: Any) -> None:
        """Measure an answer, or a chunk of one."""
        kind = fields(answer).get("type")
        if kind in REPEATS or (isinstance(kind, str) and kind.endswith(".done")):
            return
        self._output_characters += characters(answer)

    def attributes(self, known: Attributes) -> Attributes:
        """The estimates for the counts that `known` lacks; nothing for a text of no length."""
        guesses = (
            (spans.INPUT_TOKENS, spans.ESTIMATED_INPUT_TOKENS, self._input_characters),
            (spans.OUTPUT_TOKENS, spans.ESTIMATED_OUTPUT_TOKENS, self._output_characters),
        )
        return {
            estimated: -(-length // CHARACTERS_PER_TOKEN)
            for stated, estimated, length in guesses
            if stated not in known and length
        }


def characters(part: Any, depth: int = 0) -> int:
    """How many characters of billed text a part of a request or an answer holds."""
    if depth > DEPTH_MAX:
        return 0
    if isinstance(part, (list, tuple)):
        return sum(characters(item, depth + 1) for item in part)
    length = 0
    for name, value in fields(part).items():
        is_text = name in TEXTS or name in TEXT_DELTAS
        if isinstance(value, str):
            length += len(value) if is_text else 0
        elif value is not None and (is_text or name in PATHS):
            length += _texts_in(value, depth + 1) if is_text else characters(value, depth + 1)
    return length


def _texts_in(value: Any, depth: int) -> int:
    """The length of a text member that is no plain text: a list of texts, or of parts that hold texts."""
    if isinstance(value, (list, tuple)):
        return sum(len(item) if isinstance(item, str) else characters(item, depth) for item in value)
    return characters(value, depth)

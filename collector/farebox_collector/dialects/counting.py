"""Counts as emitters write them, by tables of keys, and what turns them into the conventions' meaning.

The meaning is that of the GenAI conventions: `input_tokens` includes cached parts, `output_tokens` includes reasoning.
A dialect whose emitter means something else names the rule that it used and keeps what was written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from farebox_collector.dialects.dialect import Attributes
from farebox_ledger.usage import Usage, UsageRule, clamped_count


class Reading(msgspec.Struct):
    """What a dialect read of a span's quantities."""

    usage: Usage
    is_clamped: bool = False  # some count was none: negative, fractional, not a number
    rule: UsageRule | None = None  # None: the counts stand as they were written
    raw: dict[str, int | float | str] | None = None  # what was written, where a rule was used

    def changed_by(self, rule: UsageRule, attributes: Attributes, keys: Iterable[str]) -> None:
        """Note the rule that changed the counts, and the counts as they were written."""
        self.rule = rule
        self.raw = raw_counts(attributes, keys)


def raw_counts(attributes: Attributes, keys: Iterable[str]) -> dict[str, int | float | str] | None:
    """Keep the counts by the emitter's own names, as evidence for whoever doubts a converted row. Numbers alone."""
    raw: dict[str, int | float | str] = {}
    for key in sorted(keys):
        value = attributes.get(key)
        if isinstance(value, float) and not math.isfinite(value):
            raw[key] = repr(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            raw[key] = value
        elif value is not None and (number := number_of(value)) is not value:
            raw[key] = number
    return raw or None


def counted(attributes: Attributes, names: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """Read counts by a table (key → quantity): (quantities, was any of them unusable).

    Of several keys for one quantity the first of the table counts. Numbers may be written as text.
    """
    quantities: dict[str, Any] = {}
    is_clamped = False
    for key, name in names.items():
        if name not in quantities and (value := attributes.get(key)) is not None:
            quantities[name], is_unusable = clamped_count(number_of(value))
            is_clamped |= is_unusable
    return quantities, is_clamped


def number_of(value: Any) -> Any:
    """Read a whole number that was written as text; everything else stays what it is."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value


def include_cache(usage: Usage) -> bool:
    """Add cached tokens, which stand outside, to the input; says whether that changed anything."""
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_write_total or 0)
    if usage.input_tokens is None or not cached:
        return False
    usage.input_tokens += cached
    return True


def include_reasoning(usage: Usage) -> bool:
    """Add reasoning, which stands outside, to the output; says whether that changed anything."""
    if usage.output_tokens is None or not usage.reasoning_output_tokens:
        return False
    usage.output_tokens += usage.reasoning_output_tokens
    return True

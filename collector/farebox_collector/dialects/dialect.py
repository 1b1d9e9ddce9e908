"""The shape of a dialect: what tells its spans from others, what it reads of them, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from farebox_collector.spans import AttributeValue, Extract, Span
from farebox_ledger.usage import UsageEvent

Attributes: TypeAlias = Mapping[str, AttributeValue]


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One emitter's way of writing a call onto a span."""

    scopes: tuple[str, ...]  # its instrumentation scopes and whatever stands below them; empty: told by its keys alone
    marks: tuple[bytes, ...]  # each of its spans contains one of these
    keys: frozenset[str]  # what it reads, beside the attribution that all have in common
    recognizes: Callable[[Attributes], bool]  # asked for a scope that no dialect knows
    read: Callable[[Span], UsageEvent | None]
    extracts: Mapping[str, Extract] = {}  # what it reads out of values that are not kept, by the spans' exact scope

    def owns(self, scope: str) -> bool:
        """Say whether an instrumentation scope is one of this emitter's, or below one of them (`a` owns `a.b`)."""
        return any(scope == own or scope.startswith(f"{own}.") for own in self.scopes)

"""Takes the numbers that farebox's app side gives its spans, before the spans are kept.

Each process numbers its spans from 1 and names itself on the resource. The numbers say what is missing and are no part
of a usage: they go to `sequence`, and neither to the spool nor to the books.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from farebox_collector.spans import Span

SCOPE: Final = "farebox"
SEQUENCE: Final = "farebox.sequence"
INSTANCE: Final = "service.instance.id"


class Numbered(NamedTuple):
    """Numbers of one process, in the order in which they came."""

    instance: str
    numbers: list[int]


def is_numbered(scope: str) -> bool:
    """Whether the spans of an instrumentation scope are our own; asked once for all of them."""
    return scope.startswith(SCOPE) and scope[len(SCOPE) :][:1] in ("", ".")


def taken_numbers(spans: Iterable[Span | None]) -> list[int]:
    """Take the numbers off some spans; whatever is no number from 1 on is forgotten."""
    taken = (span.attributes.pop(SEQUENCE, None) for span in spans if span is not None)
    return [number for number in taken if type(number) is int and number > 0]

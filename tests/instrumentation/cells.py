"""Which calls the tests have really metered: the cells of `docs/sdk-matrix.md`, taken from the spans themselves.

A cell is the SDK file, the operation, whether an event loop ran where the call was made, whether it was a stream, and
how it ended. Nobody writes one down: what no test has made is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from farebox import spans
from tests.fakes.receiver import ReceivedSpan

SCOPE = "farebox.sdks."


class Cell(NamedTuple):
    sdk: str
    operation: str
    mode: str
    outcome: str


#: Of the passed tests of this session.
SEEN: set[Cell] = set()


class Watch:
    """Notes, while it is entered, which spans were opened inside a running event loop."""

    def __init__(self) -> None:
        self._is_async: dict[str, bool] = {}
        self._open_span = spans.open_span

    def __enter__(self) -> Self:
        spans.open_span = self._opened
        return self

    def __exit__(self, *_: object) -> None:
        spans.open_span = self._open_span

    def cells(self, received: Iterable[ReceivedSpan]) -> set[Cell]:
        """The cells of these spans; models inside a call have none of their own."""
        return {
            self._cell(span) for span in received if span.scope.startswith(SCOPE) and span.span_id in self._is_async
        }

    def _cell(self, span: ReceivedSpan) -> Cell:
        attributes = span.attributes
        operation = str(attributes["gen_ai.operation.name"]) + (" (batch)" if attributes.get("farebox.batch") else "")
        mode = "async" if self._is_async[span.span_id] else "sync"
        mode += " stream" if attributes.get("gen_ai.request.stream") else ""
        outcome = str(attributes.get("farebox.outcome", "completed"))
        return Cell(span.scope.removeprefix(SCOPE), operation, mode, outcome)

    def _opened(self, *args: Any, **kwargs: Any) -> Any:
        opened = self._open_span(*args, **kwargs)
        if opened is not None:
            span_id = f"{opened._span.get_span_context().span_id:016x}"
            self._is_async[span_id] = _is_in_a_loop()
        return opened


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

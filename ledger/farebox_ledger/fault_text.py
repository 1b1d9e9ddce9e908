"""A fault as text for a log: where it was raised, and the first line alone of what it says.

Below its first line a database's error quotes values (PostgreSQL's DETAIL) and the statement; none of that comes out.
"""

from __future__ import annotations

import traceback


def fault_text(error: BaseException) -> str:
    """Write the frames of an error and of those that led to it, the first cause first, without the frames' values."""
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        told.append(_one(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nwhich led to:\n\n".join(reversed(told))


def _one(error: BaseException) -> str:
    said = str(error).strip().partition("\n")[0]
    kind = type(error).__qualname__
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{kind}: {said}"

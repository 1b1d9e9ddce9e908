"""The one shape of every list."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """One page of a list. `next_cursor` is null on the last page; there is no total, counting would read every row."""

    items: list[Item]
    next_cursor: str | None
    has_more: bool

"""What every list has beside its items."""

from __future__ import annotations

import msgspec


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list. `next_cursor` is null on the last page; there is no total, counting would read every row."""

    next_cursor: str | None
    has_more: bool

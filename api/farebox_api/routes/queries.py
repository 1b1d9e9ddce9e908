"""The query parameters that more than one route takes: page size, cursor, and every filter of usage rows."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.params import QueryParameter

from farebox_api.paging import DEFAULT_LIMIT, MAX_CURSOR_LENGTH, MAX_LIMIT

Limit: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=MAX_LIMIT, description=f"Rows on the page, {DEFAULT_LIMIT} unless told.")
]
Cursor: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=MAX_CURSOR_LENGTH,
        description="`next_cursor` of the page before, with the same filter.",
    ),
]

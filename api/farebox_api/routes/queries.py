"""The query parameters that more than one route takes: page size, cursor, organization, range."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.params import PathParameter, QueryParameter

from farebox_api.paging import DEFAULT_LIMIT, MAX_CURSOR_LENGTH, MAX_LIMIT
from farebox_api.parameters import SLUG_PATTERN, TIME_PATTERN

MAX_NAME_LENGTH = 400
"""Rows keep no longer names."""

_TIME_TEXT = "RFC 3339 with offset, such as 2026-11-01T00:00:00Z"


def named(what: str, *, pattern: str | None = None) -> QueryParameter:
    """Describe a parameter that holds a name, or text of a form.

    A pattern is documented here and checked by `parameters`, which can say what is wrong in words.
    """
    return QueryParameter(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        schema_extra=None if pattern is None else {"pattern": pattern},
        description=what,
    )


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
OrganizationName: TypeAlias = Annotated[
    str | None, named("Slug of one organization; a system key sees all without it.", pattern=SLUG_PATTERN)
]
TimeText: TypeAlias = Annotated[str | None, named(f"Moment, now unless told: {_TIME_TEXT}.", pattern=TIME_PATTERN)]
Start: TypeAlias = Annotated[str | None, named(f"Begin of the range, inclusive: {_TIME_TEXT}.", pattern=TIME_PATTERN)]
End: TypeAlias = Annotated[str | None, named(f"End of the range, exclusive: {_TIME_TEXT}.", pattern=TIME_PATTERN)]
OrganizationPath: TypeAlias = Annotated[str, PathParameter(description="The organization's slug.", max_length=64)]

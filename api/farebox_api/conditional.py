"""Conditional reads: an answer that the caller holds already is not sent again (RFC 9110 §13.1.2).

Only for what depends on its ETag alone. The ETag of a thing with dates counts its changes, and what holds today changes
without one; so does what is left of a grant. Those are always sent.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from litestar import Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter

from farebox_api.paging import MAX_CURSOR_LENGTH

IfNoneMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        max_length=MAX_CURSOR_LENGTH,
        description="ETags of answers that the caller holds; 304 without a body when this would be one of them.",
    ),
]

NOT_MODIFIED: Final = {
    304: ResponseSpec(data_container=None, description="The caller holds this answer already.", generate_examples=False)
}

Answer = TypeVar("Answer")

_ETAG: Final = re.compile(r'(?:W/)?("[^"]*")')


def unless_held(response: Response[Answer], if_none_match: str | None) -> Response[Any]:
    """Answer 304 in the place of a response whose ETag the caller names, among others or by `*`."""
    etag = response.headers["ETag"]
    if if_none_match is None or not (if_none_match.strip() == "*" or etag in _ETAG.findall(if_none_match)):
        return response
    return Response(None, status_code=304, headers={"ETag": etag})


def with_digest(answer: Answer) -> Response[Answer]:
    """Answer with an ETag made from all that is said, so that any change of it is seen."""
    digest = blake2b(msgspec.json.encode(answer), digest_size=12).hexdigest()
    return Response(answer, headers={"ETag": f'"{digest}"'})

"""What the routes of administered things share: versions as ETags, owners as slugs, cursors, who may change what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias, TypeVar

from litestar import Response
from litestar.params import HeaderParameter, PathParameter, QueryParameter
from sqlalchemy import Connection

from farebox_api.errors import Forbidden, invalid_parameter
from farebox_api.paging import CursorCodec
from farebox_api.schemas.administration import AdministeredAnswer
from farebox_ledger.pricing.units import Unit
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.scope import OrgScope, Scope
from farebox_ledger.store.subjects import Position, Subject

CURSORS = CursorCodec(tuple[int, str])

Identity: TypeAlias = Annotated[str, PathParameter(description="The thing's id.", max_length=64)]
IfMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        max_length=64,
        description="The ETag that was read; the change is refused when the thing has changed since.",
    ),
]
UnitName: TypeAlias = Annotated[
    Unit | None, QueryParameter(description="Unit of the prices of tokens, as they were stated unless told.")
]

Answer = TypeVar("Answer", bound=AdministeredAnswer)
_ETAG: Final = re.compile(r'"(\d{1,9})"', re.ASCII)


def expected_version(if_match: str | None) -> int | None:
    """Read If-Match as the version that the caller knows; None where any version will do.

    Raises:
        InvalidRequest: it is no ETag of this API.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise invalid_parameter("If-Match", f'expected the ETag of an answer, such as "3", got {if_match[:64]!r}')
    return int(match[1])


def with_etag(answer: Answer, location: str | None = None) -> Response[Answer]:
    """Answer a thing with its version as ETag; `location` is the path of a new one."""
    headers = {"ETag": f'"{answer.row_version}"'}
    if location is not None:
        headers["Location"] = f"{location}/{answer.id}"
    return Response(answer, headers=headers)


def require_own(scope: Scope, subject: Subject) -> None:
    """Refuse that the key of an organization changes what holds for everybody.

    Raises:
        Forbidden: it would.
    """
    if subject.org_id is None and isinstance(scope, OrgScope):
        raise Forbidden("This holds for everybody; only a system key changes it.")


def slugs(connection: Connection, subjects: Iterable[Subject]) -> dict[int | None, str | None]:
    """Answer the slugs of the owners of things; everybody has none."""
    owners = {subject.org_id for subject in subjects if subject.org_id is not None}
    return {None: None, **{org_id: one.slug for org_id, one in organizations_by_id(connection, owners).items()}}


def position(subject: Subject) -> Position:
    """Where a list goes on behind a thing."""
    return (subject.created_at_us, subject.id)

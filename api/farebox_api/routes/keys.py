"""API keys: listed without the key, made with the key shown once, revoked."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, RawBody, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import Caller, requires
from farebox_api.bodies import read
from farebox_api.errors import Fault, Forbidden, InvalidRequest
from farebox_api.idempotency import SHOWN_ONCE
from farebox_api.paging import CursorCodec
from farebox_api.parameters import time_us
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import Cursor, Limit, OrganizationName
from farebox_api.schemas.organizations import KeyInput, KeyPageAnswer, NewKeyAnswer, key_answer, new_key_answer
from farebox_ledger.store.key_uses import KeyUses
from farebox_ledger.store.keys import KeyRecord, create_key, list_keys, revoke_key
from farebox_ledger.usage import org_id_of

CURSORS = CursorCodec(tuple[int, str])

KeyPath = Annotated[str, PathParameter(description="The key's id, `key_…`.", max_length=64)]


@get(
    "/api-keys",
    operation_id="list_api_keys",
    summary="List keys",
    tags=["keys"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    uses: NamedDependency[SkipValidation[KeyUses]],
    organization: OrganizationName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> KeyPageAnswer:
    """List the keys that the key sees, or those of one organization, oldest first, revoked ones among them."""
    question = ("api-keys", books.caller.org_slug, organization)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_keys(connection, scope, limit=limit + 1, after=after)
    rows, has_more = found[:limit], len(found) > limit
    next_cursor = CURSORS.write(_position(rows[-1][0]), *question) if has_more else None
    used_us = uses.last_used_us([record.id for record, _ in rows])
    items = [key_answer(record, limit, used_us.get(record.id)) for record, limit in rows]
    return KeyPageAnswer(items=items, next_cursor=next_cursor, has_more=has_more)


@post(
    "/api-keys",
    operation_id="create_api_key",
    summary="Make a key",
    tags=["keys"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    opt={SHOWN_ONCE: True},
    sync_to_thread=True,
)
def created(
    books: NamedDependency[SkipValidation[Books]], data: SkipValidation[KeyInput], body: RawBody
) -> NewKeyAnswer:
    """Make a key. A system key says for which organization, or `system`; the key of an organization makes its own."""
    wanted = read(body, KeyInput)
    organization = _organization(books.caller, wanted)
    with books.writing(organization) as (connection, _):
        record, key = create_key(
            connection,
            org_id=None if organization is None else org_id_of(organization),
            scopes=wanted.scopes,
            name=wanted.name,
            expires_at_us=_expires_at_us(wanted.expires_at),
            requests_per_minute=wanted.requests_per_minute,
        )
    return new_key_answer(record, key, wanted.requests_per_minute)


@delete(
    "/api-keys/{key_id:str}",
    operation_id="revoke_api_key",
    summary="Revoke a key",
    tags=["keys"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def revoked(books: NamedDependency[SkipValidation[Books]], key_id: KeyPath) -> None:
    """Revoke a key at once for the API, within seconds for collectors; again changes nothing."""
    with books.writing() as (connection, scope):
        revoke_key(connection, scope, key_id)


def _position(record: KeyRecord) -> tuple[int, str]:
    return (record.created_at_us, record.id)


def _organization(caller: Caller, wanted: KeyInput) -> str | None:
    """Answer whose key is wanted, None for a system key."""
    if not caller.is_system:
        if wanted.system:
            raise Forbidden("Only a system key makes system keys.")
        return wanted.organization or caller.org_slug
    if wanted.system == (wanted.organization is not None):
        raise InvalidRequest(
            Fault("a system key has to say one of `organization` and `system: true`", pointer="/organization")
        )
    return wanted.organization


def _expires_at_us(text: str | None) -> int | None:
    try:
        return time_us("expires_at", text)
    except InvalidRequest as error:
        raise InvalidRequest(*(Fault(fault.detail, pointer="/expires_at") for fault in error.faults)) from None


ROUTES: tuple[Any, ...] = (listed, created, revoked)

"""Users, who are made when they are first seen: listed, deleted with their address kept, erased with it gone."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, SkipValidation

from farebox_api.access import Books
from farebox_api.auth import requires
from farebox_api.errors import invalid_parameter
from farebox_api.paging import CursorCodec
from farebox_api.problems import problem_responses
from farebox_api.routes.queries import MAX_NAME_LENGTH, Cursor, Limit, OrganizationName, named
from farebox_api.schemas.people import UserAnswer, UserPageAnswer, user_answer
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.users import delete_user, erase_user, get_user, list_users
from farebox_ledger.usage import org_id_of

CURSORS = CursorCodec(tuple[int, str])

UserPath = Annotated[str, PathParameter(description="The user, as rows carry it.", max_length=MAX_NAME_LENGTH)]


@get(
    "/users",
    operation_id="list_users",
    summary="List users",
    tags=["administration"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def listed(
    *,
    books: NamedDependency[SkipValidation[Books]],
    organization: OrganizationName = None,
    email: Annotated[str | None, named("Address, as it was said.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> UserPageAnswer:
    """List the users that calls have named, deleted ones left out."""
    question = ("users", books.caller.org_slug, organization, email)
    after = None if cursor is None else CURSORS.read(cursor, *question)
    with books.reading(organization) as (connection, scope):
        found = list_users(connection, scope, limit=limit + 1, after=after, email=email)
        owners = organizations_by_id(connection, {user.org_id for user in found})
    rows, has_more = found[:limit], len(found) > limit
    last = rows[-1] if has_more else None
    return UserPageAnswer(
        items=[user_answer(user, owners[user.org_id].slug) for user in rows],
        next_cursor=None if last is None else CURSORS.write((last.org_id, last.user_ref), *question),
        has_more=has_more,
    )


@get(
    "/users/{user:str}",
    operation_id="get_user",
    summary="One user",
    tags=["administration"],
    guards=[requires("usage:read")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def shown(
    books: NamedDependency[SkipValidation[Books]], user: UserPath, organization: OrganizationName = None
) -> UserAnswer:
    """Show one user; a system key says of which organization."""
    owner = own_organization(books, organization)
    with books.reading(owner) as (connection, scope):
        return user_answer(get_user(connection, scope, org_id_of(owner), user), owner)


@delete(
    "/users/{user:str}",
    operation_id="delete_user",
    summary="Delete a user",
    tags=["administration"],
    guards=[requires("admin")],
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def deleted(
    books: NamedDependency[SkipValidation[Books]], user: UserPath, organization: OrganizationName = None
) -> None:
    """Take a user off the list. Rows stay, and go on showing the address that was known."""
    owner = own_organization(books, organization)
    with books.writing(owner) as (connection, scope):
        delete_user(connection, scope, org_id_of(owner), user)


@post(
    "/users/{user:str}/erase",
    operation_id="erase_user",
    summary="Erase a user's address",
    tags=["administration"],
    guards=[requires("admin")],
    status_code=200,
    responses=problem_responses(400, 401, 403, 404),
    sync_to_thread=True,
)
def erased(
    books: NamedDependency[SkipValidation[Books]], user: UserPath, organization: OrganizationName = None
) -> UserAnswer:
    """Blank the address for good, in rows and exports too; it is not learned again. Erasing again changes nothing."""
    owner = own_organization(books, organization)
    with books.writing(owner) as (connection, scope):
        return user_answer(erase_user(connection, scope, org_id_of(owner), user), owner)


def own_organization(books: Books, organization: str | None) -> str:
    """Name the one organization that is meant: the key's own, or the one that a system key names.

    Raises:
        InvalidRequest: a system key names none.
    """
    owner = organization or books.caller.org_slug
    if owner is None:
        raise invalid_parameter("organization", "is required with a system key")
    return owner


ROUTES: tuple[Any, ...] = (listed, shown, deleted, erased)

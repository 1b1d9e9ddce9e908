"""Whose credits a request is about: the organization, and the account or its owner."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from sqlalchemy import Connection

from farebox_api.access import Books
from farebox_api.routes.queries import named
from farebox_api.schemas.credits import Holder
from farebox_ledger.errors import InvalidInput
from farebox_ledger.store.credit_accounts import Account, Owner, find_account, get_account
from farebox_ledger.store.scope import Scope
from farebox_ledger.usage import org_id_of

AccountName: TypeAlias = Annotated[str | None, named("The id of an account.")]
UserName: TypeAlias = Annotated[str | None, named("User reference, as usage rows name it.")]
ProjectName: TypeAlias = Annotated[str | None, named("Project.")]


def slug_of(books: Books, organization: str | None) -> str:
    """Name the organization that is meant: the key's own, or the one that a system key says."""
    slug = organization or books.caller.org_slug
    if slug is None:
        raise InvalidInput("organization", "required, because the key is of none")
    return slug


def account_of(connection: Connection, scope: Scope, slug: str, holder: Holder) -> Account:
    """Find the account that a body names, by its id or by its owner."""
    if holder.account is None:
        owner = Owner(holder.user, holder.project)
        return find_account(connection, scope, org_id_of(slug), owner, holder.currency)
    for name in ("user", "project"):
        if getattr(holder, name) is not None:
            raise InvalidInput(name, "stands beside account; one of them says which account is meant")
    return get_account(connection, scope, org_id_of(slug), holder.account)

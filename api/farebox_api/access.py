"""The books as one caller may see them: every route opens them here, in one transaction with the caller's scope."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from farebox_api.auth import Caller
from farebox_api.idempotency import Change
from farebox_ledger.errors import NotFound
from farebox_ledger.store.audit import Acting, Actor, acting, note
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import organization_by_slug
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.usage import org_id_of


class Books:
    """Opens the ledger for the caller of one request."""

    def __init__(
        self, engine: Engine, caller: Caller, *, change: Change | None = None, actor: Actor | None = None
    ) -> None:
        """Bind the database to who asks.

        `change` is the transaction of a request that must act once; `actor` is whom the audit log names, by the key
        alone where nothing else is known.
        """
        self._engine = engine
        self._change = change
        self._actor = actor or Actor("key", caller.key_id)
        self.caller = caller

    @contextmanager
    def acting(self) -> Iterator[Acting]:
        """Let what a block changes by other ways than `writing` be noted as this caller's."""
        with acting(self._actor) as state:
            yield state

    @contextmanager
    def reading(self, organization: str | None = None) -> Iterator[tuple[Connection, Scope]]:
        """Open one read transaction. None means all that the caller sees: its organization, or every one.

        Raises:
            NotFound: the organization does not exist, or not for this caller; the two look alike.
        """
        scope = self._scope(organization)
        if self._change is not None and self._change.connection is not None:
            opened = self._change.writing(self._engine, scope)  # sees what the request itself has written
        else:
            opened = transaction(self._engine, scope)
        with opened as connection:
            self._check(connection, scope, organization)
            yield connection, scope

    @contextmanager
    def writing(self, organization: str | None = None) -> Iterator[tuple[Connection, Scope]]:
        """Open one write transaction, as `reading`; it commits at the end of the block.

        A change that nobody noted is noted as the operation that it was, so that none is without an entry.
        """
        scope = self._scope(organization)
        if self._change is None:
            opened = transaction(self._engine, scope, write=True)
        else:
            opened = self._change.writing(self._engine, scope)
        with opened as connection, self.acting() as state:
            self._check(connection, scope, organization)
            yield connection, scope
            if not state.noted:
                note(connection, self._actor.via or "change", "request", self._actor.request_id)

    def org_id(self, organization: str | None) -> int | None:
        """Answer the number of an organization that the caller may name; None names the caller's own, if it has one.

        Raises:
            NotFound: as `reading`.
        """
        if organization is None:
            return self.caller.org_id
        with self.reading(organization):
            return org_id_of(organization)

    def _scope(self, organization: str | None) -> Scope:
        caller = self.caller
        if caller.org_id is not None:
            if organization is not None and organization != caller.org_slug:
                raise NotFound("organization", organization)
            return OrgScope(caller.org_id)
        return AllOrganizations() if organization is None else OrgScope(org_id_of(organization))

    def _check(self, connection: Connection, scope: Scope, organization: str | None) -> None:
        """A system key may name an organization that nobody made."""
        if organization is None or not self.caller.is_system:
            return
        if organization_by_slug(connection, organization) is None:
            raise NotFound("organization", organization)

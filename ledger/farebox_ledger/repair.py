"""Repair of a group of unpriced rows: a price, an alias, or that it is free, and the job that prices its rows anew.

A group and what is known of it come in; what was made and the job go out, in the caller's transaction. A trial makes
the same things and takes them back, and answers the book that there would be: what it would change is then computed
without writing. Nothing is guessed: suggestions are for people.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from sqlalchemy import Connection

from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing import ModelAlias, Price, PriceBook
from farebox_ledger.repricing import enqueue_reprice
from farebox_ledger.store.aliases import AdministeredAlias, AliasDraft, all_aliases, create_alias
from farebox_ledger.store.jobs import Job
from farebox_ledger.store.overrides import OverrideDraft, PriceOverride, create_override
from farebox_ledger.store.prices import load_book
from farebox_ledger.store.repricing_rows import RowsToPrice
from farebox_ledger.store.scope import Scope
from farebox_ledger.store.unpriced import GroupName
from farebox_ledger.usage import Reason

CURABLE: Final[frozenset[Reason]] = frozenset(
    {
        "unknown_provider", "unknown_model", "ambiguous_model", "no_price_at_time", "no_rate_for_dimension",
        "no_rate_for_tier", "currency_unsupported", "archived",
    }
)  # fmt: skip
"""Reasons that a price can cure; the others lie in what was reported of the call."""

Draft: TypeAlias = OverrideDraft | AliasDraft


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What was made: one of the two, and the job that prices the group's rows anew."""

    override: PriceOverride | None
    alias: AdministeredAlias | None
    job: Job


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What would be made, and the terms that a book would have more."""

    override: PriceOverride | None
    alias: AdministeredAlias | None
    prices: list[Price]
    aliases: list[ModelAlias]


def repair(connection: Connection, scope: Scope, name: GroupName, draft: Draft) -> Repair:
    """Make the price or the alias and order the job.

    Raises:
        InvalidInput: no price cures this group, or a field cannot be used; names it.
        Conflict: something else prices or names the same at the same time; carries its id.
    """
    override, alias = _made(connection, scope, name, draft)
    return Repair(override=override, alias=alias, job=enqueue_reprice(connection, scope, rows_of(name)))


def tried(connection: Connection, scope: Scope, name: GroupName, draft: Draft) -> Trial:
    """Make the price or the alias, take it back, and answer what it was.

    Raises:
        InvalidInput, Conflict: as `repair`.
    """
    savepoint = connection.begin_nested()
    override, alias = _made(connection, scope, name, draft)
    prices = [] if override is None else [term.price for term in override.terms]
    terms = set() if alias is None else {term.id for term in alias.terms}
    aliases = [one for one in all_aliases(connection) if one.id in terms]
    savepoint.rollback()
    return Trial(override=override, alias=alias, prices=prices, aliases=aliases)


def book_with(connection: Connection, trial: Trial) -> PriceBook:
    """Read the book as it would be."""
    return load_book(connection, more_prices=trial.prices, more_aliases=trial.aliases)


def rows_of(name: GroupName) -> RowsToPrice:
    """Choose the rows that a new price for a group may concern: all of its model, whatever their reason."""
    return RowsToPrice(provider=name.provider or "", model=name.model or "")


def _made(
    connection: Connection, scope: Scope, name: GroupName, draft: Draft
) -> tuple[PriceOverride | None, AdministeredAlias | None]:
    if name.reason not in CURABLE:
        cure = "let it bill by the price policy" if name.reason == "aggregate_only" else "ignore the group"
        raise InvalidInput("reason", f"no price cures {name.reason}: it lies in what was reported of the call; {cure}")
    if isinstance(draft, OverrideDraft):
        return create_override(connection, scope, draft), None
    if name.provider is None:
        raise InvalidInput(
            "provider", "calls that name no provider are found by no alias; price the model at the one who makes it"
        )
    return None, create_alias(connection, scope, draft)

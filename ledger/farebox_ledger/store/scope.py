"""Whose books a function may see: one organization's or, for system keys and jobs, everybody's.

Every function of the store takes a scope and none has a default, so that nobody reads across organizations by
forgetting an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import ColumnElement, true, tuple_

from farebox_ledger.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class OrgScope:
    """The books of one organization."""

    org_id: int


@dataclass(frozen=True, slots=True)
class AllOrganizations:
    """The books of all organizations: system keys, the collector's pipeline, jobs."""


Scope: TypeAlias = OrgScope | AllOrganizations


def within(scope: Scope, org_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Restrict a statement to the scope, by its table's column `org_id`."""
    return org_id == scope.org_id if isinstance(scope, OrgScope) else true()


def behind(
    scope: Scope, org_id: ColumnElement[int], name: ColumnElement[str], place: tuple[int, str]
) -> ColumnElement[bool]:
    """Restrict a list in the order of (organization, name) to what comes behind a place.

    Within one organization the name is compared alone: SQLite goes to a place in an index by no pair of which it knows
    the first already, but would walk to it.
    """
    return name > place[1] if isinstance(scope, OrgScope) else tuple_(org_id, name) > tuple_(*place)


def narrowed(scope: Scope, org_id: int | None) -> Scope:
    """Narrow a scope to one organization, when one is asked for.

    Raises:
        InvalidInput: the organization is not in the scope.
    """
    if org_id is None:
        return scope
    require(scope, org_id)
    return OrgScope(org_id)


def require(scope: Scope, org_id: int) -> None:
    """Refuse what belongs to an organization outside the scope.

    Raises:
        InvalidInput: the organization is not in the scope.
    """
    if isinstance(scope, OrgScope) and org_id != scope.org_id:
        raise InvalidInput("organization", f"organization {org_id} is outside the scope of organization {scope.org_id}")

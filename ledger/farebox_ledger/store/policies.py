"""Price policies: which second-best prices an organization's calls may be charged with, and what else bills."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from farebox_ledger.errors import NotFound
from farebox_ledger.pricing import Policy
from farebox_ledger.store import subjects
from farebox_ledger.store.audit import note
from farebox_ledger.store.catalog_state import lock_catalog, raise_catalog_version
from farebox_ledger.store.price_tables import price_policies
from farebox_ledger.store.schema import organizations
from farebox_ledger.store.scope import Scope, require


def price_policy(connection: Connection, scope: Scope, org_id: int) -> Policy:
    """Answer the policy of an organization; the default one where it has set none.

    Raises:
        InvalidInput: the organization is not in the scope.
    """
    require(scope, org_id)
    return all_policies(connection).get(org_id, Policy())


def set_price_policy(
    connection: Connection, scope: Scope, org_id: int, policy: Policy, *, now_us: int | None = None
) -> Policy:
    """Set the policy of an organization; it holds for what is priced from now on.

    Raises:
        InvalidInput: the organization is not in the scope.
        NotFound: there is no such organization.
    """
    require(scope, org_id)
    lock_catalog(connection)
    if connection.execute(select(organizations.c.org_id).where(organizations.c.org_id == org_id)).scalar() is None:
        raise NotFound("organization", str(org_id))
    before = all_policies(connection).get(org_id)
    at_us = subjects.now_us() if now_us is None else now_us
    columns = {
        "use_archive": int(policy.use_archive),
        "carry_retired": int(policy.carry_retired),
        "stated_cost_bills": int(policy.stated_cost_bills),
        "aggregate_only_bills": int(policy.aggregate_only_bills),
        "updated_at_us": at_us,
    }
    table = price_policies
    changed = connection.execute(
        update(table).where(table.c.org_id == org_id).values(row_version=table.c.row_version + 1, **columns)
    )
    if not changed.rowcount:
        connection.execute(insert(table).values(org_id=org_id, created_at_us=at_us, **columns))
    raise_catalog_version(connection)
    note(connection, "price_policy.set", "price_policy", str(org_id), org_id=org_id, before=before, after=policy)
    return policy


def all_policies(connection: Connection) -> dict[int, Policy]:
    """Read the policies of the organizations that have set one."""
    return {
        row.org_id: Policy(
            use_archive=bool(row.use_archive),
            carry_retired=bool(row.carry_retired),
            stated_cost_bills=bool(row.stated_cost_bills),
            aggregate_only_bills=bool(row.aggregate_only_bills),
        )
        for row in connection.execute(select(price_policies))
    }

"""Row-level security on PostgreSQL: the database itself keeps each organization to its own rows.

`transaction` (in `engine`) takes on one of two roles, which nobody can log in as. As the tenant of one organization a
statement sees and writes that organization's rows alone, whatever its WHERE says, and nothing at all where no
organization was set. As the writer (system keys, the pipeline, jobs) it sees all. What the policies say is derived from
the tables, here and nowhere else; `migrations` applies it after every upgrade and changes only what is missing.

SQLite has no such thing: there the scopes in the statements stand alone, and `sqlite_guard` refuses what runs without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import DBAPIError

from farebox_ledger.errors import DatabaseNotReady
from farebox_ledger.store.engine import TENANT_ROLE, WRITER_ROLE, first_line
from farebox_ledger.store.tables import metadata

APPEND_ONLY: Final = frozenset({"usage_rows", "charge_versions", "credit_transactions", "audit_log"})
"""What a tenant may read and add to; its rows change through `charges` alone, as the writer."""

SHARED: Final = frozenset(
    {"prices", "price_overrides", "model_aliases", "multipliers", "upstreams"}
)  # fmt: skip
"""Tables whose rows without an organization are everybody's: a tenant reads them and changes none."""

Privilege: TypeAlias = Literal["SELECT", "INSERT", "UPDATE", "DELETE"]

_ALL: Final = frozenset[Privilege](("SELECT", "INSERT", "UPDATE", "DELETE"))
_READ: Final = frozenset[Privilege](("SELECT",))
_ADD: Final = frozenset[Privilege](("SELECT", "INSERT"))
_CHANGE: Final = frozenset[Privilege](("SELECT", "INSERT", "UPDATE"))
_CLEAR: Final = frozenset[Privilege](("SELECT", "INSERT", "DELETE"))
_NOTHING: Final = frozenset[Privilege]()

_TENANT_MAY: Final[Mapping[str, frozenset[Privilege]]] = {
    "organizations": _READ,
    "price_syncs": _READ,
    "price_revisions": _READ,
    "catalog_state": _CHANGE,  # a change of its own prices raises the version that everybody polls
    **dict.fromkeys(APPEND_ONLY, _ADD),
    "key_limits": _ADD,
    "webhook_deliveries": _ADD,
    "ignored_groups": _CLEAR,
    "credit_marks": _CLEAR,
    "credit_allocations": _CLEAR,
    "credit_days": _CLEAR,
    "idempotency_keys": _ALL,
    "budget_alerts": frozenset(("SELECT", "UPDATE")),
    "quarantined_spans": frozenset(("SELECT", "UPDATE", "DELETE")),
    "unpriced_notices": _NOTHING,
}
"""What the tenant's role may do with a table beside the policies: what its functions need, and no more.

A table that is not named here may be added to and changed where its rows belong to organizations; of the others (the
slots of writers, batches of collectors, counts of keys) a tenant knows nothing.
"""

_OWN: Final = "NULLIF(current_setting('farebox.org', true), '')::bigint"
_POLICY: Final = "farebox"


def isolated_tables() -> dict[str, Table]:
    """Name the tables whose rows belong to organizations: by a column of their own or by the thing they are part of."""
    return {name: table for name, table in metadata.tables.items() if "org_id" in table.c or _parent(table) is not None}


def isolate(connection: Connection) -> None:
    """Make the roles, what they may do, and the policies, as far as they are missing; the caller owns the tables.

    Raises:
        DatabaseNotReady: the roles cannot be made or taken on; the message holds the SQL for who can.
    """
    _make_roles(connection)
    for statement in _missing(connection):
        connection.execute(text(statement))


def roles_sql(user: str) -> str:
    """Write the SQL that an administrator of the server runs once, where the database's user may not make roles."""
    quoted = '"' + user.replace('"', '""') + '"'
    return (
        f"CREATE ROLE {TENANT_ROLE} NOLOGIN;\nCREATE ROLE {WRITER_ROLE} NOLOGIN;\n"
        f"GRANT {TENANT_ROLE}, {WRITER_ROLE} TO {quoted};"
    )


def _make_roles(connection: Connection) -> None:
    """Make the roles and let this user take them on. They belong to the whole server: others may be at it too."""
    user = str(connection.scalar(text("SELECT current_user")))
    try:
        with connection.begin_nested():
            for role in (TENANT_ROLE, WRITER_ROLE):
                connection.execute(text(_MAKE_ROLE.format(role=role)))
    except DBAPIError as error:
        raise DatabaseNotReady(
            f"the roles of row-level security cannot be made ({first_line(error)}); let an administrator of the "
            f"server run this, then `farebox migrate` again:\n{roles_sql(user)}"
        ) from error


_MAKE_ROLE: Final = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        BEGIN
            CREATE ROLE {role} NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT pg_has_role(current_user, '{role}', 'SET') THEN
        GRANT {role} TO CURRENT_USER;
    END IF;
END $$
"""


def _missing(connection: Connection) -> Iterator[str]:
    """Write the statements that bring the database from where it is to where it should be."""
    schema = str(connection.scalar(text("SELECT current_schema()")))
    for role in (TENANT_ROLE, WRITER_ROLE):
        if not connection.scalar(text("SELECT has_schema_privilege(:role, :schema, 'USAGE')"), _named(role, schema)):
            yield f'GRANT USAGE ON SCHEMA "{schema}" TO {role}'
    relations = {
        name: (kind, is_secured) for name, kind, is_secured in connection.execute(text(_RELATIONS), {"schema": schema})
    }
    granted: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, role, privilege in connection.execute(text(_GRANTED), {"schema": schema}):
        granted[name, role].add(privilege)
    for name, (kind, _) in sorted(relations.items()):
        if kind == "v" or name in metadata.tables:
            yield from _grants(name, is_view=kind == "v", granted=granted)
    policies = set(connection.scalars(text(_POLICIES), {"schema": schema}))
    for name, table in isolated_tables().items():
        if name not in relations:
            continue  # a table of a later revision
        if not relations[name][1]:
            yield f'ALTER TABLE "{name}" ENABLE ROW LEVEL SECURITY'
            yield f'ALTER TABLE "{name}" FORCE ROW LEVEL SECURITY'
        yield from (sql for policy, sql in _policies(table) if f"{name}.{policy}" not in policies)


def tenant_may(name: str) -> frozenset[Privilege]:
    """Say what the tenant's role may do with a table, as far as the policies show it rows."""
    return _TENANT_MAY.get(name, _CHANGE if name in isolated_tables() else _NOTHING)


def _grants(name: str, *, is_view: bool, granted: Mapping[tuple[str, str], set[str]]) -> Iterator[str]:
    wanted = {TENANT_ROLE: _READ, WRITER_ROLE: _READ} if is_view else {TENANT_ROLE: tenant_may(name), WRITER_ROLE: _ALL}
    for role, may in wanted.items():
        stands = granted.get((name, role), set())
        if may - stands:
            yield f'GRANT {", ".join(sorted(may - stands))} ON "{name}" TO {role}'
        if stands - may:
            yield f'REVOKE {", ".join(sorted(stands - may))} ON "{name}" FROM {role}'


def _policies(table: Table) -> Iterator[tuple[str, str]]:
    """Answer the policies of a table: (name, the statement that makes it)."""
    own, seen = _own(table), _seen(table)
    yield _policy(table, "writer", f"FOR ALL TO {WRITER_ROLE} USING (true) WITH CHECK (true)")
    yield _policy(table, "tenant_select", f"FOR SELECT TO {TENANT_ROLE} USING ({seen})")
    if table.name == "organizations":
        return  # a tenant makes none and changes none
    yield _policy(table, "tenant_insert", f"FOR INSERT TO {TENANT_ROLE} WITH CHECK ({own})")
    if table.name not in APPEND_ONLY:
        yield _policy(table, "tenant_update", f"FOR UPDATE TO {TENANT_ROLE} USING ({own}) WITH CHECK ({own})")
        yield _policy(table, "tenant_delete", f"FOR DELETE TO {TENANT_ROLE} USING ({own})")


def _policy(table: Table, name: str, rule: str) -> tuple[str, str]:
    return f"{_POLICY}_{name}", f'CREATE POLICY {_POLICY}_{name} ON "{table.name}" {rule}'


def _own(table: Table) -> str:
    parent = _parent(table)
    return f"org_id = {_OWN}" if parent is None else _of_parent(table, *parent, f"parent.org_id = {_OWN}")


def _seen(table: Table) -> str:
    """Say what a tenant reads: its own, and of shared things everybody's too."""
    parent = _parent(table)
    if parent is not None:
        return _of_parent(table, *parent, "true")  # the parent's own policy decides
    return f"org_id IS NULL OR {_own(table)}" if table.name in SHARED else _own(table)


def _parent(table: Table) -> tuple[str, str] | None:
    """Answer the column and the table that a part of an organization's thing hangs on."""
    if "org_id" in table.c:
        return None
    for column in table.c:
        for foreign in column.foreign_keys:
            if "org_id" in foreign.column.table.c and foreign.column.table.name != "prices":
                return column.name, foreign.column.table.name
    return None


def _of_parent(table: Table, column: str, parent: str, condition: str) -> str:
    return f'EXISTS (SELECT FROM "{parent}" parent WHERE parent.id = "{table.name}"."{column}" AND {condition})'


def _named(role: str, schema: str) -> dict[str, str]:
    return {"role": role, "schema": schema}


_RELATIONS: Final = """
SELECT relname, relkind::text, relrowsecurity AND relforcerowsecurity FROM pg_class
WHERE relnamespace = CAST(CAST(:schema AS text) AS regnamespace) AND relkind IN ('r', 'p', 'v')
    AND pg_has_role(current_user, relowner, 'USAGE')
"""
_GRANTED: Final = f"""
SELECT relname, rolname, privilege_type FROM pg_class, aclexplode(relacl) JOIN pg_roles ON pg_roles.oid = grantee
WHERE relnamespace = CAST(CAST(:schema AS text) AS regnamespace) AND rolname IN ('{TENANT_ROLE}', '{WRITER_ROLE}')
"""
_POLICIES: Final = "SELECT tablename || '.' || policyname FROM pg_policies WHERE schemaname = :schema"

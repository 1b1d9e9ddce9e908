"""One organization never sees or touches another's rows: by the server's rules on PostgreSQL, by scopes everywhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.exc import DBAPIError

from farebox_ledger.errors import DatabaseNotReady
from farebox_ledger.store import scope as scopes
from farebox_ledger.store.engine import open_engine, owner_transaction, transaction
from farebox_ledger.store.isolation import APPEND_ONLY, isolate, isolated_tables, roles_sql, tenant_may
from farebox_ledger.store.migrations import migrate
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.prices import ensure_shipped_prices
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope
from farebox_ledger.store.tables import metadata
from farebox_ledger.store.upstreams import UpstreamDraft, create_upstream
from farebox_ledger.store.writing import book
from farebox_ledger.usage import org_id_of
from tests.databases import own_server
from tests.ledger.store.bookings import ACME, booking

EVERYBODY = AllOrganizations()
OTHER = org_id_of("zenith")
STORE = Path(scopes.__file__).parent


@pytest.fixture
def books(postgres_engine: Engine) -> Engine:
    """One organization with a row, and another that will try to get at it."""
    with transaction(postgres_engine, EVERYBODY, write=True) as connection:
        for slug in ("acme", "zenith"):
            create_organization(connection, slug)
        book(
            connection,
            EVERYBODY,
            [booking(1, user="ada", user_email="ada@example.com")],
            collector_id=None,
            batch_ids=[],
            writer_slot=1,
        )
    return postgres_engine


def as_tenant(connection: Connection, org_id: int | None) -> None:
    connection.execute(text("SET LOCAL ROLE farebox_tenant"))
    if org_id is not None:
        connection.execute(text("SELECT set_config('farebox.org', :org, true)"), {"org": str(org_id)})


def count(connection: Connection, table: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_D41_every_table_with_an_organization_is_under_forced_policies(postgres_engine: Engine) -> None:
    with owner_transaction(postgres_engine) as connection:
        owned = set(
            connection.scalars(
                text(
                    "SELECT table_name FROM information_schema.columns WHERE column_name = 'org_id'"
                    " AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = 'public')"
                )
            )
        )
        secured = set(
            connection.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"))
        )
        policies = set(connection.execute(text("SELECT tablename, policyname FROM pg_policies")).tuples())

    assert {name for name, table in metadata.tables.items() if "org_id" in table.c} == owned
    assert owned <= secured
    for table in owned:
        assert (table, "farebox_tenant_select") in policies
        assert (table, "farebox_writer") in policies
    for table in APPEND_ONLY & owned:
        assert not {(table, "farebox_tenant_update"), (table, "farebox_tenant_delete")} & policies


def test_parts_of_an_organizations_things_are_isolated_too() -> None:
    assert {name for name, table in isolated_tables().items() if "org_id" not in table.c} >= {
        "price_override_terms",
        "model_alias_terms",
        "multiplier_terms",
    }


def test_D42_a_tenant_reads_its_own_rows_alone(books: Engine) -> None:
    with books.begin() as connection:
        as_tenant(connection, ACME)
        assert count(connection, "usage_rows") == 1
        assert count(connection, "organizations") == 1

    with books.begin() as connection:
        as_tenant(connection, OTHER)
        for table in ("usage_rows", "rollup_day", "rollup_quarter", "rollup_day_by", "users"):
            assert count(connection, table) == 0, table
        assert connection.scalar(text("SELECT slug FROM organizations")) == "zenith"
        assert count(connection, f"usage_rows WHERE org_id = {ACME}") == 0


def test_nothing_is_seen_where_no_organization_was_set(books: Engine) -> None:
    with books.begin() as connection:
        as_tenant(connection, None)
        for table in ("usage_rows", "rollup_day", "users", "organizations"):
            assert count(connection, table) == 0, table


def test_the_setting_ends_with_its_transaction(books: Engine) -> None:
    with transaction(books, OrgScope(ACME)):
        pass
    with books.begin() as connection:
        assert connection.scalar(text("SELECT current_user")) == "postgres"
        assert connection.scalar(text("SELECT current_setting('farebox.org', true)")) in (None, "")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO users (org_id, user_ref, first_seen_us) VALUES (:org, 'eve', 1)",
        "INSERT INTO rollup_day_by (org_id, day, dimension, value, currency, writer_slot)"
        " VALUES (:org, 20260101, 'user', 'eve', 'USD', 1)",
        "INSERT INTO api_keys (id, prefix, hash, org_id, scopes, created_at_us)"
        " VALUES ('key_eve', 'fbx_eve', 'x', :org, '[]', 1)",
        "INSERT INTO organizations (org_id, slug, created_at_us) VALUES (1, 'eve', 1)",
    ],
    ids=["users", "rollup_day_by", "api_keys", "organizations"],
)
def test_D43_a_tenant_inserts_nothing_for_another(books: Engine, statement: str) -> None:
    values = {"org": ACME} if ":org" in statement else {}

    with books.begin() as connection:
        as_tenant(connection, OTHER)
        with pytest.raises(DBAPIError, match=r"row-level security|permission denied"), connection.begin_nested():
            connection.execute(text(statement), values)


def test_a_tenant_changes_and_deletes_nothing_of_another(books: Engine) -> None:
    with books.begin() as connection:
        as_tenant(connection, OTHER)
        for statement in (
            "UPDATE users SET email = 'eve@example.com'",
            "UPDATE rollup_day SET requests = 0",
            "DELETE FROM quarantined_spans",
        ):
            assert connection.execute(text(statement)).rowcount == 0, statement

    with transaction(books, EVERYBODY) as connection:
        assert connection.scalar(text("SELECT email FROM users")) == "ada@example.com"
        assert connection.scalar(text("SELECT sum(requests) FROM rollup_day")) == 1


def test_a_tenant_gives_none_of_its_rows_to_another(books: Engine) -> None:
    with books.begin() as connection:
        as_tenant(connection, ACME)
        with pytest.raises(DBAPIError, match="row-level security"), connection.begin_nested():
            connection.execute(text("UPDATE users SET org_id = :org"), {"org": OTHER})


def test_D44_usage_is_append_only_for_its_own_organization(books: Engine) -> None:
    with books.begin() as connection:
        as_tenant(connection, ACME)
        for table in sorted(APPEND_ONLY):
            assert refused(connection, f"UPDATE {table} SET org_id = org_id"), table
            assert refused(connection, f"DELETE FROM {table}"), table


@pytest.mark.parametrize("table", ["writers", "booked_batches", "rate_counts", "unpriced_notices"])
def test_a_tenant_knows_nothing_of_how_the_system_works(books: Engine, table: str) -> None:
    with books.begin() as connection:
        as_tenant(connection, ACME)
        assert refused(connection, f"SELECT count(*) FROM {table}")
        assert refused(connection, f"INSERT INTO {table} DEFAULT VALUES")
        assert refused(connection, f"DELETE FROM {table}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE organizations SET name = 'eve'",
        "DELETE FROM organizations",
        "UPDATE price_syncs SET status = 'applied'",
        "INSERT INTO price_revisions (id, source, fetched_at_us) VALUES ('rev_eve', 'litellm', 1)",
        "DELETE FROM prices",
        "DELETE FROM catalog_state",
        "DELETE FROM jobs",
        "DELETE FROM api_keys",
        "DELETE FROM users",
        "DELETE FROM rollup_day",
        "DELETE FROM price_overrides",
        "DELETE FROM budgets",
        "DELETE FROM webhooks",
        "UPDATE webhook_deliveries SET status = 'delivered'",
        "INSERT INTO budget_alerts (org_id, id) VALUES (1, 'alr_eve')",
        "INSERT INTO quarantined_spans (org_id, quarantine_id) VALUES (1, '')",
        "TRUNCATE usage_rows",
        "CREATE TABLE mine (id INT)",
    ],
)
def test_a_tenant_has_no_right_that_its_functions_do_not_need(books: Engine, statement: str) -> None:
    with books.begin() as connection:
        as_tenant(connection, ACME)
        assert refused(connection, statement)


def test_a_tenant_reads_what_is_everybodys_and_changes_none_of_it(books: Engine) -> None:
    ensure_shipped_prices(books)
    with transaction(books, EVERYBODY, write=True) as connection:
        create_upstream(connection, EVERYBODY, UpstreamDraft(name="openrouter"))
        catalog = count(connection, "prices")

    with books.begin() as connection:
        as_tenant(connection, ACME)
        assert count(connection, "prices") == catalog > 1000
        assert count(connection, "upstreams") == 1
        assert count(connection, "price_revisions") >= 1
        assert connection.execute(text("UPDATE prices SET currency = 'XXX'")).rowcount == 0
        assert connection.execute(text("UPDATE upstreams SET notes = 'eve'")).rowcount == 0
        assert connection.execute(text("UPDATE catalog_state SET version = version + 1")).rowcount == 1


def test_rights_are_what_is_declared_and_what_was_granted_beyond_is_taken_back(postgres_engine: Engine) -> None:
    with owner_transaction(postgres_engine, write=True) as connection:
        declared = rights(connection)
        connection.execute(text("GRANT ALL ON writers, organizations TO farebox_tenant"))
        connection.execute(text("REVOKE INSERT ON users FROM farebox_tenant"))
        isolate(connection)
        again = rights(connection)

    kept = {name: kinds & {"SELECT", "INSERT", "UPDATE", "DELETE"} for name, kinds in again.items()}
    assert {name: kinds for name, kinds in declared.items() if name in metadata.tables} == {
        name: set(tenant_may(name)) for name in metadata.tables if tenant_may(name)
    }
    assert declared["credit_entries"] == {"SELECT"}
    assert {name: kinds for name, kinds in kept.items() if kinds} == declared


def rights(connection: Connection) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, privilege in connection.execute(
        text(
            "SELECT relname, privilege_type FROM pg_class, aclexplode(relacl) "
            "WHERE grantee = 'farebox_tenant'::regrole AND relkind IN ('r', 'p', 'v')"
        )
    ):
        found.setdefault(name, set()).add(privilege)
    return found


def refused(connection: Connection, statement: str) -> bool:
    """Say whether the server has no right for a statement, and go on."""
    with pytest.raises(DBAPIError, match="permission denied"), connection.begin_nested():
        connection.execute(text(statement))
    return True


def test_a_writer_sees_all(books: Engine) -> None:
    with transaction(books, EVERYBODY) as connection:
        assert connection.scalar(text("SELECT current_user")) == "farebox_writer"
        assert count(connection, "organizations") == 2


def test_isolating_again_changes_nothing(postgres_engine: Engine) -> None:
    with owner_transaction(postgres_engine, write=True) as connection:
        before = count(connection, "pg_policies")
        isolate(connection)
        assert count(connection, "pg_policies") == before


def test_many_databases_of_one_server_are_migrated_at_once() -> None:
    migration = (
        "import sys; from farebox_ledger.store import engine, migrations; "
        "migrations.migrate(engine.open_engine(sys.argv[1]))"
    )
    with own_server() as server:
        urls = [server.url.set(database=f"books_{number}") for number in range(4)]
        maintenance = create_engine(server.url, isolation_level="AUTOCOMMIT")
        with maintenance.connect() as connection:
            for url in urls:
                connection.execute(text(f'CREATE DATABASE "{url.database}" TEMPLATE template0'))
        maintenance.dispose()

        started = [
            subprocess.Popen([sys.executable, "-c", migration, url.render_as_string(hide_password=False)])
            for url in urls
        ]

        assert [process.wait(timeout=120) for process in started] == [0, 0, 0, 0]


def test_who_may_not_make_roles_is_told_the_sql_and_can_go_on_after_it() -> None:
    with own_server() as server:
        maintenance = create_engine(server.url, isolation_level="AUTOCOMMIT")
        with maintenance.connect() as connection:
            connection.execute(text("CREATE ROLE plain LOGIN"))
            connection.execute(text("CREATE DATABASE books OWNER plain TEMPLATE template0"))
        engine = open_engine(server.url.set(username="plain", database="books").render_as_string(hide_password=False))
        with pytest.raises(DatabaseNotReady) as refused:
            migrate(engine)
        assert roles_sql("plain") in str(refused.value)

        with maintenance.connect() as connection:
            connection.execute(text(roles_sql("plain")))
        migrate(engine)
        with transaction(engine, EVERYBODY, write=True) as connection:
            create_organization(connection, "acme")
        with transaction(engine, OrgScope(OTHER)) as connection:
            assert count(connection, "organizations") == 0
        engine.dispose()
        maintenance.dispose()


def test_a_user_without_the_roles_is_named_the_cure() -> None:
    with own_server() as server:
        maintenance = create_engine(server.url, isolation_level="AUTOCOMMIT")
        with maintenance.connect() as connection:
            connection.execute(text("CREATE ROLE stranger LOGIN"))
        migrate(maintained := open_engine(server.url.render_as_string(hide_password=False)))
        maintained.dispose()
        engine = open_engine(server.url.set(username="stranger").render_as_string(hide_password=False))
        with (
            pytest.raises(DatabaseNotReady, match="GRANT farebox_tenant, farebox_writer to this user"),
            transaction(engine, OrgScope(ACME)),
        ):
            pass
        engine.dispose()
        maintenance.dispose()


def test_a_session_without_a_scope_refuses_to_run(engine: Engine) -> None:
    with pytest.raises(TypeError, match="needs the scope"), transaction(engine, cast(Any, None)) as connection:
        connection.execute(select(text("1")))
    with pytest.raises(TypeError, match="scope"):
        transaction(engine)  # type: ignore[call-arg]  # what the test is about


def functions_with_a_scope() -> Iterator[tuple[str, ast.FunctionDef]]:
    for file in sorted(STORE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                argument.arg == "scope" for argument in (*node.args.args, *node.args.kwonlyargs)
            ):
                yield f"{file.stem}.{node.name}", node


def test_no_function_of_the_store_has_a_scope_by_default() -> None:
    found = dict(functions_with_a_scope())

    assert len(found) > 40
    for name, function in found.items():
        positional = [argument.arg for argument in function.args.args]
        defaulted = positional[len(positional) - len(function.args.defaults) :]
        defaulted += [
            argument.arg
            for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
            if default is not None
        ]
        assert "scope" not in defaulted, name


def test_scopes_are_the_two_that_there_are() -> None:
    assert Scope == OrgScope | AllOrganizations

import re
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, func, inspect, select, text

from farebox_ledger.errors import DatabaseNotReady
from farebox_ledger.store import migrations
from farebox_ledger.store.engine import open_engine, owner_transaction, transaction
from farebox_ledger.store.migrations import (
    VERSION_TABLE,
    downgrade,
    ensure_schema,
    known_revisions,
    migrate,
    schema_state,
    upgrade,
)
from farebox_ledger.store.organizations import create_organization, organization_by_slug
from farebox_ledger.store.rollups import check_rollups
from farebox_ledger.store.schema import REFERENCE_TABLES, metadata, rollup_day_reason
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.store.writing import book
from tests.ledger.store.bookings import random_booking

EVERYBODY = AllOrganizations()


def test_an_empty_database_becomes_current_and_a_second_run_changes_nothing(empty_engine: Engine) -> None:
    assert schema_state(empty_engine) == "empty"

    migrate(empty_engine)
    migrate(empty_engine)

    assert schema_state(empty_engine) == "current"
    assert set(inspect(empty_engine).get_table_names()) == {*metadata.tables, VERSION_TABLE}


def test_the_migrated_tables_are_those_that_the_statements_are_built_from(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_the_migrated_sqlite_tables_are_the_same_to_the_letter(sqlite_engine: Engine, tmp_path: Path) -> None:
    made = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(made)

    def definitions(engine: Engine) -> set[tuple[str, ...]]:
        with engine.connect() as connection:
            found = connection.execute(text("SELECT sql FROM sqlite_master WHERE type IN ('table', 'index')"))
            return {_clauses(sql) for (sql,) in found if sql and not re.search(f"{VERSION_TABLE}|sqlite_stat", sql)}

    assert definitions(sqlite_engine) == definitions(made)


def test_checks_are_the_same_on_postgresql(postgres_engine: Engine) -> None:
    migrated = {
        table: {check["name"] for check in inspect(postgres_engine).get_check_constraints(table)}
        for table in metadata.tables
    }

    assert migrated == {
        name: {check.name for check in table.constraints if str(check.name).startswith("ck_")}
        for name, table in metadata.tables.items()
    }


def test_down_and_up_again_on_a_filled_database(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")

        downgrade(connection, "base")
        assert set(inspect(connection).get_table_names()) <= {VERSION_TABLE}
        upgrade(connection)

        assert organization_by_slug(connection, "acme") is None
    assert schema_state(engine) == "current"


def test_rows_of_before_are_counted_by_their_reason(engine: Engine) -> None:
    random = Random(3)
    with transaction(engine, EVERYBODY, write=True) as connection:
        bookings = [random_booking(random, number) for number in range(200)]
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)

        downgrade(connection, "0002")
        assert "rollup_day_reason" not in inspect(connection).get_table_names()
        upgrade(connection)

        assert connection.execute(select(func.count()).select_from(rollup_day_reason)).scalar()
        assert check_rollups(connection, EVERYBODY) == []


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty_engine: Engine) -> None:
    def upgrade_and_fail() -> None:
        with owner_transaction(empty_engine, write=True) as connection:
            upgrade(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        upgrade_and_fail()

    assert schema_state(empty_engine) == "empty"
    assert inspect(empty_engine).get_table_names() == []


def test_many_starters_make_one_schema(empty_database_url: str) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        engine = open_engine(empty_database_url)
        try:
            ensure_schema(engine)
        except BaseException as error:
            errors.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert errors == []
    assert schema_state(open_engine(empty_database_url)) == "current"


def test_the_files_are_named_after_their_revisions_in_the_order_in_which_they_build_on_each_other() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))

    revisions = [revision.revision for revision in script.walk_revisions()]

    assert list(reversed(revisions)) == known_revisions()


def test_who_starts_on_an_empty_or_a_current_database_has_no_alembic_in_memory(empty_database_url: str) -> None:
    start = (
        "import sys; from farebox_ledger.store import engine, migrations; "
        "opened = engine.open_engine(sys.argv[1]); print(migrations.schema_state(opened)); "
        "migrations.ensure_schema(opened); print(migrations.schema_state(opened), 'alembic' in sys.modules)"
    )

    printed = [
        subprocess.check_output([sys.executable, "-c", start, empty_database_url], timeout=90, text=True)
        for _ in range(2)
    ]

    assert printed == ["empty\ncurrent False\n", "current\ncurrent False\n"]


def test_where_no_process_can_be_started_the_tables_are_made_here(
    empty_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    ensure_schema(empty_engine)

    assert schema_state(empty_engine) == "current"


def test_a_newer_schema_is_left_alone(engine: Engine) -> None:
    _set_revision(engine, "9999")

    assert schema_state(engine) == "newer"
    for start in (ensure_schema, migrate):
        with pytest.raises(DatabaseNotReady, match="upgrade farebox"):
            start(engine)


def test_an_older_schema_names_the_command_that_cures_it(engine: Engine) -> None:
    _set_revision(engine, known_revisions()[0])

    assert schema_state(engine) == "older"
    with pytest.raises(DatabaseNotReady, match="run `farebox migrate`"):
        ensure_schema(engine)


def test_another_applications_tables_stop_the_migration(empty_engine: Engine) -> None:
    with owner_transaction(empty_engine, write=True) as connection:
        connection.execute(text("CREATE TABLE users (id INTEGER)"))

    with pytest.raises(DatabaseNotReady, match="'users' that farebox did not make"):
        ensure_schema(empty_engine)


def test_a_database_that_cannot_be_reached_names_the_variable(tmp_path: Path) -> None:
    engine = open_engine(f"postgresql://farebox:secret@/farebox?host={tmp_path}")

    with pytest.raises(DatabaseNotReady, match="check FAREBOX_DATABASE_URL") as refused:
        schema_state(engine)
    assert "secret" not in str(refused.value)


def test_org_owned_tables_lead_their_key_with_the_organization() -> None:
    owned = [table for name, table in metadata.tables.items() if name not in REFERENCE_TABLES]

    assert {table.name for table in owned} == {
        "users",
        "usage_rows",
        "charge_versions",
        "rollup_day",
        "rollup_quarter",
        "rollup_day_by",
        "rollup_day_reason",
        "unpriced_notices",
        "credit_days",
        "credit_accounts",
        "credit_grants",
        "credit_transactions",
        "credit_allocations",
        "credit_marks",
        "audit_log",
        "idempotency_keys",
        "projects",
        "deleted_users",
        "budgets",
        "budget_alerts",
        "webhooks",
        "webhook_deliveries",
        "quarantined_spans",
    }
    for table in owned:
        assert next(iter(table.primary_key.columns)).name == "org_id", table.name
        assert not table.foreign_keys, table.name
        for index in table.indexes:
            assert next(iter(index.columns)).name == "org_id", index.name
    for table in metadata.tables.values():
        assert {key.column.table.name for key in table.foreign_keys} <= REFERENCE_TABLES


def _clauses(definition: str) -> tuple[str, ...]:
    """Cut a definition into name, columns and constraints (in any order), and options."""
    name, body, options = re.fullmatch(r"(.*?)\((.*)\)(.*)", " ".join(definition.split())).groups()  # type: ignore[union-attr]  # no other form exists
    columns, *constraints = re.split(r", (?=CONSTRAINT |FOREIGN KEY)", body)
    return (name, columns.strip(), *sorted(constraint.strip() for constraint in constraints), options.strip())


def _set_revision(engine: Engine, revision: str) -> None:
    with owner_transaction(engine, write=True) as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :revision"), {"revision": revision})

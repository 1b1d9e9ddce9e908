import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from farebox_ledger.errors import DatabaseNotReady, InvalidInput
from farebox_ledger.store.engine import default_database_url, open_engine, redacted, transaction
from farebox_ledger.store.scope import AllOrganizations
from tests.databases import NO_SERVER, postgres_is_available

EVERYBODY = AllOrganizations()


def test_a_postgresql_server_is_there_for_the_tests() -> None:
    assert postgres_is_available(), NO_SERVER


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no database URL"),
        ("farebox.db", "no database URL"),
        ("mysql://root:secret@db/farebox", "'mysql' is not supported"),
        ("postgresql+asyncpg://db/farebox", "'postgresql\\+asyncpg' is not supported"),
        ("postgresql://db:port/farebox", "no database URL"),
        ("sqlite://", "has to name a file"),
        ("sqlite:///:memory:", "has to name a file"),
    ],
)
def test_a_bad_url_is_refused_and_the_variable_named(url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        open_engine(url)

    assert str(refused.value).startswith("FAREBOX_DATABASE_URL: ")
    assert "secret" not in str(refused.value)


def test_a_plain_postgresql_url_goes_through_psycopg_3() -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        assert open_engine(f"{scheme}://u:p@db/farebox").url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize(("query", "asked_s"), [("", 10), ("?connect_timeout=3", 3)])
def test_a_server_that_does_not_answer_is_given_up(query: str, asked_s: int) -> None:
    engine = open_engine(f"postgresql://ann@127.0.0.1:9/books{query}")
    asked: dict[str, object] = {}

    @event.listens_for(engine, "do_connect")
    def note(_dialect: object, _record: object, _args: object, settings: dict[str, object]) -> None:
        asked.update(settings)

    with pytest.raises(OperationalError):
        engine.connect()
    assert int(str(asked["connect_timeout"])) == asked_s


def test_messages_hide_passwords() -> None:
    assert (
        redacted("postgresql://u:secret@db/farebox?password=secret") == "postgresql://u:***@db/farebox?password=hidden"
    )
    assert redacted("not a url: secret") == "(an unreadable URL)"


def test_the_folder_of_an_sqlite_file_is_made(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "farebox.db"

    with transaction(open_engine(f"sqlite:///{file}"), EVERYBODY) as connection:
        connection.execute(text("SELECT 1"))

    assert file.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DatabaseNotReady, match=r"set FAREBOX_DATABASE_URL"):
        open_engine(f"sqlite:///{tmp_path}/file/farebox.db")


def test_the_default_database_is_a_file_of_the_user() -> None:
    assert default_database_url().startswith("sqlite:////")
    assert default_database_url().endswith("farebox.db")


def test_sqlite_is_durable_and_waits_for_its_lock(sqlite_engine: Engine) -> None:
    with transaction(sqlite_engine, EVERYBODY) as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_failing_block_leaves_nothing_behind(engine: Engine) -> None:
    def insert_and_fail() -> None:
        with transaction(engine, EVERYBODY, write=True) as connection:
            connection.execute(text("INSERT INTO catalog_state (id, version) VALUES (1, 1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        insert_and_fail()

    with transaction(engine, EVERYBODY) as connection:
        assert connection.execute(text("SELECT count(*) FROM catalog_state")).scalar() == 0


def test_a_read_sees_one_snapshot(engine: Engine) -> None:
    counted = text("SELECT count(*) FROM catalog_state")
    with transaction(engine, EVERYBODY) as reading:
        before = reading.execute(counted).scalar()
        with transaction(engine, EVERYBODY, write=True) as writing:
            writing.execute(text("INSERT INTO catalog_state (id, version) VALUES (1, 1)"))

        assert (before, reading.execute(counted).scalar()) == (0, 0)


def test_two_writers_wait_for_each_other_and_none_fails(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(text("INSERT INTO catalog_state (id, version) VALUES (1, 0)"))

    def count_up() -> None:
        for _ in range(25):
            with transaction(engine, EVERYBODY, write=True) as connection:
                connection.execute(text("UPDATE catalog_state SET version = version + 1"))

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    with transaction(engine, EVERYBODY) as connection:
        assert connection.execute(text("SELECT version FROM catalog_state")).scalar() == 100


def test_an_error_never_quotes_the_values_of_its_statement(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as refused, transaction(engine, AllOrganizations()) as connection:
        connection.execute(text("SELECT :value FROM nowhere"), {"value": "an address of somebody"})

    assert "hide_parameters=True" in str(refused.value)
    assert "somebody" not in repr(refused.value) + str(refused.value)


def test_a_new_sqlite_file_has_pages_that_hold_several_rows(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as connection:
        assert connection.execute(text("PRAGMA page_size")).scalar_one() == 8192


@pytest.mark.parametrize(("set_to", "holds"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
def test_a_commit_of_postgresql_is_on_its_disk_whatever_the_server_is_set_to(
    postgres_engine: Engine, set_to: str, holds: str
) -> None:
    options = {"options": f"-c synchronous_commit={set_to}"}
    engine = open_engine(postgres_engine.url.update_query_dict(options).render_as_string(hide_password=False))
    try:
        with transaction(engine, EVERYBODY, write=True) as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == holds
    finally:
        engine.dispose()

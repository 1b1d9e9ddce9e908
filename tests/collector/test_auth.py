from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from farebox_collector.receiver.auth import hash_key, presented_key
from farebox_ledger.store import keys as ledger_keys
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.key_uses import KeyUses
from farebox_ledger.store.keys import create_key, revoke_key
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.usage import org_id_of
from tests.collector.emitting import CALL, Emitted, Value, calls, protobuf
from tests.collector.running import Running, config_for, rows, running, wait_for


def make_key(engine: Engine, slug: str | None, *scopes: str) -> tuple[str, str]:
    """Make an organization and a key of it; answers the key's id and its text."""
    with transaction(engine, AllOrganizations(), write=True) as connection:
        org_id = None if slug is None else create_organization(connection, slug).org_id
        record, key = create_key(connection, org_id=org_id, scopes=scopes or ("ingest",))
    return record.id, key


def status(collector: Running, key: str, number: int = 1) -> int:
    return collector.http.post(calls([number]), authorization=f"Bearer {key}").status


def test_hashes_are_those_of_the_ledger() -> None:
    assert hash_key(b"fbx_abc") == ledger_keys.hash_key("fbx_abc")


@pytest.mark.parametrize(
    ("authorization", "api_key", "expected"),
    [
        (None, None, None),
        (b"Bearer k", None, b"k"),
        (b"bearer   k ", None, b"k"),
        (b"Basic k", None, None),
        (b"Basic k", b"x", b"x"),
        (None, b" x ", b"x"),
        (None, b"", None),
        (b"Bearer ", None, None),
    ],
)
def test_the_key_stands_in_one_of_two_headers(
    authorization: bytes | None, api_key: bytes | None, expected: bytes | None
) -> None:
    assert presented_key(authorization, api_key) == expected


def test_the_organization_is_that_of_the_key(tmp_path: Path, database_url: str, engine: Engine) -> None:
    with running(config_for(tmp_path, database_url=database_url, default_org=None)) as collector:
        collector.wait_until_booked()
        key_id, key = make_key(engine, "zenith")
        assert status(collector, key) == 200
        assert collector.http.post(calls([2]), x_api_key=key).status == 200
        assert collector.http.post(calls([3])).status == 401
        collector.wait_until_booked()

    assert set(rows(engine, "key_id")) == {(key_id,)}
    assert KeyUses(engine).last_used_us({key_id}).keys() == {key_id}
    assert len(rows(engine, "span_id")) == 2


def test_no_attribute_moves_a_call_to_another_organization(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    names = ("organization", "org", "org_id", "organization.id", "farebox.organization", "farebox.org", "tenant.id")
    claims: dict[str, Value] = dict.fromkeys(names, "acme")
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        collector.wait_until_booked()
        make_key(sqlite_engine, "acme")
        _, key = make_key(sqlite_engine, "zenith")
        claiming = Emitted(1, attributes={**CALL, **claims})
        assert collector.http.post(protobuf(claiming, resource=claims), x_api_key=key).status == 200
        collector.wait_until_booked()

    assert rows(sqlite_engine, "org_id") == [(org_id_of("zenith"),)]


def test_a_key_of_another_scope_or_of_no_organization_may_not_send(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        assert status(collector, make_key(sqlite_engine, "zenith", "usage:read")[1]) == 403
        assert status(collector, make_key(sqlite_engine, None, "ingest")[1]) == 403


def test_a_wrong_key_is_refused_even_where_none_is_needed(collector: Running) -> None:
    assert collector.http.post(calls([1])).status == 200
    assert status(collector, "fbx_wrong") == 401


def test_a_revoked_key_is_refused_within_five_seconds(tmp_path: Path, sqlite_url: str, sqlite_engine: Engine) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        key_id, key = make_key(sqlite_engine, "zenith")
        assert status(collector, key) == 200
        with transaction(sqlite_engine, AllOrganizations(), write=True) as connection:
            revoke_key(connection, AllOrganizations(), key_id)
        revoked_at = time.monotonic()
        wait_for(lambda: status(collector, key) == 401, 6)
        assert time.monotonic() - revoked_at < 5


def test_a_known_key_is_good_and_an_unknown_one_waits_while_the_database_is_away(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    key = make_key(sqlite_engine, "zenith")[1]
    config = config_for(tmp_path, database_url=sqlite_url, default_org=None)
    with running(config) as collector:
        assert status(collector, key) == 200
        collector.wait_until_booked()
    database = tmp_path / "farebox.db"
    database.rename(tmp_path / "away.db")
    database.mkdir()

    with running(config) as collector:
        assert status(collector, key, 2) == 200
        answer = collector.http.post(calls([3]), authorization="Bearer fbx_made_elsewhere")
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert collector.http.get("/readyz").status == 200


def test_many_requests_with_a_new_key_look_it_up_without_harm(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine
) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        key = make_key(sqlite_engine, "zenith")[1]
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda number=number: statuses.append(status(collector, key, number)))
            for number in range(1, 21)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        collector.wait_until_booked()

    assert statuses == [200] * 20
    assert len(rows(sqlite_engine, "span_id")) == 20


def test_lost_requests_are_logged_by_the_key_s_name_and_a_flood_in_few_lines(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    reader_id, reader = make_key(sqlite_engine, "acme", "usage:read")
    stranger = "fbx_abcdefgh_" + "s" * 43
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        statuses = [status(collector, key) for key in (stranger, reader, *["other"] * 20)]
    with running(config_for(tmp_path, database_url=sqlite_url, default_org=None)) as collector:
        statuses.append(status(collector, reader))

    assert statuses == [401, 403, *[401] * 20, 403]
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("receiver.auth")]
    lost = "1 requests were refused, and their spans are lost to the senders; the last one: "
    assert lines == [
        f"{lost}this key is unknown; make one with: farebox keys create --org SLUG --scope ingest (fbx_abcdefgh…)",
        f"{lost}this key lacks the scope ingest ({reader_id})",
    ]

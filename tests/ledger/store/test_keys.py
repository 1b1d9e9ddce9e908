import pytest
from sqlalchemy import Engine, select

from farebox_ledger.errors import Conflict, InvalidInput, NotFound
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.keys import all_keys, create_key, hash_key, key_by_hash, revoke_key
from farebox_ledger.store.organizations import (
    create_organization,
    list_organizations,
    organization_by_slug,
    organizations_by_id,
)
from farebox_ledger.store.schema import api_keys
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.usage import org_id_of

EVERYBODY = AllOrganizations()


def test_an_organization_is_found_by_slug_and_by_number(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        made = create_organization(connection, "acme", "Acme Inc.")

    with transaction(engine, EVERYBODY) as connection:
        assert made.org_id == org_id_of("acme")
        assert organization_by_slug(connection, "acme") == made
        assert organizations_by_id(connection, [made.org_id]) == {made.org_id: made}
        assert organization_by_slug(connection, "nobody") is None


def test_a_taken_slug_is_a_conflict_and_leaves_the_transaction_usable(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        with pytest.raises(Conflict, match="'acme' exists already"):
            create_organization(connection, "acme")
        create_organization(connection, "zenith")

    with transaction(engine, EVERYBODY) as connection:
        assert [organization.slug for organization in list_organizations(connection, EVERYBODY)] == ["acme", "zenith"]


@pytest.mark.parametrize("slug", ["", "Acme", "a b", "-a", "a-", "a" * 65, "é", "a\n"])
def test_a_slug_that_would_not_stand_in_a_url_is_refused(sqlite_engine: Engine, slug: str) -> None:
    with transaction(sqlite_engine, EVERYBODY, write=True) as connection, pytest.raises(InvalidInput, match="slug"):
        create_organization(connection, slug)


def test_an_organization_lists_itself_alone(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        acme = create_organization(connection, "acme")
        create_organization(connection, "zenith")

        assert list_organizations(connection, OrgScope(acme.org_id)) == [acme]


def test_a_key_is_shown_once_and_found_by_its_hash(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        acme = create_organization(connection, "acme")
        record, text = create_key(connection, org_id=acme.org_id, scopes=["usage:read", "ingest"], name="ci")

        stored = connection.execute(select(api_keys)).one()
        found = key_by_hash(connection, hash_key(text))

    prefix, secret = text.removeprefix("fbx_").split("_")
    assert (len(prefix), len(secret)) == (8, 43)
    assert found == record
    assert (record.prefix, record.org_slug, record.scopes) == (f"fbx_{prefix}", "acme", ("ingest", "usage:read"))
    assert secret not in repr(stored)


def test_a_system_key_has_no_organization(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        record, _ = create_key(connection, org_id=None, scopes=["admin"])
        acme = create_organization(connection, "acme")

        assert (record.org_id, record.org_slug) == (None, None)
        assert all_keys(connection, EVERYBODY) == [record]
        assert all_keys(connection, OrgScope(acme.org_id)) == []


def test_a_revoked_key_stays_listed_and_opens_nothing(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        record, text = create_key(connection, org_id=None, scopes=["admin"])
        now_us = record.created_at_us + 1

        revoked = revoke_key(connection, EVERYBODY, record.id)
        again = revoke_key(connection, EVERYBODY, record.id)

        assert record.is_active(now_us)
        assert not revoked.is_active(now_us)
        assert again == revoked == key_by_hash(connection, hash_key(text))


def test_a_key_of_another_organization_cannot_be_revoked(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        acme, zenith = (create_organization(connection, slug) for slug in ("acme", "zenith"))
        record, _ = create_key(connection, org_id=zenith.org_id, scopes=["ingest"])

        with pytest.raises(NotFound, match="does not exist"):
            revoke_key(connection, OrgScope(acme.org_id), record.id)


def test_a_key_ends_at_its_hour(sqlite_engine: Engine) -> None:
    with transaction(sqlite_engine, EVERYBODY, write=True) as connection:
        end_us = 4_102_444_800_000_000  # 2100-01-01
        record, _ = create_key(connection, org_id=None, scopes=["admin"], expires_at_us=end_us)

    assert record.is_active(end_us - 1)
    assert not record.is_active(end_us)


@pytest.mark.parametrize(
    ("scopes", "end_us", "message"),
    [([], None, "at least one"), (["root"], None, "unknown scope 'root'"), (["admin"], 1, "expired before")],
)
def test_a_key_that_would_open_nothing_or_anything_is_refused(
    sqlite_engine: Engine, scopes: list[str], end_us: int | None, message: str
) -> None:
    with (
        transaction(sqlite_engine, EVERYBODY, write=True) as connection,
        pytest.raises(InvalidInput, match=message),
    ):
        create_key(connection, org_id=None, scopes=scopes, expires_at_us=end_us)


def test_a_key_needs_an_organization_that_exists(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection, pytest.raises(NotFound, match="organization"):
        create_key(connection, org_id=7, scopes=["ingest"])

import pytest
from sqlalchemy import Engine, text

from farebox_ledger.errors import InvalidInput, NotFound
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.querying import UsageFilter, list_usage
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.users import User, erase_user, list_users
from farebox_ledger.store.writing import Booking, book
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, ZENITH, booking

SEEN = NOON + 5_000_000


def write(engine: Engine, *bookings: Booking) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def users(engine: Engine, **asked: object) -> list[User]:
    with transaction(engine, EVERYBODY) as connection:
        return list_users(connection, EVERYBODY, limit=100, **asked)  # type: ignore[arg-type]  # keywords of the test


def test_users_are_made_on_first_sight_and_an_unknown_address_is_learned(engine: Engine) -> None:
    write(engine, booking(1, user="ann", received_at_us=NOON + 9), booking(2, user="ann", received_at_us=NOON + 3))
    write(engine, booking(3, user="ann", user_email="ann@example.com"), booking(4, user="bob"))
    write(engine, booking(5, user="ann", user_email="other@example.com"))

    assert users(engine) == [
        User(ACME, "ann", "ann@example.com", NOON + 3, None),
        User(ACME, "bob", None, SEEN, None),
    ]


def test_a_person_known_by_address_alone_stands_in_rows_without_it(engine: Engine) -> None:
    write(engine, booking(1, user_email="Ann@Example.com"), booking(2, user_email=" ann@example.com"))

    assert users(engine) == [User(ACME, "email-c2b011ed0571909e", "Ann@Example.com", SEEN, None)]
    with transaction(engine, EVERYBODY) as connection:
        row = str(connection.execute(text("SELECT * FROM usage_rows")).first())
    assert "example" not in row.lower()


def test_an_erased_address_is_gone_from_every_row_and_not_learned_again(engine: Engine) -> None:
    write(engine, booking(1, user="ann", user_email="ann@example.com"))

    with transaction(engine, EVERYBODY, write=True) as connection:
        erased = erase_user(connection, OrgScope(ACME), ACME, "ann")
        again = erase_user(connection, OrgScope(ACME), ACME, "ann")
    write(engine, booking(2, user="ann", user_email="ann@example.com"))

    assert users(engine) == [erased] == [again]
    assert (erased.email, erased.erased_at_us is None) == (None, False)
    with transaction(engine, EVERYBODY) as connection:
        rows = list_usage(connection, EVERYBODY, UsageFilter(user="ann"), limit=10).rows
    assert [row.user_email for row in rows] == [None, None]


def test_a_user_of_another_organization_cannot_be_erased(engine: Engine) -> None:
    write(engine, booking(1, user="ann"))

    with transaction(engine, EVERYBODY, write=True) as connection:
        with pytest.raises(InvalidInput, match="outside the scope"):
            erase_user(connection, OrgScope(ZENITH), ACME, "ann")
        with pytest.raises(NotFound, match="user 'ann' does not exist"):
            erase_user(connection, OrgScope(ZENITH), ZENITH, "ann")


def test_users_are_listed_by_organization_in_pages(engine: Engine) -> None:
    write(engine, *(booking(n, user=f"u{n}", org_id=(ACME, ZENITH)[n % 2]) for n in range(6)))

    first = users(engine)[:4]
    rest = users(engine, after=(first[-1].org_id, first[-1].user_ref))

    assert [user.user_ref for user in (*first, *rest)] == ["u0", "u2", "u4", "u1", "u3", "u5"]
    with transaction(engine, EVERYBODY) as connection:
        assert len(list_users(connection, OrgScope(ZENITH), limit=100)) == 3
    assert users(engine, email="nobody@example.com") == []


def test_writers_with_the_same_users_do_not_wait_for_each_other(postgres_engine: Engine) -> None:
    write(postgres_engine, booking(1, user="ann", user_email="ann@example.com"))

    with transaction(postgres_engine, EVERYBODY, write=True) as first:
        for number, trace in ((2, b"a" * 16), (3, b"b" * 16)):
            with transaction(postgres_engine, EVERYBODY, write=True) as second:
                writer, slot = (first, 1) if number == 2 else (second, 2)
                writer.execute(text("SET LOCAL lock_timeout = '2s'"))
                one = booking(number, user="ann", user_email="ann@example.com", trace_id=trace)
                book(writer, EVERYBODY, [one], collector_id=None, batch_ids=[], writer_slot=slot)

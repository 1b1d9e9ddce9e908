from decimal import Decimal
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.event import listen, remove

from farebox_ledger.charges import change_charges
from farebox_ledger.errors import AmountTooLarge, InvalidInput
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.querying import (
    RowKey,
    UsageFilter,
    UsagePage,
    UsageRow,
    charge_versions,
    list_usage,
    usage_row,
)
from farebox_ledger.store.scope import OrgScope, Scope
from farebox_ledger.store.writing import Booking, book
from tests.ledger.store.bookings import (
    ACME,
    EVERYBODY,
    NOON,
    ZENITH,
    booking,
    event,
    priced,
    random_booking,
    suppressed,
    unpriced,
)


def write(engine: Engine, *bookings: Booking) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)


def page(engine: Engine, scope: Scope = EVERYBODY, *, limit: int = 100, after: RowKey | None = None,
         scan_rows: int = 200_000, **asked: Any) -> UsagePage:  # fmt: skip
    with transaction(engine, scope) as connection:
        return list_usage(connection, scope, UsageFilter(**asked), limit=limit, after=after, scan_rows=scan_rows)


def spans(found: UsagePage) -> list[int]:
    return [int.from_bytes(row.event.span_id, "big") for row in found.rows]


def pages(engine: Engine, scope: Scope = EVERYBODY, **options: Any) -> list[UsageRow]:
    """Walk all pages, each of them behind the one before."""
    rows: list[UsageRow] = []
    after = None
    for _ in range(500):
        found = page(engine, scope, after=after, **options)
        rows += found.rows
        assert found.has_more == (found.next_after is not None)
        if not found.has_more:
            return rows
        after = found.next_after
    raise AssertionError("the pages never end")


def test_a_row_is_read_with_its_charge_and_its_users_address(engine: Engine) -> None:
    one = event(1, user="ann", user_email="ann@example.com")
    charge = priced(status="partial", reason="no_rate_for_dimension", detail="pages", multiplier="1.2",
                    rejected=("archive: later",))  # fmt: skip
    write(engine, Booking(one, charge))

    (row,) = page(engine).rows

    assert row == UsageRow(event=one, charge=charge, day=20260310, usage_id=one.usage_id, charge_version=1)
    assert row.user_email == "ann@example.com"


def test_the_names_of_an_unpriced_row_are_those_of_the_response_else_of_the_request(engine: Engine) -> None:
    write(engine, booking(1, unpriced(), response_model="gpt-x-1"), booking(2, unpriced(), provider=None))

    charges = {row.event.span_id[-1]: row.charge for row in page(engine).rows}

    assert (charges[1].provider, charges[1].model) == ("openai", "gpt-x-1")
    assert (charges[2].provider, charges[2].model) == (None, "gpt-4o")


def test_rows_come_newest_first_and_pages_neither_repeat_nor_lose_any(engine: Engine) -> None:
    # Seven at each of ten moments, so that pages end inside of one.
    write(engine, *(booking(number, occurred_at_us=NOON + number // 7) for number in range(70)))

    rows = pages(engine, OrgScope(ACME), limit=4)

    assert len({row.usage_id for row in rows}) == len(rows) == 70
    assert [row.position for row in rows] == sorted((row.position for row in rows), reverse=True)


def test_pages_over_all_organizations_are_one_list(engine: Engine) -> None:
    write(engine, *(booking(n, occurred_at_us=NOON + n, org_id=(ACME, ZENITH, 7)[n % 3]) for n in range(30)))

    assert [int.from_bytes(row.event.span_id, "big") for row in pages(engine, limit=4)] == list(range(29, -1, -1))
    assert spans(page(engine, org_id=7, limit=3)) == [29, 26, 23]


def test_an_organization_sees_itself_alone(engine: Engine) -> None:
    write(engine, booking(1), booking(2, org_id=ZENITH))

    assert spans(page(engine, OrgScope(ZENITH))) == [2]
    with pytest.raises(InvalidInput, match="outside the scope"):
        page(engine, OrgScope(ZENITH), org_id=ACME)


ROW_FACTS: dict[str, Any] = {
    "project": "alpha", "user": "ann", "user_email": "ann@example.com", "key": "key_1", "model_config": "m1",
    "service": "chatbot", "action": "answer", "category": "rag", "task_type": "planning", "task_id": "t1",
    "content_type": "article", "status": "error", "trace_id": b"trace-id-16-byte", "tags": ["x", 'say "hi", ok'],
}  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        *({name: value} for name, value in ROW_FACTS.items() if name != "tags"),
        {"tag": "x"},
        {"tag": 'say "hi", ok'},
        {"provider": "anthropic"},
        {"model": "claude"},
        {"billing_status": "partial"},
        {"reason": "no_rate_for_dimension"},
        {"min_cost": Decimal("0.008")},
        {"min_cost": Decimal("0.009"), "max_cost": Decimal("0.009")},
        {"start_us": NOON, "end_us": NOON + 1},
        {"user": "ann", "model": "claude", "min_cost": Decimal("0.001"), "tag": "x", "start_us": NOON},
    ],
    ids="+".join,
)
def test_each_filter_chooses_its_rows(engine: Engine, asked: dict[str, Any]) -> None:
    charge = priced(4_500_000_000, 4_500_000_000, status="partial", reason="no_rate_for_dimension",
                    provider="anthropic", model="claude")  # fmt: skip
    write(
        engine,
        booking(1, charge, **ROW_FACTS),
        booking(2, occurred_at_us=NOON + 1),
        booking(3, unpriced(), occurred_at_us=NOON - 1, user="bob", user_email="bob@example.com", tags=["xx", "y"]),
    )

    assert spans(page(engine, **asked)) == [1]
    assert spans(page(engine, OrgScope(ACME), **asked)) == [1]
    assert spans(page(engine, OrgScope(ZENITH), **asked)) == []


def test_a_tag_is_not_found_inside_of_others(engine: Engine) -> None:
    write(engine, booking(1, tags=["a,", ",b"]), booking(2, tags=['","']))

    assert spans(page(engine, tag='","')) == [2]
    assert spans(page(engine, tag=",")) == []


def test_unpriced_rows_are_found(engine: Engine) -> None:
    write(engine, booking(1), booking(2, unpriced("unknown_model")), booking(3, unpriced("unknown_provider")))

    assert sorted(spans(page(engine, billing_status="unpriced"))) == [2, 3]
    assert spans(page(engine, billing_status="unpriced", reason="unknown_model")) == [2]


def test_the_same_name_in_another_organization_is_another_person(engine: Engine) -> None:
    write(
        engine,
        booking(1, user="ann", user_email="ann@example.com"),
        booking(2, user="ann", user_email="other@example.com", org_id=ZENITH),
    )

    assert spans(page(engine, user_email="ann@example.com")) == [1]
    assert spans(page(engine, user_email="nobody@example.com")) == []


@pytest.mark.parametrize("people", [2, 30])
def test_the_rows_of_all_who_share_an_address_are_one_list(engine: Engine, people: int) -> None:
    shared = [
        booking(n, occurred_at_us=NOON + n, user=f"user-{n % people}", user_email="team@example.com") for n in range(90)
    ]
    write(engine, *shared, booking(90, user="ann", user_email="ann@example.com"))

    rows = pages(engine, user_email="team@example.com", limit=7)

    assert [row.event.occurred_at_us - NOON for row in rows] == list(range(89, -1, -1))
    assert len(spans(page(engine, user_email="team@example.com", user="user-1"))) == 90 // people
    assert spans(page(engine, user_email="team@example.com", user="ann")) == []


@pytest.mark.parametrize("who", [{"user": "ann"}, {"user_email": "ann@example.com"}], ids=["user", "user_email"])
def test_what_two_indexes_would_find_is_looked_for_within_the_bound(engine: Engine, who: dict[str, Any]) -> None:
    """A user's unpriced rows: an index finds either the user's or the unpriced ones, of which there may be millions."""
    others = [booking(n, unpriced(), occurred_at_us=NOON + n, user="bob") for n in range(2, 102)]
    ann: dict[str, Any] = {"user": "ann", "user_email": "ann@example.com"}
    write(engine, booking(1, unpriced(), **ann), booking(102, occurred_at_us=NOON + 102, **ann), *others)

    first = page(engine, OrgScope(ACME), billing_status="unpriced", scan_rows=50, **who)

    assert (first.rows, first.has_more, first.scanned_until_us) == ([], True, NOON + 51)
    everything = pages(engine, OrgScope(ACME), billing_status="unpriced", scan_rows=50, **who)
    assert [row.event.occurred_at_us for row in everything] == [NOON]


def test_a_bound_that_no_row_can_cost_is_refused(engine: Engine) -> None:
    with pytest.raises(AmountTooLarge):
        page(engine, OrgScope(ACME), min_cost=Decimal(10) ** 9)


def test_a_filter_without_an_index_stops_at_the_bound_and_goes_on_from_there(engine: Engine) -> None:
    write(engine, *(booking(n, occurred_at_us=NOON + n, task_id="hit" if n % 40 == 5 else None) for n in range(200)))

    first = page(engine, OrgScope(ACME), task_id="hit", limit=10, scan_rows=50)

    assert spans(first) == [165]
    assert first.has_more
    assert first.scanned_until_us == NOON + 149
    everything = pages(engine, OrgScope(ACME), task_id="hit", limit=10, scan_rows=50)
    assert [row.event.occurred_at_us - NOON for row in everything] == [165, 125, 85, 45, 5]


def test_a_full_page_does_not_speak_of_the_bound(engine: Engine) -> None:
    write(engine, *(booking(n, occurred_at_us=NOON + n, task_id="hit") for n in range(200)))

    found = page(engine, OrgScope(ACME), task_id="hit", limit=10, scan_rows=50)

    assert (len(found.rows), found.has_more, found.scanned_until_us) == (10, True, None)


@pytest.mark.parametrize("scan_rows", [5, 20, 200])
def test_bounded_scans_over_all_organizations_find_what_an_unbounded_one_does(engine: Engine, scan_rows: int) -> None:
    random = Random(scan_rows)
    write(engine, *(random_booking(random, number) for number in range(150)))

    bounded = pages(engine, category="rag", limit=7, scan_rows=scan_rows)

    assert bounded == page(engine, category="rag", limit=1000).rows
    assert len(bounded) > 20


def test_a_page_over_all_organizations_is_read_once_and_not_once_for_each(engine: Engine) -> None:
    """Rows of an organization that are older than a page of another's are left in the database."""
    newer = [booking(n, occurred_at_us=NOON + n) for n in range(100, 150)]
    older = [booking(n, org_id=ZENITH, occurred_at_us=NOON + n) for n in range(50)]
    write(engine, *older, *newer, booking(200, org_id=ZENITH, occurred_at_us=NOON + 120))
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    listen(engine, "before_cursor_execute", note)
    found = page(engine, limit=40)
    remove(engine, "before_cursor_execute", note)

    expected = sorted([*range(110, 150), 120], reverse=True)[:40]
    assert [row.event.occurred_at_us - NOON for row in found.rows] == expected
    read = [statement for statement in statements if "ORDER BY usage_rows.occurred_at_us DESC" in statement]
    assert ["(usage_rows.occurred_at_us, usage_rows.usage_id) >=" in statement for statement in read] == [False, True]


def test_one_row_is_found_by_day_and_id(engine: Engine) -> None:
    one = event(1)
    write(engine, booking(1), booking(1, org_id=ZENITH), booking(2, org_id=7))

    with transaction(engine, EVERYBODY) as connection:
        for scope in (EVERYBODY, OrgScope(ACME)):
            row = usage_row(connection, scope, 20260310, one.usage_id)
            assert row is not None
            assert row.event == one
        assert usage_row(connection, OrgScope(ZENITH), 20260310, one.usage_id) is None
        assert usage_row(connection, EVERYBODY, 20260311, one.usage_id) is None


def test_old_charges_are_listed_newest_first(engine: Engine) -> None:
    write(engine, booking(1, unpriced()))
    with transaction(engine, EVERYBODY, write=True) as connection:
        change_charges(connection, EVERYBODY, [booking(1)], cause="reprice:1", writer_slot=1)
        change_charges(connection, EVERYBODY, [booking(1, suppressed())], cause="covered_by_child", writer_slot=1)
        versions = charge_versions(connection, OrgScope(ACME), ACME, 20260310, event(1).usage_id)

    assert [(one.version, one.cause, one.charge.status) for one in versions] == [
        (2, "covered_by_child", "billed"),
        (1, "reprice:1", "unpriced"),
    ]
    assert versions[0].charge == priced()

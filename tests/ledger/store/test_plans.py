"""Pins which index serves each hot statement, on both databases: a plan that walks an organization fails here."""

import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from farebox_ledger.charges import change_charges
from farebox_ledger.store.audit import EntryFilter, list_entries
from farebox_ledger.store.credit_accounts import list_accounts
from farebox_ledger.store.credit_grants import list_grants
from farebox_ledger.store.credit_ledger import TransactionFilter, list_transactions
from farebox_ledger.store.engine import is_sqlite, open_engine, owner_transaction, transaction
from farebox_ledger.store.filtering import people_with
from farebox_ledger.store.keys import create_key, key_by_hash, list_keys
from farebox_ledger.store.migrations import migrate
from farebox_ledger.store.multipliers import list_multipliers
from farebox_ledger.store.organizations import create_organization, list_organizations
from farebox_ledger.store.projects import list_projects
from farebox_ledger.store.pruning import prune_batches
from farebox_ledger.store.querying import UsageFilter, charge_versions, list_usage, usage_row
from farebox_ledger.store.repricing_rows import RowsToPrice, page_of_rows
from farebox_ledger.store.responses import traces_of_responses
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.summaries import SummaryQuery, data_through_us, month_summary, summarize
from farebox_ledger.store.upstreams import UpstreamDraft, create_upstream, list_upstreams
from farebox_ledger.store.users import list_users
from farebox_ledger.store.writing import Booking, book, booked_events, seen_batches
from tests.conftest import DATABASES
from tests.ledger.store.bookings import (
    ACME,
    EVERYBODY,
    NOON,
    at,
    booking,
    random_booking,
    random_charge,
)

MINE = OrgScope(ACME)
RANDOM = Random(1)
DRAWN = [random_booking(RANDOM, number) for number in range(3000)]


def listed(**asked: Any) -> Callable[[Connection], Any]:
    return lambda connection: list_usage(connection, MINE, UsageFilter(**asked), limit=50)


def scanned(connection: Connection) -> None:
    list_usage(connection, MINE, UsageFilter(task_id="x"), limit=50, scan_rows=20)


def summed(start: str, end: str, **query: Any) -> Callable[[Connection], Any]:
    return lambda connection: summarize(connection, MINE, SummaryQuery(start_us=at(start), end_us=at(end), **query))


# What is asked → the index of usage_rows or the rollup's key that each of its statements has to use.
PLANS: dict[str, tuple[Callable[[Connection], Any], str]] = {
    "first page": (listed(), "ix_usage_rows_occurred"),
    "range": (listed(start_us=NOON, end_us=NOON + 1), "ix_usage_rows_occurred"),
    "next page": (
        lambda connection: list_usage(connection, MINE, UsageFilter(), limit=50, after=(NOON, bytes(16))),
        "ix_usage_rows_occurred",
    ),
    "page of a user": (listed(user="ann"), "ix_usage_rows_user"),
    "page of a user's range": (listed(user="ann", start_us=NOON), "ix_usage_rows_user"),
    "page of an address": (listed(user_email="ann@example.com"), "ix_usage_rows_user"),
    "page of a user's unpriced": (
        lambda connection: list_usage(
            connection, MINE, UsageFilter(user="ann", billing_status="unpriced"), limit=50, scan_rows=20
        ),
        "ix_usage_rows_unpriced",
    ),
    "next page of the unpriced": (
        lambda connection: list_usage(
            connection, MINE, UsageFilter(billing_status="unpriced"), limit=50, after=(NOON, bytes(16))
        ),
        "ix_usage_rows_unpriced",
    ),
    "next page of a user": (
        lambda connection: list_usage(
            connection, MINE, UsageFilter(user="ann", end_us=NOON + 9), limit=50, after=(NOON, bytes(16))
        ),
        "ix_usage_rows_user",
    ),
    "page of a trace": (listed(trace_id=bytes(16)), "ix_usage_rows_trace"),
    "page of the unpriced": (listed(billing_status="unpriced"), "ix_usage_rows_unpriced"),
    "rows to price anew": (
        lambda connection: page_of_rows(connection, ACME, RowsToPrice(), after=(NOON, bytes(16)), limit=50),
        "ix_usage_rows_unsettled",
    ),
    "assumed rows to price anew": (
        lambda connection: page_of_rows(
            connection, ACME, RowsToPrice(billing_status="assumed", start_us=NOON), after=None, limit=50
        ),
        "ix_usage_rows_unsettled",
    ),
    "unpriced rows to price anew": (
        lambda connection: page_of_rows(connection, ACME, RowsToPrice(billing_status="unpriced"), after=None, limit=50),
        "ix_usage_rows_unpriced",
    ),
    "all rows to price anew": (
        lambda connection: page_of_rows(
            connection, ACME, RowsToPrice(include_priced=True), after=(NOON, bytes(16)), limit=50
        ),
        "ix_usage_rows_occurred",
    ),
    "scan and its bound": (scanned, "ix_usage_rows_occurred"),
    "one row": (lambda connection: usage_row(connection, MINE, 20260330, bytes(16)), "pk_usage_rows"),
    "one row of anybody": (lambda connection: usage_row(connection, EVERYBODY, 20260330, bytes(16)), "pk_usage_rows"),
    "old charges": (
        lambda connection: charge_versions(connection, MINE, ACME, 20260330, bytes(16)),
        "pk_charge_versions",
    ),
    "rows of traces": (
        lambda connection: booked_events(
            connection, EVERYBODY, [(ACME, 20260330, number.to_bytes(16, "big")) for number in range(5)]
        ),
        "ix_usage_rows_trace",
    ),
    "calls that tell of one response": (
        lambda connection: traces_of_responses(connection, EVERYBODY, [(ACME, NOON, "chatcmpl-1")]),
        "ix_usage_rows_response",
    ),
    "calls that tell of many responses": (
        lambda connection: traces_of_responses(
            connection, EVERYBODY, [(ACME, NOON, f"chatcmpl-{number}") for number in range(500)]
        ),
        "ix_usage_rows_response",
    ),
    "seen batches": (lambda connection: seen_batches(connection, "collector", [1, 2]), "pk_booked_batches"),
    "key of a sender": (lambda connection: key_by_hash(connection, bytes(32)), "uq_api_keys_hash"),
    "month": (lambda connection: month_summary(connection, MINE, ACME, 202603), "pk_rollup_day"),
    "quarters": (summed("2026-03-30T00:15:00Z", "2026-03-30T23:45:00Z"), "pk_rollup_quarter"),
    "rows": (summed("2026-03-30T00:00:00Z", "2026-03-31T00:00:00Z", group_by=("action",)), "ix_usage_rows_occurred"),
    "newest call": (lambda connection: data_through_us(connection, MINE), "ix_usage_rows_occurred"),
}

TABLES = {
    "pk_usage_rows": "usage_rows",
    "pk_charge_versions": "charge_versions",
    "pk_users": "users",
    "pk_booked_batches": "booked_batches",
    "uq_api_keys_hash": "api_keys",
    "pk_rollup_day": "rollup_day",
    "pk_rollup_quarter": "rollup_quarter",
}

SORTED = {"ix_usage_rows_occurred", "ix_usage_rows_user", "ix_usage_rows_unpriced"}
"""Indexes that end with the list's whole sort key, so that a page is a stretch of them."""

# A list that goes on → its index, and how SQLite says that it goes to the place by it. Nothing is sorted.
LISTS: dict[str, tuple[Callable[[Connection], Any], str, str]] = {
    "organizations": (
        lambda connection: list_organizations(connection, EVERYBODY, limit=9, after="k"),
        "uq_organizations_slug",
        "(slug>?)",
    ),
    "users": (
        lambda connection: list_users(connection, MINE, limit=9, after=(ACME, "k")),
        "pk_users",
        "(org_id=? AND user_ref>?)",
    ),
    "users of an address": (
        lambda connection: list_users(connection, MINE, limit=9, after=(ACME, "k"), email="ann@example.com"),
        "ix_users_email",
        "(org_id=? AND email=? AND user_ref>?)",
    ),
    "people of an address": (
        lambda connection: people_with(connection, MINE, "ann@example.com"),
        "ix_users_email",
        "(org_id=? AND email=?)",
    ),
    "projects": (
        lambda connection: list_projects(connection, MINE, limit=9, after=(ACME, "k")),
        "pk_projects",
        "(org_id=? AND project>?)",
    ),
    "keys": (
        lambda connection: list_keys(connection, MINE, limit=9, after=(NOON, "k")),
        "ix_api_keys_organization",
        "(org_id=? AND (created_at_us,id)>(?,?))",
    ),
    "keys of all": (
        lambda connection: list_keys(connection, EVERYBODY, limit=9, after=(NOON, "k")),
        "ix_api_keys_created",
        "((created_at_us,id)>(?,?))",
    ),
    "upstreams": (
        lambda connection: list_upstreams(connection, MINE, limit=9, after=(NOON, "k")),
        "ix_upstreams_organization",
        "(org_id=? AND (created_at_us,id)>(?,?))",
    ),
    "multipliers of all": (
        lambda connection: list_multipliers(connection, EVERYBODY, limit=9, after=(NOON, "k")),
        "ix_multipliers_created",
        "((created_at_us,id)>(?,?))",
    ),
    "credit accounts": (
        lambda connection: list_accounts(connection, MINE, ACME, limit=9, after=(NOON, "k")),
        "ix_credit_accounts_created",
        "(org_id=? AND (created_at_us,account_id)>(?,?))",
    ),
    "grants": (
        lambda connection: list_grants(connection, MINE, ACME, limit=9, before=(NOON, b"k")),
        "ix_credit_grants_created",
        "(org_id=? AND (created_at_us,grant_id)<(?,?))",
    ),
    "purchases": (
        lambda connection: list_grants(connection, MINE, ACME, limit=9, kinds=["purchase"], before=(NOON, b"k")),
        "ix_credit_grants_kind",
        "(org_id=? AND kind=? AND (created_at_us,grant_id)<(?,?))",
    ),
    "adjustments": (
        lambda connection: list_transactions(
            connection, MINE, ACME, TransactionFilter(types=["adjustment"]), limit=9, before=(NOON, b"k", 0)
        ),
        "ix_credit_transactions_by_hand",
        "(org_id=? AND type=? AND (occurred_at_us,source_id,step)<(?,?,?))",
    ),
    "old batches": (
        lambda connection: prune_batches(connection, NOON),
        "ix_booked_batches_booked",
        "(booked_at_us<?)",
    ),
    "acts of a key": (
        lambda connection: list_entries(connection, MINE, EntryFilter(actor="key_1"), limit=9, after=(NOON, "k")),
        "ix_audit_log_actor",
        "(org_id=? AND actor=? AND (at_us,id)<(?,?))",
    ),
}

WRITES: dict[str, Callable[[Connection], Any]] = {
    "booking": lambda connection: book(
        connection, EVERYBODY, [booking(number) for number in range(5)], collector_id=None, batch_ids=[], writer_slot=1
    ),
    "changing": lambda connection: change_charges(
        connection,
        EVERYBODY,
        [Booking(one.event, random_charge(Random(7))) for one in DRAWN[:20]],
        cause="x",
        writer_slot=1,
    ),
}


@pytest.fixture(scope="module", params=DATABASES)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Fill a database with enough rows for PostgreSQL's statistics to say what those of a large one would."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('plans')}/farebox.db"
    else:
        url = request.getfixturevalue("postgres").clone("template0").render_as_string(hide_password=False)
    engine = open_engine(url)
    migrate(engine)
    with transaction(engine, EVERYBODY, write=True) as connection:
        for number in range(50):
            owner = create_organization(connection, f"o{number}").org_id
            create_key(connection, org_id=owner, scopes=["ingest"])
            create_upstream(connection, OrgScope(owner), UpstreamDraft(name="edge"))
        book(connection, EVERYBODY, DRAWN, collector_id="collector", batch_ids=range(2000), writer_slot=1)
    if not is_sqlite(engine):
        with owner_transaction(engine, write=True) as connection:
            connection.execute(text("ANALYZE"))
    yield engine
    engine.dispose()


@pytest.mark.parametrize("asked", PLANS)
def test_each_question_is_answered_from_its_index(filled: Engine, asked: str) -> None:
    question, index = PLANS[asked]

    plans = plans_of(filled, question)

    about = [(statement, plan) for statement, plan in plans if f"FROM {TABLES.get(index, 'usage_rows')} " in statement]
    assert about
    for statement, plan in about:
        assert served_by(plan, index), f"{statement}\n{plan}"


def test_sqlite_looks_many_traces_up_one_by_one(sqlite_engine: Engine) -> None:
    """It knows no sizes of its own here, so an empty table serves; PostgreSQL rightly reads a small one as a whole."""
    traces = [(ACME, 20260330, number.to_bytes(16, "big")) for number in range(500)]

    plans = plans_of(sqlite_engine, lambda connection: booked_events(connection, EVERYBODY, traces))

    assert [served_by(plan, "ix_usage_rows_trace") for _, plan in plans] == [True]


def test_postgresql_looks_traces_up_in_their_index_before_it_has_statistics(postgres_engine: Engine) -> None:
    """In an installation's first minute its planner takes a walk of the day for as cheap as one look-up."""
    with transaction(postgres_engine, EVERYBODY, write=True) as connection:
        book(
            connection,
            EVERYBODY,
            [booking(number) for number in range(2000)],
            collector_id=None,
            batch_ids=[],
            writer_slot=1,
        )
    traces = [(ACME, 20260310, number.to_bytes(16, "big")) for number in range(100)]

    plans = plans_of(postgres_engine, lambda connection: booked_events(connection, EVERYBODY, traces))

    assert [served_by(plan, "ix_usage_rows_trace") for _, plan in plans] == [True]


@pytest.mark.parametrize("asked", [name for name, (_, index) in PLANS.items() if "page" in name and index in SORTED])
def test_pages_are_read_in_the_order_of_their_index_and_never_sorted(filled: Engine, asked: str) -> None:
    question, _ = PLANS[asked]

    for statement, plan in plans_of(filled, question):
        if "ORDER BY usage_rows.occurred_at_us DESC" in statement:
            assert not re.search("TEMP B-TREE|Sort", plan), f"{statement}\n{plan}"


@pytest.mark.parametrize("listed", LISTS)
def test_a_list_goes_on_at_its_place_whichever_page_it_is(filled: Engine, listed: str) -> None:
    question, index, place = LISTS[listed]

    plans = plans_of(filled, question)

    _, plan = plans[0]
    assert not re.search("SCAN|Sort", plan), plan
    if is_sqlite(filled):
        key = "PRIMARY KEY" if index.startswith("pk") else f"INDEX {named(index)}"
        assert f"{key} {place}" in plan
    else:
        assert f"using {index} " in plan, plan


@pytest.mark.parametrize("write", WRITES)
def test_each_write_finds_its_rows_by_their_key(filled: Engine, write: str) -> None:
    plans = plans_of(filled, WRITES[write], write=True)

    found = [(statement, plan) for statement, plan in plans if statement.startswith(("SELECT", "UPDATE usage_rows"))]
    assert found
    for statement, plan in found:
        index = "pk_users" if "FROM users " in statement else "pk_usage_rows"
        assert served_by(plan, index), f"{statement}\n{plan}"


def plans_of(engine: Engine, run: Callable[[Connection], Any], *, write: bool = False) -> list[tuple[str, str]]:
    """Run something and explain the statements that read or change rows."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "WITH", "UPDATE")) and not re.search("pg_advisory|set_config", statement):
            seen.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", note)
    with transaction(engine, EVERYBODY, write=write) as connection:
        run(connection)
    event.remove(engine, "before_cursor_execute", note)
    with transaction(engine, EVERYBODY, write=True) as connection:
        # Tables this small are read whole on PostgreSQL; without that choice the plan is that of a large one.
        if not is_sqlite(connection):
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        return [
            (" ".join(statement.split()), explained(connection, statement, parameters))
            for statement, parameters in seen
            if not statement.startswith("WITH") and "usage_rows_organizations" not in statement
        ]


def named(index: str) -> str:
    """Name an index as SQLite does, which numbers those of unique columns."""
    return f"sqlite_autoindex_{index.split('_')[1]}_1" if index.startswith("uq") else index


def explained(connection: Connection, statement: str, parameters: Any) -> str:
    explain = "EXPLAIN QUERY PLAN" if is_sqlite(connection) else "EXPLAIN"
    return "\n".join(row[-1] for row in connection.exec_driver_sql(f"{explain} {statement}", parameters))


def served_by(plan: str, index: str) -> bool:
    """Say whether a plan looks rows up by the index; keys of SQLite's tables without row ids have no name."""
    if "SEARCH" in plan and index in TABLES:
        searched = f"SEARCH {TABLES[index]} USING "
        return f"{searched}PRIMARY KEY" in plan or f"{searched}INDEX sqlite_autoindex_{TABLES[index]}" in plan
    return index in plan

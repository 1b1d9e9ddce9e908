import threading
from decimal import Decimal
from itertools import count as counting
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import IntegrityError

from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing.charge import Charge
from farebox_ledger.store.engine import owner_transaction, transaction
from farebox_ledger.store.rollups import check_rollups
from farebox_ledger.store.schema import TOKEN_COLUMNS, booked_batches, rollup_day, rollup_day_by, usage_rows, writers
from farebox_ledger.store.scope import OrgScope
from farebox_ledger.store.writing import (
    COPY_FROM,
    BookedEvent,
    Booking,
    book,
    booked_events,
    lease_writer_slot,
    lock_traces,
    seen_batches,
)
from farebox_ledger.usage import Usage, UsageEvent
from tests.ledger.store.bookings import (
    ACME,
    EVERYBODY,
    NOON,
    ZENITH,
    at,
    booking,
    event,
    priced,
    random_booking,
    suppressed,
    unpriced,
)

SPAN_NUMBERS = counting(1_000_000)
BATCH_SIZES = (3, COPY_FROM + 20)  # one below and one above the turn from single inserts to COPY


def written(engine: Engine, bookings: list[Booking], *, slot: int = 1, batch_ids: tuple[int, ...] = ()) -> int:
    with transaction(engine, EVERYBODY, write=True) as connection:
        return book(connection, EVERYBODY, bookings, collector_id="collector", batch_ids=batch_ids, writer_slot=slot)


def read_back(engine: Engine, *events: UsageEvent) -> list[BookedEvent]:
    with transaction(engine, EVERYBODY) as connection:
        return booked_events(connection, EVERYBODY, {(one.org_id, one.day, one.trace_id) for one in events})


def count(engine: Engine, table: str = "usage_rows") -> int:
    with transaction(engine, EVERYBODY) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def assert_sums_are_exact(engine: Engine) -> None:
    with transaction(engine, EVERYBODY) as connection:
        assert check_rollups(connection, EVERYBODY) == []


def test_an_event_is_read_back_as_it_was_booked(engine: Engine) -> None:
    full = event(
        parent_span_id=b"parent12",
        kind="container",
        dialect="openllmetry",
        usage=Usage(
            input_tokens=10, cache_read_input_tokens=1, cache_write_input_tokens={"5m": 2, "1h": 3},
            audio_input_tokens=4, image_input_tokens=5, video_input_tokens=6, output_tokens=7,
            reasoning_output_tokens=0, audio_output_tokens=8, image_output_tokens=9, input_images=10, output_images=11,
            input_seconds=Decimal("12.3456789"), output_seconds=Decimal(0), input_characters=13, output_characters=14,
            pages=15, search_units=16, requests=17, web_searches=18, search_context_size="high",
        ),
        scope="some.scope",
        is_client=True,
        response_model="gpt-4o-2024-08-06",
        response_id="resp_1",
        status="error",
        error_code="openai.RateLimitError",
        error_message="slow down",
        time_to_first_chunk_ms=17,
        stream=True,
        service_tier="flex",
        batch=True,
        region="eu",
        tokens_source="clamped",
        estimated_input_tokens=1,
        estimated_output_tokens=2,
        stated_cost=Decimal("0.00425"),
        project="alpha",
        user="ann",
        key="key_1",
        service="chatbot",
        action="answer",
        category="rag",
        task_type="planning",
        task_id="t1",
        content_type="article",
        content_ref="a1",
        model_config="m1",
        upstream="proxy",
        session="s1",
        tags=["x", "y"],
        metadata={"depth": {"list": [1, 2.5, None, True]}},
        usage_rule="input_excludes_cache",
        raw_usage={"gen_ai.usage.input_tokens": 1, "some.amount": 1.5, "some.text": "-1"},
    )  # fmt: skip

    written(engine, [Booking(full, suppressed(covered_by=b"c" * 16))])

    assert read_back(engine, full) == [
        BookedEvent(full, 20260310, "suppressed", "covered_by_child", charge_version=1, covered_by=b"c" * 16)
    ]


def test_every_fact_of_an_event_is_varied_by_the_test_above() -> None:
    # A field that is added to UsageEvent has to be kept by the rows: this list grows with it.
    assert set(UsageEvent.__struct_fields__) == {
        "org_id", "trace_id", "span_id", "parent_span_id", "occurred_at_us", "started_at_us", "received_at_us", "kind",
        "dialect", "usage", "scope", "is_client", "provider", "request_model", "response_model", "response_id",
        "operation", "status", "error_code", "error_message", "time_to_first_chunk_ms", "stream", "service_tier",
        "batch", "region", "tokens_source", "estimated_input_tokens", "estimated_output_tokens", "stated_cost",
        "project", "user", "user_email", "key", "service", "action", "category", "task_type", "task_id",
        "content_type", "content_ref", "model_config", "upstream", "session", "tags", "metadata",
        "usage_rule", "raw_usage",
    }  # fmt: skip


def test_what_nobody_said_stays_unsaid_and_zero_stays_zero(engine: Engine) -> None:
    silent = event(1, usage=Usage())
    zero = event(2, usage=Usage(input_tokens=0, cache_write_input_tokens={"unsplit": 0}, pages=0))

    written(engine, [Booking(silent, unpriced("missing_usage")), Booking(zero, unpriced())])

    assert {booked.event.span_id: booked.event.usage for booked in read_back(engine, silent)} == {
        silent.span_id: Usage(),
        zero.span_id: zero.usage,
    }


@pytest.mark.parametrize("size", BATCH_SIZES)
def test_a_retried_export_writes_no_second_row(engine: Engine, size: int) -> None:
    bookings = [booking(number) for number in range(size)]

    first = written(engine, bookings)
    again = written(engine, bookings, slot=2)

    assert (first, again, count(engine)) == (size, 0, size)
    assert_sums_are_exact(engine)


@pytest.mark.parametrize("size", BATCH_SIZES)
def test_of_a_partly_known_batch_only_the_new_rows_count(engine: Engine, size: int) -> None:
    bookings = [booking(number) for number in range(size)]
    written(engine, bookings[: size // 2])

    assert written(engine, bookings) == size - size // 2
    assert count(engine) == size
    assert_sums_are_exact(engine)


def test_a_span_twice_in_one_batch_is_one_row(engine: Engine) -> None:
    assert written(engine, [booking(1), booking(1, unpriced()), booking(2)]) == 2
    assert_sums_are_exact(engine)


@pytest.mark.parametrize("later", ["2026-03-31T00:00:10Z", "2026-03-29T23:59:59Z"])
@pytest.mark.parametrize("size", [1, COPY_FROM + 20])
def test_a_span_sent_again_with_an_end_on_a_neighboring_day_stays_on_its_first(
    engine: Engine, later: str, size: int
) -> None:
    before = at("2026-03-30T23:59:59Z")
    written(engine, [booking(number, occurred_at_us=before) for number in range(size)])

    again = written(engine, [booking(number, occurred_at_us=at(later)) for number in range(size)])

    assert (again, count(engine)) == (0, size)
    assert {booked.day for booked in read_back(engine, event(occurred_at_us=before))} == {20260330}
    assert_sums_are_exact(engine)


def test_the_same_ids_of_two_organizations_are_two_rows(engine: Engine) -> None:
    assert written(engine, [booking(1), booking(1, org_id=ZENITH)]) == 2


def test_booked_events_of_far_days_and_other_traces_are_left_out(engine: Engine) -> None:
    near = event(1, occurred_at_us=NOON)
    next_day = event(2, occurred_at_us=at("2026-03-11T01:00:00Z"))
    far = event(3, occurred_at_us=at("2026-03-12T01:00:00Z"))
    other_trace = event(4, trace_id=b"o" * 16)
    other_organization = event(5, org_id=ZENITH)
    written(engine, [Booking(one, priced()) for one in (near, next_day, far, other_trace, other_organization)])

    assert [booked.event for booked in read_back(engine, near)] == [near, next_day]


def test_a_batch_is_remembered_with_its_rows(engine: Engine) -> None:
    written(engine, [booking(1)], batch_ids=(7, 8))
    written(engine, [], batch_ids=(8, 9))

    with transaction(engine, EVERYBODY) as connection:
        assert seen_batches(connection, "collector", {6, 7, 8, 9}) == {7, 8, 9}
        assert seen_batches(connection, "another", {7, 8}) == set()


def test_a_crash_inside_the_transaction_leaves_nothing(engine: Engine) -> None:
    def book_and_crash() -> None:
        with transaction(engine, EVERYBODY, write=True) as connection:
            bookings = [booking(number, user="ann") for number in range(COPY_FROM + 1)]
            book(connection, EVERYBODY, bookings, collector_id="collector", batch_ids=[1], writer_slot=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        book_and_crash()

    tables = ("usage_rows", "rollup_day", "rollup_quarter", "rollup_day_by", "booked_batches", "users")
    assert [count(engine, table) for table in tables] == [0] * len(tables)


@pytest.mark.parametrize("size", BATCH_SIZES)
def test_text_that_postgresql_cannot_hold_is_cleaned_on_both(engine: Engine, size: int) -> None:
    dirty: dict[str, Any] = {
        "error_message": "a\0b\ud800c",
        "session": "\0",
        "task_id": "",
        "tags": ["t\0", "\ud800", "", "t"],
        "metadata": {"k\0": "v\0\ud800", "big": 2**70, "nested": [{"x": "\ud800"}]},
    }

    written(engine, [booking(number, **dirty) for number in range(size)])

    kept = read_back(engine, event())[0].event
    assert (kept.error_message, kept.session, kept.task_id, kept.tags) == ("ab?c", None, None, ["t", "?"])
    assert kept.metadata == {"k": "v?", "big": str(2**70), "nested": [{"x": "?"}]}


def test_long_names_fit_into_every_index_and_stay_different(engine: Engine) -> None:
    names = [letter * 5000 for letter in ("a", "b", "ü", "ü" * 2)]
    dimensions = ("project", "user", "key", "service", "category", "provider", "request_model")

    def named(name: str) -> dict[str, Any]:
        return dict.fromkeys(dimensions, name)

    bookings = [booking(number, unpriced(), tags=[name], **named(name)) for number, name in enumerate(names)]

    written(engine, bookings)

    with transaction(engine, EVERYBODY) as connection:
        kept = list(connection.scalars(select(usage_rows.c.project)))
    assert len(set(kept)) == len(names)
    assert all(len(name.encode()) <= 400 for name in kept)
    assert_sums_are_exact(engine)


def test_huge_metadata_is_kept(engine: Engine) -> None:
    metadata: dict[str, object] = {"blob": "x" * 2_000_000}

    written(engine, [booking(1, metadata=metadata)])

    assert read_back(engine, event())[0].event.metadata == metadata


@pytest.mark.parametrize("size", BATCH_SIZES)
@pytest.mark.parametrize(
    "bad",
    [
        booking(0, usage=Usage(input_tokens=-1)),
        booking(0, usage=Usage(output_tokens=2**63)),
        booking(0, status="fine"),
        booking(0, priced(cost_pico=1)),
        booking(0, Charge(status="billed", currency="USD")),
        booking(0, Charge(status="unpriced", cost_pico=0)),
        booking(0, Charge(status="free", cost_pico=5)),
        booking(0, occurred_at_us=at("2019-12-31T00:00:00Z")),
        booking(0, occurred_at_us=10**18),
        booking(0, usage=Usage(pages=-1)),
        booking(0, usage=Usage(input_seconds=Decimal("-0.5"))),
        booking(0, usage=Usage(output_seconds=Decimal("NaN"))),
        booking(0, usage=Usage(cache_write_input_tokens={"5m": 3, "1h": -1})),
    ],
    ids=[
        "negative",
        "64 bits",
        "status",
        "parts",
        "billed without cost",
        "unknown is not zero",
        "free",
        "day",
        "year",
        "negative pages",
        "negative seconds",
        "no number",
        "negative cache write",
    ],
)
def test_what_no_row_can_hold_is_refused_and_nothing_is_booked(engine: Engine, bad: Booking, size: int) -> None:
    with pytest.raises(InvalidInput):
        written(engine, [bad, *(booking(number) for number in range(1, size))])

    assert count(engine) == 0


@pytest.mark.parametrize("name", TOKEN_COLUMNS)
def test_the_database_itself_refuses_counts_below_zero(engine: Engine, name: str) -> None:
    written(engine, [booking(1)])

    with transaction(engine, EVERYBODY, write=True) as connection:
        row = {**connection.execute(usage_rows.select()).mappings().one(), "usage_id": bytes(16)}
        connection.execute(usage_rows.insert().values({**row, name: 0}))
    with pytest.raises(IntegrityError), transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(usage_rows.insert().values({**row, "usage_id": bytes(15) + b"\1", name: -1}))


def test_the_largest_amounts_sum_exactly(engine: Engine) -> None:
    largest = 9_000_000 * 10**12 // 2
    bookings = [booking(number, priced(largest, largest)) for number in range(300)]

    written(engine, bookings)

    with transaction(engine, EVERYBODY) as connection:
        units, pico = connection.execute(select(rollup_day.c.cost_units, rollup_day.c.cost_pico)).one()
    assert (units, pico) == (2_700_000_000, 0)
    assert_sums_are_exact(engine)


def test_a_stated_cost_beyond_reason_does_not_stop_the_booking(engine: Engine) -> None:
    written(engine, [booking(number, stated_cost=Decimal(text)) for number, text in enumerate(("1e30", "NaN", "0.5"))])

    assert [booked.event.stated_cost for booked in read_back(engine, event())].count(Decimal("0.5")) == 1


def test_an_event_of_another_organization_is_outside_the_scope(engine: Engine) -> None:
    with transaction(engine, OrgScope(ZENITH), write=True) as connection:
        for refused in (
            lambda: book(connection, OrgScope(ZENITH), [booking()], collector_id=None, batch_ids=[], writer_slot=1),
            lambda: booked_events(connection, OrgScope(ZENITH), [(ACME, 20260310, bytes(16))]),
        ):
            with pytest.raises(InvalidInput, match="outside the scope"):
                refused()


def test_rows_change_only_with_their_old_charge_kept(engine: Engine) -> None:
    written(engine, [booking(1)])

    for statement in (
        "UPDATE usage_rows SET cost_pico = 0",
        "UPDATE usage_rows SET input_tokens = 5, charge_version = 2",
        "UPDATE usage_rows SET day = 20260311",
        "UPDATE usage_rows SET charge_version = charge_version + 1",
        "DELETE FROM usage_rows",
    ):
        with (
            pytest.raises(IntegrityError, match="law 6"),
            transaction(engine, EVERYBODY, write=True) as connection,
        ):
            connection.execute(text(statement))


def test_postgresql_refuses_to_empty_the_books(postgres_engine: Engine) -> None:
    for table in ("usage_rows", "charge_versions"):
        with (
            pytest.raises(IntegrityError, match="append-only"),
            owner_transaction(postgres_engine, write=True) as connection,
        ):
            connection.execute(text(f"TRUNCATE {table}"))


def test_a_writer_keeps_its_slot_and_shares_it_with_nobody(engine: Engine) -> None:
    slots = [lease_writer_slot(engine, holder) for holder in ("a", "b", "a", "c")]

    assert slots == [1, 2, 1, 3]


def test_a_slot_whose_holder_is_gone_is_given_again(engine: Engine) -> None:
    for holder in ("a", "b"):
        lease_writer_slot(engine, holder)
    with transaction(engine, EVERYBODY, write=True) as connection:
        connection.execute(writers.update().where(writers.c.holder == "a").values(leased_until_us=1))

    assert [lease_writer_slot(engine, holder) for holder in ("c", "b", "a")] == [1, 2, 3]


def test_many_writers_get_different_slots(engine: Engine) -> None:
    slots: list[int] = []

    threads = [
        threading.Thread(target=lambda name=f"writer {number}": slots.append(lease_writer_slot(engine, name)))
        for number in range(4)
    ]
    run(threads)

    assert sorted(slots) == [1, 2, 3, 4]


def test_two_writers_race_on_the_same_spans_and_sums(engine: Engine) -> None:
    random = Random(7)
    bookings = [random_booking(random, number) for number in range(400)]
    inserted: list[int] = []
    errors: list[BaseException] = []

    def write(slot: int) -> None:
        mine = Random(slot)
        try:
            for start in range(0, 400, 40):
                batch = mine.sample(bookings[start : start + 80], k=len(bookings[start : start + 80]))
                inserted.append(written(engine, batch, slot=slot))
        except BaseException as error:
            errors.append(error)

    run([threading.Thread(target=write, args=(slot,)) for slot in (1, 2, 3)])

    assert errors == []
    assert sum(inserted) == count(engine) == 400
    assert_sums_are_exact(engine)


def test_traces_are_locked_until_the_transaction_ends(postgres_engine: Engine) -> None:
    order: list[str] = []
    held = threading.Event()

    def second() -> None:
        held.wait(10)
        with transaction(postgres_engine, EVERYBODY, write=True) as connection:
            lock_traces(connection, EVERYBODY, [(ACME, b"t" * 16)])
            order.append("second")

    waiting = threading.Thread(target=second)
    waiting.start()
    with transaction(postgres_engine, EVERYBODY, write=True) as connection:
        lock_traces(connection, EVERYBODY, [(ACME, b"t" * 16), (ACME, b"u" * 16)])
        held.set()
        waiting.join(timeout=0.3)
        order.append("first")
    waiting.join(timeout=10)

    assert order == ["first", "second"]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_any_order_and_partition_books_the_same_rows_and_sums(engine: Engine, seed: int, cuts: list[int]) -> None:
    drawn = Random(seed)
    # Each example has its own spans, because the database stays the same.
    bookings = [random_booking(drawn, number) for number in range(60)]
    for one in bookings:
        one.event.span_id = next(SPAN_NUMBERS).to_bytes(8, "big")
    shuffled = drawn.sample([*bookings, *bookings[:20]], k=80)
    bounds = [0, *sorted(cuts), len(shuffled)]

    inserted = sum(
        written(engine, shuffled[start:end], slot=slot) for slot, (start, end) in enumerate(pairwise(bounds))
    )

    assert inserted == 60
    assert_sums_are_exact(engine)


def test_sums_by_user_key_and_tag_are_those_of_the_rows(engine: Engine) -> None:
    written(
        engine,
        [
            booking(1, user="ann", tags=["x", "y"], key="key_1"),
            booking(2, user="ann", tags=["x"]),
            booking(3, unpriced()),
            booking(4, suppressed(), user="ann"),
        ],
    )

    with transaction(engine, EVERYBODY) as connection:
        by = rollup_day_by.c
        found = connection.execute(
            select(by.dimension, by.value, by.currency, by.requests, by.cost_pico, by.unpriced_rows)
        )
        sums = {tuple(row) for row in found}
    cost = 4_500_000_000
    assert sums == {
        ("user", "ann", "USD", 2, 2 * cost, 0),
        ("user", "", "", 1, 0, 1),
        ("key", "key_1", "USD", 1, cost, 0),
        ("key", "", "USD", 1, cost, 0),
        ("key", "", "", 1, 0, 1),
        ("tag", "x", "USD", 2, 2 * cost, 0),
        ("tag", "y", "USD", 1, cost, 0),
        ("tag", "", "", 1, 0, 1),
    }


def test_the_batch_record_is_of_the_collector_alone(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        book(connection, EVERYBODY, [booking()], collector_id=None, batch_ids=[], writer_slot=1)

        assert connection.scalar(select(func.count()).select_from(booked_batches)) == 0


def test_an_event_is_not_changed_by_booking_it(sqlite_engine: Engine) -> None:
    one = event(tags=["b", "b"], metadata={"a": "\0"})
    before = msgspec.structs.replace(one)

    written(sqlite_engine, [Booking(one, priced())])

    assert one == before


def run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()

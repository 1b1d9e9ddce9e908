"""When keys were last used is shared by all processes, written at most once a minute, and never in anybody's way."""

from __future__ import annotations

from sqlalchemy import Engine, text

from farebox_ledger.store.engine import owner_transaction
from farebox_ledger.store.key_uses import NOTED_EVERY_US, KeyUses
from tests.ledger.store.bookings import NOON


class Clock:
    def __init__(self) -> None:
        self.now_us = NOON

    def __call__(self) -> int:
        return self.now_us


def test_a_use_is_seen_by_every_process_and_noted_once_a_minute(engine: Engine) -> None:
    clock = Clock()
    mine, other = KeyUses(engine, now_us=clock), KeyUses(engine, now_us=clock)

    mine.note({"key_1", "key_2"})
    clock.now_us += NOTED_EVERY_US - 1
    mine.note({"key_1"})

    assert not mine.is_due("key_1")
    assert other.is_due("key_1")
    assert other.last_used_us({"key_1", "key_3"}) == {"key_1": NOON}
    clock.now_us += 1
    mine.note({"key_1"})
    assert other.last_used_us({"key_1", "key_2"}) == {"key_1": NOON + NOTED_EVERY_US, "key_2": NOON}


def test_a_process_whose_clock_is_behind_takes_nothing_back(engine: Engine) -> None:
    KeyUses(engine, now_us=lambda: NOON).note({"key_1"})
    KeyUses(engine, now_us=lambda: NOON - 1).note({"key_1"})

    assert KeyUses(engine).last_used_us({"key_1"}) == {"key_1": NOON}
    assert KeyUses(engine).last_used_us(()) == {}


def test_where_nothing_can_be_noted_nobody_is_refused(postgres_engine: Engine) -> None:
    with owner_transaction(postgres_engine, write=True) as connection:
        connection.execute(text("DROP TABLE key_uses"))
    uses = KeyUses(postgres_engine)

    uses.note({"key_1"})

    assert not uses.is_due("key_1")

"""Long answers: what begins them, and what ends them early."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import anyio
import pytest

from farebox_api.errors import Busy
from farebox_api.streaming import Places, streamed


def pieces(seen: list[str]) -> Generator[str, None, None]:
    try:
        for number in range(1000):
            seen.append(f"made {number}")
            yield str(number)
    finally:
        seen.append("ended")


def test_a_reader_that_goes_away_ends_what_was_being_read() -> None:
    seen: list[str] = []
    answer: Any = streamed(pieces(seen), owner=None, media_type="text/plain", file_name="numbers.txt")

    async def read_two_and_go() -> list[str]:
        sent = [await anext(answer.iterator), await anext(answer.iterator)]
        await answer.iterator.aclose()
        return sent

    assert anyio.run(read_two_and_go) == ["0", "1"]
    assert seen == ["made 0", "made 1", "ended"]


def test_an_owner_has_few_places_and_gets_them_back_however_its_answers_end() -> None:
    places = Places(in_all=3, each=2)

    def begun(owner: str) -> Any:
        return streamed(pieces([]), owner=owner, media_type="text/plain", file_name="numbers.txt", places=places)

    read, _unread = begun("acme"), begun("acme")
    with pytest.raises(Busy, match="at most 2 of an organization and 3 in all"):
        begun("acme")
    begun_by_another = begun("zenith")
    with pytest.raises(Busy):
        begun("initech")

    async def read_one_and_go() -> None:
        await anext(read.iterator)
        await read.iterator.aclose()

    anyio.run(read_one_and_go)
    del _unread, begun_by_another  # answers of which nothing was sent, because their readers had gone
    assert all(begun(owner) for owner in ("acme", "acme", "zenith"))


def test_a_fault_before_the_first_piece_is_raised_where_it_can_become_a_problem() -> None:
    def broken() -> Generator[str, None, None]:
        yield str(int("nothing to read"))

    with pytest.raises(ValueError, match="nothing to read"):
        streamed(broken(), owner=None, media_type="text/plain", file_name="numbers.txt")

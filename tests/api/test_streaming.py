"""Long answers: what begins them, and what ends them early."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import anyio
import pytest

from farebox_api.streaming import streamed


def pieces(seen: list[str]) -> Generator[str, None, None]:
    try:
        for number in range(1000):
            seen.append(f"made {number}")
            yield str(number)
    finally:
        seen.append("ended")


def test_a_reader_that_goes_away_ends_what_was_being_read() -> None:
    seen: list[str] = []
    answer: Any = streamed(pieces(seen), media_type="text/plain", file_name="numbers.txt")

    async def read_two_and_go() -> list[str]:
        sent = [await anext(answer.iterator), await anext(answer.iterator)]
        await answer.iterator.aclose()
        return sent

    assert anyio.run(read_two_and_go) == ["0", "1"]
    assert seen == ["made 0", "made 1", "ended"]


def test_a_fault_before_the_first_piece_is_raised_where_it_can_become_a_problem() -> None:
    def broken() -> Generator[str, None, None]:
        yield str(int("nothing to read"))

    with pytest.raises(ValueError, match="nothing to read"):
        streamed(broken(), media_type="text/plain", file_name="numbers.txt")

from __future__ import annotations

import pytest

from farebox_api.errors import InvalidRequest
from farebox_api.paging import CursorCodec

CODEC = CursorCodec(tuple[int, bytes])


def test_a_cursor_gives_back_the_position_it_was_made_from() -> None:
    position = (1_793_534_400_000_000, bytes(range(16)))

    cursor = CODEC.write(position, {"model": "gpt-5"}, "acme")

    assert CODEC.read(cursor, {"model": "gpt-5"}, "acme") == position


def test_a_cursor_of_another_filter_is_refused() -> None:
    cursor = CODEC.write((1, b"id"), {"model": "gpt-5"}, "acme")

    with pytest.raises(InvalidRequest, match="another filter"):
        CODEC.read(cursor, {"model": "gpt-4"}, "acme")


def test_a_cursor_of_another_caller_is_refused() -> None:
    cursor = CODEC.write((1, b"id"), {"model": "gpt-5"}, "acme")

    with pytest.raises(InvalidRequest, match="another filter"):
        CODEC.read(cursor, {"model": "gpt-5"}, "zenith")


@pytest.mark.parametrize("text", ["", "a", "????", "AAAA", "Ünsinn", "x" * 1024])
def test_what_is_no_cursor_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CODEC.read(text, {})

    assert [fault.parameter for fault in caught.value.faults] == ["cursor"]


def test_a_position_of_another_shape_is_refused() -> None:
    cursor = CursorCodec(str).write("a name", {})

    with pytest.raises(InvalidRequest, match="is no cursor"):
        CODEC.read(cursor, {})

"""JSON that a strict reader refuses or misreads although senders write it: repaired, or named. Knows nothing of OTLP.

Each function costs next to nothing for a body that is as it should be.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from typing import Final

_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""One escape: a pair of surrogates, half of a pair (the group), or any other."""


class RepeatedMember(ValueError):
    """An object has two members of one name, and readers would drop one of them."""


def without_byte_order_mark(body: bytes) -> bytes:
    return body[len(BOM_UTF8) :] if body.startswith(BOM_UTF8) else body


def with_whole_letters(body: bytes) -> bytes:
    r"""Put U+FFFD where half of a surrogate pair stands, escaped: `\ud83d` alone.

    JavaScript writes it when a text was cut in the middle of an emoji, as prompts are, and a strict reader then refuses
    the request with all its spans.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return _ESCAPE.sub(lambda escape: escape[0] if escape[1] is None else b"\\ufffd", body)


def refuse_repeated(body: bytes, expected: dict[bytes, int]) -> None:
    """Look for objects with two members of one name, where one of these names stands more often than expected.

    A name within a text does not count: its quotes are escaped there.

    Raises:
        RepeatedMember: there is such an object; the message names the member.
    """
    if all(body.count(b'"%b"' % name) <= count for name, count in expected.items()):
        return
    names = {name.decode() for name in expected}

    def look(members: list[tuple[str, object]]) -> None:
        found = [name for name, _ in members if name in names]
        if len(found) > len(set(found)):
            twice = next(name for name in found if found.count(name) > 1)
            raise RepeatedMember(f"an object has two members {twice!r}; write one")

    try:
        json.loads(body.decode("utf-8", "replace"), object_pairs_hook=look, parse_int=len)
    except RecursionError:
        return  # such a depth holds no spans

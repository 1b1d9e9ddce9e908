from __future__ import annotations

import pytest

from farebox_collector.scrubbing import scrubbed


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("Rate limit reached for gpt-4o", "Rate limit reached for gpt-4o"),
        ("Incorrect API key provided: sk-proj-abcdEFGH1234.", "Incorrect API key provided: [secret]"),
        ("Authorization: Bearer abc.def-123 is bad", "Authorization: [secret] is bad"),
        ("key AIzaSyD-abcdefghijk not valid", "key [secret] not valid"),
        ("no access for jane.doe+x@example.co.uk today", "no access for [email] today"),
        ("blob QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9w end", "blob [secret] end"),
        ("first line\nsecond line with a prompt", "first line"),
        ("\n  \n", None),
        ("", None),
        ("nul\0nul", "nulnul"),
    ],
)
def test_an_error_message_keeps_its_first_line_without_secrets(message: str, kept: str | None) -> None:
    assert scrubbed(message) == kept


def test_an_error_message_is_cut() -> None:
    assert scrubbed("word " * 1000) == ("word " * 52)[:256]

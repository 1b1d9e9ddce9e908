"""CSV (RFC 4180) that can be opened in a spreadsheet: text that would start a formula gets an apostrophe in front.

Values come in, lines go out, and `read_cell` undoes what was done to text, so that a file reads back as it was.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Final

import msgspec

# OWASP, CSV Injection: what spreadsheets take for the start of a formula, the full-width forms among them. The
# apostrophe itself is escaped too: so a cell that starts with one always lost it on the way in.
_FORMULA_STARTS: Final = tuple("=+-@\t\r\n＝＋－＠'")
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_encode_json: Final = msgspec.json.Encoder(decimal_format="string").encode


def csv_line(values: Iterable[object]) -> str:
    """Write one line. None is an empty cell, true and false are words, lists and maps are JSON, text is escaped."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([_cell(value) for value in values])
    return line.getvalue()


def read_cell(text: str) -> str | None:
    """Read a cell's text: an empty cell is None, and an apostrophe in front was put there by `csv_line`."""
    return text.removeprefix("'") or None


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _escaped(value)
    return _encode_json(value).decode()


def _escaped(text: str) -> str:
    """Escape what could be a formula; a plain number, `-0.5` among them, is none."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text) else text

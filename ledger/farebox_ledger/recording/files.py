"""Files of told calls: CSV with a header, or NDJSON. Lines come in, calls or refusals with their line go out.

The columns of a CSV file are the members of a JSON line. An empty cell is a member left out; tags, metadata and cache
writes by time to live are JSON in their cells; an apostrophe in front, as exports write it, is taken off.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, TextIO

import msgspec

from farebox_ledger.delimited import read_cell
from farebox_ledger.errors import InvalidInput
from farebox_ledger.pricing.quoting import refusal
from farebox_ledger.recording.calls import RecordedCall

COLUMNS: Final = RecordedCall.__struct_fields__

_JSON_CELLS: Final = frozenset(("tags", "metadata", "cache_write_input_tokens"))
_MOMENTS: Final = frozenset(("occurred_at", "started_at"))
_decode_line: Final = msgspec.json.Decoder(RecordedCall).decode
_decode_cell: Final = msgspec.json.decode


class ReadLine(NamedTuple):
    """One line of a file, by its number from 1: the call that it tells, or why it cannot be read."""

    number: int
    call: RecordedCall | None
    refusal: InvalidInput | None = None


def ndjson_calls(lines: Iterable[str]) -> Iterator[ReadLine]:
    """Read JSON lines; blank ones are passed over."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _read(number, lambda line=line: _decode_line(line))


def csv_calls(file: TextIO) -> Iterator[ReadLine]:
    """Read CSV (RFC 4180) from a file opened with `newline=""`. A record over several lines has the last one's number.

    Raises:
        InvalidInput: the header is missing, or names a column that no call has, or one twice.
    """
    records = csv.reader(file, strict=True)
    header = _header(records)
    while True:
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:  # what follows an open quote cannot be told apart
            yield ReadLine(records.line_num, None, InvalidInput("line", f"is no CSV: {error}"))
            return
        if any(cells):
            yield _read(records.line_num, lambda cells=cells: _call(header, cells))


def _header(records: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(records)]
    except (StopIteration, csv.Error):
        raise InvalidInput(
            "header", f"the first line has to name the columns, such as {','.join(COLUMNS[:4])}"
        ) from None
    for name in header:
        if name not in COLUMNS:
            close = get_close_matches(name, COLUMNS, n=1)
            cure = f"did you mean {close[0]}?" if close else f"expected some of {', '.join(COLUMNS)}"
            raise InvalidInput("header", f"{name[:64]!r} is nothing that can be told of a call; {cure}")
        if header.count(name) > 1:
            raise InvalidInput("header", f"names {name} twice")
    return header


def _call(header: list[str], cells: list[str]) -> RecordedCall:
    if len(cells) != len(header):
        raise InvalidInput("line", f"has {len(cells)} cells under {len(header)} columns")
    texts = {name: read_cell(cell) for name, cell in zip(header, cells, strict=True)}
    members = {name: _member(name, text) for name, text in texts.items() if text is not None}
    return msgspec.convert(members, RecordedCall, strict=False)  # cells are text: "12" is the number


def _member(name: str, text: str) -> Any:
    if name in _MOMENTS and "-" not in text[1:]:  # which the decoder would take for seconds since 1970
        raise InvalidInput(name, f"expected RFC 3339 with offset, such as 2026-11-01T00:00:00Z, got {text[:64]!r}")
    if name not in _JSON_CELLS:
        return text
    try:
        return _decode_cell(text)
    except msgspec.DecodeError as error:
        raise InvalidInput(name, f"expected JSON in this cell: {error}") from None


def _read(number: int, read: Any) -> ReadLine:
    try:
        return ReadLine(number, read())
    except InvalidInput as error:
        return ReadLine(number, None, error)
    except msgspec.ValidationError as error:
        return ReadLine(number, None, refusal(str(error)))
    except (msgspec.DecodeError, UnicodeError) as error:
        return ReadLine(number, None, InvalidInput("line", f"expected one JSON object: {error}"))

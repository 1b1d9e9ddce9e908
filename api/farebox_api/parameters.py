"""What stands in an address, strictly read: unknown and repeated parameters, times, months, amounts, lists.

Texts come in, plain values go out, or an `InvalidRequest` that names the parameter and the cure. Nothing is guessed: a
time without offset or an amount in exponent form is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Final, NamedTuple

from farebox_api.errors import Fault, InvalidRequest, invalid_parameter
from farebox_ledger.money import MAX_AMOUNT_PICO, PICO

TIME_PATTERN: Final = (
    r"^(19[7-9]\d|2\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)
AMOUNT_PATTERN: Final = r"^-?\d{1,7}(\.\d{1,12})?$"
MONTH_PATTERN: Final = r"^(19[7-9]\d|2\d{3})-(0[1-9]|1[0-2])$"
USAGE_ID_PATTERN: Final = r"^\d{8}-[0-9a-f]{32}$"
TRACE_ID_PATTERN: Final = r"^[0-9a-f]{32}$"
SLUG_PATTERN: Final = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"

HELD_SLASH: Final = "\0"
"""Stands for a slash inside a name in an address while its route is looked for; no name holds it itself."""

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2999
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[ +-]\d\d:\d\d)", re.ASCII)
_NAIVE: Final = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?)?", re.ASCII)
_AMOUNT: Final = re.compile(AMOUNT_PATTERN, re.ASCII)
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
_MONTH: Final = re.compile(MONTH_PATTERN, re.ASCII)
_TRACE_ID: Final = re.compile(TRACE_ID_PATTERN)
_USAGE_ID: Final = re.compile(USAGE_ID_PATTERN, re.ASCII)


class Rule(NamedTuple):
    """What a route says of one of its parameters."""

    is_list: bool = False
    is_integer: bool = False
    choices: tuple[str, ...] = ()


def check(given: Iterable[tuple[str, str]], rules: Mapping[str, Rule]) -> None:
    """Refuse parameters that a route does not have, and values that can be refused without knowing their meaning.

    Raises:
        InvalidRequest: with one fault for each of them, an unknown name with the nearest known one.
    """
    faults, seen = [], set()
    for name, value in given:
        fault = _fault(name, value, rules, is_repeated=name in seen)
        if fault:
            faults.append(Fault(fault, parameter=name))
        seen.add(name)
    if faults:
        raise InvalidRequest(*faults)


def time_us(name: str, text: str | None) -> int | None:
    """Read an RFC 3339 time with offset as microseconds since 1970 in UTC.

    A space before the offset counts as the `+` that it was before the address was decoded.
    """
    if text is None:
        return None
    if not _TIME.fullmatch(text):
        raise invalid_parameter(name, _time_fault(text))
    try:
        moment = datetime.fromisoformat(text[:11].upper() + text[11:].upper().replace(" ", "+")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid_parameter(name, f"{text} is no time that exists") from None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise invalid_parameter(name, f"{text} lies outside the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return (moment - _EPOCH) // _MICROSECOND


def time_range_us(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Read `start` (inclusive) and `end` (exclusive); an empty or reversed range is refused."""
    start_us, end_us = time_us("start", start), time_us("end", end)
    if start_us is not None and end_us is not None and end_us <= start_us:
        raise invalid_parameter("end", "must lie after start; the range is half-open [start, end)")
    return start_us, end_us


def amount(name: str, text: str | None) -> Decimal | None:
    """Read an amount of money in plain decimal notation, at most 12 decimal places."""
    if text is None:
        return None
    if not _AMOUNT.fullmatch(text) or abs(Decimal(text)) > MAX_AMOUNT_PICO // PICO:
        raise invalid_parameter(
            name, f"expected a plain decimal such as 0.0105, at most 9000000 and 12 decimal places, got {text[:64]!r}"
        )
    return Decimal(text)


def month_number(name: str, text: str) -> int:
    """Read `2026-11` as 202611."""
    if not _MONTH.fullmatch(text):
        raise invalid_parameter(name, f"expected a month such as 2026-11, got {text[:64]!r}")
    return int(text[:4]) * 100 + int(text[5:])


def usage_id(text: str) -> tuple[int, bytes] | None:
    """Read `YYYYMMDD-<32 hex>` as (day, id); None when it has another form and so cannot exist."""
    if not _USAGE_ID.fullmatch(text):
        return None
    return int(text[:8]), bytes.fromhex(text[9:])


def trace_id(name: str, text: str | None) -> bytes | None:
    """Read a trace id of 32 lower-case hex digits."""
    if text is None:
        return None
    if not _TRACE_ID.fullmatch(text):
        raise invalid_parameter(name, f"expected 32 lower-case hex digits, got {text[:64]!r}")
    return bytes.fromhex(text)


def names(name: str, values: Collection[str] | None, allowed: Collection[str]) -> tuple[str, ...]:
    """Read a list given as repeated parameters, comma separated, or both; order is kept, doubles are refused."""
    flat = [part.strip() for value in values or () for part in value.split(",")]
    for part in flat:
        if part not in allowed:
            raise invalid_parameter(name, f"{part!r} is none of {', '.join(sorted(allowed))}{_nearest(part, allowed)}")
    if len(set(flat)) != len(flat):
        raise invalid_parameter(name, "names something twice")
    return tuple(flat)


def _fault(name: str, value: str, rules: Mapping[str, Rule], *, is_repeated: bool) -> str | None:
    rule = rules.get(name)
    if rule is None:
        return _unknown(name, rules.keys())
    if is_repeated and not rule.is_list:
        return "stands more than once; it takes one value"
    if "\0" in value:
        return "holds a NUL character"
    if rule.is_integer and not _INTEGER.fullmatch(value):
        return f"expected a whole number, got {value[:64]!r}"
    if rule.choices and value not in rule.choices:
        return f"{value[:64]!r} is none of {', '.join(rule.choices)}"
    return None


def _time_fault(text: str) -> str:
    if _NAIVE.fullmatch(text):
        return f"{text!r} has no offset from UTC; write 2026-11-01T00:00:00Z or 2026-11-01T00:00:00+03:00"
    return f"expected RFC 3339 with offset and at most microseconds, such as 2026-11-01T00:00:00Z, got {text[:64]!r}"


def _unknown(name: str, known: Collection[str]) -> str:
    if not known:
        return "is no parameter of this route; it takes none"
    cure = _nearest(name, known) or f"; it takes {', '.join(sorted(known))}"
    return f"is no parameter of this route{cure}"


def _nearest(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""

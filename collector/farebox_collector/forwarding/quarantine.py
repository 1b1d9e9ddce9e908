"""What a forwarder has set aside: listed, and sent once more after the gateway has learned to read it.

A forwarder has no books, so nobody moves its quarantine anywhere (ADR 010). The list reads the spool beside a running
forwarder; whoever sends again needs the spool alone, so the forwarder has to be stopped for that moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from farebox_collector.errors import InvalidSetting
from farebox_collector.locking import FileLock
from farebox_collector.spans import Span
from farebox_collector.spool import file
from farebox_collector.spool.file import QuarantineEntry

_PAGE: Final = 500
_PREFIX: Final = re.compile(r"fbx_[^_]{8}(?=_)")
"""What the gateway's `farebox keys list` shows of a key. The key itself is in the spool and is never shown."""
_LAST_US: Final = 32_503_680_000_000_000
"""The year 3000: what a span says beyond is no time that can be written."""

_decoder: Final = msgspec.msgpack.Decoder(Span)


def held(folder: Path) -> Iterator[dict[str, Any]]:
    """Describe each span that was set aside, the oldest first, with what is kept of it.

    Raises:
        InvalidSetting: no forwarder has had its spool there.
    """
    _require_spool(folder)
    connection = file.open_for_reading(folder)
    try:
        for entry in _entries(connection):
            yield _description(entry)
    finally:
        connection.close()


def put_back(folder: Path) -> int:
    """Let the spans wait again that were acknowledged and that the gateway could not read; answers how many.

    They are sent with the next start. Spans whose senders were told that they are rejected stay where they are.

    Raises:
        InvalidSetting: no forwarder has had its spool there.
        SpoolInUse: the forwarder runs.
    """
    _require_spool(folder)
    lock = FileLock(folder / "spool.lock", owned=f"the spool folder {folder}")
    try:
        connection = file.open_spool_file(folder)
        entries = [entry for entry in _entries(connection) if entry.reason == "refused_by_gateway"]
        readable = [(entry, span) for entry in entries if (span := _span(entry)) is not None]
        connection.execute("BEGIN IMMEDIATE")
        for (sender, received_at_us), group in groupby(
            readable, key=lambda one: (one[0].sender, one[0].received_at_us)
        ):
            row = file.batch_row(sender, received_at_us, [span for _, span in group])
            file.insert_batches(connection, file.last_batch_id(connection) + 1, [row])
        file.delete_quarantined(connection, [entry.id for entry, _ in readable])
        file.add_to_counters(connection, {"quarantined": -len(readable)})
        connection.execute("COMMIT")
        connection.close()
    finally:
        lock.close()
    return len(readable)


def _require_spool(folder: Path) -> None:
    if not (folder / file.FILE_NAME).exists():
        raise InvalidSetting("FAREBOX_SPOOL_DIR", f"no forwarder has had its spool in {folder}")


def _entries(connection: Any) -> Iterator[QuarantineEntry]:
    last_id = 0
    while page := file.read_quarantined(connection, last_id, _PAGE):
        last_id = page[-1].id
        yield from page


def _description(entry: QuarantineEntry) -> dict[str, Any]:
    """Write an entry with the members that it would have in the API, as far as they are known here."""
    span = _span(entry)
    prefix = _PREFIX.match(entry.sender.key_id or "")
    return {
        "id": entry.id,
        "key_prefix": None if prefix is None else prefix[0],
        "received_at": _time_text(entry.received_at_us),
        "reason": entry.reason,
        "detail": entry.detail,
        "digest": entry.digest.hex(),
        "size_bytes": entry.size_bytes,
        "trace_id": None if span is None else span.trace_id.hex(),
        "span_id": None if span is None else span.span_id.hex(),
        "ended_at": None if span is None else _time_text(span.end_us),
        "attributes": None if span is None else span.attributes,
        "is_sent_again": entry.reason == "refused_by_gateway" and span is not None,
    }


def _span(entry: QuarantineEntry) -> Span | None:
    if entry.payload is None:
        return None
    try:
        return _decoder.decode(entry.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _time_text(time_us: int) -> str | None:
    if not 0 <= time_us < _LAST_US:
        return None
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

"""Accept → decode → spool → acknowledge: what both transports do with the body of a request.

A body and its sender come in; what comes back stands on the disk. It never talks to the billing database.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec

from farebox_collector.decode import (
    Decoded,
    Identify,
    Selection,
    count_json_items,
    count_protobuf_items,
    decode_json,
    decode_logs,
    decode_protobuf,
)
from farebox_collector.errors import Unavailable
from farebox_collector.sequence import Sequences
from farebox_collector.spans import Sender
from farebox_collector.spool import Spool
from farebox_collector.telemetry import Signal, Telemetry, Transport

Encoding: TypeAlias = Literal["protobuf", "json"]

INLINE_BYTES: Final = 2**20
"""Larger bodies are decoded on another thread, so that one sender does not hold up the answers of the others."""


class Receipt(msgspec.Struct, frozen=True):
    """What a sender is told of an acknowledged request: how many spans were rejected, and why."""

    rejected: int = 0
    message: str = ""


_ALL_TAKEN: Final = Receipt()


class LogSelection(msgspec.Struct, frozen=True):
    """Which log records are kept: those that contain a mark and that say of themselves which call they report."""

    selection: Selection
    identify: Identify


class Intake:
    """Takes requests from both transports into the spool."""

    def __init__(
        self,
        spool: Spool,
        selection: Selection,
        telemetry: Telemetry,
        logs: LogSelection | None = None,
        sequences: Sequences | None = None,
    ) -> None:
        """Everything that is needed is made by `app`.

        Without `logs` no log record is kept, and without `sequences` no gap is seen.
        """
        self._spool = spool
        self._selection = selection
        self._logs = logs
        self._telemetry = telemetry
        self._sequences = sequences

    async def take_spans(self, body: bytes, encoding: Encoding, sender: Sender, transport: Transport) -> Receipt:
        """Put the spans of a trace request on the disk; the receipt may be sent when this returns.

        Raises:
            Malformed: the body is no trace request.
            Unavailable: the spool is full or cannot be written; the sender shall try again.
        """
        received_at_us = time.time_ns() // 1000
        decoded = await self._decoded(body, encoding, received_at_us)
        try:
            await self._spool.append(
                sender, received_at_us, decoded.spans, rejected=decoded.rejected, others=decoded.others
            )
        except Unavailable:
            self._telemetry.count_refused(transport, decoded.total)
            raise
        self._telemetry.count_accepted(transport, decoded.total)
        if decoded.numbered and self._sequences is not None:
            for instance, numbers in decoded.numbered:
                self._sequences.note(sender.org, instance, numbers)
        return self._receipt(decoded) if decoded.rejected else _ALL_TAKEN

    async def take_logs(self, body: bytes, encoding: Encoding, sender: Sender, transport: Transport) -> Receipt:
        """Put the log records that report a call on the disk as spans; all others are counted and forgotten.

        Raises:
            Malformed: the body is no logs request.
            Unavailable: the spool is full or cannot be written; the sender shall try again.
        """
        logs = self._logs
        if logs is None:
            self.drop_records(body, encoding, "logs", transport)
            return _ALL_TAKEN
        received_at_us = time.time_ns() // 1000
        decode = partial(decode_logs, body, encoding, logs.selection, logs.identify, received_at_us)
        decoded = decode() if len(body) <= INLINE_BYTES else await asyncio.to_thread(decode)
        kept = len(decoded.spans) + len(decoded.rejected)
        if kept:
            try:
                await self._spool.append(sender, received_at_us, decoded.spans, rejected=decoded.rejected)
            except Unavailable:
                self._telemetry.count_refused(transport, kept)
                raise
            self._telemetry.count_accepted_records(transport, kept)
        if decoded.others:
            self._telemetry.count_dropped(transport, "logs", decoded.others)
        return self._receipt(decoded) if decoded.rejected else _ALL_TAKEN

    def drop_records(self, body: bytes, encoding: Encoding, signal: Signal, transport: Transport) -> None:
        """Count the records of a metrics request, or of any other signal that nobody bills, and forget them.

        Raises:
            Malformed: the body is no such request.
        """
        count = count_protobuf_items(body) if encoding == "protobuf" else count_json_items(body)
        self._telemetry.count_dropped(transport, signal, count)

    async def _decoded(self, body: bytes, encoding: Encoding, now_us: int) -> Decoded:
        decode = decode_protobuf if encoding == "protobuf" else decode_json
        if len(body) <= INLINE_BYTES:
            return decode(body, self._selection, now_us)
        return await asyncio.to_thread(decode, body, self._selection, now_us)

    def _receipt(self, decoded: Decoded) -> Receipt:
        reasons = Counter(rejected.reason for rejected in decoded.rejected)
        for reason, count in reasons.items():
            self._telemetry.rejected_spans.labels(reason).inc(count)
        tally = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        example = decoded.rejected[0].detail[:200]
        return Receipt(len(decoded.rejected), f"{len(decoded.rejected)} spans were rejected ({tally}): {example}")

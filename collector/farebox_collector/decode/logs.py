"""OTLP log records → plain spans, of the few that say what a call used; all others are counted and forgotten.

Coding agents report their calls as log events. A record becomes a span that ended when the record was written, and the
dialects give it its ids, since a record has none. Bodies and severities are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from google.protobuf.message import DecodeError

from farebox_collector import spans_pb2
from farebox_collector.decode import json, protobuf
from farebox_collector.decode.reduction import MAX_SCOPE_CHARACTERS, Decoded, Reduction, Selection, clean_text
from farebox_collector.spans import AttributeValue, Span

EVENT_NAME: Final = "event.name"
"""Where the event's name stands among the attributes; newer senders write it as a field of its own."""

Identify: TypeAlias = Callable[[Span], bool]
"""Gives a record's span its ids; False when the record says nothing of a usage."""


class _Record(NamedTuple):
    """One record as it came, with what its resource and scope say."""

    raw: bytes
    scope: str
    resource: Callable[[], dict[str, AttributeValue]]


def decode_logs(
    body: bytes, encoding: Literal["protobuf", "json"], selection: Selection, identify: Identify, now_us: int
) -> Decoded:
    """Read an ExportLogsServiceRequest; `others` are the records that nobody bills, broken ones among them.

    Raises:
        Malformed: the body is no such request.
    """
    reduction = Reduction(selection, now_us)
    is_protobuf = encoding == "protobuf"
    records = _protobuf_records(body, selection) if is_protobuf else _json_records(body, selection)
    read = _protobuf_span if is_protobuf else _json_span
    for record in records:
        span = None
        if any(mark in record.raw for mark in selection.marks):
            span = read(record, selection)
        if span is None or not identify(span):
            reduction.decoded.others += 1
        else:
            reduction.sort_in(span, record.raw)
    return reduction.decoded


def _protobuf_records(body: bytes, selection: Selection) -> Iterator[_Record]:
    for resource_logs in protobuf.parsed(body).resource_spans:
        resource = resource_logs.resource
        for scope_logs in resource_logs.scope_spans:
            scope = protobuf.text_of(scope_logs.scope.name)[:MAX_SCOPE_CHARACTERS]
            for raw in scope_logs.spans:
                yield _Record(raw, scope, partial(protobuf.inherited_by, resource, selection.keys))


def _protobuf_span(record: _Record, selection: Selection) -> Span | None:
    try:
        parsed = spans_pb2.LogRecord.FromString(record.raw)
        attributes = protobuf.attributes_of(parsed.attributes, selection.keys, record.resource())
    except DecodeError:
        return None
    if parsed.event_name:
        attributes.setdefault(EVENT_NAME, clean_text(protobuf.text_of(parsed.event_name)))
    return _span(record.scope, parsed.time_unix_nano or parsed.observed_time_unix_nano, attributes)


def _json_records(body: bytes, selection: Selection) -> Iterator[_Record]:
    for resource_logs in json.parsed(body).resource_logs or ():
        own = (resource_logs.resource and resource_logs.resource.attributes) or []
        for scope_logs in resource_logs.scope_logs or ():
            scope = clean_text((scope_logs.scope and scope_logs.scope.name) or "")[:MAX_SCOPE_CHARACTERS]
            for item in scope_logs.log_records or ():
                yield _Record(bytes(item), scope, partial(json.attributes_of, own, selection.keys))


class _JsonRecord(msgspec.Struct, rename="camel"):
    time_unix_nano: json.Number = None
    observed_time_unix_nano: json.Number = None
    event_name: str | None = None
    attributes: list[json.KeyValue] | None = None


_JSON_RECORD: Final = msgspec.json.Decoder(_JsonRecord)


def _json_span(record: _Record, selection: Selection) -> Span | None:
    try:
        parsed = _JSON_RECORD.decode(record.raw)
        attributes = record.resource() | json.attributes_of(parsed.attributes or [], selection.keys)
        ended_ns = json.time_of(parsed.time_unix_nano) or json.time_of(parsed.observed_time_unix_nano)
    except (*json.FAULTS, ValueError, OverflowError):
        return None
    if parsed.event_name:
        attributes.setdefault(EVENT_NAME, clean_text(parsed.event_name))
    return _span(record.scope, ended_ns, attributes)


def _span(scope: str, ended_ns: int, attributes: dict[str, AttributeValue]) -> Span:
    """A span without ids, of which only the end is known."""
    return Span(b"", b"", None, scope, 0, None, ended_ns // 1000, False, None, attributes)

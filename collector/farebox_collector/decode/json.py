"""OTLP/JSON → plain spans: lowerCamelCase names, hex ids, 64-bit integers as text or number, null for absent.

Typed structs read it; protobuf's own JSON reader is 40 times slower and takes ids for base64.
"""

from __future__ import annotations

import re
from binascii import Error as HexError
from binascii import unhexlify
from typing import Final, TypeAlias

import msgspec

from farebox_collector.decode.leniency import (
    RepeatedMember,
    refuse_repeated,
    with_whole_letters,
    without_byte_order_mark,
)
from farebox_collector.decode.numbering import INSTANCE, is_numbered
from farebox_collector.decode.reduction import (
    MAX_LIST_ITEMS,
    MAX_SCOPE_CHARACTERS,
    Decoded,
    Reduction,
    Selection,
    bounded_number,
    clean_text,
    error_text,
    joined,
    keep_extract,
    parent_of,
    reduced_times,
)
from farebox_collector.errors import Malformed
from farebox_collector.spans import STATUS_ERROR, AttributeValue, Span

Number: TypeAlias = int | float | str | None
_INSTANCE_ALONE: Final = frozenset({INSTANCE})
_ESCAPE: Final = b"\\u"  # an escaped letter could hide a mark from the search


class _ArrayValue(msgspec.Struct):
    values: list[_Value] | None = None


class _Value(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Number = None
    double_value: Number = None
    array_value: _ArrayValue | None = None


class KeyValue(msgspec.Struct):
    key: str | None = None
    value: _Value | None = None


class _Status(msgspec.Struct):
    message: str | None = None
    code: Number = None


class _Identity(msgspec.Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    kind: Number = None
    start_time_unix_nano: Number = None
    end_time_unix_nano: Number = None
    attributes: list[KeyValue] | None = None
    status: _Status | None = None


class _Resource(msgspec.Struct):
    attributes: list[KeyValue] | None = None


class _Scope(msgspec.Struct):
    name: str | None = None


class _ScopeSpans(msgspec.Struct, rename="camel"):
    scope: _Scope | None = None
    spans: list[msgspec.Raw] | None = None
    log_records: list[msgspec.Raw] | None = None
    metrics: list[msgspec.Raw] | None = None


class _ResourceSpans(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None
    scope_logs: list[_ScopeSpans] | None = None
    scope_metrics: list[_ScopeSpans] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] | None = None
    resource_logs: list[_ResourceSpans] | None = None
    resource_metrics: list[_ResourceSpans] | None = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_SPAN: Final = msgspec.json.Decoder(_Span)
_IDENTITY: Final = msgspec.json.Decoder(_Identity)
FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Enums are integers in OTLP/JSON; senders that write the names all the same lose nothing by it.
_KINDS: Final = {f"SPAN_KIND_{name}": number for number, name in enumerate(
    ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
)}  # fmt: skip
_CODES: Final = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}


_WHOLE: Final = re.compile(r"-?[0-9]+")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?")


class _NoNumber(ValueError):
    """A number was expected; the text quotes nothing."""


def decode_json(body: bytes, selection: Selection, now_us: int) -> Decoded:
    """Read an ExportTraceServiceRequest in JSON.

    Raises:
        Malformed: the body is no such object, or none of its spans can be parsed.
    """
    request = parsed(body)
    if request.resource_logs or request.resource_metrics:
        raise Malformed("the body holds logs or metrics; send them to /v1/logs and /v1/metrics")
    reduction = Reduction(selection, now_us)
    for resource_spans in request.resource_spans or ():
        inherited: dict[str, AttributeValue] | None = None
        for scope_spans in resource_spans.scope_spans or ():
            scope = clean_text((scope_spans.scope and scope_spans.scope.name) or "")[:MAX_SCOPE_CHARACTERS]
            since = reduction.position() if is_numbered(scope) else None
            for item in scope_spans.spans or ():
                raw = bytes(item)
                if not any(mark in raw for mark in selection.marks) and _ESCAPE not in raw:
                    _count_other(raw, reduction)
                    continue
                if inherited is None:
                    own = resource_spans.resource and resource_spans.resource.attributes
                    inherited = attributes_of(own or [], selection.keys)
                _read_span(raw, scope, inherited, reduction)
            if since is not None:
                own = (resource_spans.resource and resource_spans.resource.attributes) or []
                reduction.take_numbers(attributes_of(own, _INSTANCE_ALONE).get(INSTANCE), since)
    return reduction.finish()


def count_json_items(body: bytes) -> int:
    """Count the records of a logs or metrics request.

    Raises:
        Malformed: the body is no such object.
    """
    request = parsed(body)
    count = 0
    for resource in (*(request.resource_logs or ()), *(request.resource_metrics or ())):
        for scope in (*(resource.scope_logs or ()), *(resource.scope_metrics or ())):
            count += len(scope.log_records or ()) + len(scope.metrics or ())
    return count


def parsed(body: bytes) -> _Request:
    """Read the outer shape of a request of any signal.

    Raises:
        Malformed: the body has another.
    """
    body = without_byte_order_mark(body)
    try:
        request = _decoded(body)
        refuse_repeated(body, _envelopes(request))
    except (*FAULTS, RepeatedMember) as error:
        raise Malformed(f"the body is no OTLP request in JSON: {error}") from None
    return request


def _decoded(body: bytes) -> _Request:
    try:
        return _REQUEST.decode(body)
    except FAULTS:
        repaired = with_whole_letters(body)
        if repaired == body:
            raise
        return _REQUEST.decode(repaired)


def _envelopes(request: _Request) -> dict[bytes, int]:
    """Count how often each name should stand in a body: whoever reads a repeated one drops all spans of the first."""
    expected = {
        b"resourceSpans": 1,
        b"resourceLogs": 1,
        b"scopeSpans": 0,
        b"spans": 0,
        b"scopeLogs": 0,
        b"logRecords": 0,
    }
    for resource in (*(request.resource_spans or ()), *(request.resource_logs or ())):
        expected[b"scopeSpans"] += 1
        expected[b"scopeLogs"] += 1
        scopes = len(resource.scope_spans or ()) + len(resource.scope_logs or ())
        expected[b"spans"] += scopes
        expected[b"logRecords"] += scopes
    return expected


def _count_other(raw: bytes, reduction: Reduction) -> None:
    try:
        identity = _IDENTITY.decode(raw)
    except FAULTS as error:
        reduction.reject("malformed_span", str(error), raw)
        return
    reduction.count_other(_id(identity.trace_id), _id(identity.span_id), raw)


def _read_span(raw: bytes, scope: str, inherited: dict[str, AttributeValue], reduction: Reduction) -> None:
    try:
        plain = _plain_span(_SPAN.decode(raw), scope, inherited, reduction.selection)
        # Beside its own, a span has the attributes of its events and links.
        own = raw.count(b'"timeUnixNano"') + raw.count(b'"traceId"')
        refuse_repeated(raw, {b"attributes": own})
    except (*FAULTS, RepeatedMember, _NoNumber) as error:
        reduction.reject("malformed_span", str(error), raw)
    except (ValueError, OverflowError):
        # The error's own text would quote the value, which may be anything.
        reduction.reject("malformed_span", "a number was expected where there is none", raw)
    else:
        reduction.sort_in(plain, raw)


def _plain_span(span: _Span, scope: str, inherited: dict[str, AttributeValue], selection: Selection) -> Span:
    start_us, end_us = reduced_times(time_of(span.start_time_unix_nano), time_of(span.end_time_unix_nano))
    code = _enum(span.status.code, _CODES) if span.status else 0
    message = (span.status.message if span.status else None) or ""
    attributes = joined(inherited, attributes_of(span.attributes or [], selection.keys))
    if (extract := selection.extracts.get(scope)) is not None:
        keep_extract(extract, _text_at(extract.key, span.attributes or []), attributes)
    return Span(
        _id(span.trace_id),
        _id(span.span_id),
        parent_of(_id(span.parent_span_id)),
        scope,
        _enum(span.kind, _KINDS),
        start_us,
        end_us,
        code == STATUS_ERROR,
        error_text(message, code, selection),
        attributes,
    )


def attributes_of(source: list[KeyValue], keys: frozenset[str]) -> dict[str, AttributeValue]:
    """Read the attributes named in `keys`."""
    kept: dict[str, AttributeValue] = {}
    for item in source:
        if item.key in keys and item.value is not None:
            plain = _plain(item.value)
            if plain is not None:
                kept[item.key] = plain
    return kept


def _text_at(key: str, source: list[KeyValue]) -> bytes:
    """Read the text of an attribute, the last of that name as everywhere; empty where there is none."""
    texts = (item.value.string_value for item in reversed(source) if item.key == key and item.value is not None)
    return (next(texts, None) or "").encode()


def _plain(value: _Value) -> AttributeValue | None:
    if value.string_value is not None:
        return clean_text(value.string_value) or None
    if value.int_value is not None:
        return bounded_number(_whole(value.int_value))
    if value.double_value is not None:
        return float(value.double_value)
    if value.bool_value is not None:
        return value.bool_value
    if value.array_value is not None:
        items = (value.array_value.values or [])[:MAX_LIST_ITEMS]
        return [clean_text(item.string_value) for item in items if item.string_value]
    return None


def time_of(value: Number) -> int:
    """Read nanoseconds; what lies outside of OTLP's fixed64 is no time."""
    try:
        number = int(value) if value is not None else 0
    except (ValueError, OverflowError):
        number = -1
    if not 0 <= number < 2**64:
        raise _NoNumber("a time has to be a whole number of nanoseconds since 1970, of 64 bits")
    return number


def _whole(value: int | float | str) -> int:
    """Read an intValue. JSON for protobuf allows `12.0` and `1e3`, as number and as text; what is no whole is none."""
    try:
        if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            return int(value)
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            return int(value)
        if isinstance(value, str) and _DECIMAL.fullmatch(value) and (number := float(value)).is_integer():
            return int(number)
    except (ValueError, OverflowError):  # thousands of digits
        pass
    raise _NoNumber("an intValue has to be a whole number")


def _enum(value: Number, names: dict[str, int]) -> int:
    if isinstance(value, str):
        return names.get(value, 0)
    return int(value) if value is not None and 0 <= value < 256 else 0


def _id(text: str | None) -> bytes:
    """Read a hex id; what is no hex (base64, an odd length) is no id and is rejected by its length."""
    try:
        return unhexlify(text) if text else b""
    except (HexError, ValueError):
        return b""
